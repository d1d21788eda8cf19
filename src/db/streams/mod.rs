//! Streams in the catalog, and their tables.
//!
//! A stream's row and its table are made, grown and dropped in one transaction. Streams get their numbers one at a time,
//! under an advisory lock; a change of a stream holds its row, and waits for no change of another.

mod growth;
mod table;

use sqlx::types::Json;
use sqlx::{FromRow, Postgres, Transaction};
use tidegate_codec::{Key, PayloadType, Shape, Stream, StreamName};
use tidegate_record::StreamId;
use time::OffsetDateTime;

use self::table::{create_table, run};
use crate::db::database::SCHEMA_LOCK;
use crate::db::locks::is_lock_timeout;
use crate::db::notifications::NOTIFY_CATALOG;
use crate::db::pool::PgPool;
use crate::db::sql::quoted;
use crate::db::table_error::sqlstate;
use crate::db::{partitions, stream_limits};

pub use crate::db::stream_limits::{StreamLimits, TooManyStreams};
pub use crate::db::table_error::TableError;

/// A stream that is still to be made.
#[derive(Debug, Clone)]
pub struct NewStream {
    pub name: StreamName,
    pub shape: Shape,
    pub key: Option<Key>,
    pub retention_days: Option<u16>,
    /// The user who makes it; `None`: a user of the command line, who can read a gateway's data directory and is held to
    /// no limit of a user.
    pub created_by: Option<i64>,
}

#[derive(Debug, FromRow)]
struct StreamRow {
    id: StreamId,
    name: String,
    shape: Json<Shape>,
    key: Option<Json<Key>>,
    retention_days: Option<i16>,
    created_at: OffsetDateTime,
}

impl StreamRow {
    fn into_stream(self) -> Result<Stream, sqlx::Error> {
        let name = self.name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Stream {
            id: self.id,
            name,
            shape: self.shape.0,
            key: self.key.map(|key| key.0),
            retention_days: self.retention_days.map(i16::unsigned_abs),
            created_at: self.created_at,
        })
    }
}

/// Every stream of the catalog.
pub async fn list(pool: &PgPool) -> Result<Vec<Stream>, sqlx::Error> {
    let rows: Vec<StreamRow> = sqlx::query_as(
        "select id, name, shape, key, retention_days, created_at from tidegate.streams
         where deleted_at is null order by name",
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StreamRow::into_stream).collect()
}

/// How many streams each user made, of those that are there.
pub async fn counts_by_maker(pool: &PgPool) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select created_by, count(*) from tidegate.streams
         where deleted_at is null and created_by is not null group by created_by",
    )
    .fetch_all(pool)
    .await
}

/// Makes the stream and its table; `None` if the name is taken.
pub async fn create(
    pool: &PgPool,
    new: &NewStream,
    limits: StreamLimits,
) -> Result<Option<Stream>, TableError> {
    let mut transaction = locked(pool).await?;
    let row: Option<StreamRow> = sqlx::query_as(
        "insert into tidegate.streams (name, shape, key, retention_days, created_by) values ($1, $2, $3, $4, $5)
         on conflict (name) where deleted_at is null do nothing
         returning id, name, shape, key, retention_days, created_at",
    )
    .bind(new.name.as_str())
    .bind(Json(&new.shape))
    .bind(new.key.as_ref().map(Json))
    .bind(new.retention_days.map(days))
    .bind(new.created_by)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (total, own) = stream_limits::count(&mut transaction, new.created_by).await?;
    limits.check(total, own)?;
    let stream = row.into_stream()?;
    if let Err(error) = run(&mut transaction, create_table(&stream)).await {
        transaction.rollback().await?;
        return Err(not_made(pool, &stream.name, error).await);
    }
    make_partitions_ahead(&mut transaction, &stream).await?;
    finish(transaction).await?;
    Ok(Some(stream))
}

/// Changes a stream, and its table with it where columns came or got wider. `None` if it is not as it was `before` any
/// more: it was deleted, or another request changed it.
pub async fn update(
    pool: &PgPool,
    before: &Stream,
    after: &Stream,
) -> Result<Option<Stream>, TableError> {
    let mut transaction = pool.begin().await?;
    let row: Option<StreamRow> = sqlx::query_as(
        "select id, name, shape, key, retention_days, created_at from tidegate.streams
         where id = $1 and deleted_at is null for no key update",
    )
    .bind(after.id)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let now = row.into_stream()?;
    // What `after` says was made of `before`, all of it: a change that came in between would be taken back.
    let is_as_before = now.shape == before.shape
        && now.key == before.key
        && now.retention_days == before.retention_days;
    if !is_as_before {
        return Ok(None);
    }
    sqlx::query(
        "update tidegate.streams set shape = $2, key = $3, retention_days = $4 where id = $1",
    )
    .bind(after.id)
    .bind(Json(&after.shape))
    .bind(after.key.as_ref().map(Json))
    .bind(after.retention_days.map(days))
    .execute(&mut *transaction)
    .await?;
    growth::grow(&mut transaction, before, after).await?;
    finish(transaction).await?;
    let Stream { shape, key, retention_days, .. } = after.clone();
    Ok(Some(Stream { shape, key, retention_days, ..now }))
}

