//! Bisects a part of which PostgreSQL refused something: the good rows are committed, the bad ones kept aside, and a table
//! that cannot be written at all is left alone.
//!
//! Everything happens between savepoints of the batch's own transaction. Rows are halved until the bad ones stand alone,
//! in the order of the journal, so that keyed streams end as if nothing had been in the way.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_codec::Stream;
use tidegate_codec::changes::decode_change;
use tidegate_codec::decode::{decode_tuple, tuple_len};
use tidegate_record::{ColumnSet, EntryMeta, Source};
use uuid::Uuid;

use super::outcome::EntryOutcome;
use super::plan::Part;
use super::transaction::{Transaction, day_of};
use crate::db::batch::{BatchError, ChangeEnd, Fit, Refusal, Savepoint, Target};
use crate::db::quarantine::{QuarantinedRecord, REFUSED_CODE};
use crate::db::verdict::Verdict;
use crate::pipeline::admission::{CommitOutcome, entry_first_id};

/// How a part ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PartEnd {
    /// Its good rows are in the table; so many were refused.
    Written { refused: u64 },
    /// Nothing of it is in the table, which cannot be written now.
    Stuck { reason: String },
    /// The time was over: so many of its first records are settled, the others were not tried.
    Partly { records: usize },
}

/// How long the halving may go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeBudget {
    until: Instant,
    /// Whether what was settled until then stays; else the part ends as stuck.
    keeps_part: bool,
}

/// Bisecting may take this share of the time that a batch may take.
const BATCH_SHARE: u32 = 3;
/// Why a part is given up.
const MUCH_REFUSED: &str = "so much of it is refused that it takes too long";
const SLOW_CHANGES: &str =
    "its changes take long; they follow by themselves, and other streams go on";
/// Most bytes of refused rows that one transaction gathers.
const REFUSED_BYTES_MAX: usize = 32 << 20;

/// Longest time that a writer gives to the changes of a stream, beside whose batch others wait. What takes longer is parked, and
/// follows from there.
const CHANGES_MAX: Duration = Duration::from_secs(5);
/// Most changes that are tried at once.
const CHANGES_AT_ONCE: usize = 256;

/// One record of a part.
struct Row {
    /// Its entry's number in the batch.
    entry: usize,
    tuple: Bytes,
}

impl TimeBudget {
    /// From now on, of the time that a batch may take.
    pub fn of_batch(batch_timeout: Duration, keeps_part: bool) -> TimeBudget {
        TimeBudget { until: Instant::now() + batch_timeout / BATCH_SHARE, keeps_part }
    }

    /// The same for a part of a batch of a writer.
    pub fn of_part(part: &Part, batch_timeout: Duration) -> TimeBudget {
        let whole = TimeBudget::of_batch(batch_timeout, false);
        let until = if part.has_changes {
            whole.until.min(Instant::now() + CHANGES_MAX)
        } else {
            whole.until
        };
        TimeBudget { until, ..whole }
    }

    pub fn is_over(self) -> bool {
        Instant::now() > self.until
    }
}

