//! Callers who are shut out while their request is on its way.
//!
//! Before: a caller was asked for once, at the head of the request. A thief with an old password held back the last byte of a
//! new one, and of a new token, until the owner had changed the password and revoked all tokens: both counted. A disabled
//! admin made another one, and a revoked token sent records for as long as its body lasted.

use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::abuse::slow_peers::answer;
use crate::support::people::{Outsider, PASSWORD, Token, add_user};
use crate::support::{Gateway, Reply, soon};

const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request whose caller was let in: the gateway asks for its body.
struct LetIn(TcpStream);

impl LetIn {
    async fn send(gateway: &Gateway, first_line: &str, headers: &[String]) -> LetIn {
        let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
        let headers = headers.join("\r\n");
        let head = format!(
            "{first_line} HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\n\
             Content-Type: application/json\r\n{headers}\r\n\r\n"
        );
        peer.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; GO_ON.len()];
        soon("it is let in", peer.read_exact(&mut told)).await.unwrap();
        assert_eq!(told, GO_ON);
        LetIn(peer)
    }

    /// All of a JSON body but its last byte.
    async fn json(gateway: &Gateway, first_line: &str, who: &str, body: &Value) -> LetIn {
        let body = body.to_string();
        let length = format!("{CONTENT_LENGTH}: {}", body.len());
        let mut request = LetIn::send(gateway, first_line, &[who.to_owned(), length]).await;
        request.more(&body[..body.len() - 1]).await;
        request
    }

    async fn more(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The rest of it, and what it is answered.
    async fn end(mut self, text: &str) -> (u16, Value) {
        self.more(text).await;
        let (status, body) = answer(&mut self.0).await;
        (status, body["code"].clone())
    }
}

fn basic(name: &str) -> String {
    format!("{AUTHORIZATION}: Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")))
}

#[tokio::test]
async fn what_was_on_its_way_when_its_caller_was_shut_out_changes_nothing() {
    let gateway = Gateway::start().await;
    let ada = add_user(&gateway, "ada", "member").await;
    let eve = add_user(&gateway, "eve", "admin").await;
    let root = Token::of(&gateway, "eve", &["admin"], json!({})).await;
    let by_root = format!("{AUTHORIZATION}: Bearer {}", root.text);
    let change = format!("PATCH /v1/users/{ada}");
    let stolen = json!({"password": "the thief's own"});
    let password = LetIn::json(&gateway, &change, &basic("ada"), &stolen).await;
    let new_token = json!({"name": "outlives", "scopes": ["read"]});
    let token = LetIn::json(&gateway, "POST /v1/tokens", &basic("ada"), &new_token).await;
    let new_admin = json!({"name": "mallory", "password": PASSWORD, "role": "admin"});
    let admin = LetIn::json(&gateway, "POST /v1/users", &basic("eve"), &new_admin).await;
    let by_token = LetIn::json(&gateway, "POST /v1/users", &by_root, &new_admin).await;
    let stream = json!({"name": "made_by_eve"});
    let stream = LetIn::json(&gateway, "POST /v1/streams", &by_root, &stream).await;

    let owners = json!({"password": "the owner's own", "revoke_tokens": true});
    gateway.patch(&format!("/v1/users/{ada}"), &owners).await.expect(200);
    gateway.patch(&format!("/v1/users/{eve}"), &json!({"disabled": true})).await.expect(200);
    assert_eq!(password.end("}").await, (401, json!("invalid_password")));
    assert_eq!(token.end("}").await, (401, json!("invalid_password")));
    assert_eq!(admin.end("}").await, (401, json!("invalid_password")));
    assert_eq!(by_token.end("}").await, (401, json!("invalid_token")));
    assert_eq!(stream.end("}").await, (401, json!("invalid_token")));

    let outsider = Outsider::of(&gateway);
    outsider.who_by_password("ada", "the owner's own").await.expect(200);
    outsider.who_by_password("ada", "the thief's own").await.problem(401, "invalid_password");
    outsider.who_by_password("mallory", PASSWORD).await.problem(401, "invalid_password");
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.tokens").await, 1, "eve's");
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.streams").await, 0);
}

#[tokio::test]
async fn an_admin_who_is_one_no_more_makes_no_other() {
    let gateway = Gateway::start().await;
    let eve = add_user(&gateway, "eve", "admin").await;
    let new_admin = json!({"name": "mallory", "password": PASSWORD, "role": "admin"});
    let admin = LetIn::json(&gateway, "POST /v1/users", &basic("eve"), &new_admin).await;
    gateway.patch(&format!("/v1/users/{eve}"), &json!({"role": "member"})).await.expect(200);
    assert_eq!(admin.end("}").await, (403, json!("missing_scope")));
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.users").await, 2);
}

/// Word of what another gateway did takes a moment. Here none ever comes.
#[tokio::test]
async fn a_caller_whom_another_gateway_shut_out_makes_neither_users_nor_tokens() {
    let gateway = Gateway::start().await;
    let ada = add_user(&gateway, "ada", "admin").await;
    let outsider = Outsider::of(&gateway);
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
    let ask = async |method: &str, path: &str, body: Value| {
        let request = outsider.request(method.parse().unwrap(), path);
        Reply::to(request.basic_auth("ada", Some(PASSWORD)).json(&body)).await
    };
    for shut_out in ["disabled = true", "role = 'member'", "password_hash = password_hash || '='"] {
        gateway.execute(&format!("update tidegate.users set {shut_out} where name = 'ada'")).await;
        let token = json!({"name": "t", "scopes": ["read"]});
        ask("POST", "/v1/tokens", token).await.problem(401, "invalid_password");
        let user = json!({"name": "mallory", "password": PASSWORD});
        ask("POST", "/v1/users", user).await.problem(401, "invalid_password");
        let own = json!({"password": "another password"});
        let path = format!("/v1/users/{ada}");
        ask("PATCH", &path, own).await.problem(401, "invalid_password");
        let as_before = "update tidegate.users set disabled = false, role = 'admin',
                         password_hash = rtrim(password_hash, '=') where name = 'ada'";
        gateway.execute(as_before).await;
    }
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.tokens").await, 0);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.users").await, 2);
    ask("POST", "/v1/tokens", json!({"name": "t", "scopes": ["read"]})).await.expect(201);
}

#[tokio::test]
async fn a_revoked_token_sends_nothing_more_of_a_body_that_is_on_its_way() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "open"})).await;
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["ingest"], json!({})).await;
    let headers = [
        format!("{AUTHORIZATION}: Bearer {}", token.text),
        format!("{TRANSFER_ENCODING}: chunked"),
    ];
    let first = "9\r\n[{\"n\":1},\r\n";
    let path = "POST /v1/streams/open/records";
    let mut goes_on = LetIn::send(&gateway, path, &headers).await;
    goes_on.more(first).await;
    let mut ends = LetIn::send(&gateway, path, &headers).await;
    ends.more("9\r\n[{\"n\":2}]\r\n").await;
    gateway.delete(&format!("/v1/tokens/{}", token.id)).await.expect(204);
    let end = "8\r\n{\"n\":2}]\r\n0\r\n\r\n";
    assert_eq!(goes_on.end(end).await, (401, json!("invalid_token")));
    assert_eq!(ends.end("0\r\n\r\n").await, (401, json!("invalid_token")));
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("open").await, 0);
}
