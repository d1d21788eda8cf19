//! The HTTP source: a body of records becomes entries as it arrives, and the answer tells what is durable.
//!
//! A large body is never held in memory: whenever an entry is full it goes to the intake, and only a few entries of
//! one request are under way at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::auth::Admission;
use crate::hub::counters::Counters;
use crate::pipeline::{
    CommitOutcome, CommitWait, Intake, IntakeError, Pending, Reservation, SenderId, Submission,
};
use crate::record::{Position, Source, UnixMicros};
use crate::sources::assembler::{
    Assembled, Assembler, ENTRY_TARGET_BYTES, Origin, PlacedError, nth_id,
};
use crate::sources::body::{BodyError, BodyReader};
use crate::sources::formats::{Format, Framer, FramerLimits, FramingError, Progress};
use crate::streams::Stream;
use crate::streams::encode::{EncodeLimits, RecordEncoder};

/// Entries of one request that may be under way to the journal.
const PENDING_ENTRIES_MAX: usize = 4;
/// First bytes of a refused record that are kept.
const RAW_BYTES_MAX: usize = 64 << 10;
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

/// A request to ingest, but for its body.
#[derive(Debug)]
pub struct IngestRequest {
    pub stream: Arc<Stream>,
    pub sender: SenderId,
    /// Pays for what is taken, where the sender has a quota.
    pub quota: Option<Admission>,
    pub user: Arc<str>,
    pub received_at: UnixMicros,
    pub format: Format,
    /// Text of a CSV field that means NULL, beside the empty one.
    pub csv_null: Option<String>,
    pub ack: Ack,
    pub on_error: OnError,
    pub return_ids: bool,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct IngestReply {
    pub accepted: u64,
    pub quarantined: u64,
    /// Records refused; equal to `quarantined` unless `on_error=reject`.
    pub refused: u64,
    pub errors: Vec<PlacedError>,
    /// End of the last entry; `None` if nothing went to the journal.
    pub position: Option<Position>,
    pub ids: Vec<Uuid>,
    /// Set with `ack=commit`, unless the wait was over before the commit.
    pub committed: Option<CommitOutcome>,
    /// The body was one JSON object.
    pub single: bool,
}

/// Why a request was not taken, or not all of it.
#[derive(Debug)]
pub struct IngestFailure {
    pub reason: FailureReason,
    /// What was durable before the failure; nothing of small requests.
    pub before: IngestReply,
}

#[derive(Debug, thiserror::Error)]
pub enum FailureReason {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error("the stream cannot take records: {0}")]
    Stream(String),
    #[error(
        "with on_error=reject a body holds at most {bytes_max} bytes; split it into several requests"
    )]
    TooLargeToReject { bytes_max: usize },
    #[error("{refused} of {records} records are invalid, so none was taken")]
    Rejected { refused: u64, records: u64 },
}

/// The source; clones share everything.
#[derive(Debug, Clone)]
pub struct HttpSource {
    pub intake: Intake,
    pub counters: Counters,
    pub entry_bytes_max: usize,
    pub commit_wait: Duration,
}

/// One request under way.
struct Request<'a> {
    source: &'a HttpSource,
    wanted: IngestRequest,
    room: Option<Reservation>,
    room_bytes: usize,
    pending: VecDeque<Sent>,
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

impl HttpSource {
    /// Takes all records of a body. The reply comes once they are durable, or committed where that was asked for.
    pub async fn ingest(
        &self,
        request: IngestRequest,
        body: BodyReader,
    ) -> Result<IngestReply, Box<IngestFailure>> {
        let mut under_way = Request {
            source: self,
            wanted: request,
            room: None,
            room_bytes: 0,
            pending: VecDeque::new(),
            waits: Vec::new(),
            reply: IngestReply::default(),
        };
        match under_way.run(body).await {
            Ok(()) => Ok(under_way.reply),
            Err(reason) => {
                under_way.room = None;
                // What is already on its way is settled first, so that the failure tells the truth about it.
                while under_way.settle_oldest().await.is_ok_and(|more| more) {}
                Err(Box::new(IngestFailure { reason, before: under_way.reply }))
            }
        }
    }
}

