//! Senders that keep a gateway busy with every kind of stream, and a book of what each was told.
//!
//! Every record has a version that is never used twice and grows with each sender. So after whatever happened, the
//! tables can be held against the book: what was acknowledged is there exactly once, what was never sent is not, and
//! of equal keys the right one stayed. Senders wait for each reply before they send on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::Client;
use super::eventually;
use super::gateway::Gateway;

/// Senders that send at the same time.
const SENDERS: i64 = 4;
/// Keys that each of them uses over and over.
const KEYS_PER_SENDER: i64 = 20;
/// What a refused sender waits; it does not heed the advice, which would slow the tests down.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Versions that a sender has for one load.
const VERSIONS_PER_SENDER: i64 = 1_000_000;

/// The streams that are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Documents,
    Typed,
    /// Documents with a key, of which the first stays.
    Ignored,
    /// Typed records with a key, of which the last stays.
    Replaced,
}

/// What the sender of a record knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// The connection broke before the reply, or the reply said so.
    Unknown,
    /// Nothing of it may ever be there.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    target: Target,
    key: i64,
    version: i64,
    fate: Fate,
}

/// Everything that was sent, in each sender's order.
#[derive(Debug, Default)]
pub struct Traffic(Vec<Sent>);

/// Senders at work.
#[derive(Debug)]
pub struct Load {
    senders: JoinSet<Vec<Sent>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Refused,
}

/// How many requests were refused, by code.
type Refused = Arc<Mutex<BTreeMap<String, u64>>>;

struct Sender {
    client: Client,
    number: i64,
    next_version: i64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Refused,
}

impl Target {
    const ALL: [Target; 4] = [Target::Documents, Target::Typed, Target::Ignored, Target::Replaced];

    fn stream(self) -> &'static str {
        match self {
            Target::Documents => "documents",
            Target::Typed => "typed",
            Target::Ignored => "ignored",
            Target::Replaced => "replaced",
        }
    }

    fn definition(self) -> Value {
        let columns =
            json!([{"name": "key", "type": "bigint"}, {"name": "version", "type": "bigint"}]);
        match self {
            Target::Documents => json!({"name": "documents"}),
            Target::Typed => json!({"name": "typed", "columns": columns}),
            Target::Ignored => {
                json!({"name": "ignored", "key": ["/key"], "on_duplicate": "ignore"})
            }
            Target::Replaced => {
                json!({"name": "replaced", "columns": columns, "key": ["key"], "on_duplicate": "replace"})
            }
        }
    }

    /// Selects key and version of every row.
    fn query(self) -> String {
        let columns = match self {
            Target::Documents | Target::Ignored => {
                "(payload->>'key')::bigint, (payload->>'version')::bigint"
            }
            Target::Typed | Target::Replaced => "key, version",
        };
        format!("select array[{columns}] from streams.{}", self.stream())
    }
}

impl Load {
    /// Makes the streams.
    pub async fn prepare(gateway: &Gateway) {
        for target in Target::ALL {
            gateway.create_stream(&target.definition()).await;
        }
    }

    /// Starts to send; `round` must grow from load to load.
    pub fn start(gateway: &Gateway, round: i64) -> Load {
        let mut load = Load {
            senders: JoinSet::new(),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            refused: Arc::default(),
        };
        for number in 0..SENDERS {
            let sender = Sender {
                client: Client::clone(gateway),
                number,
                next_version: (round * SENDERS + number) * VERSIONS_PER_SENDER,
                stop: Arc::clone(&load.stop),
                acknowledged: Arc::clone(&load.acknowledged),
                refused: Arc::clone(&load.refused),
            };
            load.senders.spawn(sender.run());
        }
        load
    }

