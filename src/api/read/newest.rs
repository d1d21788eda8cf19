//! `GET /v1/streams/{stream}/records`: the newest records of a stream, as its table has them.
//!
//! A reply has a limit in bytes, and what is not shown is not read. What is left out is said, record by record.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::api::bodies::{Holder, reply_budget};
use crate::api::caller::PathText;
use crate::api::user_semaphore::UserPermit;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db;
use crate::db::pools::RECORDS_TIMEOUT_MS;
use crate::db::reading::{self, NewestLimits, StoredRecord};
use crate::telemetry::limits;

/// How many records there are, unless the caller says.
const LIMIT_DEFAULT: u16 = 50;
/// Most records of a reply.
const LIMIT_MAX: u16 = 500;
/// Largest record that is shown, in bytes of JSON.
const RECORD_BYTES_MAX: u32 = 64 << 10;
/// Most bytes of all records of a reply, as JSON.
const REPLY_BYTES_MAX: u32 = 4 << 20;
/// What a reading may hold before its reply is made: the records as they come, and as they are shown.
const READING_BYTES_MAX: usize = 2 * REPLY_BYTES_MAX as usize;
/// Advice where PostgreSQL took too long.
const RETRY_AFTER_SLOW: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewestQuery {
    limit: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Newest {
    records: Vec<RecordView>,
    /// The reply is full; there are records of which it says only that they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<Truncated>,
}

/// `"truncated":{"records":300,"reply_bytes_max":4194304}`
#[derive(Debug, Serialize)]
struct Truncated {
    /// How many records have no data because the newer ones fill the reply.
    records: usize,
    reply_bytes_max: u32,
}

/// Why a record has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum LeftOut {
    /// It alone is larger than is shown here.
    TooLarge,
    /// The newer records fill the reply.
    ReplyFull,
}

#[derive(Debug, Serialize)]
struct RecordView {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    /// null: left out.
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOut>,
}

impl RecordView {
    fn new(record: StoredRecord) -> Result<RecordView, serde_json::Error> {
        let StoredRecord { id, received_at, data, extra, is_large } = record;
        let left_out = match data {
            Some(_) => None,
            None if is_large => Some(LeftOut::TooLarge),
            None => Some(LeftOut::ReplyFull),
        };
        let data = data.map(|data| joined(data, extra.as_deref())).map(RawValue::from_string);
        Ok(RecordView { id, received_at, data: data.transpose()?, left_out })
    }
}

/// One JSON object of the members of two.
fn joined(columns: String, extra: Option<&str>) -> String {
    let members = |object: &str| -> String {
        let inner = object.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        inner.unwrap_or_default().trim().to_owned()
    };
    match extra.map(members) {
        Some(more) if !more.is_empty() => format!("{{{},{more}}}", members(&columns)),
        _ => columns,
    }
}

impl Newest {
    fn new(records: Vec<StoredRecord>) -> Result<Newest, serde_json::Error> {
        let records: Vec<RecordView> =
            records.into_iter().map(RecordView::new).collect::<Result<_, _>>()?;
        let left_out = |record: &&RecordView| record.left_out == Some(LeftOut::ReplyFull);
        let count = records.iter().filter(left_out).count();
        let truncated =
            (count > 0).then_some(Truncated { records: count, reply_bytes_max: REPLY_BYTES_MAX });
        Ok(Newest { records, truncated })
    }
}

/// `GET /v1/streams/{stream}/records?limit=50`: the newest first. Needs the scope `read`; 409 while the table is not what
/// the stream says, 429 and 503 while others are read, 503 while PostgreSQL is away.
pub async fn newest(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    query: Result<Query<NewestQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("`limit` is from 1 to {LIMIT_MAX}, not {limit}");
        return Err(ApiError::bad_request("invalid_limit", message));
    }
    let UserPermit { of_all, of_user } = state.readers.take(&caller).await?;
    let held = state.memory_budget.hold(Holder::Known, READING_BYTES_MAX)?;
    let limits =
        NewestLimits { records: limit, record_bytes: RECORD_BYTES_MAX, bytes: REPLY_BYTES_MAX };
    let records = reading::newest(&state.database.pools().records, &stream, limits).await;
    drop(of_all);
    let newest = Newest::new(records.map_err(|error| refused(&name, error))?);
    let newest = newest.map_err(ApiError::internal)?;
    if newest.truncated.is_some() {
        limits::REPLY_BYTES.hit();
    }
    let body = serde_json::to_vec(&newest).map_err(ApiError::internal)?;
    // The reply counts for itself from here on.
    drop(held);
    Ok(reply_budget::json_with(body, of_user))
}

fn refused(stream: &str, error: db::Error) -> ApiError {
    if reading::is_about_the_table(&error) {
        let detail = format!(
            "the table streams.{stream} is gone, or has other columns than the stream; alter it back, or change the stream"
        );
        return ApiError::conflict("table_changed", detail);
    }
    if reading::took_too_long(&error) {
        limits::READING_TIME.hit();
        let detail = format!(
            "PostgreSQL took longer than {RECORDS_TIMEOUT_MS} ms to make text of these records; ask for fewer (`limit`)"
        );
        return ApiError::unavailable("reading_too_slow", detail, RETRY_AFTER_SLOW);
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_extra_are_one_object() {
        let columns = || r#"{"a":1,"b":{}}"#.to_owned();
        assert_eq!(joined(columns(), Some(r#"{"c": [2]}"#)), r#"{"a":1,"b":{},"c": [2]}"#);
        assert_eq!(joined(columns(), Some("{}")), columns());
        assert_eq!(joined(columns(), None), columns());
    }
}
