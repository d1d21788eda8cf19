//! The small regular jobs: trimming the journal, partitions, measuring rates, keeping histograms small.

use std::time::{Duration, Instant};

use crate::api::AppState;
use crate::auth::TELL_FAILURES_EVERY;
use crate::catalog::LOOK_AT_PARTITIONS_EVERY;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{DrainRate, TRIM_EVERY};
use crate::telemetry::metrics;

/// How often rates are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Starts all of them. `committed`: how fast PostgreSQL takes records.
pub(super) fn start(state: &AppState, committed: DrainRate) {
    let lifecycle = &state.lifecycle;
    let metrics = state.metrics.clone();
    every(lifecycle, "metrics upkeep", metrics::UPKEEP_EVERY, move || {
        metrics.run_upkeep();
        std::future::ready(())
    });
    let measured = state.clone();
    every(lifecycle, "rates", MEASURE_EVERY, move || {
        measured.source.intake.measure();
        let backlog = measured.journal.synced().0.saturating_sub(measured.progress.low_water().0);
        committed.measure(backlog, Instant::now());
        std::future::ready(())
    });
    let auth = state.auth.clone();
    every(lifecycle, "wrong passwords", TELL_FAILURES_EVERY, move || {
        auth.tell_failures();
        std::future::ready(())
    });
    let trimmed = state.clone();
    every(lifecycle, "journal trimming", TRIM_EVERY, move || trim(trimmed.clone()));
    let partitioned = state.clone();
    every(lifecycle, "partitions", LOOK_AT_PARTITIONS_EVERY, move || {
        maintain_partitions(partitioned.clone())
    });
}

async fn trim(state: AppState) {
    let committed = state.progress.low_water();
    // Committed segments are kept against a failover that loses commits. To take records is worth more than that.
    let is_full_disk = state.appender.failure().is_some_and(|failure| failure.is_full_disk());
    let now = state.clock.now();
    let trimmed = tokio::task::spawn_blocking(move || {
        let trimmed = if is_full_disk {
            state.journal.trim_committed(committed)
        } else {
            state.journal.trim(committed, now)
        };
        state.source.keys.trim(state.journal.first());
        trimmed
    });
    let trimmed = trimmed.await;
    if let Ok(Err(error)) = trimmed {
        tracing::warn!(%error, "the journal was not trimmed");
    }
}

/// Once PostgreSQL is there. A shutdown does not wait for it.
async fn maintain_partitions(state: AppState) {
    let mut database = state.database_state.clone();
    let maintain = async {
        if database.wait_for(|database| database.reachable).await.is_ok() {
            state.catalog.maintain_partitions(state.clock.now()).await;
        }
    };
    tokio::select! {
        () = maintain => {}
        () = state.lifecycle.soft().cancelled() => {}
    }
}

/// Runs a job now and then, until shutdown; a slow run delays the next.
fn every<F, Fut>(lifecycle: &Lifecycle, name: &'static str, period: Duration, job: F)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let soft = lifecycle.soft().clone();
    lifecycle.spawn(name, async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => job().await,
                () = soft.cancelled() => return,
            }
        }
    });
}