impl Transaction<'_> {
    /// Writes what of the part can be written.
    ///
    /// # Errors
    /// PostgreSQL is not able at the moment; the transaction is over.
    pub async fn bisect(
        &mut self,
        part: &mut Part,
        stream: &Arc<Stream>,
        budget: TimeBudget,
    ) -> Result<PartEnd, BatchError> {
        self.connection.set_savepoint(Savepoint::Part).await?;
        match self.fit(part.column_set, stream).await? {
            Ok(fit) => part.fit = fit,
            Err(reason) => return self.give_up(part, self.refused.len(), reason).await,
        }
        let part = &*part;
        let rows = rows(part);
        let refused_before = self.refused.len();
        let mut refused = 0;
        if (stream.key.is_some() || !part.fit.is_exact())
            && let Err(error) = self.connection.stage(part.staged(stream), &part.bodies).await
        {
            // The staging table has the tuples' own types, so no record is to blame.
            return self.stuck(part, refused_before, error).await;
        }
        let mut untried = tries(part, rows.len());
        while let Some(range) = untried.pop() {
            let is_over = budget.is_over() || self.refused.len() > REFUSED_BYTES_MAX;
            let is_for_others = part.has_changes && !budget.keeps_part;
            if is_over && (range.start > 0 || is_for_others) {
                if budget.keeps_part {
                    let end = PartEnd::Partly { records: range.start };
                    return self.keep_part(part, stream, refused_before, end).await;
                }
                let reason = if part.has_changes { SLOW_CHANGES } else { MUCH_REFUSED };
                return self.give_up(part, refused_before, reason.to_owned()).await;
            }
            let some = &rows[range.clone()];
            if let Err(error) = self.ensure_partitions(stream, some).await {
                return self.stuck(part, refused_before, error).await;
            }
            self.connection.set_savepoint(Savepoint::Rows).await?;
            let Err(error) = self.write_rows(part, stream, some).await else {
                continue;
            };
            match error.verdict_of_rows(stream) {
                Verdict::Retry => return Err(error),
                Verdict::Table if part.has_changes && error.is_timeout() && some.len() > 1 => {
                    self.connection.roll_back_to(Savepoint::Rows).await?;
                    halve(range, &mut untried);
                }
                Verdict::Table | Verdict::Stop => {
                    return self.give_up(part, refused_before, error.refusal().message).await;
                }
                Verdict::Rows => {
                    self.connection.roll_back_to(Savepoint::Rows).await?;
                    if some.len() == 1 {
                        self.refuse(part, stream, some, &error.refusal());
                        refused += 1;
                    } else {
                        halve(range, &mut untried);
                    }
                }
            }
        }
        self.keep_part(part, stream, refused_before, PartEnd::Written { refused }).await
    }

    /// Ends a part well, unless a trigger has put off once more what is checked at the commit, and that is against it.
    async fn keep_part(
        &mut self,
        part: &Part,
        stream: &Stream,
        refused_before: usize,
        end: PartEnd,
    ) -> Result<PartEnd, BatchError> {
        if let Err(error) = self.connection.release(Savepoint::Part).await {
            return self.stuck(part, refused_before, error).await;
        }
        if stream.key.is_some() || !part.fit.is_exact() {
            self.connection.unstage(part.staged(stream)).await?;
        }
        Ok(end)
    }

    /// Locks the stream's table, and sees how tuples come into it; otherwise why they cannot.
    async fn fit(
        &mut self,
        column_set: ColumnSet,
        stream: &Arc<Stream>,
    ) -> Result<Result<Fit, String>, BatchError> {
        match self.connection.lock_table(stream).await {
            Ok(()) => {}
            Err(error) if error.verdict() == Verdict::Retry => return Err(error),
            Err(error) => return Ok(Err(error.refusal().message)),
        }
        let layouts = self.connection.layouts(&[stream]).await?;
        let Some(layout) = layouts.get(&stream.id) else {
            return Ok(Err(format!(
                "streams.{} has no columns; put the stream's table back",
                stream.name
            )));
        };
        Ok(layout.fit(stream, column_set))
    }

    /// Undoes the part, unless PostgreSQL is not able at the moment.
    async fn stuck(
        &mut self,
        part: &Part,
        refused_before: usize,
        error: BatchError,
    ) -> Result<PartEnd, BatchError> {
        if error.verdict() == Verdict::Retry {
            return Err(error);
        }
        self.give_up(part, refused_before, error.refusal().message).await
    }

    /// Undoes the part.
    async fn give_up(
        &mut self,
        part: &Part,
        refused_before: usize,
        reason: String,
    ) -> Result<PartEnd, BatchError> {
        self.connection.roll_back_to(Savepoint::Part).await?;
        self.refused.truncate(refused_before);
        self.refused_ids.retain(|(number, _)| !part.entries.contains(number));
        for number in &part.entries {
            self.outcomes[*number] = EntryOutcome::NONE;
        }
        Ok(PartEnd::Stuck { reason })
    }

    /// Brings rows into the stream's table and counts them; nothing is counted if that fails.
    async fn write_rows(
        &mut self,
        part: &Part,
        stream: &Arc<Stream>,
        rows: &[Row],
    ) -> Result<(), BatchError> {
        let ids =
            || -> Vec<Uuid> { rows.iter().filter_map(|row| entry_first_id(&row.tuple)).collect() };
        if part.has_changes {
            return self.apply(part, stream, rows, &ids()).await;
        }
        let Some(key) = &stream.key else {
            if part.fit.is_exact() {
                let bodies: Vec<Bytes> = rows.iter().map(|row| row.tuple.clone()).collect();
                let column_set = part.column_set;
                self.connection.copy(Target::Stream { stream, column_set }, &bodies).await?;
            } else {
                self.connection.insert(part.staged(stream), Some(&ids())).await?;
            }
            self.connection.release(Savepoint::Rows).await?;
            for row in rows {
                self.count(row.entry, |outcome| outcome.committed += 1);
            }
            return Ok(());
        };
        let firsts = self.first_ids(part);
        let staged = part.staged(stream);
        let fresh = self.connection.merge(staged, key, &firsts, Some(&ids())).await?;
        self.connection.release(Savepoint::Rows).await?;
        for row in rows {
            self.count(row.entry, |outcome| outcome.duplicates += 1);
        }
        for ((_, number), fresh) in firsts.iter().zip(fresh) {
            self.count(*number, |outcome| {
                outcome.committed += fresh;
                outcome.duplicates = outcome.duplicates.saturating_sub(fresh);
            });
        }
        Ok(())
    }

    /// Applies changes in their order, and counts what became of them.
    async fn apply(
        &mut self,
        part: &Part,
        stream: &Stream,
        rows: &[Row],
        ids: &[Uuid],
    ) -> Result<(), BatchError> {
        let ends = self.connection.apply_changes(part.staged(stream), ids).await?;
        self.connection.release(Savepoint::Rows).await?;
        for (row, id) in rows.iter().zip(ids) {
            let end = ends.get(id).copied().unwrap_or(ChangeEnd::Missing);
            self.count(row.entry, |outcome| match end {
                ChangeEnd::Applied => outcome.committed += 1,
                ChangeEnd::Missing => outcome.missing += 1,
                ChangeEnd::Conflict => outcome.conflicts += 1,
            });
        }
        Ok(())
    }

    async fn ensure_partitions(
        &mut self,
        stream: &Arc<Stream>,
        rows: &[Row],
    ) -> Result<(), BatchError> {
        if stream.retention_days.is_none() {
            return Ok(());
        }
        let day = |row: &Row| day_of(self.entries[row.entry].header.received_at);
        let days: BTreeSet<time::Date> = rows.iter().map(day).collect();
        for day in days {
            self.connection.ensure_partition(stream, day).await?;
        }
        Ok(())
    }

    /// Notes rows for the quarantine, as JSON, so that an operator can repair them and send them again.
    fn refuse(&mut self, part: &Part, stream: &Arc<Stream>, rows: &[Row], refusal: &Refusal) {
        for row in rows {
            let entry = &self.entries[row.entry];
            let meta = EntryMeta::decode(&entry.meta);
            let data = shown(part, stream, &row.tuple);
            let id = entry_first_id(&row.tuple).unwrap_or_default();
            self.refused_ids.insert((row.entry, id));
            let record = QuarantinedRecord {
                id,
                received_at: entry.header.received_at,
                stream: stream.id,
                source: meta.as_ref().map_or(Source::Http, |meta| meta.source),
                user: meta.as_ref().map_or("", |meta| &meta.user),
                record: None,
                line: None,
                column: refusal.column.as_deref().map(|name| stream.member_of(name)),
                code: REFUSED_CODE,
                message: &refusal.message,
                raw: data.as_deref().unwrap_or(&row.tuple),
                truncated: false,
            };
            let position = entry.header.position;
            record.encode_refused(part.has_changes, &refusal.sqlstate, position, &mut self.refused);
            self.count(row.entry, |outcome| outcome.refused += 1);
        }
    }

    fn count(&mut self, entry: usize, add: impl FnOnce(&mut CommitOutcome)) {
        if let EntryOutcome::Settled(outcome) = &mut self.outcomes[entry] {
            add(outcome);
        }
    }
}

