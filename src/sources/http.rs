//! The HTTP source: a body of records becomes entries as it arrives, and the answer tells what is durable.
//!
//! A large body is never held in memory: whenever an entry is full it goes to the intake, and only a few entries of
//! one request are under way at once. A request with an idempotency key is read as a whole and taken [`once`].

mod failure;
mod once;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tidegate_codec::Stream;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::MatchedName;
use tidegate_codec::formats::{Format, Framer, FramerLimits, PushProgress};
use tidegate_journal::Journal;
use tidegate_record::{Position, Source, UnixMicros};
use uuid::Uuid;

use crate::auth::Admission;
use crate::counters::Counters;
use crate::db::kept_records::TakenOver;
use crate::pipeline::{
    Claim, CommitOutcome, CommitWait, Intake, IntakeError, Keys, Pending, Progress as Committed,
    QuarantineRoom, RequestRefusal, Reservation, SenderId, Submission,
};
use crate::sources::assembler::{
    Assembled, Assembler, ENTRY_TARGET_BYTES, Origin, PlacedError, nth_id,
};
use crate::sources::body::BodyReader;
use crate::sources::encoders::Encoders;
use crate::sources::keeping::{Keeping, NotKept};

pub use failure::{FailureReason, IngestFailure};

/// Entries of one request that may be under way to the journal.
const PENDING_ENTRIES_MAX: usize = 4;
/// Tuples of a body that must fit one entry may take this many times the room of the largest one. With the body itself
/// this is what the intake has room for at least (`config.rs`), so that nobody waits in vain.
const TUPLES_PER_BODY_MAX: usize = 2;
/// First bytes of a refused record that are kept.
const RAW_BYTES_MAX: usize = 64 << 10;
/// After larger bodies the encoder is not kept; they take longer than making another.
const KEPT_ENCODER_BODY_BYTES_MAX: u64 = 64 << 10;
/// Least room that a request takes in the intake, in bytes.
const ROOM_BYTES_MIN: usize = 1 << 10;
/// Most ids that `return=ids` lists.
pub const IDS_MAX: usize = 100_000;

/// When to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Once the records are durable in the journal.
    #[default]
    Journal,
    /// Once they are in the table.
    Commit,
}

/// What to do with invalid records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Keep them aside and take the others.
    #[default]
    Quarantine,
    /// Take nothing.
    Reject,
}

/// Makes the stream of a request's first record that is kept. `None`: it could not be made, and whoever was to make it
/// knows why.
pub type MakeStream<'a> = BoxFuture<'a, Option<Arc<Stream>>>;

/// A request to ingest, but for its body.
#[derive(Debug)]
pub struct IngestRequest {
    /// Where it is still to be made: what it will be, but for its number.
    pub stream: Arc<Stream>,
    pub sender: SenderId,
    /// Pays for what is taken, where the sender has a quota.
    pub quota: Option<Admission>,
    pub user: Arc<str>,
    pub received_at: UnixMicros,
    pub format: Format,
    /// How a body of CSV is to be read.
    pub csv: CsvOptions,
    pub ack: Ack,
    pub on_error: OnError,
    pub return_ids: bool,
    /// The request's idempotency key.
    pub key: Option<String>,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct IngestReply {
    pub accepted: u64,
    pub quarantined: u64,
    /// Invalid records that the quarantine does not keep; nobody has them but the sender.
    pub not_kept: NotKept,
    /// Records refused: those that were quarantined or not kept, unless `on_error=reject`.
    pub refused: u64,
    pub errors: Vec<PlacedError>,
    /// Names of a CSV header that were taken for others.
    pub matched: Vec<MatchedName>,
    /// Lines without anything.
    pub skipped_lines: u64,
    /// End of the last entry; `None` if nothing went to the journal.
    pub position: Option<Position>,
    pub ids: Vec<Uuid>,
    /// Set with `ack=commit`, unless the wait was over before the commit.
    pub committed: Option<CommitOutcome>,
    /// The body was one JSON object.
    pub single: bool,
    /// The request had been taken before, and this is what it was answered then.
    pub replayed: bool,
}

/// The source; clones share everything.
#[derive(Clone)]
pub struct HttpSource {
    pub intake: Intake,
    pub encoders: Encoders,
    pub counters: Counters,
    pub keys: Keys,
    /// Where the answers to requests with keys are.
    pub journal: Journal,
    pub committed: Committed,
    pub quarantine: QuarantineRoom,
    pub entry_bytes_max: usize,
    pub commit_wait: Duration,
}

/// One request under way.
struct Request<'a> {
    source: &'a HttpSource,
    wanted: IngestRequest,
    /// Makes the stream, which is not there yet.
    make: Option<MakeStream<'a>>,
    room: Option<Reservation>,
    room_bytes: usize,
    pending: VecDeque<Sent>,
    fate: RequestRefusal,
    waits: Vec<CommitWait>,
    reply: IngestReply,
}

