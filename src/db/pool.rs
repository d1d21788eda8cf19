//! A pool whose answers come in time or not at all.
//!
//! Invariant: no statement that is asked of a pool waits without an end, from any caller and whatever becomes of the line: the
//! limit is in the type, so that no caller can forget it. What begins a transaction, or takes a connection out, says
//! [`answered`](super::answered) around all of it.

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, Postgres, SqlStr, Transaction};
use tokio::time::{Instant, timeout_at};

use crate::db::answer::{ANSWER_TIMEOUT, answered, silent};

/// It has the name of the library's pool, whose place it takes in [`crate::db`]. Clones are the same.
#[derive(Debug, Clone)]
pub struct PgPool(sqlx::PgPool);

impl From<sqlx::PgPool> for PgPool {
    fn from(pool: sqlx::PgPool) -> PgPool {
        PgPool(pool)
    }
}

impl PgPool {
    /// Begins a transaction; waiting for what is asked in it has no limit of its own.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        // On the heap, because making a connection is in it.
        Box::pin(answered(self.0.begin())).await
    }

    /// A connection; waiting for what is asked of it has no limit of its own.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        Box::pin(answered(self.0.acquire())).await
    }

    /// For what listens, which waits for words and not for answers.
    pub(super) fn for_listening(&self) -> &sqlx::PgPool {
        &self.0
    }

    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}

type Step = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

/// The steps of an answer, up to an error if the last does not come in time.
fn in_time<'e>(steps: BoxStream<'e, Step>) -> BoxStream<'e, Step> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let next = move |steps: Option<BoxStream<'e, Step>>| async move {
        let mut steps = steps?;
        match timeout_at(deadline, steps.next()).await {
            Ok(step) => Some((step?, Some(steps))),
            Err(_elapsed) => Some((Err(silent(ANSWER_TIMEOUT)), None)),
        }
    };
    stream::unfold(Some(steps), next).boxed()
}

impl<'p> Executor<'p> for &'_ PgPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        in_time(self.0.fetch_many(query))
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(answered(self.0.fetch_optional(query)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(answered(self.0.prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(answered(self.0.describe(sql)))
    }
}
