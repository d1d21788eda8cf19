//! Reading streams' tables.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{answered, literal, quoted};
use crate::record::StreamId;
use crate::streams::columns::Column;
use crate::streams::json::write_string;
use crate::streams::{Shape, Stream};

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

/// A record as its table has it.
#[derive(Debug, FromRow)]
pub struct StoredRecord {
    pub id: Uuid,
    pub received_at: OffsetDateTime,
    /// The document, or the declared columns as a JSON object, each under the key that it takes; none of a record that is
    /// larger than was asked for.
    pub data: Option<String>,
    /// What a typed record has beside its columns, as a JSON object.
    pub extra: Option<String>,
}

/// Is it because the stream's table has not the columns that the stream says?
pub fn is_about_the_table(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(reason) => {
            reason.code().is_some_and(|code| code.starts_with("42") && code != "42501")
        }
        sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

/// The newest records of a stream, the newest first; of each at most `bytes_max` bytes of JSON.
pub async fn newest(
    pool: &PgPool,
    stream: &Stream,
    limit: u16,
    bytes_max: u32,
) -> Result<Vec<StoredRecord>, sqlx::Error> {
    let (data, extra) = match &stream.shape {
        Shape::Document { .. } => ("payload::text".to_owned(), "null::text"),
        Shape::Typed { columns, .. } => (object(columns), "extra::text"),
    };
    // Ids grow with time; a partitioned table has its primary key over both.
    let order =
        if stream.retention_days.is_some() { "received_at desc, id desc" } else { "id desc" };
    let sql = format!(
        "select id, received_at, case when fits then data end as data, case when fits then extra end as extra
         from (select *, octet_length(data) + coalesce(octet_length(extra), 0) <= $2 as fits
               from (select id, received_at, {data} as data, {extra} as extra from streams.{table}
                     order by {order} limit $1) newest) measured
         order by {order}",
        table = quoted(stream.name.as_str()),
    );
    let query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
    answered(query.bind(i64::from(limit)).bind(i64::from(bytes_max)).fetch_all(pool)).await
}

/// A row's columns as the text of a JSON object. PostgreSQL's own functions would cut the keys, or take no more than fifty.
fn object(columns: &[Column]) -> String {
    let member = |column: &Column| {
        let mut key = Vec::new();
        write_string(column.member(), &mut key);
        let key = literal(&format!("{}:", String::from_utf8_lossy(&key)));
        format!("{key} || coalesce(to_json({})::text, 'null')", quoted(&column.name))
    };
    let members: Vec<String> = columns.iter().map(member).collect();
    format!("'{{' || array_to_string(array[{}], ',') || '}}'", members.join(", "))
}
