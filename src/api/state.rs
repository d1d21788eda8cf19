//! What every handler can reach.

use std::sync::Arc;

use axum::extract::FromRef;
use metrics_exporter_prometheus::PrometheusHandle;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::api::server::ConnectionLimit;
use crate::auth::Auth;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::counters::Counters;
use crate::journal::Journal;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{AppenderThread, DatabaseState, Parking, Progress};
use crate::sources::http::HttpSource;

/// Handles to the running parts; clones are cheap and the same.
#[derive(Clone)]
pub struct AppState {
    pub config: Arc<Config>,
    pub auth: Auth,
    pub catalog: Catalog,
    pub source: HttpSource,
    pub counters: Counters,
    pub journal: Journal,
    pub progress: Progress,
    pub appender: AppenderThread,
    pub parking: Parking,
    pub database_state: watch::Receiver<DatabaseState>,
    pub hub: Hub,
    pub clock: Clock,
    pub metrics: PrometheusHandle,
    pub connections: ConnectionLimit,
    pub lifecycle: Lifecycle,
    pub started_at: OffsetDateTime,
}

impl FromRef<AppState> for Auth {
    fn from_ref(state: &AppState) -> Auth {
        state.auth.clone()
    }
}
