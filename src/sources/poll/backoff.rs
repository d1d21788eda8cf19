//! How long a job that fails leaves its API alone, beyond its interval.

use std::time::Duration;

/// Wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait, without its jitter.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// The wait after so many failures in a row: twice as long each time, up to a limit, and up to a quarter longer or
/// shorter, so that jobs that failed together do not come back together.
pub(super) fn failure_wait(failures: i32) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or_default().min(20);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(WAIT_MAX);
    wait.mul_f64(rand::random_range(0.75..=1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap() {
        for (failures, seconds) in
            [(i32::MIN, 2.0), (1, 2.0), (2, 4.0), (5, 32.0), (10, 900.0), (i32::MAX, 900.0)]
        {
            let wait = failure_wait(failures).as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&wait), "{failures}: {wait}");
        }
    }
}
