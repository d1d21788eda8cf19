//! Claims the jobs that are due, runs them, keeps their leases, and ends them with the gateway.
//!
//! One task, for any number of jobs: PostgreSQL knows what is due, by an index; nodes never wait for each other, because
//! what one is claiming the others skip. All times are the database's, and every wait is short, so the clock of this
//! machine can do what it likes.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_record::{RunId, UnixMicros};
use time::OffsetDateTime;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::context::PollingContext;
use super::database_clock::DatabaseClock;
use super::owner_runs::OwnerRuns;
use super::run::{Run, StopSignals};
use crate::backoff::Backoff;
use crate::db;
use crate::db::answered;
use crate::db::polling_runs::{self, ClaimedRow, LeftOut, RenewedRun};
use crate::telemetry::metrics;

/// Most jobs claimed at a time.
const CLAIM_MAX: usize = 64;
/// Shortest time between two claims that do not fill up: so that a claim is for several jobs where many are due.
const CLAIM_SPACING: Duration = Duration::from_millis(50);
/// Longest time between two looks for what is due; a job that another node made is noticed after at most this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks for others' jobs while an owner has its share of the runs: such a look passes over all that is due
/// of that owner.
const OTHERS_EVERY: Duration = Duration::from_millis(250);
/// Leases are renewed this many times within the time of one; runs that are younger than that wait for the next time.
const RENEWALS_PER_LEASE: u32 = 3;
/// How often due times in the future of a clock that was set back are looked for, although it was not seen to be.
const REPAIR_EVERY: Duration = Duration::from_secs(60 * 60);

/// See the module.
pub struct Scheduler {
    context: PollingContext,
    runs: JoinSet<()>,
    under_way: HashMap<Id, UnderWay>,
    clock: DatabaseClock,
    repair_at: Instant,
    /// The latest claim passed over jobs of owners that have their share of the runs.
    passes_over: bool,
    /// Not before this another claim passes over any.
    pass_over_at: Instant,
    backoff: Backoff,
    failing: bool,
}

struct UnderWay {
    run: RunId,
    owner: Option<i64>,
    began: Instant,
    stop: StopSignals,
}

impl Scheduler {
    pub fn new(context: PollingContext) -> Scheduler {
        Scheduler {
            context,
            runs: JoinSet::new(),
            under_way: HashMap::new(),
            clock: DatabaseClock::new(Instant::now()),
            repair_at: Instant::now(),
            passes_over: false,
            pass_over_at: Instant::now(),
            backoff: Backoff::new(),
            failing: false,
        }
    }

