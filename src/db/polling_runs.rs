//! Runs of polling jobs: claiming what is due under a lease and a fence, keeping the lease, and finishing.
//!
//! All times are the database's, which is one clock for all nodes. Each function is one statement.

use std::time::Duration;

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use tidegate_record::RunId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::polled_items::RunCounts;
use crate::db::pool::PgPool;

/// Runs of a job that are kept.
pub const RUNS_KEPT: i64 = 200;
/// A clock that was set back by less delays jobs by no more than this, and is left alone.
pub const SET_BACK_MIN: Duration = Duration::from_secs(10);

/// A job that this node may run now.
#[derive(Debug, Clone, FromRow)]
pub struct ClaimedRow {
    pub id: Uuid,
    pub fence: i64,
    pub run_id: Uuid,
    pub owner_id: Option<i64>,
    pub owner_name: Option<String>,
    /// A disabled user's jobs do nothing.
    pub owner_disabled: bool,
    pub stream: String,
    /// The number of the stream that the job's memory is about.
    pub stream_id: Option<i32>,
    pub definition: Json<Value>,
    pub sealed: Option<Vec<u8>>,
    pub schedule: Json<Value>,
    /// JSON.
    pub resume: String,
    /// Runs in a row that failed.
    pub failures: i32,
    pub due_at: OffsetDateTime,
    pub started_at: OffsetDateTime,
}

impl ClaimedRow {
    pub fn run(&self) -> RunId {
        RunId { job: self.id, fence: self.fence, run: self.run_id }
    }
}

/// The time, and when the next job should be looked at.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct NextWake {
    pub now: OffsetDateTime,
    /// None: no job waits.
    pub wake_at: Option<OffsetDateTime>,
}

impl NextWake {
    /// How long until then.
    pub fn wait(&self) -> Option<Duration> {
        let wait = |wake_at: OffsetDateTime| Duration::try_from(wake_at - self.now);
        self.wake_at.map(|wake_at| wait(wake_at).unwrap_or_default())
    }
}

/// A run that keeps its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct RenewedRun {
    pub run_id: Uuid,
    /// The user whose job it is was disabled while it ran.
    pub owner_disabled: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct FinishedRun<'a> {
    pub run: RunId,
    pub status: &'a str,
    pub items: u64,
    pub duplicates: u64,
    pub error: Option<&'a str>,
    /// Why no run of the job comes to its end; None keeps what there is.
    pub unfinished: Option<&'a str>,
    /// Runs of the job come to their end, or on.
    pub gets_on: bool,
    pub due_at: OffsetDateTime,
    /// When `due_at` was computed, by the clock as it was when the run began.
    pub ended_at: OffsetDateTime,
    pub failures: i32,
    /// What the next run goes on from, as JSON; None keeps what there is.
    pub resume: Option<&'a str>,
}

/// A run, for people.
#[derive(Debug, Clone, FromRow)]
pub struct RunRow {
    pub fence: i64,
    pub node: String,
    pub due_at: OffsetDateTime,
    pub started_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
    pub status: String,
    pub items: i64,
    pub new: i64,
    pub changed: i64,
    pub duplicates: i64,
    pub refused: i64,
    /// Of the new and changed ones those that wait for the stream's table.
    pub parked: i64,
    pub error: Option<String>,
}

/// What a claim leaves out.
#[derive(Debug, Clone, Default)]
pub struct LeftOut {
    /// Jobs whose latest runs are these, whichever gateway let their leases end.
    pub runs: Vec<Uuid>,
    /// Jobs of these owners, who have their share of the runs; `None` is the local token's.
    pub owners: Vec<Option<i64>>,
}

