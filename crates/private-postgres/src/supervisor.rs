//! Keeps the private PostgreSQL alive: when the server dies, it is started again, ever more slowly while that fails.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use crate::backoff::Backoff;

/// How often the log is looked at; a server that lived this long was healthy, and its next restart is quick again.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

impl Cluster {
    /// Watches the server until `shutdown`, and starts it again whenever it dies. The server runs on afterwards;
    /// the caller may [`stop`](Cluster::stop) it.
    pub async fn supervise(&mut self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                healthy = self.watch() => if healthy {
                    backoff = Backoff::new();
                },
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.restart(&mut backoff) => {}
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
    async fn restart(&mut self, backoff: &mut Backoff) {
        loop {
            tokio::time::sleep(backoff.next_wait()).await;
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
