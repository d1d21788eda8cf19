//! How fast things move, measured, so that a refused sender is told a truthful `Retry-After`.
//!
//! What counts is how fast things *can* move. How little moved while little was there to move says nothing of that, so
//! the average is taken over the times when work waited; otherwise a rate is only ever corrected upward. Where nothing
//! moves although something waits, the last rate says nothing either: the advice is then the time for which nothing has
//! moved, up to a limit, so that a sender that follows it comes neither often nor long after the end of the stall.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shortest and longest advice.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// The advice while no rate is known yet.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(2);
/// The longest advice for a stall, whose end is not known.
const RETRY_AFTER_STALLED_MAX: Duration = Duration::from_secs(60);
/// The rate is averaged over about this time.
const AVERAGED_OVER: Duration = Duration::from_secs(10);
/// The shortest time between two measurements.
const MEASURED_EVERY: Duration = Duration::from_millis(500);

/// A running count of bytes and the rate at which they can move; clones share it.
#[derive(Debug, Clone)]
pub struct DrainRate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: AtomicU64,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    at: Instant,
    bytes: u64,
    /// None: nothing has moved yet.
    bytes_per_second: Option<f64>,
    /// When something moved, or nothing waited, for the last time.
    fine_at: Instant,
}

impl DrainRate {
    pub fn new(now: Instant) -> DrainRate {
        let measured = Measured { at: now, bytes: 0, bytes_per_second: None, fine_at: now };
        DrainRate(Arc::new(Shared { bytes: AtomicU64::new(0), measured: Mutex::new(measured) }))
    }

