//! How long to wait before trying again: twice as long after each failure in a row, up to a limit, with jitter.
//!
//! One mechanism for every retry of this package, with two policies: what the gateway needs for its own work is tried again
//! soon ([`Policy::OWN`]); an API, which belongs to others, is left alone for longer ([`Policy::API`]).

use std::time::Duration;

/// First wait for what the gateway needs itself.
pub const WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait for what the gateway needs itself, without its jitter.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// More doublings than this lead from no first wait to a longer one.
const DOUBLINGS_MAX: u32 = 20;

/// How long a retry waits.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    first: Duration,
    /// Without its jitter.
    longest: Duration,
    /// What a wait is multiplied with: from, to.
    jitter: (f64, f64),
}

impl Policy {
    /// For PostgreSQL, and for the gateway itself as its command line sees it.
    pub const OWN: Policy = Policy { first: WAIT_MIN, longest: WAIT_MAX, jitter: (1.0, 2.0) };

    /// For the API of a polling job that fails, beside the job's interval. Jobs that failed together do not come back
    /// together.
    pub const API: Policy = Policy {
        first: Duration::from_secs(2),
        longest: Duration::from_secs(15 * 60),
        jitter: (0.75, 1.25),
    };

    /// The wait after so many failures in a row.
    pub fn wait(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        wait.mul_f64(rand::random_range(self.jitter.0..=self.jitter.1))
    }
}

/// The waits of [`Policy::OWN`] between tries, without an end. Start again from the first after a success.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn new() -> Backoff {
        Backoff::default()
    }

    /// The next wait: at least [`WAIT_MIN`], at most twice [`WAIT_MAX`] with its jitter.
    pub fn next_wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Policy::OWN.wait(self.failures)
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

    #[test]
    fn an_api_is_left_alone_for_longer_and_longer_up_to_a_cap() {
        for (failures, seconds) in
            [(0, 2.0), (1, 2.0), (2, 4.0), (5, 32.0), (10, 900.0), (u32::MAX, 900.0)]
        {
            let wait = Policy::API.wait(failures).as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&wait), "{failures}: {wait}");
        }
    }
}
