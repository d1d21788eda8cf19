//! At every limit the gateway says so, with a time to come again, and holds what it has acknowledged.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Compression, Gateway, Metrics, Stall, compressed, eventually, soon};

/// A request with a body of this length, of which nothing was sent yet.
fn head(gateway: &Gateway, stream: &str, length: usize) -> String {
    format!(
        "POST /v1/streams/{stream}/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n",
        gateway.token()
    )
}

/// What comes until the gateway hangs up.
async fn read_to_end(mut connection: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset has ended too.
    let _ = soon("the gateway hangs up", connection.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads up to the end of an answer's head; its status.
async fn read_status(connection: &mut TcpStream) -> u16 {
    let mut text = Vec::new();
    soon("an answer", async {
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 4_096];
            let read = connection.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the gateway hung up: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&buffer[..read]);
        }
    })
    .await;
    String::from_utf8_lossy(&text).split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_full_intake_is_503_with_a_time_to_come_again() {
    const HOLDERS: usize = 100;
    // Room for a part of the holders.
    let gateway = Gateway::with(&[
        "--intake-bytes-max=4000000",
        "--entry-bytes-max=1000000",
        "--intake-wait-ms=200",
    ])
    .await;
    gateway.create_stream(&json!({"name": "full"})).await;
    // Records that take room, and do not end before they are told to.
    let record = format!("{{\"text\":\"{}\"}}", "x".repeat(100_000));
    let (tell, told) = watch::channel(false);
    let mut holders = JoinSet::new();
    for _ in 0..HOLDERS {
        let mut holder = TcpStream::connect(gateway.address()).await.unwrap();
        let (head, record, mut told) =
            (head(&gateway, "full", record.len()), record.clone(), told.clone());
        holders.spawn(async move {
            let (beginning, end) = record.as_bytes().split_at(record.len() - 1);
            holder.write_all(head.as_bytes()).await.unwrap();
            holder.write_all(beginning).await.unwrap();
            told.wait_for(|told| *told).await.unwrap();
            // One that was refused may be gone already.
            let _ = holder.write_all(end).await;
            read_status(&mut holder).await
        });
    }
    let large = json!({"text": "y".repeat(400_000)});
    let refused = eventually("the intake is full", async || {
        let reply = gateway.records("full").json(&large).send().await;
        (reply.status != 202).then_some(reply)
    })
    .await;
    assert!((1..=300).contains(&refused.retry_after_seconds()));
    assert_eq!(refused.problem(503, "overloaded")["accepted"], 0);
    let metrics = Metrics::read(&gateway).await;
    assert!(metrics.sum("tidegate_intake_refused_total", "reason", "overloaded") >= 1.0);
    // Nothing moves, so the advice is how long that has been so.
    eventually("the advice grows with the stall", async || {
        let reply = gateway.records("full").json(&large).send().await;
        (reply.status == 503 && reply.retry_after_seconds() >= 4).then_some(())
    })
    .await;

    tell.send_replace(true);
    let statuses = holders.join_all().await;
    let count = |wanted: u16| statuses.iter().filter(|&&status| status == wanted).count();
    assert_eq!(count(202) + count(503), HOLDERS, "{statuses:?}");
    assert!(count(202) > 0, "who holds room gets an answer");
    gateway.records("full").json(&large).send().await.expect(202);
    gateway.wait_all_committed().await;
    let taken: i64 = gateway
        .scalar("select count(*) from streams.full where length(payload->>'text') = 100000")
        .await;
    assert_eq!(usize::try_from(taken).unwrap(), count(202), "what was refused was not taken");
}

