//! The bounded way in: room for bytes first, then a place in the queue, then the answer after the fsync.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::hub::counters::StreamCounters;
use crate::journal::SealedEntry;
use crate::pipeline::ledger::CommitWait;
use crate::pipeline::{Claim, Ledger, Pressure};
use crate::record::{Position, Source};

/// Room is counted in units of this many bytes.
const ROOM_UNIT_BYTES: u64 = 1 << 10;

/// Limits on what waits for the journal.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    pub entries_max: usize,
    pub bytes_max: u64,
    /// Longest wait for room before a sender is refused.
    pub wait: Duration,
}

/// Why records were not taken. Where nothing else is said, nothing of them is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    #[error("the intake is full")]
    Overloaded { retry_after: Duration },
    #[error(
        "the journal is full: {bytes} of {bytes_max} bytes wait for PostgreSQL or for the end of retention"
    )]
    JournalFull { bytes: u64, bytes_max: u64, retry_after: Duration },
    #[error(
        "the journal cannot be written at the moment, GET /readyz says why; these records were not kept"
    )]
    JournalFailed { retry_after: Duration },
    /// Their write failed, and the disk did not let them be taken back.
    #[error(
        "the journal cannot be written at the moment, GET /readyz says why; the disk does not tell whether these records were kept"
    )]
    JournalFailedMidway { retry_after: Duration },
    #[error("{bytes} bytes do not fit one entry")]
    TooLarge { bytes: u64 },
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// The appender thread died with the answer.
    #[error("the gateway failed before it could tell whether the records were taken")]
    OutcomeUnknown,
}

/// Entries that belong together: they are written side by side and answered as one.
#[derive(Debug)]
pub struct Submission {
    pub entries: Vec<SealedEntry>,
    /// Whose counters grow once the entries are durable.
    pub counters: Arc<StreamCounters>,
    pub source: Source,
    /// Of a request with an idempotency key; its last entry has the answer.
    pub claim: Option<Claim>,
}

/// What the appender thread receives.
#[derive(Debug)]
pub(super) enum Message {
    Submit(QueuedSubmission),
    /// Everything that was sent before is the last.
    Close,
}

#[derive(Debug)]
pub(super) struct QueuedSubmission {
    pub submission: Submission,
    pub acknowledge: oneshot::Sender<Result<DurableEntry, Refusal>>,
    /// Room that is free again once the entries are written.
    #[expect(dead_code, reason = "held until the entries are written")]
    pub room: Reservation,
}

/// Why the journal did not take a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Full { bytes: u64, bytes_max: u64 },
    TooLarge,
    Failed { may_remain: bool, retry_after: Duration },
}

/// The answer to a submission: it can no longer be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableEntry {
    /// End of its last entry; everything is committed when the low-water mark is at or above it.
    pub end: Position,
}

/// Room for bytes that a source holds in memory.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

/// A submission under way.
#[derive(Debug)]
pub struct Pending {
    acknowledged: oneshot::Receiver<Result<DurableEntry, Refusal>>,
    bytes: u64,
}

/// The way in; clones share the limits.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    limits: IntakeLimits,
    ledger: Ledger,
    journaled: Pressure,
    committed: Pressure,
}

impl Intake {
    /// The way in, and the end that the appender thread takes from.
    pub(super) fn new(
        limits: IntakeLimits,
        ledger: Ledger,
        journaled: Pressure,
        committed: Pressure,
    ) -> (Intake, mpsc::Receiver<Message>) {
        let (queue, receiver) = mpsc::channel(limits.entries_max.max(1));
        let room = Arc::new(Semaphore::new(units(limits.bytes_max) as usize));
        (Intake { queue, room, limits, ledger, journaled, committed }, receiver)
    }

    /// Waits, not for long, until there is room for `bytes` more.
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation, IntakeError> {
        let wanted = units(bytes as u64).min(units(self.limits.bytes_max));
        let acquire = Arc::clone(&self.room).acquire_many_owned(wanted);
        match tokio::time::timeout(self.limits.wait, acquire).await {
            Ok(Ok(permit)) => Ok(Reservation(permit)),
            Ok(Err(_closed)) => Err(IntakeError::ShuttingDown),
            Err(_elapsed) => Err(self.overloaded()),
        }
    }

    /// Makes a reservation larger, waiting as [`Intake::reserve`] does.
    pub async fn extend(
        &self,
        reservation: &mut Reservation,
        bytes: usize,
    ) -> Result<(), IntakeError> {
        let more = self.reserve(bytes).await?;
        reservation.0.merge(more.0);
        Ok(())
    }

    /// Hands entries to the journal. The answer comes through [`Pending`]; several submissions may be under way.
    pub async fn submit(
        &self,
        submission: Submission,
        room: Reservation,
    ) -> Result<Pending, IntakeError> {
        let bytes = submission.entries.iter().map(SealedEntry::len_bytes).sum();
        let (acknowledge, acknowledged) = oneshot::channel();
        let message = Message::Submit(QueuedSubmission { submission, acknowledge, room });
        match self.queue.send_timeout(message, self.limits.wait).await {
            Ok(()) => Ok(Pending { acknowledged, bytes }),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(self.overloaded()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(IntakeError::ShuttingDown),
        }
    }

    /// Waits until a submission is durable.
    pub async fn durable(&self, pending: Pending) -> Result<DurableEntry, IntakeError> {
        match pending.acknowledged.await {
            Ok(Ok(durable)) => Ok(durable),
            Ok(Err(Refusal::Full { bytes, bytes_max })) => Err(IntakeError::JournalFull {
                bytes,
                bytes_max,
                retry_after: self.committed.retry_after(pending.bytes, Instant::now()),
            }),
            Ok(Err(Refusal::TooLarge)) => Err(IntakeError::TooLarge { bytes: pending.bytes }),
            Ok(Err(Refusal::Failed { may_remain: false, retry_after })) => {
                Err(IntakeError::JournalFailed { retry_after })
            }
            Ok(Err(Refusal::Failed { may_remain: true, retry_after })) => {
                Err(IntakeError::JournalFailedMidway { retry_after })
            }
            Err(_dropped) => Err(IntakeError::OutcomeUnknown),
        }
    }

    /// Registers a wait for the commit of an entry; before it is submitted.
    pub fn wait_for_commit(&self, first_id: Uuid) -> CommitWait {
        self.ledger.register(first_id)
    }

    /// Refuses what is new. Submissions that have room may still come.
    pub fn refuse_new(&self) {
        self.room.close();
    }

    /// Ends the appender thread once it has written everything that was submitted.
    pub async fn close(&self) {
        self.refuse_new();
        let _ = self.queue.send(Message::Close).await;
    }

    /// How many bytes and entries wait now.
    pub fn fill(&self) -> (u64, usize) {
        let free = self.room.available_permits() as u64 * ROOM_UNIT_BYTES;
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        (self.limits.bytes_max.saturating_sub(free), waiting)
    }

    /// Measures the rate, so that advice to come again is up to date. Call it about once a second.
    pub fn measure(&self) {
        self.journaled.bytes_per_second(Instant::now());
    }

    pub fn limits(&self) -> IntakeLimits {
        self.limits
    }

    fn overloaded(&self) -> IntakeError {
        let (bytes, _) = self.fill();
        IntakeError::Overloaded { retry_after: self.journaled.retry_after(bytes, Instant::now()) }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

/// The id of an entry's first record: a tuple begins with its number of fields (2 bytes) and the length of the id (4).
pub fn entry_first_id(body: &Bytes) -> Option<Uuid> {
    let id = body.get(6..22)?;
    Uuid::from_slice(id).ok()
}
