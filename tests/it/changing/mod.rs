//! Changing and deleting records: a change is as durable, as exactly once and as much in order as a record.

mod bulk;
mod keeping;
mod model;
mod one_record;
mod order;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply};

pub(crate) const CHANGES: &str = "application/vnd.tidegate.changes+x-ndjson";

/// A stream of flights with a composite key, whose newest of equal keys stays.
fn flights() -> Value {
    json!({
        "name": "flights",
        "columns": [
            {"name": "carrier", "type": "text"}, {"name": "flight", "type": "integer"},
            {"name": "delay", "type": "double precision"}, {"name": "at", "type": "timestamptz"},
        ],
        "key": ["carrier", "flight"],
        "on_duplicate": "replace",
    })
}

/// A stream of documents with a key inside of them.
fn documents(payload: &str) -> Value {
    json!({"name": "docs", "payload": payload, "key": ["/k/id"], "on_duplicate": "replace"})
}

async fn put(client: &Client, path: &str, body: &Value) -> Reply {
    Reply::to(client.request(Method::PUT, path).json(body)).await
}

/// The same with a header.
async fn with_header(
    client: &Client,
    method: Method,
    path: &str,
    header: (&str, &str),
    body: &Value,
) -> Reply {
    let request = client.request(method.clone(), path).header(header.0, header.1);
    let request = if method == Method::DELETE { request } else { request.json(body) };
    Reply::to(request).await
}

fn tag(reply: &Reply) -> String {
    reply.headers["etag"].to_str().unwrap().to_owned()
}
