//! Copying rows of keyed streams straight into their tables, in the hope that every key is new.

use std::time::Duration;

use bytes::Bytes;
use tidegate_codec::{Key, Stream};
use tidegate_record::ColumnSet;

use super::connection::{BatchConnection, Savepoint};
use super::error::BatchError;
use super::statements::{Target, key_probe_statement};

/// Longest wait for a lock. What waits for a key of another transaction finds it taken in the end, so it may as well be
/// staged; and two that wait for each other are told apart before PostgreSQL looks for that (`deadlock_timeout`, 1 s).
const DIRECT_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

impl BatchConnection {
    /// Begins the part of the transaction that [`BatchConnection::undo_direct`] undoes.
    pub async fn begin_direct(&mut self) -> Result<(), BatchError> {
        let name = Savepoint::Direct.name();
        let timeout = DIRECT_LOCK_TIMEOUT.as_millis();
        self.command(&format!("savepoint {name}; set local lock_timeout = {timeout}")).await
    }

    /// Copies tuples of a keyed stream into its table; returns the rows that PostgreSQL counted. Fails where a key is
    /// taken, and where no unique index sees to the key any more: then a taken one would go unnoticed.
    pub async fn copy_direct(
        &mut self,
        stream: &Stream,
        key: &Key,
        column_set: ColumnSet,
        bodies: &[Bytes],
    ) -> Result<u64, BatchError> {
        self.command(&key_probe_statement(stream, key)).await?;
        self.copy(Target::Stream { stream, column_set }, bodies).await
    }

    /// Waits for locks as usual again.
    pub async fn end_direct(&mut self) -> Result<(), BatchError> {
        self.command("set local lock_timeout to default").await
    }

    /// Undoes everything since [`BatchConnection::begin_direct`].
    pub async fn undo_direct(&mut self) -> Result<(), BatchError> {
        self.roll_back_to(Savepoint::Direct).await
    }
}
