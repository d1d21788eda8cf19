//! Asking: a transaction that only reads, and the rows that are copied out of it.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Postgres};
use tidegate_codec::Stream;
use tidegate_codec::decode::DecodeError;
use tidegate_codec::rows::{CopiedTuples, RowFormat, RowWriter};
use tidegate_query::{Count, FacetsPlan, OrderValues, RecordsPlan, TrendPlan};
use tokio::sync::mpsc::Sender;

use super::statement::{HiddenColumns, RecordShape, Statement};
use super::table::ReadTable;
use crate::db::answer::within;
use crate::db::answered;
use crate::db::pool::PgPool;
use crate::db::sql::PLAIN_TEXTS;

/// A guess that is smaller is made exact.
const ESTIMATE_EXACT_MAX: i64 = 10_000;
/// How much longer than PostgreSQL may take an answer is waited for: a line that went silent does not say so.
const LINE_MAX: Duration = Duration::from_secs(5);

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// PostgreSQL's rows are not what was asked for.
    #[error("PostgreSQL's rows have another form: {0}")]
    Form(#[from] DecodeError),
    #[error("PostgreSQL's rows do not come as COPY has them")]
    NoCopy,
    #[error("there is no room for so large a record")]
    NoRoom,
}

/// A transaction that only reads one stream's table, whose columns stay as they are until it is over.
///
/// A connection that was given up midway is closed: what PostgreSQL would still send nobody reads.
#[derive(Debug)]
pub struct Reading<'a> {
    connection: PoolConnection<Postgres>,
    stream: &'a Stream,
    table: ReadTable,
    /// Longest wait for any answer: a little longer than PostgreSQL may take for it.
    wait_max: Duration,
    is_over: bool,
}

/// The rows of a page.
#[derive(Debug)]
pub struct Page {
    /// Objects with commas between them.
    pub json: Vec<u8>,
    pub records: u64,
    /// The order's values of its last record, if another comes behind it.
    pub last: Option<OrderValues>,
}

/// Asks for room in memory for so many bytes in all; false: there is none. Most rows are small, and need no more than their
/// reader has; a large one is held as it comes and as it is shown.
pub type Room<'a> = &'a mut (dyn FnMut(usize) -> bool + Send);

/// How often a row is held for a moment: as it comes, as it is shown, and twice that while its buffer grows.
const ROW_HELD_TIMES: usize = 4;

/// What a page may hold.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    pub records: u32,
    /// A page ends before it has more bytes, but has one record at least.
    pub bytes: usize,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}

