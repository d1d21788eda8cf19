//! How many records of a stream a sample may show now.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_record::{StreamId, UnixMicros};

/// A sample is sent this often; so its monitors get at most this many frames and gaps a second and stream.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Steps in which a second's share becomes free, so that the sample is spread over the second.
const STEPS: u64 = 4;
const SECOND_MICROS: i64 = 1_000_000;

/// Counts what was shown in this second of the clock. Memory: one number a stream.
#[derive(Debug)]
pub(super) struct SampleBudget {
    rate: u32,
    second: i64,
    used: HashMap<StreamId, u64>,
}

impl SampleBudget {
    /// At most `rate` records a second and stream.
    pub fn new(rate: u32) -> SampleBudget {
        SampleBudget { rate, second: 0, used: HashMap::new() }
    }

    /// Whether one more record of this stream may be shown; if so, it counts.
    pub fn take(&mut self, stream: StreamId, now: UnixMicros) -> bool {
        let second = now.0.div_euclid(SECOND_MICROS);
        if second != self.second {
            self.second = second;
            self.used.clear();
        }
        let micros = now.0.rem_euclid(SECOND_MICROS).unsigned_abs();
        let step = micros * STEPS / SECOND_MICROS.unsigned_abs();
        let allowed = (u64::from(self.rate) * (step + 1)).div_ceil(STEPS);
        let used = self.used.entry(stream).or_default();
        if *used < allowed {
            *used += 1;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_shows_more_than_the_rate_and_each_stream_has_its_own() {
        for rate in [0, 1, 3, 50] {
            let mut budget = SampleBudget::new(rate);
            for second in 0..3 {
                let mut shown = [0, 0];
                for step in 0..1000 {
                    let now = UnixMicros(second * SECOND_MICROS + step * 1000);
                    for (index, shown) in shown.iter_mut().enumerate() {
                        let stream = StreamId(i32::try_from(index).unwrap());
                        *shown += u32::from(budget.take(stream, now));
                    }
                }
                assert_eq!(shown, [rate, rate], "in second {second}");
            }
        }
    }

    #[test]
    fn the_first_record_of_a_second_is_shown_at_once_and_the_rest_is_spread() {
        let mut budget = SampleBudget::new(50);
        let at_once = (0..100).filter(|_| budget.take(StreamId(1), UnixMicros(0))).count();
        assert_eq!(at_once, 13);
        let later = (0..100).filter(|_| budget.take(StreamId(1), UnixMicros(990_000))).count();
        assert_eq!(later, 37);
    }
}
