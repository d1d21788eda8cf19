//! `GET /metrics`: Prometheus' text format. No authentication: it tells counts and names of streams, no records.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::api::{AppState, health, status};
use crate::record::Source;
use crate::telemetry::metrics::{self, Gauges, SourceCounts, StreamCounts};

/// The exposition format's own content type.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn show(State(state): State<AppState>) -> impl IntoResponse {
    let load = status::node_load(&state.journal, &state.progress, &state.clock);
    let (intake_bytes, intake_entries) = state.source.intake.fill();
    let limits = state.source.intake.limits();
    let hub = state.hub.metrics();
    metrics::set_gauges(&Gauges {
        connections: state.connections.open(),
        request_memory_bytes: state.held_bytes.held(),
        request_memory_bytes_limit: state.held_bytes.max(),
        intake_entries,
        intake_entries_limit: limits.entries_max,
        intake_bytes,
        intake_bytes_limit: limits.bytes_max,
        idempotency_keys: state.source.keys.count(),
        idempotency_keys_limit: state.config.intake.idempotency_keys_max,
        journal_bytes: state.journal.bytes(),
        journal_bytes_limit: state.config.journal.journal_bytes_max,
        journal_failed: state.appender.failure().is_some(),
        journal_damages: state.journal.damages().count(),
        journal_backlog_bytes: load.backlog_bytes,
        disk_free_bytes: state.journal.disk_free_bytes().ok(),
        commit_lag_seconds: load.commit_lag_seconds,
        ready: health::readiness(&state).ready,
        partitions_behind: state.catalog.partitions_behind().len(),
        monitors: state.hub.monitors(),
        monitor_frames_held_bytes: state.hub.frames_bytes(),
        monitor_frames_held_bytes_limit: state.hub.limits().frames_bytes_max,
        monitor_frames: hub.frames(),
        monitor_deliveries: hub.deliveries(),
        monitor_gaps: hub.gaps(),
        monitor_gap_records: hub.gap_records(),
    });
    let streams = metrics::render_streams(&stream_counts(&state));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.render() + &streams)
}

/// The counters of every stream that is there and had traffic.
fn stream_counts(state: &AppState) -> Vec<StreamCounts> {
    let snapshot = state.catalog.streams().snapshot();
    let (counters, parked) = (state.counters.all(), state.parking.show());
    let known = counters.iter().filter_map(|(id, counters)| Some((snapshot.by_id(*id)?, counters)));
    let counts = known.map(|(stream, counters)| {
        let totals = counters.totals();
        let parts = Source::ALL.map(|source| (source, counters.of_source(source)));
        let sources = parts.into_iter().filter(|(_, part)| part.accepted + part.quarantined > 0);
        StreamCounts {
            stream: stream.name.to_string(),
            committed: totals.committed,
            duplicates: totals.duplicates,
            refused: totals.refused,
            parked: parked.get(&stream.id).map_or(0, |parked| parked.records),
            sources: sources
                .map(|(source, part)| SourceCounts {
                    source: source.as_str(),
                    accepted: part.accepted,
                    quarantined: part.quarantined,
                    bytes: part.bytes,
                })
                .collect(),
        }
    });
    counts.collect()
}
