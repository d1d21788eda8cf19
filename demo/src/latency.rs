//! How long something took: a histogram in microseconds with three exact digits.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds: one hour. Longer ones count as this.
const MICROS_MAX: u64 = 3_600 * 1_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies of one kind.
#[derive(Debug, Clone)]
pub struct Latency {
    micros: Histogram<u64>,
    negative: u64,
}

impl Latency {
    pub fn new() -> anyhow::Result<Latency> {
        let micros = Histogram::new_with_bounds(1, MICROS_MAX, SIGNIFICANT_DIGITS);
        Ok(Latency { micros: micros.context("a histogram of latencies")?, negative: 0 })
    }

    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(MICROS_MAX);
        self.micros.saturating_record(micros);
    }

    /// Records the difference of two clock readings. A negative one shows that the clocks differ, and spoils the lot.
    pub fn record_micros(&mut self, micros: i64) {
        match u64::try_from(micros) {
            Ok(micros) => self.micros.saturating_record(micros),
            Err(_) => self.negative += 1,
        }
    }

    /// `p50`, `p99` and the longest; `None` if nothing was measured.
    pub fn quantiles(&self) -> Option<[Duration; 3]> {
        if self.micros.is_empty() || self.negative > 0 {
            return None;
        }
        let quantile = |share| Duration::from_micros(self.micros.value_at_quantile(share));
        Some([quantile(0.50), quantile(0.99), Duration::from_micros(self.micros.max())])
    }

    /// Whether a record was seen before it was sent: then two clocks were compared that differ.
    pub fn clocks_differ(&self) -> bool {
        self.negative > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new().expect("valid bounds");
        assert_eq!(latency.quantiles(), None);
        for micros in 1..=1_000 {
            latency.record(Duration::from_micros(micros));
        }
        let expected = [500, 990, 1_000].map(Duration::from_micros);
        assert_eq!(latency.quantiles(), Some(expected));
        latency.record(Duration::from_hours(24));
        let longest = latency.quantiles().map(|[.., longest]| longest.as_secs());
        assert!(longest >= Some(3_600), "cut, not lost: {longest:?}");
    }

    #[test]
    fn clocks_that_differ_give_no_numbers() {
        let mut latency = Latency::new().expect("valid bounds");
        latency.record_micros(10);
        latency.record_micros(-1);
        assert!(latency.clocks_differ());
        assert_eq!(latency.quantiles(), None);
    }
}
