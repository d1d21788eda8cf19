//! `POST /v1/quarantine/{id}/replay`: a quarantined record is taken once more.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header;
use axum::response::Response;
use serde::Deserialize;
use tidegate_codec::Stream;
use tidegate_codec::csv::{CsvDialect, CsvOptions};
use tidegate_codec::formats::Format;
use uuid::Uuid;

use super::find_head;
use crate::api::inputs::records::{AckWord, sender};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, receipt};
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::db::kept_records::KeptHead;
use crate::db::quarantine::CHANGE_FORMAT;
use crate::ingest::{
    Addressing, FailureReason, IngestFailure, IngestRequest, OnError, OneStream, Replay, Target,
};
use crate::pipeline::KeyError;

/// What the query of a replay may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuery {
    #[serde(default)]
    ack: AckWord,
}

/// `POST /v1/quarantine/{id}/replay`: takes a record once more, as it is or, with a body, as the JSON object there. It
/// leaves the quarantine when it is committed; until then the same replay is answered as the first.
pub async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
    query: Result<Query<ReplayQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::Ingest)?;
    caller.require(Scope::Read)?;
    let (Path(id), Query(query)) = (id?, query?);
    if request.headers().contains_key(header::CONTENT_TYPE)
        && body::media_type(request.headers())?.format != Format::Json
    {
        let detail = "a repaired record is JSON, whatever it was before";
        return Err(ApiError::unsupported_media_type(detail));
    }
    let encoding = body::content_encoding(request.headers())?;
    let kept = find_head(&state.database.pools().changes, &caller, id).await?;
    if format_of(&kept).is_of_changes() {
        caller.require(Scope::Write)?;
    }
    let ingest = IngestRequest {
        addressing: Addressing::OneStream(OneStream {
            target: Target { stream: stream_of(&state, &kept)?, maker: None },
            format: format_of(&kept),
            csv: csv_options(&kept),
        }),
        sender: sender(&caller),
        quota: None,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        ack: query.ack.into(),
        // What is still invalid stays as it is.
        on_error: OnError::Reject,
        return_ids: false,
        key: None,
    };
    let kept_bytes = kept.body_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let replay = Replay { id, kept_bytes };
    let body = body::read(&state, &caller, request.into_body(), encoding, body::limits(&state));
    match state.ingest.replay(ingest, replay, body).await {
        Ok(reply) => Ok(receipt::answer(&state, reply, false)),
        Err(failure) => Err(still_invalid(&state, *failure)),
    }
}

fn still_invalid(state: &AppState, failure: IngestFailure) -> ApiError {
    match &failure.reason {
        FailureReason::Rejected { .. } | FailureReason::Framing(_) => {
            let detail = match failure.before.errors.first() {
                Some(error) => error.message.clone(),
                None => failure.reason.to_string(),
            };
            let detail = format!("the record is invalid and stays in the quarantine: {detail}");
            let errors = serde_json::json!(failure.before.errors);
            ApiError::unprocessable("invalid_record", detail).with("errors", errors)
        }
        FailureReason::Key(KeyError::Reused) => ApiError::conflict(
            "replayed_otherwise",
            "this record is being replayed already, with another content",
        ),
        _ => refusal(state, failure),
    }
}

/// How the kept record's file was read.
fn csv_options(kept: &KeptHead) -> CsvOptions {
    let words = (kept.csv_delimiter.as_deref(), kept.csv_quote.as_deref());
    let dialect = CsvDialect::from_words(words.0, words.1).unwrap_or_default();
    CsvOptions { dialect, ..CsvOptions::of_null(kept.csv_null.clone()) }
}

fn format_of(kept: &KeptHead) -> Format {
    match kept.format.as_deref() {
        Some("csv") => Format::Csv,
        Some(format) if format.as_bytes() == CHANGE_FORMAT => Format::Change,
        _ => Format::Json,
    }
}

fn stream_of(state: &AppState, kept: &KeptHead) -> Result<Arc<Stream>, ApiError> {
    state.catalog.streams().by_id(kept.stream_id).ok_or_else(|| {
        let detail = "the stream that refused this record was deleted";
        ApiError::unprocessable("stream_deleted", detail)
    })
}
