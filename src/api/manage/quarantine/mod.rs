//! `/v1/quarantine`: what streams refused; looking at it, dropping it, and taking it once more when it is repaired.
//!
//! Callers who may use a stream see what it refused; what deleted streams refused is for admins. Reading needs `read`, a replay
//! `read` and `ingest`; dropping takes records away for good, so it needs `streams:write`, as dropping a stream does.

mod guessed_text;
mod kept_view;
pub mod replay;

use std::io;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tidegate_codec::StreamName;
use tidegate_record::StreamId;
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::api::bodies::{Holder, MemoryPermit, reply_budget};
use crate::api::read::QuarantineLevelView;
use crate::api::user_semaphore::UserPermit;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::kept_records::{self, Filter, KeptCount, KeptHead, KeptRecord};
use crate::db::{self, Pool, answered, reading};
use crate::pipeline::keys::replay_key;
use crate::telemetry::limits;

pub use guessed_text::GuessedText;
pub use kept_view::KeptView;

/// How many records a page has, unless the caller says.
const PAGE_DEFAULT: u16 = 50;
/// Most records of a page.
const PAGE_MAX: u16 = 500;
/// How much of a record a list shows, in bytes.
const LIST_RAW_BYTES_MAX: i32 = 4 << 10;
/// A page ends before it has more bytes of JSON, whatever its limit; it has one record at least.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// What a list may hold before its reply is made: the records as they come, as they are shown, and the reply itself.
const READING_BYTES_MAX: usize = 3 * PAGE_BYTES_MAX;
/// Advice where PostgreSQL took too long.
const RETRY_AFTER_SLOW: Duration = Duration::from_secs(5);

/// Which records are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineQuery {
    /// A stream's name; of a deleted one its number.
    stream: Option<String>,
    code: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// Where the page before ended.
    after: Option<Uuid>,
    limit: Option<u16>,
}

/// `{"records":[…],"next":"…"}`: `next` is there when there are more.
#[derive(Debug, Serialize)]
pub struct KeptPage {
    records: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

/// `{"counts":[…],"room":{…}}`
#[derive(Debug, Serialize)]
pub struct KeptSummary {
    counts: Vec<CountView>,
    room: QuarantineLevelView,
}

#[derive(Debug, Serialize)]
struct CountView {
    stream: Option<String>,
    stream_id: StreamId,
    code: String,
    count: i64,
    #[serde(with = "time::serde::rfc3339")]
    oldest: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    newest: OffsetDateTime,
}

/// `{"dropped":n}`
#[derive(Debug, Serialize)]
pub struct Dropped {
    dropped: u64,
}

/// `GET /v1/quarantine`: the newest first.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("limit is 1 to {PAGE_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    let after = query.after;
    let filter = filter(&state, &caller, query)?;
    let UserPermit { of_all, of_user } = state.lists.take(&caller).await?;
    let held = state.memory_budget.hold(Holder::Known, READING_BYTES_MAX)?;
    // One more tells whether there is a next page.
    let pool = &state.database.pools().reading;
    let kept = kept_records::list(pool, &filter, after, i64::from(limit) + 1, LIST_RAW_BYTES_MAX);
    let kept = answered(kept).await.map_err(refused)?;
    drop(of_all);
    let page = page(kept, limit.into()).map_err(ApiError::internal)?;
    let body = serde_json::to_vec(&page).map_err(ApiError::internal)?;
    // The reply counts for itself from here on.
    drop(held);
    Ok(reply_budget::json_with(body, of_user))
}

fn refused(error: db::Error) -> ApiError {
    if !reading::took_too_long(&error) {
        return error.into();
    }
    limits::READING_TIME.hit();
    let detail = "PostgreSQL took too long to look through the quarantine; ask for less of it (stream, code, from, until)";
    ApiError::unavailable("reading_too_slow", detail, RETRY_AFTER_SLOW)
}

/// As many of the records as a page may have, and where the next one begins if these are not all.
fn page(kept: Vec<KeptRecord>, limit: usize) -> Result<KeptPage, serde_json::Error> {
    let (mut page, mut bytes, mut last) = (KeptPage { records: Vec::new(), next: None }, 0, None);
    for kept in kept {
        let id = kept.id;
        let is_full = page.records.len() == limit;
        let shown = if is_full { None } else { Some(to_raw_value(&KeptView::from(kept))?) };
        bytes += shown.as_ref().map_or(0, |shown| shown.get().len() + 1);
        match shown {
            Some(shown) if bytes <= PAGE_BYTES_MAX || page.records.is_empty() => {
                page.records.push(shown);
                last = Some(id);
            }
            _ => {
                page.next = last;
                break;
            }
        }
    }
    Ok(page)
}

/// `GET /v1/quarantine/summary`: counts by stream and code.
pub async fn summary(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> Result<Json<KeptSummary>, ApiError> {
    caller.require(Scope::Read)?;
    let Query(query) = query?;
    no_paging(&query)?;
    let filter = filter(&state, &caller, query)?;
    let _permit = state.lists.take(&caller).await?;
    let counts = kept_records::summary(&state.database.pools().reading, &filter);
    let counts = answered(counts).await.map_err(refused)?;
    let counts = counts.into_iter().map(CountView::from).collect();
    Ok(Json(KeptSummary { counts, room: QuarantineLevelView::of(&state) }))
}

/// `GET /v1/quarantine/{id}`: one record, with all that is kept of it.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let Path(id) = id?;
    let UserPermit { of_all, of_user } = state.lists.take(&caller).await?;
    let pool = &state.database.pools().reading;
    let head = find_head(pool, &caller, id).await?;
    // As it comes from the database, and as it is kept for the reply.
    let bytes = 2 * usize::try_from(head.shown_bytes).unwrap_or_default();
    let mut held = state.memory_budget.hold(Holder::Known, bytes)?;
    let kept = answered(kept_records::find(pool, id)).await?.ok_or_else(not_there)?;
    drop(of_all);
    held.grow(KeptView::made_bytes(&kept))?;
    let body = counted_json(&KeptView::from(kept), &mut held)?;
    // The reply counts for itself from here on.
    drop(held);
    Ok(reply_budget::json_with(body, of_user))
}

