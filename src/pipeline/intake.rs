//! The bounded way in: room for bytes first, then a place in the queue, then the answer after the fsync. Both are
//! shared fairly between senders, see [`Room`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_journal::SealedEntry;
use tidegate_record::{Position, Source};
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::counters::StreamCounters;
use crate::pipeline::aside::{COSTLY_WAITING_MAX, CostlyLevel};
use crate::pipeline::ledger::CommitWait;
use crate::pipeline::room::{Held, NoRoom, Room};
use crate::pipeline::{Claim, Ledger, Pressure, RoomTaken, SenderId};
use crate::telemetry::limits;

/// Whoever sends costly documents while many of them wait is told to come again after this.
const COSTLY_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the journal is to be trimmed.
pub const TRIM_EVERY: Duration = Duration::from_secs(5);
/// Messages in the queue that are no submissions: the one that closes it.
const OTHER_MESSAGES_MAX: usize = 1;

/// Limits on what waits for the journal.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    pub entries_max: usize,
    pub bytes_max: u64,
    /// Longest wait for room before a sender is refused.
    pub wait: Duration,
    /// The journal gets room again in steps of this size.
    pub journal_segment_bytes: u64,
}

/// Why records were not taken. Where nothing else is said, nothing of them is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    #[error("the intake is full")]
    Overloaded { retry_after: Duration },
    #[error(
        "{COSTLY_WAITING_MAX} batches of documents that PostgreSQL takes long over wait to be written, and these records would \
         make more of them"
    )]
    CostlyFull { retry_after: Duration },
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
    #[error(
        "the journal is an older copy that was put back, GET /v1/status says what helps; these records were not kept"
    )]
    JournalIsOlder,
    /// The appender thread died with the answer.
    #[error("the gateway failed before it could tell whether the records were taken")]
    OutcomeUnknown,
}

impl IntakeError {
    /// The records may be in the journal all the same.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, IntakeError::JournalFailedMidway { .. } | IntakeError::OutcomeUnknown)
    }
}

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
    pub request: RequestFate,
}

/// One stream's part of a submission.
#[derive(Debug)]
pub struct Share {
    /// How many of the entries.
    pub entries: usize,
    /// Grow once the entries are durable.
    pub counters: Arc<StreamCounters>,
    /// Of the quarantine's room, by the entry for it; given back where that does not reach the journal.
    pub kept: Option<Box<RoomTaken>>,
}

/// What all submissions of one request have in common; clones are the same.
///
/// Invariant: once one of them was refused by the journal, all later ones are, so what is taken of a request is always
/// its beginning.
#[derive(Debug, Clone, Default)]
pub struct RequestFate(pub(super) Arc<OnceLock<Refusal>>);

/// What the appender thread receives.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "every message but the last is a submission, and a box would cost each an allocation"
)]
pub(super) enum Message {
    /// With its place in the queue, which is free again when it is taken out.
    Submit(QueuedSubmission, Held),
    /// Everything that was sent before is the last.
    Close,
}

#[derive(Debug)]
pub(super) struct QueuedSubmission {
    pub submission: Submission,
    pub acknowledge: oneshot::Sender<Result<DurableEntry, Refusal>>,
    /// Room that is free again once the entries are written.
    pub room: Reservation,
}

impl QueuedSubmission {
    /// Answers it, once what it held is free again for its sender's next try.
    pub(super) fn refuse(self, refusal: Refusal) {
        let QueuedSubmission { submission, acknowledge, room } = self;
        drop((submission, room));
        let _ = acknowledge.send(Err(refusal));
    }
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
pub struct Reservation(Held);

/// A submission under way.
#[derive(Debug)]
pub struct Pending {
    acknowledged: oneshot::Receiver<Result<DurableEntry, Refusal>>,
    bytes: u64,
}

/// The way in; clones share the limits.
#[derive(Debug, Clone)]
pub struct Intake {
    messages: mpsc::Sender<Message>,
    bytes: Room,
    places: Room,
    limits: IntakeLimits,
    ledger: Ledger,
    journaled: Pressure,
    committed: Pressure,
    costly: CostlyLevel,
    is_older: Arc<AtomicBool>,
}

impl Intake {
    /// The way in, and the end that the appender thread takes from.
    pub(super) fn new(
        limits: IntakeLimits,
        ledger: Ledger,
        journaled: Pressure,
        committed: Pressure,
    ) -> (Intake, mpsc::Receiver<Message>) {
        // Places are taken before a message is sent, so that the queue itself is never full.
        let entries_max = limits.entries_max.clamp(1, Semaphore::MAX_PERMITS - OTHER_MESSAGES_MAX);
        let (messages, receiver) = mpsc::channel(entries_max + OTHER_MESSAGES_MAX);
        let (bytes, places) = (Room::new(limits.bytes_max), Room::new(entries_max as u64));
        let intake = Intake {
            messages,
            bytes,
            places,
            limits,
            ledger,
            journaled,
            committed,
            costly: CostlyLevel::default(),
            is_older: Arc::default(),
        };
        (intake, receiver)
    }

