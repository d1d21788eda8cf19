//! Bodies of any size are streamed: whatever they hold, the gateway's memory stays under one limit.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::Body;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Client, Compression, Gateway, compressed, soon};

/// What the gateway may ever use here, in bytes: the intake's room of 96 MiB, 64 MiB for everything else, and
/// what the allocator keeps of it for some seconds.
const MEMORY_BYTES_MAX: u64 = 208 << 20;
/// Size of the chunks that a generated body is sent in.
const CHUNK_BYTES: usize = 1 << 20;

/// A body that is made while it is sent: a beginning, so many bytes of filling, an end.
fn generated(beginning: &str, filler: u8, filling_bytes: usize, end: &str) -> Body {
    let filling = Bytes::from(vec![filler; CHUNK_BYTES]);
    let beginning = Bytes::copy_from_slice(beginning.as_bytes());
    let end = Bytes::copy_from_slice(end.as_bytes());
    let chunks = std::iter::once(beginning)
        .chain(std::iter::repeat_n(filling, filling_bytes / CHUNK_BYTES))
        .chain(std::iter::once(end))
        .map(Ok::<Bytes, std::io::Error>);
    Body::wrap_stream(stream::iter(chunks))
}

fn assert_memory_is_bounded(gateway: &Gateway, after: &str) {
    if let Some(peak) = gateway.memory_peak_bytes() {
        assert!(peak < MEMORY_BYTES_MAX, "{} MiB after {after}", peak >> 20);
    }
}

#[tokio::test]
async fn a_line_of_100_mb_is_refused_and_its_neighbours_taken() {
    const LINE_BYTES: usize = 100 << 20;
    let gateway = Gateway::start().await;
    let body = generated("{\"n\":1}\n{\"text\":\"", b'x', LINE_BYTES, "\"}\n{\"n\":2}\n");
    let reply =
        gateway.records("lines").ndjson(body).query("ack", "commit").send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)));
    let error = &reply["errors"][0];
    assert_eq!(
        (&error["record"], &error["line"], &error["code"]),
        (&json!(2), &json!(2), &json!("too_large"))
    );
    assert_memory_is_bounded(&gateway, "a line of 100 MB");

    let body = generated("n,text\n1,a\n2,\"", b'\n', LINE_BYTES, "\"\n3,c\n");
    let reply = gateway.records("rows").csv(body).query("ack", "commit").send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)));
    assert_eq!(reply["errors"][0]["code"], "too_large");
    assert_memory_is_bounded(&gateway, "a field of 100 MB");

    let body = generated("[{\"n\":1},{\"list\":[1", b' ', LINE_BYTES, "]},{\"n\":2}]");
    let reply =
        gateway.records("list").body("application/json", body).query("ack", "commit").send().await;
    let reply = reply.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)));
    assert_memory_is_bounded(&gateway, "an element of 100 MB");
    for stream in ["lines", "list"] {
        assert_eq!(gateway.payloads(stream).await, [json!({"n": 1}), json!({"n": 2})], "{stream}");
    }
    let kept: Vec<i32> =
        gateway.column("select length(raw) from tidegate.quarantine where truncated").await;
    assert_eq!(kept, [64 << 10; 3]);
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_in_little_memory() {
    const GIGABYTE: usize = 1 << 30;
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "huge"})).await;
    // One record that goes on and on. A body that is longer than the limit is 413, whatever is in it.
    let body = generated("{\"text\":\"", b'x', GIGABYTE, "\"}");
    let problem = gateway
        .records("huge")
        .body("application/json", body)
        .send()
        .await
        .problem(413, "body_too_large");
    assert_eq!(problem["accepted"], 0);
    assert_memory_is_bounded(&gateway, "a record of 1 GB");
    // Just below the limit it is read to its end, and is one record that is too large.
    let body = generated("{\"text\":\"", b'x', GIGABYTE - CHUNK_BYTES, "\"}");
    let problem = gateway
        .records("huge")
        .body("application/json", body)
        .send()
        .await
        .problem(422, "invalid_record");
    assert_eq!(problem["errors"][0]["code"], "too_large");
    assert_memory_is_bounded(&gateway, "a record of nearly 1 GB");
    gateway.commit("huge", &json!({"n": 1})).await;
    assert_eq!(gateway.rows("huge").await, 1);
}

