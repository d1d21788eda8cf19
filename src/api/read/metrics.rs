//! `GET /metrics`: Prometheus' text format. It tells counts and names of streams, no records; to every client, unless
//! the setting `TIDEGATE_METRICS_TOKEN` asks for a token.

use axum::extract::{Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use tidegate_record::{Source, StreamId};

use crate::api::caller::authenticate;
use crate::api::connections::Requester;
use crate::api::read::health::{self, Audience};
use crate::api::read::status;
use crate::api::{ApiError, AppState};
use crate::auth::{Scope, SecretHash};
use crate::counters::{StreamCounters, StreamTotals};
use crate::telemetry::metrics::{self, Gauges, SourceCounts, StreamCounts};

/// The exposition format's own content type.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 200 with the text; 401 or 403 where a token is asked for and another was given.
pub async fn show(
    State(state): State<AppState>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    check_access(&state, &request.into_parts().0).await?;
    let load = status::node_load(&state.journal, &state.progress, &state.clock);
    let (intake_bytes, intake_entries) = state.ingest.intake.fill();
    let limits = state.ingest.intake.limits();
    let hub = state.hub.metrics();
    let connections = state.connections.counts();
    let quarantine = &state.ingest.quarantine;
    let (kept, kept_limit) = (quarantine.level(), quarantine.limits().all);
    metrics::set_gauges(&Gauges {
        connections: state.connections.open(),
        connections_limit: state.connections.max(),
        connections_silent: connections.silent,
        connections_unread: connections.unread,
        request_memory_bytes: state.memory_budget.held(),
        request_memory_bytes_limit: state.memory_budget.max(),
        intake_entries,
        intake_entries_limit: limits.entries_max,
        intake_bytes,
        intake_bytes_limit: limits.bytes_max,
        idempotency_keys: state.ingest.keys.count(),
        idempotency_keys_limit: state.config.intake.idempotency_keys_max,
        quarantine_records: kept.records,
        quarantine_records_limit: kept_limit.records,
        quarantine_bytes: kept.bytes,
        quarantine_bytes_limit: kept_limit.bytes,
        quarantine_accepted_records: quarantine.accepted().records,
        journal_bytes: state.journal.bytes(),
        journal_bytes_limit: state.config.journal.journal_bytes_max,
        journal_failed: state.appender.failure().is_some(),
        journal_damages: state.journal.damages().count(),
        journal_backlog_bytes: load.backlog_bytes,
        disk_free_bytes: state.journal.disk_free_bytes().ok(),
        commit_lag_seconds: load.commit_lag_seconds,
        ready: health::readiness(&state, Audience::Public).ready,
        partitions_behind: state.catalog.partitions_behind().len(),
        streams: state.catalog.streams().snapshot().len(),
        streams_limit: state.config.access.streams_max,
        monitors: state.hub.monitors(),
        monitor_frames_held_bytes: state.hub.frames_bytes(),
        monitor_frames_held_bytes_limit: state.hub.limits().frames_bytes_max,
        monitor_frames: hub.frames(),
        monitor_deliveries: hub.deliveries(),
        monitor_gaps: hub.gaps(),
        monitor_gap_records: hub.gap_records(),
    });
    let streams = metrics::render_streams(&stream_counts(&state));
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.render() + &streams))
}

/// The token of the metrics, or a credential that may read every stream: that sees the same in the status.
async fn check_access(state: &AppState, parts: &Parts) -> Result<(), ApiError> {
    let Some(token) = state.config.access.metrics_token() else { return Ok(()) };
    let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if given.is_some_and(|(_, given)| SecretHash::of(given.trim()).matches(&SecretHash::of(token)))
    {
        Requester::of(&parts.extensions).recognize();
        return Ok(());
    }
    let caller = authenticate(parts, state).await?;
    caller.require(Scope::Read)?;
    if caller.streams.is_some() {
        let detail = "the metrics tell of every stream, and this token is for some";
        return Err(ApiError::forbidden("stream_not_allowed", detail));
    }
    Ok(())
}

/// The counters of every stream that is there and had traffic; beyond as many as have names, those of the others together.
fn stream_counts(state: &AppState) -> Vec<StreamCounts> {
    let snapshot = state.catalog.streams().snapshot();
    let (told, parked) = (state.counters.for_metrics(), state.parking.show());
    let parked = |id: &StreamId| parked.get(id).map_or(0, |parked| parked.records);
    let named = told.named.iter().filter_map(|(id, counters)| {
        let stream = snapshot.by_id(*id)?.name.to_string();
        Some(counts_of(stream, counters, parked(id)))
    });
    let others = told.others.as_ref().map(|others| {
        let parked = told.others_there.iter().map(parked).sum();
        counts_of(metrics::OTHER_STREAMS.to_owned(), others, parked)
    });
    named.chain(others).collect()
}

fn counts_of(stream: String, counters: &StreamCounters, parked: u64) -> StreamCounts {
    let totals = counters.totals();
    let parts = Source::ALL.map(|source| (source, counters.of_source(source)));
    let any = |part: &StreamTotals| part.accepted + part.quarantined + part.not_kept > 0;
    let sources = parts.into_iter().filter(|(_, part)| any(part));
    let sources = sources.map(|(source, part)| SourceCounts {
        source: source.as_str(),
        accepted: part.accepted,
        quarantined: part.quarantined,
        not_kept: part.not_kept,
        bytes: part.bytes,
    });
    StreamCounts {
        stream,
        committed: totals.committed,
        duplicates: totals.duplicates,
        refused: totals.refused,
        parked,
        sources: sources.collect(),
    }
}
