//! One batch, one transaction: the fence, a COPY for each stream, the merges of keyed streams, the committed range.
//!
//! Invariant: rows and the range that names them become visible together or not at all.
//!
//! A [`BatchConnection`] belongs to one writer. After any error, or when a call was given up half way, it must be
//! dropped: the socket closes, the server rolls back, and the next session finds out what was committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use uuid::Uuid;

use crate::db::journals::{CommittedRange, Fenced, fence, to_sql};
use crate::db::{Database, quarantine, quoted};
use crate::record::Position;
use crate::streams::{Key, KeyField, OnDuplicate, Shape, Stream};

/// Tuples are gathered into messages of about this many bytes; larger entries are sent as they are.
const COPY_MESSAGE_BYTES: usize = 128 << 10;
/// What every binary COPY begins with: signature, flags, no header extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What every binary COPY ends with.
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Another session raised the epoch: this one is over.
    #[error("the journal belongs to a newer session")]
    Fenced,
    #[error("{doing}: {source}")]
    Database {
        doing: String,
        #[source]
        source: sqlx::Error,
    },
}

impl BatchError {
    /// The class of SQLSTATE, or `connection` where PostgreSQL said nothing; for metrics.
    pub fn class(&self) -> String {
        match self {
            BatchError::Fenced => "fenced".to_owned(),
            BatchError::Database { source: sqlx::Error::Database(error), .. } => error
                .code()
                .map_or_else(|| "database".to_owned(), |code| code.chars().take(2).collect()),
            BatchError::Database { .. } => "connection".to_owned(),
        }
    }
}

/// Where tuples go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The stream's own table; tuples have this many declared columns.
    Stream {
        stream: &'a Stream,
        column_set: u32,
    },
    /// The table of a keyed stream's batch, merged later by [`BatchConnection::merge`].
    Staging {
        stream: &'a Stream,
        column_set: u32,
    },
    Quarantine,
}

/// A writer's own connection.
#[derive(Debug)]
pub struct BatchConnection(PgConnection);

impl BatchConnection {
    pub async fn open(
        database: &Database,
        statement_timeout: Duration,
    ) -> Result<BatchConnection, BatchError> {
        let connection = database.connect(statement_timeout).await.map_err(during("connecting"))?;
        Ok(BatchConnection(connection))
    }

    /// See [`fence`].
    pub async fn fence(&mut self, journal: Uuid, node: &str) -> Result<Fenced, BatchError> {
        fence(&mut self.0, journal, node).await.map_err(during("reading the committed ranges"))
    }

    /// Opens the batch's transaction and holds the epoch for its length.
    pub async fn begin(&mut self, journal: Uuid, epoch: i64) -> Result<(), BatchError> {
        let sql =
            format!("begin; select epoch from tidegate.journals where id = '{journal}' for share");
        let row = self
            .0
            .fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map_err(during("begin"))?;
        let found: Option<i64> = row.and_then(|row| row.try_get(0).ok());
        if found == Some(epoch) { Ok(()) } else { Err(BatchError::Fenced) }
    }

    /// Makes the daily partition of a stream with retention, unless it is there.
    pub async fn ensure_partition(
        &mut self,
        stream: &Stream,
        day: time::Date,
    ) -> Result<(), BatchError> {
        crate::db::streams::ensure_partition(&mut self.0, stream, day)
            .await
            .map_err(during_stream("making a partition", stream))
    }

    /// Copies tuples; returns the rows that PostgreSQL counted.
    pub async fn copy(&mut self, target: Target<'_>, bodies: &[Bytes]) -> Result<u64, BatchError> {
        if let Target::Staging { stream, column_set } = target {
            self.create_staging(stream, column_set).await?;
        }
        let sql = copy_statement(target);
        let doing = |source| BatchError::Database { doing: format!("{sql:.120}"), source };
        let mut copy = self.0.copy_in_raw(&sql).await.map_err(doing)?;
        let mut message = Vec::with_capacity(COPY_MESSAGE_BYTES + COPY_HEADER.len());
        message.extend_from_slice(COPY_HEADER);
        for body in bodies {
            if message.len() + body.len() > COPY_MESSAGE_BYTES && !message.is_empty() {
                copy.send(message.as_slice()).await.map_err(doing)?;
                message.clear();
            }
            if body.len() >= COPY_MESSAGE_BYTES {
                copy.send(body.as_ref()).await.map_err(doing)?;
            } else {
                message.extend_from_slice(body);
            }
        }
        message.extend_from_slice(COPY_TRAILER);
        copy.send(message.as_slice()).await.map_err(doing)?;
        copy.finish().await.map_err(doing)
    }

    /// Brings the staged rows of a keyed stream into its table. `first_ids` are the first ids of the batch's entries
    /// in this stream, sorted; returns for each how many of its records made a new row.
    pub async fn merge(
        &mut self,
        stream: &Stream,
        key: &Key,
        column_set: u32,
        first_ids: &[Uuid],
    ) -> Result<Vec<u64>, BatchError> {
        let sql = merge_statement(stream, key, column_set);
        let rows: Vec<(i32, i64)> = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(first_ids)
            .fetch_all(&mut self.0)
            .await
            .map_err(during_stream("merging", stream))?;
        let mut fresh = vec![0; first_ids.len()];
        for (bucket, count) in rows {
            let entry = usize::try_from(bucket - 1).ok().and_then(|index| fresh.get_mut(index));
            *entry.expect("every staged row belongs to an entry of the batch") =
                count.unsigned_abs();
        }
        Ok(fresh)
    }

