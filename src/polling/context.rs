//! The polling context: what the runs of polling jobs share on a node.

use std::sync::Arc;
use std::time::Duration;

use tidegate_record::Position;
use tidegate_record::clock::Clock;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::counters::Counters;
use crate::db::Pool;
use crate::ingest::encoders::Encoders;
use crate::lifecycle::Lifecycle;
use crate::outbound::Sealer;
use crate::pipeline::{Intake, Progress, QuarantineBudget};
use crate::polling::ask::Fetcher;

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

/// Days after which an item that no answer had is forgotten; None: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryDays(pub Option<u16>);

/// Clones share everything.
#[derive(Clone)]
pub struct PollingContext {
    pub pool: Pool,
    /// The journal that the runs write through; it stands for this node in leases.
    pub journal: Uuid,
    pub node: String,
    pub catalog: Catalog,
    pub intake: Intake,
    pub encoders: Encoders,
    pub counters: Counters,
    pub committed: Progress,
    pub quarantine: QuarantineBudget,
    /// Where the journal ended when this process began.
    pub synced_at_start: Position,
    pub fetcher: Fetcher,
    pub sealer: Arc<Sealer>,
    pub clock: Clock,
    pub lifecycle: Lifecycle,
    pub limits: PollLimits,
    /// Told when a request made a job due.
    pub wake: Arc<Notify>,
}
