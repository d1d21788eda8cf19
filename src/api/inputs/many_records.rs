//! `POST /v1/records`: the way in for records of many streams at once, as NDJSON whose lines name theirs.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize, Serializer};
use tidegate_codec::formats::Format;

use crate::api::caller::authenticate;
use crate::api::inputs::records::{self, AckWord, OnErrorWord};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, receipt};
use crate::api::{ApiError, AppState};
use crate::auth::Scope;
use crate::ingest::{Addressing, IngestRequest, Rights, StreamReply};

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManyRecordsQuery {
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    on_error: OnErrorWord,
}

/// `{"flights":{"accepted":2,"quarantined":1},…}`, in the order in which the streams were met.
#[derive(Debug)]
pub struct ByStream(pub Vec<StreamReply>);

/// What became of one stream's records; with `ack=commit` the members are those of the whole reply.
#[derive(Debug, Serialize)]
struct StreamView {
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_kept: Option<u64>,
}

impl ByStream {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ByStream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|stream| (&stream.name, StreamView::of(stream))))
    }
}

impl StreamView {
    fn of(stream: &StreamReply) -> StreamView {
        let committed = stream.committed;
        StreamView {
            accepted: committed.is_none().then_some(stream.accepted),
            committed: committed.map(|outcome| outcome.committed),
            duplicates: committed.map(|outcome| outcome.duplicates),
            quarantined: stream.quarantined,
            not_kept: Some(stream.not_kept.total()).filter(|records| *records > 0),
        }
    }
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
