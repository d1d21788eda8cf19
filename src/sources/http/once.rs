//! A request with an idempotency key: taken once, however often it is sent.
//!
//! The body is read as a whole, so that its hash is known before anything is taken. Then the key is claimed: it is the
//! request's own, and goes into the journal with the records and the answer; or it was taken before, and the answer is
//! read from there.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::MatchedName;
use tidegate_codec::formats::{Format, PushProgress};
use tidegate_journal::{Entry, Journal, ReadError};
use tidegate_record::{ANSWER_BYTES_MAX, BodyHash, EntryKey, EntryMeta, KeyHash, Position};
use uuid::Uuid;

use super::{FailureReason, OnError, Replay, Request};
use crate::db::kept_records::TakenOver;
use crate::pipeline::keys::{body_hash, replay_key, request_key};
use crate::pipeline::{Claim, Claimed, CommitOutcome};
use crate::sources::assembler::{Assembler, PlacedError};
use crate::sources::body::{BodyReader, DECOMPRESSED_CHUNK_BYTES};
use crate::sources::keeping::NotKept;

/// What an answer without errors may take, in bytes.
const ANSWER_FRAME_BYTES: usize = 1 << 10;

/// What a request was told: all that is needed to tell it again.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    accepted: u32,
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
}

impl Request<'_> {
    /// Takes a request with a key, or answers as it was answered before.
    pub(super) async fn run_once(
        &mut self,
        key: String,
        body: BodyReader,
    ) -> Result<(), FailureReason> {
        let body = self.read_whole(body).await?;
        let hash = self.hash(&body);
        if self.make.is_some() {
            // What would be refused makes no stream, and without its stream the key is not known.
            let mut assembler = self.parse_whole(&body, None).await?;
            self.make_stream(&mut assembler).await?;
        }
        let key = request_key(self.wanted.stream.id, &self.wanted.user, &key);
        loop {
            match self.source.keys.claim(key, hash).await? {
                Claimed::New(claim) => return self.take_once(claim, &body, None).await,
                Claimed::Before { position } => {
                    if self.answer_again(key, position).await? {
                        return Ok(());
                    }
                }
            }
            // The journal let go of it just now, so it is a new one.
            self.source.keys.trim(self.source.journal.first());
        }
    }

    /// Takes a quarantined record once more, or answers as its first replay was answered.
    pub(super) async fn run_replay<F>(
        &mut self,
        replay: Replay,
        body: BodyReader,
        take_over: F,
    ) -> Result<(), FailureReason>
    where
        F: Future<Output = Result<TakenOver, sqlx::Error>>,
    {
        let key = replay_key(replay.id);
        let mended = self.read_whole(body).await?;
        let hash = self.hash(&mended);
        let record = if mended.is_empty() {
            replay.kept.ok_or(FailureReason::NotReplayable)?
        } else {
            self.wanted.format = Format::Json;
            mended.into()
        };
        match self.source.keys.claim(key, hash).await? {
            Claimed::Before { position } if self.answer_again(key, position).await? => Ok(()),
            // Committed, and the journal let go of it just now.
            Claimed::Before { .. } => Err(FailureReason::Gone),
            // Invariant: what is committed has left the quarantine. So under the claim, a record that is there is
            // neither committed nor on its way.
            Claimed::New(claim) => match take_over.await? {
                TakenOver::Yes => self.take_once(claim, &record, Some(replay.id)).await,
                TakenOver::Gone => Err(FailureReason::Gone),
                TakenOver::Elsewhere => Err(FailureReason::ReplayedElsewhere),
            },
        }
    }

    async fn read_whole(&mut self, mut body: BodyReader) -> Result<BytesMut, FailureReason> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            let bytes = whole.len() + chunk.len();
            if bytes > self.source.entry_bytes_max {
                return Err(self.too_large());
            }
            self.make_room(bytes).await?;
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// The same for requests that mean the same. When to answer, and with how many ids, does not change what is taken.
    fn hash(&self, body: &[u8]) -> BodyHash {
        let format: &[u8] = match self.wanted.format {
            Format::Json => b"json",
            Format::Ndjson => b"ndjson",
            Format::Csv => b"csv",
        };
        let on_error: &[u8] = match self.wanted.on_error {
            OnError::Quarantine => b"quarantine",
            OnError::Reject => b"reject",
        };
        let csv = &self.wanted.csv;
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

    /// Takes a body under a claimed key. Where it fails the key is free again, unless the journal already has it.
    pub(super) async fn take_once(
        &mut self,
        claim: Claim,
        body: &[u8],
        replays: Option<Uuid>,
    ) -> Result<(), FailureReason> {
        let mut assembler = self.parse_whole(body, replays).await?;
        let answer = self.answer(&assembler);
        let key = EntryKey { key: claim.key(), body: claim.body(), answer: Some(answer) };
        let quarantined = assembler.quarantined();
        let Some(assembled) = assembler.take_once(&key, claim.quarantine_is_kept()) else {
            return Ok(());
        };
        self.make_room(body.len() + assembled.bytes()).await?;
        self.submit(assembled, Some(claim)).await?;
        while self.settle_oldest().await? {}
        self.reply.quarantined = quarantined;
        self.wait_for_commit().await;
        Ok(())
    }

    /// Parses a body that is to be one entry.
    async fn parse_whole(
        &mut self,
        body: &[u8],
        replays: Option<Uuid>,
    ) -> Result<Assembler, FailureReason> {
        let (mut framer, mut assembler) = self.parser(true, replays)?;
        let tuples_max = self.source.entry_tuples_bytes_max();
        for chunk in body.chunks(DECOMPRESSED_CHUNK_BYTES) {
            let mut rest = chunk;
            while let PushProgress::SinkFull { consumed } = framer.push(rest, &mut assembler)? {
                rest = &rest[consumed..];
            }
            if assembler.bytes() > tuples_max {
                return Err(FailureReason::TooManyForKey { tuples_bytes_max: tuples_max });
            }
            self.make_room(body.len() + framer.carry_bytes() + assembler.bytes()).await?;
        }
        let finished = framer.finish(&mut assembler)?;
        self.give_back_encoder(framer, body.len() as u64);
        if replays.is_some() && finished.records != 1 {
            return Err(FailureReason::NotOneRecord { records: finished.records });
        }
        self.reply.single = finished.single || replays.is_some();
        self.check_rejected(&assembler, finished.records)?;
        Ok(assembler)
    }

    /// The answer to what was gathered, for the journal; with as many errors as it has room for.
    fn answer(&mut self, assembler: &Assembler) -> Vec<u8> {
        let (accepted, first_id) = assembler.gathered();
        let mut room = ANSWER_BYTES_MAX - ANSWER_FRAME_BYTES;
        let fits = |error: &&PlacedError| {
            let bytes = serde_json::to_vec(error).map_or(usize::MAX, |json| json.len() + 1);
            room = room.saturating_sub(bytes);
            room > 0
        };
        let errors: Vec<PlacedError> =
            assembler.errors().iter().take_while(fits).cloned().collect();
        let refused = assembler.refused();
        self.reply.errors.clone_from(&errors);
        self.reply.refused = refused;
        self.take_not_kept(assembler);
        let not_kept = self.reply.not_kept.clone();
        let quarantined = assembler.quarantined();
        let single = self.reply.single;
        self.take_remarks(assembler);
        let (matched, skipped_lines) = (self.reply.matched.clone(), self.reply.skipped_lines);
        let answer = Answer {
            accepted,
            quarantined,
            not_kept,
            refused,
            single,
            first_id,
            errors,
            matched,
            skipped_lines,
        };
        serde_json::to_vec(&answer).expect("numbers and text are JSON")
    }

    /// Answers as the journal says at this position; false if the journal does not retain it any more.
    async fn answer_again(
        &mut self,
        key: KeyHash,
        position: Position,
    ) -> Result<bool, FailureReason> {
        let journal = self.source.journal.clone();
        let read = tokio::task::spawn_blocking(move || read_at(&journal, position))
            .await
            .expect("reading the journal does not panic");
        let entry = match read {
            Ok(Some(entry)) => entry,
            Ok(None) if position < self.source.journal.first() => return Ok(false),
            Ok(None) | Err(_) => return Err(FailureReason::AnswerLost),
        };
        let answer = EntryMeta::decode(&entry.meta).and_then(|meta| meta.key?.answer);
        let answer = answer.and_then(|json| serde_json::from_slice::<Answer>(&json).ok());
        let answer = answer.ok_or(FailureReason::AnswerLost)?;
        self.reply.accepted = answer.accepted.into();
        self.reply.quarantined = answer.quarantined;
        self.reply.not_kept = answer.not_kept;
        self.reply.refused = answer.refused;
        self.reply.single = answer.single;
        self.reply.errors = answer.errors;
        self.reply.matched = answer.matched;
        self.reply.skipped_lines = answer.skipped_lines;
        self.reply.position = Some(entry.header.end);
        self.reply.replayed = true;
        self.add_ids(answer.first_id, answer.accepted);
        if self.wanted.ack == super::Ack::Commit && answer.accepted > 0 {
            self.reply.committed = self.committed_before(key, &entry, answer.first_id).await;
        } else if self.wanted.ack == super::Ack::Commit {
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
        let mut low_water = self.source.committed.subscribe();
        let mut wait = self.source.intake.wait_for_commit(first_id);
        // The outcome is noted before the commit is made known, so it is looked for after that. A database that forgot
        // the commit may have it noted all the same.
        let position = entry.header.position;
        let known = || self.source.keys.outcome(key);
        if self.source.committed.is_committed(position) {
            return known();
        }
        let told = async {
            tokio::select! {
                outcome = wait.outcome() => Some(outcome),
                _ = low_water.wait_for(|low_water| *low_water > position) => known(),
            }
        };
        tokio::time::timeout(self.source.commit_wait, told).await.ok().flatten()
    }

    fn too_large(&self) -> FailureReason {
        let bytes_max = self.source.entry_bytes_max;
        FailureReason::TooLargeForKey { bytes_max }
    }
}

/// The entry that lies right there; `None` if it was trimmed or damaged.
fn read_at(journal: &Journal, position: Position) -> Result<Option<Entry>, ReadError> {
    let entry = journal.reader(position).next()?;
    Ok(entry.filter(|entry| entry.header.position == position))
}
