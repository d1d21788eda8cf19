//! A request with an idempotency key: taken once, however often it is sent.
//!
//! The body is read as a whole, so that its hash is known before anything is taken. Then the key is claimed: it is the
//! request's own, and goes into the journal with the records and the answer; or it was taken before, and the answer is
//! read from there.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tidegate_codec::StreamName;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::MatchedName;
use tidegate_codec::formats::{Format, PushProgress};
use tidegate_journal::{Entry, Journal, ReadError};
use tidegate_record::{ANSWER_BYTES_MAX, BodyHash, EntryKey, EntryMeta, KeyHash, Position};
use uuid::Uuid;

use crate::ingest::body::{BodyReader, DECOMPRESSED_CHUNK_BYTES};
use crate::ingest::parser::Parser;
use crate::ingest::parts::Gathered;
use crate::ingest::request::Request;
use crate::ingest::{
    Ack, Addressing, FailureReason, NotKept, OnError, OneStream, PlacedError, StreamReply,
};
use crate::pipeline::keys::{body_hash, many_streams_key, request_key};
use crate::pipeline::{Claim, Claimed, CommitOutcome, entry_first_id};

/// What an answer without errors may take, in bytes.
const ANSWER_FRAME_BYTES: usize = 1 << 10;

/// What a request was told: all that is needed to tell it again.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    accepted: u64,
    quarantined: u64,
    #[serde(default, skip_serializing_if = "NotKept::is_empty")]
    not_kept: NotKept,
    refused: u64,
    single: bool,
    first_id: Uuid,
    errors: Vec<PlacedError>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matched: Vec<MatchedName>,
    #[serde(default)]
    skipped_lines: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    streams: Vec<AnsweredStream>,
}

/// Of one stream of a request of many: its name, and how many were accepted, quarantined and not kept.
#[derive(Debug, Serialize, Deserialize)]
struct AnsweredStream(StreamName, u64, u64, NotKept);

