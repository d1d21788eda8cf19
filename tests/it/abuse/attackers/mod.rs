//! Attackers of each kind, to run beside honest people.
//!
//! They come from an address of their own, with the credentials of a user who may do all that a member may, attack one
//! gateway on this machine, and end with the value that holds them. Each kind has so many workers and so many attempts a
//! second at most: what is measured is what the gateway does, not how fast this process can be.

mod senders;
mod sockets;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::time::MissedTickBehavior;

use self::senders::Bodies;
use crate::support::Gateway;
use crate::support::people::{Token, add_user};

/// Where attackers come from, where the system lets them choose: honest people come from 127.0.0.1.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Shortest time between two attempts of one worker.
const PACE: Duration = Duration::from_millis(20);
/// Longest wait for attackers to end.
const END_WAIT_MAX: Duration = Duration::from_secs(20);
/// Streams that are there to be attacked.
pub const STRICT: &str = "attacked_strict";
const DOCUMENTS: &str = "attacked_documents";
const LARGE: &str = "attacked_large";
/// Documents for readers, and how many bytes each has.
const LARGE_DOCUMENTS: usize = 48;
const LARGE_BYTES: usize = 512 << 10;

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Asks without an end and reads no answer; without credentials.
    UnreadReplies,
    /// Connects and says nothing.
    SilentSockets,
    /// Sends most of a long head at once, and the rest byte by byte.
    DrippingHeads,
    /// A kilobyte that unpacks to tens of thousands of records, each of them invalid.
    InvalidRecords,
    /// A few kilobytes that unpack to a document of very many members.
    CostlyDocuments,
    /// Guesses an honest person's password.
    WrongPasswords,
    /// Asks for the newest of large documents.
    LargeReaders,
    /// Sends half of a sample, and then nothing.
    StalledSamples,
    /// Sends each record to a stream that is not there yet.
    StreamMakers,
    /// Watches everything and never reads.
    DeafMonitors,
}

impl Attack {
    pub const ALL: [Attack; 10] = [
        Attack::UnreadReplies,
        Attack::SilentSockets,
        Attack::DrippingHeads,
        Attack::InvalidRecords,
        Attack::CostlyDocuments,
        Attack::WrongPasswords,
        Attack::LargeReaders,
        Attack::StalledSamples,
        Attack::StreamMakers,
        Attack::DeafMonitors,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Attack::UnreadReplies => "replies that are not read",
            Attack::SilentSockets => "silent sockets",
            Attack::DrippingHeads => "heads that drip",
            Attack::InvalidRecords => "bombs of invalid records",
            Attack::CostlyDocuments => "documents that are dear to store",
            Attack::WrongPasswords => "wrong passwords",
            Attack::LargeReaders => "readers of large documents",
            Attack::StalledSamples => "samples that stall",
            Attack::StreamMakers => "makers of streams",
            Attack::DeafMonitors => "monitors that do not read",
        }
    }

    fn workers(self) -> usize {
        match self {
            Attack::UnreadReplies => 40,
            Attack::SilentSockets => 400,
            Attack::DrippingHeads => 100,
            Attack::InvalidRecords | Attack::StreamMakers => 1,
            Attack::CostlyDocuments => 2,
            Attack::WrongPasswords => 30,
            Attack::LargeReaders => 16,
            Attack::StalledSamples => 20,
            Attack::DeafMonitors => 10,
        }
    }
}

/// What an attack is aimed at, and what it needs.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    http: reqwest::Client,
    token: Arc<str>,
    /// Whose password is guessed.
    victim: Arc<str>,
    bodies: Arc<Bodies>,
    attempts: Arc<AtomicU64>,
}

impl Target {
    /// Makes what attackers need: a user, a token, streams. `victim` is the user whose password they guess.
    pub async fn prepare(gateway: &Gateway, victim: &str) -> Target {
        add_user(gateway, "mallory", "member").await;
        let scopes = ["ingest", "read", "monitor", "streams:write"];
        let token = Token::of(gateway, "mallory", &scopes, json!({})).await;
        let columns = json!([{"name": "n", "type": "integer"}]);
        gateway.create_stream(&json!({"name": STRICT, "columns": columns})).await;
        for name in [DOCUMENTS, LARGE] {
            gateway.create_stream(&json!({"name": name})).await;
        }
        for number in 0..LARGE_DOCUMENTS {
            let text = format!("{number} ").repeat(LARGE_BYTES / 3);
            gateway.records(LARGE).json(&json!({"text": text})).send().await.expect(202);
        }
        let http = reqwest::Client::builder().no_proxy().local_address(source()).build();
        Target {
            address: gateway.address().parse().expect("an address"),
            http: http.expect("a client"),
            token: token.text.into(),
            victim: victim.into(),
            bodies: Arc::new(Bodies::make().await),
            attempts: Arc::default(),
        }
    }

    /// How many attempts there were so far, of any kind.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// One attempt, to its end; what it is answered does not matter.
    async fn attempt(&self, attack: Attack) {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        match attack {
            Attack::UnreadReplies => sockets::unread_replies(self).await,
            Attack::SilentSockets => sockets::silent(self).await,
            Attack::DrippingHeads => sockets::dripping_head(self).await,
            Attack::StalledSamples => sockets::stalled_sample(self).await,
            Attack::DeafMonitors => sockets::deaf_monitor(self).await,
            Attack::InvalidRecords => senders::invalid_records(self).await,
            Attack::CostlyDocuments => senders::costly_document(self).await,
            Attack::StreamMakers => senders::new_stream(self, number).await,
            Attack::WrongPasswords => senders::wrong_password(self, number).await,
            Attack::LargeReaders => senders::large_documents(self).await,
        }
    }
}

/// Attackers at work; they end when this is dropped. They have a thread of their own: the honest people of this process do not
/// wait for what attackers do in it.
#[derive(Debug)]
pub struct Attackers(Option<Runtime>);

impl Attackers {
    pub fn start(target: &Target, attacks: &[Attack]) -> Attackers {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("attackers").enable_all().build();
        let runtime = runtime.expect("a thread can be started");
        for &attack in attacks {
            for _ in 0..attack.workers() {
                let target = target.clone();
                runtime.spawn(async move {
                    let mut ticks = tokio::time::interval(PACE);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    loop {
                        ticks.tick().await;
                        target.attempt(attack).await;
                    }
                });
            }
        }
        Attackers(Some(runtime))
    }

    /// Ends them, with all their connections.
    pub async fn end(mut self) {
        let runtime = self.0.take().expect("it ends once");
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(END_WAIT_MAX));
        ended.await.expect("ending them does not panic");
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Only Linux has all of 127.0.0.0/8 from the start.
fn source() -> Option<IpAddr> {
    cfg!(target_os = "linux").then_some(ADDRESS)
}
