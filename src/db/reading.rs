//! Reading streams' tables.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::FromRow;
use tidegate_record::StreamId;

use crate::db::answered;
use crate::db::pool::PgPool;

/// How large a stream's table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StreamSize {
    /// As PostgreSQL's statistics estimate them.
    pub rows: i64,
    /// With indexes.
    pub bytes: i64,
}

#[derive(Debug, FromRow)]
struct SizeRow {
    id: StreamId,
    rows: i64,
    bytes: i64,
}

/// The size of every stream's table, its partitions included.
pub async fn sizes(pool: &PgPool) -> Result<HashMap<StreamId, StreamSize>, sqlx::Error> {
    let rows: Vec<SizeRow> = answered(
        sqlx::query_as(
            "with tables as (
               select streams.id, pg_class.oid from tidegate.streams
               join pg_class on relname = name and relnamespace = 'streams'::regnamespace
               where deleted_at is null),
             parts as (
               select id, oid from tables
               union all
               select id, inhrelid from tables join pg_inherits on inhparent = oid)
             select id,
               coalesce(sum(greatest(pg_stat_get_live_tuples(oid), 0)), 0)::bigint as rows,
               coalesce(sum(pg_total_relation_size(oid)), 0)::bigint as bytes
             from parts group by id",
        )
        .fetch_all(pool),
    )
    .await?;
    let size = |row: SizeRow| (row.id, StreamSize { rows: row.rows, bytes: row.bytes });
    Ok(rows.into_iter().map(size).collect())
}

/// Was it ended because it took longer than a statement may?
pub fn took_too_long(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(reason) if reason.code().as_deref() == Some("57014"))
}
