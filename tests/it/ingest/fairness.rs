//! Senders share the intake: a crowd of connections gets no more than its sender's part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::people::{Token, add_user};
use crate::support::{Client, Gateway, eventually};

const CONNECTIONS: usize = 200;
/// Records that the small sender sends, one after the other.
const SMALL_RECORDS: u64 = 100;
/// Room for few of the crowd's requests at once, and a short wait.
const FLAGS: [&str; 4] = [
    "--intake-bytes-max=1500000",
    "--intake-entries-max=16",
    "--intake-wait-ms=250",
    "--entry-bytes-max=500000",
];

/// A crowd that sends as fast as it can, and comes again at once when it is refused.
struct Flood {
    connections: JoinSet<()>,
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

impl Flood {
    fn start(clients: &[Client]) -> Flood {
        let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(990));
        let body: Arc<str> = line.repeat(100).into();
        let mut flood = Flood {
            connections: JoinSet::new(),
            stop: Arc::default(),
            refused: Arc::default(),
            taken: Arc::default(),
        };
        for connection in 0..CONNECTIONS {
            let client = clients[connection % clients.len()].clone();
            let (stop, body) = (Arc::clone(&flood.stop), Arc::clone(&body));
            let (refused, taken) = (Arc::clone(&flood.refused), Arc::clone(&flood.taken));
            flood.connections.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let reply = client.records("crowd").ndjson(body.to_string()).send().await;
                    match reply.status {
                        202 => taken.fetch_add(1, Ordering::SeqCst),
                        503 => {
                            reply.problem(503, "overloaded");
                            refused.fetch_add(1, Ordering::SeqCst)
                        }
                        status => panic!("{status}: {}", reply.body),
                    };
                }
            });
        }
        flood
    }

    /// Waits until some of it was refused, so that the intake is known to be full.
    async fn is_too_much(&self) {
        eventually("the crowd is refused", async || {
            (self.refused.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
    }

    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.connections.join_all().await;
        (self.taken.load(Ordering::SeqCst), self.refused.load(Ordering::SeqCst))
    }
}

/// Sends single records while the crowds send; how often one had to be sent again.
async fn small_sender_among(crowds: usize) -> u64 {
    let gateway = Gateway::with(&FLAGS).await;
    add_user(&gateway, "ada", "member").await;
    let sender =
        async || gateway.with_token(&Token::of(&gateway, "ada", &["ingest"], json!({})).await.text);
    for stream in ["crowd", "small"] {
        gateway.create_stream(&json!({"name": stream})).await;
    }
    let mut clients = Vec::new();
    for _ in 0..crowds {
        clients.push(sender().await);
    }
    let small = sender().await;
    let flood = Flood::start(&clients);
    flood.is_too_much().await;
    let mut again = 0;
    for n in 0..SMALL_RECORDS {
        loop {
            let reply = small.records("small").json(&json!({"n": n})).send().await;
            if reply.status == 202 {
                break;
            }
            reply.problem(503, "overloaded");
            again += 1;
            assert!(again < SMALL_RECORDS, "the small sender is starved at record {n}");
        }
    }
    let (taken, refused) = flood.end().await;
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("small").await, i64::try_from(SMALL_RECORDS).unwrap());
    assert_eq!(gateway.rows("crowd").await, i64::try_from(taken * 100).unwrap());
    again
}

#[tokio::test]
async fn a_small_sender_is_not_refused_for_what_another_sends() {
    assert_eq!(small_sender_among(1).await, 0, "not once");
}

#[tokio::test]
async fn a_small_sender_gets_its_turn_among_several_large_ones() {
    let again = small_sender_among(4).await;
    assert!(again <= SMALL_RECORDS / 20, "refused {again} times");
}