/// JSON that is written once there is room for it.
fn counted_json(value: &impl Serialize, held: &mut MemoryPermit) -> Result<Vec<u8>, ApiError> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_err(ApiError::internal)?;
    held.grow(length.0)?;
    let mut json = Vec::with_capacity(length.0);
    serde_json::to_writer(&mut json, value).map_err(ApiError::internal)?;
    Ok(json)
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `DELETE /v1/quarantine/{id}` → 204; 409 while it is being replayed here.
pub async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let Path(id) = id?;
    find_head(&state.database.pools().changes, &caller, id).await?;
    // A replay was acknowledged, or will be: what it takes is written, whatever is dropped here.
    let Some(_no_replay) = state.ingest.keys.keep_free(replay_key(id)) else {
        let detail = "this record is being replayed: it leaves the quarantine when it is written to its table";
        return Err(ApiError::conflict("replay_under_way", detail));
    };
    if !answered(kept_records::delete(&state.database.pools().changes, id)).await? {
        return Err(not_there());
    }
    tracing::info!(%id, by = &*caller.user_name, "a quarantined record was dropped");
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/quarantine?stream=…&code=…` → 200 `{"dropped":n}`. Without any condition it is refused.
pub async fn delete_all(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> Result<Json<Dropped>, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let Query(query) = query?;
    no_paging(&query)?;
    let conditions = [query.stream.is_some(), query.code.is_some()];
    let times = [query.from.is_some(), query.until.is_some()];
    if !conditions.contains(&true) && !times.contains(&true) {
        let detail = "say which records shall be dropped: stream, code, from or until";
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    let filter = filter(&state, &caller, query)?;
    let dropped = kept_records::delete_all(&state.database.pools().changes, &filter).await?;
    tracing::info!(dropped, by = &*caller.user_name, "quarantined records were dropped");
    Ok(Json(Dropped { dropped }))
}

/// What is known of a record without its bytes, if the caller may see it.
async fn find_head(pool: &Pool, caller: &Caller, id: Uuid) -> Result<KeptHead, ApiError> {
    let kept = answered(kept_records::head(pool, id)).await?.ok_or_else(not_there)?;
    let name = kept.stream.as_deref().and_then(|name| name.parse::<StreamName>().ok());
    let visible = match name {
        Some(name) => caller.may_use(&name),
        None => sees_all(caller),
    };
    // Other callers are not told that it is there at all.
    if visible { Ok(kept) } else { Err(not_there()) }
}

fn not_there() -> ApiError {
    ApiError::not_found("not_in_quarantine", "there is no such record in the quarantine")
}

fn sees_all(caller: &Caller) -> bool {
    caller.streams.is_none() && caller.scopes.allows(Scope::Admin)
}

fn no_paging(query: &QuarantineQuery) -> Result<(), ApiError> {
    if query.after.is_none() && query.limit.is_none() {
        return Ok(());
    }
    Err(ApiError::bad_request("invalid_query", "after and limit are for lists"))
}

fn filter(state: &AppState, caller: &Caller, query: QuarantineQuery) -> Result<Filter, ApiError> {
    let stream = query.stream.map(|stream| stream_id(state, caller, &stream)).transpose()?;
    let snapshot = state.catalog.streams().snapshot();
    let visible = (!sees_all(caller)).then(|| {
        let used = snapshot.iter().filter(|stream| caller.may_use(&stream.name));
        used.map(|stream| stream.id).collect()
    });
    let QuarantineQuery { code, from, until, .. } = query;
    if code.as_ref().is_some_and(|code| code.contains('\0')) {
        return Err(ApiError::bad_request("invalid_query", "no code has a NUL character"));
    }
    // A time may lie beyond what there is of them once its offset is taken off; PostgreSQL gets it in UTC.
    let utc = |at: Option<OffsetDateTime>, name: &str| match at {
        None => Ok(None),
        Some(at) => at.checked_to_offset(UtcOffset::UTC).map(Some).ok_or_else(|| {
            let detail = format!("`{name}` is not within the years 0 to 9999 in UTC");
            ApiError::bad_request("invalid_query", detail)
        }),
    };
    let (from, until) = (utc(from, "from")?, utc(until, "until")?);
    Ok(Filter { visible, stream, code, from, until })
}

fn stream_id(state: &AppState, caller: &Caller, stream: &str) -> Result<StreamId, ApiError> {
    match stream.parse() {
        // No stream's name begins with a digit.
        Ok(number) => Ok(StreamId(number)),
        Err(_) => Ok(named_stream::find(state, caller, stream)?.id),
    }
}

impl From<KeptCount> for CountView {
    fn from(count: KeptCount) -> CountView {
        CountView {
            stream: count.stream,
            stream_id: count.stream_id,
            code: count.code,
            count: count.count,
            oldest: count.oldest,
            newest: count.newest,
        }
    }
}
