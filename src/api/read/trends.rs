//! `GET /v1/streams/{stream}/trends` and `…/facets`: what records are like together.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::future::BoxFuture;
use tidegate_query::{FacetsPlan, QueryError, TREND_ROWS_MAX, TrendPlan};

use crate::api::caller::PathText;
use crate::api::read::own_writes;
use crate::api::read::places::{self, Asked};
use crate::api::read::question::{Format, parameters};
use crate::api::read::read_error::refused;
use crate::api::read::reply_cache::Reply;
use crate::api::user_semaphore::UserPermit;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::Pool;
use crate::db::pools::RECORDS_TIMEOUT_MS;
use crate::db::query::Reading;
use crate::telemetry::limits;

/// What making a reply may hold, unless its values are large.
const HELD_BYTES: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_millis(RECORDS_TIMEOUT_MS);

/// `GET /v1/streams/{stream}/trends` → 200 `{"rows":[…]}`, flat. Needs the scope `read`.
pub async fn trend(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    let mut parameters = parameters(&query.unwrap_or_default());
    let format = Format::take(&mut parameters, &headers)?;
    let waited_for = own_writes::take(&mut parameters)?;
    let plan = TrendPlan::read(&stream, &parameters)?;
    let freshness = own_writes::wait(&state, waited_for).await?;
    let asked = state.reply_cache.question(&stream, format!("trends {format:?} {parameters:?}"));
    if let Some(response) = state.reply_cache.find(&asked, &headers) {
        return Ok(response);
    }
    let UserPermit { of_all, of_user } = state.readers.take(&caller).await?;
    let (state, stream, plan) = (&state, &stream, &plan);
    let question = |pool: Pool| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let mut held = places::hold(state, HELD_BYTES)?;
            let mut room = |bytes| held.grow_to(bytes).is_ok();
            let mut reading = Reading::begin(&pool, stream, TIMEOUT).await?;
            let (rows, count) =
                reading.trend(plan, format.rows(), TREND_ROWS_MAX, &mut room).await?;
            reading.finish().await;
            Ok((rows, count, held))
        })
    };
    let made = places::ask(state, Asked::Page, freshness, question).await;
    let ((rows, count, held), place) = made.map_err(|error| refused(stream, error))?;
    drop(of_all);
    if count > u64::from(TREND_ROWS_MAX) {
        limits::REPLY_BYTES.hit();
        let message = format!(
            "there are more than {TREND_ROWS_MAX} rows; take larger buckets, fewer groups, filters, or a `limit`"
        );
        return Err(QueryError::new("bucket", "too_many_rows", message).into());
    }
    let body = match format {
        Format::Json => [&b"{\"rows\":["[..], &rows, b"]}"].concat(),
        Format::NdJson | Format::Csv => rows,
    };
    drop(held);
    let reply = Reply { media_type: format.media_type(), body, link: None };
    state.reply_cache.answer(asked, &headers, reply, place, of_user)
}

/// `GET /v1/streams/{stream}/facets?columns=a,b` → 200 `{"facets":{"a":[{"value","count"},…],…}}`, the most frequent first.
/// Needs the scope `read`.
pub async fn facets(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    let mut parameters = parameters(&query.unwrap_or_default());
    let waited_for = own_writes::take(&mut parameters)?;
    let plan = FacetsPlan::read(&stream, &parameters)?;
    let freshness = own_writes::wait(&state, waited_for).await?;
    let asked = state.reply_cache.question(&stream, format!("facets {parameters:?}"));
    if let Some(response) = state.reply_cache.find(&asked, &headers) {
        return Ok(response);
    }
    let UserPermit { of_all, of_user } = state.readers.take(&caller).await?;
    let (state, stream, plan) = (&state, &stream, &plan);
    let question = |pool: Pool| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let mut held = places::hold(state, HELD_BYTES)?;
            let mut room = |bytes| held.grow_to(bytes).is_ok();
            let mut reading = Reading::begin(&pool, stream, TIMEOUT).await?;
            let mut body = b"{\"facets\":{".to_vec();
            for (index, column) in plan.columns.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend(serde_json::to_vec(&column.name).unwrap_or_default());
                body.extend_from_slice(b":[");
                body.extend(reading.facet(plan, index, &mut room).await?);
                body.push(b']');
            }
            body.extend_from_slice(b"}}");
            reading.finish().await;
            Ok((body, held))
        })
    };
    let made = places::ask(state, Asked::Page, freshness, question).await;
    let ((body, held), place) = made.map_err(|error| refused(stream, error))?;
    drop((of_all, held));
    let reply = Reply { media_type: Format::Json.media_type(), body, link: None };
    state.reply_cache.answer(asked, &headers, reply, place, of_user)
}
