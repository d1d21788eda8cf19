//! What became of every record that was sent, as far as the gateway's replies tell.
//!
//! Every number that was handed out ends as exactly one of: acknowledged (its table must have it once), quarantined
//! or refused (its table must not have it), or doubtful (its table may have it once). Doubtful are the records of a
//! request whose connection broke before the reply, and those of a batch that lost some records to the quarantine
//! without naming each.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use tidegate_record::Position;
use tokio::time::Instant;

use crate::feed::{Dataset, PerDataset};
use crate::gateway::Reply;
use crate::latency::Latency;
use crate::sequence::{SEQUENCES_MAX, SequenceSet};

/// The ledger of one stream.
#[derive(Debug, Clone, Default)]
pub struct StreamLedger {
    /// The next number to hand out.
    next: u64,
    /// Must be in the table exactly once.
    pub acknowledged: SequenceSet,
    /// May be in the table, at most once.
    pub doubtful: SequenceSet,
    /// Acknowledged, but in a batch that does not say which of its records are quarantined.
    unnamed_acknowledged: u64,
    pub quarantined: u64,
    /// Sent, and not answered.
    pub unknown: u64,
    /// Given up after refusals, or invalid and not kept: the gateway never took them.
    pub refused: u64,
}

impl StreamLedger {
    /// All records that the gateway has promised to keep.
    pub fn acknowledged_count(&self) -> u64 {
        self.acknowledged.count() + self.unnamed_acknowledged
    }

    /// Hands out numbers for `records` records; `None` when there are no more.
    pub fn reserve(&mut self, records: u64) -> Option<Range<u64>> {
        let end = self.next.checked_add(records).filter(|&end| end <= SEQUENCES_MAX)?;
        let range = self.next..end;
        self.next = end;
        Some(range)
    }

    /// Enters a reply; false if it does not account for every record of the request.
    fn answered(&mut self, sequences: Range<u64>, reply: &Reply) -> bool {
        let sent = sequences.end - sequences.start;
        let quarantined = reply.quarantined;
        self.quarantined += quarantined.min(sent);
        let invalid = quarantined.saturating_add(reply.not_kept);
        self.refused += reply.not_kept.min(sent);
        if reply.accepted().saturating_add(invalid) != sent {
            self.doubtful.insert_range(sequences);
            return false;
        }
        let named: BTreeSet<u64> = reply
            .errors
            .iter()
            .filter(|error| (1..=sent).contains(&error.record))
            .map(|error| sequences.start + error.record - 1)
            .collect();
        if named.len() as u64 == invalid {
            self.acknowledged.insert_range(sequences);
            for sequence in named {
                self.acknowledged.remove(sequence);
            }
        } else {
            self.unnamed_acknowledged += reply.accepted();
            self.doubtful.insert_range(sequences);
        }
        true
    }
}

/// The ledger of a run.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub streams: PerDataset<StreamLedger>,
    /// From the moment a request was due (without a rate: was sent) to its acknowledgement.
    pub latency: Latency,
    /// The furthest position that a reply named.
    pub position: Position,
    pub last_acknowledged_at: Option<Instant>,
    /// Requests that were sent again after a refusal.
    pub repeats: u64,
    /// Replies that do not account for every record of their request: a fault of the gateway.
    pub miscounted: u64,
    /// Why the last request failed, if one did.
    pub last_failure: Option<String>,
}

impl Ledger {
    pub fn new() -> anyhow::Result<Ledger> {
        Ok(Ledger {
            streams: PerDataset::default(),
            latency: Latency::new()?,
            position: Position::default(),
            last_acknowledged_at: None,
            repeats: 0,
            miscounted: 0,
            last_failure: None,
        })
    }

    /// The gateway answered, `latency` after the request was due.
    pub fn answered(
        &mut self,
        dataset: Dataset,
        sequences: Range<u64>,
        reply: &Reply,
        latency: Duration,
        now: Instant,
    ) {
        if !self.streams.get_mut(dataset).answered(sequences, reply) {
            self.miscounted += 1;
        }
        self.position = self.position.max(reply.position);
        self.latency.record(latency);
        self.last_acknowledged_at = Some(now);
    }

