//! The bounded way in: room for bytes first, then a place in the queue, then the answer after the fsync. Both are
//! shared fairly between senders, see [`FairSemaphore`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_journal::SealedEntry;
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use super::costly_level::CostlyLevel;
use super::drain_rate::DrainRate;
use super::error::IntakeError;
use super::fair_semaphore::{FairSemaphore, NoPermit};
use super::ledger::{CommitWait, Ledger};
use super::sender::SenderId;
use super::submission::{
    DurableEntry, Message, QueuedSubmission, Refusal, Reservation, Submission,
};
use crate::telemetry::limits;

/// A sender of costly documents while many of them wait is told to come again after this.
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
    bytes: FairSemaphore,
    places: FairSemaphore,
    limits: IntakeLimits,
    ledger: Ledger,
    journaled: DrainRate,
    committed: DrainRate,
    costly: CostlyLevel,
    is_older: Arc<AtomicBool>,
}

impl Intake {
    /// The way in, and the end that the appender thread takes from.
    pub(crate) fn new(
        limits: IntakeLimits,
        ledger: Ledger,
        journaled: DrainRate,
        committed: DrainRate,
    ) -> (Intake, mpsc::Receiver<Message>) {
        // Places are taken before a message is sent, so that the queue itself is never full.
        let entries_max = limits.entries_max.clamp(1, Semaphore::MAX_PERMITS - OTHER_MESSAGES_MAX);
        let (messages, receiver) = mpsc::channel(entries_max + OTHER_MESSAGES_MAX);
        let (bytes, places) =
            (FairSemaphore::new(limits.bytes_max), FairSemaphore::new(entries_max as u64));
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

    /// How many of them wait, for the writers to say.
    pub(crate) fn costly(&self) -> &CostlyLevel {
        &self.costly
    }

    /// Hands entries to the journal. The answer comes through [`Pending`]; several submissions may be under way.
    pub async fn submit(
        &self,
        submission: Submission,
        room: Reservation,
    ) -> Result<Pending, IntakeError> {
        let bytes = submission.bytes();
        if submission.entries.iter().any(SealedEntry::is_too_large) {
            return Err(IntakeError::TooLarge { bytes });
        }
        let place = self.places.acquire(room.0.sender(), 1, self.limits.wait).await;
        let place = place.map_err(|refusal| self.refused(refusal))?;
        let (acknowledge, acknowledged) = oneshot::channel();
        let message = Message::Submit(QueuedSubmission { submission, acknowledge, room }, place);
        match self.messages.try_send(message) {
            Ok(()) => Ok(Pending { acknowledged, bytes }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.refused(NoPermit::Full)),
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

    /// Refuses what is new, and requests that wait for room. Submissions that have room may still come.
    pub fn refuse_new(&self) {
        self.bytes.close();
    }

    /// Refuses what is new, because an older copy of the journal was put back: what it takes is never written, and it would
    /// grow until its positions look like those that PostgreSQL has.
    pub(crate) fn refuse_older_journal(&self) {
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

    fn refused(&self, refusal: NoPermit) -> IntakeError {
        match refusal {
            NoPermit::Closed if self.is_older.load(Ordering::Acquire) => {
                IntakeError::JournalIsOlder
            }
            NoPermit::Closed => IntakeError::ShuttingDown,
            NoPermit::Full => {
                let retry_after = self.journaled.retry_after(self.bytes.held(), Instant::now());
                IntakeError::Overloaded { retry_after }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_record::Source;

    use super::super::submission::{RequestRefusal, Share};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: IntakeLimits = IntakeLimits {
        entries_max: 2,
        bytes_max: 60_000,
        wait: Duration::ZERO,
        journal_segment_bytes: 100_000,
    };

    /// Of which so many bytes a second go through, for all that is known.
    fn draining_at(bytes_per_second: u64) -> DrainRate {
        let now = Instant::now();
        let drain_rate = DrainRate::new(now.checked_sub(SECOND * 10).expect("the machine is up"));
        drain_rate.drained(bytes_per_second * 10);
        drain_rate.measure(u64::MAX, now);
        drain_rate
    }

    /// An intake of which the journal takes 2,000 bytes a second, and PostgreSQL 5,000.
    fn intake() -> (Intake, mpsc::Receiver<Message>) {
        Intake::new(LIMITS, Ledger::default(), draining_at(2_000), draining_at(5_000))
    }

    fn submission() -> Submission {
        Submission {
            entries: Vec::new(),
            share: Share { entries: 0, counters: Arc::default(), kept: None },
            other_shares: Vec::new(),
            source: Source::Http,
            claim: None,
            request: RequestRefusal::default(),
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
        queued.acknowledge.send(Err(full)).expect("its sender waits");
        // 100,000 bytes at 5,000 a second; then the next look at the journal finds it so.
        let retry_after = SECOND * 20 + TRIM_EVERY;
        let told = IntakeError::JournalFull { bytes: 7, bytes_max: 8, retry_after };
        assert_eq!(intake.durable(pending).await, Err(told));
    }
}
