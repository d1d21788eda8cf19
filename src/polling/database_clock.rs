//! Sees when the database's clock is set back, as by a person or by a failover to another machine: due times that were
//! computed before that lie too far in the future.

use tidegate_record::UnixMicros;
use tokio::time::Instant;

use crate::db::polling_runs::SET_BACK_MIN;

/// Readings of the database's clock, held against this process's own time, which only goes forward.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    began: Instant,
    /// What the database's clock showed when this process's time began, as the reading has it that was furthest ahead.
    ahead_micros: Option<i64>,
}

impl DatabaseClock {
    pub fn new(began: Instant) -> DatabaseClock {
        DatabaseClock { began, ahead_micros: None }
    }

    /// Takes a reading of `now`, read at `at`: was the clock set back, at once or bit by bit, since a reading before?
    pub fn was_set_back(&mut self, now: UnixMicros, at: Instant) -> bool {
        let micros =
            |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let start = now.0.saturating_sub(micros(at.duration_since(self.began)));
        let ahead = *self.ahead_micros.get_or_insert(start);
        let was_set_back = ahead.saturating_sub(start) > micros(SET_BACK_MIN);
        self.ahead_micros = Some(if was_set_back { start } else { ahead.max(start) });
        was_set_back
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_goes_back_is_seen_to() {
        let began = Instant::now();
        let mut clock = DatabaseClock::new(began);
        let mut was_set_back = |clock_seconds: i64, after_seconds: u64| {
            let now = UnixMicros(clock_seconds * 1_000_000);
            clock.was_set_back(now, began + Duration::from_secs(after_seconds))
        };
        assert!(!was_set_back(1_000, 0), "there is nothing to compare it with");
        assert!(!was_set_back(1_060, 60));
        assert!(!was_set_back(90_000, 120), "it was set ahead");
        assert!(!was_set_back(90_001, 121));
        assert!(was_set_back(1_122, 122), "and back again");
        assert!(!was_set_back(1_123, 123), "which is said once");
        for after in 0..9 {
            assert!(!was_set_back(1_123, 124 + after), "it stands, or goes back bit by bit");
        }
        assert!(was_set_back(1_123, 134));
        assert!(!was_set_back(1_183, 194));
    }
}
