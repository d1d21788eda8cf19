//! Limits that keep one caller from taking everybody's share: how often each was hit, and a line in the log now and then.
//!
//! A limit that is hit may be hit a thousand times a second, so its line comes at most once in [`LINE_EVERY`], with the
//! number of hits since the one before. docs/limits.md says of each what happens at it.

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
    "requests were refused: what is held for heads, bodies and replies is at TIDEGATE_REQUEST_MEMORY_BYTES_MAX, or at an address's share of it",
);

/// Connections at once.
pub static CONNECTIONS: Limit = Limit::new(
    "connections",
    "there are as many connections as may be (TIDEGATE_CONNECTIONS_MAX): the least useful were closed, or the newest waits",
);

/// Connections of one address.
pub static CONNECTIONS_OF_ADDRESS: Limit = Limit::new(
    "connections_of_address",
    "an address has as many connections as it may (TIDEGATE_CONNECTIONS_PER_ADDRESS_MAX): it lost the least useful, or was refused",
);

/// Time that a peer takes to read what it asked for.
pub static REPLY_UNREAD: Limit = Limit::new(
    "reply_unread",
    "connections were closed: their peers did not read what they were sent",
);

/// Time for the head of a request.
pub static HEAD_TIME: Limit =
    Limit::new("head_time", "connections were closed: the head of a request did not come in time");

/// Requests for records at once, in all and of one user.
pub static READERS: Limit = Limit::new(
    "readers",
    "requests for records were refused: others are read, or replies are not taken",
);

/// Requests for all records at once, in all and of one user.
pub static EXPORTERS: Limit = Limit::new(
    "exporters",
    "requests for all records were refused: others are read, or replies are not taken",
);

/// Lists of the quarantine and of streams' sizes at once, in all and of one user.
pub static LISTS: Limit = Limit::new(
    "lists",
    "requests for the quarantine or for streams' sizes were refused: others are answered, or replies are not taken",
);

/// What PostgreSQL may take to read for one request.
pub static READING_TIME: Limit = Limit::new(
    "reading_time",
    "requests for records or for the quarantine were refused: PostgreSQL took too long",
);

/// Time that a reader waits for its own records.
pub static READ_WAIT: Limit = Limit::new(
    "read_wait",
    "requests with `wait` were refused: what they waited for was not committed in time",
);

/// Bytes of one reply.
pub static REPLY_BYTES: Limit =
    Limit::new("reply_bytes", "replies were cut: there is more than fits into one");

/// Samples at once, in all and of one user.
pub static SAMPLES: Limit =
    Limit::new("samples", "samples were refused: others are looked at, or still on their way");

/// Monitors of one user.
pub static MONITORS_OF_USER: Limit = Limit::new(
    "monitors_of_user",
    "monitors were refused: their user has as many as one may of TIDEGATE_MONITORS_MAX",
);

/// Previews of polling jobs at once, in all and of one user.
pub static PREVIEWS: Limit = Limit::new(
    "previews",
    "previews of polling jobs were refused: others are asked for, or looked at",
);

/// Frames that monitors did not take yet, in bytes.
pub static MONITOR_FRAMES: Limit = Limit::new(
    "monitor_frames",
    "monitors got gaps: the frames that wait for all of them are near TIDEGATE_MONITORS_BYTES_MAX",
);

/// Invalid records of one request that are kept.
pub static QUARANTINE_REQUEST: Limit = Limit::new(
    "quarantine_request",
    "invalid records were not kept: their requests had more than TIDEGATE_QUARANTINE_REQUEST_RECORDS_MAX or TIDEGATE_QUARANTINE_REQUEST_BYTES_MAX",
);

/// Streams of one request.
pub static REQUEST_STREAMS: Limit = Limit::new(
    "request_streams",
    "lines were refused: their requests are for more streams than one request may be",
);

/// Invalid records that a token's rate covers.
pub static QUARANTINE_QUOTA: Limit = Limit::new(
    "quarantine_quota",
    "invalid records were not kept: the rates of the tokens that sent them do not cover them",
);

/// Invalid records of one stream in the quarantine.
pub static QUARANTINE_STREAM: Limit = Limit::new(
    "quarantine_stream",
    "invalid records were not kept: the quarantine holds as much of their streams as TIDEGATE_QUARANTINE_STREAM_RECORDS_MAX and TIDEGATE_QUARANTINE_STREAM_BYTES_MAX allow",
);

