//! `/v1/quarantine`: what streams refused; looking at it, dropping it, and taking it once more when it is mended.
//!
//! Who may use a stream sees what it refused; what deleted streams refused is for admins. Reading needs `read`, a replay
//! `read` and `ingest`; dropping takes records away for good, so it needs `streams:write`, as dropping a stream does.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tidegate_codec::csv::{CsvDialect, CsvOptions};
use tidegate_codec::formats::Format;
use tidegate_codec::{Stream, StreamName};
use tidegate_record::StreamId;
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::api::guessed_text::GuessedText;
use crate::api::quarantine_room::QuarantineRoomView;
use crate::api::records::{self, AckWord};
use crate::api::{ApiError, AppState, counted_body, streams};
use crate::auth::{Caller, Scope};
use crate::db::answered;
use crate::db::kept_records::{self, Filter, KeptCount, KeptRecord};
use crate::pipeline::keys::replay_key;
use crate::sources::http::{FailureReason, IngestFailure, IngestRequest, OnError, Replay};

/// How many records a page has, unless the caller says.
const PAGE_DEFAULT: u16 = 50;
/// Most records of a page.
const PAGE_MAX: u16 = 500;
/// How much of a record a list shows, in bytes.
const LIST_RAW_BYTES_MAX: i32 = 4 << 10;
/// A page ends before it has more bytes of JSON, whatever its limit; it has one record at least.
const PAGE_BYTES_MAX: usize = 4 << 20;

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

/// A quarantined record.
#[derive(Debug, Serialize)]
pub struct KeptView {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    /// null: the stream was deleted.
    stream: Option<String>,
    stream_id: StreamId,
    source: String,
    user: String,
    record: Option<i64>,
    line: Option<i64>,
    column: Option<String>,
    code: String,
    /// PostgreSQL's own code, where it was the one that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<String>,
    message: String,
    format: String,
    /// The header line of a CSV row; only where one record is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_header: Option<String>,
    /// What separates and quotes its fields, where the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_delimiter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_quote: Option<String>,
    /// What was sent, as text; a list shows the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    /// And what it most likely says, there.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_guess: Option<GuessedText>,
    /// How many bytes are kept.
    raw_bytes: i32,
    /// More was sent than is kept.
    truncated: bool,
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
    room: QuarantineRoomView,
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

/// What the query of a replay may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuery {
    #[serde(default)]
    ack: AckWord,
}

/// `GET /v1/quarantine`: the newest first.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> Result<Json<KeptPage>, ApiError> {
    caller.require(Scope::Read)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let detail = format!("limit is 1 to {PAGE_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    let after = query.after;
    let filter = filter(&state, &caller, query)?;
    // One more tells whether there is a next page.
    let pool = &state.database.pools().reading;
    let kept =
        kept_records::list(pool, &filter, after, i64::from(limit) + 1, LIST_RAW_BYTES_MAX).await;
    page(kept?, limit.into()).map(Json).map_err(ApiError::internal)
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
    let counts = kept_records::summary(&state.database.pools().reading, &filter).await?;
    let counts = counts.into_iter().map(CountView::from).collect();
    Ok(Json(KeptSummary { counts, room: QuarantineRoomView::of(&state) }))
}

/// `GET /v1/quarantine/{id}`: one record, with all that is kept of it.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<KeptView>, ApiError> {
    caller.require(Scope::Read)?;
    let Path(id) = id?;
    Ok(Json(KeptView::from(find(&state, &caller, id).await?)))
}

/// `DELETE /v1/quarantine/{id}` → 204; 409 while it is being replayed here.
pub async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let Path(id) = id?;
    find(&state, &caller, id).await?;
    // A replay was acknowledged, or will be: what it takes is written, whatever is dropped here.
    let Some(_no_replay) = state.source.keys.keep_free(replay_key(id)) else {
        let detail = "this record is being replayed: it leaves the quarantine when it is written to its table";
        return Err(ApiError::conflict("replay_under_way", detail));
    };
    if !answered(kept_records::delete(state.auth.pool(), id)).await? {
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
    let dropped = kept_records::delete_all(state.auth.pool(), &filter).await?;
    tracing::info!(dropped, by = &*caller.user_name, "quarantined records were dropped");
    Ok(Json(Dropped { dropped }))
}

/// `POST /v1/quarantine/{id}/replay`: takes a record once more, as it is or, with a body, as the JSON object there. It
/// leaves the quarantine when it is committed; until then the same replay is answered as the first.
pub async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
    query: Result<Query<ReplayQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::Ingest)?;
    caller.require(Scope::Read)?;
    let (Path(id), Query(query)) = (id?, query?);
    if request.headers().contains_key(header::CONTENT_TYPE)
        && streams::media_type(request.headers())?.format != Format::Json
    {
        let detail = "a mended record is JSON, whatever it was before";
        return Err(ApiError::unsupported_media_type(detail));
    }
    let encoding = records::content_encoding(request.headers())?;
    let kept = find(&state, &caller, id).await?;
    let ingest = IngestRequest {
        stream: stream_of(&state, &kept)?,
        sender: records::sender(&caller),
        quota: None,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        format: if is_csv(&kept) { Format::Csv } else { Format::Json },
        csv: csv_options(&kept),
        ack: query.ack.into(),
        // What is still invalid stays as it is.
        on_error: OnError::Reject,
        return_ids: false,
        key: None,
    };
    let replay = Replay { id, kept: body_of(kept) };
    let limits = records::body_limits(&state);
    let body = request.into_body().into_data_stream();
    let body = counted_body::read(&state, body, encoding, limits);
    let take_over = answered(kept_records::take_over(state.auth.pool(), id, state.journal.id()));
    match state.source.replay(ingest, replay, body, take_over).await {
        Ok(reply) => Ok(records::answer(&state, reply, false)),
        Err(failure) => Err(still_invalid(&state, *failure)),
    }
}

