//! How long records are gathered into one frame.
//!
//! A frame costs about the same for any content, so many monitors get larger frames less often. With few of them the
//! frames are cheap, and a record is shown sooner.

use std::time::Duration;

/// All monitors together get a frame no more often than this, on average: 20,000 frames a second are a quarter of a core.
const PER_FRAME: Duration = Duration::from_micros(50);
/// Shortest time, whatever the number of monitors: each tick is a reading of the journal.
const TICK_MIN: Duration = Duration::from_millis(5);

/// The time from one tick to the next while records arrive; `longest` is the setting.
pub(super) fn tick(monitors: usize, longest: Duration) -> Duration {
    let monitors = u32::try_from(monitors).unwrap_or(u32::MAX);
    PER_FRAME.saturating_mul(monitors).max(TICK_MIN).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_monitors_get_records_sooner_and_many_get_larger_frames() {
        let milliseconds = Duration::from_millis;
        assert_eq!(tick(1, milliseconds(20)), milliseconds(5));
        assert_eq!(tick(100, milliseconds(20)), milliseconds(5));
        assert_eq!(tick(200, milliseconds(20)), milliseconds(10));
        assert_eq!(tick(10_000, milliseconds(20)), milliseconds(20));
        assert_eq!(tick(10_000, milliseconds(100)), milliseconds(100));
        assert_eq!(tick(usize::MAX, Duration::MAX), PER_FRAME * u32::MAX);
        // The setting is never exceeded.
        assert_eq!(tick(1, milliseconds(2)), milliseconds(2));
        assert_eq!(tick(1, Duration::ZERO), Duration::ZERO);
    }
}
