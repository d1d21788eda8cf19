//! The tables held against the book, row by row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use uuid::Uuid;

use super::record::Target;
use super::{Entry, Oracle, Outcome};
use crate::support::gateway::Gateway;

/// How many cases of each kind are told.
const CASES_SHOWN: usize = 10;

/// What is not as it should be; one line a case.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There more than once.
    pub doubled: Vec<String>,
    /// There with other values, another id, in spite of having been refused, or instead of the one that should be.
    pub wrong: Vec<String>,
}

/// A row of a stream's table.
struct Row {
    key: i64,
    version: i64,
    id: Uuid,
    values: Vec<Option<String>>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }

    pub(super) async fn of(oracle: &Oracle, gateway: &Gateway) -> Verdict {
        let mut verdict = Verdict::default();
        for target in Target::ALL {
            let rows: Vec<Vec<Option<String>>> = gateway.column(target.query()).await;
            let rows: Vec<Row> = rows.into_iter().map(Row::read).collect();
            let rows = verdict.look_at(oracle, target, rows);
            match target {
                Target::Documents | Target::Typed | Target::Retained => {
                    verdict.hold_all(oracle, target, &rows);
                }
                Target::Ignored => verdict.hold_keys(oracle, target, &rows, the_first_stays),
                Target::Replaced => verdict.hold_keys(oracle, target, &rows, the_last_stays),
            }
        }
        verdict.hold_quarantine(oracle, gateway).await;
        verdict
    }

    /// Compares each row with the record of its version; those that are there rightly, by version.
    fn look_at(&mut self, oracle: &Oracle, target: Target, rows: Vec<Row>) -> BTreeMap<i64, Row> {
        let mut found = BTreeMap::new();
        for row in rows {
            let Row { key, version, id, .. } = row;
            let case = |what: &str| format!("{target:?}: version {version}, key {key}: {what}");
            let entry = oracle.entries.get(&version).filter(|entry| entry.record.target == target);
            match entry {
                None if version < oracle.season_begin => {
                    self.doubled.push(case("is of an earlier season"));
                }
                None => self.wrong.push(case("was never sent")),
                Some(entry) if entry.outcome == Outcome::Refused || !entry.record.valid => {
                    self.wrong.push(case("was refused"));
                }
                Some(entry) if entry.record.key != key => self.wrong.push(case("has another key")),
                Some(entry) if entry.id.is_some_and(|told| told != id) => {
                    self.wrong.push(case("has another id than the reply said"));
                }
                Some(entry) if !entry.record.matches(oracle.seed, &row.values) => {
                    self.wrong.push(case(&format!("has other values: {:?}", row.values)));
                }
                Some(_) => {}
            }
            if found.insert(version, row).is_some() {
                self.doubled.push(case("is there twice"));
            }
        }
        found
    }

    fn hold_all(&mut self, oracle: &Oracle, target: Target, rows: &BTreeMap<i64, Row>) {
        for entry in obligations(oracle, target) {
            let (version, key) = (entry.record.version, entry.record.key);
            if entry.outcome == Outcome::Acknowledged && !rows.contains_key(&version) {
                self.lost.push(format!("{target:?}: version {version}, key {key}"));
            }
        }
    }

    /// `allowed` gives the versions of one key that may be the row, of all that were sent in this order.
    fn hold_keys(
        &mut self,
        oracle: &Oracle,
        target: Target,
        rows: &BTreeMap<i64, Row>,
        allowed: fn(&[&Entry]) -> BTreeSet<i64>,
    ) {
        let mut by_key: BTreeMap<i64, Vec<&Entry>> = BTreeMap::new();
        for entry in obligations(oracle, target) {
            by_key.entry(entry.record.key).or_default().push(entry);
        }
        let mut there: BTreeMap<i64, i64> = BTreeMap::new();
        for row in rows.values() {
            if there.insert(row.key, row.version).is_some() {
                self.doubled.push(format!("{target:?}: key {} has two rows", row.key));
            }
        }
        for (key, entries) in &by_key {
            let allowed = allowed(entries);
            match there.get(key) {
                Some(version) if allowed.contains(version) => {}
                Some(version) => self
                    .wrong
                    .push(format!("{target:?}: key {key} has {version}, not of {allowed:?}")),
                None if entries.iter().all(|entry| entry.outcome == Outcome::Unknown) => {}
                None => self.lost.push(format!("{target:?}: key {key}")),
            }
        }
    }

    /// Each record that was kept as invalid is there once, as it was sent; and no other that was sent.
    async fn hold_quarantine(&mut self, oracle: &Oracle, gateway: &Gateway) {
        let sql = "select raw from tidegate.quarantine where source = 'http'";
        let rows: Vec<Vec<u8>> = gateway.column(sql).await;
        let mut copies: HashMap<Vec<u8>, u64> = HashMap::new();
        for raw in rows {
            *copies.entry(raw).or_default() += 1;
        }
        for entry in oracle.entries.values().filter(|entry| !entry.record.valid) {
            let raw = entry.record.text(oracle.seed);
            let found = copies.remove(raw.as_bytes()).unwrap_or_default();
            match (entry.outcome, found) {
                (Outcome::Acknowledged, 1) | (Outcome::Unknown, 0 | 1) | (Outcome::Refused, 0) => {}
                (Outcome::Acknowledged, 0) => self.lost.push(format!("quarantine: {raw:.200}")),
                (Outcome::Refused, _) => {
                    self.wrong.push(format!("quarantine: it was refused: {raw:.200}"));
                }
                (_, copies) => self.doubled.push(format!("quarantine: {copies} of {raw:.200}")),
            }
        }
        for raw in copies.keys() {
            let raw = String::from_utf8_lossy(raw);
            self.wrong.push(format!("quarantine: it was never sent: {raw:.200}"));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, cases) in
            [("lost", &self.lost), ("doubled", &self.doubled), ("wrong", &self.wrong)]
        {
            writeln!(f, "{name}: {}", cases.len())?;
            for case in cases.iter().take(CASES_SHOWN) {
                writeln!(f, "  {case}")?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn read(mut values: Vec<Option<String>>) -> Row {
        let rest = values.split_off(3);
        let number = |index: usize| {
            values[index].as_deref().and_then(|text| text.parse().ok()).unwrap_or(-1)
        };
        let id = values[2].as_deref().and_then(|text| text.parse().ok());
        Row {
            key: number(0),
            version: number(1),
            id: id.expect("the primary key is never null"),
            values: rest,
        }
    }
}

/// What may be in a stream's table, in the order in which it was sent.
fn obligations(oracle: &Oracle, target: Target) -> impl Iterator<Item = &Entry> {
    oracle
        .of_stream(target.stream())
        .filter(|entry| entry.record.valid && entry.outcome != Outcome::Refused)
}

/// The first that was acknowledged, or one before it whose outcome is unknown.
fn the_first_stays(entries: &[&Entry]) -> BTreeSet<i64> {
    let acknowledged = entries.iter().position(|entry| entry.outcome == Outcome::Acknowledged);
    let end = acknowledged.map_or(entries.len(), |first| first + 1);
    entries[..end].iter().map(|entry| entry.record.version).collect()
}

/// The last that was acknowledged, or one after it whose outcome is unknown.
fn the_last_stays(entries: &[&Entry]) -> BTreeSet<i64> {
    let acknowledged = entries.iter().rposition(|entry| entry.outcome == Outcome::Acknowledged);
    entries[acknowledged.unwrap_or(0)..].iter().map(|entry| entry.record.version).collect()
}
