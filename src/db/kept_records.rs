//! Looking at quarantined records, dropping them, and taking them over for a replay.
//!
//! A record that is replayed leaves the quarantine in the transaction that commits it (`db/quarantine.rs`), never here.

use sqlx::FromRow;
use tidegate_record::StreamId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::answered;
use crate::db::pool::PgPool;

/// Most rows that one statement drops.
const DELETED_AT_ONCE: u64 = 10_000;

/// Which records are meant; every condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The streams that the caller may see; `None`: all, deleted ones too.
    pub visible: Option<Vec<StreamId>>,
    pub stream: Option<StreamId>,
    pub code: Option<String>,
    /// Received at or after this.
    pub from: Option<OffsetDateTime>,
    /// Received before this.
    pub until: Option<OffsetDateTime>,
}

/// A quarantined record.
#[derive(Debug, FromRow)]
pub struct KeptRecord {
    pub id: Uuid,
    pub received_at: OffsetDateTime,
    pub stream_id: StreamId,
    /// `None`: the stream was deleted.
    pub stream: Option<String>,
    pub source: String,
    pub user_name: String,
    pub record: Option<i64>,
    pub line: Option<i64>,
    pub column_name: Option<String>,
    pub code: String,
    /// PostgreSQL's own code, where it refused the record.
    pub sqlstate: Option<String>,
    pub message: String,
    /// What was sent, or the beginning of it.
    pub raw: Vec<u8>,
    /// How long `raw` is in the table.
    pub raw_bytes: i32,
    /// The sender's record was longer than `raw` is in the table.
    pub truncated: bool,
    pub format: Option<String>,
    pub csv_header: Option<Vec<u8>>,
    pub csv_null: Option<String>,
    /// What separates and quotes the fields, where the sender said so.
    pub csv_delimiter: Option<String>,
    pub csv_quote: Option<String>,
}

/// What is known of a quarantined record without reading its bytes.
#[derive(Debug, FromRow)]
pub struct KeptHead {
    pub stream_id: StreamId,
    /// `None`: the stream was deleted.
    pub stream: Option<String>,
    pub format: Option<String>,
    pub csv_null: Option<String>,
    pub csv_delimiter: Option<String>,
    pub csv_quote: Option<String>,
    /// How long what is shown of it is: `raw`, and a CSV row's header.
    pub shown_bytes: i32,
    /// How long [`body`] is; `None` where not all of the record was kept.
    pub body_bytes: Option<i32>,
}

/// How many records are kept of one stream for one reason.
#[derive(Debug, FromRow)]
pub struct KeptCount {
    pub stream_id: StreamId,
    pub stream: Option<String>,
    pub code: String,
    pub count: i64,
    pub oldest: OffsetDateTime,
    pub newest: OffsetDateTime,
}

/// Whether a record may be replayed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenOver {
    Yes,
    /// It was replayed, or dropped.
    Gone,
    /// Another gateway replays it.
    Elsewhere,
}

/// The newest records; of each at most `raw_bytes_max` of its bytes. `after`: only those behind this one.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
    raw_bytes_max: i32,
) -> Result<Vec<KeptRecord>, sqlx::Error> {
    sqlx::query_as(
        "select q.id, q.received_at, q.stream_id, s.name as stream, q.source, q.user_name, q.record, q.line,
           q.column_name, q.code, q.sqlstate, q.message, substring(q.raw for $8) as raw, octet_length(q.raw) as raw_bytes,
           q.truncated, q.format, null::bytea as csv_header, q.csv_null, q.csv_delimiter, q.csv_quote
         from tidegate.quarantine q left join tidegate.streams s on s.id = q.stream_id and s.deleted_at is null
         where ($1::integer[] is null or q.stream_id = any($1)) and ($2::integer is null or q.stream_id = $2)
           and ($3::text is null or q.code = $3) and ($4::timestamptz is null or q.received_at >= $4)
           and ($5::timestamptz is null or q.received_at < $5) and ($6::uuid is null or q.id < $6)
         order by q.id desc limit $7",
    )
    .bind(filter.visible.as_deref().map(numbers))
    .bind(filter.stream)
    .bind(&filter.code)
    .bind(filter.from)
    .bind(filter.until)
    .bind(after)
    .bind(limit)
    .bind(raw_bytes_max)
    .fetch_all(pool)
    .await
}

