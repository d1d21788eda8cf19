//! Heads of requests that are long, slow, many, or without a host.
//!
//! Before: a head could have 400 KiB, and one of 500 KB passed; a thousand unfinished ones cost 400 MiB, and 16,384 would
//! have cost 6.4 GiB. A head could drip for half a minute, and a request with HTTP/1.1 and no `Host` was answered 202. Now
//! a head has 64 KiB and ten seconds, what is unfinished counts against the budget of bytes held for peers (but for the
//! first 8 KiB of each), and one `Host` is asked for on both ways.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::slow_peers::{ATTACKER, answer, connect_from};
use crate::support::{Gateway, Metrics, eventually, soon};

const HEAD_BYTES_MAX: usize = 64 << 10;
/// Time for a head, and time for a loaded machine.
const HEAD_GIVEN_UP: Duration = Duration::from_secs(10 + 60);

/// A head of exactly so many bytes.
fn head(bytes: usize) -> String {
    let (start, end) = ("GET /healthz HTTP/1.1\r\nHost: gateway\r\nX-Long: ", "\r\n\r\n");
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

/// What comes until the gateway hangs up.
async fn rest(mut peer: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ =
        tokio::time::timeout(HEAD_GIVEN_UP, peer.read_to_end(&mut bytes)).await.expect("closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_head_may_have_as_many_bytes_as_is_said_and_no_more() {
    let gateway = Gateway::start().await;
    for (bytes, status) in [(HEAD_BYTES_MAX, 200), (HEAD_BYTES_MAX + 1, 431), (500_000, 431)] {
        // As a connection's first request, and as a later one.
        for before in 0..2 {
            let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
            for _ in 0..before {
                peer.write_all(head(100).as_bytes()).await.unwrap();
                assert_eq!(answer(&mut peer).await.0, 200);
            }
            peer.write_all(head(bytes).as_bytes()).await.unwrap();
            let (told, problem) = answer(&mut peer).await;
            assert_eq!(told, status, "{bytes}");
            if status == 431 {
                assert_eq!(problem["code"], "header_too_large");
                assert!(problem["detail"].as_str().unwrap().contains("64 KiB"), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for_on_both_ways() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "host"})).await;
    for (hosts, expected) in [
        ("Host: a\r\n", None),
        ("", Some("missing_host")),
        ("Host: a\r\nHost: a\r\n", Some("repeated_header")),
        ("Host: a\r\nHost: b\r\n", Some("repeated_header")),
    ] {
        let token = gateway.token();
        let post = format!(
            "POST /v1/streams/host/records HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let get = format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n");
        let preflight = format!(
            "OPTIONS /v1/streams/host/records HTTP/1.1\r\n{hosts}Origin: https://a.example\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        let ask = async |requests: &[&str]| {
            let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
            let mut last = (0, json!(null));
            for request in requests {
                peer.write_all(request.as_bytes()).await.unwrap();
                last = answer(&mut peer).await;
            }
            last
        };
        let good = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        // The first request of a connection begins on the fast path; behind another one it is the general server's.
        for requests in [&[post.as_str()][..], &[good, &post], &[&get], &[&preflight]] {
            let (status, problem) = ask(requests).await;
            match expected {
                Some(code) => {
                    assert_eq!((status, &problem["code"]), (400, &json!(code)), "{requests:?}");
                }
                None => assert_ne!(status, 400, "{requests:?}"),
            }
        }
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("host").await, 2);
}

#[tokio::test]
async fn a_head_that_drips_has_its_time_and_is_told() {
    let gateway = Gateway::start().await;
    let begin = Instant::now();
    let request = head(4_000);
    let slow = |first: &'static str| {
        let (gateway, request) = (&gateway, &request);
        async move {
            let mut peer = TcpStream::connect(gateway.address()).await.unwrap();
            if !first.is_empty() {
                peer.write_all(first.as_bytes()).await.unwrap();
                assert_eq!(answer(&mut peer).await.0, 200);
            }
            let (mut source, mut sink) = peer.into_split();
            let mut answer = Vec::new();
            let dripping = async {
                for byte in request.as_bytes() {
                    if sink.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            };
            tokio::select! {
                _ = source.read_to_end(&mut answer) => {}
                () = dripping => panic!("the head was not refused"),
            }
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    // The first head of a connection, and a later one.
    let later = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let (first, later) = tokio::join!(slow(""), slow(later));
    for answer in [first, later] {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("head_too_slow"), "{answer}");
    }
    assert!(begin.elapsed() < HEAD_GIVEN_UP, "{:?}", begin.elapsed());
    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.sum("tidegate_limit_hits_total", "limit", "head_time").to_string(), "2");
}

#[tokio::test]
async fn unfinished_heads_cost_what_the_budget_has() {
    // A quarter of the budget: one address has no more of it.
    const SHARE: f64 = 2_000_000.0;
    let gateway = Gateway::with(&["--request-memory-bytes-max=8000000"]).await;
    let unfinished = head(60_000);
    let unfinished = &unfinished[..unfinished.len() - 4];
    // 18 MB, of which 2 are taken.
    let attacking: FuturesUnordered<_> = (0..300)
        .map(async |_| {
            let mut peer = connect_from(&gateway, ATTACKER).await;
            let _ = peer.write_all(unfinished.as_bytes()).await;
            peer
        })
        .collect();
    let attackers: Vec<TcpStream> = soon("all have come", attacking.collect()).await;
    let metrics = Metrics::read(&gateway).await;
    assert!(metrics.of("tidegate_request_memory_bytes") <= SHARE);
    // Who sends what nearly everybody sends is served.
    assert_eq!(gateway.get("/healthz").await.status, 200);
    let answers: FuturesUnordered<_> = attackers.into_iter().map(rest).collect();
    let answers: Vec<String> = answers.collect().await;
    let refused = answers.iter().filter(|answer| answer.contains("request_memory_full")).count();
    let slow = answers.iter().filter(|answer| answer.contains("head_too_slow")).count();
    assert!(refused >= 200, "{refused} refused, {slow} slow");
    assert!(slow >= 10, "{refused} refused, {slow} slow");
    eventually("all of it comes back", async || {
        let metrics = Metrics::read(&gateway).await;
        (metrics.of("tidegate_request_memory_bytes") == 0.0).then_some(())
    })
    .await;
}
