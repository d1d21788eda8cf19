//! `GET /v1/status`: positions, backlog, lag, and how each part fares.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tidegate_journal::{Damage, Journal};
use tidegate_record::Position;
use tidegate_record::clock::Clock;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::api::health::{self, Audience};
use crate::api::quarantine_room::QuarantineRoomView;
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::counters::StreamTotals;
use crate::hub::NodeStats;
use crate::pipeline::Progress;

#[derive(Debug, Serialize)]
pub struct Status {
    node: Node,
    ready: bool,
    missing: Vec<String>,
    journal: JournalStatus,
    commit_lag_seconds: f64,
    database: DatabaseStatus,
    /// Streams whose partitions could not be made ahead or dropped, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    partitions_behind: BTreeMap<String, BehindStatus>,
    /// Streams whose table cannot be written now, by name.
    parked: BTreeMap<String, ParkedStatus>,
    quarantine: QuarantineRoomView,
    writers: usize,
    monitors: usize,
    streams: BTreeMap<String, StreamTotals>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    version: &'static str,
    /// The commit that it was built from, where that is known.
    #[serde(skip_serializing_if = "str::is_empty")]
    commit: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
}

#[derive(Debug, Serialize)]
struct JournalStatus {
    id: Uuid,
    first: Position,
    synced: Position,
    committed: Position,
    backlog_bytes: u64,
    bytes: u64,
    failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// Parts that the latest start found damaged and set aside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damages: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct DatabaseStatus {
    reachable: bool,
    version: Option<String>,
    last_error: Option<String>,
    /// Why commits do not come back, although PostgreSQL can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<String>,
    /// Parts of the journal that PostgreSQL lost when it was set back, and that are not kept here any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<LostPart>,
}

#[derive(Debug, Serialize)]
struct LostPart {
    from: Position,
    to: Position,
}

#[derive(Debug, Serialize)]
struct BehindStatus {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    reason: String,
}

#[derive(Debug, Serialize)]
struct ParkedStatus {
    records: u64,
    reason: String,
}

/// What waits between the journal and PostgreSQL.
pub fn node_load(journal: &Journal, progress: &Progress, clock: &Clock) -> NodeStats {
    let (committed, synced) = (progress.low_water(), journal.synced());
    let backlog_bytes = synced.0.saturating_sub(committed.0);
    let mut commit_lag_seconds = 0.0;
    if backlog_bytes > 0
        && let Ok(Some(oldest)) = journal.reader(committed).next_header()
    {
        let micros = clock.now().0.saturating_sub(oldest.received_at.0).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a lag for people and alerts")]
        let seconds = micros as f64 / 1e6;
        commit_lag_seconds = seconds;
    }
    NodeStats { backlog_bytes, commit_lag_seconds }
}

/// `GET /v1/status`. Needs the scope `read`; a caller with a list of streams sees only these.
pub async fn show(State(state): State<AppState>, caller: Caller) -> Result<Json<Status>, ApiError> {
    caller.require(Scope::Read)?;
    let load = node_load(&state.journal, &state.progress, &state.clock);
    let readiness = health::readiness(&state, Audience::Reader);
    let database = state.database_state.borrow().clone();
    let failure = state.appender.failure();
    let snapshot = state.catalog.streams().snapshot();
    let totals = state.counters.totals();
    let streams = snapshot
        .iter()
        .filter(|stream| caller.may_use(&stream.name))
        .map(|stream| {
            (stream.name.to_string(), totals.get(&stream.id).copied().unwrap_or_default())
        })
        .collect();
    let parked = state.parking.show().into_iter().filter_map(|(id, parked)| {
        let stream = snapshot.by_id(id).filter(|stream| caller.may_use(&stream.name))?;
        let status = ParkedStatus { records: parked.records, reason: parked.reason };
        Some((stream.name.to_string(), status))
    });
    let parked = parked.collect();
    let behind = state.catalog.partitions_behind().into_iter().filter_map(|(id, behind)| {
        let stream = snapshot.by_id(id).filter(|stream| caller.may_use(&stream.name))?;
        let status = BehindStatus { since: behind.since.date_time(), reason: behind.reason };
        Some((stream.name.to_string(), status))
    });
    let partitions_behind = behind.collect();
    Ok(Json(Status {
        node: Node {
            name: state.config.node_name(),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("TIDEGATE_COMMIT"),
            started_at: state.started_at,
        },
        ready: readiness.ready,
        missing: readiness.missing,
        journal: JournalStatus {
            id: state.journal.id(),
            first: state.journal.first(),
            synced: state.journal.synced(),
            committed: state.progress.low_water(),
            backlog_bytes: load.backlog_bytes,
            bytes: state.journal.bytes(),
            failed: failure.is_some(),
            failure: failure.map(|failure| failure.to_string()),
            damages: state.journal.damages().cloned().collect(),
        },
        commit_lag_seconds: load.commit_lag_seconds,
        database: DatabaseStatus {
            reachable: database.reachable,
            version: database.version,
            last_error: database.last_error,
            stalled: database.stalled,
            lost: database.lost.into_iter().map(|(from, to)| LostPart { from, to }).collect(),
        },
        partitions_behind,
        parked,
        quarantine: QuarantineRoomView::of(&state),
        writers: state.config.writers(),
        monitors: state.hub.monitors(),
        streams,
    }))
}
