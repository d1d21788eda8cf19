//! Peers that have the gateway hold bytes: bodies that stall, and bodies that unpack to much.
//!
//! Before: 120 bodies that stalled at `/v1/streams/infer`, each just short of 8 MiB, cost 1,250 MiB, of which 1,050 MiB never
//! came back to the system after they were gone. A few hundred bytes of zstd had a decoder remember 8 MiB, uncounted, for
//! as many connections as liked. Now samples are two of a user and four in all, with a time in which they must arrive; what
//! decoders remember counts; and what is freed goes back to the system within
//! seconds: the same attack holds 60 MiB, and leaves the gateway with the 34 that it had before.

use async_compression::tokio::write::ZstdEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HELD, text_of};
use crate::support::{Gateway, Metrics, eventually, soon};

/// Opens a request whose body is longer than what comes of it.
async fn stall(gateway: &Gateway, path: &str, headers: &str, begun: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let token = gateway.token();
    let length = begun.len() + 1_000;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Who waits for a turn is not read from: what does not fit into the line's buffers is not sent.
    let sent = tokio::time::timeout(std::time::Duration::from_millis(500), stream.write_all(begun));
    let _ = sent.await;
    stream
}

async fn status_of(stream: &mut TcpStream) -> String {
    let mut head = [0; 12];
    soon("it is answered", stream.read_exact(&mut head)).await.unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}

#[tokio::test]
async fn stalled_samples_are_few_and_their_memory_comes_back() {
    let gateway = Gateway::start().await;
    gateway.commit("before", &json!({"n": 1})).await;
    let at_rest = gateway.memory_bytes();
    let sample = format!(r#"{{"text":"{}"#, text_of(7 << 20, 1));
    let mut stalled = Vec::new();
    for _ in 0..12 {
        stalled.push(stall(&gateway, "/v1/streams/infer", "", sample.as_bytes()).await);
    }
    let held = Metrics::read(&gateway).await.of(HELD);
    assert!((7e6..=3e7).contains(&held), "two samples of this user are read: {held}");
    // Others are refused, and everything else is answered.
    assert_eq!(status_of(&mut stalled[11]).await, "429");
    gateway.get("/v1/status").await.expect(200);
    gateway.commit("before", &json!({"n": 2})).await;
    drop(stalled);
    eventually("what was held is given back", async || {
        (Metrics::read(&gateway).await.of(HELD) < 1.0).then_some(())
    })
    .await;
    let reply = gateway.post("/v1/streams/infer", &json!([{"a": 1}])).await.expect(200);
    assert_eq!(reply["columns"][0]["name"], "a");
    if let Some(at_rest) = at_rest {
        eventually("the memory goes back to the system", async || {
            (gateway.memory_bytes()? < at_rest + (48 << 20)).then_some(())
        })
        .await;
    }
}

/// Before: each of these cost 235 KB for half a minute, uncounted.
#[tokio::test]
async fn who_has_no_credentials_leaves_no_buffers_behind() {
    const PEERS: u64 = 300;
    // What the buffers of both ways begin with, a task, and what an allocator makes of it.
    const EACH_MAX: u64 = 80 << 10;
    let gateway = Gateway::start().await;
    gateway.commit("before", &json!({"n": 1})).await;
    let at_rest = gateway.memory_bytes();
    let body = "x".repeat(300_000);
    let head = "POST /v1/streams/hello/records HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut idle = Vec::new();
    for _ in 0..PEERS {
        let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
        soon("it is taken", peer.write_all(request.as_bytes())).await.unwrap();
        assert_eq!(status_of(&mut peer).await, "401");
        idle.push(peer);
    }
    if let (Some(at_rest), Some(now)) = (at_rest, gateway.memory_bytes()) {
        let each = now.saturating_sub(at_rest) / PEERS;
        assert!(each < EACH_MAX, "{each} bytes each");
    }
}

/// Before: what the fast path had read of a slow request was kept twice, and counted nowhere.
#[tokio::test]
async fn what_the_fast_path_hands_over_counts() {
    let gateway = Gateway::with(&["--request-memory-bytes-max=20000"]).await;
    let head = "POST /v1/streams/hello/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer (nobody)\r\n\
                Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
    for (bytes, status) in [(1_000, "401"), (50_000, "503")] {
        let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
        let begun = format!("{head}{}", "[".repeat(bytes));
        peer.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(status_of(&mut peer).await, status, "{bytes}");
    }
    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.of(HELD).to_string(), "0");
}

