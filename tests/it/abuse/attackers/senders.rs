//! Attackers whose requests are whole, and dear to answer.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{DOCUMENTS, LARGE, STRICT, Target};
use crate::support::{Compression, compressed};

/// Invalid records of a bomb.
const INVALID: usize = 50_000;
/// Members of a costly document.
const MEMBERS: usize = 400_000;

/// What is sent over and over, as gzip.
#[derive(Debug)]
pub struct Bodies {
    invalid: Vec<u8>,
    costly: Vec<u8>,
}

impl Bodies {
    pub async fn make() -> Bodies {
        let invalid = "1\n".repeat(INVALID);
        let costly = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(MEMBERS));
        Bodies {
            invalid: compressed(Compression::Gzip, invalid.as_bytes()).await,
            costly: compressed(Compression::Gzip, costly.as_bytes()).await,
        }
    }
}

pub async fn invalid_records(target: &Target) {
    let body = target.bodies.invalid.clone();
    answered(gzip(target, STRICT, "application/x-ndjson").body(body)).await;
}

pub async fn costly_document(target: &Target) {
    let body = target.bodies.costly.clone();
    answered(gzip(target, DOCUMENTS, "application/json").body(body)).await;
}

pub async fn new_stream(target: &Target, number: u64) {
    let path = format!("/v1/streams/attack_{number}/records");
    let request = target.request(Method::POST, &path).bearer_auth(&target.token);
    answered(request.json(&json!({"n": number}))).await;
}

pub async fn wrong_password(target: &Target, number: u64) {
    let guess = json!({"user": &*target.victim, "password": format!("guess number {number}")});
    answered(target.request(Method::POST, "/v1/sessions").json(&guess)).await;
}

pub async fn large_documents(target: &Target) {
    let path = format!("/v1/streams/{LARGE}/records?limit=500");
    answered(target.request(Method::GET, &path).bearer_auth(&target.token)).await;
}

fn gzip(target: &Target, stream: &str, content_type: &str) -> RequestBuilder {
    let path = format!("/v1/streams/{stream}/records");
    let request = target.request(Method::POST, &path).bearer_auth(&target.token);
    request.header("content-type", content_type).header("content-encoding", "gzip")
}

/// Waits for the whole answer; whatever it is, attackers go on.
async fn answered(request: RequestBuilder) {
    if let Ok(mut answer) = request.send().await {
        while let Ok(Some(_)) = answer.chunk().await {}
    }
}
