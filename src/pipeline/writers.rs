//! The writers: sessions of K connections that commit batches side by side.
//!
//! A session begins by fencing off every earlier one and reading what is committed, then batches are cut and committed
//! until anything is in doubt: a lost connection, a refused statement, a timeout. Then the whole session ends, its
//! connections are dropped, and the next one begins the same way, after a wait. The recovery path is the only path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_journal::{Entry, ReadError, SEGMENT_HEADER_BYTES};
use tidegate_record::{EntryKind, Position};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::db::Database;
use crate::db::batch::{BatchConnection, BatchError, BatchTimeouts};
use crate::db::journals::{CommittedRange, EntryOutcome, Fenced, SessionMark};
use crate::db::verdict::Verdict;
use crate::lifecycle::Lifecycle;
use crate::pipeline::aside::{Aside, AsideSender, Supply, aside_writers};
use crate::pipeline::batcher::{Batcher, BatcherContext, source_of, stream_of};
use crate::pipeline::commit_watch::CommitWatch;
use crate::pipeline::drainer::Drainer;
use crate::pipeline::lanes::Lanes;
use crate::pipeline::parking::Parking;
use crate::pipeline::transaction::Fate;
use crate::pipeline::writer::Writer;
use crate::pipeline::{CommitOutcome, Intake, Pressure, entry_first_id};
use crate::telemetry::metrics;

/// A batch may take this many times as long as one statement before its connection is given up.
const BATCH_STATEMENTS_TIMEOUT_FACTOR: u32 = 3;
/// A session that committed for this long was healthy: the next failure waits from the shortest time again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// What only a person can mend is tried again this often.
const PERSON_WAIT: Duration = Duration::from_secs(10);

/// What writers need to know.
#[derive(Debug, Clone)]
pub struct WritersConfig {
    pub node: String,
    pub writers: usize,
    pub timeouts: BatchTimeouts,
    /// Commits that have not come back for so long are said to be stuck.
    pub commit_stall: Duration,
}

/// What the writers last knew of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    pub reachable: bool,
    /// PostgreSQL's version, as the writers last saw it.
    pub version: Option<String>,
    pub last_error: Option<String>,
    /// Why commits do not come back, although PostgreSQL can be reached.
    pub stalled: Option<String>,
    /// Parts of the journal that were committed once, that PostgreSQL has lost since (it was set back), and that the
    /// journal does not keep any more: from, up to, not including.
    pub lost: Vec<(Position, Position)>,
}

/// All sessions of this process, one after the other.
#[derive(Clone)]
pub struct Writers {
    config: WritersConfig,
    database: Database,
    context: BatcherContext,
    intake: Intake,
    /// Where the journal ended when this process opened it.
    opened_at: Position,
    lifecycle: Lifecycle,
    committed: Pressure,
    parking: Parking,
    state: watch::Sender<DatabaseState>,
}

/// Why a session ended before everything was drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error("a batch was not committed within {0:?}")]
    TimedOut(Duration),
    #[error("an earlier batch of the same stream was not committed")]
    EarlierBatchFailed,
    #[error(
        "PostgreSQL has records up to {committed}, but the journal ended at {end}: an older copy of the journal was put \
         back; move the directory `journal` away so that a new one begins"
    )]
    JournalIsOlder { committed: Position, end: Position },
}

impl SessionError {
    fn class(&self) -> String {
        match self {
            SessionError::Batch(error) => error.class(),
            SessionError::Journal(_) => "journal".to_owned(),
            SessionError::TimedOut(_) => "timeout".to_owned(),
            SessionError::EarlierBatchFailed => "order".to_owned(),
            SessionError::JournalIsOlder { .. } => "older_journal".to_owned(),
        }
    }

    /// Will waiting not help?
    fn is_for_a_person(&self) -> bool {
        match self {
            SessionError::Batch(error) => error.verdict() == Verdict::Stop,
            SessionError::JournalIsOlder { .. } => true,
            _ => false,
        }
    }
}