#[tokio::test]
async fn a_large_list_is_streamed_into_its_table() {
    const RECORDS: usize = 6_000;
    const TEXT_BYTES: usize = 16_000;
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "list", "payload": "json"})).await;
    let text = "x".repeat(TEXT_BYTES);
    let records = (0..RECORDS).map(move |n| {
        let open = if n == 0 { '[' } else { ',' };
        Ok::<String, std::io::Error>(format!("{open}{{\"n\":{n},\"text\":\"{text}\"}}"))
    });
    let body = Body::wrap_stream(stream::iter(records.chain(std::iter::once(Ok("]".to_owned())))));
    let reply =
        gateway.records("list").body("application/json", body).query("ack", "commit").send().await;
    assert_eq!(reply.expect(201)["committed"], RECORDS);
    assert_memory_is_bounded(&gateway, "a list of 96 MB");
    let (rows, distinct) = (
        gateway.rows("list").await,
        gateway
            .scalar::<i64>("select count(distinct (payload->>'n')::int) from streams.list")
            .await,
    );
    assert_eq!((rows, distinct), (6_000, 6_000));
}

#[tokio::test]
async fn a_list_that_breaks_late_says_what_was_taken_before() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "late"})).await;
    let good: String = (0..54_321).map(|n| format!("{{\"n\":{n}}},")).collect();
    let body = format!("[{good}{{broken");
    let reply = gateway.records("late").body("application/json", body).send().await;
    let problem = reply.problem(400, "malformed_body");
    assert_eq!(problem["record"], 54_322);
    let accepted = problem["accepted"].as_i64().unwrap();
    assert!(accepted < 54_321, "what was not yet handed on is not taken: {problem}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("late").await, accepted, "the reply tells the truth: {problem}");
    let first: i64 = gateway
        .scalar("select count(*) from streams.late where (payload->>'n')::int >= (select count(*) from streams.late)")
        .await;
    assert_eq!(first, 0, "it is the beginning that was taken");
}

#[tokio::test]
async fn bombs_are_stopped_at_the_limit() {
    const PART_BYTES: usize = 8 << 20;
    let gateway = Gateway::with(&["--body-decompressed-bytes-max=67108864"]).await;
    gateway.create_stream(&json!({"name": "bombed"})).await;
    for (compression, parts) in
        [(Compression::Gzip, 128), (Compression::Zstd, 128), (Compression::Brotli, 1)]
    {
        // What can be put together from parts is a gigabyte.
        let part = if parts == 1 { 10 * PART_BYTES } else { PART_BYTES };
        let body = compressed(compression, &vec![b' '; part]).await.repeat(parts);
        assert!(body.len() < 2 << 20, "{compression:?}: {} bytes", body.len());
        for content_type in ["application/json", "application/x-ndjson"] {
            let request = gateway.records("bombed").body(content_type, body.clone());
            let problem =
                request.encoding(compression.name()).send().await.problem(413, "body_too_large");
            assert_eq!(problem["accepted"], 0, "{compression:?} {content_type}");
        }
        // A header line does not go on for ever.
        let request = gateway.records("bombed").csv(body).encoding(compression.name());
        request.send().await.problem(400, "invalid_header");
    }
    assert_memory_is_bounded(&gateway, "bombs");
    gateway.commit("bombed", &json!({"n": 1})).await;
    assert_eq!(gateway.rows("bombed").await, 1);
}

#[tokio::test]
async fn a_zstd_frame_that_asks_for_a_huge_window_is_refused() {
    use async_compression::tokio::write::ZstdEncoder;
    use async_compression::zstd::CParameter;
    use tokio::io::AsyncWriteExt;

    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "windowed"})).await;
    let mut body = Vec::new();
    let window = [CParameter::window_log(27), CParameter::enable_long_distance_matching(true)];
    let mut encoder =
        ZstdEncoder::with_quality_and_params(&mut body, async_compression::Level::Default, &window);
    // Flushed in between, so that the frame cannot know how small it will be.
    encoder.write_all(b"{\"n\":1}\n").await.unwrap();
    encoder.flush().await.unwrap();
    encoder.write_all(b"{\"n\":2}\n").await.unwrap();
    encoder.shutdown().await.unwrap();
    let reply = gateway.records("windowed").ndjson(body).encoding("zstd").send().await;
    reply.problem(400, "corrupt_body");
    gateway.commit("windowed", &json!({"n": 3})).await;
    assert_eq!(gateway.payloads("windowed").await, [json!({"n": 3})]);
    assert_memory_is_bounded(&gateway, "a window of 128 MiB");
}

