//! What is refused before any handler sees it is told as every other refusal.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Gateway, soon};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// Sends bytes and gives the last answer on the connection: status, head and body.
async fn last_answer(gateway: &Gateway, bytes: &[u8]) -> (u16, String, Value) {
    let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon("the gateway hangs up", connection.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let answers = answer.match_indices("HTTP/1.1 ").map(|(start, _)| start);
    let is_status = |start: &usize| answer.as_bytes()[start + 9].is_ascii_digit();
    let start = answers.filter(is_status).last().unwrap_or_else(|| panic!("no answer: {answer}"));
    let (head, body) = answer[start..].split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    let length = format!("content-length: {}", body.len());
    assert!(head.lines().any(|line| line == length), "{head}");
    (status, head.to_owned(), serde_json::from_str(body).unwrap())
}

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/streams/s/records HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn refusals_of_the_http_layer_are_problem_documents() {
    let gateway = Gateway::start().await;
    let long_header =
        format!("GET / HTTP/1.1\r\nHost: gateway\r\nX: {}\r\n\r\n", "x".repeat(2 << 20));
    let long_address = format!("GET /{} HTTP/1.1\r\nHost: gateway\r\n\r\n", "x".repeat(70_000));
    let no_host = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    let many_headers = format!("GET / HTTP/1.1\r\nHost: gateway\r\n{}\r\n", "X: y\r\n".repeat(200));
    let length = "POST /v1/streams/s/records HTTP/1.1\r\nHost: gateway\r\nContent-Length:";
    let (no_number, two_numbers) =
        (format!("{length} ten\r\n\r\n"), format!("{length} 5\r\nContent-Length: 6\r\n\r\n"));
    for (bytes, status, code, word) in [
        ("garbage\r\n\r\n", 400, "malformed_request", "method"),
        ("GET /a b HTTP/1.1\r\n\r\n", 400, "malformed_request", "version"),
        ("GET / HTTP/9.9\r\n\r\n", 400, "malformed_request", "version"),
        ("GET / HTTP/1.1\r\nA B: c\r\n\r\n", 400, "malformed_request", "header line"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\n\n", 400, "malformed_request", "TLS"),
        (&no_number, 400, "malformed_request", "Content-Length"),
        (&two_numbers, 400, "malformed_request", "Content-Length"),
        (
            "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
            "malformed_request",
            "Transfer-Encoding",
        ),
        (&long_header, 431, "header_too_large", "64 KiB"),
        (&many_headers, 431, "header_too_large", "100 header lines"),
        (&long_address, 431, "header_too_large", "its address included"),
        (no_host, 400, "missing_host", "Host"),
    ] {
        let shown = &bytes[..bytes.len().min(60)];
        let (told, head, problem) = last_answer(&gateway, bytes.as_bytes()).await;
        assert_eq!((told, &problem["code"]), (status, &json!(code)), "{shown}: {problem}");
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{shown}: {detail}");
        for line in ["content-type: application/problem+json", "cache-control: no-store"] {
            assert!(head.lines().any(|known| known == line), "{shown}: {head}");
        }
        // Behind a good request the beginning of the bad one is not remembered, but it is explained all the same.
        let (again, _, problem) =
            last_answer(&gateway, format!("{HEALTH}{bytes}").as_bytes()).await;
        assert_eq!((again, &problem["code"]), (status, &json!(code)), "{shown}: {problem}");
    }
}

#[tokio::test]
async fn a_header_that_comes_twice_is_refused_or_means_a_list() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "s"})).await;
    let token = format!("Authorization: Bearer {}\r\n", gateway.token());
    let json = "Content-Type: application/json\r\n";
    let close = "Connection: close\r\n";
    for (headers, status, code) in [
        (format!("{token}{token}{json}"), 400, "repeated_header"),
        (format!("{token}{json}Content-Type: text/csv\r\n"), 400, "repeated_header"),
        (format!("{token}{json}Host: other\r\n"), 400, "repeated_header"),
        (
            format!("{token}{json}Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"),
            415,
            "unsupported_media_type",
        ),
        (
            format!("{token}{json}Idempotency-Key: a\r\nIdempotency-Key: b\r\n"),
            400,
            "invalid_idempotency_key",
        ),
        (format!("{token}{json}Expect: magic\r\n"), 417, "expectation_failed"),
    ] {
        let request = post(&format!("{headers}{close}"), "{\"n\":1}");
        let (told, _, problem) = last_answer(&gateway, request.as_bytes()).await;
        assert_eq!((told, &problem["code"]), (status, &json!(code)), "{headers}: {problem}");
    }
    // The connection stays in step behind such a refusal, and what is a list may be one.
    let refused = post(&format!("{token}{json}{json}"), "{\"n\":1}");
    let accept = "Accept: text/html\r\nAccept: application/json\r\nX-Mine: a\r\nX-Mine: b\r\n";
    let good = post(&format!("{token}{json}{accept}{close}"), "{\"n\":2}");
    let (status, _, reply) = last_answer(&gateway, format!("{refused}{good}").as_bytes()).await;
    assert_eq!((status, &reply["accepted"]), (202, &json!(1)), "{reply}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.column::<i32>("select (payload->>'n')::int from streams.s").await, [2]);
}

/// Before, the connection was closed after these without a word of it, and a client that kept it lost its next request.
#[tokio::test]
async fn a_reply_says_that_its_connection_ends_with_it() {
    let gateway = Gateway::start().await;
    let token = format!("Authorization: Bearer {}\r\n", gateway.token());
    let request = |method_and_path: &str, headers: &str, bytes: usize| {
        let body = "x".repeat(bytes);
        format!(
            "{method_and_path} HTTP/1.1\r\nHost: gateway\r\n{token}{headers}Content-Length: {bytes}\r\n\r\n{body}"
        )
    };
    let json = "Content-Type: application/json\r\n";
    for (method_and_path, headers, status) in [
        ("POST /v1/tokens", json, 413),
        ("POST /v1/tokens", "Content-Type: text/plain\r\n", 415),
        ("POST /v1/nothing", json, 404),
        ("GET /v1/status", "", 200),
    ] {
        let (told, head, _) =
            last_answer(&gateway, request(method_and_path, headers, 600_000).as_bytes()).await;
        assert_eq!(told, status, "{method_and_path}");
        assert!(head.lines().any(|line| line == "connection: close"), "{head}");
    }
    // What came with the head does no harm, nor does what is read off, whatever its length.
    let chunked = format!(
        "POST /v1/streams/Nothing/records HTTP/1.1\r\nHost: gateway\r\n{token}{json}Transfer-Encoding: chunked\r\n\r\n\
         2\r\n{{}}\r\n0\r\n\r\n"
    );
    let unread = [
        request("POST /v1/nothing", json, 100),
        request("POST /v1/tokens", json, 100),
        request("POST /v1/streams/Nothing/records", json, 600_000),
        chunked.replace("Nothing", "chunks"),
        chunked,
    ];
    let last = HEALTH.replace("Host", "Connection: close\r\nHost");
    let (told, _, _) = last_answer(&gateway, (unread.concat() + &last).as_bytes()).await;
    assert_eq!(told, 200);
}
