//! An HTTP client of one gateway, and replies that say what was expected of them.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;
use url::form_urlencoded;

/// Longest time for a request; those that move a gigabyte through an unoptimised build take a while.
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// Sends with a gateway's local token, unless told otherwise. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    pub(super) fn new(address: &str, data_dir: &Path) -> Client {
        let token = std::fs::read_to_string(data_dir.join("local-token")).expect("the local token");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(REQUEST_MAX)
            .no_proxy()
            // A second try would hide what the first did.
            .retry(reqwest::retry::never())
            .build()
            .expect("a client");
        Client { http, base: format!("http://{address}"), token: token.trim_end().to_owned() }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: token.to_owned(), ..self.clone() }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).header(AUTHORIZATION, format!("Bearer {}", self.token))
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::to(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        Reply::to(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::DELETE, path)).await
    }

    /// Sends JSON to a gateway that may die meanwhile.
    pub async fn try_to(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Reply, reqwest::Error> {
        Reply::try_to(self.request(method, path).json(body)).await
    }

    /// Makes a stream and returns it as the gateway shows it.
    pub async fn create_stream(&self, definition: &Value) -> Value {
        self.post("/v1/streams", definition).await.expect(201)
    }

    /// The start of a request that sends records.
    pub fn records(&self, stream: &str) -> Records {
        self.records_to(format!("/v1/streams/{stream}/records"))
    }

    /// The start of a request that sends records of many streams.
    pub fn many_records(&self) -> Records {
        self.records_to("/v1/records".to_owned())
    }

    fn records_to(&self, path: String) -> Records {
        Records {
            client: self.clone(),
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Body::default(),
        }
    }

    /// Sends JSON with `ack=commit` and expects that all of it is taken: the reply.
    pub async fn commit(&self, stream: &str, records: &Value) -> Value {
        self.records(stream).json(records).query("ack", "commit").send().await.expect(201)
    }
}

/// A request that sends records.
#[derive(Debug)]
pub struct Records {
    client: Client,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

impl Records {
    pub fn json(self, records: &Value) -> Records {
        self.body("application/json", records.to_string())
    }

    pub fn ndjson(self, lines: impl Into<Body>) -> Records {
        self.body("application/x-ndjson", lines)
    }

    pub fn csv(self, rows: impl Into<Body>) -> Records {
        self.body("text/csv", rows)
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Body>) -> Records {
        self.headers.insert(CONTENT_TYPE, header_value(content_type));
        Records { body: body.into(), ..self }
    }

    /// Says how the body is compressed.
    pub fn encoding(mut self, name: &str) -> Records {
        self.headers.insert(CONTENT_ENCODING, header_value(name));
        self
    }

    /// Sends the header `Idempotency-Key`.
    pub fn key(mut self, key: &str) -> Records {
        self.headers.append("idempotency-key", header_value(key));
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Records {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn send(self) -> Reply {
        Reply::to(self.request()).await
    }

    /// Sends to a gateway that may die meanwhile.
    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        Reply::try_to(self.request()).await
    }

    fn request(self) -> RequestBuilder {
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        let request = self.client.request(Method::POST, &format!("{}?{query}", self.path));
        request.headers(self.headers).body(self.body)
    }
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("text without control characters")
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    pub async fn to(request: RequestBuilder) -> Reply {
        Reply::try_to(request).await.expect("the gateway answers")
    }

    async fn try_to(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Ok(Reply { status, headers, body })
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The body of a refusal, which must be a problem as RFC 9457 has it, with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        let Reply { status: found, headers, body } = self;
        assert_eq!(found, status, "{body}");
        let content_type = headers.get(CONTENT_TYPE).expect("a problem says what it is");
        assert_eq!(content_type, "application/problem+json");
        assert_eq!(body["type"], "about:blank", "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["code"], code, "{body}");
        for words in ["title", "detail"] {
            assert!(body[words].as_str().is_some_and(|text| !text.is_empty()), "{words} of {body}");
        }
        body
    }

    /// Was the request taken before, and this is what it was answered then?
    pub fn is_replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// The header `Retry-After`, in seconds.
    #[track_caller]
    pub fn retry_after_seconds(&self) -> u64 {
        let value = self.headers.get("retry-after").expect("it says when to come again");
        value.to_str().expect("text").parse().expect("whole seconds")
    }
}