impl Writers {
    pub fn new(
        config: WritersConfig,
        database: Database,
        context: BatcherContext,
        intake: Intake,
        lifecycle: Lifecycle,
        committed: Pressure,
    ) -> Writers {
        let opened_at = context.journal.synced();
        let state = watch::Sender::new(DatabaseState::default());
        let parking = Parking::default();
        Writers {
            config,
            database,
            context,
            intake,
            opened_at,
            lifecycle,
            committed,
            parking,
            state,
        }
    }

    /// Follows what is known of PostgreSQL.
    pub fn database_state(&self) -> watch::Receiver<DatabaseState> {
        self.state.subscribe()
    }

    /// Which streams' tables cannot be written now.
    pub fn parking(&self) -> &Parking {
        &self.parking
    }

    /// Notes that PostgreSQL can be used, before there are sessions.
    pub fn reached(&self) {
        self.state.send_modify(|state| {
            state.reachable = true;
            state.last_error = None;
        });
    }

    /// Notes that PostgreSQL cannot be used.
    pub fn unreachable(&self, reason: String) {
        self.state.send_modify(|state| {
            state.reachable = false;
            state.last_error = Some(reason);
        });
    }

    pub(super) fn context(&self) -> &BatcherContext {
        &self.context
    }

    async fn connect(&self) -> Result<BatchConnection, BatchError> {
        BatchConnection::open(&self.database, self.config.timeouts).await
    }

    /// One more connection for a session. A server that was set back meanwhile has lost commits that this session counts
    /// on, and may have its epoch all the same.
    pub(super) async fn join(&self, session: SessionMark) -> Result<BatchConnection, BatchError> {
        let mut connection = self.connect().await?;
        connection.check(self.context.journal.id(), session).await?;
        Ok(connection)
    }

    /// Longest time for one transaction; longer than any of its statements may take.
    pub(super) fn batch_timeout(&self) -> Duration {
        self.config.timeouts.statement * BATCH_STATEMENTS_TIMEOUT_FACTOR
    }

