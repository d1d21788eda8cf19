//! What a caller is told whose question PostgreSQL refused.

use std::time::Duration;

use axum::http::StatusCode;
use tidegate_codec::Stream;
use tidegate_query::QueryError;

use crate::api::ApiError;
use crate::api::bodies::Full;
use crate::db::pools::RECORDS_TIMEOUT_MS;
use crate::db::query::{QuestionFault, ReadError};
use crate::telemetry::limits;

/// Advice where PostgreSQL took too long.
const RETRY_AFTER_SLOW: Duration = Duration::from_secs(5);

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        ApiError::bad_request(error.code, error.to_string()).with("parameter", error.parameter)
    }
}

/// Why records of this stream are not answered.
pub fn refused(stream: &Stream, error: ReadError) -> ApiError {
    let Some(fault) = error.fault() else {
        return match error {
            ReadError::Database(error) => error.into(),
            ReadError::NoRoom => Full::Budget.into(),
            other => ApiError::internal(other),
        };
    };
    let (code, detail) = match fault {
        QuestionFault::Table => {
            let detail = format!(
                "the table streams.{} is gone, or has other columns than the stream; alter it back, or change the stream",
                stream.name
            );
            return ApiError::conflict("table_changed", detail);
        }
        QuestionFault::Slow => {
            limits::READING_TIME.hit();
            let detail = format!(
                "PostgreSQL took longer than {RECORDS_TIMEOUT_MS} ms for this; ask for fewer records, with filters that an index \
                 helps, or make one"
            );
            return ApiError::unavailable("reading_too_slow", detail, RETRY_AFTER_SLOW);
        }
        QuestionFault::Value => (
            "unreadable_value",
            "a record has a value that cannot be read as the type that it is cast to, or as text; filter such records out first"
                .to_owned(),
        ),
        QuestionFault::Pattern(words) => ("invalid_filter", words),
        QuestionFault::Search => (
            "invalid_filter",
            "PostgreSQL knows no such text search configuration, or cannot read the words as a query; `wfts` takes any words"
                .to_owned(),
        ),
        QuestionFault::Timezone => (
            "unknown_timezone",
            "PostgreSQL knows no such time zone; `Europe/Berlin` is one".to_owned(),
        ),
        QuestionFault::TooMuch => (
            "too_much",
            "PostgreSQL has a limit that this is over, such as the length of a text whose words are searched".to_owned(),
        ),
    };
    ApiError::new(StatusCode::BAD_REQUEST, code, detail)
}