    /// Notes the range and commits. `merged_below`: ranges that end at or below it are folded into one row.
    pub async fn commit(
        &mut self,
        journal: Uuid,
        range: &CommittedRange,
        merged_below: Option<Position>,
    ) -> Result<(), BatchError> {
        let mut sql = String::new();
        if let Some(low_water) = merged_below {
            let last = to_sql(low_water);
            write!(
                sql,
                "with gone as (delete from tidegate.committed_ranges where journal_id = '{journal}' \
                 and last <= {last} returning first) \
                 insert into tidegate.committed_ranges (journal_id, first, last) \
                 select '{journal}', min(first), {last} from gone having count(*) > 0; "
            )
            .expect("writing to a String");
        }
        let (first, last) = (to_sql(range.first), to_sql(range.last));
        let duplicates = duplicates_literal(&range.duplicates);
        write!(
            sql,
            "insert into tidegate.committed_ranges (journal_id, first, last, duplicates) \
             values ('{journal}', {first}, {last}, {duplicates}); commit"
        )
        .expect("writing to a String");
        self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop).map_err(during("commit"))
    }

    /// Says goodbye to the server; for connections that are not in doubt.
    pub async fn close(self) {
        let _ = self.0.close().await;
    }

    async fn create_staging(&mut self, stream: &Stream, column_set: u32) -> Result<(), BatchError> {
        let sql = format!(
            "create temporary table if not exists {} on commit delete rows as select {} from {} with no data",
            staging(stream, column_set),
            columns(stream, column_set).join(", "),
            table(stream),
        );
        self.0
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map(drop)
            .map_err(during_stream("making the staging table", stream))
    }
}

fn during(doing: &str) -> impl Fn(sqlx::Error) -> BatchError {
    move |source| BatchError::Database { doing: doing.to_owned(), source }
}

fn during_stream(doing: &str, stream: &Stream) -> impl Fn(sqlx::Error) -> BatchError {
    let doing = format!("{doing} of stream {}", stream.name);
    move |source| BatchError::Database { doing: doing.clone(), source }
}

fn table(stream: &Stream) -> String {
    format!("streams.{}", quoted(stream.name.as_str()))
}

fn staging(stream: &Stream, column_set: u32) -> String {
    format!("pg_temp.staging_{}_{column_set}", stream.id.0)
}

/// The columns of a tuple, in order.
fn columns(stream: &Stream, column_set: u32) -> Vec<String> {
    let mut names = vec!["id".to_owned(), "received_at".to_owned()];
    match &stream.shape {
        Shape::Document { .. } => names.push("payload".to_owned()),
        Shape::Typed { columns, .. } => {
            names.push("extra".to_owned());
            names.extend(
                columns.iter().take(column_set as usize).map(|column| quoted(&column.name)),
            );
        }
    }
    names
}

fn copy_statement(target: Target<'_>) -> String {
    let (table, columns) = match target {
        Target::Stream { stream, column_set } => {
            (table(stream), columns(stream, column_set).join(", "))
        }
        Target::Staging { stream, column_set } => {
            (staging(stream, column_set), columns(stream, column_set).join(", "))
        }
        Target::Quarantine => ("tidegate.quarantine".to_owned(), quarantine::COLUMNS.to_owned()),
    };
    format!("copy {table} ({columns}) from stdin (format binary)")
}

/// Staged rows lie in the order of the journal, so `ctid` tells which of equal keys came first.
fn merge_statement(stream: &Stream, key: &Key, column_set: u32) -> String {
    let columns = columns(stream, column_set);
    let keys = key_expressions(stream, key).join(", ");
    let (order, action) = match key.on_duplicate {
        OnDuplicate::Ignore => ("asc", "do nothing".to_owned()),
        OnDuplicate::Replace => {
            let assignments: Vec<String> =
                columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            ("desc", format!("do update set {}", assignments.join(", ")))
        }
    };
    format!(
        "with merged as (
           insert into {table} ({columns})
           select distinct on ({keys}) {columns} from {staging} order by {keys}, ctid {order}
           on conflict ({keys}) {action}
           returning id, xmax = 0 as fresh)
         select width_bucket(id, $1::uuid[]), count(*) from merged where fresh group by 1",
        table = table(stream),
        columns = columns.join(", "),
        staging = staging(stream, column_set),
    )
}

/// The key as SQL; the stream's unique index is over the same expressions.
pub(super) fn key_expressions(stream: &Stream, key: &Key) -> Vec<String> {
    let expression = |field: &KeyField| match field {
        KeyField::Column(index) => quoted(&stream.columns()[*index].name),
        KeyField::Pointer(segments) => {
            let path: Vec<String> =
                segments.iter().map(|segment| crate::db::literal(segment)).collect();
            format!("(payload #>> array[{}]::text[])", path.join(", "))
        }
    };
    key.fields.iter().map(expression).collect()
}

fn duplicates_literal(duplicates: &BTreeMap<Position, u64>) -> String {
    if duplicates.is_empty() {
        return "null".to_owned();
    }
    let members: Vec<String> =
        duplicates.iter().map(|(position, count)| format!("\"{position}\":{count}")).collect();
    format!("'{{{}}}'", members.join(","))
}
