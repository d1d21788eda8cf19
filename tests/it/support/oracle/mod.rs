//! The oracle: a book of everything that was sent and what the sender was told, to hold the tables against.
//!
//! Every record that was acknowledged is an obligation: it is in its table exactly once, with the values that were
//! sent and the id that was told; an invalid one is in the quarantine exactly once, as it was sent. What was refused is
//! nowhere. What became of a record whose reply never came is unknown: it may be there once. Of equal keys the right
//! one stayed.

mod load;
mod record;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

pub use load::Load;
use load::{SENDERS, VERSIONS_PER_SENDER};
use record::Record;
pub use record::Target;
pub use verdict::Verdict;

use super::gateway::Gateway;
use super::seed::Seed;

/// What the sender of a record knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// Nothing was taken.
    Refused,
    /// The connection broke before the reply.
    Unknown,
}

/// A record that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    record: Record,
    outcome: Outcome,
    /// As the reply told it.
    id: Option<Uuid>,
}

/// How many records were sent so far, by what was told of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// The book.
#[derive(Debug)]
pub struct Oracle {
    seed: Seed,
    /// What was sent in this season, by version.
    entries: BTreeMap<i64, Entry>,
    counts: Counts,
    loads: i64,
    seasons: i64,
    /// Versions below it belong to seasons that are over: their rows were verified and removed.
    season_begin: i64,
}

impl Oracle {
    /// Makes the streams.
    pub async fn prepare(gateway: &Gateway) -> Oracle {
        Oracle::seeded(gateway, Seed::draw()).await
    }

    /// The same, with a seed that was drawn before.
    pub async fn seeded(gateway: &Gateway, seed: Seed) -> Oracle {
        for target in Target::ALL {
            gateway.create_stream(&target.definition()).await;
        }
        Oracle {
            seed,
            entries: BTreeMap::new(),
            counts: Counts::default(),
            loads: 0,
            seasons: 0,
            season_begin: 0,
        }
    }

    pub fn streams() -> [&'static str; 5] {
        Target::ALL.map(Target::stream)
    }

    /// Starts senders.
    pub fn load(&mut self, gateway: &Gateway) -> Load {
        self.loads += 1;
        Load::start(gateway, self.seed, self.loads - 1, self.seasons)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many valid records of a stream were acknowledged in this season.
    pub fn accepted(&self, stream: &str) -> u64 {
        self.of_stream(stream)
            .filter(|entry| entry.record.valid && entry.outcome == Outcome::Acknowledged)
            .count() as u64
    }

    /// Holds what a monitor saw of a stream in this season, as versions in their order, against the book: all that was
    /// accepted, once, and each sender's records in the order in which they were sent.
    pub fn verify_arrivals(&self, stream: &str, versions: &[i64]) {
        let mut seen = BTreeSet::new();
        let mut last_of_sender = BTreeMap::new();
        for version in versions {
            assert!(seen.insert(*version), "{stream}: version {version} was seen twice");
            let entry = self.entries.get(version);
            let entry = entry.unwrap_or_else(|| panic!("{stream}: version {version} was not sent"));
            assert!(
                entry.record.valid && entry.outcome != Outcome::Refused,
                "{stream}: version {version} was refused"
            );
            let before = last_of_sender.insert(version / VERSIONS_PER_SENDER, *version);
            assert!(before < Some(*version), "{stream}: {version} came after {before:?}");
        }
        for entry in self.of_stream(stream) {
            let owed = entry.record.valid && entry.outcome == Outcome::Acknowledged;
            let version = entry.record.version;
            assert!(!owed || seen.contains(&version), "{stream}: version {version} was not seen");
        }
    }

    /// Holds the tables against the book; everything must be committed.
    pub async fn verdict(&self, gateway: &Gateway) -> Verdict {
        Verdict::of(self, gateway).await
    }

    /// Fails unless the tables are as the book says; everything must be committed.
    #[track_caller]
    pub fn verify(&self, gateway: &Gateway) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let verdict = self.verdict(gateway).await;
            assert!(verdict.is_clean(), "{caller}, seed {}: {verdict}", self.seed);
        }
    }

    /// Ends the season: empties the tables after they were verified. A row of an earlier season that shows up later
    /// was written twice.
    pub async fn new_season(&mut self, gateway: &Gateway) {
        let tables: Vec<String> =
            Oracle::streams().iter().map(|stream| format!("streams.{stream}")).collect();
        gateway
            .execute(&format!("truncate {}; truncate tidegate.quarantine", tables.join(", ")))
            .await;
        self.entries.clear();
        self.seasons += 1;
        self.season_begin = self.loads * SENDERS * VERSIONS_PER_SENDER;
    }

    fn note(&mut self, sent: Vec<Entry>) {
        for entry in sent {
            let count = match entry.outcome {
                Outcome::Acknowledged => &mut self.counts.acknowledged,
                Outcome::Refused => &mut self.counts.refused,
                Outcome::Unknown => &mut self.counts.unknown,
            };
            *count += 1;
            self.entries.insert(entry.record.version, entry);
        }
    }

    fn of_stream(&self, stream: &str) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.record.target.stream() == stream)
    }
}