fn still_invalid(state: &AppState, failure: IngestFailure) -> ApiError {
    match &failure.reason {
        FailureReason::Rejected { .. } | FailureReason::Framing(_) => {
            let detail = match failure.before.errors.first() {
                Some(error) => error.message.clone(),
                None => failure.reason.to_string(),
            };
            let detail = format!("the record is invalid and stays in the quarantine: {detail}");
            let errors = serde_json::json!(failure.before.errors);
            ApiError::unprocessable("invalid_record", detail).with("errors", errors)
        }
        FailureReason::Key(crate::pipeline::KeyError::Reused) => ApiError::conflict(
            "replayed_otherwise",
            "this record is being replayed already, with another content",
        ),
        _ => records::refusal(state, failure),
    }
}

/// The kept record as a body; `None` if not all of it was kept.
fn body_of(kept: KeptRecord) -> Option<Vec<u8>> {
    if kept.truncated {
        return None;
    }
    if !is_csv(&kept) {
        return Some(kept.raw);
    }
    // The line end makes a row of one that has nothing in it.
    Some([&kept.csv_header?[..], b"\n", &kept.raw, b"\n"].concat())
}

/// How the kept record's file was read.
fn csv_options(kept: &KeptRecord) -> CsvOptions {
    let words = (kept.csv_delimiter.as_deref(), kept.csv_quote.as_deref());
    let dialect = CsvDialect::from_words(words.0, words.1).unwrap_or_default();
    CsvOptions { dialect, ..CsvOptions::of_null(kept.csv_null.clone()) }
}

fn is_csv(kept: &KeptRecord) -> bool {
    kept.format.as_deref() == Some("csv")
}

fn stream_of(state: &AppState, kept: &KeptRecord) -> Result<Arc<Stream>, ApiError> {
    state.catalog.streams().by_id(kept.stream_id).ok_or_else(|| {
        let detail = "the stream that refused this record was deleted";
        ApiError::unprocessable("stream_deleted", detail)
    })
}

async fn find(state: &AppState, caller: &Caller, id: Uuid) -> Result<KeptRecord, ApiError> {
    let kept =
        kept_records::find(&state.database.pools().reading, id).await?.ok_or_else(not_there)?;
    let name = kept.stream.as_deref().and_then(|name| name.parse::<StreamName>().ok());
    let visible = match name {
        Some(name) => caller.may_use(&name),
        None => sees_all(caller),
    };
    // That it is there at all is nobody else's business.
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
        Err(_) => Ok(streams::find(state, caller, stream)?.id),
    }
}

impl From<KeptRecord> for KeptView {
    fn from(kept: KeptRecord) -> KeptView {
        let format = kept.format.unwrap_or_else(|| "json".to_owned());
        let is_cut = usize::try_from(kept.raw_bytes).is_ok_and(|bytes| bytes > kept.raw.len());
        let (raw, raw_base64, raw_guess) = match text(kept.raw, is_cut || kept.truncated) {
            Ok(text) => (Some(text), None, None),
            Err(bytes) => (None, Some(STANDARD.encode(&bytes)), Some(GuessedText::of(&bytes))),
        };
        KeptView {
            id: kept.id,
            received_at: kept.received_at,
            stream: kept.stream,
            stream_id: kept.stream_id,
            source: kept.source,
            user: kept.user_name,
            record: kept.record,
            line: kept.line,
            column: kept.column_name,
            code: kept.code,
            sqlstate: kept.sqlstate,
            message: kept.message,
            format,
            csv_header: kept.csv_header.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
            csv_delimiter: kept.csv_delimiter,
            csv_quote: kept.csv_quote,
            raw,
            raw_base64,
            raw_guess,
            raw_bytes: kept.raw_bytes,
            truncated: kept.truncated,
        }
    }
}

/// The bytes as text, or back. A cut may go through a character, whose half is left out.
fn text(raw: Vec<u8>, is_cut: bool) -> Result<String, Vec<u8>> {
    String::from_utf8(raw).or_else(|error| {
        let half_a_character = is_cut && error.utf8_error().error_len().is_none();
        let valid = error.utf8_error().valid_up_to();
        let mut raw = error.into_bytes();
        if half_a_character {
            raw.truncate(valid);
            return String::from_utf8(raw).map_err(std::string::FromUtf8Error::into_bytes);
        }
        Err(raw)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_through_a_character_is_still_text() {
        let euro = "€".as_bytes();
        assert_eq!(text(euro.to_vec(), false), Ok("€".to_owned()));
        assert_eq!(text([b"a", &euro[..2]].concat(), true), Ok("a".to_owned()));
        assert_eq!(text(euro[..2].to_vec(), false), Err(euro[..2].to_vec()));
        assert_eq!(text(b"\xff a".to_vec(), true), Err(b"\xff a".to_vec()));
    }
}
