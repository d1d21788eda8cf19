//! One record, with the hash of its content as `ETag`: by its id, or by its key.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tidegate_codec::Stream;
use tidegate_query::RecordsPlan;
use uuid::Uuid;

use crate::api::read::key_path::KeyPath;
use crate::api::read::own_writes::{self, Freshness};
use crate::api::read::places::{self, Asked};
use crate::api::read::question::{Format, parameters};
use crate::api::read::read_error::refused;
use crate::api::read::records::PAGE_HELD_BYTES;
use crate::api::read::reply_cache::{REVALIDATED, has};
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::Pool;
use crate::db::pools::RECORDS_TIMEOUT_MS;
use crate::db::query::Reading;

/// What a record's JSON begins with: `{"id":"…"`.
const ID_BYTES: usize = br#"{"id":"00000000-0000-0000-0000-000000000000""#.len();

/// A record that was found.
#[derive(Debug)]
pub struct FoundRecord {
    json: Vec<u8>,
    tag: String,
}

impl FoundRecord {
    /// The same with nothing but its id.
    pub fn id_alone(self) -> FoundRecord {
        let end = ID_BYTES.min(self.json.len());
        FoundRecord { json: [&self.json[..end], b"}"].concat(), tag: self.tag }
    }

    /// Whether it is the record of this id, and not an older one of its key.
    pub fn is_of(&self, id: Uuid) -> bool {
        self.json.starts_with(format!("{{\"id\":\"{id}\"").as_bytes())
    }
}

impl IntoResponse for FoundRecord {
    fn into_response(self) -> Response {
        let mut response = self.json.into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Format::Json.media_type()));
        headers.insert(CACHE_CONTROL, REVALIDATED);
        if let Ok(tag) = HeaderValue::try_from(self.tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

/// `GET /v1/streams/{stream}/records/{id}`. Needs the scope `read`.
pub async fn by_id(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<(String, Uuid)>, PathRejection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Path((name, id)) = path?;
    let plan = |stream: &Stream, parameters: &[(String, String)]| {
        Ok(RecordsPlan::of_id(stream, id, parameters)?)
    };
    show(&state, &caller, &name, &id.to_string(), plan, &headers, query).await
}

/// `GET /v1/streams/{stream}/by-key/{key}`. Needs the scope `read`.
pub async fn by_key(
    State(state): State<AppState>,
    caller: Caller,
    path: KeyPath,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let plan = |stream: &Stream, parameters: &[(String, String)]| {
        if stream.key.is_none() {
            let detail = format!("the stream \"{}\" has no key", stream.name);
            return Err(ApiError::conflict("stream_has_no_key", detail));
        }
        Ok(RecordsPlan::of_key(stream, &path.parts, parameters)?)
    };
    let called = format!("of the key {}", path.parts.join(","));
    show(&state, &caller, &path.stream, &called, plan, &headers, query).await
}

async fn show(
    state: &AppState,
    caller: &Caller,
    name: &str,
    called: &str,
    plan: impl FnOnce(&Stream, &[(String, String)]) -> Result<RecordsPlan, ApiError>,
    headers: &HeaderMap,
    query: Option<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(state, caller, name)?;
    let mut parameters = parameters(&query.unwrap_or_default());
    let waited_for = own_writes::take(&mut parameters)?;
    let plan = plan(&stream, &parameters)?;
    let freshness = own_writes::wait(state, waited_for).await?;
    let _permit = state.readers.take(caller).await?;
    let Some(found) = read(state, &stream, &plan, freshness).await? else {
        let detail = format!("the stream \"{name}\" has no record {called}");
        return Err(ApiError::not_found("no_such_record", detail));
    };
    let tag = HeaderValue::try_from(found.tag.as_str()).map_err(ApiError::internal)?;
    if has(headers, &tag) {
        return Ok(
            (StatusCode::NOT_MODIFIED, [(ETAG, tag), (CACHE_CONTROL, REVALIDATED)]).into_response()
        );
    }
    Ok(found.into_response())
}

/// The record of a plan, as it is now.
pub async fn read(
    state: &AppState,
    stream: &Stream,
    plan: &RecordsPlan,
    freshness: Freshness,
) -> Result<Option<FoundRecord>, ApiError> {
    let question = |pool: Pool| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let mut held = places::hold(state, PAGE_HELD_BYTES)?;
            let mut room = |bytes| held.grow_to(bytes).is_ok();
            let timeout = Duration::from_millis(RECORDS_TIMEOUT_MS);
            let mut reading = Reading::begin(&pool, stream, timeout).await?;
            let found = reading.one(plan, &mut room).await?;
            reading.finish().await;
            Ok(found)
        })
    };
    let found = places::ask(state, Asked::Page, freshness, question).await;
    let (found, _) = found.map_err(|error| refused(stream, error))?;
    Ok(found.map(|(json, hash)| FoundRecord { json, tag: format!("\"{hash}\"") }))
}
