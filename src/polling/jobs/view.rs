//! A job as people see it.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::auth::LOCAL_USER_NAME;
use crate::db::polling_jobs::JobRow;

/// A job, as people see it: `secret_headers` are names only.
#[derive(Debug, Serialize)]
pub struct JobView {
    id: Uuid,
    name: String,
    owner: String,
    stream: String,
    paused: bool,
    /// A run is under way.
    running: bool,
    #[serde(with = "time::serde::rfc3339")]
    next_run_at: OffsetDateTime,
    /// Runs in a row that failed.
    failures: i32,
    /// Why no run comes to its end, until one does; null: as far as is known, runs do.
    unfinished: Option<String>,
    /// null: it has not run yet.
    last_run: Option<LastRun>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(flatten)]
    schedule: Value,
    #[serde(flatten)]
    definition: Value,
}

#[derive(Debug, Serialize)]
struct LastRun {
    status: String,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    error: Option<String>,
    /// New and changed items that wait for the stream's table.
    parked: i64,
}

/// A job in the short form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShortJobView {
    id: Uuid,
    user_id: String,
    api_endpoint: Value,
    /// In milliseconds; null of a job with a cron expression.
    polling_interval: Option<u64>,
    stream: String,
    #[serde(with = "time::serde::rfc3339")]
    next_run_at: OffsetDateTime,
}

impl From<JobRow> for JobView {
    fn from(row: JobRow) -> JobView {
        let (started_at, error) = (row.last_started_at, row.last_error);
        let parked = row.last_parked.unwrap_or_default();
        let last_run = |status| LastRun { status, started_at, error, parked };
        JobView {
            id: row.id,
            name: row.name,
            owner: row.owner_name.unwrap_or_else(|| LOCAL_USER_NAME.to_owned()),
            stream: row.stream,
            paused: row.paused,
            running: row.running,
            next_run_at: row.due_at,
            failures: row.failures,
            unfinished: row.unfinished,
            last_run: row.last_status.map(last_run),
            created_at: row.created_at,
            updated_at: row.updated_at,
            schedule: row.schedule.0,
            definition: row.definition.0,
        }
    }
}

impl From<JobRow> for ShortJobView {
    fn from(row: JobRow) -> ShortJobView {
        let owner = || row.owner_name.unwrap_or_else(|| LOCAL_USER_NAME.to_owned());
        ShortJobView {
            id: row.id,
            user_id: row.user_id.unwrap_or_else(owner),
            api_endpoint: row.definition.0["url"].clone(),
            polling_interval: row.schedule.0["interval_ms"].as_u64(),
            stream: row.stream,
            next_run_at: row.due_at,
        }
    }
}
