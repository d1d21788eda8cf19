//! Senders that keep a gateway busy with every kind of stream, body and reply, and note what each was told.
//!
//! A sender waits for each reply before it sends on, and has keys of its own: so the order of the records of a key is
//! known. It ends when its gateway does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::record::{Form, Record, Target};
use super::{Entry, Oracle, Outcome};
use crate::support::client::{Client, Reply};
use crate::support::compress::{Compression, compressed};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::seed::Seed;

/// Senders that send at the same time.
pub(super) const SENDERS: i64 = 4;
/// Keys that each of them uses over and over.
pub(super) const KEYS_PER_SENDER: i64 = 20;
/// Versions that a sender has for one load.
pub(super) const VERSIONS_PER_SENDER: i64 = 1_000_000;
/// What a sender waits that was told 503; it does not heed the advice, which would slow the tests down.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// One in so many replies that say "committed" is held against the table at once.
const LOOK_ONE_IN: u32 = 10;
/// Records in one body at most.
const BODY_RECORDS_MAX: usize = 80;

/// Senders at work.
#[derive(Debug)]
pub struct Load {
    senders: JoinSet<Vec<Entry>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Refused,
}

/// How many requests were refused with 503, by code.
type Refused = Arc<Mutex<BTreeMap<String, u64>>>;

struct Sender {
    client: Client,
    pool: PgPool,
    seed: Seed,
    numbers: StdRng,
    first_key: i64,
    next_version: i64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Refused,
}

/// A request, but for its records.
struct Manner {
    target: Target,
    form: Form,
    commit: bool,
    reject: bool,
    ids: bool,
    compression: Option<Compression>,
}

/// What a reply says of the records of a request.
struct Told {
    /// Of the valid ones.
    valid: Outcome,
    /// Of the others.
    invalid: Outcome,
    /// Of the valid ones in their order, where the reply has them.
    ids: Vec<Uuid>,
    /// The valid ones are in the table, it said.
    committed: bool,
}

