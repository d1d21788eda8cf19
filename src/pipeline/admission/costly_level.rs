//! How many batches of documents that PostgreSQL takes long over wait to be written: the writers say it, the intake heeds it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::telemetry::metrics;

/// While so many batches wait, a sender of more of their kind waits too, and is refused in the end.
pub const COSTLY_WAITING_MAX: usize = 64;

/// How many wait, over all sessions; clones are the same. Of a PostgreSQL that is away nothing is known.
#[derive(Debug, Clone, Default)]
pub struct CostlyLevel(watch::Sender<usize>);

impl CostlyLevel {
    /// Waits until few enough batches wait; false if that takes longer than `limit`.
    pub async fn falls(&self, limit: Duration) -> bool {
        let mut level = self.0.subscribe();
        let few = level.wait_for(|waiting| *waiting < COSTLY_WAITING_MAX);
        timeout(limit, few).await.is_ok()
    }

    pub fn set(&self, waiting: usize) {
        self.0.send_replace(waiting);
        metrics::set_costly_batches(waiting);
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        *self.0.borrow()
    }
}
