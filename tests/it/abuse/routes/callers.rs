//! The kinds of callers: one caller of each, with what they present.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::people::{Outsider, PASSWORD, Token, add_user};
use crate::support::watcher::Watcher;
use crate::support::{Gateway, eventually};

/// Every scope that a member's token can have.
const OF_A_MEMBER: [&str; 6] = ["ingest", "write", "read", "monitor", "streams:write", "jobs"];
/// A page that is not the gateway's own.
const ELSEWHERE: &str = "https://elsewhere.example";

/// What a caller presents.
#[derive(Debug, Clone)]
pub enum Credential {
    Nothing,
    Bearer(String),
    Password(&'static str),
    /// A browser's cookie, and the origin of the page that sends it.
    Cookie(String, String),
    Ticket(String),
}

/// One of each kind. Members' credentials are all of ada, admins' of grace; eve is another member.
#[derive(Debug)]
pub struct Callers {
    outsider: Outsider,
    pub ada: i64,
    pub eve: i64,
    known: Vec<(&'static str, Credential)>,
    /// Who fetches tickets.
    watches: String,
}

impl Callers {
    pub async fn prepare(gateway: &Gateway) -> Callers {
        let outsider = Outsider::of(gateway);
        let ada = add_user(gateway, "ada", "member").await;
        let eve = add_user(gateway, "eve", "member").await;
        add_user(gateway, "grace", "admin").await;
        let token =
            async |scopes: &[&str], rest| Token::of(gateway, "ada", scopes, rest).await.text;
        let own = format!("http://{}", gateway.address());
        let (member, boss) = (outsider.cookie_of("ada").await, outsider.cookie_of("grace").await);
        let watches = token(&["monitor"], json!({})).await;
        let mut known = vec![
            ("absent", Credential::Nothing),
            ("wrong", Credential::Bearer(format!("tg_{}", "A".repeat(43)))),
            ("expired", Credential::Bearer(expired(gateway, &outsider).await)),
            ("revoked", Credential::Bearer(revoked(gateway).await)),
            ("disabled", Credential::Bearer(disabled(gateway).await)),
            ("other", Credential::Bearer(token(&OF_A_MEMBER, json!({"streams": ["other"]})).await)),
            ("password", Credential::Password("ada")),
            ("member", Credential::Cookie(member.clone(), own.clone())),
            ("boss", Credential::Cookie(boss, own)),
            ("foreign", Credential::Cookie(member, ELSEWHERE.to_owned())),
            ("spent", Credential::Ticket(spent(gateway, &watches).await)),
        ];
        for scope in OF_A_MEMBER {
            let name = if scope == "streams:write" { "s:write" } else { scope };
            known.push((name, Credential::Bearer(token(&[scope], json!({})).await)));
        }
        let admin = Token::of(gateway, "grace", &["admin"], json!({})).await;
        known.push(("admin", Credential::Bearer(admin.text)));
        Callers { outsider, ada, eve, known, watches }
    }

    /// What a caller of this kind presents.
    pub async fn credential(&self, gateway: &Gateway, kind: &str) -> Credential {
        if kind == "ticket" {
            return Credential::Ticket(ticket(gateway, &self.watches).await);
        }
        let found = self.known.iter().find(|(name, _)| *name == kind);
        found.unwrap_or_else(|| panic!("no caller is of the kind {kind}")).1.clone()
    }

    /// A request of a caller who presents this.
    pub fn request(&self, who: &Credential, method: &Method, path: &str) -> RequestBuilder {
        let plain = |path: &str| self.outsider.request(method.clone(), path);
        match who {
            Credential::Nothing => plain(path),
            Credential::Bearer(token) => plain(path).bearer_auth(token),
            Credential::Password(name) => plain(path).basic_auth(name, Some(PASSWORD)),
            Credential::Cookie(cookie, origin) => {
                plain(path).header("cookie", cookie).header("origin", origin)
            }
            Credential::Ticket(ticket) => {
                let mark = if path.contains('?') { '&' } else { '?' };
                plain(&format!("{path}{mark}ticket={ticket}"))
            }
        }
    }
}

async fn expired(gateway: &Gateway, outsider: &Outsider) -> String {
    let token = Token::of(gateway, "ada", &OF_A_MEMBER, json!({"expires_in_seconds": 1})).await;
    eventually("the token expires", async || {
        (outsider.who_by_token(&token.text).await.status == 401).then_some(())
    })
    .await;
    token.text
}

async fn revoked(gateway: &Gateway) -> String {
    let token = Token::of(gateway, "ada", &OF_A_MEMBER, json!({})).await;
    gateway.delete(&format!("/v1/tokens/{}", token.id)).await.expect(204);
    token.text
}

async fn disabled(gateway: &Gateway) -> String {
    let id = add_user(gateway, "mallory", "admin").await;
    let token = Token::of(gateway, "mallory", &["admin"], json!({})).await;
    gateway.patch(&format!("/v1/users/{id}"), &json!({"disabled": true})).await.expect(200);
    token.text
}

async fn ticket(gateway: &Gateway, token: &str) -> String {
    let reply = gateway.with_token(token).post("/v1/monitor/tickets", &json!({})).await.expect(201);
    reply["ticket"].as_str().expect("a ticket").to_owned()
}

async fn spent(gateway: &Gateway, token: &str) -> String {
    let ticket = ticket(gateway, token).await;
    let come = Watcher::come(gateway, &format!("streams=open&ticket={ticket}"), &[]).await;
    come.expect("a ticket opens a monitor");
    ticket
}
