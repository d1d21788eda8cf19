//! A time in which the journal cannot be written: when it is tried anew, and what is said of it in the log.
//!
//! Only the appender thread has one. It is tried with exponential backoff, whether or not records are sent, so that a
//! gateway whose disk has room again goes on by itself, and one that is flooded does not try more often.

use std::time::{Duration, Instant};

use tidegate_journal::DiskFailure;

use crate::backoff::Backoff;

/// Shortest advice to a refused sender.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    tries: u32,
    next_try: Instant,
    backoff: Backoff,
    said: String,
}

impl Outage {
    /// Begins, and says so.
    pub fn begin(failure: &DiskFailure, now: Instant) -> Outage {
        let mut backoff = Backoff::new();
        let next_try = now + backoff.next_wait();
        let (said, advice) = (failure.to_string(), failure.advice());
        tracing::error!(
            failure = said,
            advice,
            "the journal cannot be written; records are refused until it can, and it is tried again and again"
        );
        Outage { since: now, tries: 0, next_try, backoff, said }
    }

    /// How long until the journal is to be tried; zero when it is time.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next_try.saturating_duration_since(now)
    }

    /// When a refused sender may come again: not before the next try.
    pub fn retry_after(&self, now: Instant) -> Duration {
        self.wait(now).max(RETRY_AFTER_MIN)
    }

    /// A try failed. Says so only where the failure is another one.
    pub fn failed_again(&mut self, failure: &DiskFailure, now: Instant) {
        self.tries += 1;
        self.next_try = now + self.backoff.next_wait();
        let text = failure.to_string();
        if text != self.said {
            let advice = failure.advice();
            tracing::error!(failure = text, advice, "the journal still cannot be written");
            self.said = text;
        }
    }

    /// Ends, and says so.
    pub fn end(self, now: Instant) {
        let lasted = now.saturating_duration_since(self.since);
        tracing::info!(
            ?lasted,
            tries = self.tries + 1,
            "the journal can be written again; records are taken"
        );
    }
}