    /// The gateway did not take these records, and the sender gave up.
    pub fn refused(&mut self, dataset: Dataset, sequences: &Range<u64>, reason: String) {
        self.streams.get_mut(dataset).refused += sequences.end - sequences.start;
        self.last_failure = Some(reason);
    }

    /// Whether the gateway took these records is unknown.
    pub fn unknown(&mut self, dataset: Dataset, sequences: Range<u64>, reason: String) {
        let stream = self.streams.get_mut(dataset);
        stream.unknown += sequences.end - sequences.start;
        stream.doubtful.insert_range(sequences);
        self.last_failure = Some(reason);
    }

    pub fn acknowledged_count(&self) -> u64 {
        self.streams.sum(StreamLedger::acknowledged_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(json: &str) -> Reply {
        serde_json::from_str(json).expect("a reply")
    }

    fn answered(json: &str) -> (StreamLedger, bool) {
        let mut ledger = StreamLedger::default();
        let sequences = ledger.reserve(4).expect("numbers");
        let complete = ledger.answered(sequences, &reply(json));
        (ledger, complete)
    }

    #[test]
    fn numbers_are_handed_out_once_and_end() {
        let mut ledger = StreamLedger::default();
        assert_eq!(ledger.reserve(3), Some(0..3));
        assert_eq!(ledger.reserve(2), Some(3..5));
        assert_eq!(ledger.reserve(SEQUENCES_MAX), None);
        assert_eq!(ledger.reserve(u64::MAX), None);
        assert_eq!(ledger.reserve(1), Some(5..6));
    }

    #[test]
    fn a_named_record_in_quarantine_must_not_be_in_the_table() {
        let (ledger, complete) = answered(
            r#"{"accepted":3,"quarantined":1,"position":"00000000000000ff",
                "errors":[{"record":2,"line":2,"column":"c","code":"invalid_type","message":"m"}]}"#,
        );
        assert!(complete);
        assert!(!ledger.acknowledged.contains(1) && !ledger.doubtful.contains(1));
        assert_eq!((ledger.acknowledged.count(), ledger.quarantined), (3, 1));
    }

    #[test]
    fn a_quarantine_without_names_leaves_the_batch_doubtful() {
        let (ledger, complete) =
            answered(r#"{"accepted":3,"quarantined":1,"position":"0000000000000001"}"#);
        assert!(complete);
        assert_eq!((ledger.acknowledged.count(), ledger.doubtful.count()), (0, 4));
        assert_eq!(ledger.acknowledged_count(), 3);
    }

    #[test]
    fn a_reply_that_loses_a_record_is_a_fault() {
        for json in [
            r#"{"accepted":3,"quarantined":0,"position":"0000000000000001"}"#,
            r#"{"committed":2,"duplicates":1,"quarantined":0,"position":"0000000000000001"}"#,
            r#"{"accepted":18446744073709551615,"quarantined":5,"position":"0000000000000001"}"#,
        ] {
            let (ledger, complete) = answered(json);
            assert!(!complete, "{json}");
            assert_eq!(ledger.acknowledged.count(), 0, "{json}");
        }
    }

    #[test]
    fn a_committed_reply_counts_as_an_acknowledgement() {
        let (ledger, complete) =
            answered(r#"{"committed":4,"duplicates":0,"quarantined":0,"position":"1"}"#);
        assert!(complete);
        assert_eq!(ledger.acknowledged.count(), 4);
    }

    #[test]
    fn unknown_records_are_doubtful_and_refused_ones_are_not() {
        let mut ledger = Ledger::new().expect("a ledger");
        ledger.unknown(Dataset::Movies, 0..2, "broken".into());
        ledger.refused(Dataset::Movies, &(2..5), "503".into());
        let movies = ledger.streams.get(Dataset::Movies);
        assert_eq!((movies.unknown, movies.refused, movies.doubtful.count()), (2, 3, 2));
    }
}
