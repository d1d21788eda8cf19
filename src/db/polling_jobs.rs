//! The table `tidegate.polling_jobs`, as people see and change it. What nodes do with it is in
//! [`polling_runs`](super::polling_runs).
//!
//! Each function is one statement, so that giving up half way leaves nothing half done.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use tidegate_record::UnixMicros;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::pool::PgPool;

/// Most jobs of one user.
pub const PER_OWNER_MAX: i64 = 100_000;
/// Most jobs in all, about.
pub const JOBS_MAX: i64 = 1_000_000;

/// A job, with the latest of its runs.
#[derive(Debug, Clone, FromRow)]
pub struct JobRow {
    pub id: Uuid,
    /// None: made on the command line, by a user who can read a gateway's data directory.
    pub owner_id: Option<i64>,
    pub owner_name: Option<String>,
    /// Of a job in the short form.
    pub user_id: Option<String>,
    pub name: String,
    pub stream: String,
    pub definition: Json<Value>,
    pub sealed: Option<Vec<u8>>,
    pub schedule: Json<Value>,
    pub paused: bool,
    pub failures: i32,
    pub due_at: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// A gateway has the lease.
    pub running: bool,
    pub last_status: Option<String>,
    pub last_started_at: Option<OffsetDateTime>,
    pub last_error: Option<String>,
    pub last_parked: Option<i64>,
    /// Why no run of the job comes to its end.
    pub unfinished: Option<String>,
}

/// A job to be.
#[derive(Debug)]
pub struct NewJob<'a> {
    pub id: Uuid,
    pub owner_id: Option<i64>,
    pub user_id: Option<&'a str>,
    /// Tells a job in the short form from the others of its owner.
    pub short_key: Option<&'a [u8]>,
    pub name: &'a str,
    pub stream: &'a str,
    pub definition: &'a Value,
    pub sealed: Option<&'a [u8]>,
    pub schedule: &'a Value,
    pub paused: bool,
    /// None: now.
    pub due_at: Option<OffsetDateTime>,
}

/// Everything that can be changed of a job.
#[derive(Debug)]
pub struct JobChange<'a> {
    pub id: Uuid,
    /// The change is of the job as it was then.
    pub seen_at: OffsetDateTime,
    pub short_key: Option<&'a [u8]>,
    pub name: &'a str,
    pub stream: &'a str,
    pub definition: &'a Value,
    pub sealed: Option<&'a [u8]>,
    pub schedule: &'a Value,
    pub paused: bool,
    /// When it is due; None keeps that.
    pub due_at: Option<OffsetDateTime>,
    /// A run that is under way is of the job as it was: it is superseded.
    pub supersedes: bool,
    /// What the next run goes on from belongs to the request as it was.
    pub forgets_resume: bool,
}

/// Whose jobs to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOwner {
    Any,
    User(i64),
}

impl JobOwner {
    fn user(self) -> Option<i64> {
        match self {
            JobOwner::Any => None,
            JobOwner::User(id) => Some(id),
        }
    }
}

/// A page of jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobsToList<'a> {
    pub of: JobOwner,
    /// Only jobs of these streams.
    pub streams: Option<&'a [&'a str]>,
    /// Only those behind this one.
    pub after: Option<Uuid>,
    pub limit: u32,
}

/// How an order to run at once ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNow {
    Due,
    Paused,
    UnderWay,
    NotFound,
}

const SHOWN: &str = "job.id, job.owner_id, owner.name as owner_name, job.user_id, job.name, job.stream, \
    job.definition, job.sealed, job.schedule, job.paused, job.failures, job.due_at, job.created_at, job.updated_at, \
    coalesce(job.lease_until > now(), false) as running, latest.status as last_status, \
    latest.started_at as last_started_at, latest.error as last_error, latest.parked as last_parked, \
    job.unfinished";
const AROUND: &str = "left join tidegate.users owner on owner.id = job.owner_id
    left join lateral (select status, started_at, error, parked from tidegate.polling_runs run
        where run.job_id = job.id order by fence desc limit 1) latest on true";

/// Makes a job; None if the owner has one with the same short key.
pub async fn insert(pool: &PgPool, new: &NewJob<'_>) -> Result<Option<JobRow>, sqlx::Error> {
    let sql = format!(
        "with job as (
             insert into tidegate.polling_jobs (id, owner_id, user_id, short_key, name, stream, definition, sealed,
                 schedule, paused, due_at, wake_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, now()), coalesce($11, now()))
             on conflict do nothing returning *)
         select {SHOWN} from job {AROUND}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(new.id)
        .bind(new.owner_id)
        .bind(new.user_id)
        .bind(new.short_key)
        .bind(new.name)
        .bind(new.stream)
        .bind(Json(new.definition))
        .bind(new.sealed)
        .bind(Json(new.schedule))
        .bind(new.paused)
        .bind(new.due_at)
        .fetch_optional(pool)
        .await
}