/// Claims at most `limit` of the jobs that are due, those that wait longest first, for as long as the lease.
pub async fn claim(
    pool: &PgPool,
    journal: Uuid,
    node: &str,
    lease: Duration,
    limit: u32,
    left_out: &LeftOut,
) -> Result<Vec<ClaimedRow>, sqlx::Error> {
    sqlx::query_as(
        "with due as materialized (
             select id from tidegate.polling_jobs where wake_at <= now() and not paused
                 and coalesce(run_id <> all($5), true) and coalesce(owner_id, 0) <> all($6)
             order by wake_at limit $4 for update skip locked),
         claimed as (
             update tidegate.polling_jobs job set fence = fence + 1, run_id = gen_random_uuid(), lease_owner = $1,
                 lease_until = now() + $3, wake_at = now() + $3
             from due where job.id = due.id returning job.*),
         lost as (
             update tidegate.polling_runs run set status = 'lost', finished_at = now(),
                 error = 'the gateway that ran it ended, or lost the lease on it'
             where run.finished_at is null and run.job_id = any(array(select id from claimed))),
         begun as (
             insert into tidegate.polling_runs (job_id, fence, id, node, due_at, started_at)
             select id, fence, run_id, $2, due_at, now() from claimed)
         select job.id, job.fence, job.run_id, job.owner_id, owner.name as owner_name,
             coalesce(owner.disabled, false) as owner_disabled, job.stream, job.stream_id, job.definition, job.sealed,
             job.schedule, job.resume, job.failures, job.due_at, now() as started_at
         from claimed job left join tidegate.users owner on owner.id = job.owner_id
         order by job.due_at",
    )
    .bind(journal)
    .bind(node)
    .bind(lease)
    .bind(i64::from(limit))
    .bind(&left_out.runs)
    .bind(left_out.owners.iter().map(|owner| owner.unwrap_or_default()).collect::<Vec<i64>>())
    .fetch_all(pool)
    .await
}

/// When a gateway should look for due jobs again.
pub async fn next_wake(pool: &PgPool) -> Result<NextWake, sqlx::Error> {
    sqlx::query_as(
        "select clock_timestamp() as now, min(wake_at) as wake_at
         from tidegate.polling_jobs where not paused",
    )
    .fetch_one(pool)
    .await
}

/// Keeps the leases of these runs; returns those that still are their jobs' latest. The jobs are locked in the order in
/// which batches lock them: else the two would wait for each other.
pub async fn renew(
    pool: &PgPool,
    runs: &[RunId],
    lease: Duration,
) -> Result<Vec<RenewedRun>, sqlx::Error> {
    sqlx::query_as(
        "with kept as materialized (
             select job.id, coalesce(owner.disabled, false) as owner_disabled from tidegate.polling_jobs job
             left join tidegate.users owner on owner.id = job.owner_id
             join unnest($1::uuid[], $2::uuid[]) as mine (job_id, run_id)
                 on job.id = mine.job_id and job.run_id = mine.run_id
             where job.lease_until is not null
             order by job.id for update of job)
         update tidegate.polling_jobs job set lease_until = now() + $3, wake_at = now() + $3
         from kept where job.id = kept.id returning job.run_id, kept.owner_disabled",
    )
    .bind(runs.iter().map(|run| run.job).collect::<Vec<Uuid>>())
    .bind(runs.iter().map(|run| run.run).collect::<Vec<Uuid>>())
    .bind(lease)
    .fetch_all(pool)
    .await
}

