//! `/polling-jobs`: jobs in the short form, `{"userId","apiEndpoint","pollingInterval"}`. They are the same jobs as those at
//! `/v1/polling-jobs`, with everything else at its default.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::LINK;
use axum::response::{AppendHeaders, IntoResponse};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::api::bodies::ApiJson;
use crate::api::manage::polling_jobs::{JobsQuery, apply, find, insert, job_exists, may_use, page};
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::polling_jobs;
use crate::polling::jobs::{AskedJob, ShortJobView};

/// Tries at a job that others make, change or delete at the same moment.
const TRIES_MAX: usize = 5;

/// `GET /polling-jobs` → 200 `[…]`, in the order in which they were made; the header `Link` has the next page.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = query.as_ref().ok().and_then(|Query(query)| query.limit);
    let (jobs, next) = page(&state, &caller, query).await?;
    let next = next.map(|after| {
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        (LINK, format!("</polling-jobs?after={after}{limit}>; rel=\"next\""))
    });
    let jobs: Vec<ShortJobView> = jobs.into_iter().map(ShortJobView::from).collect();
    Ok((AppendHeaders(next), Json(jobs)))
}

/// `POST /polling-jobs` → 201 with the job; 200 where there is one for the same user and endpoint, whose interval is
/// this one now. Credentials in the endpoint are new ones, whatever was sealed: nothing tells whether they were the same.
pub async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(members): ApiJson<Map<String, Value>>,
) -> Result<(StatusCode, Json<ShortJobView>), ApiError> {
    caller.require(Scope::Jobs)?;
    let asked = AskedJob::take_short(members)?;
    // Before anything is looked up: a caller who may not use the stream is told nothing of what is there.
    named_stream::require(&caller, &asked.stream)?;
    let short_key = asked.short_key().unwrap_or_default();
    for _ in 0..TRIES_MAX {
        let pool = &state.database.pools().changes;
        let Some(row) = polling_jobs::find_short(pool, caller.user_id, &short_key).await? else {
            match insert(&state, &caller, &asked).await? {
                Some(row) => return Ok((StatusCode::CREATED, Json(row.into()))),
                None => continue,
            }
        };
        if !may_use(&caller, &row) {
            // Its stream is another by now. No more is said than that its place is taken.
            return Err(job_exists());
        }
        let again = AskedJob::patched(&row, again(&asked), &state.polling.sealer)?;
        if again.changes_nothing(&row) {
            return Ok((StatusCode::OK, Json(row.into())));
        }
        match apply(&state, &caller, &row, &again).await {
            Ok(row) => return Ok((StatusCode::OK, Json(row.into()))),
            Err(error) if error.code() == "job_changed" => {}
            Err(error) => return Err(error),
        }
    }
    let detail = "the job is being changed by others; try again";
    Err(ApiError::conflict("job_changed", detail))
}

/// What the same job, asked for once more, changes: the interval, and the credentials if there are new ones.
fn again(asked: &AskedJob) -> Map<String, Value> {
    let mut patch = Map::new();
    patch.insert("interval_ms".to_owned(), json!(asked.schedule.interval_ms()));
    let secrets: Map<String, Value> =
        asked.secrets.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !secrets.is_empty() {
        patch.insert("secret_headers".to_owned(), secrets.into());
    }
    patch
}

/// `GET /polling-jobs/{id}` → 200.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<ShortJobView>, ApiError> {
    Ok(Json(find(&state, &caller, id).await?.into()))
}

/// `PATCH /polling-jobs/{id}` → 200: a new `pollingInterval`, `apiEndpoint` or `stream`.
pub async fn change(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
    ApiJson(patch): ApiJson<Map<String, Value>>,
) -> Result<Json<ShortJobView>, ApiError> {
    let row = find(&state, &caller, id).await?;
    let asked = AskedJob::patched_short(&row, patch, &state.polling.sealer)?;
    Ok(Json(apply(&state, &caller, &row, &asked).await?.into()))
}
