//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_journal::Journal;
use tidegate_record::clock::Clock;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::api::bodies::MemoryBudget;
use crate::api::connections::Connections;
use crate::api::read::reply_cache::ReplyCache;
use crate::api::user_semaphore::UserSemaphore;
use crate::auth::Auth;
use crate::catalog::Catalog;
use crate::config::{Config, Setting};
use crate::counters::Counters;
use crate::db::Database;
use crate::db::replica::Replica;
use crate::hub::Hub;
use crate::ingest::Ingest;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{AppenderThread, DatabaseState, Parking, Progress};
use crate::polling::PollingContext;
use crate::polling::ask::Previews;

/// The running parts. A clone is one count more, because the router makes several for each request.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// Handles to the running parts.
pub struct Parts {
    pub config: Arc<Config>,
    pub auth: Auth,
    pub database: Database,
    pub catalog: Catalog,
    pub ingest: Ingest,
    pub polling: PollingContext,
    pub previews: Previews,
    /// For asking for previews.
    pub previewers: UserSemaphore,
    /// For reading records.
    pub readers: UserSemaphore,
    /// The same for replies of any length.
    pub exporters: UserSemaphore,
    /// Where records are read, if there is one.
    pub replica: Option<Replica>,
    /// Of questions about records.
    pub reply_cache: ReplyCache,
    /// For lists of the quarantine and of streams' sizes.
    pub lists: UserSemaphore,
    /// For samples.
    pub samples: UserSemaphore,
    pub counters: Counters,
    pub journal: Journal,
    pub progress: Progress,
    pub appender: AppenderThread,
    pub parking: Parking,
    pub database_state: watch::Receiver<DatabaseState>,
    pub hub: Hub,
    pub clock: Clock,
    pub metrics: PrometheusHandle,
    pub connections: Connections,
    pub memory_budget: MemoryBudget,
    pub lifecycle: Lifecycle,
    pub started_at: OffsetDateTime,
    /// What it was started with, for people.
    pub settings: Vec<Setting>,
}

impl AppState {
    pub fn new(parts: Parts) -> AppState {
        AppState(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl FromRef<AppState> for Auth {
    fn from_ref(state: &AppState) -> Auth {
        state.auth.clone()
    }
}

impl FromRef<AppState> for MemoryBudget {
    fn from_ref(state: &AppState) -> MemoryBudget {
        state.memory_budget.clone()
    }
}