impl Request<'_> {
    async fn run(&mut self, mut body: BodyReader) -> Result<(), FailureReason> {
        let one_entry = self.wanted.on_error == OnError::Reject;
        let limits = EncodeLimits { record_bytes_max: self.source.entry_bytes_max };
        let encoder = RecordEncoder::new(&self.wanted.stream, limits)
            .map_err(|error| FailureReason::Stream(error.to_string()))?;
        let origin = Origin {
            stream: Arc::clone(&self.wanted.stream),
            source: Source::Http,
            user: Arc::clone(&self.wanted.user),
            received_at: self.wanted.received_at,
            one_entry,
            keep_refused: !one_entry,
        };
        let mut assembler = Assembler::new(origin, encoder.column_set());
        let limits = FramerLimits {
            record_bytes_max: self.source.entry_bytes_max,
            raw_bytes_max: RAW_BYTES_MAX,
        };
        let mut framer =
            Framer::new(self.wanted.format, encoder, limits, self.wanted.csv_null.take());
        while let Some(chunk) = body.next().await? {
            if one_entry && body.decompressed_bytes() > self.source.entry_bytes_max as u64 {
                return Err(FailureReason::TooLargeToReject {
                    bytes_max: self.source.entry_bytes_max,
                });
            }
            let held = |framer: &Framer, rest: &[u8]| framer.carry_bytes() + rest.len();
            self.make_room(held(&framer, &chunk) + assembler.bytes()).await?;
            let mut rest = &chunk[..];
            while let Progress::SinkFull { consumed } = framer.push(rest, &mut assembler)? {
                rest = &rest[consumed..];
                self.send(&mut assembler).await?;
                self.make_room(held(&framer, rest)).await?;
            }
        }
        let finished = framer.finish(&mut assembler)?;
        self.reply.single = finished.single;
        if one_entry && assembler.refused() > 0 {
            self.take_errors(&assembler);
            let (refused, records) = (assembler.refused(), finished.records);
            return Err(FailureReason::Rejected { refused, records });
        }
        self.make_room(assembler.bytes()).await?;
        self.send(&mut assembler).await?;
        while self.settle_oldest().await? {}
        self.take_errors(&assembler);
        self.wait_for_commit().await;
        Ok(())
    }

    /// Hands on what was gathered; waits for the oldest answer when too many are under way.
    async fn send(&mut self, assembler: &mut Assembler) -> Result<(), FailureReason> {
        let Some(assembled) = assembler.take() else {
            return Ok(());
        };
        while self.pending.len() >= PENDING_ENTRIES_MAX {
            self.settle_oldest().await?;
        }
        let room = match self.room.take() {
            Some(room) => room,
            None => self.source.intake.reserve(self.wanted.sender, ENTRY_TARGET_BYTES).await?,
        };
        self.room_bytes = 0;
        let Assembled { entries, first_id, rows, quarantined } = assembled;
        if self.wanted.ack == Ack::Commit && rows > 0 {
            self.waits.push(self.source.intake.wait_for_commit(first_id));
        }
        let counters = self.source.counters.of(self.wanted.stream.id);
        let submission = Submission { entries, counters, source: Source::Http };
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
            quota.give_back(sent.rows + sent.quarantined);
        }
        let durable = durable?;
        self.reply.position = Some(durable.end);
        self.reply.accepted += u64::from(sent.rows);
        self.reply.quarantined += u64::from(sent.quarantined);
        if self.wanted.return_ids || self.reply.ids.is_empty() {
            let free = IDS_MAX.saturating_sub(self.reply.ids.len());
            let wanted = if self.wanted.return_ids { free } else { 1 };
            let ids = (0..sent.rows).take(wanted).map(|index| nth_id(sent.first_id, index));
            self.reply.ids.extend(ids);
        }
        Ok(true)
    }

    /// Grows the reservation to what the request holds in memory.
    async fn make_room(&mut self, bytes: usize) -> Result<(), IntakeError> {
        // When everything is handed on, nothing may be refused any more: who comes again would double it.
        if bytes == 0 {
            return Ok(());
        }
        let more = bytes.saturating_sub(self.room_bytes);
        match &mut self.room {
            Some(_) if more == 0 => return Ok(()),
            Some(room) => self.source.intake.extend(room, more).await?,
            None => {
                let reserved = self.source.intake.reserve(self.wanted.sender, bytes).await?;
                self.room = Some(reserved);
            }
        }
        self.room_bytes = self.room_bytes.max(bytes);
        Ok(())
    }

    fn take_errors(&mut self, assembler: &Assembler) {
        self.reply.errors = assembler.errors().to_vec();
        self.reply.refused = assembler.refused();
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
