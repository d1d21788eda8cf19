//! Why a request was not taken, and what of it was taken all the same.

use tidegate_codec::formats::FramingError;

use super::{IngestReply, NotMade};
use crate::db;
use crate::ingest::body::BodyError;
use crate::pipeline::{IntakeError, KeyError};

/// Why a request was not taken, or not all of it.
#[derive(Debug)]
pub struct IngestFailure {
    pub reason: FailureReason,
    /// What was durable before the failure; nothing of small requests.
    pub before: IngestReply,
    /// More than that may be in the journal.
    pub is_outcome_unknown: bool,
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
    #[error("the stream could not be made: {0}")]
    NotMade(#[from] NotMade),
    #[error(
        "with on_error=reject a body holds at most {bytes_max} bytes; split it into several requests"
    )]
    TooLargeToReject { bytes_max: usize },
    #[error(
        "with on_error=reject a body takes at most {tuples_bytes_max} bytes as rows; split it into several requests"
    )]
    TooManyToReject { tuples_bytes_max: usize },
    #[error(
        "with an idempotency key a body holds at most {bytes_max} bytes; split it into several requests, each with its own key"
    )]
    TooLargeForKey { bytes_max: usize },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "with an idempotency key a body takes at most {tuples_bytes_max} bytes as rows; split it into several requests, each with its own key"
    )]
    TooManyForKey { tuples_bytes_max: usize },
    #[error(
        "this record cannot be replayed as it is, because not all of it was kept; send the repaired record"
    )]
    NotReplayable,
    #[error("a replay is of one record, not of {records}")]
    NotOneRecord { records: u64 },
    #[error("there is no such record in the quarantine any more")]
    Gone,
    #[error("another gateway is replaying this record")]
    ReplayedElsewhere,
    #[error(transparent)]
    Database(#[from] db::Error),
    /// Damage came over the journal since the request was taken.
    #[error("this request was taken before, but its answer cannot be read any more")]
    AnswerLost,
    #[error("{refused} of {records} records are invalid, so none was taken")]
    Rejected { refused: u64, records: u64 },
}