/// A submission that was sent and not yet answered.
struct Sent {
    pending: Pending,
    first_id: Uuid,
    rows: u32,
    quarantined: u32,
}

/// A quarantined record that is to be taken once more.
#[derive(Debug)]
pub struct Replay {
    pub id: Uuid,
    /// The record as a body of the request's format; `None` if not all of it was kept.
    pub kept: Option<Vec<u8>>,
}

impl HttpSource {
    /// Takes a quarantined record once more: as it is, or, where `body` is not empty, as the JSON object there. The
    /// request's key is the replay's. `take_over` is run when nobody else can be replaying it in this process.
    pub async fn replay<F>(
        &self,
        request: IngestRequest,
        replay: Replay,
        body: BodyReader,
        take_over: F,
    ) -> Result<IngestReply, Box<IngestFailure>>
    where
        F: Future<Output = Result<TakenOver, sqlx::Error>>,
    {
        let mut under_way = Request::new(self, request, None);
        match under_way.run_replay(replay, body, take_over).await {
            Ok(()) => Ok(under_way.reply),
            Err(reason) => Err(under_way.fail(reason).await),
        }
    }

    /// Most bytes of tuples that a body may make that must fit one entry.
    fn entry_tuples_bytes_max(&self) -> usize {
        TUPLES_PER_BODY_MAX * self.entry_bytes_max
    }

    /// Takes all records of a body. The reply comes once they are durable, or committed where that was asked for.
    /// `make`: the stream is not there yet, and is made when its first record is kept.
    pub async fn ingest(
        &self,
        request: IngestRequest,
        body: BodyReader,
        make: Option<MakeStream<'_>>,
    ) -> Result<IngestReply, Box<IngestFailure>> {
        let mut under_way = Request::new(self, request, make);
        let result = match under_way.wanted.key.take() {
            Some(key) => Box::pin(under_way.run_once(key, body)).await,
            None => under_way.run(body).await,
        };
        match result {
            Ok(()) => {
                under_way.count_not_kept();
                Ok(under_way.reply)
            }
            Err(reason) => Err(Box::pin(under_way.fail(reason)).await),
        }
    }
}

