//! One request under way: its body is read, split and handed on, and what becomes of it is noted for the reply.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_codec::formats::PushProgress;
use tidegate_journal::SealedEntry;
use tidegate_record::Source;
use uuid::Uuid;

use crate::auth::{Admission, InvalidRecords};
use crate::ingest::assembled::Assembled;
use crate::ingest::assembler::Origin;
use crate::ingest::body::BodyReader;
use crate::ingest::commit_waits::{CommitWaits, Committed};
use crate::ingest::ids::nth_id;
use crate::ingest::level::ENTRY_TARGET_BYTES;
use crate::ingest::many::{Common, Many};
use crate::ingest::parser::{One, Parser};
use crate::ingest::parts::{Part, Parts};
use crate::ingest::{
    Ack, Addressing, FailureReason, IDS_MAX, Ingest, IngestFailure, IngestReply, IngestRequest,
    Keeping, NotKept, OnError, WhyNotKept,
};
use crate::pipeline::{
    Claim, CommitOutcome, IntakeError, Pending, RequestRefusal, Reservation, Share, Submission,
};
use crate::telemetry::metrics::count_without_stream;

/// Submissions of one request that may be under way to the journal.
const PENDING_SUBMISSIONS_MAX: usize = 4;
/// Tuples of a body that must fit one entry may take this many times the room of the largest one. With the body itself
/// this is what the intake has room for at least (`config/mod.rs`), so that no sender waits in vain.
const TUPLES_PER_BODY_MAX: usize = 2;
/// Least room that a request takes in the intake, in bytes.
const ROOM_BYTES_MIN: usize = 1 << 10;

/// See the module.
pub(super) struct Request<'a> {
    pub(super) ingest: &'a Ingest,
    pub(super) wanted: IngestRequest,
    room: Option<Reservation>,
    room_bytes: usize,
    pending: VecDeque<Sent>,
    refusal: RequestRefusal,
    waits: CommitWaits,
    pub(super) reply: IngestReply,
    /// Submissions of which it is not known whether the journal took them.
    unsettled: usize,
    /// What was not kept is counted, or does not count.
    is_counted: bool,
}

/// A submission that was sent and not yet answered.
struct Sent {
    pending: Pending,
    part: SentPart,
    other_parts: Vec<SentPart>,
}

/// One stream's part of it.
struct SentPart {
    slot: usize,
    first_id: Uuid,
    rows: u32,
    quarantined: u32,
}