impl<'a> Reading<'a> {
    /// Begins it; `timeout` is for each of its statements.
    pub async fn begin(
        pool: &PgPool,
        stream: &'a Stream,
        timeout: Duration,
    ) -> Result<Reading<'a>, ReadError> {
        let mut connection = pool.acquire().await?;
        let milliseconds = timeout.as_millis();
        let sql = format!(
            "begin isolation level repeatable read read only; set local statement_timeout = {milliseconds}"
        );
        let begun = answered(connection.execute(sqlx::raw_sql(AssertSqlSafe(sql)))).await;
        let table = match begun {
            Ok(_) => answered(ReadTable::lock(&mut connection, stream)).await,
            Err(error) => Err(error),
        };
        match table {
            Ok(table) => {
                let wait_max = timeout + LINE_MAX;
                Ok(Reading { connection, stream, table, wait_max, is_over: false })
            }
            Err(error) => {
                connection.close_on_drop();
                Err(error.into())
            }
        }
    }

    /// Ends it, so that the connection can be used again.
    pub async fn finish(mut self) {
        let ended = answered(self.connection.execute(sqlx::raw_sql("commit"))).await;
        self.is_over = ended.is_ok();
    }

    /// A page of records.
    pub async fn page(
        &mut self,
        plan: &RecordsPlan,
        limits: PageLimits,
        room: Room<'_>,
    ) -> Result<Page, ReadError> {
        let shape = RecordShape { is_flat: false, is_ordered: true, hidden: HiddenColumns::Order };
        let limit = Some(u64::from(limits.records) + 1);
        let statement = Statement::records(plan, self.stream, &self.table, limit, shape);
        let mut writer = RowWriter::new(RowFormat::Json, statement.columns.clone());
        let mut json = Vec::new();
        let mut rows = CopiedRows::begin(&mut self.connection, &statement, self.wait_max).await?;
        while let Some(tuples) = rows.next().await? {
            let is_full = writer.rows() >= u64::from(limits.records);
            if is_full || (writer.rows() > 0 && json.len() + tuples.len() > limits.bytes) {
                let last = Some(writer.hidden().to_vec());
                return Ok(Page { json, records: writer.rows(), last });
            }
            if !room(json.len() + ROW_HELD_TIMES * tuples.len()) {
                return Err(ReadError::NoRoom);
            }
            let taken = writer.row(tuples, &mut json)?;
            rows.advance(taken);
        }
        Ok(Page { json, records: writer.rows(), last: None })
    }

    /// The one record of a plan, as a JSON object, with its hash; None if there is none.
    pub async fn one(
        &mut self,
        plan: &RecordsPlan,
        room: Room<'_>,
    ) -> Result<Option<(Vec<u8>, String)>, ReadError> {
        answered(self.connection.execute(sqlx::raw_sql(PLAIN_TEXTS))).await?;
        let shape = RecordShape { is_flat: false, is_ordered: false, hidden: HiddenColumns::Hash };
        let statement = Statement::records(plan, self.stream, &self.table, Some(1), shape);
        let mut writer = RowWriter::new(RowFormat::Json, statement.columns.clone());
        let mut json = Vec::new();
        let mut rows = CopiedRows::begin(&mut self.connection, &statement, self.wait_max).await?;
        while let Some(tuples) = rows.next().await? {
            if !room(json.len() + ROW_HELD_TIMES * tuples.len()) {
                return Err(ReadError::NoRoom);
            }
            let taken = writer.row(tuples, &mut json)?;
            rows.advance(taken);
        }
        let hash = writer.hidden().last().cloned().flatten();
        Ok(hash.map(|hash| (json, hash)))
    }

    /// How many records a plan's condition is true of, without its page.
    pub async fn count(&mut self, plan: &RecordsPlan, how: Count) -> Result<i64, ReadError> {
        let sql = Statement::count(plan, self.stream);
        if how != Count::Exact {
            let asking = planned_rows(&mut self.connection, &sql);
            let guess = within(self.wait_max, asking).await?;
            if how == Count::Planned || guess > ESTIMATE_EXACT_MAX {
                return Ok(guess);
            }
        }
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
        Ok(within(self.wait_max, query.fetch_one(&mut *self.connection)).await?)
    }

    /// The rows of a trend, written in this format, and how many there are; of more than `rows_max` one too many.
    pub async fn trend(
        &mut self,
        plan: &TrendPlan,
        format: RowFormat,
        rows_max: u32,
        room: Room<'_>,
    ) -> Result<(Vec<u8>, u64), ReadError> {
        let limit = plan.limit.map_or(u64::from(rows_max) + 1, u64::from);
        let statement = Statement::trend(plan, self.stream, &self.table, limit);
        self.whole(&statement, format, room).await
    }

    /// The most frequent values of one of the plan's columns: JSON objects with commas between them.
    pub async fn facet(
        &mut self,
        plan: &FacetsPlan,
        column: usize,
        room: Room<'_>,
    ) -> Result<Vec<u8>, ReadError> {
        let statement = Statement::facet(plan, column, self.stream, &self.table);
        Ok(self.whole(&statement, RowFormat::Json, room).await?.0)
    }

    async fn whole(
        &mut self,
        statement: &Statement,
        format: RowFormat,
        room: Room<'_>,
    ) -> Result<(Vec<u8>, u64), ReadError> {
        let mut writer = RowWriter::new(format, statement.columns.clone());
        let mut out = Vec::new();
        writer.begin(&mut out);
        let mut rows = CopiedRows::begin(&mut self.connection, statement, self.wait_max).await?;
        while let Some(tuples) = rows.next().await? {
            if !room(out.len() + ROW_HELD_TIMES * tuples.len()) {
                return Err(ReadError::NoRoom);
            }
            let taken = writer.row(tuples, &mut out)?;
            rows.advance(taken);
        }
        Ok((out, writer.rows()))
    }

    /// Copies out all records of a plan, in pieces of about `piece_bytes`, as far as they are taken.
    pub async fn copy(
        &mut self,
        plan: &RecordsPlan,
        format: RowFormat,
        piece_bytes: usize,
        pieces: &Sender<Bytes>,
        room: Room<'_>,
    ) -> Result<u64, ReadError> {
        let shape = RecordShape {
            is_flat: format == RowFormat::Csv,
            is_ordered: plan.is_ordered || plan.limit.is_some() || plan.after.is_some(),
            hidden: HiddenColumns::None,
        };
        let limit = plan.limit.map(u64::from);
        let statement = Statement::records(plan, self.stream, &self.table, limit, shape);
        let mut writer = RowWriter::new(format, statement.columns.clone());
        let mut piece = Vec::with_capacity(piece_bytes);
        writer.begin(&mut piece);
        let mut rows = CopiedRows::begin(&mut self.connection, &statement, self.wait_max).await?;
        while let Some(tuples) = rows.next().await? {
            if !room(2 * piece_bytes + ROW_HELD_TIMES * tuples.len()) {
                return Err(ReadError::NoRoom);
            }
            let taken = writer.row(tuples, &mut piece)?;
            rows.advance(taken);
            if piece.len() >= piece_bytes {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(piece_bytes));
                if pieces.send(full.into()).await.is_err() {
                    return Ok(writer.rows());
                }
            }
        }
        drop(rows);
        let _ = pieces.send(piece.into()).await;
        Ok(writer.rows())
    }
}