impl<'a> Request<'a> {
    fn new(
        source: &'a HttpSource,
        wanted: IngestRequest,
        make: Option<MakeStream<'a>>,
    ) -> Request<'a> {
        Request {
            source,
            wanted,
            make,
            room: None,
            room_bytes: 0,
            pending: VecDeque::new(),
            fate: RequestRefusal::default(),
            waits: Vec::new(),
            reply: IngestReply::default(),
        }
    }

    /// What splits the body, and what gathers its records, in one entry where the request has a key.
    fn parser(
        &self,
        has_key: bool,
        replays: Option<Uuid>,
    ) -> Result<(Framer, Assembler), FailureReason> {
        let rejects = self.wanted.on_error == OnError::Reject;
        let taken = self.source.encoders.take(&self.wanted.stream);
        let encoder = taken.map_err(|error| FailureReason::Stream(error.to_string()))?;
        let origin = Origin {
            stream: Arc::clone(&self.wanted.stream),
            source: Source::Http,
            user: Arc::clone(&self.wanted.user),
            received_at: self.wanted.received_at,
            one_entry: rejects || has_key,
            csv: self.wanted.csv.clone(),
            replays,
        };
        let quota = self.wanted.quota.as_ref().map(Admission::invalid_records);
        let (room, stream) = (&self.source.quarantine, self.wanted.stream.id);
        let keeping = (!rejects).then(|| Keeping::new(room, stream, quota));
        let assembler = Assembler::new(origin, encoder.column_set(), keeping);
        let limits = FramerLimits {
            record_bytes_max: self.source.entry_bytes_max,
            raw_bytes_max: RAW_BYTES_MAX,
        };
        let csv = self.wanted.csv.clone();
        Ok((Framer::new(self.wanted.format, encoder, limits, csv), assembler))
    }

    /// Keeps the encoder of a body of so many bytes for the next request, unless it may hold much memory.
    fn give_back_encoder(&self, framer: Framer, body_bytes: u64) {
        // Of a stream that is not there yet nobody asks for one.
        if body_bytes <= KEPT_ENCODER_BODY_BYTES_MAX && self.make.is_none() {
            self.source.encoders.give_back(Arc::clone(&self.wanted.stream), framer.into_encoder());
        }
    }

    async fn run(&mut self, mut body: BodyReader) -> Result<(), FailureReason> {
        let one_entry = self.wanted.on_error == OnError::Reject;
        let (mut framer, mut assembler) = self.parser(false, None)?;
        while let Some(chunk) = body.next().await? {
            if one_entry && body.decompressed_bytes() > self.source.entry_bytes_max as u64 {
                return Err(FailureReason::TooLargeToReject {
                    bytes_max: self.source.entry_bytes_max,
                });
            }
            let held = |framer: &Framer, rest: &[u8]| framer.carry_bytes() + rest.len();
            self.make_room(held(&framer, &chunk) + assembler.bytes()).await?;
            assembler.expect(chunk.len());
            let mut rest = &chunk[..];
            while let PushProgress::SinkFull { consumed } = framer.push(rest, &mut assembler)? {
                rest = &rest[consumed..];
                self.send(&mut assembler).await?;
                self.make_room(held(&framer, rest)).await?;
            }
            let tuples_bytes_max = self.source.entry_tuples_bytes_max();
            if one_entry && assembler.bytes() > tuples_bytes_max {
                return Err(FailureReason::TooManyToReject { tuples_bytes_max });
            }
        }
        let finished = framer.finish(&mut assembler)?;
        self.give_back_encoder(framer, body.decompressed_bytes());
        self.reply.single = finished.single;
        self.check_rejected(&assembler, finished.records)?;
        self.make_room(assembler.bytes()).await?;
        self.send(&mut assembler).await?;
        while self.settle_oldest().await? {}
        self.take_errors(&assembler);
        self.wait_for_commit().await;
        Ok(())
    }

    /// Hands on what was gathered; waits for the oldest answer when too many are under way.
    async fn send(&mut self, assembler: &mut Assembler) -> Result<(), FailureReason> {
        if self.make.is_some() {
            self.make_stream(assembler).await?;
        }
        if let Some(assembled) = assembler.take() {
            self.submit(assembled, None).await?;
        }
        // A failure tells of it as well, with what is taken.
        self.take_not_kept(assembler);
        Ok(())
    }

    /// Makes the stream if there is something for it.
    async fn make_stream(&mut self, assembler: &mut Assembler) -> Result<(), FailureReason> {
        if !assembler.is_empty()
            && let Some(make) = self.make.take()
        {
            let stream = make.await.ok_or(FailureReason::NotMade)?;
            assembler.set_stream(Arc::clone(&stream));
            self.wanted.stream = stream;
        }
        Ok(())
    }

    async fn submit(
        &mut self,
        assembled: Assembled,
        claim: Option<Claim>,
    ) -> Result<(), FailureReason> {
        while self.pending.len() >= PENDING_ENTRIES_MAX {
            self.settle_oldest().await?;
        }
        let room = match self.room.take() {
            Some(room) => room,
            None => self.source.intake.reserve(self.wanted.sender, ENTRY_TARGET_BYTES).await?,
        };
        self.room_bytes = 0;
        let Assembled { entries, first_id, rows, quarantined, kept, is_costly } = assembled;
        if is_costly {
            self.source.intake.make_way_for_costly().await?;
        }
        if self.wanted.ack == Ack::Commit && rows > 0 {
            self.waits.push(self.source.intake.wait_for_commit(first_id));
        }
        let counters = self.source.counters.of(self.wanted.stream.id);
        let request = self.fate.clone();
        let source = Source::Http;
        let submission = Submission { entries, counters, source, claim, kept, request };
        let pending = self.source.intake.submit(submission, room).await?;
        // Now, and not with the answer, so that hanging up in between is no way around the quota.
        if let Some(quota) = &mut self.wanted.quota {
            quota.pay(rows + quarantined);
        }
        self.pending.push_back(Sent { pending, first_id, rows, quarantined });
        Ok(())
    }

    /// Waits for the oldest submission under way; false if there is none.
    async fn settle_oldest(&mut self) -> Result<bool, IntakeError> {
        let Some(sent) = self.pending.pop_front() else {
            return Ok(false);
        };
        let durable = self.source.intake.durable(sent.pending).await;
        if let (Err(_), Some(quota)) = (&durable, &mut self.wanted.quota) {
            quota.give_back(sent.rows + sent.quarantined, sent.quarantined);
        }
        let durable = durable?;
        self.reply.position = Some(durable.end);
        self.reply.accepted += u64::from(sent.rows);
        self.reply.quarantined += u64::from(sent.quarantined);
        self.add_ids(sent.first_id, sent.rows);
        Ok(true)
    }

    /// What is already on its way is settled first, so that the failure tells the truth about it.
    async fn fail(mut self, reason: FailureReason) -> Box<IngestFailure> {
        self.room = None;
        let mut is_outcome_unknown =
            matches!(&reason, FailureReason::Intake(error) if error.is_outcome_unknown());
        while !self.pending.is_empty() {
            // Whatever became of it, the next may have been taken.
            if let Err(error) = self.settle_oldest().await {
                is_outcome_unknown |= error.is_outcome_unknown();
            }
        }
        // Where nothing was taken the sender has all of it, and sends all of it again.
        if self.reply.position.is_some() || is_outcome_unknown {
            self.count_not_kept();
        } else {
            self.reply.not_kept = NotKept::default();
        }
        Box::new(IngestFailure { reason, before: self.reply, is_outcome_unknown })
    }

    fn take_not_kept(&mut self, assembler: &Assembler) {
        if let Some(not_kept) = assembler.not_kept().filter(|not_kept| !not_kept.is_empty()) {
            self.reply.not_kept = not_kept.clone();
        }
    }

    fn count_not_kept(&self) {
        if self.reply.not_kept.is_empty() || self.reply.replayed {
            return;
        }
        // Nothing was kept for a stream that is not there.
        let is_made = self.make.is_none();
        let counters = is_made.then(|| self.source.counters.of(self.wanted.stream.id));
        self.reply.not_kept.count(counters.as_deref(), Source::Http);
    }

    fn add_ids(&mut self, first_id: Uuid, rows: u32) {
        if self.wanted.return_ids || self.reply.ids.is_empty() {
            let free = IDS_MAX.saturating_sub(self.reply.ids.len());
            let wanted = if self.wanted.return_ids { free } else { 1 };
            self.reply.ids.extend((0..rows).take(wanted).map(|index| nth_id(first_id, index)));
        }
    }

    /// With `on_error=reject` one bad record refuses all.
    fn check_rejected(&mut self, assembler: &Assembler, records: u64) -> Result<(), FailureReason> {
        let refused = assembler.refused();
        if self.wanted.on_error == OnError::Quarantine || refused == 0 {
            return Ok(());
        }
        self.take_errors(assembler);
        Err(FailureReason::Rejected { refused, records })
    }

    /// Grows the reservation to what the request holds in memory.
    async fn make_room(&mut self, bytes: usize) -> Result<(), IntakeError> {
        // When everything is handed on, nothing may be refused any more: who comes again would double it.
        if bytes == 0 {
            return Ok(());
        }
        // So much at least, that a small body asks once.
        let bytes = bytes.max(ROOM_BYTES_MIN);
        let more = bytes.saturating_sub(self.room_bytes);
        match &mut self.room {
            Some(_) if more == 0 => return Ok(()),
            Some(room) => self.source.intake.extend(room, more).await?,
            None => {
                let (intake, sender) = (&self.source.intake, self.wanted.sender);
                self.room = Some(match intake.try_reserve(sender, bytes) {
                    Some(room) => room,
                    None => intake.reserve(sender, bytes).await?,
                });
            }
        }
        self.room_bytes = self.room_bytes.max(bytes);
        Ok(())
    }

    fn take_errors(&mut self, assembler: &Assembler) {
        self.take_not_kept(assembler);
        self.reply.errors = assembler.errors().to_vec();
        self.reply.refused = assembler.refused();
        self.take_remarks(assembler);
    }

    /// What the sender should know although nothing is wrong.
    fn take_remarks(&mut self, assembler: &Assembler) {
        self.reply.matched = assembler.matched().to_vec();
        self.reply.skipped_lines = assembler.skipped_lines();
    }

    async fn wait_for_commit(&mut self) {
        if self.wanted.ack != Ack::Commit {
            return;
        }
        let waits = std::mem::take(&mut self.waits);
        let all = async {
            let mut sum = CommitOutcome::default();
            for mut wait in waits {
                let outcome = wait.outcome().await;
                sum.committed += outcome.committed;
                sum.duplicates += outcome.duplicates;
                sum.refused += outcome.refused;
            }
            sum
        };
        self.reply.committed = tokio::time::timeout(self.source.commit_wait, all).await.ok();
        self.reply.quarantined += self.reply.committed.map_or(0, |outcome| outcome.refused);
    }
}
