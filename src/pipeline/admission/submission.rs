//! Entries on their way to the appender thread: what it receives, and what it answers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_journal::SealedEntry;
use tidegate_record::{Position, Source};
use tokio::sync::oneshot;

use super::fair_semaphore::Permit;
use super::keys::Claim;
use super::quarantine_budget::BudgetTaken;
use crate::counters::StreamCounters;

/// Entries that belong together: they are written side by side and answered as one.
#[derive(Debug)]
pub struct Submission {
    pub entries: Vec<SealedEntry>,
    /// Whose the first of them are.
    pub share: Share,
    /// Whose those behind them are, in their order; nearly always there is only one stream.
    pub other_shares: Vec<Share>,
    pub source: Source,
    /// Of a request with an idempotency key; its last entry has the answer.
    pub claim: Option<Claim>,
    pub request: RequestRefusal,
}

impl Submission {
    /// Bytes that its entries take in the journal.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(SealedEntry::len_bytes).sum()
    }
}

/// One stream's part of a submission.
#[derive(Debug)]
pub struct Share {
    /// How many of the entries.
    pub entries: usize,
    /// The stream's counters, which grow once the entries are durable.
    pub counters: Arc<StreamCounters>,
    /// Of the quarantine's room, by the entry for it; given back where that does not reach the journal.
    pub kept: Option<Box<BudgetTaken>>,
}

/// The journal's refusal of one of a request's submissions, once there is one; clones are the same.
///
/// Invariant: once one of them was refused, all later ones are, so what is taken of a request is always its beginning.
#[derive(Debug, Clone, Default)]
pub struct RequestRefusal(pub(crate) Arc<OnceLock<Refusal>>);

/// What the appender thread receives.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "every message but the last is a submission, and a box would cost each an allocation"
)]
pub(crate) enum Message {
    /// With its place in the queue, which is free again when it is taken out.
    Submit(QueuedSubmission, Permit),
    /// Everything that was sent before is the last.
    Close,
}

#[derive(Debug)]
pub(crate) struct QueuedSubmission {
    pub submission: Submission,
    pub acknowledge: oneshot::Sender<Result<DurableEntry, Refusal>>,
    /// Room that is free again once the entries are written.
    pub room: Reservation,
}

impl QueuedSubmission {
    /// Bytes that its entries take in the journal.
    pub(crate) fn bytes(&self) -> u64 {
        self.submission.bytes()
    }

    /// Answers it, once what it held is free again for its sender's next try.
    pub(crate) fn refuse(self, refusal: Refusal) {
        let QueuedSubmission { submission, acknowledge, room } = self;
        drop((submission, room));
        let _ = acknowledge.send(Err(refusal));
    }
}

/// Why the journal did not take a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    Full { bytes: u64, bytes_max: u64 },
    TooLarge,
    Failed { may_remain: bool, retry_after: Duration },
}

/// Room for bytes that a source holds in memory.
#[derive(Debug)]
pub struct Reservation(pub(super) Permit);

/// The answer to a submission: it can no longer be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableEntry {
    /// End of its last entry; everything is committed when the low-water mark is at or above it.
    pub end: Position,
}
