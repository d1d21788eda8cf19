//! The private PostgreSQL of a gateway that was given no other.

use std::path::Path;

use tidegate_private_postgres::{Cluster, ClusterOptions};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// The private PostgreSQL, which ends after everything else.
pub(super) struct RunningCluster {
    pub url: String,
    shutdown: CancellationToken,
    stopped: oneshot::Receiver<()>,
}

impl RunningCluster {
    /// Stops it in order; returns when it has stopped, or will not.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let _ = self.stopped.await;
    }
}

/// Starts the private PostgreSQL, and the task that keeps it running and stops it at the very end.
pub(super) async fn start_cluster(
    config: &Config,
    data_dir: &Path,
    lifecycle: &Lifecycle,
) -> anyhow::Result<RunningCluster> {
    let mut cluster = Cluster::start(&ClusterOptions {
        data_dir: data_dir.to_owned(),
        run_as: Some(config.database.postgres_user.clone()),
        binaries: config.database.postgres_bin.clone(),
        settings: Vec::new(),
    })
    .await?;
    let url = cluster.url();
    let (stopped_sender, stopped) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let until = shutdown.clone();
    lifecycle.spawn_detached("private postgresql", async move {
        cluster.supervise(&until).await;
        if let Err(error) = cluster.stop().await {
            tracing::error!(%error, "the private PostgreSQL was not stopped");
        }
        let _ = stopped_sender.send(());
    });
    Ok(RunningCluster { url, shutdown, stopped })
}