    /// Counts bytes that went through.
    pub fn drained(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Measures. Call it about once a second, with the bytes that wait now.
    pub fn measure(&self, waiting: u64, now: Instant) {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        let mut measured = self.lock();
        let elapsed = now.saturating_duration_since(measured.at);
        if elapsed < MEASURED_EVERY {
            return;
        }
        let drained = bytes - measured.bytes;
        if drained > 0 {
            // More waits than went through, so it could not have been more.
            measured.learn(drained, elapsed, waiting >= drained);
        }
        if drained > 0 || waiting == 0 {
            measured.fine_at = now;
        }
        (measured.at, measured.bytes) = (now, bytes);
    }

    /// How long until `bytes` more went through, for all that is known.
    pub fn retry_after(&self, bytes: u64, now: Instant) -> Duration {
        let measured = self.lock();
        let drained = self.0.bytes.load(Ordering::Relaxed) - measured.bytes;
        let since = now.saturating_duration_since(measured.at).max(MEASURED_EVERY);
        let rate = measured.bytes_per_second.or((drained > 0).then(|| rate(drained, since)));
        let moving = match rate {
            Some(rate) => seconds_for(bytes, rate),
            None => RETRY_AFTER_UNKNOWN,
        };
        let stalled = measured.stalled_for(drained, now).min(RETRY_AFTER_STALLED_MAX);
        moving.max(stalled).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    /// For how long nothing has moved although something waits.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        let measured = self.lock();
        measured.stalled_for(self.0.bytes.load(Ordering::Relaxed) - measured.bytes, now)
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    /// `drained`: bytes that went through since it was measured.
    fn stalled_for(&self, drained: u64, now: Instant) -> Duration {
        if drained > 0 { Duration::ZERO } else { now.saturating_duration_since(self.fine_at) }
    }

    fn learn(&mut self, drained: u64, elapsed: Duration, at_its_limit: bool) {
        let latest = rate(drained, elapsed);
        let weight = -(-elapsed.as_secs_f64() / AVERAGED_OVER.as_secs_f64()).exp_m1();
        self.bytes_per_second = Some(match self.bytes_per_second {
            Some(average) if at_its_limit => average + (latest - average) * weight,
            Some(average) => average.max(latest),
            None => latest,
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for an advice in whole seconds")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "an advice in whole seconds")]
fn seconds_for(bytes: u64, bytes_per_second: f64) -> Duration {
    let seconds = (bytes as f64 / bytes_per_second).ceil();
    Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_advice_is_short() {
        let start = Instant::now();
        let drain_rate = DrainRate::new(start);
        assert_eq!(drain_rate.retry_after(u64::MAX, start), RETRY_AFTER_UNKNOWN);
        drain_rate.drained(10_000);
        let soon = start + Duration::from_millis(10);
        assert_eq!(
            drain_rate.retry_after(60_000, soon),
            SECOND * 3,
            "before anything was measured"
        );
    }

    #[test]
    fn advice_follows_the_measured_rate() {
        let start = Instant::now();
        let drain_rate = DrainRate::new(start);
        drain_rate.drained(10_000);
        drain_rate.measure(20_000, start + SECOND * 10);
        let now = start + SECOND * 10;
        assert_eq!(drain_rate.retry_after(5_000, now), SECOND * 5, "1,000 bytes a second");
        assert_eq!(drain_rate.retry_after(1, now), RETRY_AFTER_MIN);
        assert_eq!(drain_rate.retry_after(u64::MAX, now), RETRY_AFTER_MAX);
    }

    #[test]
    fn a_quiet_hour_does_not_look_like_a_slow_one() {
        let start = Instant::now();
        let drain_rate = DrainRate::new(start);
        drain_rate.drained(1_000_000);
        drain_rate.measure(1_000_000, start + SECOND);
        let mut now = start + SECOND;
        for _ in 0..3_600 {
            now += SECOND;
            drain_rate.drained(100);
            drain_rate.measure(10, now);
        }
        assert_eq!(drain_rate.retry_after(10_000_000, now), SECOND * 10);
        // A night without anything.
        for _ in 0..3_600 {
            now += SECOND;
            drain_rate.measure(0, now);
        }
        assert_eq!(drain_rate.retry_after(10_000_000, now), SECOND * 10);
    }

    #[test]
    fn a_stall_is_told_by_its_length_and_forgotten_with_its_end() {
        let start = Instant::now();
        let drain_rate = DrainRate::new(start);
        drain_rate.drained(1_000);
        drain_rate.measure(1_000, start + SECOND);
        let mut now = start + SECOND;
        for seconds in 1..1_000 {
            now += SECOND;
            drain_rate.measure(1_000, now);
            let expected = (SECOND * seconds).clamp(SECOND, RETRY_AFTER_STALLED_MAX);
            assert_eq!(drain_rate.retry_after(1_000, now), expected);
            assert_eq!(drain_rate.stalled_for(now), SECOND * seconds);
        }
        drain_rate.drained(1);
        assert_eq!(drain_rate.stalled_for(now), Duration::ZERO);
        assert_eq!(
            drain_rate.retry_after(3_000, now),
            SECOND * 3,
            "at once, with the rate of before"
        );
    }

    /// What drains: a rate that may change, and stalls.
    #[derive(Debug, Clone)]
    struct Phase {
        bytes_per_second: u64,
        seconds: u64,
    }

    fn phases() -> impl Strategy<Value = Vec<Phase>> {
        let rate = prop_oneof![1 => Just(0), 3 => 1_000..1_000_000_u64];
        let phase = (rate, 1..90_u64)
            .prop_map(|(bytes_per_second, seconds)| Phase { bytes_per_second, seconds });
        prop::collection::vec(phase, 1..6)
    }

    /// Lets a second pass in which more waits than moves.
    fn pass_second(drain_rate: &DrainRate, rate: u64, now: &mut Instant) {
        drain_rate.drained(rate);
        *now += SECOND;
        drain_rate.measure(u64::MAX / 2, *now);
    }

    proptest! {
        /// A sender that comes again when told finds room not much later than there was room, and does not come often.
        #[test]
        fn a_sender_that_comes_when_told_finds_room(
            before in phases(),
            stall in 0..600_u64,
            rate in 1_000..1_000_000_u64,
            wanted_seconds in 1..30_u64,
        ) {
            let start = Instant::now();
            let drain_rate = DrainRate::new(start);
            let mut now = start;
            for phase in before {
                for _ in 0..phase.seconds {
                    pass_second(&drain_rate, phase.bytes_per_second, &mut now);
                }
            }
            // The rate holds for long enough to be known; then a sender is refused, in a stall or not.
            for _ in 0..60 {
                pass_second(&drain_rate, rate, &mut now);
            }
            let (wanted, mut drained, mut waited, mut tries) = (rate * wanted_seconds, 0, 0, 0);
            let needed = stall + wanted_seconds;
            while drained < wanted {
                let advice = drain_rate.retry_after(wanted - drained, now).as_secs();
                tries += 1;
                for _ in 0..advice {
                    waited += 1;
                    let moving = if waited > stall { rate } else { 0 };
                    pass_second(&drain_rate, moving, &mut now);
                    drained += moving;
                }
            }
            prop_assert!(waited <= needed * 2 + 2 && waited <= needed + 62, "{waited} s for {needed} s");
            prop_assert!(tries <= 8 + stall / 30, "{tries} tries in {waited} s");
        }
    }
}