    /// Runs sessions until everything acknowledged is committed after the appender ended, or the time is over.
    pub async fn run(self) {
        let watch = CommitWatch {
            database: self.database.clone(),
            committed: self.committed.clone(),
            state: self.state.clone(),
            limit: self.config.commit_stall,
        };
        self.lifecycle.spawn("commit watch", watch.run(self.lifecycle.soft().clone()));
        let mut backoff = Backoff::new();
        let mut last_class = String::new();
        loop {
            let started = Instant::now();
            let hard = self.lifecycle.hard().clone();
            let result = tokio::select! {
                result = self.session() => result,
                () = hard.cancelled() => return,
            };
            let Err(error) = result else { return };
            let class = error.class();
            let reason = error.to_string();
            metrics::count_writer_error(&class);
            if matches!(error, SessionError::JournalIsOlder { .. }) {
                self.intake.refuse_older_journal();
            }
            self.unreachable(reason.clone());
            if started.elapsed() >= HEALTHY_AFTER {
                backoff = Backoff::new();
            }
            let wait = if error.is_for_a_person() { PERSON_WAIT } else { backoff.next_wait() };
            if class == last_class {
                tracing::debug!(reason, ?wait, "writing to PostgreSQL still fails");
            } else {
                tracing::warn!(reason, ?wait, "writing to PostgreSQL failed; trying again");
            }
            last_class = class;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = hard.cancelled() => return,
            }
        }
    }

    /// One session; ends well only when everything is drained.
    async fn session(&self) -> Result<(), SessionError> {
        let journal = self.context.journal.id();
        let mut first = self.connect().await?;
        let fenced = self.answered(first.fence(journal, &self.config.node)).await?;
        check_age(&fenced.ranges, self.end_that_may_be_committed())?;
        self.parking.reset(&self.answered(first.parked_streams(journal)).await?);
        let progress = &self.context.progress;
        let before = progress.low_water();
        let believed = progress.reset(self.context.journal.first(), &fenced.ranges);
        let start = believed.first_uncounted(progress.low_water());
        self.begin(&fenced, before);

        let session = CancellationToken::new();
        let ends_with_this_call = session.clone().drop_guard();
        let (queue, batches) = mpsc::channel(1);
        let batches = Arc::new(Mutex::new(batches));
        let aside = Aside::new(self.intake.costly().clone());
        let sender = AsideSender::new(aside.clone());
        let batcher = Batcher::new(self.context.clone(), outcomes(fenced.ranges), believed, sender);
        let batcher = self.lifecycle.spawn("batcher", batcher.run(start, queue, session.clone()));
        let mut writers = Vec::with_capacity(self.config.writers);
        let mut connection = Some(first);
        let lanes = Lanes::default();
        let count = self.config.writers.max(1);
        for number in 0..count {
            let takes_aside = number < aside_writers(count);
            let supply =
                Supply::new(Arc::clone(&batches), takes_aside.then(|| aside.clone()), count == 1);
            let (connection, mark) = (connection.take(), fenced.session);
            let writer = Writer::new(self.clone(), connection, mark, supply, lanes.clone());
            writers.push(self.lifecycle.spawn("writer", writer.run(session.clone())));
        }
        let drainer = Drainer::new(self.clone(), fenced.session);
        let drainer = self.lifecycle.spawn("drainer", drainer.run(session.clone()));
        let mut outcome = Ok(());
        for writer in writers {
            let ended = writer.await.expect("writers do not panic");
            // The others end because of the first error; it is the one worth telling.
            if let (Ok(()) | Err(SessionError::EarlierBatchFailed), Err(error)) = (&outcome, ended)
            {
                outcome = Err(error);
            }
        }
        drop(ends_with_this_call);
        let drained = drainer.await.expect("the drainer does not panic");
        let cut = batcher.await.expect("the batcher does not panic");
        outcome?;
        drained?;
        Ok(cut?)
    }

    /// Up to where PostgreSQL may have the journal. Before the first session it can have no more than was there when this
    /// process began, whatever was appended since.
    fn end_that_may_be_committed(&self) -> Position {
        if self.context.progress.is_known() {
            self.context.journal.synced()
        } else {
            self.opened_at
        }
    }

    /// PostgreSQL's answer; a line that goes silent would never say that none comes.
    async fn answered<T>(
        &self,
        asking: impl Future<Output = Result<T, BatchError>>,
    ) -> Result<T, SessionError> {
        let limit = self.batch_timeout();
        let answer = tokio::time::timeout(limit, asking).await;
        Ok(answer.map_err(|_elapsed| SessionError::TimedOut(limit))??)
    }

    /// Says that a session begins, and whether PostgreSQL has less than it had.
    fn begin(&self, fenced: &Fenced, before: Position) {
        let Fenced { session: SessionMark { epoch, .. }, version, ranges } = fenced;
        let (journal, from) = (&self.context.journal, self.context.progress.low_water());
        metrics::count_writer_session();
        if from < before {
            metrics::count_database_rewind();
            tracing::warn!(had = %before, has = %from, "PostgreSQL was set back; what is missing is written again");
        }
        let lost = holes(ranges, journal.first());
        for (first, last) in &lost {
            tracing::error!(
                from = %first, to = %last,
                "PostgreSQL was set back further than the journal reaches: records of these positions are lost"
            );
        }
        metrics::set_lost_bytes(lost.iter().map(|(first, last)| last.0 - first.0).sum());
        let version = Some(version.clone());
        self.state.send_modify(|state| {
            let stalled = state.stalled.take();
            *state = DatabaseState { reachable: true, version, last_error: None, stalled, lost };
        });
        tracing::info!(epoch, %from, "writing to PostgreSQL");
    }

    /// Counts what a committed transaction did, and tells whoever waits.
    pub(super) fn settle(&self, entries: &[Entry], fates: &[Fate]) {
        let waited_for = self.context.ledger.is_waited_for();
        for (entry, fate) in entries.iter().zip(fates) {
            let Fate::Settled(outcome) = fate else { continue };
            if EntryKind::from_code(entry.header.kind) != Some(EntryKind::Records) {
                continue;
            }
            self.count(entry, outcome);
            self.context.keys.note_committed(entry, *outcome);
            if waited_for && let Some(id) = entry_first_id(&entry.body) {
                self.context.ledger.resolve(id, *outcome);
            }
        }
    }

    /// Counts what became of an entry's records, or of some of them.
    pub(super) fn count(&self, entry: &Entry, outcome: &CommitOutcome) {
        let counters = self.context.counters.of(stream_of(entry));
        counters.add_committed(outcome.committed, outcome.duplicates);
        if outcome.refused > 0 {
            counters.add_refused(source_of(entry), outcome.refused);
        }
    }

    /// A batch is committed: everything in this part of the journal, so many bytes of it.
    pub(super) fn committed(&self, first: Position, last: Position, bytes: u64) {
        self.committed.drained(bytes);
        self.context.progress.commit(first, last);
    }
}