/// One job, if it is one of these owners'.
pub async fn find(pool: &PgPool, id: Uuid, of: JobOwner) -> Result<Option<JobRow>, sqlx::Error> {
    let sql = format!(
        "select {SHOWN} from tidegate.polling_jobs job {AROUND}
         where job.id = $1 and ($2 is null or job.owner_id = $2)"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).bind(of.user()).fetch_optional(pool).await
}

/// The owner's job with this short key.
pub async fn find_short(
    pool: &PgPool,
    owner: Option<i64>,
    short_key: &[u8],
) -> Result<Option<JobRow>, sqlx::Error> {
    let sql = format!(
        "select {SHOWN} from tidegate.polling_jobs job {AROUND}
         where coalesce(job.owner_id, 0) = coalesce($1, 0) and job.short_key = $2"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(owner).bind(short_key).fetch_optional(pool).await
}

/// Jobs in the order in which they were made.
pub async fn list(pool: &PgPool, which: &JobsToList<'_>) -> Result<Vec<JobRow>, sqlx::Error> {
    let sql = format!(
        "select {SHOWN} from tidegate.polling_jobs job {AROUND}
         where ($1 is null or job.owner_id = $1) and ($2 is null or job.id > $2)
             and ($4::text[] is null or job.stream = any($4))
         order by job.id limit $3"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(which.of.user())
        .bind(which.after)
        .bind(i64::from(which.limit))
        .bind(which.streams)
        .fetch_all(pool)
        .await
}

/// The time that due times are computed from: the database's, which is one for all nodes.
pub async fn now(pool: &PgPool) -> Result<UnixMicros, sqlx::Error> {
    let now = sqlx::query_scalar("select now()").fetch_one(pool).await?;
    Ok(UnixMicros::of(now))
}

/// How many jobs an owner has.
pub async fn count(pool: &PgPool, owner: Option<i64>) -> Result<i64, sqlx::Error> {
    // Together, as `is not distinct from`, these would be no question to an index.
    let Some(owner) = owner else {
        let unowned = "select count(*) from tidegate.polling_jobs where owner_id is null";
        return sqlx::query_scalar(unowned).fetch_one(pool).await;
    };
    let owned = "select count(*) from tidegate.polling_jobs where owner_id = $1";
    sqlx::query_scalar(owned).bind(owner).fetch_one(pool).await
}

/// About how many jobs there are: as many as PostgreSQL counted when it last looked, which costs nothing to ask.
pub async fn about_all(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let estimate = "select greatest(reltuples, 0)::bigint from pg_class where oid = 'tidegate.polling_jobs'::regclass";
    sqlx::query_scalar(estimate).fetch_one(pool).await
}

/// Changes a job; None if it changed or went in the meantime.
pub async fn change(pool: &PgPool, change: &JobChange<'_>) -> Result<Option<JobRow>, sqlx::Error> {
    let sql = format!(
        "with job as (
             update tidegate.polling_jobs set short_key = $12, name = $3, stream = $4, definition = $5, sealed = $6, schedule = $7,
                 paused = $8, updated_at = clock_timestamp(),
                 due_at = coalesce($9, due_at),
                 wake_at = case when $10 or run_id is null or lease_until is null then coalesce($9, due_at)
                     else wake_at end,
                 scheduled_at = now(),
                 failures = case when $10 then 0 else failures end,
                 fence = fence + case when $10 then 1 else 0 end,
                 run_id = case when $10 then null else run_id end,
                 lease_owner = case when $10 then null else lease_owner end,
                 lease_until = case when $10 then null else lease_until end,
                 resume = case when $11 then '{{}}' else resume end,
                 unfinished = case when $11 then null else unfinished end
             where id = $1 and updated_at = $2 returning *),
         over as (
             update tidegate.polling_runs run set status = 'superseded', finished_at = now(),
                 error = 'the job was changed while it ran'
             from job where $10 and run.job_id = job.id and run.fence = job.fence - 1 and run.finished_at is null)
         select {SHOWN} from job {AROUND}"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(change.id)
        .bind(change.seen_at)
        .bind(change.name)
        .bind(change.stream)
        .bind(Json(change.definition))
        .bind(change.sealed)
        .bind(Json(change.schedule))
        .bind(change.paused)
        .bind(change.due_at)
        .bind(change.supersedes)
        .bind(change.forgets_resume)
        .bind(change.short_key)
        .fetch_optional(pool)
        .await
}

/// Lets a job rest or go on; says whether it is there. A run under way goes on.
pub async fn pause(pool: &PgPool, id: Uuid, paused: bool) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query(
        "update tidegate.polling_jobs set paused = $2, updated_at = clock_timestamp() where id = $1",
    )
    .bind(id)
    .bind(paused)
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Takes a job away, with its runs and its memory; says whether it was there. What it brought in stays.
pub async fn delete(pool: &PgPool, id: Uuid, of: JobOwner) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "with gone as (
             delete from tidegate.polling_jobs where id = $1 and ($2 is null or owner_id = $2) returning id),
         runs as (delete from tidegate.polling_runs using gone where job_id = gone.id),
         items as (delete from tidegate.polled_items using gone where job_id = gone.id)
         select exists (select from gone)",
    )
    .bind(id)
    .bind(of.user())
    .fetch_one(pool)
    .await
}

/// Makes a job due now.
pub async fn run_now(pool: &PgPool, id: Uuid, of: JobOwner) -> Result<RunNow, sqlx::Error> {
    let found: Option<(bool, bool)> = sqlx::query_as(
        "with asked as (
             select id, paused, coalesce(lease_until > now(), false) as running from tidegate.polling_jobs
             where id = $1 and ($2 is null or owner_id = $2) for update),
         due as (
             update tidegate.polling_jobs job set due_at = now(), wake_at = now(), scheduled_at = now()
             from asked where job.id = asked.id and not asked.paused and not asked.running)
         select paused, running from asked",
    )
    .bind(id)
    .bind(of.user())
    .fetch_optional(pool)
    .await?;
    Ok(match found {
        None => RunNow::NotFound,
        Some((true, _)) => RunNow::Paused,
        Some((false, true)) => RunNow::UnderWay,
        Some((false, false)) => RunNow::Due,
    })
}