/// The rows that PostgreSQL's planner expects of what a count would count.
async fn planned_rows(connection: &mut PgConnection, sql: &str) -> Result<i64, sqlx::Error> {
    let counted = sql.replacen("select count(*)", "select 1", 1);
    let sql = format!("explain (format json) {counted}");
    let plan: serde_json::Value =
        sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
    Ok(plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_i64).unwrap_or(0))
}

/// The tuples of a COPY, one after the other.
struct CopiedRows<'c> {
    pieces: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    copied: CopiedTuples,
    piece: Bytes,
    wait_max: Duration,
}

impl<'c> CopiedRows<'c> {
    async fn begin(
        connection: &'c mut PgConnection,
        statement: &Statement,
        wait_max: Duration,
    ) -> Result<CopiedRows<'c>, ReadError> {
        let sql = statement.copy();
        let pieces = within(wait_max, connection.copy_out_raw(&sql)).await?;
        Ok(CopiedRows { pieces, copied: CopiedTuples::default(), piece: Bytes::new(), wait_max })
    }

    /// Bytes that begin with the next tuple; None when there are no more.
    async fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        while self.piece.is_empty() {
            let Some(mut piece) = within(self.wait_max, self.pieces.try_next()).await? else {
                return if self.copied.is_over() { Ok(None) } else { Err(ReadError::NoCopy) };
            };
            let tuples = self.copied.tuples(&piece).ok_or(ReadError::NoCopy)?.len();
            piece.advance(piece.len() - tuples);
            self.piece = piece;
        }
        Ok(Some(&self.piece))
    }

    /// So many bytes were taken.
    fn advance(&mut self, bytes: usize) {
        self.piece.advance(bytes);
    }
}
