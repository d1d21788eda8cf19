//! Reading streams' tables.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};
use tidegate_codec::columns::Column;
use tidegate_codec::json::write_string;
use tidegate_codec::{Shape, Stream};
use tidegate_record::StreamId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::answered;
use crate::db::pool::PgPool;
use crate::db::sql::{literal, quoted};

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
    /// left out.
    pub data: Option<String>,
    /// What a typed record has beside its columns, as a JSON object.
    pub extra: Option<String>,
    /// Left out because the record alone is larger than a record may be.
    pub is_large: bool,
}

/// Was it ended because it took longer than a statement may?
pub fn took_too_long(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(reason) if reason.code().as_deref() == Some("57014"))
}

/// What reading a stream's newest records may cost.
#[derive(Debug, Clone, Copy)]
pub struct NewestLimits {
    /// Most records.
    pub records: u16,
    /// Largest record, in bytes of JSON.
    pub record_bytes: u32,
    /// Most bytes of JSON of all records together; what would exceed them is left out, the oldest first.
    pub bytes: u32,
}

/// How many bytes of the table are looked at for each byte that may be shown: `jsonb` needs more bytes than its text.
const STORED_FOR_SHOWN: i64 = 4;

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

/// The newest records of a stream, the newest first.
///
/// What is not shown is not read: a value's stored size is known from the row, without its value. So neither PostgreSQL nor
/// the gateway handles more than the limits say, however large the records are.
pub async fn newest(
    pool: &PgPool,
    stream: &Stream,
    limits: NewestLimits,
) -> Result<Vec<StoredRecord>, sqlx::Error> {
    let query = sqlx::query_as(AssertSqlSafe(newest_statement(stream))).persistent(false);
    let record_bytes = i64::from(limits.record_bytes);
    let bytes = i64::from(limits.bytes);
    let query = query.bind(i64::from(limits.records)).bind(record_bytes).bind(bytes);
    answered(query.bind(STORED_FOR_SHOWN).fetch_all(pool)).await
}

/// Columns get names of ours on the way, because theirs may be any.
fn newest_statement(stream: &Stream) -> String {
    let (fields, data, extra) = match &stream.shape {
        Shape::Document { .. } => (vec!["payload".to_owned()], "c0::text".to_owned(), "null::text"),
        Shape::Typed { columns, .. } => {
            let names = columns.iter().map(|column| quoted(&column.name));
            let fields = std::iter::once("extra".to_owned()).chain(names).collect();
            (fields, object(columns), "c0::text")
        }
    };
    let named = fields.iter().enumerate().map(|(index, field)| format!("{field} as c{index}"));
    let named: Vec<String> = named.collect();
    let sized = (0..fields.len()).map(|index| format!("coalesce(pg_column_size(c{index}), 0)"));
    let sized: Vec<String> = sized.collect();
    // Ids grow with time; a partitioned table has its primary key over both.
    let order =
        if stream.retention_days.is_some() { "received_at desc, id desc" } else { "id desc" };
    format!(
        "with newest as materialized (
           select id, received_at, {named} from streams.{table} order by {order} limit $1),
         sized as (select *, {sized} as stored from newest),
         budgeted as (
           select *, stored <= $2 * $4 as is_small,
             sum(case when stored <= $2 * $4 then stored end) over before_and_this <= $3 * $4 as is_affordable
           from sized window before_and_this as (order by {order} rows unbounded preceding)),
         made as materialized (
           select id, received_at, not is_small or coalesce(bytes > $2, false) as is_large,
             case when bytes <= $2 then data end as data, case when bytes <= $2 then extra end as extra
           from budgeted left join lateral (
             select data, extra, octet_length(data) + coalesce(octet_length(extra), 0) as bytes
             from (select {data} as data, {extra} as extra where is_small and is_affordable offset 0) texts) texts on true)
         select id, received_at, is_large, case when fits then data end as data, case when fits then extra end as extra
         from (
           select *, sum(octet_length(data) + coalesce(octet_length(extra), 0)) over before_and_this <= $3 as fits
           from made window before_and_this as (order by {order} rows unbounded preceding)) summed
         order by {order}",
        named = named.join(", "),
        sized = sized.join(" + "),
        table = quoted(stream.name.as_str()),
    )
}

/// A row's columns as the text of a JSON object. PostgreSQL's own functions would cut the keys, or take no more than fifty.
fn object(columns: &[Column]) -> String {
    let member = |(index, column): (usize, &Column)| {
        let mut key = Vec::new();
        write_string(column.member(), &mut key);
        let key = literal(&format!("{}:", String::from_utf8_lossy(&key)));
        format!("{key} || coalesce(to_json(c{index})::text, 'null')")
    };
    let members: Vec<String> = (1..).zip(columns).map(member).collect();
    format!("'{{' || array_to_string(array[{}], ',') || '}}'", members.join(", "))
}