#[tokio::test]
async fn what_decoders_remember_counts() {
    let budget = (24 << 20).to_string();
    let gateway = Gateway::with(&["--request-memory-bytes-max", &budget]).await;
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(b"[\"").await.unwrap();
    encoder.write_all(&vec![b'x'; 12 << 20]).await.unwrap();
    encoder.flush().await.unwrap();
    let wire = encoder.into_inner();
    assert!(wire.len() < 10_000, "it costs its sender next to nothing: {}", wire.len());
    let headers = "Content-Encoding: zstd\r\n";
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(stall(&gateway, "/v1/streams/s/records", headers, &wire).await);
    }
    // There is room for two; a third is told so as soon as it asks for more than is left.
    let answers = stalled.iter_mut().map(|stream| Box::pin(status_of(stream)));
    let (first, ..) = futures::future::select_all(answers).await;
    assert_eq!(first, "503");
    let held = Metrics::read(&gateway).await.of(HELD);
    assert!(held > 8e6 && held <= f64::from(24 << 20), "{held}");
    gateway.get("/v1/status").await.expect(200);
    gateway.commit("plain", &json!({"n": 1})).await;
    let hits = Metrics::read(&gateway).await;
    assert!(hits.sum("tidegate_limit_hits_total", "limit", "request_memory") >= 1.0);
    drop(stalled);
    eventually("what was held is given back", async || {
        (Metrics::read(&gateway).await.of(HELD) < 1.0).then_some(())
    })
    .await;
}

/// Before: a replay held all of its record, uncounted, while it waited for a body: 40 of these cost 320 MiB.
#[tokio::test]
async fn replays_whose_bodies_do_not_come_hold_no_records() {
    const REPLAYS: usize = 40;
    const RECORD_BYTES: usize = 8 << 20;
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let record = json!([{"n": text_of(RECORD_BYTES, 1)}]);
    gateway.records("typed").json(&record).send().await.expect(202);
    gateway.wait_all_committed().await;
    let id: String = gateway.scalar("select id::text from tidegate.quarantine").await;
    let path = format!("/v1/quarantine/{id}/replay");
    let at_rest = gateway.memory_bytes();
    let mut dripping = Vec::new();
    for _ in 0..REPLAYS {
        let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            gateway.token()
        );
        peer.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        soon("its body is waited for", peer.read_exact(&mut go_on)).await.unwrap();
        dripping.push(peer);
    }
    if let (Some(at_rest), Some(now)) = (at_rest, gateway.memory_bytes()) {
        let more = now.saturating_sub(at_rest);
        assert!(more < (REPLAYS * RECORD_BYTES / 4) as u64, "{more} bytes more");
    }
    // It is read once its body ended, and found invalid as before.
    dripping[0].write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(status_of(&mut dripping[0]).await, "422");
}

/// Before: what is shown of a record was made before it was counted, and a record that is no text is made several times.
#[tokio::test]
async fn a_large_record_of_the_quarantine_counts_before_it_is_read() {
    let budget = (8 << 20).to_string();
    let gateway = Gateway::with(&["--request-memory-bytes-max", &budget]).await;
    let kept = |byte: u8, bytes: usize| [&b"\""[..], &vec![byte; bytes], b"\n"].concat();
    for (byte, bytes, status) in
        [(b'x', 2 << 20, 200), (b'x', 5 << 20, 503), (0xff, 300_000, 200), (0xff, 2 << 20, 503)]
    {
        gateway.create_stream(&json!({"name": "refusing"})).await;
        gateway.records("refusing").ndjson(kept(byte, bytes)).send().await.expect(202);
        gateway.wait_all_committed().await;
        let id: String = gateway.scalar("select id::text from tidegate.quarantine").await;
        let reply = gateway.get(&format!("/v1/quarantine/{id}")).await;
        assert_eq!(reply.status, status, "{byte} {bytes}");
        gateway.delete("/v1/streams/refusing").await.expect(204);
        gateway.execute("delete from tidegate.quarantine").await;
    }
    eventually("what was held is given back", async || {
        (Metrics::read(&gateway).await.of(HELD) < 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_to_sign_in_is_small() {
    let gateway = Gateway::start().await;
    let body = json!({"user": "ada", "password": "x".repeat(9_000)});
    gateway.post("/v1/sessions", &body).await.problem(413, "body_too_large");
    let body = json!({"user": "ada", "password": "\u{1}".repeat(1_000)});
    gateway.post("/v1/sessions", &body).await.problem(401, "invalid_password");
}