impl<'a> Request<'a> {
    pub(super) fn new(ingest: &'a Ingest, wanted: IngestRequest) -> Request<'a> {
        let has_changes = match &wanted.addressing {
            Addressing::OneStream(one) => one.format.is_of_changes(),
            Addressing::ManyStreams(_) => false,
        };
        Request {
            ingest,
            wanted,
            room: None,
            room_bytes: 0,
            pending: VecDeque::new(),
            refusal: RequestRefusal::default(),
            waits: CommitWaits::default(),
            reply: IngestReply { has_changes, ..IngestReply::default() },
            unsettled: 0,
            is_counted: false,
        }
    }

    /// What splits the body and gathers its records, in one entry for each stream where the request has a key.
    pub(super) fn parser(
        &self,
        has_key: bool,
        replays: Option<Uuid>,
    ) -> Result<Parser, FailureReason> {
        let rejects = self.wanted.on_error == OnError::Reject;
        let invalid = self.wanted.quota.as_ref().map(Admission::invalid_records);
        let (user, received_at) = (Arc::clone(&self.wanted.user), self.wanted.received_at);
        let one_entry = rejects || has_key;
        Ok(match &self.wanted.addressing {
            Addressing::OneStream(one) => {
                let stream = Arc::clone(&one.target.stream);
                let (room, id) = (&self.ingest.quarantine, stream.id);
                let keeping = (!rejects).then(|| Keeping::new(room, id, invalid));
                let (source, csv) = (Source::Http, one.csv.clone());
                let has_changes = one.format.is_of_changes();
                let origin = Origin {
                    stream,
                    source,
                    user,
                    received_at,
                    one_entry,
                    csv,
                    replays,
                    has_changes,
                };
                Parser::One(One::new(self.ingest, one, origin, keeping)?)
            }
            Addressing::ManyStreams(rights) => {
                let common = Common { user, received_at, one_entry, keeps: !rejects };
                Parser::Many(Box::new(Many::new(self.ingest, rights.clone(), common, invalid)))
            }
        })
    }

    /// Most bytes of tuples that a body may make that must fit one entry.
    pub(super) fn entry_tuples_bytes_max(&self) -> usize {
        TUPLES_PER_BODY_MAX * self.ingest.entry_bytes_max
    }

    pub(super) async fn run(&mut self, mut body: BodyReader) -> Result<(), FailureReason> {
        let one_entry = self.wanted.on_error == OnError::Reject;
        let mut parser = self.parser(false, None)?;
        while let Some(chunk) = body.next().await? {
            if one_entry && body.decompressed_bytes() > self.ingest.entry_bytes_max as u64 {
                return Err(FailureReason::TooLargeToReject {
                    bytes_max: self.ingest.entry_bytes_max,
                });
            }
            self.make_room(parser.held_bytes(&chunk)).await?;
            parser.expect(chunk.len());
            let mut rest = &chunk[..];
            while let PushProgress::SinkFull { consumed } = parser.push(rest)? {
                rest = &rest[consumed..];
                self.make_way(&mut parser, rest).await?;
            }
            if one_entry {
                self.check_tuples(&parser)?;
            }
        }
        while let PushProgress::SinkFull { .. } = parser.end() {
            self.make_way(&mut parser, &[]).await?;
        }
        let finished = parser.finish()?;
        parser.give_back_encoders(&self.ingest.encoders, body.decompressed_bytes());
        self.reply.single = finished.single;
        self.check_rejected(&parser, finished.records)?;
        self.make_room(parser.gathered_bytes()).await?;
        self.send(&mut parser).await?;
        while self.settle_oldest().await? {}
        self.take_errors(&parser);
        self.wait_for_commit().await;
        Ok(())
    }

    /// Makes way for the rest of a chunk where the parser is full: hands on what was gathered, or, where all must fit one
    /// entry, asks for room for more of it.
    async fn make_way(&mut self, parser: &mut Parser, rest: &[u8]) -> Result<(), FailureReason> {
        if self.wanted.on_error == OnError::Reject {
            self.check_tuples(parser)?;
            parser.raise();
        } else {
            self.send(parser).await?;
        }
        Ok(self.make_room(parser.held_bytes(rest)).await?)
    }

    fn check_tuples(&self, parser: &Parser) -> Result<(), FailureReason> {
        let tuples_bytes_max = self.entry_tuples_bytes_max();
        if parser.gathered_bytes() > tuples_bytes_max {
            return Err(FailureReason::TooManyToReject { tuples_bytes_max });
        }
        Ok(())
    }

    /// Hands on what was gathered; waits for the oldest answer when too many are under way.
    async fn send(&mut self, parser: &mut Parser) -> Result<(), FailureReason> {
        self.make_streams(parser).await?;
        if let Some(parts) = parser.take() {
            self.submit(parts, None).await?;
        }
        // A failure tells of it as well, with what is taken.
        parser.tell_not_kept(&mut self.reply);
        Ok(())
    }

    /// Makes the streams that are not there yet if there is something for them.
    pub(super) async fn make_streams(&mut self, parser: &mut Parser) -> Result<(), FailureReason> {
        if !parser.has_streams_to_make() {
            return Ok(());
        }
        if let Some(made) = Box::pin(parser.make_streams(self.ingest)).await?
            && let Addressing::OneStream(one) = &mut self.wanted.addressing
        {
            one.target = made.clone();
        }
        Ok(())
    }

    pub(super) async fn submit(
        &mut self,
        mut parts: Parts,
        claim: Option<Claim>,
    ) -> Result<(), FailureReason> {
        while self.pending.len() >= PENDING_SUBMISSIONS_MAX {
            self.settle_oldest().await?;
        }
        let room = match self.room.take() {
            Some(room) => room,
            None => self.ingest.intake.reserve(self.wanted.sender, ENTRY_TARGET_BYTES).await?,
        };
        self.room_bytes = 0;
        if parts.iter().any(|part| part.assembled.is_costly) {
            self.ingest.intake.make_way_for_costly().await?;
        }
        let records = parts.iter().map(|part| part.assembled.rows + part.assembled.quarantined);
        let records = records.sum();
        // Given back where this fails, or is dropped, before the submission is on its way.
        let paid = parts.take_paid();
        let Parts { first, others } = parts;
        let (mut entries, share, part) = self.part_with(first);
        let (mut other_shares, mut other_parts) = (Vec::new(), Vec::new());
        for other in others {
            let (mut of_stream, share, part) = self.part_with(other);
            entries.append(&mut of_stream);
            other_shares.push(share);
            other_parts.push(part);
        }
        let (source, request) = (Source::Http, self.refusal.clone());
        let submission = Submission { entries, share, other_shares, source, claim, request };
        let pending = self.ingest.intake.submit(submission, room).await?;
        paid.into_iter().for_each(InvalidRecords::sent);
        // Now, and not with the answer, so that hanging up in between is no way around the quota.
        if let Some(quota) = &mut self.wanted.quota {
            quota.pay(records);
        }
        self.unsettled += 1;
        self.pending.push_back(Sent { pending, part, other_parts });
        Ok(())
    }

    /// One stream's part of a submission, whose commit is waited for from now on where that is wanted.
    fn part_with(&mut self, part: Part) -> (Vec<SealedEntry>, Share, SentPart) {
        let Part { slot, stream, assembled } = part;
        let Assembled { entries, first_id, rows, quarantined, kept, .. } = assembled;
        if self.wanted.ack == Ack::Commit && rows > 0 {
            self.waits.add(slot, self.ingest.intake.wait_for_commit(first_id));
        }
        let counters = self.ingest.counters.of(stream);
        let share = Share { entries: entries.len(), counters, kept };
        (entries, share, SentPart { slot, first_id, rows, quarantined })
    }

    /// Waits for the oldest submission under way; false if there is none.
    pub(super) async fn settle_oldest(&mut self) -> Result<bool, IntakeError> {
        let Some(Sent { pending, part, other_parts }) = self.pending.pop_front() else {
            return Ok(false);
        };
        let durable = self.ingest.intake.durable(pending).await;
        self.unsettled -= 1;
        for part in std::iter::once(part).chain(other_parts) {
            match &durable {
                Ok(_) => self.note_durable(&part),
                Err(_) => {
                    if let Some(quota) = &mut self.wanted.quota {
                        quota.give_back(part.rows + part.quarantined, part.quarantined);
                    }
                }
            }
        }
        self.waits.fold();
        self.reply.position = Some(durable?.end);
        Ok(true)
    }

    fn note_durable(&mut self, part: &SentPart) {
        let (accepted, quarantined) = (u64::from(part.rows), u64::from(part.quarantined));
        self.reply.accepted += accepted;
        self.reply.quarantined += quarantined;
        if let Some(stream) = self.reply.streams.get_mut(part.slot) {
            stream.accepted += accepted;
            stream.quarantined += quarantined;
        }
        self.add_ids(part.first_id, part.rows);
    }

    /// The reply to a request that was taken.
    pub(super) fn finish(mut self) -> IngestReply {
        self.count_not_kept();
        std::mem::take(&mut self.reply)
    }

    /// What is already on its way is settled first, so that the failure tells the truth about it.
    pub(super) async fn fail(mut self, reason: FailureReason) -> Box<IngestFailure> {
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
            self.is_counted = true;
            self.reply.not_kept = NotKept::default();
            self.reply.streams.clear();
        }
        let before = std::mem::take(&mut self.reply);
        Box::new(IngestFailure { reason, before, is_outcome_unknown })
    }

