//! `GET /v1/streams/{stream}/records`: what is in a stream's table, asked in `PostgREST`'s grammar.
//!
//! JSON comes in pages, each of which is made before its first byte leaves; NDJSON and CSV come as PostgreSQL gives them, of
//! any length, and end early, without the end of a reply, where something fails midway.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::BoxFuture;
use tidegate_codec::Stream;
use tidegate_query::{PAGE_RECORDS_DEFAULT, PAGE_RECORDS_MAX, RecordsPlan};
use url::form_urlencoded;

use crate::api::bodies::{Driven, MemoryPermit, driven};
use crate::api::caller::PathText;
use crate::api::read::own_writes::{self, Freshness};
use crate::api::read::places::{self, Asked, Place};
use crate::api::read::question::{Format, parameters};
use crate::api::read::read_error::refused;
use crate::api::read::reply_cache::Reply;
use crate::api::user_semaphore::UserPermit;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::Pool;
use crate::db::pools::RECORDS_TIMEOUT_MS;
use crate::db::query::{Page, PageLimits, ReadError, Reading};

/// Most bytes of the records of a page, unless one alone has more.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// What making a page may hold: the records as they come, and as they are shown.
pub const PAGE_HELD_BYTES: usize = 2 * PAGE_BYTES_MAX;
/// Bytes of a reply in pieces that are sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// What a reply in pieces holds: one that is made, and one that waits to be sent.
const EXPORT_HELD_BYTES: usize = 4 * PIECE_BYTES;
/// Longest time for a reply in pieces.
const EXPORT_MAX: Duration = Duration::from_mins(10);

/// `GET /v1/streams/{stream}/records`. Needs the scope `read`.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    let query = query.unwrap_or_default();
    let mut parameters = parameters(&query);
    let format = Format::take(&mut parameters, &headers)?;
    let waited_for = own_writes::take(&mut parameters)?;
    let limit_max = if format == Format::Json { PAGE_RECORDS_MAX } else { u32::MAX };
    let plan = RecordsPlan::read(&stream, &parameters, limit_max)?;
    let freshness = own_writes::wait(&state, waited_for).await?;
    if format != Format::Json {
        let permit = state.exporters.take(&caller).await?;
        return export(&state, stream, plan, format, freshness, permit).await;
    }
    let question = state.reply_cache.question(&stream, format!("records {parameters:?}"));
    if let Some(response) = state.reply_cache.find(&question, &headers) {
        return Ok(response);
    }
    let UserPermit { of_all, of_user } = state.readers.take(&caller).await?;
    let (reply, place) = page(&state, &stream, &plan, &query, freshness).await?;
    drop(of_all);
    state.reply_cache.answer(question, &headers, reply, place, of_user)
}

async fn page(
    state: &AppState,
    stream: &Stream,
    plan: &RecordsPlan,
    query: &str,
    freshness: Freshness,
) -> Result<(Reply, Place), ApiError> {
    let ((page, count, _held), place) = places::ask(state, Asked::Page, freshness, |pool| {
        Box::pin(read_page(state, pool, stream, plan))
    })
    .await
    .map_err(|error| refused(stream, error))?;
    let next = page.last.map(|last| plan.next(last));
    let mut body = b"{\"records\":[".to_vec();
    body.extend_from_slice(&page.json);
    body.extend_from_slice(b"],\"next\":");
    let next_json = serde_json::to_vec(&next).map_err(ApiError::internal)?;
    body.extend_from_slice(&next_json);
    if let Some(count) = count {
        body.extend_from_slice(format!(",\"count\":{count}").as_bytes());
    }
    body.push(b'}');
    let link = next.and_then(|next| link(stream, query, &next));
    Ok((Reply { media_type: Format::Json.media_type(), body, link }, place))
}

/// A page, and how many records there are where that was asked for, both of the same moment.
async fn read_page(
    state: &AppState,
    pool: Pool,
    stream: &Stream,
    plan: &RecordsPlan,
) -> Result<(Page, Option<i64>, MemoryPermit), ReadError> {
    let limits =
        PageLimits { records: plan.limit.unwrap_or(PAGE_RECORDS_DEFAULT), bytes: PAGE_BYTES_MAX };
    let mut held = places::hold(state, PAGE_HELD_BYTES)?;
    let mut room = |bytes| held.grow_to(bytes).is_ok();
    let timeout = Duration::from_millis(RECORDS_TIMEOUT_MS);
    let mut reading = Reading::begin(&pool, stream, timeout).await?;
    let count = match plan.count {
        Some(how) => Some(reading.count(plan, how).await?),
        None => None,
    };
    let page = reading.page(plan, limits, &mut room).await?;
    if page.last.is_none() {
        reading.finish().await;
    }
    Ok((page, count, held))
}

/// `<…?after=…>; rel="next"`, with the other parameters as they are.
fn link(stream: &Stream, query: &str, next: &str) -> Option<HeaderValue> {
    let mut link = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "after" {
            link.append_pair(&name, &value);
        }
    }
    link.append_pair("after", next);
    let address = format!("</v1/streams/{}/records?{}>; rel=\"next\"", stream.name, link.finish());
    HeaderValue::from_str(&address).ok()
}

async fn export(
    state: &AppState,
    stream: Arc<Stream>,
    plan: RecordsPlan,
    format: Format,
    freshness: Freshness,
    permit: UserPermit,
) -> Result<Response, ApiError> {
    let named = Arc::clone(&stream);
    let shared = Arc::new((stream, plan, permit));
    let begin = |pool| -> BoxFuture<'_, _> {
        Box::pin(begin_export(state, pool, Arc::clone(&shared), format))
    };
    let begun = places::ask(state, Asked::Export, freshness, begin).await;
    let ((first, pieces), _) = begun.map_err(|error| refused(&named, error))?;
    let pieces = futures::stream::iter(first.map(Ok)).chain(pieces).map(move |piece| {
        piece.inspect_err(|error| {
            tracing::warn!(stream = %named.name, %error, "a reply of records ended early");
        })
    });
    Ok(([(CONTENT_TYPE, format.media_type())], Body::from_stream(pieces)).into_response())
}

/// The first piece of a reply, and those that follow: what fails before it has a status of its own.
async fn begin_export(
    state: &AppState,
    pool: Pool,
    shared: Arc<(Arc<Stream>, RecordsPlan, UserPermit)>,
    format: Format,
) -> Result<(Option<Bytes>, Pin<Box<Driven<ReadError>>>), ReadError> {
    let mut held = places::hold(state, EXPORT_HELD_BYTES)?;
    let pieces = driven(move |pieces| async move {
        let (stream, plan, _permit) = &*shared;
        let mut reading = Reading::begin(&pool, stream, EXPORT_MAX).await?;
        let mut room = |bytes| held.grow_to(bytes).is_ok();
        reading.copy(plan, format.rows(), PIECE_BYTES, &pieces, &mut room).await?;
        reading.finish().await;
        Ok::<_, ReadError>(())
    });
    let mut pieces = Box::pin(pieces);
    let first = pieces.next().await.transpose()?;
    Ok((first, pieces))
}
