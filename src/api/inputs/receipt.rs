//! What a sender is told of records that were taken.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_codec::encode::MatchedName;
use tidegate_record::Position;
use uuid::Uuid;

use crate::api::AppState;
use crate::api::inputs::by_stream::ByStream;
use crate::api::inputs::not_kept::{self, Reason};
use crate::ingest::{IDS_MAX, IngestReply, PlacedError};
use crate::telemetry::metrics;

/// Room for the usual reply.
const REPLY_BYTES: usize = 160;
const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Says that a request was taken before, and that this is what it was answered then.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The reply to records that were taken.
#[derive(Debug, Serialize)]
struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    /// Changes that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<u64>,
    /// Changes whose record was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    /// Changes whose record was not as they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts: Option<u64>,
    quarantined: u64,
    /// Invalid records that the quarantine does not keep; `accepted`, `quarantined` and these are all of the body's.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_kept: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_kept_because: Vec<Reason>,
    position: Position,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<PlacedError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_omitted: Option<u64>,
    /// Lines without anything, which were no records.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_lines: Option<u64>,
    /// Names of a CSV header that are not written as the keys that they were taken for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    header_matched: Vec<MatchedName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Uuid>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids_omitted: Option<u64>,
    /// Only of a request of many streams.
    #[serde(skip_serializing_if = "ByStream::is_empty")]
    streams: ByStream,
}

/// The whole response.
pub fn answer(state: &AppState, reply: IngestReply, return_ids: bool) -> Response {
    let is_replayed = reply.replayed;
    mark_replayed(is_replayed, first_answer(state, reply, return_ids))
}

/// A response of another form to a request that was taken, saying whether that was before.
pub fn of_reply(reply: &IngestReply, response: Response) -> Response {
    mark_replayed(reply.replayed, response)
}

fn mark_replayed(is_replayed: bool, mut response: Response) -> Response {
    if is_replayed {
        metrics::count_idempotency_replay();
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn first_answer(state: &AppState, reply: IngestReply, return_ids: bool) -> Response {
    if let Some(error) = not_kept::nothing_taken(&state.config.quarantine, &reply) {
        return error.into_response();
    }
    let (status, json) = reply_json(state, reply, return_ids);
    (status, [(header::CONTENT_TYPE, APPLICATION_JSON)], json).into_response()
}

/// The status and the JSON of the reply.
pub fn reply_json(state: &AppState, reply: IngestReply, return_ids: bool) -> (StatusCode, Vec<u8>) {
    let committed = reply.committed;
    let of_records = committed.filter(|_| !reply.has_changes);
    let of_changes = committed.filter(|_| reply.has_changes);
    let ids_omitted =
        (return_ids && reply.accepted > IDS_MAX as u64).then(|| reply.accepted - IDS_MAX as u64);
    let omitted = reply.refused - reply.errors.len() as u64;
    let body = Receipt {
        // A change has an id of its own, which is not its record's.
        id: reply.ids.first().copied().filter(|_| reply.single && !reply.has_changes),
        accepted: committed.is_none().then_some(reply.accepted),
        committed: of_records.map(|outcome| outcome.committed),
        duplicates: of_records.map(|outcome| outcome.duplicates),
        applied: of_changes.map(|outcome| outcome.committed),
        missing: of_changes.map(|outcome| outcome.missing),
        conflicts: of_changes.map(|outcome| outcome.conflicts),
        quarantined: reply.quarantined,
        not_kept: (!reply.not_kept.is_empty()).then(|| reply.not_kept.total()),
        not_kept_because: not_kept::reasons(&state.config.quarantine, &reply.not_kept),
        position: reply.position.unwrap_or_else(|| state.journal.synced()),
        errors: reply.errors,
        errors_omitted: (omitted > 0).then_some(omitted),
        skipped_lines: (reply.skipped_lines > 0).then_some(reply.skipped_lines),
        header_matched: reply.matched,
        ids: return_ids.then_some(reply.ids),
        ids_omitted,
        streams: ByStream(reply.streams),
    };
    let status = match committed {
        None => StatusCode::ACCEPTED,
        Some(_) if reply.has_changes => StatusCode::OK,
        Some(_) => StatusCode::CREATED,
    };
    let mut json = Vec::with_capacity(REPLY_BYTES);
    serde_json::to_writer(&mut json, &body).expect("plain structs become JSON");
    (status, json)
}
