//! What one transaction does with the entries of a batch, part by part, and what became of each entry.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use tidegate_codec::{Key, Stream};
use tidegate_journal::Entry;
use tidegate_record::{EntryMeta, SeenItems, StreamId, UnixMicros};
use uuid::Uuid;

use super::outcome::EntryOutcome;
use super::plan::{Destination, Part};
use crate::db::batch::{BatchConnection, BatchError, Target};
use crate::db::parked::ParkedEntry;
use crate::pipeline::admission::{CommitOutcome, entry_first_id};
use crate::pipeline::parking::parked_entry;
use crate::telemetry::metrics;

/// A transaction under way; the caller that began it commits it or drops the connection.
pub(super) struct Transaction<'a> {
    pub connection: &'a mut BatchConnection,
    pub entries: &'a [Entry],
    /// One for each entry.
    pub outcomes: Vec<EntryOutcome>,
    /// COPY tuples of the rows that PostgreSQL refused.
    pub refused: Vec<u8>,
    /// Streams whose rows may be against constraints that wait for the commit.
    pub unchecked: Vec<StreamId>,
    /// The entries and ids of these rows.
    pub(super) refused_ids: HashSet<(usize, Uuid)>,
    /// Of entries of polling jobs, by their numbers; known after [`Transaction::leave_out_superseded`].
    pub(super) cursors: Vec<(usize, SeenItems)>,
}

impl<'a> Transaction<'a> {
    pub fn new(connection: &'a mut BatchConnection, entries: &'a [Entry]) -> Transaction<'a> {
        let outcomes = vec![EntryOutcome::NONE; entries.len()];
        let (refused, refused_ids, cursors) = (Vec::new(), HashSet::new(), Vec::new());
        let unchecked = Vec::new();
        Transaction { connection, entries, outcomes, refused, unchecked, refused_ids, cursors }
    }

    /// Copies a part of a keyed stream straight into its table. False if a row got lost on the way there, by a trigger of
    /// the user's: it could not be told any more whose it was.
    pub async fn copy_direct(
        &mut self,
        part: &Part,
        stream: &Stream,
        key: &Key,
    ) -> Result<bool, BatchError> {
        let started = Instant::now();
        let column_set = part.column_set;
        let copied = self.connection.copy_direct(stream, key, column_set, &part.bodies).await?;
        self.unchecked.push(stream.id);
        metrics::record_copy(started.elapsed());
        Ok(copied == self.settle(part))
    }

    /// Copies a part; of a keyed stream into its staging table, for [`Transaction::merge`].
    pub async fn copy(&mut self, part: &Part) -> Result<(), BatchError> {
        let started = Instant::now();
        let column_set = part.column_set;
        let target = match &part.destination {
            Destination::Table(stream) if part.fit.is_exact() => {
                Target::Stream { stream, column_set }
            }
            Destination::Table(stream) | Destination::Keyed(stream) => {
                Target::Staging(part.staged(stream))
            }
            Destination::Quarantine => Target::Quarantine { column_set },
            Destination::Parked(_) | Destination::Unknown(_) => return Ok(()),
        };
        self.connection.copy(target, &part.bodies).await?;
        if let (Destination::Table(_), Target::Staging(staged)) = (&part.destination, target) {
            self.connection.insert(staged, None).await?;
        }
        if let Destination::Table(stream) = &part.destination {
            self.unchecked.push(stream.id);
        }
        metrics::record_copy(started.elapsed());
        self.settle(part);
        Ok(())
    }

    /// Notes every record of a part as committed; returns how many they are.
    fn settle(&mut self, part: &Part) -> u64 {
        let mut records = 0;
        for number in &part.entries {
            let committed = u64::from(self.entries[*number].header.rows);
            self.outcomes[*number] =
                EntryOutcome::Settled(CommitOutcome { committed, ..CommitOutcome::default() });
            records += committed;
        }
        records
    }

    /// Merges a part that was staged; returns how many of its records found their key taken.
    pub async fn merge(
        &mut self,
        part: &Part,
        stream: &Arc<Stream>,
        key: &Key,
    ) -> Result<u64, BatchError> {
        let firsts = self.first_ids(part);
        let fresh = self.connection.merge(part.staged(stream), key, &firsts, None).await?;
        self.unchecked.push(stream.id);
        let mut duplicates_of_all = 0;
        for ((_, number), committed) in firsts.iter().zip(fresh) {
            let rows = u64::from(self.entries[*number].header.rows);
            let duplicates = rows.saturating_sub(committed);
            duplicates_of_all += duplicates;
            self.outcomes[*number] = EntryOutcome::Settled(CommitOutcome {
                committed,
                duplicates,
                ..CommitOutcome::default()
            });
        }
        Ok(duplicates_of_all)
    }

    /// Parks a part.
    pub async fn park(
        &mut self,
        journal: Uuid,
        stream: StreamId,
        part: &Part,
    ) -> Result<(), BatchError> {
        let parked: Vec<ParkedEntry> =
            part.entries.iter().map(|number| parked_entry(&self.entries[*number])).collect();
        self.connection.park(journal, stream, &parked).await?;
        for number in &part.entries {
            self.outcomes[*number] = EntryOutcome::Parked;
        }
        Ok(())
    }

    /// Brings the refused rows into the quarantine; the last step before the commit.
    pub async fn keep_refused(&mut self) -> Result<(), BatchError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let refused = std::mem::take(&mut self.refused);
        self.connection.copy(Target::Refused, &[refused.into()]).await.map(drop)
    }

    /// Takes the records out of the quarantine that entries replay, whatever became of these.
    pub async fn end_replays(&mut self) -> Result<(), BatchError> {
        let replayed = self.entries.iter().filter_map(|entry| EntryMeta::replays_of(&entry.meta));
        let replayed: Vec<Uuid> = replayed.collect();
        self.connection.delete_replayed(&replayed).await
    }

    /// The ids of the first records of the part's entries, sorted, and the entries' numbers.
    pub(super) fn first_ids(&self, part: &Part) -> Vec<(Uuid, usize)> {
        let first = |number: &usize| Some((entry_first_id(&self.entries[*number].body)?, *number));
        let mut firsts: Vec<(Uuid, usize)> = part.entries.iter().filter_map(first).collect();
        firsts.sort_unstable();
        firsts
    }
}

/// The day whose partition a record belongs to.
pub(super) fn day_of(received_at: UnixMicros) -> time::Date {
    received_at.date_time().date()
}