/// What is tried, the last of it first: of changes, each of which takes the time that its record takes, only so many at once.
fn tries(part: &Part, rows: usize) -> Vec<Range<usize>> {
    let at_once = if part.has_changes { CHANGES_AT_ONCE } else { rows.max(1) };
    let starts = (0..rows).step_by(at_once).rev();
    starts.map(|start| start..rows.min(start + at_once)).collect()
}

fn halve(range: Range<usize>, untried: &mut Vec<Range<usize>>) {
    let middle = range.start + range.len() / 2;
    untried.push(middle..range.end);
    untried.push(range.start..middle);
}

/// A row as JSON, as it was sent or means the same; `None`: it has not the form of the stream's tuples.
fn shown(part: &Part, stream: &Stream, tuple: &[u8]) -> Option<Vec<u8>> {
    if part.has_changes {
        let change = decode_change(stream, part.column_set, tuple).ok()?;
        return Some(change.line().into_bytes());
    }
    let mut data = Vec::new();
    decode_tuple(&stream.shape, part.column_set, tuple, &mut data).ok()?;
    Some(data)
}

/// The part's records one by one, without a copy.
fn rows(part: &Part) -> Vec<Row> {
    let mut rows = Vec::new();
    for (entry, body) in part.entries.iter().zip(&part.bodies) {
        let mut rest = body.clone();
        while !rest.is_empty() {
            // The journal's checksum holds the form; what had none would be refused as one row.
            let length = tuple_len(&rest).unwrap_or(rest.len());
            rows.push(Row { entry: *entry, tuple: rest.split_to(length) });
        }
    }
    rows
}
