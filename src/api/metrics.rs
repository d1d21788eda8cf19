//! `GET /metrics`: Prometheus' text format. No authentication: it tells counts and names of streams, no records.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::api::{AppState, health, status};
use crate::record::Source;
use crate::telemetry::metrics::{self, Gauges};

/// The exposition format's own content type.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn show(State(state): State<AppState>) -> impl IntoResponse {
    set_streams(&state);
    let load = status::node_load(&state.journal, &state.progress, &state.clock);
    let (intake_bytes, intake_entries) = state.source.intake.fill();
    let limits = state.source.intake.limits();
    let hub = state.hub.metrics();
    metrics::set_gauges(&Gauges {
        connections: state.connections.open(),
        intake_entries,
        intake_entries_limit: limits.entries_max,
        intake_bytes,
        intake_bytes_limit: limits.bytes_max,
        journal_bytes: state.journal.bytes(),
        journal_bytes_limit: state.config.journal.journal_bytes_max,
        journal_backlog_bytes: load.backlog_bytes,
        commit_lag_seconds: load.commit_lag_seconds,
        ready: health::readiness(&state).ready,
        monitors: state.hub.monitors(),
        monitor_frames: hub.frames(),
        monitor_deliveries: hub.deliveries(),
        monitor_gaps: hub.gaps(),
        monitor_gap_records: hub.gap_records(),
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.render())
}

fn set_streams(state: &AppState) {
    let snapshot = state.catalog.streams().snapshot();
    for (id, counters) in state.counters.all() {
        let Some(stream) = snapshot.by_id(id) else {
            continue;
        };
        let totals = counters.totals();
        metrics::set_stream(stream.name.as_str(), totals.committed, totals.duplicates);
        for source in Source::ALL {
            let part = counters.of_source(source);
            if part.accepted + part.quarantined > 0 {
                metrics::set_source(
                    stream.name.as_str(),
                    source.as_str(),
                    part.accepted,
                    part.quarantined,
                    part.bytes,
                );
            }
        }
    }
}
