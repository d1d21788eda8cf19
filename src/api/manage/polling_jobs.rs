//! `/v1/polling-jobs`: what is asked, when, and what came of it. It takes the scope `jobs`; members see and change their
//! own jobs, admins all. The stream of a new job is made with it, if it is not there.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_codec::StreamName;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::api::bodies::ApiJson;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::answered;
use crate::db::polling_jobs::{self, JobOwner, JobRow, JobsToList, RunNow};
use crate::db::polling_runs::{self, RunRow};
use crate::polling::jobs::{AskedJob, ChangeError, DestinationError, Invalid, JobView};
use crate::polling::making::{self, MakeError};

/// How many jobs or runs a page has, unless the caller says.
const PAGE_DEFAULT: u32 = 100;
/// Most of them.
const PAGE_MAX: u32 = 1_000;
/// Most jobs of a page: each has up to 64 KiB of its own.
const JOBS_PAGE_MAX: u32 = 200;
/// Advice to a caller that orders a run while there is one.
const RETRY_AFTER_UNDER_WAY: Duration = Duration::from_secs(5);

/// `{"jobs":[…]}`
#[derive(Debug, Serialize)]
pub struct JobList {
    jobs: Vec<JobView>,
    /// Where the next page begins; null on the last one.
    next: Option<Uuid>,
}

/// Which jobs to show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// Where the page before ended.
    after: Option<Uuid>,
    pub(super) limit: Option<u32>,
}

/// `{"runs":[…]}`
#[derive(Debug, Serialize)]
pub struct RunList {
    runs: Vec<RunView>,
}

/// A run.
#[derive(Debug, Serialize)]
struct RunView {
    /// Grows with each run of the job.
    number: i64,
    node: String,
    #[serde(with = "time::serde::rfc3339")]
    due_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    duration_ms: Option<i64>,
    status: String,
    items: i64,
    new: i64,
    changed: i64,
    duplicates: i64,
    refused: i64,
    /// Of the new and changed ones those that wait for the stream's table.
    parked: i64,
    error: Option<String>,
    /// What is to be known of it all the same where it went well.
    note: Option<String>,
}

/// Which runs to show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// The number of the last run of the page before.
    before: Option<i64>,
    limit: Option<u32>,
}

/// `GET /v1/polling-jobs` → 200 `{"jobs":[…],"next":…}`, in the order in which they were made.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<Json<JobList>, ApiError> {
    let (jobs, next) = page(&state, &caller, query).await?;
    Ok(Json(JobList { jobs: jobs.into_iter().map(JobView::from).collect(), next }))
}

/// A page of jobs that the caller may see, and where the next one begins.
pub(super) async fn page(
    state: &AppState,
    caller: &Caller,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<(Vec<JobRow>, Option<Uuid>), ApiError> {
    let owner = owner(caller)?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, JOBS_PAGE_MAX);
    let streams = caller.streams.as_ref();
    let streams: Option<Vec<&str>> =
        streams.map(|names| names.iter().map(StreamName::as_str).collect());
    let which = JobsToList { of: owner, streams: streams.as_deref(), after: query.after, limit };
    let jobs = polling_jobs::list(&state.database.pools().changes, &which).await?;
    let next = jobs.last().map(|job| job.id).filter(|_| jobs.len() == limit as usize);
    Ok((jobs, next))
}

/// `POST /v1/polling-jobs` → 201 with the job.
pub async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(members): ApiJson<Map<String, Value>>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    caller.require(Scope::Jobs)?;
    let asked = AskedJob::take(members)?;
    let made = insert(&state, &caller, &asked).await?;
    let job = made.ok_or_else(job_exists)?;
    Ok((StatusCode::CREATED, Json(job.into())))
}

/// Makes a job, and its stream; None if the owner has the same in the short form.
pub(super) async fn insert(
    state: &AppState,
    caller: &Caller,
    asked: &AskedJob,
) -> Result<Option<JobRow>, ApiError> {
    named_stream::require(caller, &asked.stream)?;
    asked.check_new()?;
    let owner_id = owner_of_new(state, caller, asked.owner.as_deref())?;
    let made =
        making::make(&state.database.pools().changes, &state.polling, asked, owner_id).await?;
    if let Some(job) = &made {
        tracing::info!(job = %job.id, stream = %asked.stream, by = &*caller.user_name, "polling job made");
    }
    Ok(made)
}

/// `GET /v1/polling-jobs/{id}` → 200.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(find(&state, &caller, id).await?.into()))
}

/// `PATCH /v1/polling-jobs/{id}` → 200: a JSON merge patch. A change of what is asked, or when, ends a run under way.
pub async fn change(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
    ApiJson(patch): ApiJson<Map<String, Value>>,
) -> Result<Json<JobView>, ApiError> {
    let row = find(&state, &caller, id).await?;
    let asked = AskedJob::patched(&row, patch, &state.polling.sealer)?;
    Ok(Json(apply(&state, &caller, &row, &asked).await?.into()))
}

/// Makes a job what was asked.
pub(super) async fn apply(
    state: &AppState,
    caller: &Caller,
    row: &JobRow,
    asked: &AskedJob,
) -> Result<JobRow, ApiError> {
    named_stream::require(caller, &asked.stream)?;
    let changed =
        making::change(&state.database.pools().changes, &state.polling, row, asked).await?;
    changed.ok_or_else(|| {
        let detail = "the job was changed or deleted in the meantime; look at it and try again";
        ApiError::conflict("job_changed", detail)
    })
}

