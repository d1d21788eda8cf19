//! What polling jobs have seen: the table `tidegate.polled_items`, and the part of it that belongs to a batch's
//! transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgPool;
use uuid::Uuid;

use crate::db::batch::{BatchConnection, BatchError, during};
use crate::record::{ItemHash, RunId};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRow {
    pub job: Uuid,
    pub key: ItemHash,
    pub content: ItemHash,
}

/// What a batch adds to a run's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Items that were never there before.
    pub fresh: u64,
    /// Items that were there with other content.
    pub changed: u64,
}

/// Of these items those that the job has seen, with their content then.
pub async fn seen(
    pool: &PgPool,
    job: Uuid,
    keys: &[ItemHash],
) -> Result<HashMap<ItemHash, ItemHash>, sqlx::Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "select key, content from tidegate.polled_items where job_id = $1 and key = any($2)",
    )
    .bind(job)
    .bind(keys.iter().map(|key| &key.0[..]).collect::<Vec<&[u8]>>())
    .fetch_all(pool)
    .await?;
    let pair = |(key, content): (Vec<u8>, Vec<u8>)| {
        Some((ItemHash(key.try_into().ok()?), ItemHash(content.try_into().ok()?)))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

impl BatchConnection {
    /// Of these runs those that are still the latest of their jobs, and stay it until the transaction ends. The lock is
    /// a shared one: batches that wait for each other's turn may have entries of the same run.
    pub async fn latest_runs(
        &mut self,
        runs: &BTreeSet<RunId>,
    ) -> Result<BTreeSet<RunId>, BatchError> {
        let jobs: Vec<Uuid> = runs.iter().map(|run| run.job).collect();
        let rows: Vec<(Uuid, i64, Option<Uuid>)> = sqlx::query_as(
            "select id, fence, run_id from tidegate.polling_jobs where id = any($1)
             order by id for share",
        )
        .bind(jobs)
        .fetch_all(self.as_mut())
        .await
        .map_err(during("looking for superseded polling runs"))?;
        let run =
            |(job, fence, run): (Uuid, i64, Option<Uuid>)| Some(RunId { job, fence, run: run? });
        Ok(rows.into_iter().filter_map(run).filter(|run| runs.contains(run)).collect())
    }

    /// Notes items with their content; `rows` have no key twice.
    pub async fn remember_items(&mut self, rows: &[SeenRow]) -> Result<(), BatchError> {
        sqlx::query(
            "insert into tidegate.polled_items (job_id, key, content)
             select * from unnest($1::uuid[], $2::bytea[], $3::bytea[])
             on conflict (job_id, key) do update set content = excluded.content",
        )
        .bind(rows.iter().map(|row| row.job).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| &row.key.0[..]).collect::<Vec<&[u8]>>())
        .bind(rows.iter().map(|row| &row.content.0[..]).collect::<Vec<&[u8]>>())
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("noting polled items"))
    }

    /// Adds to the counts of runs. Locks them in one order, so that batches never wait for each other in a circle.
    pub async fn count_runs(
        &mut self,
        counts: &BTreeMap<RunId, RunCounts>,
    ) -> Result<(), BatchError> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        sqlx::query(
            "with added as (
                 select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])
                     as added (job_id, fence, new, changed)),
             locked as (
                 select run.job_id, run.fence from tidegate.polling_runs run
                 join added using (job_id, fence)
                 order by run.job_id, run.fence for no key update of run)
             update tidegate.polling_runs run
             set new = run.new + added.new, changed = run.changed + added.changed
             from added join locked using (job_id, fence)
             where run.job_id = added.job_id and run.fence = added.fence",
        )
        .bind(counts.keys().map(|run| run.job).collect::<Vec<Uuid>>())
        .bind(counts.keys().map(|run| run.fence).collect::<Vec<i64>>())
        .bind(counts.values().map(|counts| number(counts.fresh)).collect::<Vec<i64>>())
        .bind(counts.values().map(|counts| number(counts.changed)).collect::<Vec<i64>>())
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("counting polled items"))
    }
}
