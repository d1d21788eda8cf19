//! Brings parked entries into their tables once these can be written again, in the order of the journal.

use std::sync::Arc;
use std::time::Duration;

use tidegate_codec::Stream;
use tidegate_journal::Entry;
use tidegate_record::StreamId;
use tokio_util::sync::CancellationToken;

use super::bisect::{PartEnd, TimeBudget};
use super::context::CommitContext;
use super::error::SessionError;
use super::outcome::EntryOutcome;
use super::partial_entries::PartialEntries;
use super::plan::{Destination, Part};
use super::transaction::Transaction;
use crate::db::batch::BatchConnection;
use crate::db::journals::SessionMark;
use crate::db::parked::{ParkedEntry, ParkedLimits};
use crate::db::verdict::Verdict;
use crate::pipeline::parking::{UNKNOWN_STREAM, rest_of, unparked_entry};

/// Most entries that follow in one transaction.
const ENTRIES_MAX: u32 = 1_000;
/// Most records, but for the entry in which that is reached. No more than these are left when writers are asked to wait.
const RECORDS_MAX: u64 = 10_000;

/// Why a stream stays parked whose entries have more records than they say.
const MISCOUNTED: &str = "an entry in tidegate.parked has more records than its column rows says";

/// One session's drainer.
pub(super) struct Drainer {
    context: CommitContext,
    mark: SessionMark,
    connection: Option<BatchConnection>,
    partial: PartialEntries,
}

impl Drainer {
    pub fn new(context: CommitContext, mark: SessionMark) -> Drainer {
        Drainer { context, mark, connection: None, partial: PartialEntries::default() }
    }

    /// Works until the session ends. Being dropped half way costs nothing: the transaction is rolled back.
    pub async fn run(mut self, session: CancellationToken) -> Result<(), SessionError> {
        let ends_with_this_drainer = session.clone().drop_guard();
        tokio::select! {
            error = self.drain_all() => Err(error),
            () = session.cancelled() => {
                ends_with_this_drainer.disarm();
                Ok(())
            }
        }
    }

    async fn drain_all(&mut self) -> SessionError {
        let limit: Duration = self.context.batch_timeout();
        loop {
            let stream = self.context.parking.next().await;
            match tokio::time::timeout(limit, self.drain(stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_elapsed) => return SessionError::TimedOut(limit),
            }
        }
    }

    /// One transaction's worth of a stream.
    async fn drain(&mut self, id: StreamId) -> Result<(), SessionError> {
        let parking = self.context.parking.clone();
        let journal = self.context.journal.id();
        let quiet = parking.quiet_soon(id).await;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.context.join(self.mark).await?,
        };
        connection.begin(journal, self.mark.epoch).await?;
        let limits = ParkedLimits {
            entries_max: ENTRIES_MAX,
            records_max: RECORDS_MAX,
            bytes_max: self.context.limits.bytes,
        };
        // Batches before this mark are committed: nothing older can come into the table after what is parked.
        let until = self.context.progress.low_water();
        let parked = connection.oldest_parked(journal, id, until, limits).await?;
        if parked.is_empty() {
            let more = connection.has_parked(journal, id).await?;
            connection.rollback().await?;
            self.connection = Some(connection);
            if !more && quiet.is_some_and(|quiet| parking.release(id, quiet)) {
                tracing::info!(stream = id.0, "the stream's table is written again");
            } else {
                parking.postpone(id, None);
            }
            return Ok(());
        }
        let entries: Vec<Entry> = parked.iter().map(|parked| unparked_entry(id, parked)).collect();
        let mut transaction = Transaction::new(&mut connection, &entries);
        let (done, rest) = match self.write(&mut transaction, id, &parked).await? {
            Written::Stuck { reason } => {
                connection.rollback().await?;
                self.connection = Some(connection);
                parking.postpone(id, Some(reason));
                return Ok(());
            }
            Written::All => (parked.len(), None),
            Written::Partly { entries, rest } => (entries, Some(rest)),
        };
        let records = rest.as_ref().map_or(0, |rest| parked[done].rows - rest.rows);
        transaction.recount_drained(done, records as usize).await?;
        let outcomes = transaction.outcomes;
        let positions: Vec<_> = parked[..done].iter().map(|parked| parked.position).collect();
        connection.unpark(journal, id, &positions).await?;
        let mut records = parked[..done].iter().map(|parked| u64::from(parked.rows)).sum();
        if let Some(rest) = &rest {
            connection.shorten_parked(journal, id, rest).await?;
            records += u64::from(parked[done].rows - rest.rows);
        }
        if let Err(error) = connection.commit_drained().await {
            if error.verdict() == Verdict::Retry {
                return Err(error.into());
            }
            // What only shows at the commit is this stream's fault, for there is no other in the transaction.
            connection.rollback().await?;
            self.connection = Some(connection);
            parking.postpone(id, Some(error.refusal().message));
            return Ok(());
        }
        self.connection = Some(connection);
        let settled = &entries[..done + usize::from(rest.is_some())];
        self.settle(id, settled, &outcomes, done);
        parking.drained(id, records, RECORDS_MAX);
        Ok(())
    }

    /// Counts what became of entries, or of the first records of the last of them, which is not `done`. What becomes of
    /// such an entry is told once all of it is committed, by this session or not at all.
    fn settle(&mut self, id: StreamId, entries: &[Entry], outcomes: &[EntryOutcome], done: usize) {
        for (number, (entry, outcome)) in entries.iter().zip(outcomes).enumerate() {
            let EntryOutcome::Settled(outcome) = *outcome else { continue };
            self.context.count(entry, outcome);
            if number < done {
                match self.partial.end(id, entry, outcome) {
                    Some((whole, outcome)) => self.context.tell(&whole, outcome),
                    None => self.context.tell(entry, outcome),
                }
            } else {
                self.partial.add(id, entry, outcome);
            }
        }
    }

    /// Writes what was parked, as far as it goes in the time there is.
    async fn write(
        &self,
        transaction: &mut Transaction<'_>,
        id: StreamId,
        parked: &[ParkedEntry],
    ) -> Result<Written, SessionError> {
        let Some(stream) = self.context.streams.snapshot().by_id(id).cloned() else {
            if !transaction.connection.is_deleted(id).await? {
                return Ok(Written::Stuck { reason: UNKNOWN_STREAM.to_owned() });
            }
            let entries = parked.len();
            tracing::warn!(
                stream = id.0,
                entries,
                "parked records of a deleted stream are left out"
            );
            return Ok(Written::All);
        };
        let budget = TimeBudget::of_batch(self.context.batch_timeout(), true);
        for (number, mut part) in parts(&stream, transaction.entries).into_iter().enumerate() {
            // Each part is tried whole once, so of several only the first may begin late.
            if number > 0 && budget.is_over() {
                transaction.keep_refused().await?;
                return Ok(cut_off(parked, &part, 0));
            }
            match transaction.bisect(&mut part, &stream, budget).await? {
                PartEnd::Written { .. } => {}
                PartEnd::Stuck { reason } => return Ok(Written::Stuck { reason }),
                PartEnd::Partly { records } => {
                    transaction.keep_refused().await?;
                    return Ok(cut_off(parked, &part, records));
                }
            }
        }
        transaction.keep_refused().await?;
        Ok(Written::All)
    }
}

