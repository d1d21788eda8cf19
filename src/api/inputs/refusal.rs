//! What a sender is told whose request failed, with what was taken of it before.

use std::time::Duration;

use crate::api::inputs::{body, not_kept};
use crate::api::{ApiError, AppState};
use crate::ingest::{FailureReason, IngestFailure};
use crate::pipeline::{IntakeError, KeyError};
use crate::telemetry::metrics;

/// Advice while the gateway shuts down: it may be starting again.
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(5);
/// Advice while the first request with the same key is under way.
const RETRY_AFTER_UNDER_WAY: Duration = Duration::from_secs(1);
/// Advice while the journal is an older copy, which an operator has to take away.
const RETRY_AFTER_OLDER_JOURNAL: Duration = Duration::from_secs(60);
/// Advice while there are as many keys as there may be: about when some of them go.
const RETRY_AFTER_KEYS_FULL: Duration = Duration::from_secs(60);

/// What a refused request is told, with what was taken before the failure.
pub fn refusal(state: &AppState, failure: IngestFailure) -> ApiError {
    let IngestFailure { reason, before, is_outcome_unknown } = failure;
    let error = match reason {
        FailureReason::Body(error) => body::error(&error),
        FailureReason::Framing(error) => {
            ApiError::bad_request(error.code.as_str(), error.to_string())
                .with("offset", error.offset)
                .with("record", error.record)
                .with("line", serde_json::json!(error.line))
        }
        FailureReason::Intake(error) => intake_error(&error),
        FailureReason::Stream(message) => ApiError::unprocessable("unusable_stream", message),
        FailureReason::TooLargeToReject { .. } | FailureReason::TooManyToReject { .. } => {
            ApiError::too_large("too_large_to_reject", reason.to_string())
        }
        FailureReason::TooLargeForKey { .. } | FailureReason::TooManyForKey { .. } => {
            ApiError::too_large("too_large_for_key", reason.to_string())
        }
        FailureReason::Rejected { .. } => ApiError::unprocessable("rejected", reason.to_string()),
        FailureReason::NotReplayable => {
            return ApiError::unprocessable("not_replayable", reason.to_string());
        }
        FailureReason::NotOneRecord { .. } => {
            return ApiError::unprocessable("not_one_record", reason.to_string());
        }
        FailureReason::Gone => return ApiError::not_found("not_in_quarantine", reason.to_string()),
        FailureReason::ReplayedElsewhere => {
            return ApiError::conflict("replayed_elsewhere", reason.to_string());
        }
        FailureReason::Database(error) => return error.into(),
        FailureReason::Key(error) => return key_error(error),
        FailureReason::NotMade(error) if before.position.is_none() => return error.into(),
        FailureReason::NotMade(error) => error.into(),
        FailureReason::AnswerLost => return ApiError::internal(reason),
    };
    let error = not_kept::with_counts(error, &state.config.quarantine, &before);
    if is_outcome_unknown { error.with("outcome", "unknown") } else { error }
}

fn key_error(error: KeyError) -> ApiError {
    let message = error.to_string();
    match error {
        KeyError::Reused => ApiError::unprocessable("idempotency_key_reused", message),
        KeyError::UnderWay => ApiError::conflict("idempotency_key_under_way", message)
            .retry_after(RETRY_AFTER_UNDER_WAY),
        KeyError::Full { .. } => {
            metrics::count_refused("idempotency_keys_full");
            ApiError::unavailable("idempotency_keys_full", message, RETRY_AFTER_KEYS_FULL)
        }
    }
}

fn intake_error(error: &IntakeError) -> ApiError {
    let message = error.to_string();
    let refused = |code, retry_after| {
        metrics::count_refused(code);
        ApiError::unavailable(code, message.clone(), retry_after)
    };
    match error {
        IntakeError::Overloaded { retry_after } => refused("overloaded", *retry_after),
        IntakeError::CostlyFull { retry_after } => refused("costly_documents", *retry_after),
        IntakeError::JournalFull { retry_after, .. } => refused("journal_full", *retry_after),
        IntakeError::JournalFailed { retry_after }
        | IntakeError::JournalFailedMidway { retry_after } => {
            refused("journal_failed", *retry_after)
        }
        IntakeError::OutcomeUnknown => ApiError::internal(&message),
        IntakeError::ShuttingDown => refused("shutting_down", RETRY_AFTER_SHUTDOWN),
        IntakeError::JournalIsOlder => refused("older_journal", RETRY_AFTER_OLDER_JOURNAL),
        IntakeError::TooLarge { .. } => ApiError::too_large("entry_too_large", message),
    }
}
