//! Sends the feeds by the schedule, over many connections.
//!
//! Each connection is a worker that takes the next planned request, waits until it is due, and sends it until the
//! gateway has answered for good. Only what was certainly not accepted is sent again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tidegate_record::UnixMicros;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::book::Book;
use crate::feed::{Dataset, Feed, PerDataset};
use crate::gateway::{Attempt, Gateway};
use crate::schedule::{Planned, Schedule};

/// How long after the planned end a late request is still sent.
const LATENESS_MAX: Duration = Duration::from_secs(2);
/// Pauses after a refusal without `Retry-After`.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest part of a pause that is added by chance, so that the workers do not come back all at once.
const JITTER_SHARE: f64 = 0.25;

/// Where a feed's records go.
pub struct Lane {
    pub dataset: Dataset,
    pub feed: Arc<Feed>,
    pub url: Url,
}

/// What all workers share.
pub struct Sender {
    pub gateway: Arc<Gateway>,
    pub book: Arc<Book>,
    pub lanes: PerDataset<Option<Lane>>,
    pub schedule: Schedule,
    /// Percent of the requests that carry movies.
    pub movies_percent: u64,
    pub connections: u64,
    /// How long a request is repeated while it is refused.
    pub wait: Duration,
    /// Ends sending.
    pub stop: CancellationToken,
    /// Number of the next planned request.
    pub next: AtomicU64,
}

/// The start of a run on both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub instant: Instant,
    pub moment: UnixMicros,
}

impl Start {
    /// The wall clock's reading at an instant.
    fn moment_of(self, instant: Instant) -> UnixMicros {
        let since = instant.saturating_duration_since(self.instant).as_micros();
        UnixMicros(self.moment.0.saturating_add(i64::try_from(since).unwrap_or(i64::MAX)))
    }
}

impl Sender {
    /// Sends until the plan, the time ends, or the user stops it. An error is a refusal for good.
    pub async fn run(self: Arc<Self>, start: Start) -> anyhow::Result<()> {
        let mut workers = JoinSet::new();
        for _ in 0..self.connections {
            let sender = Arc::clone(&self);
            workers.spawn(async move { sender.work(start).await });
        }
        let mut outcome = Ok(());
        while let Some(worker) = workers.join_next().await {
            let worker = worker.context("a sending worker failed").flatten();
            if worker.is_err() && outcome.is_ok() {
                // What one request is refused for, the next would be too.
                self.stop.cancel();
                outcome = worker;
            }
        }
        outcome
    }

    async fn work(&self, start: Start) -> anyhow::Result<()> {
        let grace = if self.schedule.rate == 0 { Duration::ZERO } else { LATENESS_MAX };
        let end = start.instant + self.schedule.duration + grace;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(planned) = self.schedule.request(number) else {
                return Ok(());
            };
            let due = planned.due.map(|due| start.instant + due);
            if let Some(due) = due {
                let waited = self.stop.run_until_cancelled(sleep_until(due)).await;
                if waited.is_none() {
                    return Ok(());
                }
            }
            let now = Instant::now();
            if now >= end || self.stop.is_cancelled() {
                return Ok(());
            }
            let due = due.unwrap_or(now);
            let dataset = dataset_of(number, self.movies_percent);
            let Some(lane) = self.lanes.get(dataset) else {
                continue;
            };
            if !self.send_planned(lane, planned, due, start).await? {
                return Ok(());
            }
        }
    }

    /// Sends one planned request; false if there are no more numbers for its records.
    async fn send_planned(
        &self,
        lane: &Lane,
        planned: Planned,
        due: Instant,
        start: Start,
    ) -> anyhow::Result<bool> {
        let reserved = self.book.ledger().streams.get_mut(lane.dataset).reserve(planned.records);
        let Some(sequences) = reserved else {
            return Ok(false);
        };
        let body = lane.feed.body(sequences.clone(), start.moment_of(due))?;
        self.send(lane, sequences, body, due).await?;
        Ok(true)
    }

    /// Sends a body until it is answered for good, and enters the outcome.
    async fn send(
        &self,
        lane: &Lane,
        sequences: Range<u64>,
        body: Bytes,
        due: Instant,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.wait;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .without_max_times()
            .build();
        loop {
            let content_type = lane.feed.content_type();
            match self.gateway.send_records(&lane.url, content_type, body.clone()).await {
                Attempt::Answered(reply) => {
                    let now = Instant::now();
                    let latency = now.saturating_duration_since(due);
                    self.book.ledger().answered(lane.dataset, sequences, &reply, latency, now);
                    return Ok(());
                }
                Attempt::Unknown(reason) => {
                    self.book.ledger().unknown(lane.dataset, sequences, reason);
                    return Ok(());
                }
                Attempt::Rejected(reason) => {
                    self.book.ledger().refused(lane.dataset, &sequences, reason.clone());
                    anyhow::bail!(
                        "the gateway rejects records for {}: {reason}",
                        lane.feed.stream()
                    );
                }
                Attempt::Refused { retry_after, reason } => {
                    let pause = retry_after.or_else(|| pauses.next()).unwrap_or(PAUSE_MAX);
                    let pause =
                        pause.max(PAUSE_MIN).mul_f64(1.0 + JITTER_SHARE * rand::random::<f64>());
                    let in_time = Instant::now() + pause < deadline;
                    let waited = if in_time {
                        self.stop.run_until_cancelled(sleep(pause)).await
                    } else {
                        None
                    };
                    if waited.is_none() {
                        self.book.ledger().refused(lane.dataset, &sequences, reason);
                        return Ok(());
                    }
                    self.book.ledger().repeats += 1;
                }
            }
        }
    }
}

/// Spreads the requests with movies evenly among the others.
fn dataset_of(number: u64, movies_percent: u64) -> Dataset {
    let movies_before = |number: u64| u128::from(number) * u128::from(movies_percent) / 100;
    if movies_before(number) == movies_before(number.saturating_add(1)) {
        Dataset::Weather
    } else {
        Dataset::Movies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movies_are_spread_evenly() {
        for percent in [0, 1, 25, 33, 100] {
            let movies = |range: Range<u64>| {
                range.filter(|&number| dataset_of(number, percent) == Dataset::Movies).count()
                    as u64
            };
            assert_eq!(movies(0..100), percent);
            assert_eq!(movies(0..10_000), percent * 100);
        }
        let quarter: Vec<_> = (0..8).map(|number| dataset_of(number, 25)).collect();
        assert_eq!(quarter[3], Dataset::Movies);
        assert_eq!(quarter[..3], [Dataset::Weather; 3]);
        assert_eq!(quarter[..4], quarter[4..]);
    }

    #[test]
    fn the_wall_clock_follows_the_steady_one() {
        let start = Start { instant: Instant::now(), moment: UnixMicros(5) };
        let later = start.instant + Duration::from_millis(3);
        assert_eq!(start.moment_of(later), UnixMicros(3_005));
        assert_eq!(start.moment_of(start.instant), UnixMicros(5));
    }
}
