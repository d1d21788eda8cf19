//! A writer: one connection's share of a session. It commits batch after batch, each in one transaction.
//!
//! What PostgreSQL refuses of a stream has the transaction begin again, with this stream's part bisected: see
//! [`super::bisect`]. How a batch is written stands in [`tables`].

mod keyed;
mod layouts;
mod part;
mod tables;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::tables::Tables;
use super::batch::Batch;
use super::context::CommitContext;
use super::error::{Failure, SessionError};
use super::lanes::Lanes;
use super::supply::{Supply, Work};
use crate::db::batch::BatchConnection;
use crate::db::journals::SessionMark;
use crate::telemetry::metrics;

/// A writer that has nothing to commit looks after its connection this often: a PostgreSQL that was set back while nothing
/// was sent is noticed while the journal still has what is missing.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Writer {
    context: CommitContext,
    connection: Option<BatchConnection>,
    mark: SessionMark,
    supply: Supply,
    tables: Tables,
}

impl Writer {
    pub fn new(
        context: CommitContext,
        connection: Option<BatchConnection>,
        mark: SessionMark,
        supply: Supply,
        lanes: Lanes,
    ) -> Writer {
        let tables = Tables::new(context.clone(), mark.epoch, lanes);
        Writer { context, connection, mark, supply, tables }
    }

    /// Commits batches until there are no more, or the session ends.
    pub async fn run(mut self, session: CancellationToken) -> Result<(), SessionError> {
        let ends_with_this_writer = session.clone().drop_guard();
        let result = self.commit_batches(&session).await;
        if result.is_ok() {
            // The batcher has ended: the others finish what they hold.
            ends_with_this_writer.disarm();
            if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        }
        result
    }

    async fn commit_batches(&mut self, session: &CancellationToken) -> Result<(), SessionError> {
        loop {
            let next = tokio::time::timeout(IDLE_LOOK_EVERY, self.next_work(session)).await;
            let limit = self.context.batch_timeout();
            // Giving up half way leaves the connection in doubt; it is dropped with this writer, never used again.
            let done = match next {
                Ok(Some(work)) => tokio::time::timeout(limit, self.commit_work(work)).await,
                Ok(None) => return Ok(()),
                Err(_idle) => tokio::time::timeout(limit, self.look()).await,
            };
            done.map_err(|_elapsed| SessionError::TimedOut(limit))??;
        }
    }

    async fn look(&mut self) -> Result<(), SessionError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        Ok(connection.check(self.context.journal.id(), self.mark).await?)
    }

    async fn next_work(&mut self, session: &CancellationToken) -> Option<Work> {
        tokio::select! {
            work = self.supply.next() => work,
            () = session.cancelled() => None,
        }
    }

    async fn commit_work(&mut self, work: Work) -> Result<(), SessionError> {
        match work {
            Work::Batch(batch) => self.commit(batch).await,
            Work::Aside(batch, _holding) => {
                let batch = batch.read(self.context.journal.clone()).await?;
                self.commit(batch).await
            }
        }
    }

    async fn commit(&mut self, mut batch: Batch) -> Result<(), SessionError> {
        let started = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.context.join(self.mark).await?,
        };
        let outcomes = loop {
            match self.tables.write(&mut connection, &mut batch).await {
                Ok(outcomes) => break outcomes,
                Err(Failure::Session(error)) => return Err(error),
                Err(Failure::Refused { streams, error }) => {
                    if !self.tables.refused(&streams, &error) {
                        return Err(error.into());
                    }
                    connection.rollback().await?;
                }
            }
        };
        self.connection = Some(connection);
        for (entry, outcome) in batch.entries.iter().zip(outcomes) {
            self.context.settle(entry, outcome);
        }
        self.context.commit(batch.first, batch.last, batch.bytes);
        for gate in batch.gates {
            let _ = gate.committed.send(());
        }
        metrics::record_batch(batch.rows, started.elapsed());
        Ok(())
    }
}
