//! Why records were not taken, as their sender is told.

use std::time::Duration;

use super::costly_level::COSTLY_WAITING_MAX;

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