/// Ends a run and says when the job is due next: at once, if the clock was set back while it ran. Returns what was
/// committed of it; None if another run followed it, or the job was changed or taken away.
pub async fn finish(
    pool: &PgPool,
    finished: &FinishedRun<'_>,
) -> Result<Option<RunCounts>, sqlx::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let counts: Option<(i64, i64, i64, i64)> = sqlx::query_as(
        "with next as (
             select case when $13 > now() + $14 then now() else $4 end as due_at),
         finished as (
             update tidegate.polling_jobs set lease_owner = null, lease_until = null, due_at = next.due_at,
                 wake_at = next.due_at, scheduled_at = now(), failures = $5, resume = coalesce($6, resume),
                 unfinished = case when $10 then null else coalesce($15, unfinished) end
             from next where id = $1 and run_id = $3 and lease_until is not null returning id),
         noted as (
             update tidegate.polling_runs run set status = $7, finished_at = now(), items = $8, duplicates = $9,
                 error = $11
             from finished where run.job_id = finished.id and run.fence = $2),
         forgotten as (
             delete from tidegate.polling_runs where job_id = $1 and fence <= $2 - $12)
         select new, changed, refused, parked from finished
         join tidegate.polling_runs run on run.job_id = finished.id and run.fence = $2",
    )
    .bind(finished.run.job)
    .bind(finished.run.fence)
    .bind(finished.run.run)
    .bind(finished.due_at)
    .bind(finished.failures)
    .bind(finished.resume)
    .bind(finished.status)
    .bind(number(finished.items))
    .bind(number(finished.duplicates))
    .bind(finished.gets_on)
    .bind(finished.error)
    .bind(RUNS_KEPT)
    .bind(finished.ended_at)
    .bind(SET_BACK_MIN)
    .bind(finished.unfinished)
    .fetch_optional(pool)
    .await?;
    Ok(counts.map(|(fresh, changed, refused, parked)| RunCounts {
        fresh,
        changed,
        refused,
        parked,
    }))
}

/// The job begins with an empty memory, because its stream is another one; false if the run is superseded.
pub async fn begin_anew(pool: &PgPool, run: RunId, stream: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "with job as (
             update tidegate.polling_jobs set stream_id = $3, resume = '{}', unfinished = null
             where id = $1 and run_id = $2 returning id),
         forgotten as (delete from tidegate.polled_items using job where job_id = job.id)
         select exists (select from job)",
    )
    .bind(run.job)
    .bind(run.run)
    .bind(stream)
    .fetch_one(pool)
    .await
}

/// Takes it upon this run to forget old items, if no run did for `every` days.
pub async fn begin_pruning(pool: &PgPool, run: RunId, every: i32) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query(
        "update tidegate.polling_jobs set pruned_on = current_date
         where id = $1 and run_id = $2 and pruned_on <= current_date - $3",
    )
    .bind(run.job)
    .bind(run.run)
    .bind(every)
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// Gives up the leases that this journal's gateway had when it ended; returns how many.
pub async fn give_up_leases(pool: &PgPool, journal: Uuid) -> Result<u64, sqlx::Error> {
    let given_up = sqlx::query(
        "with own as materialized (
             select id from tidegate.polling_jobs where lease_owner = $1 and lease_until > now()
             order by id for update)
         update tidegate.polling_jobs job set lease_until = now(), wake_at = now()
         from own where job.id = own.id",
    )
    .bind(journal)
    .execute(pool)
    .await?;
    Ok(given_up.rows_affected())
}

/// Jobs whose due time was computed in what is the future now, because the clock was set back since, are due at once;
/// returns how many. It looks at every job, so it is asked for only when the clock was seen to go back, and now and then.
pub async fn repair_due_times(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let repaired = sqlx::query(
        "with ahead as materialized (
             select id from tidegate.polling_jobs
             where scheduled_at > now() + $1
                 or lease_until > now() + interval '10 minutes'
             order by id for update)
         update tidegate.polling_jobs job set due_at = now(), wake_at = now(), scheduled_at = now(),
             lease_until = least(lease_until, now())
         from ahead where job.id = ahead.id",
    )
    .bind(SET_BACK_MIN)
    .execute(pool)
    .await?;
    Ok(repaired.rows_affected())
}

/// The latest runs of a job, the latest first, from the one before `before` on.
pub async fn list(
    pool: &PgPool,
    job: Uuid,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<RunRow>, sqlx::Error> {
    sqlx::query_as(
        "select fence, node, due_at, started_at, finished_at, status, items, new, changed, duplicates, refused, parked, error
         from tidegate.polling_runs where job_id = $1 and ($2 is null or fence < $2)
         order by fence desc limit $3",
    )
    .bind(job)
    .bind(before)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
}
