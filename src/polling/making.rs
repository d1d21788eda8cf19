//! Making jobs and changing them, in one place for the API and the command line.

use serde::Serialize;
use serde_json::Value;
use tidegate_record::UnixMicros;
use tidegate_record::clock::Clock;

use crate::db::answered;
use crate::db::polling_jobs::{self, JOBS_MAX, JobChange, JobRow, NewJob, PER_OWNER_MAX};
use crate::db::{self, Pool};
use crate::outbound::{SealedHeaders, Sealer};
use crate::polling::PollingContext;
use crate::polling::jobs::{AskedJob, DestinationError, destination, new_job_id};
use crate::telemetry::limits;

/// There are as many jobs as there may be.
#[derive(Debug, thiserror::Error)]
pub enum TooMany {
    #[error("a user has at most {PER_OWNER_MAX} polling jobs")]
    OfOwner,
    #[error("there are at most about {JOBS_MAX} polling jobs")]
    OfAll,
}

/// Why a job was not made, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A job in the short form cannot become one that its owner has.
    #[error("there is such a job already")]
    Exists,
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Database(#[from] db::Error),
}

/// Makes a job, and its stream, and wakes the scheduler; None if the owner has the same in the short form.
pub async fn make(
    pool: &Pool,
    context: &PollingContext,
    asked: &AskedJob,
    owner_id: Option<i64>,
) -> Result<Option<JobRow>, MakeError> {
    check_limits(pool, owner_id).await?;
    destination(&context.catalog, &asked.stream, &asked.definition, owner_id).await?;
    let made = insert(pool, &context.clock, asked, owner_id, Some(&*context.sealer)).await?;
    if made.is_some() {
        context.wake.notify_one();
    }
    Ok(made)
}

/// Refuses a job more than its owner, or all, may have.
pub async fn check_limits(pool: &Pool, owner_id: Option<i64>) -> Result<(), MakeError> {
    let too_many = if polling_jobs::count(pool, owner_id).await? >= PER_OWNER_MAX {
        TooMany::OfOwner
    } else if polling_jobs::about_all(pool).await? >= JOBS_MAX {
        TooMany::OfAll
    } else {
        return Ok(());
    };
    limits::POLLING_JOBS.hit();
    Err(too_many.into())
}

/// Makes a job on the database alone; None if the owner has the same in the short form. Its stream is made with its first run
/// if it is not there, and running gateways notice the job by themselves. A job without secrets needs no `sealer`.
pub async fn insert(
    pool: &Pool,
    clock: &Clock,
    asked: &AskedJob,
    owner_id: Option<i64>,
    sealer: Option<&Sealer>,
) -> Result<Option<JobRow>, MakeError> {
    let (id, now) = (new_job_id(clock.now()), polling_jobs::now(pool).await?);
    let sealed = sealer.and_then(|sealer| asked.sealed(id, sealer));
    let (definition, schedule, short_key) =
        (json(&asked.definition), json(&asked.schedule), asked.short_key());
    let new = NewJob {
        id,
        owner_id,
        user_id: asked.user_id.as_deref(),
        short_key: short_key.as_deref(),
        name: &asked.name,
        stream: asked.stream.as_str(),
        definition: &definition,
        sealed: bytes(sealed.as_ref()),
        schedule: &schedule,
        paused: asked.paused,
        due_at: asked.first_due(id, now).map(UnixMicros::date_time),
    };
    Ok(polling_jobs::insert(pool, &new).await?)
}

/// Makes a job what was asked, and wakes the scheduler; None if the job was changed or deleted since `row` was read.
pub async fn change(
    pool: &Pool,
    context: &PollingContext,
    row: &JobRow,
    asked: &AskedJob,
) -> Result<Option<JobRow>, MakeError> {
    destination(&context.catalog, &asked.stream, &asked.definition, row.owner_id).await?;
    let (definition, schedule) = (json(&asked.definition), json(&asked.schedule));
    let is_asked_anew = definition != row.definition.0 || asked.has_new_secrets;
    let is_scheduled_anew = schedule != row.schedule.0;
    let now = polling_jobs::now(pool).await?;
    let due_at = is_scheduled_anew.then(|| asked.schedule.next(now, now, row.id).date_time());
    let sealed = asked.sealed(row.id, &context.sealer);
    let short_key = asked.short_key();
    let change = JobChange {
        id: row.id,
        seen_at: row.updated_at,
        short_key: short_key.as_deref(),
        name: &asked.name,
        stream: asked.stream.as_str(),
        definition: &definition,
        sealed: bytes(sealed.as_ref()),
        schedule: &schedule,
        paused: asked.paused,
        due_at,
        supersedes: is_asked_anew || is_scheduled_anew || asked.stream.as_str() != row.stream,
        forgets_resume: is_asked_anew,
    };
    let changed = answered(polling_jobs::change(pool, &change)).await.map_err(exists)?;
    context.wake.notify_one();
    Ok(changed)
}

fn bytes(sealed: Option<&SealedHeaders>) -> Option<&[u8]> {
    sealed.map(|sealed| &sealed.0[..])
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("definitions and schedules are JSON")
}

fn exists(error: db::Error) -> MakeError {
    match error {
        db::Error::Database(reason) if reason.is_unique_violation() => MakeError::Exists,
        error => error.into(),
    }
}
