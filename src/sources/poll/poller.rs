//! What the runs of polling jobs share.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tidegate_codec::definition::{self, InvalidDefinition};
use tidegate_codec::{OnDuplicate, Stream, StreamName};
use tidegate_record::Position;
use tidegate_record::clock::Clock;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::counters::Counters;
use crate::db::streams::{NewStream, TableError};
use crate::ingest::encoders::Encoders;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{Intake, Progress, QuarantineRoom};
use crate::sources::poll::definition::{Definition, OnChange};
use crate::sources::poll::fetch::Fetcher;
use crate::sources::poll::memory::MemoryDays;
use crate::sources::poll::sealer::Sealer;

/// Limits of a node's runs.
#[derive(Debug, Clone, Copy)]
pub struct PollLimits {
    /// Most runs at once.
    pub runs_max: usize,
    /// Without a word from its node for this long, a run is taken over by another.
    pub lease: Duration,
    /// Longest time that one run asks.
    pub run_time_max: Duration,
    pub memory: MemoryDays,
}

/// Clones share everything.
#[derive(Clone)]
pub struct Poller {
    pub pool: PgPool,
    /// The journal that the runs write through; it stands for this node in leases.
    pub journal: Uuid,
    pub node: String,
    pub catalog: Catalog,
    pub intake: Intake,
    pub encoders: Encoders,
    pub counters: Counters,
    pub committed: Progress,
    pub quarantine: QuarantineRoom,
    /// Where the journal ended when this process began.
    pub synced_at_start: Position,
    pub fetcher: Fetcher,
    pub sealer: Arc<Sealer>,
    pub clock: Clock,
    pub lifecycle: Lifecycle,
    pub limits: PollLimits,
    /// Told when a job became due by somebody's doing.
    pub nudge: Arc<Notify>,
}

/// Why a stream cannot take a job's items.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    #[error(
        "`on_change` is replace, but the stream {0} was made without `on_duplicate` replace, so nothing in it can be replaced"
    )]
    NotReplacing(StreamName),
    #[error("the stream for it cannot be made: {0}")]
    Definition(#[from] InvalidDefinition),
    #[error("the stream for it cannot be made: {0}")]
    Table(TableError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// It was deleted at the same moment.
    #[error("the stream {0} is not there")]
    Gone(StreamName),
}

impl From<TableError> for DestinationError {
    fn from(error: TableError) -> DestinationError {
        match error {
            TableError::Database(error) => DestinationError::Database(error),
            error => DestinationError::Table(error),
        }
    }
}

impl Poller {
    /// The stream that a job feeds; made, if it is not there, for the job's owner.
    pub async fn destination(
        &self,
        name: &StreamName,
        definition: &Definition,
        owner: Option<i64>,
    ) -> Result<Arc<Stream>, DestinationError> {
        if let Some(stream) = self.catalog.streams().by_name(name) {
            check_fit(&stream, definition)?;
            return Ok(stream);
        }
        let replaces = definition.on_change == OnChange::Replace;
        let defined = definition::StreamDefinition {
            key: replaces.then(|| definition.key.iter().map(ToString::to_string).collect()),
            on_duplicate: replaces.then_some(OnDuplicate::Replace),
            ..definition::StreamDefinition::default()
        };
        let defined = defined.check()?;
        let new = NewStream {
            name: name.clone(),
            shape: defined.shape,
            key: defined.key,
            retention_days: defined.retention_days,
            created_by: owner,
        };
        let stream = self.catalog.create_or_find(&new).await?;
        let stream = stream.ok_or_else(|| DestinationError::Gone(name.clone()))?;
        check_fit(&stream, definition)?;
        Ok(stream)
    }
}

/// A job that replaces needs a stream that does. Any other takes a keyed stream as it is: what becomes of a changed item
/// is for the stream's key to say.
fn check_fit(stream: &Stream, definition: &Definition) -> Result<(), DestinationError> {
    let replaces = stream.key.as_ref().is_some_and(|key| key.on_duplicate == OnDuplicate::Replace);
    if definition.on_change == OnChange::Replace && !replaces {
        return Err(DestinationError::NotReplacing(stream.name.clone()));
    }
    Ok(())
}
