//! Limits that keep one caller from taking everybody's share: how often each was hit, and a line in the log now and then.
//!
//! A limit that is hit may be hit a thousand times a second, so its line comes at most once in [`LINE_EVERY`], with the
//! number of hits since the one before. docs/LIMITS.md says of each what happens at it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::metrics::count_limit_hits;

/// Shortest time between two lines about the same limit.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A limit, as metrics and logs name it.
#[derive(Debug)]
pub struct Limit {
    /// Value of the metric's label.
    label: &'static str,
    /// What happened, for the log.
    words: &'static str,
    unsaid: Mutex<Unsaid>,
}

/// What the log does not know yet.
#[derive(Debug)]
struct Unsaid {
    hits: u64,
    line_at: Option<Instant>,
}

/// What is held for peers outside the records' own room, in bytes.
pub static REQUEST_MEMORY: Limit = Limit::new(
    "request_memory",
    "requests were refused: what is held for heads, bodies and replies is at TIDEGATE_REQUEST_MEMORY_BYTES_MAX",
);

/// Requests for records at once, in all and of one user.
pub static READERS: Limit = Limit::new(
    "readers",
    "requests for records were refused: others are read, or replies are not taken",
);

/// What PostgreSQL may take to read records for one request.
pub static READING_TIME: Limit =
    Limit::new("reading_time", "requests for records were refused: PostgreSQL took too long");

/// Bytes of one reply.
pub static REPLY_BYTES: Limit =
    Limit::new("reply_bytes", "replies were cut: there is more than fits into one");

/// Samples at once, in all and of one user.
pub static SAMPLES: Limit =
    Limit::new("samples", "samples were refused: others are looked at, or still on their way");

/// Frames that monitors did not take yet, in bytes.
pub static MONITOR_FRAMES: Limit = Limit::new(
    "monitor_frames",
    "monitors got gaps: the frames that wait for all of them are near TIDEGATE_MONITORS_BYTES_MAX",
);

/// All of them, so that each counter stands at 0 from the start.
const ALL: &[&Limit] =
    &[&REQUEST_MEMORY, &READERS, &READING_TIME, &REPLY_BYTES, &SAMPLES, &MONITOR_FRAMES];

impl Limit {
    const fn new(label: &'static str, words: &'static str) -> Limit {
        Limit { label, words, unsaid: Mutex::new(Unsaid { hits: 0, line_at: None }) }
    }

    /// Counts a hit.
    pub fn hit(&self) {
        self.hits(1);
    }

    /// Counts several at once.
    pub fn hits(&self, count: u64) {
        count_limit_hits(self.label, count);
        if let Some(hits) = self.line_for(count, Instant::now()) {
            tracing::warn!(limit = self.label, hits, "{}", self.words);
        }
    }

    /// The hits that a line is due for.
    fn line_for(&self, count: u64, now: Instant) -> Option<u64> {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        unsaid.hits += count;
        let is_due = unsaid.line_at.is_none_or(|at| now.duration_since(at) >= LINE_EVERY);
        is_due.then(|| {
            unsaid.line_at = Some(now);
            std::mem::take(&mut unsaid.hits)
        })
    }
}

/// The labels of all limits.
pub fn labels() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|limit| limit.label)
}

/// Lets the counter of each begin.
pub(super) fn begin() {
    labels().for_each(|label| count_limit_hits(label, 0));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_line_comes_at_once_and_then_with_all_hits_since() {
        let limit = Limit::new("test", "it happened");
        let start = Instant::now();
        assert_eq!(limit.line_for(1, start), Some(1));
        assert_eq!(limit.line_for(1, start), None);
        assert_eq!(limit.line_for(5, start + LINE_EVERY / 2), None);
        assert_eq!(limit.line_for(1, start + LINE_EVERY), Some(7));
    }

    #[test]
    fn each_limit_has_a_label_of_its_own() {
        let labels: BTreeSet<&str> = labels().collect();
        assert_eq!(labels.len(), ALL.len());
    }
}
