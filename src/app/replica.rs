//! The replica that takes reads of records, where one is named.

use std::time::Duration;

use anyhow::Context;

use crate::api::AppState;
use crate::config;
use crate::db::replica::Replica;

/// What the settings name; connects to nothing.
pub(super) fn named(config: &config::Reading) -> anyhow::Result<Option<Replica>> {
    let url = config.database_replica_url.as_deref().filter(|url| !url.is_empty());
    let lag_max = Duration::from_secs(config.database_replica_lag_seconds_max);
    let replica = url.map(|url| Replica::new(url, lag_max)).transpose();
    replica.context("the replica's URL (DATABASE_REPLICA_URL) cannot be read")
}

/// Looks after it until shutdown.
pub(super) fn watch(state: &AppState) {
    let Some(replica) = state.replica.clone() else { return };
    let watching = replica.watch(state.database.clone());
    let soft = state.lifecycle.soft().clone();
    state.lifecycle.spawn("replica", async move {
        let _ = soft.run_until_cancelled(watching).await;
    });
}