impl Load {
    /// Starts to send; the number of a load is never used twice.
    pub(super) fn start(gateway: &Gateway, seed: Seed, number: i64, season: i64) -> Load {
        let mut load = Load {
            senders: JoinSet::new(),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            refused: Refused::default(),
        };
        for sender in 0..SENDERS {
            let turn = number * SENDERS + sender;
            let sender = Sender {
                client: Client::clone(gateway),
                pool: gateway.pool().clone(),
                seed,
                numbers: seed.numbers(turn.unsigned_abs()),
                first_key: (season * SENDERS + sender) * KEYS_PER_SENDER,
                next_version: turn * VERSIONS_PER_SENDER,
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

    /// Lets the senders finish what they are at, or notice that the gateway is gone, and notes what they sent.
    pub async fn finish(self, oracle: &mut Oracle) {
        self.stop.store(true, Ordering::SeqCst);
        for sent in self.senders.join_all().await {
            oracle.note(sent);
        }
    }
}

impl Sender {
    async fn run(mut self) -> Vec<Entry> {
        let mut book = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let manner = self.manner();
            let records = self.records(&manner);
            let reply = self.send(&manner, &records).await;
            let goes_on = matches!(&reply, Ok(reply) if reply.body["code"] != "shutting_down");
            if let Ok(reply) = &reply
                && reply.status == 503
            {
                let code = reply.body["code"].as_str().unwrap_or_default().to_owned();
                *self.refused.lock().expect("no sender panicked").entry(code).or_default() += 1;
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            let told = match reply {
                Ok(reply) => told(&reply, &records, &manner),
                Err(error) if error.is_connect() => Told::all(Outcome::Refused),
                Err(_) => Told::all(Outcome::Unknown),
            };
            if told.committed && self.numbers.random_ratio(1, LOOK_ONE_IN) {
                self.look(&records).await;
            }
            self.note(&told, &records, &mut book);
            if !goes_on {
                break;
            }
        }
        book
    }

    fn manner(&mut self) -> Manner {
        let numbers = &mut self.numbers;
        let compression = numbers.random_range(0..2 * Compression::ALL.len());
        Manner {
            target: Target::ALL[numbers.random_range(0..Target::ALL.len())],
            form: Form::ALL[numbers.random_range(0..Form::ALL.len())],
            commit: numbers.random_ratio(1, 3),
            reject: numbers.random_ratio(1, 8),
            ids: numbers.random_ratio(1, 4),
            compression: Compression::ALL.get(compression).copied(),
        }
    }

    fn records(&mut self, manner: &Manner) -> Vec<Record> {
        let count = match manner.form {
            Form::Single => 1,
            _ => self.numbers.random_range(1..=BODY_RECORDS_MAX),
        };
        let with_invalid = self.numbers.random_ratio(1, 4);
        (0..count)
            .map(|_| {
                let version = self.next_version;
                self.next_version += 1;
                let key = self.first_key + self.numbers.random_range(0..KEYS_PER_SENDER);
                let valid = !(with_invalid && self.numbers.random_ratio(1, 5));
                Record { target: manner.target, form: manner.form, key, version, valid }
            })
            .collect()
    }

    async fn send(&self, manner: &Manner, records: &[Record]) -> Result<Reply, reqwest::Error> {
        let mut body = manner.form.body(self.seed, records).into_bytes();
        let mut request = self.client.records(manner.target.stream());
        if let Some(compression) = manner.compression {
            body = compressed(compression, &body).await;
            request = request.encoding(compression.name());
        }
        request = request.body(manner.form.content_type(), body);
        for (wanted, name, value) in [
            (manner.commit, "ack", "commit"),
            (manner.reject, "on_error", "reject"),
            (manner.ids, "return", "ids"),
        ] {
            if wanted {
                request = request.query(name, value);
            }
        }
        request.try_send().await
    }

    /// What is said to be committed is in the table now, not soon. A PostgreSQL that cannot be asked is no failure.
    async fn look(&self, records: &[Record]) {
        let Some(record) = records.iter().rev().find(|record| record.valid) else { return };
        let sql = AssertSqlSafe(record.target.existence_query(record.key, record.version));
        let there: Result<bool, sqlx::Error> = sqlx::query_scalar(sql).fetch_one(&self.pool).await;
        assert!(there.unwrap_or(true), "it was said to be in the table: {record:?}");
    }

    fn note(&self, told: &Told, records: &[Record], book: &mut Vec<Entry>) {
        let mut ids = told.ids.iter();
        for record in records {
            let (outcome, id) =
                if record.valid { (told.valid, ids.next().copied()) } else { (told.invalid, None) };
            if outcome == Outcome::Acknowledged {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            book.push(Entry { record: *record, outcome, id });
        }
    }
}

impl Told {
    fn all(outcome: Outcome) -> Told {
        Told { valid: outcome, invalid: outcome, ids: Vec::new(), committed: false }
    }
}

/// Reads a reply and holds it against the request: it must count every record.
fn told(reply: &Reply, records: &[Record], manner: &Manner) -> Told {
    let body = &reply.body;
    let number = |name: &str| body[name].as_u64().unwrap_or_default();
    let valid = records.iter().filter(|record| record.valid).count() as u64;
    let invalid = records.len() as u64 - valid;
    let nothing_taken = || assert_eq!(number("accepted") + number("quarantined"), 0, "{body}");
    let taken = || {
        assert_eq!(number("quarantined") + number("not_kept"), invalid, "{body}");
        assert!(!(manner.reject && invalid > 0), "none should have been taken: {body}");
        // Which of them are kept, where not all are, is not told.
        let outcome = if number("not_kept") > 0 { Outcome::Unknown } else { Outcome::Acknowledged };
        Told { ids: ids(body), invalid: outcome, ..Told::all(Outcome::Acknowledged) }
    };
    match (reply.status, body["code"].as_str().unwrap_or_default()) {
        (201, _) => {
            assert_eq!(number("committed") + number("duplicates"), valid, "{body}");
            assert!(manner.commit, "{body}");
            Told { committed: true, ..taken() }
        }
        // With `ack=commit` too, while PostgreSQL is away for long.
        (202, _) => {
            assert_eq!(number("accepted"), valid, "{body}");
            taken()
        }
        (422, "invalid_record") => {
            assert!(valid == 0 && manner.form == Form::Single, "{body}");
            taken()
        }
        // All of them are invalid, and the quarantine keeps none.
        (422, "not_kept") => {
            assert!(valid == 0 && number("not_kept") == invalid, "{body}");
            nothing_taken();
            Told::all(Outcome::Refused)
        }
        (422, "rejected") => {
            assert!(manner.reject && invalid > 0, "{body}");
            nothing_taken();
            Told::all(Outcome::Refused)
        }
        // Of a group that could neither be written nor taken back.
        (500 | 503, _) if body["outcome"] == "unknown" => Told::all(Outcome::Unknown),
        (503, "shutting_down" | "overloaded" | "journal_full" | "journal_failed") => {
            nothing_taken();
            Told::all(Outcome::Refused)
        }
        (status, _) => panic!("{status}: {body}"),
    }
}

fn ids(body: &Value) -> Vec<Uuid> {
    let listed = body["ids"].as_array().into_iter().flatten();
    let all: Vec<Uuid> = listed.chain(body.get("id")).map(id).collect();
    // A single record has its id twice where the ids are asked for.
    if body.get("id").is_some() { all.into_iter().take(1).collect() } else { all }
}

fn id(value: &Value) -> Uuid {
    value.as_str().expect("an id is text").parse().expect("an id is a UUID")
}