    /// Waits, not for long, until there is room for `bytes` more of this sender.
    pub async fn reserve(
        &self,
        sender: SenderId,
        bytes: usize,
    ) -> Result<Reservation, IntakeError> {
        let held = self.bytes.acquire(sender, bytes as u64, self.limits.wait).await;
        held.map(Reservation).map_err(|refusal| self.refused(refusal))
    }

    /// [`Intake::reserve`] where that takes no waiting.
    pub fn try_reserve(&self, sender: SenderId, bytes: usize) -> Option<Reservation> {
        self.bytes.try_acquire(sender, bytes as u64).map(Reservation)
    }

    /// Makes a reservation larger, waiting as [`Intake::reserve`] does.
    pub async fn extend(
        &self,
        reservation: &mut Reservation,
        bytes: usize,
    ) -> Result<(), IntakeError> {
        let grown = reservation.0.grow(bytes as u64, self.limits.wait).await;
        grown.map_err(|refusal| self.refused(refusal))
    }

    /// Waits, not for long, while many batches of costly documents wait to be written; before more of them are submitted.
    pub async fn make_way_for_costly(&self) -> Result<(), IntakeError> {
        if self.costly.falls(self.limits.wait).await {
            return Ok(());
        }
        limits::COSTLY_BATCHES.hit();
        Err(IntakeError::CostlyFull { retry_after: COSTLY_RETRY_AFTER })
    }

    /// How many of them wait, for whoever writes them.
    pub(super) fn costly(&self) -> &CostlyLevel {
        &self.costly
    }

    /// Hands entries to the journal. The answer comes through [`Pending`]; several submissions may be under way.
    pub async fn submit(
        &self,
        submission: Submission,
        room: Reservation,
    ) -> Result<Pending, IntakeError> {
        let place = match self.places.try_acquire(room.0.sender(), 1) {
            Some(place) => place,
            None => {
                let place = self.places.acquire(room.0.sender(), 1, self.limits.wait).await;
                place.map_err(|refusal| self.refused(refusal))?
            }
        };
        self.queue(submission, room, place)
    }

