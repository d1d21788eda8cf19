//! The fast path for small records answers as the general server does, and leaves everything else to it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_record::Position;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Gateway, Metrics, parse_position, soon};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
/// Anything that the fast path leaves to the general server, with the rest of the connection.
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// A request as the fast path takes it.
fn plain(stream: &str, token: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/streams/{stream}/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Records that are numbered from `first` on, in lines.
fn lines(first: usize, count: usize) -> String {
    (first..first + count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<Vec<_>>().concat()
}

/// Those of the stream's records.
async fn numbers(gateway: &Gateway, stream: &str) -> Vec<i32> {
    gateway
        .column(format!("select (payload->>'n')::integer n from streams.{stream} order by n"))
        .await
}

/// A connection, and what came over it and was not looked at yet.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    /// In the order in which they came.
    headers: Vec<(String, String)>,
    body: Value,
}

impl Wire {
    async fn to(gateway: &Gateway) -> Wire {
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, buffer: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self) -> Answer {
        soon("an answer", async {
            loop {
                if let Some((answer, len)) = Answer::read(&self.buffer) {
                    self.buffer.drain(..len);
                    return answer;
                }
                let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(read > 0, "hung up after {:?}", String::from_utf8_lossy(&self.buffer));
            }
        })
        .await
    }

    async fn answer_to(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// What came until the gateway hung up.
    async fn end(mut self) -> String {
        soon("the gateway hangs up", self.stream.read_to_end(&mut self.buffer)).await.unwrap();
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

impl Answer {
    /// An answer that has come whole, and its length in bytes.
    fn read(bytes: &[u8]) -> Option<(Answer, usize)> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(bytes).unwrap() else { return None };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let headers: Vec<(String, String)> = (response.headers.iter())
            .map(|header| (header.name.to_owned(), text(header.value)))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, length)| length.parse().unwrap());
        let body = bytes.get(head..head + length)?;
        let body = serde_json::from_slice(body).unwrap_or_else(|_| text(body).into());
        Some((Answer { status: response.code.unwrap(), headers, body }, head + length))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn accepted(&self) -> u64 {
        assert_eq!(self.status, 202, "{self:?}");
        self.body["accepted"].as_u64().unwrap()
    }

    /// Without what is different with every request.
    fn lasting(self) -> (u16, BTreeMap<String, String>, Value) {
        let Answer { status, headers, mut body } = self;
        let mut headers: BTreeMap<String, String> = headers.into_iter().collect();
        assert!(headers.remove("date").is_some_and(|date| date.ends_with(" GMT")), "{headers:?}");
        for own in ["id", "position"] {
            let own = body.get_mut(own).map(Value::take);
            assert!(own.is_none_or(|own| own.as_str().is_some_and(|own| !own.is_empty())));
        }
        (status, headers, body)
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_turn_however_they_are_cut() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "cut"})).await;
    let counts = [1, 2, 3, 5, 8];
    let mut sent = 0;
    for piece_bytes in [usize::MAX, 1_000, 97, 1] {
        let mut requests = String::new();
        for count in counts {
            requests += &plain("cut", gateway.token(), NDJSON, &lines(sent, count));
            sent += count;
        }
        let mut wire = Wire::to(&gateway).await;
        for piece in requests.as_bytes().chunks(piece_bytes) {
            wire.stream.write_all(piece).await.unwrap();
        }
        let mut last = Position::default();
        for count in counts {
            let answer = wire.answer().await;
            assert_eq!(answer.accepted(), count as u64, "in pieces of {piece_bytes}");
            let position = parse_position(&answer.body["position"]);
            assert!(position > last, "{position} after {last}");
            last = position;
        }
    }
    gateway.wait_all_committed().await;
    assert_eq!(
        numbers(&gateway, "cut").await,
        (0..i32::try_from(sent).unwrap()).collect::<Vec<_>>()
    );
}

