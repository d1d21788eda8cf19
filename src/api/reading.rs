//! `GET /v1/streams/{stream}/records`: the newest records of a stream, as its table has them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::api::caller::PathText;
use crate::api::{ApiError, AppState, streams};
use crate::auth::{Caller, Scope};
use crate::db::reading::{self, StoredRecord};

/// How many records there are, unless the caller says.
const LIMIT_DEFAULT: u16 = 50;
/// Most records of a reply.
const LIMIT_MAX: u16 = 500;
/// Largest record that is shown, in bytes of JSON.
const RECORD_BYTES_MAX: u32 = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewestQuery {
    limit: Option<u16>,
}

#[derive(Debug, Serialize)]
pub struct Newest {
    records: Vec<RecordView>,
}

#[derive(Debug, Serialize)]
struct RecordView {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    /// null: larger than is shown here.
    data: Option<Box<RawValue>>,
}

impl RecordView {
    fn new(record: StoredRecord) -> Result<RecordView, serde_json::Error> {
        let StoredRecord { id, received_at, data, extra } = record;
        let data = data.map(|data| joined(data, extra.as_deref())).map(RawValue::from_string);
        Ok(RecordView { id, received_at, data: data.transpose()? })
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

/// `GET /v1/streams/{stream}/records?limit=50`: the newest first. Needs the scope `read`; 409 while the table is not what
/// the stream says, 503 while PostgreSQL is away.
pub async fn newest(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    query: Result<Query<NewestQuery>, QueryRejection>,
) -> Result<Json<Newest>, ApiError> {
    caller.require(Scope::Read)?;
    let stream = streams::find(&state, &caller, &name)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("`limit` is from 1 to {LIMIT_MAX}, not {limit}");
        return Err(ApiError::bad_request("invalid_limit", message));
    }
    let pool = &state.database.pools().reading;
    let records = match reading::newest(pool, &stream, limit, RECORD_BYTES_MAX).await {
        Err(error) if reading::is_about_the_table(&error) => {
            let detail = format!(
                "the table streams.{name} is gone, or has other columns than the stream; alter it back, or change the stream"
            );
            return Err(ApiError::conflict("table_changed", detail));
        }
        records => records?,
    };
    let records: Result<Vec<_>, _> = records.into_iter().map(RecordView::new).collect();
    let records = records.map_err(ApiError::internal)?;
    Ok(Json(Newest { records }))
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