/// Parts of the journal below `first`, which it does not keep any more, that PostgreSQL does not have. Where a segment
/// ends there are a few bytes without an entry; they are not told apart from a part of their own.
fn holes(ranges: &[CommittedRange], first: Position) -> Vec<(Position, Position)> {
    let mut holes = Vec::new();
    let mut covered = Position(0);
    for range in ranges {
        if range.first >= first {
            break;
        }
        holes.push((covered, range.first));
        covered = covered.max(range.last);
    }
    holes.push((covered, first));
    holes.retain(|(from, to)| to.0.saturating_sub(from.0) > SEGMENT_HEADER_BYTES);
    holes
}

fn outcomes(ranges: Vec<CommittedRange>) -> BTreeMap<Position, EntryOutcome> {
    ranges.into_iter().flat_map(|range| range.outcomes).collect()
}

/// Positions of a journal that was put back are used a second time, and the ranges of the first time would swallow them.
fn check_age(ranges: &[CommittedRange], end: Position) -> Result<(), SessionError> {
    match ranges.iter().map(|range| range.last).max() {
        Some(committed) if committed > end => Err(SessionError::JournalIsOlder { committed, end }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_ends_before_what_is_committed_is_older() {
        let range = |first, last| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let ranges = [range(0, 100), range(200, 300), range(100, 150)];
        assert!(check_age(&[], Position(0)).is_ok(), "a new journal");
        assert!(check_age(&ranges, Position(300)).is_ok(), "all of it is committed");
        let (committed, end) = (Position(300), Position(299));
        let refused = check_age(&ranges, end).unwrap_err();
        assert!(refused.is_for_a_person());
        let expected = SessionError::JournalIsOlder { committed, end };
        assert_eq!(refused.to_string(), expected.to_string());
    }

    #[test]
    fn what_neither_the_journal_nor_postgresql_has_is_told_exactly() {
        let range = |first, last| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let hole = |from, to| (Position(from), Position(to));
        assert_eq!(holes(&[], Position(0)), []);
        assert_eq!(holes(&[], Position(SEGMENT_HEADER_BYTES)), [], "a journal that just began");
        assert_eq!(holes(&[], Position(5_000)), [hole(0, 5_000)]);
        assert_eq!(holes(&[range(0, 6_000)], Position(5_000)), []);
        assert_eq!(holes(&[range(0, 3_000)], Position(5_000)), [hole(3_000, 5_000)]);
        let ranges = [range(0, 1_000), range(2_000, 3_000), range(4_000, 9_000)];
        assert_eq!(holes(&ranges, Position(5_000)), [hole(1_000, 2_000), hole(3_000, 4_000)]);
        assert_eq!(holes(&ranges[..2], Position(2_500)), [hole(1_000, 2_000)]);
    }
}
