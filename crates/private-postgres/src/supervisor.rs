//! Keeps the private PostgreSQL alive: when the server dies, it is started again, with exponential backoff.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;

/// How often the log is looked at; a server that lived this long was healthy, and its next restart is quick again.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// First wait before a restart.
const RESTART_WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a restart, but for its jitter.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);

impl Cluster {
    /// Watches the server until `shutdown`, and starts it again whenever it dies. The server runs on afterwards;
    /// the caller may [`stop`](Cluster::stop) it.
    pub async fn supervise(&mut self, shutdown: &CancellationToken) {
        let mut waits = restart_waits();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                healthy = self.watch() => if healthy {
                    waits = restart_waits();
                },
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.restart(&mut waits) => {}
            }
        }
    }

    /// Returns when the server has died; true if it had been healthy before.
    async fn watch(&mut self) -> bool {
        let mut healthy = false;
        loop {
            let pid = self.pid();
            if let Ok(how) = timeout(LOOK_INTERVAL, self.postmaster.ended()).await {
                tracing::error!(pid, how, "the private PostgreSQL died; starting it again");
                return healthy;
            }
            healthy = true;
            self.log().trim().await;
        }
    }

    /// Tries until the server accepts connections again.
    async fn restart(&mut self, waits: &mut ExponentialBackoff) {
        loop {
            tokio::time::sleep(waits.next().unwrap_or(RESTART_WAIT_MAX)).await;
            match self.revive().await {
                Ok(()) => {
                    tracing::info!(pid = self.pid(), "the private PostgreSQL is back");
                    return;
                }
                Err(error) => tracing::error!(%error, "cannot start the private PostgreSQL"),
            }
        }
    }
}

fn restart_waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RESTART_WAIT_MIN)
        .with_max_delay(RESTART_WAIT_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