/// One record with all its bytes.
pub async fn find(pool: &PgPool, id: Uuid) -> Result<Option<KeptRecord>, sqlx::Error> {
    sqlx::query_as(
        "select q.id, q.received_at, q.stream_id, s.name as stream, q.source, q.user_name, q.record, q.line,
           q.column_name, q.code, q.sqlstate, q.message, q.raw, octet_length(q.raw) as raw_bytes, q.truncated, q.format,
           q.csv_header, q.csv_null, q.csv_delimiter, q.csv_quote
         from tidegate.quarantine q left join tidegate.streams s on s.id = q.stream_id and s.deleted_at is null
         where q.id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// The same without its bytes, which may be many.
pub async fn head(pool: &PgPool, id: Uuid) -> Result<Option<KeptHead>, sqlx::Error> {
    sqlx::query_as(
        "select q.stream_id, s.name as stream, q.format, q.csv_null, q.csv_delimiter, q.csv_quote,
           octet_length(q.raw) + coalesce(octet_length(q.csv_header), 0) as shown_bytes,
           case when q.truncated then null when q.format = 'csv' then octet_length(q.csv_header) + octet_length(q.raw) + 2
             else octet_length(q.raw) end as body_bytes
         from tidegate.quarantine q left join tidegate.streams s on s.id = q.stream_id and s.deleted_at is null
         where q.id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// A record as a body of its format. The line end makes a row of a CSV row that has nothing in it.
pub async fn body(pool: &PgPool, id: Uuid) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let body: Option<Option<Vec<u8>>> = sqlx::query_scalar(
        "select case when format = 'csv' then csv_header || '\\x0a'::bytea || raw || '\\x0a'::bytea else raw end
         from tidegate.quarantine where id = $1 and not truncated",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    Ok(body.flatten())
}

/// Counts by stream and code, the most first.
pub async fn summary(pool: &PgPool, filter: &Filter) -> Result<Vec<KeptCount>, sqlx::Error> {
    sqlx::query_as(
        "select q.stream_id, s.name as stream, q.code, count(*) as count, min(q.received_at) as oldest,
           max(q.received_at) as newest
         from tidegate.quarantine q left join tidegate.streams s on s.id = q.stream_id and s.deleted_at is null
         where ($1::integer[] is null or q.stream_id = any($1)) and ($2::integer is null or q.stream_id = $2)
           and ($3::text is null or q.code = $3) and ($4::timestamptz is null or q.received_at >= $4)
           and ($5::timestamptz is null or q.received_at < $5)
         group by q.stream_id, s.name, q.code order by count(*) desc, q.stream_id, q.code",
    )
    .bind(filter.visible.as_deref().map(numbers))
    .bind(filter.stream)
    .bind(&filter.code)
    .bind(filter.from)
    .bind(filter.until)
    .fetch_all(pool)
    .await
}

/// Drops one record; says whether it was there.
pub async fn delete(pool: &PgPool, id: Uuid) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query("delete from tidegate.quarantine where id = $1").bind(id);
    Ok(deleted.execute(pool).await?.rows_affected() > 0)
}

/// Drops all that are meant, however many, bit by bit; says how many. What was dropped before an error stays dropped.
pub async fn delete_all(pool: &PgPool, filter: &Filter) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    loop {
        let rows = answered(delete_some(pool, filter)).await?;
        deleted += rows;
        if rows < DELETED_AT_ONCE {
            return Ok(deleted);
        }
    }
}

async fn delete_some(pool: &PgPool, filter: &Filter) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "delete from tidegate.quarantine where id = any(array(select id from tidegate.quarantine q
         where ($1::integer[] is null or q.stream_id = any($1)) and ($2::integer is null or q.stream_id = $2)
           and ($3::text is null or q.code = $3) and ($4::timestamptz is null or q.received_at >= $4)
           and ($5::timestamptz is null or q.received_at < $5) limit $6))",
    )
    .bind(filter.visible.as_deref().map(numbers))
    .bind(filter.stream)
    .bind(&filter.code)
    .bind(filter.from)
    .bind(filter.until)
    .bind(DELETED_AT_ONCE.cast_signed())
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Marks a record as being replayed through this journal, so that no other gateway replays it too.
pub async fn take_over(pool: &PgPool, id: Uuid, journal: Uuid) -> Result<TakenOver, sqlx::Error> {
    let marked = sqlx::query(
        "update tidegate.quarantine set replaying_journal = $2
         where id = $1 and (replaying_journal is null or replaying_journal = $2)",
    )
    .bind(id)
    .bind(journal)
    .execute(pool)
    .await?;
    if marked.rows_affected() > 0 {
        return Ok(TakenOver::Yes);
    }
    let there: bool =
        sqlx::query_scalar("select exists (select from tidegate.quarantine where id = $1)")
            .bind(id)
            .fetch_one(pool)
            .await?;
    Ok(if there { TakenOver::Elsewhere } else { TakenOver::Gone })
}

fn numbers(streams: &[StreamId]) -> Vec<i32> {
    streams.iter().map(|stream| stream.0).collect()
}
