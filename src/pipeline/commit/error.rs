//! Why a transaction, or with it a session, ended before everything was committed.

use std::time::Duration;

use tidegate_journal::ReadError;
use tidegate_record::{Position, StreamId};

use crate::db::batch::BatchError;
use crate::db::verdict::Verdict;

/// Why a session ended before everything was drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error("a batch was not committed within {0:?}")]
    TimedOut(Duration),
    #[error("an earlier batch of the same stream was not committed")]
    EarlierBatchFailed,
    #[error(
        "PostgreSQL has records up to {committed}, but the journal ended at {end}: an older copy of the journal was put \
         back; move the directory `journal` away so that a new one begins"
    )]
    JournalIsOlder { committed: Position, end: Position },
}

impl SessionError {
    pub fn class(&self) -> String {
        match self {
            SessionError::Batch(error) => error.class(),
            SessionError::Journal(_) => "journal".to_owned(),
            SessionError::TimedOut(_) => "timeout".to_owned(),
            SessionError::EarlierBatchFailed => "order".to_owned(),
            SessionError::JournalIsOlder { .. } => "older_journal".to_owned(),
        }
    }

    /// Will waiting not help?
    pub fn needs_operator(&self) -> bool {
        match self {
            SessionError::Batch(error) => error.verdict() == Verdict::Stop,
            SessionError::JournalIsOlder { .. } => true,
            _ => false,
        }
    }
}

/// Why a transaction was not committed.
pub(super) enum Failure {
    /// PostgreSQL refused what was for one of these streams.
    Refused {
        streams: Vec<StreamId>,
        error: BatchError,
    },
    Session(SessionError),
}

impl<E: Into<SessionError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Session(error.into())
    }
}

impl Failure {
    /// Of a statement that wrote into the table of one of these streams.
    pub fn of(streams: &[StreamId], error: BatchError) -> Failure {
        match error.verdict() {
            Verdict::Retry => Failure::Session(error.into()),
            _ => Failure::Refused { streams: streams.to_vec(), error },
        }
    }
}