/// How far a transaction came.
#[derive(Debug)]
enum Written {
    All,
    /// Nothing of it, for this reason.
    Stuck {
        reason: String,
    },
    /// So many entries, and a part of the next one.
    Partly {
        entries: usize,
        rest: ParkedEntry,
    },
}

/// What is left when so many records of a part, and all parts before it, are written.
fn cut_off(parked: &[ParkedEntry], part: &Part, mut records: usize) -> Written {
    for number in &part.entries {
        let entry = &parked[*number];
        let rows = entry.rows as usize;
        if records < rows {
            return Written::Partly { entries: *number, rest: rest_of(entry, records) };
        }
        records -= rows;
    }
    // Some were not tried, so these are more than the entries say they have: none may leave.
    Written::Stuck { reason: MISCOUNTED.to_owned() }
}

/// Consecutive entries of the same form, so that their order is kept.
fn parts(stream: &Arc<Stream>, entries: &[Entry]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        if parts.last().is_none_or(|part| !part.takes(entry)) {
            parts.push(Part::like(entry, Destination::Table(Arc::clone(stream))));
        }
        if let Some(part) = parts.last_mut() {
            part.entries.push(number);
            part.bodies.push(entry.body.clone());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_record::{ColumnSet, EntryKind, Position, UnixMicros};

    use super::*;

    /// A tuple of no fields.
    const TUPLE: [u8; 2] = [0, 0];

    fn parked(rows: u32, tuples: usize) -> ParkedEntry {
        ParkedEntry {
            position: Position(0),
            kind: EntryKind::Records.code(),
            column_set: ColumnSet(0),
            rows,
            received_at: UnixMicros(0),
            meta: Bytes::new(),
            body: TUPLE.repeat(tuples).into(),
        }
    }

    fn part(entries: usize) -> Part {
        let mut part = Part::new(Destination::Quarantine, false, ColumnSet(0));
        part.entries = (0..entries).collect();
        part
    }

    #[test]
    fn what_was_not_tried_stays() {
        let entries = [parked(2, 2), parked(3, 3)];
        let Written::Partly { entries, rest } = cut_off(&entries, &part(2), 3) else {
            panic!("two records are left");
        };
        assert_eq!((entries, rest.rows, rest.body.len()), (1, 2, 2 * TUPLE.len()));
    }

    #[test]
    fn nothing_leaves_when_an_entry_has_more_records_than_it_says() {
        // Three of four records were tried; by the number that is written beside them there was nothing left.
        let written = cut_off(&[parked(2, 3), parked(1, 1)], &part(2), 3);
        assert!(matches!(written, Written::Stuck { .. }), "{written:?}");
    }
}
