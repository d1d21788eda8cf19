//! Sessions of K connections that commit batches side by side.
//!
//! A session begins by fencing off every earlier one and reading what is committed, then batches are cut and committed
//! until anything is in doubt: a lost connection, a refused statement, a timeout. Then the whole session ends, its
//! connections are dropped, and the next one begins the same way, after a wait. The recovery path is the only path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_record::Position;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::aside::{Aside, AsideSender};
use super::batcher::Batcher;
use super::context::CommitContext;
use super::database_state::DatabaseState;
use super::drainer::Drainer;
use super::error::SessionError;
use super::lanes::Lanes;
use super::rewind::{check_age, holes, with_earlier};
use super::supply::{Supply, aside_writers};
use super::watch::CommitWatch;
use super::writer::Writer;
use crate::backoff::Backoff;
use crate::db::batch::BatchError;
use crate::db::journals::{Fenced, SessionMark};
use crate::lifecycle::Lifecycle;
use crate::pipeline::admission::Intake;
use crate::pipeline::parking::Parking;
use crate::telemetry::metrics;

/// A session that committed for this long was healthy: the next failure waits from the shortest time again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// What waits for an operator is tried again this often.
const OPERATOR_WAIT: Duration = Duration::from_secs(10);

/// What writers need to know.
#[derive(Debug, Clone)]
pub struct WritersConfig {
    pub node: String,
    pub writers: usize,
    /// Commits that have not come back for so long are said to be stuck.
    pub commit_stall: Duration,
}

/// All sessions of this process, one after the other.
#[derive(Clone)]
pub struct Writers {
    config: WritersConfig,
    context: CommitContext,
    intake: Intake,
    /// Where the journal ended when this process opened it.
    opened_at: Position,
    lifecycle: Lifecycle,
    state: watch::Sender<DatabaseState>,
}

impl Writers {
    pub fn new(
        config: WritersConfig,
        context: CommitContext,
        intake: Intake,
        lifecycle: Lifecycle,
    ) -> Writers {
        let opened_at = context.journal.synced();
        let state = watch::Sender::new(DatabaseState::default());
        Writers { config, context, intake, opened_at, lifecycle, state }
    }

    /// Follows what is known of PostgreSQL.
    pub fn database_state(&self) -> watch::Receiver<DatabaseState> {
        self.state.subscribe()
    }

    /// Which streams' tables cannot be written now.
    pub fn parking(&self) -> &Parking {
        &self.context.parking
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

    /// Runs sessions until everything acknowledged is committed after the appender ended, or the time is over.
    pub async fn run(self) {
        let watch = CommitWatch {
            database: self.context.database.clone(),
            committed: self.context.committed.clone(),
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
            let wait = if error.needs_operator() { OPERATOR_WAIT } else { backoff.next_wait() };
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
        let mut first = self.context.connect().await?;
        let fenced = self.answered(first.fence(journal, &self.config.node)).await?;
        check_age(&fenced.ranges, self.end_that_may_be_committed())?;
        self.context.parking.reset(&self.answered(first.parked_streams(journal)).await?);
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
        let shortfalls = fenced.ranges.into_iter().flat_map(|range| range.outcomes).collect();
        let batcher = Batcher::new(self.context.clone(), shortfalls, believed, sender);
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
            let lanes = lanes.clone();
            let writer = Writer::new(self.context.clone(), connection, mark, supply, lanes);
            writers.push(self.lifecycle.spawn("writer", writer.run(session.clone())));
        }
        let drainer = Drainer::new(self.context.clone(), fenced.session);
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
        let limit = self.context.batch_timeout();
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
        let holes = holes(ranges, journal.first());
        let earlier = self.state.borrow().lost.clone();
        for (first, last) in holes.iter().filter(|hole| !earlier.contains(hole)) {
            tracing::error!(
                from = %first, to = %last,
                "PostgreSQL was set back further than the journal reaches: records of these positions are lost"
            );
        }
        let lost = with_earlier(&holes, &earlier);
        metrics::set_lost_bytes(lost.iter().map(|(first, last)| last.0 - first.0).sum());
        let version = Some(version.clone());
        self.state.send_modify(|state| {
            let stalled = state.stalled.take();
            *state = DatabaseState { reachable: true, version, last_error: None, stalled, lost };
        });
        tracing::info!(epoch, %from, "writing to PostgreSQL");
    }
}
