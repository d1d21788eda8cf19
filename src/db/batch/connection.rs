//! A writer's connection, and what each batch does on it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tidegate_codec::Stream;
use tidegate_record::{Position, StreamId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::{BatchError, during, during_stream};
use super::statements::{Target, copy_statement};
use crate::db::journals::{CommittedRange, Fenced, SessionMark, fence, outcomes_literal, to_sql};
use crate::db::{Database, partitions, quarantine};

/// Tuples are gathered into messages of about this many bytes; larger entries are sent as they are.
const COPY_MESSAGE_BYTES: usize = 512 << 10;
/// What every binary COPY begins with: signature, flags, no header extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What every binary COPY ends with.
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// A writer's own connection.
#[derive(Debug)]
pub struct BatchConnection(pub(super) PgConnection);

/// How long PostgreSQL may take.
#[derive(Debug, Clone, Copy)]
pub struct BatchTimeouts {
    /// Longest time for one statement.
    pub statement: Duration,
    /// Longest wait for a lock, so that a locked table is noticed before it holds up others.
    pub lock: Duration,
}

/// A point in a transaction to which it can return.
#[derive(Debug, Clone, Copy)]
pub enum Savepoint {
    /// Before a stream's part of the batch.
    Part,
    /// Before some of its rows.
    Rows,
    /// Before keyed parts that are copied straight into their tables.
    Direct,
}

impl Savepoint {
    pub(super) fn name(self) -> &'static str {
        match self {
            Savepoint::Part => "part",
            Savepoint::Rows => "rows",
            Savepoint::Direct => "direct",
        }
    }
}

impl BatchConnection {
    pub async fn open(
        database: &Database,
        timeouts: BatchTimeouts,
    ) -> Result<BatchConnection, BatchError> {
        let own = database.connect(timeouts.statement, timeouts.lock).await?;
        match own.read_only {
            Some(read_only) => Err(BatchError::Unfit(read_only)),
            None => Ok(BatchConnection(own.connection)),
        }
    }

    /// See [`fence`].
    pub async fn fence(&mut self, journal: Uuid, node: &str) -> Result<Fenced, BatchError> {
        fence(&mut self.0, journal, node).await.map_err(during("reading the committed ranges"))
    }

    /// Opens the batch's transaction and holds the epoch for its length.
    pub async fn begin(&mut self, journal: Uuid, epoch: i64) -> Result<(), BatchError> {
        let sql = format!(
            "begin isolation level read committed; select epoch from tidegate.journals where id = '{journal}' for share"
        );
        let row = self
            .0
            .fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map_err(during("begin"))?;
        let found: Option<i64> = row.and_then(|row| row.try_get(0).ok());
        if found == Some(epoch) { Ok(()) } else { Err(BatchError::Fenced) }
    }

    /// Is the line there, to the server that the session began with? Waits for no lock.
    pub async fn check(&mut self, journal: Uuid, session: SessionMark) -> Result<(), BatchError> {
        let found: Option<(i64, OffsetDateTime)> = sqlx::query_as(
            "select epoch, pg_postmaster_start_time() from tidegate.journals where id = $1",
        )
        .bind(journal)
        .fetch_optional(&mut self.0)
        .await
        .map_err(during("looking after the session"))?;
        let found = found.map(|(epoch, server_started)| SessionMark { epoch, server_started });
        if found == Some(session) { Ok(()) } else { Err(BatchError::Fenced) }
    }

    /// Gives up the transaction after PostgreSQL refused a statement of it; the connection goes on.
    pub async fn rollback(&mut self) -> Result<(), BatchError> {
        self.command("rollback").await
    }

    pub async fn set_savepoint(&mut self, savepoint: Savepoint) -> Result<(), BatchError> {
        self.command(&format!("savepoint {}", savepoint.name())).await
    }

    /// Keeps what was done since the savepoint, and checks constraints that would otherwise wait for the commit, where
    /// it could not be told any more whose rows they are about.
    pub async fn release(&mut self, savepoint: Savepoint) -> Result<(), BatchError> {
        let name = savepoint.name();
        self.command(&format!("set constraints all immediate; release savepoint {name}")).await
    }

    /// Checks the constraints that wait for the commit, for all that was written so far.
    pub async fn check_constraints(&mut self) -> Result<(), BatchError> {
        self.command("set constraints all immediate").await
    }

    /// Undoes what was done since the savepoint, and forgets it.
    pub async fn roll_back_to(&mut self, savepoint: Savepoint) -> Result<(), BatchError> {
        let name = savepoint.name();
        self.command(&format!("rollback to savepoint {name}; release savepoint {name}")).await
    }

    /// The connection itself, for what other tables of the gateway need in the same transaction.
    pub(in crate::db) fn as_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    pub(super) async fn command(&mut self, sql: &str) -> Result<(), BatchError> {
        self.0
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .map(drop)
            .map_err(during(sql))
    }

    /// Is the stream known to have been deleted?
    pub async fn is_deleted(&mut self, stream: StreamId) -> Result<bool, BatchError> {
        sqlx::query_scalar(
            "select exists (select from tidegate.streams where id = $1 and deleted_at is not null)",
        )
        .bind(stream)
        .fetch_one(&mut self.0)
        .await
        .map_err(during("looking for a stream"))
    }

    /// Makes the daily partition of a stream with retention, unless it is there.
    pub async fn ensure_partition(
        &mut self,
        stream: &Stream,
        day: time::Date,
    ) -> Result<(), BatchError> {
        partitions::ensure(&mut self.0, stream, day)
            .await
            .map_err(during_stream("making a partition", stream))
    }

    /// Copies tuples; returns the rows that PostgreSQL counted.
    pub async fn copy(&mut self, target: Target<'_>, bodies: &[Bytes]) -> Result<u64, BatchError> {
        if let Target::Staging(staged) = target {
            self.create_staging(staged).await?;
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

    /// Takes records out of the quarantine that this batch replays, whatever becomes of them in it.
    pub async fn delete_replayed(&mut self, ids: &[Uuid]) -> Result<(), BatchError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.command(&quarantine::delete_statement(ids)).await
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
        let outcomes = outcomes_literal(&range.outcomes);
        write!(
            sql,
            "insert into tidegate.committed_ranges (journal_id, first, last, outcomes) \
             values ('{journal}', {first}, {last}, {outcomes}); commit"
        )
        .expect("writing to a String");
        self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop).map_err(during("commit"))
    }

    /// Commits what came from the table `parked`, whose part of the journal was committed when it was put there.
    pub async fn commit_drained(&mut self) -> Result<(), BatchError> {
        self.command("commit").await
    }

    /// Says goodbye to the server; for connections that are not in doubt.
    pub async fn close(self) {
        let _ = self.0.close().await;
    }
}
