//! The ingest service: a body of records becomes entries as it arrives, and the reply tells what is durable.
//!
//! Every record of a body is for one stream, or each line names the stream of its own ([`Addressing`]). A large body is
//! never held in memory: whenever there is enough for an entry, what is gathered goes to the intake, and only a few
//! submissions of one request are under way at once ([`request`]). A request with an idempotency key is read as a whole and
//! taken [`once`].
//!
//! Invariant: what is taken of a request that fails midway is its beginning, over all its streams.

mod assembled;
mod assembler;
pub mod body;
mod commit_waits;
pub mod encoders;
mod failure;
mod ids;
mod keeping;
mod level;
mod many;
mod once;
mod parser;
mod parts;
mod replay;
mod request;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tidegate_codec::StreamName;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::MatchedName;
use tidegate_codec::formats::Format;
use tidegate_journal::Journal;
use tidegate_record::{Position, StreamId, UnixMicros};
use uuid::Uuid;

use crate::auth::Admission;
use crate::catalog::Catalog;
use crate::counters::Counters;
use crate::db::Database;
use crate::pipeline::{
    CommitOutcome, Intake, Keys, Progress as Committed, QuarantineBudget, SenderId,
};

pub use assembler::{Assembler, Origin, PlacedError, RECORD_ERRORS_MAX};
pub use failure::{FailureReason, IngestFailure};
pub use keeping::{Keeping, NotKept, WhyNotKept};
pub use many::REQUEST_STREAMS_MAX;
pub use replay::Replay;
pub use target::{Maker, NoTarget, NotMade, Rights, Target};

use body::BodyReader;
use encoders::Encoders;
use request::Request;

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

/// Which streams a body's records are for.
#[derive(Debug)]
pub enum Addressing {
    OneStream(OneStream),
    /// Each line names its own.
    ManyStreams(Rights),
}

/// A body for one stream.
#[derive(Debug)]
pub struct OneStream {
    pub target: Target,
    pub format: Format,
    /// How a body of CSV is to be read.
    pub csv: CsvOptions,
}

/// A request to ingest, but for its body.
#[derive(Debug)]
pub struct IngestRequest {
    pub addressing: Addressing,
    pub sender: SenderId,
    /// Pays for what is taken, where the sender has a quota.
    pub quota: Option<Admission>,
    pub user: Arc<str>,
    pub received_at: UnixMicros,
    pub ack: Ack,
    pub on_error: OnError,
    /// Only for one stream.
    pub return_ids: bool,
    /// The request's idempotency key.
    pub key: Option<String>,
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct IngestReply {
    pub accepted: u64,
    pub quarantined: u64,
    /// Invalid records that the quarantine does not keep; only the sender has them.
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
    /// It was of changes.
    pub has_changes: bool,
    /// The request had been taken before, and this is what it was answered then.
    pub replayed: bool,
    /// By stream, in the order in which they were met; nothing where the request is for one.
    pub streams: Vec<StreamReply>,
}

/// What became of one stream's part of a request of many streams.
#[derive(Debug, Clone)]
pub struct StreamReply {
    pub name: StreamName,
    /// Unless it is still to be made.
    pub(crate) id: Option<StreamId>,
    pub accepted: u64,
    pub quarantined: u64,
    pub not_kept: NotKept,
    /// Set with `ack=commit`, unless the wait was over before the commit.
    pub committed: Option<CommitOutcome>,
}

/// The service; clones share everything.
#[derive(Clone)]
pub struct Ingest {
    pub intake: Intake,
    pub encoders: Encoders,
    pub counters: Counters,
    pub keys: Keys,
    /// Where the answers to requests with keys are.
    pub journal: Journal,
    pub committed: Committed,
    pub quarantine: QuarantineBudget,
    /// Where unknown streams are made.
    pub catalog: Catalog,
    /// Where quarantined records are taken over from.
    pub database: Database,
    pub entry_bytes_max: usize,
    pub commit_wait: Duration,
}

impl Ingest {
    /// Takes all records of a body. The reply comes once they are durable, or committed where that was asked for. A stream
    /// that is not there yet is made when its first record is kept.
    pub async fn take(
        &self,
        request: IngestRequest,
        body: BodyReader,
    ) -> Result<IngestReply, Box<IngestFailure>> {
        let mut under_way = Request::new(self, request);
        let result = match under_way.wanted.key.take() {
            Some(key) => Box::pin(under_way.run_once(key, body)).await,
            None => under_way.run(body).await,
        };
        match result {
            Ok(()) => Ok(under_way.finish()),
            Err(reason) => Err(Box::pin(under_way.fail(reason)).await),
        }
    }

    /// Takes a quarantined record once more: as it is, or, where `body` is not empty, as the JSON object there. The
    /// request's key is the replay's.
    pub async fn replay(
        &self,
        request: IngestRequest,
        replay: Replay,
        body: BodyReader,
    ) -> Result<IngestReply, Box<IngestFailure>> {
        let mut under_way = Request::new(self, request);
        match under_way.run_replay(replay, body).await {
            Ok(()) => Ok(under_way.finish()),
            Err(reason) => Err(under_way.fail(reason).await),
        }
    }
}
