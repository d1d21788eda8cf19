//! How fast things move, measured, so that a refused sender is told a truthful `Retry-After`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest and longest advice.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// The rate is averaged over about this time.
const AVERAGED_OVER: Duration = Duration::from_secs(10);
/// The shortest time between two measurements.
const MEASURED_EVERY: Duration = Duration::from_millis(500);

/// A running count of bytes and their average rate; clones share it.
#[derive(Debug, Clone)]
pub struct Pressure(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: AtomicU64,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    at: Instant,
    bytes: u64,
    bytes_per_second: f64,
}

impl Pressure {
    pub fn new(now: Instant) -> Pressure {
        let measured = Mutex::new(Measured { at: now, bytes: 0, bytes_per_second: 0.0 });
        Pressure(Arc::new(Shared { bytes: AtomicU64::new(0), measured }))
    }

    /// Counts bytes that went through.
    pub fn drained(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How long until `bytes` more went through, at the measured rate; the longest advice while nothing moves.
    pub fn retry_after(&self, bytes: u64, now: Instant) -> Duration {
        let rate = self.bytes_per_second(now);
        if rate < 1.0 {
            return RETRY_AFTER_MAX;
        }
        #[expect(clippy::cast_precision_loss, reason = "an advice in whole seconds")]
        let seconds = bytes as f64 / rate;
        Duration::try_from_secs_f64(seconds.ceil())
            .unwrap_or(RETRY_AFTER_MAX)
            .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    /// The average rate. Call it about once a second, so that the average follows.
    pub fn bytes_per_second(&self, now: Instant) -> f64 {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        let mut measured = self.0.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(measured.at);
        if elapsed >= MEASURED_EVERY {
            #[expect(clippy::cast_precision_loss, reason = "a rate for advice")]
            let latest = (bytes - measured.bytes) as f64 / elapsed.as_secs_f64();
            let weight = (elapsed.as_secs_f64() / AVERAGED_OVER.as_secs_f64()).min(1.0);
            measured.bytes_per_second += (latest - measured.bytes_per_second) * weight;
            measured.at = now;
            measured.bytes = bytes;
        }
        measured.bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_measured_rate() {
        let start = Instant::now();
        let pressure = Pressure::new(start);
        assert_eq!(pressure.retry_after(1, start), RETRY_AFTER_MAX, "nothing moved yet");
        pressure.drained(10_000);
        let later = start + Duration::from_secs(10);
        assert_eq!(pressure.retry_after(5_000, later), Duration::from_secs(5));
        assert_eq!(pressure.retry_after(1, later), RETRY_AFTER_MIN);
        assert_eq!(pressure.retry_after(u64::MAX, later), RETRY_AFTER_MAX);
        let stalled = later + Duration::from_secs(10);
        assert_eq!(pressure.retry_after(5_000, stalled), RETRY_AFTER_MAX);
    }
}