/// Invalid records in the quarantine.
pub static QUARANTINE_ALL: Limit = Limit::new(
    "quarantine",
    "invalid records were not kept: the quarantine holds as much as TIDEGATE_QUARANTINE_RECORDS_MAX and TIDEGATE_QUARANTINE_BYTES_MAX allow",
);

/// The oldest records of the quarantine, which made room for others.
pub static QUARANTINE_OLDEST: Limit = Limit::new(
    "quarantine_oldest",
    "the oldest records of the quarantine were dropped, because it is full and TIDEGATE_QUARANTINE_FULL is drop_oldest",
);

/// The age of records in the quarantine.
pub static QUARANTINE_AGE: Limit = Limit::new(
    "quarantine_age",
    "records of the quarantine were dropped for their age, as TIDEGATE_QUARANTINE_DAYS and TIDEGATE_QUARANTINE_ACCEPTED_DAYS say",
);

/// Users.
pub static USERS: Limit =
    Limit::new("users", "users were refused: there are as many as there may be");

/// Tokens, of a user and in all.
pub static TOKENS: Limit =
    Limit::new("tokens", "tokens were refused: a user, or all together, have as many as they may");

/// Polling jobs, of a user and in all.
pub static POLLING_JOBS: Limit = Limit::new(
    "polling_jobs",
    "polling jobs were refused: a user, or all together, have as many as they may",
);

/// Keys and values in one record's documents.
pub static DOCUMENT_MEMBERS: Limit = Limit::new(
    "document_members",
    "records were invalid: their JSON has more keys and values than TIDEGATE_DOCUMENT_MEMBERS_MAX",
);

/// Batches of documents that PostgreSQL takes long over.
pub static COSTLY_BATCHES: Limit = Limit::new(
    "costly_batches",
    "records were refused: many batches of documents that PostgreSQL takes long over wait to be written",
);

/// Wrong passwords for one user from one address.
pub static SIGN_IN_USER_AND_ADDRESS: Limit = Limit::new(
    "sign_in_user_and_address",
    "passwords were refused unread, after too many wrong ones for the same user from the same address",
);

/// Wrong passwords from one address.
pub static SIGN_IN_ADDRESS: Limit = Limit::new(
    "sign_in_address",
    "passwords were refused unread, after too many wrong ones from the same address",
);

/// Wrong passwords for one user.
pub static SIGN_IN_USER: Limit = Limit::new(
    "sign_in_user",
    "passwords were refused unread, after too many wrong ones for the same user",
);

/// Passwords that wait to be hashed.
pub static SIGN_IN_QUEUE: Limit = Limit::new(
    "sign_in_queue",
    "passwords were refused unread, because too many wait to be checked",
);

/// How many streams there may be, in all and of one user.
pub static STREAMS: Limit = Limit::new(
    "streams",
    "streams were not made: there are as many as TIDEGATE_STREAMS_MAX and TIDEGATE_STREAMS_PER_USER_MAX allow",
);

/// All of them, so that each counter stands at 0 from the start.
const ALL: &[&Limit] = &[
    &REQUEST_MEMORY,
    &CONNECTIONS,
    &CONNECTIONS_OF_ADDRESS,
    &REPLY_UNREAD,
    &HEAD_TIME,
    &READERS,
    &EXPORTERS,
    &LISTS,
    &READING_TIME,
    &READ_WAIT,
    &REPLY_BYTES,
    &SAMPLES,
    &MONITORS_OF_USER,
    &PREVIEWS,
    &MONITOR_FRAMES,
    &QUARANTINE_REQUEST,
    &REQUEST_STREAMS,
    &QUARANTINE_QUOTA,
    &QUARANTINE_STREAM,
    &QUARANTINE_ALL,
    &QUARANTINE_OLDEST,
    &QUARANTINE_AGE,
    &USERS,
    &TOKENS,
    &POLLING_JOBS,
    &DOCUMENT_MEMBERS,
    &COSTLY_BATCHES,
    &SIGN_IN_USER_AND_ADDRESS,
    &SIGN_IN_ADDRESS,
    &SIGN_IN_USER,
    &SIGN_IN_QUEUE,
    &STREAMS,
];

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

/// Lets the counter of each begin, once there is a recorder of metrics.
pub fn begin() {
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
