//! One address without credentials that has the gateway hold all that it can: unfinished heads, replies that it never reads.
//!
//! Before: 2,700 heads of 60 KiB without their end, or 1,500 sockets that asked for the dashboard's script and read nothing, used
//! up the budget of bytes held for peers and the reserve behind it. Everybody else, with good credentials too, was answered 503
//! `request_memory_full` for compressed records, for reading, for the dashboard's script and for the metrics. Now files
//! of the dashboard cost nothing to hold, the reserve is for the status and the metrics alone, and who shows no credentials has half of the
//! budget together, and no address more of it than it leaves to the others.

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::HELD;
use super::slow_peers::{ATTACKER, answer, connect_from};
use crate::support::{Compression, Gateway, Metrics, compressed, soon};

/// Half of it has room for one reading of records, which takes 8 MiB.
const BUDGET: u32 = 17 << 20;
/// What one address may have of it.
const SHARE: u32 = BUDGET / 4;
const HEAD_BYTES: usize = 60_000;

async fn gateway() -> Gateway {
    let gateway = Gateway::with(&["--request-memory-bytes-max", &BUDGET.to_string()]).await;
    gateway.commit("honest", &json!({"n": 1})).await;
    gateway
}

/// What an honest sender sends: its credentials, a body that must be decompressed.
async fn compressed_record(gateway: &Gateway) -> Vec<u8> {
    let body = compressed(Compression::Gzip, br#"{"n":2}"#).await;
    let head = format!(
        "POST /v1/streams/honest/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        gateway.token(),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Every other caller is answered, and one address has no more than its share.
async fn others_are_served(gateway: &Gateway) {
    let record = compressed_record(gateway).await;
    // Who has credentials, also from the attacker's own address.
    for address in ["127.0.0.1", ATTACKER] {
        let mut sender = connect_from(gateway, address).await;
        sender.write_all(&record).await.unwrap();
        assert_eq!(answer(&mut sender).await.0, 202, "{address}");
    }
    gateway.get("/v1/streams/honest/records").await.expect(200);
    gateway.get("/v1/status").await.expect(200);
    // Who has none, from another address: the page and what it needs.
    let page = gateway.request(reqwest::Method::GET, "/").send().await.unwrap();
    let page = page.error_for_status().unwrap().text().await.unwrap();
    for file in page.split('"').filter(|text| text.starts_with("/assets/")) {
        gateway.get(file).await.expect(200);
    }
    let mut stranger = connect_from(gateway, "127.0.0.1").await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: gateway\r\nCookie: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES)
    );
    stranger.write_all(long.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stranger).await.0, 200);
    drop(stranger);
    let metrics = Metrics::read(gateway).await;
    let refused = metrics.sum("tidegate_limit_hits_total", "limit", "request_memory");
    assert!(refused >= 1.0, "the attacker has met its limit");
}

async fn attack(gateway: &Gateway, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let attacking: FuturesUnordered<_> = (0..count)
        .map(async |_| {
            let mut peer = connect_from(gateway, ATTACKER).await;
            let _ = peer.write_all(sent).await;
            peer
        })
        .collect();
    soon("all have come", attacking.collect()).await
}

async fn held(gateway: &Gateway) -> f64 {
    Metrics::read(gateway).await.of(HELD)
}

#[tokio::test]
async fn unfinished_heads_of_one_address_get_no_other_address_refused() {
    let gateway = gateway().await;
    let head = format!("GET /none HTTP/1.1\r\nHost: gateway\r\nX-Long: {}", "a".repeat(HEAD_BYTES));
    let attackers = attack(&gateway, 400, head.as_bytes()).await;
    let held = held(&gateway).await;
    assert!(held <= f64::from(SHARE), "{held}");
    others_are_served(&gateway).await;
    drop(attackers);
}

#[tokio::test]
async fn unread_replies_of_one_address_get_no_other_address_refused() {
    let gateway = gateway().await;
    // Longer than a reply that is not counted, and asked for without credentials.
    let asked = "GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n".repeat(12);
    let attackers = attack(&gateway, 100, asked.as_bytes()).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: gateway\r\n\r\n", "a".repeat(HEAD_BYTES));
    let more = join_all((0..200).map(async |_| {
        let mut peer = connect_from(&gateway, ATTACKER).await;
        let sending = async { while peer.write_all(long.as_bytes()).await.is_ok() {} };
        // It ends when it is refused, or when the gateway reads no more.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), sending).await;
        peer
    }))
    .await;
    let held = held(&gateway).await;
    assert!(held <= f64::from(SHARE), "{held}");
    others_are_served(&gateway).await;
    drop((attackers, more));
}
