//! What every test needs: a PostgreSQL, a gateway, a client, a monitor, and waits that end.
//!
//! Nothing here sleeps to let something happen: [`eventually`] looks until a condition holds, and fails when it does
//! not within [`WAIT_MAX`].

mod api;
mod chaos_proxy;
mod client;
mod cluster;
pub mod command;
mod compress;
mod gateway;
mod items_api;
mod metrics;
mod oracle;
mod paused_clock;
pub mod people;
mod pooler;
mod seed;
mod small_disk;
pub mod watcher;

use std::time::Duration;

pub use api::{ALLOW_LOOPBACK, Answer, Api, Asked};
pub use chaos_proxy::{ChaosProxy, Cut, HeldCommit};
pub use client::{Client, Records, Reply};
pub use cluster::{OwnCluster, Stall, TestDatabase, connect, database};
pub use compress::{Compression, compressed};
pub use gateway::{Gateway, parse_position};
pub use items_api::ItemsApi;
pub use metrics::Metrics;
pub use oracle::{Counts, Load, Oracle, Verdict};
pub use paused_clock::PausedClock;
pub use pooler::Pooler;
pub use seed::Seed;
pub use small_disk::SmallDisk;

/// Longest wait for anything; much longer than it takes on a slow machine, shorter than a person waits for a test.
pub const WAIT_MAX: Duration = Duration::from_secs(45);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is an answer.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    let Ok(found) = tokio::time::timeout(WAIT_MAX, looking).await else {
        panic!("did not happen within {WAIT_MAX:?}: {what}");
    };
    found
}

/// Waits for something that must not take longer than [`WAIT_MAX`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(output) = tokio::time::timeout(WAIT_MAX, future).await else {
        panic!("did not end within {WAIT_MAX:?}: {what}");
    };
    output
}
