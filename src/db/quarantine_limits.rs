//! How much the quarantine holds, and what has to leave it: rows of deleted streams, the oldest, old ones.
//!
//! What it holds is in `tidegate.quarantine_levels`, which the table's triggers keep (migration 0008). One gateway at a time
//! drops rows, a few in each transaction, so that no statement waits long for it and no two drop too many together.

use sqlx::{FromRow, Postgres, Transaction};
use tidegate_record::StreamId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::answered;
use crate::db::pool::PgPool;

/// Most rows that go in one transaction.
pub const CHUNK_ROWS: u32 = 1_000;
/// Advisory lock of the gateway that drops rows ("quar" in ASCII).
const DROPPING_LOCK: i64 = 0x7175_6172;

/// What is kept of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct KeptOfStream {
    pub stream: StreamId,
    /// They had been accepted, and PostgreSQL refused them.
    pub accepted: bool,
    pub records: i64,
    pub bytes: i64,
    /// The stream was deleted.
    pub deleted: bool,
}

/// Rows to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drops {
    /// All of a stream, invalid and accepted ones.
    OfDeleted(StreamId),
    /// The oldest invalid ones of a stream, at most so many.
    Oldest { stream: StreamId, rows: u32 },
    /// Those that were received longer ago than `kept_for`: invalid ones, or accepted ones. `now`: by this gateway's clock,
    /// or PostgreSQL's if that is earlier, because a clock that is set wrong must not cost what is to be kept.
    Old { now: OffsetDateTime, kept_for: time::Duration, accepted: bool },
}

/// The right to drop rows, while it is held; giving it up commits what was dropped.
pub struct Dropping {
    transaction: Transaction<'static, Postgres>,
    /// When it began, by PostgreSQL's clock.
    began: OffsetDateTime,
}

/// What is kept, by stream and kind.
pub async fn levels(pool: &PgPool) -> Result<Vec<KeptOfStream>, sqlx::Error> {
    read(pool).await
}

async fn read<'c>(executor: impl sqlx::PgExecutor<'c>) -> Result<Vec<KeptOfStream>, sqlx::Error> {
    sqlx::query_as(
        "select l.stream_id as stream, l.accepted, sum(l.records)::bigint as records, sum(l.bytes)::bigint as bytes,
           coalesce(bool_or(s.deleted_at is not null), false) as deleted
         from tidegate.quarantine_levels l left join tidegate.streams s on s.id = l.stream_id
         group by l.stream_id, l.accepted having sum(l.records) > 0",
    )
    .fetch_all(executor)
    .await
}

/// `None`: another gateway is at it.
pub async fn begin_dropping(pool: &PgPool) -> Result<Option<Dropping>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let lock = sqlx::query_as("select pg_try_advisory_xact_lock($1), now()").bind(DROPPING_LOCK);
    let (alone, began): (bool, _) = answered(lock.fetch_one(&mut *transaction)).await?;
    if !alone {
        answered(transaction.rollback()).await?;
        return Ok(None);
    }
    Ok(Some(Dropping { transaction, began }))
}

impl Dropping {
    /// What is kept now, after its rows were summed up.
    pub async fn levels(&mut self) -> Result<Vec<KeptOfStream>, sqlx::Error> {
        let sum_up = sqlx::query(
            "with gone as (delete from tidegate.quarantine_levels returning *)
             insert into tidegate.quarantine_levels (stream_id, accepted, records, bytes)
             select stream_id, accepted, sum(records), sum(bytes) from gone group by 1, 2
             having sum(records) <> 0 or sum(bytes) <> 0",
        );
        answered(sum_up.execute(&mut *self.transaction)).await?;
        answered(read(&mut *self.transaction)).await
    }

    /// Drops at most [`CHUNK_ROWS`] of them; says how many.
    pub async fn drop_rows(&mut self, drops: Drops) -> Result<u64, sqlx::Error> {
        let chunk = i64::from(CHUNK_ROWS);
        let query = match drops {
            Drops::OfDeleted(stream) => sqlx::query(
                "delete from tidegate.quarantine where id = any(array(
                     select id from tidegate.quarantine where stream_id = $1 limit $2))",
            )
            .bind(stream)
            .bind(chunk),
            Drops::Oldest { stream, rows } => sqlx::query(
                "delete from tidegate.quarantine where id = any(array(
                     select id from tidegate.quarantine where stream_id = $1 and sqlstate is null
                     order by received_at limit $2))",
            )
            .bind(stream)
            .bind(chunk.min(i64::from(rows))),
            Drops::Old { now, kept_for, accepted } => sqlx::query(
                "delete from tidegate.quarantine where id = any(array(
                     select id from tidegate.quarantine where id < $1 and (sqlstate is not null) = $2
                     order by id limit $3))",
            )
            .bind(first_id_at(now.min(self.began) - kept_for))
            .bind(accepted)
            .bind(chunk),
        };
        Ok(answered(query.execute(&mut *self.transaction)).await?.rows_affected())
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        answered(self.transaction.commit()).await
    }
}

/// Ids of records begin with the moment at which they were received, so the index of the ids finds the old ones.
fn first_id_at(moment: OffsetDateTime) -> Uuid {
    let milliseconds = moment.unix_timestamp_nanos() / 1_000_000;
    Uuid::from_u128(u128::try_from(milliseconds).unwrap_or_default() << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_moment_lie_between_those_before_and_after_it() {
        let moment = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let id_at = |milliseconds: u64| {
            uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid()
        };
        let first = first_id_at(moment);
        assert!(id_at(1_799_999_999_999) < first && first < id_at(1_800_000_000_000));
    }
}
