//! The cursors of polling jobs: rows of a run are written only while the run is its job's latest, together with what the
//! job has seen.
//!
//! Invariant: a run that another one followed writes nothing any more, whoever still holds entries of it: a gateway that
//! was killed and comes back, or one that was cut off. What it would have written, the later run has asked for again.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::db::batch::BatchError;
use crate::db::polled_items::{RunCounts, SeenRow};
use crate::journal::Entry;
use crate::pipeline::CommitOutcome;
use crate::pipeline::plan::{Destination, Part};
use crate::pipeline::transaction::{Fate, Transaction};
use crate::record::{Cursor, EntryMeta, ItemHash, RunId, SeenItem};

/// The cursors of a batch, with the number of the entry that has each.
fn cursors(entries: &[Entry]) -> Vec<(usize, Cursor)> {
    let cursor =
        |(number, entry): (usize, &Entry)| Some((number, EntryMeta::cursor_of(&entry.meta)?));
    entries.iter().enumerate().filter_map(cursor).collect()
}

impl Transaction<'_> {
    /// Keeps every run that is still its job's latest as it is until the transaction ends, and leaves out the entries of
    /// all others. They count as duplicates: a later run has them.
    pub async fn leave_out_superseded(&mut self, parts: &mut Vec<Part>) -> Result<(), BatchError> {
        self.cursors = cursors(self.entries);
        if self.cursors.is_empty() {
            return Ok(());
        }
        let runs: BTreeSet<RunId> = self.cursors.iter().map(|(_, cursor)| cursor.run).collect();
        let latest = self.connection.latest_runs(&runs).await?;
        let superseded: BTreeSet<usize> = self
            .cursors
            .extract_if(.., |(_, cursor)| !latest.contains(&cursor.run))
            .map(|(number, _)| number)
            .collect();
        if superseded.is_empty() {
            return Ok(());
        }
        for number in &superseded {
            let duplicates = u64::from(self.entries[*number].header.rows);
            self.fates[*number] =
                Fate::Settled(CommitOutcome { duplicates, ..CommitOutcome::default() });
        }
        tracing::info!(
            entries = superseded.len(),
            "entries of superseded polling runs are left out"
        );
        for part in parts.iter_mut() {
            leave_out(part, &superseded);
        }
        // A keyed part has to wait for its turn all the same, so that the next batch does not come too early.
        parts.retain(|part| {
            !part.entries.is_empty() || matches!(part.destination, Destination::Keyed(_))
        });
        Ok(())
    }

    /// Notes what the runs have seen, and counts it; after the rows, whatever became of them.
    pub async fn commit_cursors(&mut self) -> Result<(), BatchError> {
        if self.cursors.is_empty() {
            return Ok(());
        }
        // Of equal keys the last stays.
        let mut seen: BTreeMap<(Uuid, ItemHash), SeenRow> = BTreeMap::new();
        let mut counts: BTreeMap<RunId, RunCounts> = BTreeMap::new();
        for (number, cursor) in &self.cursors {
            let RunId { job, fence, .. } = cursor.run;
            let position = self.entries[*number].header.position;
            seen.extend(cursor.seen.iter().map(|&SeenItem { key, content }| {
                ((job, key), SeenRow { job, key, content, fence, position })
            }));
            let counts = counts.entry(cursor.run).or_default();
            counts.fresh += cursor.fresh();
            counts.changed += u64::from(cursor.changed);
        }
        let seen: Vec<SeenRow> = seen.into_values().collect();
        self.connection.remember_items(&seen).await?;
        self.connection.count_runs(&counts).await
    }
}

fn leave_out(part: &mut Part, superseded: &BTreeSet<usize>) {
    let mut kept = part.entries.iter().map(|number| !superseded.contains(number));
    part.bodies.retain(|_| kept.next().unwrap_or(true));
    part.entries.retain(|number| !superseded.contains(number));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::ColumnSet;

    #[test]
    fn what_is_left_out_takes_its_own_body_with_it() {
        let body = |n: u8| Bytes::from(vec![n]);
        let mut part = Part::new(Destination::Quarantine, ColumnSet(0));
        part.entries = vec![2, 3, 5, 8];
        part.bodies = vec![body(2), body(3), body(5), body(8)];
        leave_out(&mut part, &BTreeSet::from([3, 4, 8]));
        assert_eq!(part.entries, [2, 5]);
        assert_eq!(part.bodies, [body(2), body(5)]);
    }
}