#[tokio::test]
async fn a_full_journal_is_503_until_postgresql_has_caught_up() {
    let gateway = Gateway::with(&[
        "--journal-bytes-max=6291456",
        "--journal-segment-bytes=1048576",
        "--journal-retention-seconds=0",
        "--journal-retention-bytes=0",
    ])
    .await;
    // All that is known of PostgreSQL's rate is that it once took this little.
    gateway.commit("backlog", &json!({"n": "little"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let text = "x".repeat(50_000);
    let mut accepted: u64 = 0;
    let refused = loop {
        let records: Vec<Value> =
            (0..4).map(|n| json!({"n": accepted + n, "text": text})).collect();
        let reply = gateway.records("backlog").json(&Value::Array(records)).send().await;
        if reply.status != 202 {
            break reply;
        }
        accepted += 4;
        assert!(accepted < 1_000, "the journal has a limit");
    };
    // Of the longest advice, and the time to the next look at the journal.
    assert_eq!(refused.retry_after_seconds(), 300 + 5);
    let problem = refused.problem(503, "journal_full");
    assert_eq!(problem["accepted"], 0, "{problem}");
    assert!(accepted * 50_000 > 3_000_000, "most of the journal was used: {accepted} records");
    let bytes = gateway.get("/v1/status").await.expect(200)["journal"]["bytes"].as_u64().unwrap();
    assert!(bytes <= 6_291_456, "{bytes}");
    // What is smaller may still fit, but not for ever.
    let problem = loop {
        let reply =
            gateway.records("backlog").json(&json!({"n": accepted, "text": text})).send().await;
        if reply.status != 202 {
            break reply.problem(503, "journal_full");
        }
        accepted += 1;
    };
    assert_eq!(problem["accepted"], 0, "{problem}");
    // Questions are answered all the same.
    assert_eq!(gateway.get("/healthz").await.status, 200);

    stall.release().await;
    let mut later = 0;
    eventually("there is room again", async || {
        let record = json!({"n": accepted, "text": text});
        let reply = gateway.records("backlog").json(&record).send().await;
        later += u64::from(reply.status == 202);
        (reply.status == 202).then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    let (rows, distinct) = (
        gateway.rows("backlog").await,
        gateway.scalar::<i64>("select count(distinct payload->>'n') from streams.backlog").await,
    );
    assert_eq!(u64::try_from(rows).unwrap(), 1 + accepted + later);
    assert_eq!(rows, distinct);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_and_nothing_of_it_taken() {
    let gateway = Gateway::with(&["--body-idle-seconds=1"]).await;
    gateway.create_stream(&json!({"name": "slow"})).await;
    let mut stalled = TcpStream::connect(gateway.address()).await.unwrap();
    stalled.write_all(head(&gateway, "slow", 1_000).as_bytes()).await.unwrap();
    stalled.write_all(b"{\"n\":1}\n{\"n\":2}\n{\"n\"").await.unwrap();
    // One that drips is slow, but alive.
    let mut dripping = TcpStream::connect(gateway.address()).await.unwrap();
    let body = b"{\"n\":3}\n";
    dripping.write_all(head(&gateway, "slow", body.len()).as_bytes()).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(300));
    for byte in body {
        ticks.tick().await;
        dripping.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(read_status(&mut dripping).await, 202);

    let answer = read_to_end(stalled).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("body_too_slow"), "{answer}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.payloads("slow").await, [json!({"n": 3})]);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_off_leaves_nothing_behind() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "broken"})).await;
    for sent in ["", "{\"n\":1}\n", "{\"n\":1}\n{\"n\":2}\n{\"n\""] {
        let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
        connection.write_all(head(&gateway, "broken", 1_000).as_bytes()).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let answer = read_to_end(connection).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // Chunked, and cut off between two chunks.
    let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
    let chunked =
        head(&gateway, "broken", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    connection.write_all(chunked.as_bytes()).await.unwrap();
    connection.write_all(b"8\r\n{\"n\":1}\n\r\n").await.unwrap();
    connection.shutdown().await.unwrap();
    read_to_end(connection).await;
    gateway.commit("broken", &json!({"n": 3})).await;
    assert_eq!(gateway.payloads("broken").await, [json!({"n": 3})]);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    /// The gateway's own limit for the head of a request.
    const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
    let gateway = Gateway::start().await;
    let started = Instant::now();
    let mut silent = JoinSet::new();
    let beginnings = [
        "",
        "P",
        "POST /v1/streams/a/records HTTP/1.1\r\n",
        "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n",
    ];
    for beginning in beginnings {
        let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
        connection.write_all(beginning.as_bytes()).await.unwrap();
        silent.spawn(async move {
            let mut text = Vec::new();
            let limit = HEADER_READ_TIMEOUT + Duration::from_secs(10);
            let closed = tokio::time::timeout(limit, connection.read_to_end(&mut text)).await;
            (beginning, closed.is_ok())
        });
    }
    // Meanwhile others are served.
    gateway.commit("others", &json!({"n": 1})).await;
    assert!(started.elapsed() < HEADER_READ_TIMEOUT, "no sender was held up");
    let open: Vec<&str> = silent
        .join_all()
        .await
        .into_iter()
        .filter(|(_, closed)| !closed)
        .map(|(beginning, _)| beginning)
        .collect();
    assert!(open.is_empty(), "still open after {:?}: {open:?}", started.elapsed());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_those_that_are_in_use() {
    let gateway = Gateway::with(&["--connections-max=3", "--connections-per-address-max=4"]).await;
    gateway.create_stream(&json!({"name": "held"})).await;
    let health = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
        let head = head(&gateway, "held", 8);
        let asks_first = head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        connection.write_all(asks_first.as_bytes()).await.unwrap();
        // Now it is under way.
        assert_eq!(read_status(&mut connection).await, 100);
        held.push(connection);
    }
    let mut waiting = TcpStream::connect(gateway.address()).await.unwrap();
    waiting.write_all(health).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.readable()).await;
    assert!(early.is_err(), "the limit counts");
    held[0].write_all(b"{\"n\":1}\n").await.unwrap();
    assert_eq!(read_status(&mut held[0]).await, 202);
    // It was answered and asks for nothing: it makes room.
    assert_eq!(read_status(&mut waiting).await, 200);
    for connection in &mut held[1..] {
        connection.write_all(b"{\"n\":1}\n").await.unwrap();
        assert_eq!(read_status(connection).await, 202);
    }
}

#[tokio::test]
async fn bodies_beyond_their_limits_are_413() {
    let gateway =
        Gateway::with(&["--body-bytes-max=10000", "--body-decompressed-bytes-max=50000"]).await;
    gateway.create_stream(&json!({"name": "limited"})).await;
    let lines = |bytes: usize| "{\"n\":1234567}\n".repeat(bytes / 14);
    let long = lines(20_000);
    gateway.records("limited").ndjson(long.clone()).send().await.problem(413, "body_too_large");
    // Of unknown length.
    let chunks = long
        .into_bytes()
        .chunks(1_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    gateway.records("limited").ndjson(body).send().await.problem(413, "body_too_large");
    for compression in Compression::ALL {
        let small = compressed(compression, lines(100_000).as_bytes()).await;
        assert!(small.len() < 10_000);
        let request = gateway.records("limited").ndjson(small).encoding(compression.name());
        let problem = request.send().await.problem(413, "body_too_large");
        assert!(problem["detail"].as_str().unwrap().contains("after decompression"), "{problem}");
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("limited").await, 0);
    assert_eq!(
        gateway.records("limited").ndjson(lines(9_000)).send().await.expect(202)["accepted"],
        642
    );
}