impl Request<'_> {
    /// Takes a request with a key, or answers as it was answered before.
    pub(super) async fn run_once(
        &mut self,
        key: String,
        body: BodyReader,
    ) -> Result<(), FailureReason> {
        let body = self.read_whole(body).await?;
        let hash = self.hash(&body);
        let mut parsed = None;
        if let Addressing::OneStream(OneStream { target, .. }) = &self.wanted.addressing
            && target.maker.is_some()
        {
            // What would be refused makes no stream, and without its stream the key is not known.
            let mut parser = self.parse_whole(&body, None).await?;
            self.make_streams(&mut parser).await?;
            parsed = Some(parser);
        }
        let user = &self.wanted.user;
        let key = match &self.wanted.addressing {
            Addressing::OneStream(one) => request_key(one.target.stream.id, user, &key),
            Addressing::ManyStreams(_) => many_streams_key(user, &key),
        };
        loop {
            match self.ingest.keys.claim(key, hash).await? {
                Claimed::New(claim) => {
                    let parser = match parsed.take() {
                        Some(parser) => parser,
                        None => self.parse_whole(&body, None).await?,
                    };
                    return self.take_once(claim, parser, body.len()).await;
                }
                Claimed::Before { position } => {
                    if self.answer_again(key, position).await? {
                        return Ok(());
                    }
                }
            }
            // The journal let go of it just now, so it is a new one.
            self.ingest.keys.trim(self.ingest.journal.first());
        }
    }

    pub(super) async fn read_whole(
        &mut self,
        mut body: BodyReader,
    ) -> Result<BytesMut, FailureReason> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            let bytes = whole.len() + chunk.len();
            if bytes > self.ingest.entry_bytes_max {
                return Err(self.too_large());
            }
            self.make_room(bytes).await?;
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// The same for requests that mean the same. When to answer, and with how many ids, does not change what is taken.
    pub(super) fn hash(&self, body: &[u8]) -> BodyHash {
        let on_error: &[u8] = match self.wanted.on_error {
            OnError::Quarantine => b"quarantine",
            OnError::Reject => b"reject",
        };
        let OneStream { format, csv, .. } = match &self.wanted.addressing {
            Addressing::OneStream(one) => one,
            Addressing::ManyStreams(_) => return body_hash(&[b"many streams", on_error], body),
        };
        let format: &[u8] = match format {
            Format::Json => b"json",
            Format::Ndjson => b"ndjson",
            Format::Csv => b"csv",
            Format::Change => b"change",
            Format::Changes => b"changes",
        };
        let null = csv.null.as_deref().unwrap_or_default();
        let mut read_as = vec![format, on_error, null.as_bytes()];
        let dialect = [csv.dialect.delimiter_word(), csv.dialect.quote_word()];
        let dialect = dialect.map(Option::unwrap_or_default);
        let columns = csv.columns.as_deref().unwrap_or_default();
        // A request that says nothing of it has the hash that it always had.
        if *csv != CsvOptions::of_null(csv.null.clone()) {
            read_as.extend(dialect.iter().map(String::as_bytes));
            read_as.extend(columns.iter().map(String::as_bytes));
        }
        body_hash(&read_as, body)
    }

    /// Takes what a body was parsed to under a claimed key. Where it fails the key is free again, unless the journal already has it.
    pub(super) async fn take_once(
        &mut self,
        claim: Claim,
        mut parser: Parser,
        body_bytes: usize,
    ) -> Result<(), FailureReason> {
        self.make_streams(&mut parser).await?;
        let gathered = parser.gathered(&claim);
        let answer = Some(self.answer(&parser, &gathered));
        let key = EntryKey { key: claim.key(), body: claim.body(), answer };
        let is_torn = !claim.torn().is_empty();
        let parts = parser.take_once(key, &claim);
        let is_for_journal = parts.is_some();
        if let Some(parts) = parts {
            self.make_room(body_bytes + parts.bytes()).await?;
            self.submit(parts, Some(claim)).await?;
            while self.settle_oldest().await? {}
        }
        // With what a crash left of the request in the journal.
        self.reply.accepted = gathered.accepted;
        self.reply.quarantined = gathered.quarantined;
        for (stream, counts) in self.reply.streams.iter_mut().zip(gathered.streams) {
            (stream.accepted, stream.quarantined) = counts;
        }
        match self.reply.position {
            Some(position) if is_torn && !self.reply.streams.is_empty() => {
                self.wait_until_committed(position).await;
            }
            _ if is_for_journal => self.wait_for_commit().await,
            _ => {}
        }
        Ok(())
    }

    /// Parses a body that is to be one entry of each of its streams.
    pub(super) async fn parse_whole(
        &mut self,
        body: &[u8],
        replays: Option<Uuid>,
    ) -> Result<Parser, FailureReason> {
        let mut parser = self.parser(true, replays)?;
        for chunk in body.chunks(DECOMPRESSED_CHUNK_BYTES) {
            let mut rest = chunk;
            while let PushProgress::SinkFull { consumed } = parser.push(rest)? {
                rest = &rest[consumed..];
                self.make_room_for_whole(&mut parser, body.len()).await?;
            }
            self.make_room_for_whole(&mut parser, body.len()).await?;
        }
        while let PushProgress::SinkFull { .. } = parser.end() {
            self.make_room_for_whole(&mut parser, body.len()).await?;
        }
        let finished = parser.finish()?;
        parser.give_back_encoders(&self.ingest.encoders, body.len() as u64);
        if replays.is_some() && finished.records != 1 {
            return Err(FailureReason::NotOneRecord { records: finished.records });
        }
        self.reply.single = finished.single || replays.is_some();
        self.check_rejected(&parser, finished.records)?;
        Ok(parser)
    }

    /// Asks for room for a body and what was gathered of it, and lets the parser go on.
    async fn make_room_for_whole(
        &mut self,
        parser: &mut Parser,
        body_bytes: usize,
    ) -> Result<(), FailureReason> {
        let tuples_bytes_max = self.entry_tuples_bytes_max();
        if parser.gathered_bytes() > tuples_bytes_max {
            return Err(FailureReason::TooManyForKey { tuples_bytes_max });
        }
        parser.raise();
        Ok(self.make_room(body_bytes + parser.held_bytes(&[])).await?)
    }

    /// The answer to what was gathered, for the journal: at most [`ANSWER_BYTES_MAX`] bytes, with as many errors as that has
    /// room for, and then as many matched names. The reply has the same, so that a repeat is told what the first was.
    fn answer(&mut self, parser: &Parser, gathered: &Gathered) -> Vec<u8> {
        self.take_errors(parser);
        let counts = self.reply.streams.iter().zip(&gathered.streams);
        let answered = |(stream, counts): (&StreamReply, &(u64, u64))| {
            AnsweredStream(stream.name.clone(), counts.0, counts.1, stream.not_kept.clone())
        };
        let mut answer = Answer {
            accepted: gathered.accepted,
            quarantined: gathered.quarantined,
            not_kept: self.reply.not_kept.clone(),
            refused: self.reply.refused,
            single: self.reply.single,
            first_id: gathered.first_id,
            errors: Vec::new(),
            matched: Vec::new(),
            skipped_lines: self.reply.skipped_lines,
            streams: counts.map(answered).collect(),
        };
        let mut room = ANSWER_BYTES_MAX - ANSWER_FRAME_BYTES;
        room = room.saturating_sub(json_bytes(&answer.streams));
        answer.errors = take_fitting(&self.reply.errors, &mut room);
        answer.matched = take_fitting(&self.reply.matched, &mut room);
        self.reply.errors.clone_from(&answer.errors);
        self.reply.matched.clone_from(&answer.matched);
        serde_json::to_vec(&answer).expect("numbers and text are JSON")
    }

    /// Answers as the journal says at this position; false if the journal does not retain it any more.
    pub(super) async fn answer_again(
        &mut self,
        key: KeyHash,
        position: Position,
    ) -> Result<bool, FailureReason> {
        let journal = self.ingest.journal.clone();
        let read = tokio::task::spawn_blocking(move || read_at(&journal, position))
            .await
            .expect("reading the journal does not panic");
        let entry = match read {
            Ok(Some(entry)) => entry,
            Ok(None) if position < self.ingest.journal.first() => return Ok(false),
            Ok(None) | Err(_) => return Err(FailureReason::AnswerLost),
        };
        let answer = EntryMeta::decode(&entry.meta).and_then(|meta| meta.key?.answer);
        let answer = answer.and_then(|json| serde_json::from_slice::<Answer>(&json).ok());
        let answer = answer.ok_or(FailureReason::AnswerLost)?;
        self.reply.accepted = answer.accepted;
        self.reply.quarantined = answer.quarantined;
        self.reply.not_kept = answer.not_kept;
        self.reply.refused = answer.refused;
        self.reply.single = answer.single;
        self.reply.errors = answer.errors;
        self.reply.matched = answer.matched;
        self.reply.skipped_lines = answer.skipped_lines;
        self.reply.position = Some(entry.header.end);
        self.reply.replayed = true;
        if let Addressing::ManyStreams(_) = self.wanted.addressing {
            self.reply.streams = answer.streams.into_iter().map(StreamReply::from).collect();
            // While an entry is waited for, its batch is cut at once.
            let first_id = entry_first_id(&entry.body);
            let _hurries = first_id.map(|id| self.ingest.intake.wait_for_commit(id));
            self.wait_until_committed(entry.header.end).await;
            return Ok(true);
        }
        self.add_ids(answer.first_id, u32::try_from(answer.accepted).unwrap_or(u32::MAX));
        if self.wanted.ack == Ack::Commit && answer.accepted > 0 {
            self.reply.committed = self.committed_before(key, &entry, answer.first_id).await;
        } else if self.wanted.ack == Ack::Commit {
            self.reply.committed = Some(CommitOutcome::default());
        }
        self.reply.quarantined += self.reply.committed.map_or(0, |outcome| outcome.refused);
        Ok(true)
    }

    /// What became of records that were taken before. `None` if that took too long, or if another process saw their
    /// commit: it is durable then, and the rest is not known here.
    async fn committed_before(
        &mut self,
        key: KeyHash,
        entry: &Entry,
        first_id: Uuid,
    ) -> Option<CommitOutcome> {
        let mut low_water = self.ingest.committed.subscribe();
        let mut wait = self.ingest.intake.wait_for_commit(first_id);
        // The outcome is noted before the commit is made known, so it is looked for after that. A database that forgot
        // the commit may have it noted all the same.
        let position = entry.header.position;
        let known = || self.ingest.keys.outcome(key);
        if self.ingest.committed.is_committed(position) {
            return known();
        }
        let told = async {
            tokio::select! {
                outcome = wait.outcome() => Some(outcome),
                _ = low_water.wait_for(|low_water| *low_water > position) => known(),
            }
        };
        tokio::time::timeout(self.ingest.commit_wait, told).await.ok().flatten()
    }

    /// Waits, where that is wanted, until everything up to a position is committed. What became of the records of many streams
    /// is told to their first request alone, so the reply has what was accepted of them.
    async fn wait_until_committed(&self, end: Position) {
        if self.wanted.ack == Ack::Commit {
            let mut low_water = self.ingest.committed.subscribe();
            let is_committed = low_water.wait_for(|low_water| *low_water >= end);
            let _ = tokio::time::timeout(self.ingest.commit_wait, is_committed).await;
        }
    }

    fn too_large(&self) -> FailureReason {
        let bytes_max = self.ingest.entry_bytes_max;
        FailureReason::TooLargeForKey { bytes_max }
    }
}

