//! What is asked on a row: an address that leads to something, and a body that is good, so that a refusal is for who asks.

use reqwest::Method;
use serde_json::{Value, json};

use super::callers::Callers;
use super::table::Row;
use crate::support::people::{PASSWORD, Token};
use crate::support::{Gateway, Reply, eventually};

/// Records that wait in the quarantine, for callers who drop and replay them.
const KEPT: usize = 100;

/// A good request but for who sends it.
#[derive(Debug)]
pub struct Wanted {
    /// With its query.
    pub path: String,
    pub body: Option<Value>,
    pub headers: &'static [(&'static str, &'static str)],
}

/// What a browser sends to open a WebSocket.
pub const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const LINES: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

/// What there is to be asked for.
#[derive(Debug)]
pub struct Things {
    kept: Vec<String>,
    /// The id of a record of the stream `open`.
    record: String,
    /// Makes names and ids differ.
    made: usize,
}

impl Things {
    pub async fn prepare(gateway: &Gateway) -> Things {
        for name in ["open", "other", "spare"] {
            gateway.create_stream(&json!({"name": name})).await;
        }
        let columns = json!([{"name": "n", "type": "integer"}]);
        gateway.create_stream(&json!({"name": "strict", "columns": columns})).await;
        let bad = "{\"n\":\"no number\"}\n".repeat(KEPT);
        gateway.records("strict").ndjson(bad).send().await.expect(202);
        let kept = eventually("what is refused is kept", async || {
            let ids: Vec<String> = gateway.column("select id::text from tidegate.quarantine").await;
            (ids.len() == KEPT).then_some(ids)
        })
        .await;
        gateway.commit("open", &json!({"n": 1})).await;
        let record = gateway.scalar("select id::text from streams.open limit 1").await;
        Things { kept, record, made: 0 }
    }

    /// A request for a row. What it may take away is there.
    pub async fn wanted(&mut self, gateway: &Gateway, callers: &Callers, row: &Row) -> Wanted {
        self.made += 1;
        let id = self.id(gateway, callers, row).await;
        let stream = if row.method == Method::DELETE && row.path == "/v1/streams/{stream}" {
            let name = format!("gone_{}", self.made);
            gateway.create_stream(&json!({"name": name})).await;
            name
        } else {
            "open".to_owned()
        };
        let path = row.path.replace("{stream}", &stream).replace("{id}", &id);
        let path = path.replace("{file}", "none.js").replace("{key}", "1");
        let is_socket = row.method == Method::GET && row.path == "/v1/monitor";
        Wanted {
            path: path + query(row),
            body: self.body(row),
            headers: match row.path {
                _ if is_socket => &UPGRADE,
                "/v1/records" => &LINES,
                _ => &[],
            },
        }
    }

    /// The id of something that a row's request is about.
    async fn id(&mut self, gateway: &Gateway, callers: &Callers, row: &Row) -> String {
        let is_own = row.of == Some("own");
        match row.path {
            path if !path.contains("{id}") => String::new(),
            "/v1/users/{id}" if is_own => callers.ada.to_string(),
            "/v1/users/{id}" => callers.eve.to_string(),
            "/v1/tokens/{id}" => {
                let user = if is_own { "ada" } else { "eve" };
                Token::of(gateway, user, &["read"], json!({})).await.id.to_string()
            }
            "/v1/streams/{stream}/records/{id}" => self.record.clone(),
            path if path.starts_with("/v1/quarantine/") => {
                let takes_away = row.method != Method::GET;
                let kept = if takes_away { self.kept.pop() } else { self.kept.last().cloned() };
                kept.expect("enough is kept")
            }
            _ => self.job(gateway, if is_own { "ada" } else { "eve" }).await,
        }
    }

    async fn job(&mut self, gateway: &Gateway, owner: &str) -> String {
        let mut job = self.new_job();
        job["owner"] = json!(owner);
        let job = gateway.post("/v1/polling-jobs", &job).await.expect(201);
        job["id"].as_str().expect("an id").to_owned()
    }

    fn new_job(&self) -> Value {
        let url = format!("https://api.example.com/{}", self.made);
        json!({"url": url, "stream": "open", "interval_ms": 70_000, "paused": true})
    }

    fn body(&self, row: &Row) -> Option<Value> {
        let made = self.made;
        let body = match (row.method.as_str(), row.path) {
            ("POST", "/v1/sessions") => json!({"user": "ada", "password": PASSWORD}),
            ("POST", "/v1/users") => json!({"name": format!("user_{made}"), "password": PASSWORD}),
            ("PATCH", "/v1/users/{id}") => json!({"email": "somebody@example.com"}),
            ("POST", "/v1/tokens") => json!({"name": "made", "scopes": ["read"]}),
            ("POST", "/v1/streams") => json!({"name": format!("made_{made}")}),
            ("POST", "/v1/polling-jobs") => self.new_job(),
            // No API is asked: an address of this machine is refused.
            ("POST", "/v1/polling-jobs/preview") => json!({"url": "http://127.0.0.1:9/"}),
            // The stream has no key, which is told to those who may change records.
            ("PUT", _) => json!({"n": 2}),
            ("PATCH", "/v1/polling-jobs/{id}") => json!({"name": format!("job {made}")}),
            ("POST", "/polling-jobs") => json!({
                "userId": format!("user {made}"),
                "apiEndpoint": "https://api.example.com/open",
                "pollingInterval": 70_000,
            }),
            ("PATCH", "/polling-jobs/{id}") => json!({"pollingInterval": 80_000}),
            ("PATCH", _) => json!({}),
            ("POST", "/v1/records") => json!({"stream": "open", "record": {"n": 1}}),
            ("POST", path) if !path.ends_with("/run") => json!({"n": 1}),
            _ => return None,
        };
        Some(body)
    }
}

fn query(row: &Row) -> &'static str {
    match (row.method.as_str(), row.path) {
        (_, "/v1/monitor" | "/v1/monitor/events") => "?streams=open",
        ("DELETE", "/v1/quarantine") => "?stream=spare",
        (_, "/v1/streams/{stream}/facets") => "?columns=n",
        _ => "",
    }
}

/// Only the head of an answer: that of an event stream has no end.
pub async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.expect("the gateway answers").status().as_u16()
}

/// The whole answer, which must have an end.
pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
    Reply::to(request).await
}
