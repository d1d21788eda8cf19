//! How long the gateway waits before it tries again what it needs itself, PostgreSQL above all: exponential backoff with
//! jitter, capped at seconds, so that it goes on soon after an outage.
//!
//! What belongs to somebody else is left alone for longer, by a rule that stands beside it: a polling job's API that fails, a
//! fault that only an operator can mend.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// First wait.
pub const WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait, without its jitter.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// The waits between tries, without an end. Start again from the first after a success.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    pub fn new() -> Backoff {
        Backoff(
            ExponentialBuilder::default()
                .with_min_delay(WAIT_MIN)
                .with_max_delay(WAIT_MAX)
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }

    /// The next wait: at least [`WAIT_MIN`], at most twice [`WAIT_MAX`] with its jitter.
    pub fn next_wait(&mut self) -> Duration {
        self.0.next().unwrap_or(WAIT_MAX)
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_never_end() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..100).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().all(|wait| *wait >= WAIT_MIN && *wait <= WAIT_MAX * 2));
        assert!(waits[99] >= WAIT_MAX);
    }
}
