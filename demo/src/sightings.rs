//! What the monitor has seen: every record of this run, every announced gap, and the gateway's own counts.

use crate::feed::{Dataset, PerDataset};
use crate::latency::Latency;
use crate::sequence::{Insertion, Listed, SequenceSet};

/// What the monitor has seen of one stream.
#[derive(Debug, Clone, Default)]
pub struct StreamSightings {
    pub seen: SequenceSet,
    /// Seen more than once.
    pub double: Listed,
    /// Records of this run without a number that could be one.
    pub strange: u64,
    /// Records that the gateway said it left out, of this run or another's.
    pub gap_records: u64,
    /// Gaps whose size the gateway could not tell.
    pub gaps_uncounted: u64,
    /// The gateway's own count of commits, others' records included. For the progress only: the tables are the truth.
    pub committed: Meter,
}

impl StreamSightings {
    /// A record of this run; `None` if its number is not one.
    pub fn record(&mut self, sequence: Option<u64>) {
        match sequence.map(|sequence| (sequence, self.seen.insert(sequence))) {
            Some((_, Insertion::New)) => {}
            Some((sequence, Insertion::Again)) => self.double.add(sequence),
            Some((_, Insertion::OutOfRange)) | None => self.strange += 1,
        }
    }

    /// An announced gap; `None` if its size is not known.
    pub fn gap(&mut self, records: Option<u64>) {
        match records {
            Some(records) => self.gap_records = self.gap_records.saturating_add(records),
            None => self.gaps_uncounted += 1,
        }
    }

    /// Whether every one of `expected` was seen, or may be in a gap.
    pub fn accounts_for(&self, expected: &SequenceSet) -> bool {
        self.gaps_uncounted > 0 || expected.without(&[&self.seen]).count <= self.gap_records
    }
}

/// What the monitor has seen of the run.
#[derive(Debug, Clone)]
pub struct Sightings {
    pub streams: PerDataset<StreamSightings>,
    /// From the moment a record was due to be sent to its arrival here, on this machine's clock.
    pub from_sent: Latency,
    /// From `received_at` (the gateway's clock) to its arrival here.
    pub from_received: Latency,
    /// Connections that broke and were resumed.
    pub reconnects: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Why the monitor stopped watching, if it did.
    pub failure: Option<String>,
}

impl Sightings {
    pub fn new() -> anyhow::Result<Sightings> {
        Ok(Sightings {
            streams: PerDataset::default(),
            from_sent: Latency::new()?,
            from_received: Latency::new()?,
            reconnects: 0,
            unreadable: 0,
            failure: None,
        })
    }

    pub fn stream_mut(&mut self, dataset: Dataset) -> &mut StreamSightings {
        self.streams.get_mut(dataset)
    }
}

/// How far a counter has come since the first look, over restarts of what counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    last: Option<u64>,
    counted: u64,
    /// What is known for certain, whatever was counted.
    settled: u64,
}

impl Meter {
    /// A look at the counter. One that has fallen was reset to 0 in between.
    pub fn observe(&mut self, value: u64) {
        let growth = match self.last {
            None => 0,
            Some(last) => value.checked_sub(last).unwrap_or(value),
        };
        self.counted = self.counted.saturating_add(growth);
        self.last = Some(value);
    }

    /// Puts in what is known for certain, where the counter has told less so far.
    pub fn settle(&mut self, total: u64) {
        self.settled = self.settled.max(total);
    }

    pub fn total(&self) -> u64 {
        self.counted.max(self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_comes_twice_is_named() {
        let mut stream = StreamSightings::default();
        for sequence in [Some(4), Some(5), Some(4), None, Some(u64::MAX)] {
            stream.record(sequence);
        }
        assert_eq!(stream.double, Listed { count: 1, first: vec![4] });
        assert_eq!((stream.seen.count(), stream.strange), (2, 2));
    }

    #[test]
    fn only_an_announced_gap_excuses_an_unseen_record() {
        let mut expected = SequenceSet::default();
        expected.insert_range(0..10);
        let mut stream = StreamSightings::default();
        (0..7).for_each(|sequence| stream.record(Some(sequence)));
        assert!(!stream.accounts_for(&expected));
        stream.gap(Some(2));
        assert!(!stream.accounts_for(&expected));
        stream.gap(Some(1));
        assert!(stream.accounts_for(&expected));
        let mut blind = StreamSightings::default();
        blind.gap(None);
        assert!(blind.accounts_for(&expected), "a gap of unknown size may hold any number");
    }

    #[test]
    fn a_meter_survives_a_restart_of_what_it_reads() {
        let mut meter = Meter::default();
        for value in [1_000, 1_500, 1_500, 200, 300] {
            meter.observe(value);
        }
        assert_eq!(meter.total(), 800);
        meter.settle(900);
        meter.settle(100);
        assert_eq!(meter.total(), 900);
        // The counter catches up with what was known before.
        meter.observe(400);
        assert_eq!(meter.total(), 900);
    }
}