    /// Works until the gateway ends, and then until its runs have ended.
    pub async fn run(mut self) {
        let soft = self.context.lifecycle.soft().clone();
        tokio::select! {
            () = self.begin() => self.schedule(&soft).await,
            () = soft.cancelled() => {}
        }
        while let Some(ended) = self.runs.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// What the last process left in the journal is written first: it may be of runs that no other run has
    /// followed, and would be superseded by a new claim. Then this process takes its predecessor's leases back.
    async fn begin(&mut self) {
        let end = self.context.synced_at_start;
        let _ = self.context.committed.subscribe().wait_for(|low_water| *low_water >= end).await;
        loop {
            match answered(polling_runs::give_up_leases(&self.context.pool, self.context.journal))
                .await
            {
                Ok(0) => return,
                Ok(runs) => {
                    tracing::info!(runs, "polling runs of the process before this one are over");
                    return;
                }
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(self.backoff.next_wait()).await;
        }
    }

    async fn schedule(&mut self, soft: &CancellationToken) {
        let lease = self.context.limits.lease;
        let renew_every = lease / RENEWALS_PER_LEASE;
        let (mut renew_at, mut claim_at) = (Instant::now() + renew_every, Instant::now());
        let wake = self.context.wake.clone();
        loop {
            let has_permit = self.runs.len() < self.context.limits.runs_max;
            tokio::select! {
                () = soft.cancelled() => return,
                Some(ended) = self.runs.join_next_with_id() => {
                    self.ended(ended);
                    if self.passes_over {
                        claim_at = Instant::now();
                    }
                }
                () = sleep_until(renew_at) => {
                    self.renew(renew_every).await;
                    renew_at = Instant::now() + renew_every;
                }
                () = sleep_until(self.repair_at) => self.repair_due_times().await,
                () = wake.notified() => claim_at = Instant::now(),
                () = sleep_until(claim_at), if has_permit => {
                    claim_at = Instant::now() + self.claim().await;
                }
            }
        }
    }

    /// Begins runs of what is due; returns when to look again.
    async fn claim(&mut self) -> Duration {
        if self.failing {
            // Leases may have ended while the database was away; what the runs wait to be committed is theirs.
            self.renew(Duration::ZERO).await;
        }
        let runs_max = self.context.limits.runs_max;
        let owners = OwnerRuns::count(self.under_way.values().map(|run| run.owner), runs_max);
        let left_out = LeftOut {
            runs: self.under_way.values().map(|under_way| under_way.run.run).collect(),
            owners: owners.full(),
        };
        self.passes_over = !left_out.owners.is_empty();
        let pass_over_in = self.pass_over_at.saturating_duration_since(Instant::now());
        if self.passes_over && !pass_over_in.is_zero() {
            return pass_over_in;
        }
        let free = runs_max.saturating_sub(self.runs.len());
        let limit = u32::try_from(free.min(CLAIM_MAX).min(owners.room())).unwrap_or_default();
        let context = &self.context;
        let claimed = polling_runs::claim(
            &context.pool,
            context.journal,
            &context.node,
            context.limits.lease,
            limit,
            &left_out,
        );
        let jobs = match answered(claimed).await {
            Ok(jobs) => jobs,
            Err(error) => {
                self.failed(&error);
                return self.backoff.next_wait();
            }
        };
        if let Some(job) = jobs.first() {
            self.read_clock(job.started_at);
        }
        let is_filled = jobs.len() == limit as usize;
        for job in jobs {
            self.start(job);
        }
        metrics::set_poll_runs(self.runs.len(), self.context.limits.runs_max);
        if is_filled {
            self.went_well();
            return Duration::ZERO;
        }
        self.next_look().await
    }

    /// Everything that was due is claimed, but for what was passed over: when to look again.
    async fn next_look(&mut self) -> Duration {
        match answered(polling_runs::next_wake(&self.context.pool)).await {
            Ok(next) => {
                self.went_well();
                self.read_clock(next.now);
                if self.passes_over {
                    self.pass_over_at = Instant::now() + OTHERS_EVERY;
                    return OTHERS_EVERY;
                }
                next.wait().map_or(LOOK_EVERY, |wait| wait.clamp(CLAIM_SPACING, LOOK_EVERY))
            }
            Err(error) => {
                self.failed(&error);
                self.backoff.next_wait()
            }
        }
    }

    fn start(&mut self, job: ClaimedRow) {
        let (run, owner) = (job.run(), job.owner_id);
        let (stop, began) = (StopSignals::default(), Instant::now());
        let running = Run::new(self.context.clone(), job, stop.clone());
        let task = self.runs.spawn(running.run());
        self.under_way.insert(task.id(), UnderWay { run, owner, began, stop });
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                // Its lease ends by itself.
                tracing::error!(%error, "a polling job's run ended in a panic");
                error.id()
            }
        };
        self.under_way.remove(&id);
        metrics::set_poll_runs(self.runs.len(), self.context.limits.runs_max);
    }

    /// Keeps the leases of runs that are as old, and ends those that others have followed, and those of disabled users.
    async fn renew(&mut self, old: Duration) {
        let runs: Vec<RunId> = self
            .under_way
            .values()
            .filter(|under_way| under_way.began.elapsed() >= old)
            .map(|under_way| under_way.run)
            .collect();
        if runs.is_empty() {
            return;
        }
        let renewed = polling_runs::renew(&self.context.pool, &runs, self.context.limits.lease);
        match answered(renewed).await {
            Ok(kept) => {
                let kept: HashMap<Uuid, RenewedRun> =
                    kept.into_iter().map(|kept| (kept.run_id, kept)).collect();
                for UnderWay { run, stop, .. } in self.under_way.values() {
                    match kept.get(&run.run) {
                        None if runs.contains(run) => stop.superseded.cancel(),
                        Some(kept) if kept.owner_disabled => stop.owner_disabled.cancel(),
                        _ => {}
                    }
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Has due times repaired at once where the clock was set back.
    fn read_clock(&mut self, now: OffsetDateTime) {
        if self.clock.was_set_back(UnixMicros::of(now), Instant::now()) {
            self.repair_at = Instant::now();
        }
    }

    async fn repair_due_times(&mut self) {
        self.repair_at = Instant::now() + REPAIR_EVERY;
        match answered(polling_runs::repair_due_times(&self.context.pool)).await {
            Ok(0) => {}
            Ok(jobs) => {
                tracing::warn!(
                    jobs,
                    "the database's clock was set back; these polling jobs run at once"
                );
            }
            Err(error) => {
                self.failed(&error);
                self.repair_at = Instant::now() + self.backoff.next_wait();
            }
        }
    }

    /// Said once, until it goes well again.
    fn failed(&mut self, error: &db::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "polling jobs wait for PostgreSQL");
        }
    }

    fn went_well(&mut self) {
        self.backoff = Backoff::new();
        if std::mem::take(&mut self.failing) {
            tracing::info!("polling jobs go on");
        }
    }
}
