//! What the jobs brought, held against what the API showed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::job::Job;
use super::shelf::{Edition, Shelf};
use crate::support::Verdict;

/// What is in the database of one job.
pub struct Brought {
    /// The stream's rows, as items.
    pub rows: Vec<Value>,
    /// The stream's rows of the quarantine, as items.
    pub refused: Vec<Value>,
    /// What the season's runs counted, if all of them are kept.
    pub counted: Option<Counted>,
}

/// Sums over runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub new: i64,
    pub changed: i64,
    pub refused: i64,
    pub parked: i64,
}

/// Adds to the verdict what is not as it should be of one job.
pub fn judge(verdict: &mut Verdict, job: Job, shelf: &Shelf, brought: &Brought) {
    let mut judge = Judge { verdict, job, shelf };
    let there = judge.look_at(&brought.rows, true);
    let refused = judge.look_at(&brought.refused, false);
    if job == Job::Replaced {
        judge.hold_one_row_a_key(&there);
    }
    judge.hold_the_latest(&there, &refused);
    judge.hold_whole_answers(&there);
    if let Some(counted) = brought.counted {
        judge.hold_the_counts(counted, there.len(), refused.len());
    }
}

struct Judge<'a> {
    verdict: &'a mut Verdict,
    job: Job,
    shelf: &'a Shelf,
}

impl Judge<'_> {
    /// Compares each row with what was shown; returns those that are there.
    fn look_at(&mut self, rows: &[Value], are_valid: bool) -> BTreeSet<Edition> {
        let place = if are_valid { "the stream" } else { "the quarantine" };
        let mut found = BTreeSet::new();
        for row in rows {
            let number = |name: &str| row[name].as_i64().unwrap_or(i64::MAX);
            let edition = Edition { key: number("key"), version: number("version") };
            match self.shelf.shown(edition) {
                None if self.shelf.is_over(edition.key) => {
                    let case = self.case(edition, "is of an earlier season");
                    self.verdict.doubled.push(case);
                }
                None => self.wrong(edition, "was never shown"),
                Some(item) if item.json != *row => {
                    self.wrong(edition, &format!("was shown with other values: {row}"));
                }
                Some(item) if item.is_valid != are_valid => {
                    self.wrong(edition, &format!("is in {place}"));
                }
                Some(_) => {}
            }
            if !found.insert(edition) {
                let case = self.case(edition, &format!("is in {place} twice"));
                self.verdict.doubled.push(case);
            }
        }
        found
    }

    fn hold_one_row_a_key(&mut self, there: &BTreeSet<Edition>) {
        let mut by_key = BTreeMap::new();
        for edition in there {
            if by_key.insert(edition.key, edition.version).is_some() {
                let case = self.case(*edition, "is beside another version");
                self.verdict.doubled.push(case);
            }
        }
    }

    /// What was the latest when everything had become quiet is there.
    fn hold_the_latest(&mut self, there: &BTreeSet<Edition>, refused: &BTreeSet<Edition>) {
        for item in self.shelf.items() {
            let place = if item.is_valid { there } else { refused };
            if !place.contains(&item.edition) {
                self.lost(item.edition, "the latest, is not there");
            }
        }
    }

    /// Of an answer that was taken everything is there.
    fn hold_whole_answers(&mut self, there: &BTreeSet<Edition>) {
        let newest: BTreeMap<i64, i64> =
            there.iter().map(|edition| (edition.key, edition.version)).collect();
        for receipt in there.iter().map(|edition| edition.key).filter(|key| *key < 0) {
            for edition in self.shelf.answer_of(receipt) {
                let is_there = match self.job {
                    Job::Replaced => newest.get(&edition.key) >= Some(&edition.version),
                    _ => there.contains(&edition),
                };
                if !is_there {
                    self.lost(edition, &format!("of the answer {receipt}, is not there"));
                }
            }
        }
    }

    /// The runs counted what is there.
    fn hold_the_counts(&mut self, counted: Counted, there: usize, refused: usize) {
        let rows =
            if self.job == Job::Replaced { counted.new } else { counted.new + counted.changed };
        let is = |counted: i64, there: usize| usize::try_from(counted) == Ok(there);
        if !is(rows, there) || !is(counted.refused, refused) || counted.parked != 0 {
            let case = format!(
                "{:?}: the runs counted {counted:?}, there are {there} and {refused} refused",
                self.job
            );
            self.verdict.wrong.push(case);
        }
    }

    fn case(&self, edition: Edition, what: &str) -> String {
        format!("{:?}: version {} of {}: {what}", self.job, edition.version, edition.key)
    }

    fn lost(&mut self, edition: Edition, what: &str) {
        let case = self.case(edition, what);
        self.verdict.lost.push(case);
    }

    fn wrong(&mut self, edition: Edition, what: &str) {
        let case = self.case(edition, what);
        self.verdict.wrong.push(case);
    }
}