/// Comes again whenever there is no room for a record of this length.
async fn send_until_taken(client: Client, n: usize, bytes: usize) {
    let mut tries = tokio::time::interval(Duration::from_millis(100));
    loop {
        tries.tick().await;
        let body = generated(&format!("{{\"n\":{n},\"text\":\""), b'x', bytes, "\"}");
        let reply = client.records("shared").body("application/json", body).send().await;
        if reply.status == 202 {
            return;
        }
        assert!(reply.retry_after_seconds() >= 1);
        // Who comes again would double what was taken.
        assert_eq!(reply.problem(503, "overloaded")["accepted"], 0);
    }
}

#[tokio::test]
async fn many_large_bodies_at_once_share_the_room_there_is() {
    const SENDERS: usize = 6;
    const RECORD_BYTES: usize = 6 << 20;
    // Room for one or two of them at a time.
    let gateway = Gateway::with(&[
        "--intake-bytes-max=25165824",
        "--entry-bytes-max=8388608",
        "--intake-wait-ms=1000",
    ])
    .await;
    gateway.create_stream(&json!({"name": "shared", "payload": "json"})).await;
    let mut senders = JoinSet::new();
    for n in 0..SENDERS {
        senders.spawn(send_until_taken(Client::clone(&gateway), n, RECORD_BYTES));
    }
    soon("everybody has their turn", senders.join_all()).await;
    gateway.wait_all_committed().await;
    let mut numbers: Vec<i32> =
        gateway.column("select (payload->>'n')::int from streams.shared").await;
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert_memory_is_bounded(&gateway, "many large bodies");
}

/// A connection that is closed over unread bytes is reset, and the reason may be lost on the way.
#[tokio::test]
async fn a_refusal_reaches_a_sender_that_is_still_sending() {
    const BODY_BYTES: usize = 24 << 20;
    let gateway = Gateway::with(&["--body-bytes-max=4194304"]).await;
    gateway.create_stream(&json!({"name": "refused"})).await;
    for _ in 0..5 {
        // Longer than the limit, which could not be known before.
        let body = generated("{\"text\":\"", b'x', BODY_BYTES, "\"}");
        let request = gateway.records("refused").body("application/json", body);
        request.send().await.problem(413, "body_too_large");
        // Broken at its beginning.
        let body = generated("[}", b' ', BODY_BYTES, "]");
        let request = gateway.records("refused").body("application/json", body);
        request.send().await.problem(400, "malformed_body");
    }
    gateway.commit("refused", &json!({"n": 1})).await;
    assert_eq!(gateway.rows("refused").await, 1);
}

#[tokio::test]
async fn a_sender_whose_body_is_not_even_read_is_told_why() {
    const BODY_BYTES: usize = 24 << 20;
    let gateway = Gateway::with(&["--auto-create-streams=false"]).await;
    gateway.create_stream(&json!({"name": "refused"})).await;
    let body = || generated("", b'x', BODY_BYTES, "");
    for _ in 0..5 {
        let reply = gateway.records("refused").body("text/plain", body()).send().await;
        assert_eq!(reply.status, 415, "{}", reply.body);
        let reply = gateway.records("refused").ndjson(body()).encoding("snappy").send().await;
        assert_eq!(reply.status, 415, "{}", reply.body);
        let reply = gateway.records("refused").ndjson(body()).query("ack", "never").send().await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        gateway.records("unknown").ndjson(body()).send().await.problem(404, "no_such_stream");
        let stranger = gateway.with_token("tg_wrong");
        stranger.records("refused").ndjson(body()).send().await.problem(401, "invalid_token");
    }
    gateway.commit("refused", &json!({"n": 1})).await;
    assert_eq!(gateway.rows("refused").await, 1);
}