impl From<AnsweredStream> for StreamReply {
    fn from(answered: AnsweredStream) -> StreamReply {
        let AnsweredStream(name, accepted, quarantined, not_kept) = answered;
        StreamReply { accepted, quarantined, not_kept, ..StreamReply::new(name) }
    }
}

/// The first of them, as many as fit into so many bytes of JSON; takes these from `room`.
fn take_fitting<T: Serialize + Clone>(all: &[T], room: &mut usize) -> Vec<T> {
    let fits = |one: &&T| {
        let left = room.checked_sub(json_bytes(one).saturating_add(1));
        *room = left.unwrap_or(0);
        left.is_some()
    };
    all.iter().take_while(fits).cloned().collect()
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// The entry that lies right there; `None` if it was trimmed or damaged.
fn read_at(journal: &Journal, position: Position) -> Result<Option<Entry>, ReadError> {
    let entry = journal.reader(position).next()?;
    Ok(entry.filter(|entry| entry.header.position == position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{REQUEST_STREAMS_MAX, WhyNotKept};

    /// Every number of it has five digits, which is more than a body has records for.
    #[test]
    fn the_answer_to_a_request_of_as_many_streams_as_may_be_fits_its_entry() {
        const RECORDS: u64 = 99_999;
        let mut not_kept = NotKept::default();
        for why in [
            WhyNotKept::RequestLimit,
            WhyNotKept::Quota,
            WhyNotKept::StreamFull,
            WhyNotKept::QuarantineFull,
        ] {
            not_kept.add(why, RECORDS);
        }
        let stream = |number: usize| {
            let name = format!("s{number:062}").parse().unwrap();
            AnsweredStream(name, RECORDS, RECORDS, not_kept.clone())
        };
        let streams: Vec<AnsweredStream> = (0..REQUEST_STREAMS_MAX).map(stream).collect();
        assert!(json_bytes(&streams) <= ANSWER_BYTES_MAX - ANSWER_FRAME_BYTES);
    }
}