    /// Waits until this many more records were acknowledged.
    pub async fn acknowledges(&self, records: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + records;
        eventually(&format!("{records} more records are acknowledged"), async || {
            (self.acknowledged.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
    }

    /// Waits until this many requests were refused with this code, of all since the start.
    pub async fn is_refused(&self, requests: u64, code: &str) {
        eventually(&format!("{requests} requests are refused with {code}"), async || {
            let refused = self.refused.lock().expect("no sender panicked").get(code).copied();
            (refused.unwrap_or_default() >= requests).then_some(())
        })
        .await;
    }

    /// Lets the senders finish what they are at, or notice that the gateway is gone, and adds what they sent.
    pub async fn finish(self, traffic: &mut Traffic) {
        self.stop.store(true, Ordering::SeqCst);
        for sent in self.senders.join_all().await {
            traffic.0.extend(sent);
        }
    }
}

impl Sender {
    async fn run(mut self) -> Vec<Sent> {
        let mut book = Vec::new();
        let mut turn: i64 = 0;
        while !self.stop.load(Ordering::SeqCst) {
            turn += 1;
            let target =
                Target::ALL[usize::try_from((turn + self.number) % 4).expect("not negative")];
            let ack = if turn % 3 == 0 { "commit" } else { "journal" };
            let records: Vec<Sent> = (0..=turn % 11 * 7).map(|_| self.next(target)).collect();
            match self.send(target, ack, &records).await {
                Some(Fate::Acknowledged) => book.extend(records),
                Some(Fate::Refused) => tokio::time::sleep(REFUSED_PAUSE).await,
                Some(Fate::Unknown) => {
                    book.extend(
                        records.into_iter().map(|sent| Sent { fate: Fate::Unknown, ..sent }),
                    );
                    return book;
                }
                None => return book,
            }
        }
        book
    }

    fn next(&mut self, target: Target) -> Sent {
        let version = self.next_version;
        self.next_version += 1;
        let key = self.number * KEYS_PER_SENDER + version % KEYS_PER_SENDER;
        Sent { target, key, version, fate: Fate::Acknowledged }
    }

    /// `None`: the gateway is shutting down and took nothing.
    async fn send(&self, target: Target, ack: &str, records: &[Sent]) -> Option<Fate> {
        let body: Vec<Value> =
            records.iter().map(|sent| json!({"key": sent.key, "version": sent.version})).collect();
        let request =
            self.client.records(target.stream()).json(&Value::Array(body)).query("ack", ack);
        let Ok(reply) = request.try_send().await else {
            return Some(Fate::Unknown);
        };
        let expected = records.len() as u64;
        let number = |name: &str| reply.body[name].as_u64().unwrap_or_default();
        match reply.status {
            201 => {
                assert_eq!(number("committed") + number("duplicates"), expected, "{}", reply.body);
            }
            // With `ack=commit` too, while PostgreSQL is away for long.
            202 => assert_eq!(number("accepted"), expected, "{}", reply.body),
            503 if reply.body["code"] == "shutting_down" && number("accepted") == 0 => return None,
            503 if reply.body["outcome"] == "unknown" => return Some(Fate::Unknown),
            503 if number("accepted") == 0 => {
                let code = reply.body["code"].as_str().expect("a refusal has a code").to_owned();
                *self.refused.lock().expect("no sender panicked").entry(code).or_default() += 1;
                return Some(Fate::Refused);
            }
            status => panic!("{status}: {}", reply.body),
        }
        self.acknowledged.fetch_add(expected, Ordering::SeqCst);
        Some(Fate::Acknowledged)
    }
}

impl Traffic {
    /// Holds the tables against the book.
    pub async fn verify(&self, gateway: &Gateway) {
        for target in Target::ALL {
            let rows: Vec<Vec<i64>> = gateway.column(target.query()).await;
            let rows = rows.into_iter().map(|row| (row[0], row[1]));
            let sent: Vec<Sent> =
                self.0.iter().filter(|sent| sent.target == target).copied().collect();
            assert!(!sent.is_empty(), "{target:?} was sent to");
            match target {
                Target::Documents | Target::Typed => verify_all(target, &sent, rows.collect()),
                Target::Ignored => verify_keys(target, &sent, rows.collect(), the_first_stays),
                Target::Replaced => verify_keys(target, &sent, rows.collect(), the_last_stays),
            }
        }
    }
}

fn verify_all(target: Target, sent: &[Sent], rows: Vec<(i64, i64)>) {
    let mut missing: BTreeMap<i64, Sent> = sent.iter().map(|sent| (sent.version, *sent)).collect();
    let mut seen = BTreeSet::new();
    for (key, version) in rows {
        assert!(seen.insert(version), "{target:?}: version {version} is there twice");
        let sent = missing.remove(&version);
        assert_eq!(
            sent.map(|sent| sent.key),
            Some(key),
            "{target:?}: nobody sent version {version}"
        );
    }
    missing.retain(|_, sent| sent.fate == Fate::Acknowledged);
    assert!(
        missing.is_empty(),
        "{target:?}: {} acknowledged records are lost: {missing:?}",
        missing.len()
    );
}

/// `allowed` gives the versions of one key that may be the row, of all that were sent in this order.
fn verify_keys(
    target: Target,
    sent: &[Sent],
    rows: Vec<(i64, i64)>,
    allowed: fn(&[Sent]) -> BTreeSet<i64>,
) {
    let mut by_key: BTreeMap<i64, Vec<Sent>> = BTreeMap::new();
    for record in sent {
        by_key.entry(record.key).or_default().push(*record);
    }
    let count = rows.len();
    let rows: BTreeMap<i64, i64> = rows.into_iter().collect();
    assert_eq!(rows.len(), count, "{target:?}: every key is there once");
    for (key, records) in &by_key {
        let allowed = allowed(records);
        match rows.get(key) {
            Some(version) => {
                assert!(
                    allowed.contains(version),
                    "{target:?}: key {key} has {version}, not of {allowed:?}"
                );
            }
            None => assert!(
                records.iter().all(|sent| sent.fate == Fate::Unknown),
                "{target:?}: key {key} is lost"
            ),
        }
    }
    assert!(
        rows.keys().all(|key| by_key.contains_key(key)),
        "{target:?}: there is a key that nobody sent"
    );
}

/// The first that was acknowledged, or one before it whose fate is unknown.
fn the_first_stays(records: &[Sent]) -> BTreeSet<i64> {
    let acknowledged = records.iter().position(|sent| sent.fate == Fate::Acknowledged);
    let end = acknowledged.map_or(records.len(), |first| first + 1);
    records[..end].iter().map(|sent| sent.version).collect()
}

/// The last that was acknowledged, or one after it whose fate is unknown.
fn the_last_stays(records: &[Sent]) -> BTreeSet<i64> {
    let acknowledged = records.iter().rposition(|sent| sent.fate == Fate::Acknowledged);
    records[acknowledged.unwrap_or(0)..].iter().map(|sent| sent.version).collect()
}