/// Drops the stream and its table with all its rows; false if there was no such stream.
pub async fn delete(pool: &PgPool, stream: &Stream) -> Result<bool, TableError> {
    let mut transaction = pool.begin().await?;
    // The row stays for its number; what it said of the stream would only let rows grow that are never read.
    let nothing = Shape::Document { payload: PayloadType::Jsonb };
    let deleted = sqlx::query(
        "update tidegate.streams set deleted_at = now(), shape = $2, key = null
         where id = $1 and deleted_at is null",
    )
    .bind(stream.id)
    .bind(Json(nothing))
    .execute(&mut *transaction)
    .await?;
    if deleted.rows_affected() == 0 {
        return Ok(false);
    }
    let drop = format!("drop table if exists streams.{}", quoted(stream.name.as_str()));
    let dropped = run(&mut transaction, drop).await;
    dropped.map_err(|error| TableError::of(&stream.name, "drop", error))?;
    finish(transaction).await?;
    Ok(true)
}

/// Of these streams, those of which the database knows nothing, not even that they were deleted.
pub async fn forgotten(pool: &PgPool, streams: &[StreamId]) -> Result<Vec<StreamId>, sqlx::Error> {
    sqlx::query_scalar(
        "select asked.id from unnest($1::int[]) as asked (id)
         where not exists (select from tidegate.streams known where known.id = asked.id)",
    )
    .bind(streams)
    .fetch_all(pool)
    .await
}

/// Makes a stream again that the database has forgotten, with the number that the journal knows it by. Who made it is known
/// no more, so it counts for no user. False if its name
/// or number was given to another in the meantime.
pub async fn restore(pool: &PgPool, stream: &Stream) -> Result<bool, TableError> {
    let mut transaction = locked(pool).await?;
    let inserted = sqlx::query(
        "insert into tidegate.streams (id, name, shape, key, retention_days, created_at)
         overriding system value values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
    )
    .bind(stream.id)
    .bind(stream.name.as_str())
    .bind(Json(&stream.shape))
    .bind(stream.key.as_ref().map(Json))
    .bind(stream.retention_days.map(days))
    .bind(stream.created_at)
    .execute(&mut *transaction)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "select setval(pg_get_serial_sequence('tidegate.streams', 'id'), max(id)) from tidegate.streams",
    )
    .execute(&mut *transaction)
    .await?;
    if let Err(error) = run(&mut transaction, create_table(stream)).await {
        transaction.rollback().await?;
        return Err(not_made(pool, &stream.name, error).await);
    }
    make_partitions_ahead(&mut transaction, stream).await?;
    finish(transaction).await?;
    Ok(true)
}

/// Why a table could not be made; where something of its name is in the way, what.
async fn not_made(pool: &PgPool, stream: &StreamName, error: sqlx::Error) -> TableError {
    // A relation of the name, or a type: each table has one.
    if !matches!(sqlstate(&error).as_deref(), Some("42P07" | "42710")) {
        return TableError::of(stream, "make", error);
    }
    let what: Result<Option<String>, sqlx::Error> = sqlx::query_scalar(
        "select coalesce(
             (select relkind::text from pg_class
              where relnamespace = to_regnamespace('streams') and relname = $1),
             (select 'type' from pg_type
              where typnamespace = to_regnamespace('streams') and typname = $1))",
    )
    .bind(stream.as_str())
    .fetch_one(pool)
    .await;
    let what = match what.ok().flatten().as_deref() {
        Some("r" | "p") => "a table",
        Some("v") => "a view",
        Some("m") => "a materialized view",
        Some("f") => "a foreign table",
        Some("S") => "a sequence",
        Some("i" | "I") => "an index",
        Some("c" | "type") => "a type",
        _ => "something of that name",
    };
    TableError::Exists { stream: stream.clone(), what }
}

/// A transaction that makes a stream, one at a time.
async fn locked(pool: &PgPool) -> Result<Transaction<'static, Postgres>, TableError> {
    let mut transaction = pool.begin().await?;
    let lock = sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMA_LOCK);
    match lock.execute(&mut *transaction).await {
        Ok(_) => Ok(transaction),
        // No table is what was waited for.
        Err(error) if is_lock_timeout(&error) => Err(TableError::Busy),
        Err(error) => Err(error.into()),
    }
}

async fn finish(mut transaction: Transaction<'static, Postgres>) -> Result<(), sqlx::Error> {
    sqlx::query(NOTIFY_CATALOG).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn make_partitions_ahead(
    transaction: &mut Transaction<'static, Postgres>,
    stream: &Stream,
) -> Result<(), sqlx::Error> {
    if stream.retention_days.is_none() {
        return Ok(());
    }
    let today: time::Date = sqlx::query_scalar("select (now() at time zone 'UTC')::date")
        .fetch_one(&mut **transaction)
        .await?;
    partitions::make_ahead(transaction, stream, today).await
}

fn days(retention_days: u16) -> i16 {
    i16::try_from(retention_days).expect("retention is limited to 3,650 days")
}
