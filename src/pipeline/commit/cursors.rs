//! The cursors of polling jobs: rows of a run are written only while the run is its job's latest, together with what the
//! job has seen.
//!
//! Invariant: a run that another one followed writes nothing any more, whichever gateway still holds entries of it: one that
//! was killed and comes back, or one that was cut off. What it would have written, the later run has asked for again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use tidegate_journal::Entry;
use tidegate_record::{EntryKind, EntryMeta, ItemHash, RunId, SeenItem, SeenItems};
use uuid::Uuid;

use super::outcome::EntryOutcome;
use super::plan::{Destination, Part};
use super::transaction::Transaction;
use crate::db::batch::BatchError;
use crate::db::polled_items::{RunCounts, SeenRow};
use crate::pipeline::admission::{CommitOutcome, entry_first_id};

/// The cursors of a batch, with the number of the entry that has each.
fn cursors(entries: &[Entry]) -> Vec<(usize, SeenItems)> {
    let cursor =
        |(number, entry): (usize, &Entry)| Some((number, EntryMeta::seen_items_of(&entry.meta)?));
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
            self.outcomes[*number] =
                EntryOutcome::Settled(CommitOutcome { duplicates, ..CommitOutcome::default() });
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
            seen.extend(cursor.seen.iter().map(|&SeenItem { key, content, .. }| {
                ((job, key), SeenRow { job, key, content, fence, position })
            }));
            let refused = self.refused_places(*number);
            *counts.entry(cursor.run).or_default() +=
                self.counts_of(*number, cursor, self.outcomes[*number], &refused);
        }
        let seen: Vec<SeenRow> = seen.into_values().collect();
        self.connection.remember_items(&seen).await?;
        self.connection.count_runs(&counts).await
    }

    /// Counts what became of entries that were parked, which their runs counted as such. Of the entry behind the last of
    /// them only so many of its first records are settled.
    pub async fn recount_drained(
        &mut self,
        entries: usize,
        records: usize,
    ) -> Result<(), BatchError> {
        let mut counts: BTreeMap<RunId, RunCounts> = BTreeMap::new();
        for (number, mut cursor) in cursors(self.entries) {
            // What is left of an entry still has the cursor of all of it.
            let rows = self.entries[number].header.rows as usize;
            cursor.seen.drain(..cursor.seen.len().saturating_sub(rows));
            match number.cmp(&entries) {
                Ordering::Less => {}
                Ordering::Equal => cursor.seen.truncate(records),
                Ordering::Greater => continue,
            }
            let refused = self.refused_places(number);
            let now = self.counts_of(number, &cursor, self.outcomes[number], &refused);
            let before = self.counts_of(number, &cursor, EntryOutcome::Parked, &HashSet::new());
            *counts.entry(cursor.run).or_default() += now - before;
        }
        if counts.is_empty() { Ok(()) } else { self.connection.count_runs(&counts).await }
    }

    /// Which of an entry's records PostgreSQL refused.
    fn refused_places(&self, number: usize) -> HashSet<u128> {
        // The ids of an entry's records are consecutive.
        let first = entry_first_id(&self.entries[number].body).unwrap_or_default().as_u128();
        let of_entry = self.refused_ids.iter().filter(|(of, _)| *of == number);
        of_entry.map(|(_, id)| id.as_u128().wrapping_sub(first)).collect()
    }

    /// What a run counts of an entry, whose items these are.
    fn counts_of(
        &self,
        number: usize,
        cursor: &SeenItems,
        outcome: EntryOutcome,
        refused: &HashSet<u128>,
    ) -> RunCounts {
        let items = |items: usize| i64::try_from(items).unwrap_or(i64::MAX);
        let (entry, all) = (&self.entries[number], items(cursor.seen.len()));
        if entry.header.kind == EntryKind::Quarantine.code() {
            return RunCounts { refused: all, ..RunCounts::default() };
        }
        // Its stream was deleted, and it with that.
        if outcome == EntryOutcome::NONE {
            return RunCounts::default();
        }
        let taken = (0..).zip(&cursor.seen).filter(|(place, _)| !refused.contains(place));
        let taken: Vec<&SeenItem> = taken.map(|(_, item)| item).collect();
        let changed = items(taken.iter().filter(|item| item.is_changed).count());
        let taken = items(taken.len());
        RunCounts {
            fresh: taken - changed,
            changed,
            refused: all - taken,
            parked: if outcome == EntryOutcome::Parked { taken } else { 0 },
        }
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
    use tidegate_record::ColumnSet;

    use super::*;

    #[test]
    fn what_is_left_out_takes_its_own_body_with_it() {
        let body = |n: u8| Bytes::from(vec![n]);
        let mut part = Part::new(Destination::Quarantine, false, ColumnSet(0));
        part.entries = vec![2, 3, 5, 8];
        part.bodies = vec![body(2), body(3), body(5), body(8)];
        leave_out(&mut part, &BTreeSet::from([3, 4, 8]));
        assert_eq!(part.entries, [2, 5]);
        assert_eq!(part.bodies, [body(2), body(5)]);
    }
}