    fn queue(
        &self,
        submission: Submission,
        room: Reservation,
        place: Held,
    ) -> Result<Pending, IntakeError> {
        let bytes = submission.entries.iter().map(SealedEntry::len_bytes).sum();
        let (acknowledge, acknowledged) = oneshot::channel();
        let message = Message::Submit(QueuedSubmission { submission, acknowledge, room }, place);
        match self.messages.try_send(message) {
            Ok(()) => Ok(Pending { acknowledged, bytes }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.refused(NoRoom::Full)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(IntakeError::ShuttingDown),
        }
    }

    /// Waits until a submission is durable.
    pub async fn durable(&self, pending: Pending) -> Result<DurableEntry, IntakeError> {
        match pending.acknowledged.await {
            Ok(Ok(durable)) => Ok(durable),
            Ok(Err(Refusal::Full { bytes, bytes_max })) => Err(IntakeError::JournalFull {
                bytes,
                bytes_max,
                retry_after: self.until_trimmed(pending.bytes),
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

    /// Refuses what is new, and whoever waits for room. Submissions that have room may still come.
    pub fn refuse_new(&self) {
        self.bytes.close();
    }

    /// Refuses what is new, because an older copy of the journal was put back: what it takes is never written, and it would
    /// grow until its positions look like those that PostgreSQL has.
    pub(super) fn refuse_older_journal(&self) {
        self.is_older.store(true, Ordering::Release);
        self.refuse_new();
    }

    /// Ends the appender thread once it has written everything that was submitted.
    pub async fn close(&self) {
        self.refuse_new();
        let _ = self.messages.send(Message::Close).await;
    }

    /// How many bytes and entries wait now.
    pub fn fill(&self) -> (u64, usize) {
        (self.bytes.held(), usize::try_from(self.places.held()).unwrap_or(usize::MAX))
    }

    /// Measures the rate, so that advice to come again is up to date. Call it about once a second.
    pub fn measure(&self) {
        self.journaled.measure(self.bytes.held(), Instant::now());
    }

    pub fn limits(&self) -> IntakeLimits {
        self.limits
    }

    /// A segment goes when all of it is committed, and the next look finds it so.
    fn until_trimmed(&self, bytes: u64) -> Duration {
        let bytes = bytes.saturating_add(self.limits.journal_segment_bytes);
        self.committed.retry_after(bytes, Instant::now()) + TRIM_EVERY
    }

    fn refused(&self, refusal: NoRoom) -> IntakeError {
        match refusal {
            NoRoom::Closed if self.is_older.load(Ordering::Acquire) => IntakeError::JournalIsOlder,
            NoRoom::Closed => IntakeError::ShuttingDown,
            NoRoom::Full => {
                let retry_after = self.journaled.retry_after(self.bytes.held(), Instant::now());
                IntakeError::Overloaded { retry_after }
            }
        }
    }
}

/// The id of an entry's first record: a tuple begins with its number of fields (2 bytes) and the length of the id (4).
pub fn entry_first_id(body: &Bytes) -> Option<Uuid> {
    let id = body.get(6..22)?;
    Uuid::from_slice(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: IntakeLimits = IntakeLimits {
        entries_max: 2,
        bytes_max: 60_000,
        wait: Duration::ZERO,
        journal_segment_bytes: 100_000,
    };

    /// Of which so many bytes a second go through, for all that is known.
    fn moving_at(bytes_per_second: u64) -> Pressure {
        let now = Instant::now();
        let pressure = Pressure::new(now.checked_sub(SECOND * 10).expect("the machine is up"));
        pressure.drained(bytes_per_second * 10);
        pressure.measure(u64::MAX, now);
        pressure
    }

    /// An intake of which the journal takes 2,000 bytes a second, and PostgreSQL 5,000.
    fn intake() -> (Intake, mpsc::Receiver<Message>) {
        Intake::new(LIMITS, Ledger::default(), moving_at(2_000), moving_at(5_000))
    }

    fn submission() -> Submission {
        Submission {
            entries: Vec::new(),
            share: Share { entries: 0, counters: Arc::default(), kept: None },
            other_shares: Vec::new(),
            source: Source::Http,
            claim: None,
            request: RequestFate::default(),
        }
    }

    /// Shares are by sender, so that it takes several to fill it.
    async fn fill(intake: &Intake) -> Vec<Reservation> {
        let mut held = Vec::new();
        for token in 0..6 {
            held.push(intake.reserve(SenderId::Token(token), 10_000).await.expect("there is room"));
        }
        held
    }

    #[tokio::test]
    async fn a_full_intake_is_told_by_the_bytes_in_it_and_the_journal_s_rate() {
        let (intake, _messages) = intake();
        let mut held = fill(&intake).await;
        let full = Err(IntakeError::Overloaded { retry_after: SECOND * 30 });
        assert_eq!(intake.reserve(SenderId::Local, 1).await.map(drop), full);
        assert_eq!(intake.extend(&mut held[0], 1).await, full);
        held.truncate(2);
        let room = intake.reserve(SenderId::Local, 60_000).await;
        let less = Err(IntakeError::Overloaded { retry_after: SECOND * 10 });
        assert_eq!(room.map(drop), less, "it does not fit beside what is there");
    }

    #[tokio::test]
    async fn a_full_queue_is_told_by_the_bytes_in_it_and_the_journal_s_rate() {
        let (intake, _messages) = intake();
        let mut held = fill(&intake).await;
        let mut pending = Vec::new();
        for _ in 0..LIMITS.entries_max {
            let room = held.pop().expect("six are held");
            pending.push(intake.submit(submission(), room).await.expect("there is a place"));
        }
        let room = held.pop().expect("six are held");
        let refused = intake.submit(submission(), room).await.map(drop);
        assert_eq!(refused, Err(IntakeError::Overloaded { retry_after: SECOND * 30 }));
    }

    #[tokio::test]
    async fn a_full_journal_is_told_by_a_segment_and_postgresql_s_rate() {
        let (intake, mut messages) = intake();
        let room = intake.reserve(SenderId::Local, 1_000).await.expect("there is room");
        let pending = intake.submit(submission(), room).await.expect("there is a place");
        let Some(Message::Submit(queued, _place)) = messages.recv().await else {
            panic!("it was submitted");
        };
        let full = Refusal::Full { bytes: 7, bytes_max: 8 };
        queued.acknowledge.send(Err(full)).expect("somebody waits");
        // 100,000 bytes at 5,000 a second; then the next look at the journal finds it so.
        let retry_after = SECOND * 20 + TRIM_EVERY;
        let told = IntakeError::JournalFull { bytes: 7, bytes_max: 8, retry_after };
        assert_eq!(intake.durable(pending).await, Err(told));
    }
}
