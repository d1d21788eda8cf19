//! When which request is due.
//!
//! Records fall due in bursts: all records of a burst at one moment, as when a train of sensors wakes up. A burst is
//! cut into requests. The plan depends on nothing but its numbers, so latency can be measured from the moment a
//! request was *due*: a gateway that stalls cannot make itself look good by holding the sender back.

use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The plan of a run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Records a second; 0: as fast as the gateway takes them.
    pub rate: u64,
    /// Records that fall due together, at least 1.
    pub burst: u64,
    /// Most records of one request, at least 1.
    pub batch: u64,
    /// How long records fall due.
    pub duration: Duration,
}

/// One planned request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it is due, from the start; `None`: at once.
    pub due: Option<Duration>,
    pub records: u64,
}

impl Schedule {
    /// The request with this number, counted from 0; `None` when the plan has ended. Without a rate it never ends:
    /// the sender stops by the clock.
    pub fn request(&self, number: u64) -> Option<Planned> {
        let Some(total) = self.records_total() else {
            return Some(Planned { due: None, records: self.batch });
        };
        let requests_per_burst = self.burst.div_ceil(self.batch);
        let burst_start = (number / requests_per_burst).checked_mul(self.burst)?;
        let within_burst = (number % requests_per_burst) * self.batch;
        let end = (burst_start + self.burst).min(total);
        let records = end.checked_sub(burst_start + within_burst)?.min(self.batch);
        if records == 0 {
            return None;
        }
        let nanos = u128::from(burst_start) * NANOS_PER_SECOND / u128::from(self.rate);
        let due = Duration::from_nanos(u64::try_from(nanos).ok()?);
        Some(Planned { due: Some(due), records })
    }

    /// How many records the plan has; `None` without a rate.
    pub fn records_total(&self) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let total = u128::from(self.rate) * self.duration.as_nanos() / NANOS_PER_SECOND;
        Some(u64::try_from(total).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(rate: u64, burst: u64, batch: u64, seconds: u64) -> Schedule {
        Schedule { rate, burst, batch, duration: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_burst_falls_due_at_one_moment() {
        let schedule = schedule(20_000, 2_000, 800, 10);
        let planned: Vec<_> = (0..4).filter_map(|number| schedule.request(number)).collect();
        let at = |millis| Some(Duration::from_millis(millis));
        assert_eq!(planned[0], Planned { due: at(0), records: 800 });
        assert_eq!(planned[1], Planned { due: at(0), records: 800 });
        assert_eq!(planned[2], Planned { due: at(0), records: 400 });
        assert_eq!(planned[3], Planned { due: at(100), records: 800 });
    }

    #[test]
    fn without_a_rate_every_request_is_due_at_once() {
        let schedule = schedule(0, 2_000, 500, 10);
        assert_eq!(schedule.records_total(), None);
        assert_eq!(schedule.request(u64::MAX), Some(Planned { due: None, records: 500 }));
    }

    #[test]
    fn a_burst_larger_than_the_run_is_cut_to_its_length() {
        let schedule = schedule(100, 2_000, 500, 12);
        assert_eq!(schedule.request(2).map(|planned| planned.records), Some(200));
        assert_eq!(schedule.request(3), None);
        assert_eq!(schedule.request(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn the_plan_holds_exactly_its_records_in_time(
            rate in 1_u64..50_000, burst in 1_u64..5_000, batch in 1_u64..1_000, seconds in 1_u64..5
        ) {
            // Tiny bursts and batches would only make the plan long; the arithmetic is the same.
            let burst = burst.max(rate / 100);
            let batch = batch.max(burst / 20);
            let schedule = schedule(rate, burst, batch, seconds);
            let mut records = 0;
            let mut latest = Duration::ZERO;
            for planned in (0..).map_while(|number| schedule.request(number)) {
                let due = planned.due.expect("there is a rate");
                prop_assert!(due >= latest && due < schedule.duration);
                prop_assert!((1..=batch).contains(&planned.records));
                latest = due;
                records += planned.records;
            }
            prop_assert_eq!(Some(records), schedule.records_total());
        }
    }
}