/// `DELETE /v1/polling-jobs/{id}` → 204. A run under way writes nothing more; what was written stays.
pub async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let row = find(&state, &caller, id).await?;
    let deleted = polling_jobs::delete(&state.database.pools().changes, row.id, owner(&caller)?);
    if !answered(deleted).await? {
        return Err(unknown());
    }
    tracing::info!(job = %row.id, by = &*caller.user_name, "polling job deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/polling-jobs/{id}/run` → 202 with the job, which is due now.
pub async fn run(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let row = find(&state, &caller, id).await?;
    let (pool, owner) = (&state.database.pools().changes, owner(&caller)?);
    match answered(polling_jobs::run_now(pool, row.id, owner)).await? {
        RunNow::NotFound => return Err(unknown()),
        RunNow::Paused => {
            let detail = "the job is paused; let it go on first";
            return Err(ApiError::conflict("job_paused", detail));
        }
        RunNow::UnderWay => {
            let error = ApiError::conflict("run_under_way", "the job is running now");
            return Err(error.retry_after(RETRY_AFTER_UNDER_WAY));
        }
        RunNow::Due => state.polling.wake.notify_one(),
    }
    let row = polling_jobs::find(pool, row.id, owner).await?.ok_or_else(unknown)?;
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}

/// `GET /v1/polling-jobs/{id}/runs` → 200 `{"runs":[…]}`, the latest first.
pub async fn runs(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<RunList>, ApiError> {
    let row = find(&state, &caller, id).await?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let runs =
        polling_runs::list(&state.database.pools().changes, row.id, query.before, limit).await?;
    Ok(Json(RunList { runs: runs.into_iter().map(RunView::from).collect() }))
}

/// The job, if the caller may see it. Other callers are not told that it is there at all.
pub(super) async fn find(
    state: &AppState,
    caller: &Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<JobRow, ApiError> {
    let owner = owner(caller)?;
    let Path(id) = id.map_err(|_| unknown())?;
    let job = polling_jobs::find(&state.database.pools().changes, id, owner).await?;
    job.filter(|job| may_use(caller, job)).ok_or_else(unknown)
}

/// Whose jobs the caller sees.
fn owner(caller: &Caller) -> Result<JobOwner, ApiError> {
    caller.require(Scope::Jobs)?;
    match caller.user_id {
        _ if caller.scopes.allows(Scope::Admin) => Ok(JobOwner::Any),
        Some(id) => Ok(JobOwner::User(id)),
        None => Err(caller.require(Scope::Admin).err().map_or_else(unknown, ApiError::from)),
    }
}

/// A token that is limited to streams is for the jobs of these.
pub(super) fn may_use(caller: &Caller, job: &JobRow) -> bool {
    job.stream.parse().is_ok_and(|stream| caller.may_use(&stream))
}

/// Whose job a new one is; another's takes an admin.
fn owner_of_new(
    state: &AppState,
    caller: &Caller,
    name: Option<&str>,
) -> Result<Option<i64>, ApiError> {
    let Some(name) = name.filter(|name| *name != &*caller.user_name) else {
        return Ok(caller.user_id);
    };
    caller.require(Scope::Admin)?;
    let accounts = state.auth.accounts();
    let user = accounts.user_by_name(name).map(|user| user.id);
    let unknown = || {
        let invalid =
            Invalid { place: "/owner".to_owned(), message: "there is no such user".to_owned() };
        ApiError::from(invalid)
    };
    user.map(Some).ok_or_else(unknown)
}

pub(super) fn job_exists() -> ApiError {
    ApiError::conflict("job_exists", "there is such a job already")
}

fn unknown() -> ApiError {
    ApiError::not_found("unknown_job", "there is no such polling job")
}

fn parked_in_words(parked: i64) -> String {
    let items = if parked == 1 { "1 item waits" } else { &format!("{parked} items wait") };
    format!(
        "{items}, because the stream's table cannot be written now (GET /v1/status says why); what waits follows by itself"
    )
}

impl From<RunRow> for RunView {
    fn from(row: RunRow) -> RunView {
        let took = row.finished_at.map(|finished_at| finished_at - row.started_at);
        RunView {
            number: row.fence,
            node: row.node,
            due_at: row.due_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            duration_ms: took
                .map(|took| i64::try_from(took.whole_milliseconds()).unwrap_or(i64::MAX)),
            status: row.status,
            items: row.items,
            new: row.new,
            changed: row.changed,
            duplicates: row.duplicates,
            refused: row.refused,
            note: (row.parked > 0).then(|| parked_in_words(row.parked)),
            parked: row.parked,
            error: row.error,
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> ApiError {
        let detail = error.to_string();
        ApiError::unprocessable("invalid_job", detail).with("place", error.place)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> ApiError {
        match error {
            ChangeError::Invalid(error) => error.into(),
            ChangeError::Sealed(error) => ApiError::conflict("sealed_headers", error.to_string()),
        }
    }
}

impl From<MakeError> for ApiError {
    fn from(error: MakeError) -> ApiError {
        match error {
            MakeError::TooMany(error) => ApiError::conflict("too_many_jobs", error.to_string()),
            MakeError::Exists => job_exists(),
            MakeError::Destination(error) => error.into(),
            MakeError::Database(error) => error.into(),
        }
    }
}

impl From<DestinationError> for ApiError {
    fn from(error: DestinationError) -> ApiError {
        let text = error.to_string();
        match error {
            DestinationError::NotReplacing(_) => {
                ApiError::unprocessable("invalid_job", text).with("place", "/on_change")
            }
            DestinationError::Definition(_) => {
                ApiError::unprocessable("invalid_job", text).with("place", "/key")
            }
            DestinationError::Table(error) => error.into(),
            DestinationError::Gone(_) => ApiError::conflict("stream_changed", text),
            DestinationError::Database(error) => error.into(),
        }
    }
}