/// The same bytes, as a connection's first request and after one that leaves the fast path.
#[tokio::test]
async fn both_ways_answer_alike() {
    let gateway = Gateway::with(&["--body-bytes-max=1000"]).await;
    gateway.create_stream(&json!({"name": "alike"})).await;
    gateway.create_stream(&json!({"name": "other"})).await;
    let typed = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": typed})).await;
    let made =
        json!({"name": "narrow", "scopes": ["ingest"], "streams": ["other"], "user": "admin"});
    let narrow = gateway.post("/v1/tokens", &made).await.expect(201);
    let narrow = narrow["token"].as_str().unwrap();
    let made = json!({"name": "reader", "scopes": ["read", "monitor"], "user": "admin"});
    let reader = gateway.post("/v1/tokens", &made).await.expect(201);
    let reader = reader["token"].as_str().unwrap();
    let made = json!({"name": "sender", "scopes": ["ingest"], "user": "admin"});
    let sender = gateway.post("/v1/tokens", &made).await.expect(201);
    let sender = sender["token"].as_str().unwrap();
    let token = gateway.token();
    let [exact, above, large] =
        [1_000, 1_001, 2_000].map(|bytes| json!({"text": "x".repeat(bytes - 11)}).to_string());
    assert_eq!(exact.len(), 1_000);
    let counted = async |status: u16| {
        let (requests, status) =
            ("tidegate_http_request_duration_seconds_count", status.to_string());
        Metrics::read(&gateway).await.sum(requests, "status", &status)
    };
    for (status, stream, token, content_type, body) in [
        (202, "alike", token, JSON, r#"{"n":1}"#),
        (202, "alike", token, JSON, r#"[{"n":1},{"n":2}]"#),
        (202, "alike", token, NDJSON, "{\"n\":1}\n\n{\"n\":2}"),
        (202, "typed", token, "text/csv", "n\n1\n2\n"),
        (202, "alike", token, "application/json; charset=utf-8", r#"{"n":1}"#),
        // Some of it is refused.
        (202, "typed", token, NDJSON, "{\"n\":1}\n{\"n\":\"two\"}\n{\n"),
        (400, "alike", token, JSON, "{"),
        (400, "alike", token, JSON, ""),
        (401, "alike", "nobody", JSON, "{}"),
        (403, "alike", narrow, JSON, "{}"),
        (403, "alike", reader, JSON, "{}"),
        (403, "unknown", reader, JSON, "{}"),
        (404, "unknown", sender, JSON, "{}"),
        (422, "1st", token, JSON, "{}"),
        (202, "alike", token, JSON, exact.as_str()),
        (413, "alike", token, JSON, above.as_str()),
        (413, "alike", token, JSON, large.as_str()),
        (415, "alike", token, "application/pdf", "{}"),
    ] {
        let request = plain(stream, token, content_type, body);
        let before = counted(status).await;
        let fast = Wire::to(&gateway).await.answer_to(&request).await;
        assert_eq!((counted(status).await - before).to_string(), "1", "{request}");
        let mut wire = Wire::to(&gateway).await;
        assert_eq!(wire.answer_to(HEALTH).await.status, 200);
        let general = wire.answer_to(&request).await;
        assert_eq!(fast.status, status, "{request}\n{fast:?}");
        assert_eq!(fast.lasting(), general.lasting(), "{request}");
    }
}

/// A connection that is open was let in by a token; each of its requests is let in by itself.
#[tokio::test]
async fn a_token_s_rate_and_its_end_count_on_the_fast_path_too() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "metered"})).await;
    let made =
        json!({"name": "slow", "scopes": ["ingest"], "user": "admin", "records_per_second": 1});
    let made = gateway.post("/v1/tokens", &made).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let mut wire = Wire::to(&gateway).await;
    // Taken whole, and owed: what the fast path takes it also has paid for.
    let body = lines(0, 1_000);
    assert_eq!(wire.answer_to(&plain("metered", token, NDJSON, &body)).await.accepted(), 1_000);
    let refused = wire.answer_to(&plain("metered", token, NDJSON, &lines(1_000, 1))).await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &json!("quota_exceeded")));
    let advice: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((900..=1_000).contains(&advice), "{advice} s for a debt of 1,000 records");

    let id = &made["id"];
    assert_eq!(gateway.delete(&format!("/v1/tokens/{id}")).await.status, 204);
    let refused = wire.answer_to(&plain("metered", token, NDJSON, &lines(1_000, 1))).await;
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("invalid_token")));
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("metered").await, 1_000);
}

#[tokio::test]
async fn a_connection_goes_on_whatever_its_requests_ask_for() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "mixed"})).await;
    let mut wire = Wire::to(&gateway).await;
    let request = |n: usize| plain("mixed", gateway.token(), NDJSON, &lines(n, 1));
    // The second is the first that the general server sees, and it lies in the middle of what was read.
    let committed = request(1).replacen("/records", "/records?ack=commit", 1);
    wire.send(&[request(0), committed, request(2), HEALTH.to_owned(), request(3)].concat()).await;
    assert_eq!(wire.answer().await.accepted(), 1);
    let answer = wire.answer().await;
    assert_eq!((answer.status, &answer.body["committed"]), (201, &json!(1)));
    assert_eq!(wire.answer().await.accepted(), 1);
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(wire.answer().await.accepted(), 1);

    let mut wire = Wire::to(&gateway).await;
    assert_eq!(wire.answer_to(&request(4)).await.accepted(), 1);
    let chunked = request(5)
        .replacen("Content-Length: 8", "Transfer-Encoding: chunked", 1)
        .replacen(&lines(5, 1), &format!("8\r\n{}\r\n0\r\n\r\n", lines(5, 1)), 1);
    assert_eq!(wire.answer_to(&chunked).await.accepted(), 1);
    let upgrade = format!(
        "GET /v1/monitor HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.token()
    );
    let answer = wire.answer_to(&upgrade).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));

    gateway.wait_all_committed().await;
    assert_eq!(numbers(&gateway, "mixed").await, (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_shutdown_waits_for_no_connection_that_has_nothing_under_way() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "idle"})).await;
    let request = plain("idle", gateway.token(), JSON, "{}");
    let silent = Wire::to(&gateway).await;
    let mut used = Wire::to(&gateway).await;
    assert_eq!(used.answer_to(&request).await.accepted(), 1);
    let mut begun = Wire::to(&gateway).await;
    assert_eq!(begun.answer_to(&request).await.accepted(), 1);
    begun.send(&request[..40]).await;
    assert_eq!(gateway.terminate().await, 0);
    for wire in [silent, used] {
        assert_eq!(wire.end().await, "");
    }
    let last = begun.end().await;
    assert!(!last.contains("202"), "nothing was taken: {last}");
    assert_eq!(gateway.rows("idle").await, 2);
}

/// What breaks off is no record, even where all that came of it would be one.
#[tokio::test]
async fn half_a_request_is_no_request() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "half"})).await;
    let request = plain("half", gateway.token(), NDJSON, &lines(0, 2));
    for missing in [1, 8, 16, 40, request.len() - 1] {
        let mut wire = Wire::to(&gateway).await;
        wire.send(&request[..request.len() - missing]).await;
        wire.stream.shutdown().await.unwrap();
        let answer = wire.end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{missing}: {answer}");
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("half").await, 0);
}
