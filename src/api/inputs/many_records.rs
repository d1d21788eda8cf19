//! `POST /v1/records`: the way in for records of many streams at once, as NDJSON whose lines name theirs.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use tidegate_codec::formats::Format;

use crate::api::caller::authenticate;
use crate::api::inputs::records::{self, AckWord, OnErrorWord};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, receipt};
use crate::api::{ApiError, AppState};
use crate::auth::Scope;
use crate::ingest::{Addressing, IngestRequest, Rights};

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManyRecordsQuery {
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    on_error: OnErrorWord,
}

/// 202 once the records are durable, or 201 once they are in their tables.
pub async fn create(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let caller = authenticate(&parts, &state).await?;
    caller.require(Scope::Ingest)?;
    let Query(query) = Query::<ManyRecordsQuery>::try_from_uri(&parts.uri)?;
    require_ndjson(&parts.headers)?;
    let encoding = body::content_encoding(&parts.headers)?;
    let key = records::idempotency_key(&parts.headers)?.map(str::to_owned);
    let quota = records::admit(&state, &caller)?;
    let body = body::read(&state, &caller, body, encoding, body::limits(&state));
    let ingest = IngestRequest {
        key,
        sender: records::sender(&caller),
        quota,
        user: Arc::clone(&caller.user_name),
        addressing: Addressing::ManyStreams(Rights {
            caller,
            makes_streams: state.config.access.auto_create_streams,
        }),
        received_at: state.clock.now(),
        ack: query.ack.into(),
        on_error: query.on_error.into(),
        return_ids: false,
    };
    match state.ingest.take(ingest, body).await {
        Ok(reply) => Ok(receipt::answer(&state, reply, false)),
        Err(failure) => Err(refusal(&state, *failure)),
    }
}

fn require_ndjson(headers: &HeaderMap) -> Result<(), ApiError> {
    if body::media_type(headers)?.format == Format::Ndjson {
        return Ok(());
    }
    let detail = "records of many streams are lines of JSON: send application/x-ndjson";
    Err(ApiError::unsupported_media_type(detail))
}
