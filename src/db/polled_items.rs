//! What polling jobs have seen: the table `tidegate.polled_items`, and the part of it that belongs to a batch's
//! transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{AddAssign, Sub};

use tidegate_record::{ItemHash, Position, RunId};
use uuid::Uuid;

use crate::db::batch::{BatchConnection, BatchError, during};
use crate::db::journals::to_sql;
use crate::db::pool::PgPool;

/// Items that are looked at in one statement when old ones are forgotten.
const FORGET_WINDOW: i64 = 10_000;

/// A row to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRow {
    pub job: Uuid,
    pub key: ItemHash,
    pub content: ItemHash,
    pub fence: i64,
    /// Of the entry that has it.
    pub position: Position,
}

/// An item that the job has seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub content: ItemHash,
    /// Longer ago than asked for.
    pub long_ago: bool,
}

/// What became of a window of a job's items, and where the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetWindow {
    pub last: ItemHash,
    pub forgotten: u64,
}

/// Counts of a run, or what a transaction adds to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Items that were never there before.
    pub fresh: i64,
    /// Items that were there with other content.
    pub changed: i64,
    /// Items that are in the quarantine; they are neither new nor changed.
    pub refused: i64,
    /// New and changed items that wait for the stream's table.
    pub parked: i64,
}

impl AddAssign for RunCounts {
    fn add_assign(&mut self, more: RunCounts) {
        self.fresh += more.fresh;
        self.changed += more.changed;
        self.refused += more.refused;
        self.parked += more.parked;
    }
}

impl Sub for RunCounts {
    type Output = RunCounts;

    fn sub(self, less: RunCounts) -> RunCounts {
        RunCounts {
            fresh: self.fresh - less.fresh,
            changed: self.changed - less.changed,
            refused: self.refused - less.refused,
            parked: self.parked - less.parked,
        }
    }
}

/// Of these items those that the job has seen, with their content then; `long_ago` in days.
pub async fn seen(
    pool: &PgPool,
    job: Uuid,
    keys: &[ItemHash],
    long_ago: Option<i32>,
) -> Result<HashMap<ItemHash, Remembered>, sqlx::Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>, bool)> = sqlx::query_as(
        "select key, content, coalesce(seen_on <= current_date - $3, false)
         from tidegate.polled_items where job_id = $1 and key = any($2)",
    )
    .bind(job)
    .bind(bytes_of(keys))
    .bind(long_ago)
    .fetch_all(pool)
    .await?;
    let pair = |(key, content, long_ago): (Vec<u8>, Vec<u8>, bool)| {
        let content = ItemHash(content.try_into().ok()?);
        Some((ItemHash(key.try_into().ok()?), Remembered { content, long_ago }))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

/// Notes that these items were seen today. Rows that a batch is writing are skipped: it notes the same.
pub async fn seen_again(pool: &PgPool, job: Uuid, keys: &[ItemHash]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with again as materialized (
             select key from tidegate.polled_items where job_id = $1 and key = any($2)
             order by key for no key update skip locked)
         update tidegate.polled_items item set seen_on = current_date
         from again where item.job_id = $1 and item.key = again.key",
    )
    .bind(job)
    .bind(bytes_of(keys))
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets those of a window of the job's items that were not seen for `days`; the window begins behind the item
/// `after`. None at the end.
pub async fn forget(
    pool: &PgPool,
    job: Uuid,
    after: Option<ItemHash>,
    days: i32,
) -> Result<Option<ForgetWindow>, sqlx::Error> {
    let (last, forgotten): (Option<Vec<u8>>, i64) = sqlx::query_as(
        "with looked_at as materialized (
             select key from tidegate.polled_items
             where job_id = $1 and ($2 is null or key > $2) order by key limit $4),
         forgotten as (
             delete from tidegate.polled_items item using looked_at
             where item.job_id = $1 and item.key = looked_at.key and item.seen_on < current_date - $3
             returning 1)
         select (select key from looked_at order by key desc limit 1), (select count(*) from forgotten)",
    )
    .bind(job)
    .bind(after.map(|after| after.0.to_vec()))
    .bind(days)
    .bind(FORGET_WINDOW)
    .fetch_one(pool)
    .await?;
    let last = last.and_then(|key| Some(ItemHash(key.try_into().ok()?)));
    Ok(last.map(|last| ForgetWindow { last, forgotten: forgotten.unsigned_abs() }))
}

fn bytes_of(hashes: &[ItemHash]) -> Vec<&[u8]> {
    hashes.iter().map(|hash| &hash.0[..]).collect()
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

    /// Notes items with their content; `rows` have no key twice. A version that follows the one here stays.
    pub async fn remember_items(&mut self, rows: &[SeenRow]) -> Result<(), BatchError> {
        sqlx::query(
            "insert into tidegate.polled_items as item (job_id, fence, position, key, content)
             select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])
             on conflict (job_id, key) do update
             set content = excluded.content, fence = excluded.fence, position = excluded.position,
                 seen_on = excluded.seen_on
             where (item.fence, item.position) < (excluded.fence, excluded.position)",
        )
        .bind(rows.iter().map(|row| row.job).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| row.fence).collect::<Vec<i64>>())
        .bind(rows.iter().map(|row| to_sql(row.position)).collect::<Vec<i64>>())
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
        let numbers =
            |count: fn(&RunCounts) -> i64| counts.values().map(count).collect::<Vec<i64>>();
        sqlx::query(
            "with added as (
                 select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[],
                     $7::bigint[]) as added (job_id, fence, id, new, changed, refused, parked)),
             locked as (
                 select run.job_id, run.fence from tidegate.polling_runs run
                 join added using (job_id, fence, id)
                 order by run.job_id, run.fence for no key update of run)
             update tidegate.polling_runs run
             set new = run.new + added.new, changed = run.changed + added.changed,
                 refused = run.refused + added.refused, parked = run.parked + added.parked
             from added join locked using (job_id, fence)
             where run.job_id = added.job_id and run.fence = added.fence",
        )
        .bind(counts.keys().map(|run| run.job).collect::<Vec<Uuid>>())
        .bind(counts.keys().map(|run| run.fence).collect::<Vec<i64>>())
        .bind(counts.keys().map(|run| run.run).collect::<Vec<Uuid>>())
        .bind(numbers(|counts| counts.fresh))
        .bind(numbers(|counts| counts.changed))
        .bind(numbers(|counts| counts.refused))
        .bind(numbers(|counts| counts.parked))
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("counting polled items"))
    }
}