    /// Counts once, whatever becomes of the request.
    fn count_not_kept(&mut self) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        let IngestReply { not_kept, streams, replayed, .. } = &self.reply;
        if not_kept.is_empty() || *replayed {
            return;
        }
        let counters = |stream| self.ingest.counters.of(stream);
        match &self.wanted.addressing {
            // Nothing was kept for a stream that is not there.
            Addressing::OneStream(one) => {
                let is_there = one.target.maker.is_none();
                let counters = is_there.then(|| counters(one.target.stream.id));
                not_kept.count(counters.as_deref(), Source::Http);
            }
            Addressing::ManyStreams(_) => {
                count_without_stream(not_kept.because(WhyNotKept::NoStream));
                for stream in streams {
                    stream.not_kept.count(stream.id.map(counters).as_deref(), Source::Http);
                }
            }
        }
    }

    pub(super) fn add_ids(&mut self, first_id: Uuid, rows: u32) {
        if self.wanted.return_ids || self.reply.ids.is_empty() {
            let free = IDS_MAX.saturating_sub(self.reply.ids.len());
            let wanted = if self.wanted.return_ids { free } else { 1 };
            self.reply.ids.extend((0..rows).take(wanted).map(|index| nth_id(first_id, index)));
        }
    }

    /// With `on_error=reject` one bad record refuses all.
    pub(super) fn check_rejected(
        &mut self,
        parser: &Parser,
        records: u64,
    ) -> Result<(), FailureReason> {
        let refused = parser.refused();
        if self.wanted.on_error == OnError::Quarantine || refused == 0 {
            return Ok(());
        }
        self.take_errors(parser);
        Err(FailureReason::Rejected { refused, records })
    }

    /// Grows the reservation to what the request holds in memory.
    pub(super) async fn make_room(&mut self, bytes: usize) -> Result<(), IntakeError> {
        // When everything is handed on, nothing may be refused any more: a sender that comes again would double it. What can be
        // no record of the body's rest does not count, so that its end may come in any pieces.
        if bytes == 0 {
            return Ok(());
        }
        // So much at least, that a small body asks once.
        let bytes = bytes.max(ROOM_BYTES_MIN);
        let more = bytes.saturating_sub(self.room_bytes);
        match &mut self.room {
            Some(_) if more == 0 => return Ok(()),
            Some(room) => self.ingest.intake.extend(room, more).await?,
            None => {
                let (intake, sender) = (&self.ingest.intake, self.wanted.sender);
                self.room = Some(match intake.try_reserve(sender, bytes) {
                    Some(room) => room,
                    None => intake.reserve(sender, bytes).await?,
                });
            }
        }
        self.room_bytes = self.room_bytes.max(bytes);
        Ok(())
    }

    pub(super) fn take_errors(&mut self, parser: &Parser) {
        parser.tell_not_kept(&mut self.reply);
        self.reply.errors = parser.errors();
        self.reply.refused = parser.refused();
        parser.tell_remarks(&mut self.reply);
    }

    pub(super) async fn wait_for_commit(&mut self) {
        if self.wanted.ack != Ack::Commit {
            return;
        }
        let waits = std::mem::take(&mut self.waits);
        let Some(Committed { sum, mut by_stream }) = waits.committed(self.ingest.commit_wait).await
        else {
            return;
        };
        self.reply.committed = Some(sum);
        self.reply.quarantined += sum.refused;
        by_stream.resize(self.reply.streams.len(), CommitOutcome::default());
        for (stream, outcome) in self.reply.streams.iter_mut().zip(by_stream) {
            stream.committed = Some(outcome);
            stream.quarantined += outcome.refused;
        }
    }
}

impl Drop for Request<'_> {
    /// Its sender hung up before the reply. What was submitted is taken all the same, and so what of it was not kept counts.
    fn drop(&mut self) {
        if self.reply.position.is_some() || self.unsettled > 0 {
            self.count_not_kept();
        }
    }
}
