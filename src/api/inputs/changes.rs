//! Changes of one record: `PUT`, `PATCH` and `DELETE` of `/v1/streams/{stream}/records/{id}` and `…/by-key/{key}`.
//!
//! Each becomes the line that it would be in a body of changes (`codec::changes`), and goes the way of one. It is answered once
//! it is done, with the record as it is then.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_codec::Stream;
use tidegate_codec::changes::{ChangeLine, ChangeOp};
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::formats::Format;
use tidegate_query::RecordsPlan;
use uuid::Uuid;

use crate::api::bodies::{Holder, MemoryPermit};
use crate::api::inputs::precondition::Precondition;
use crate::api::inputs::records::{
    AckWord, admit, find_target, idempotency_key, sender, usual_ack,
};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, receipt};
use crate::api::read::key_path::{KeyPath, key_object};
use crate::api::read::one_record::{self, FoundRecord};
use crate::api::read::own_writes::Freshness;
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::db::{answered, kept_records};
use crate::ingest::body::BodyReader;
use crate::ingest::{
    Ack, Addressing, FailureReason, IngestFailure, IngestReply, IngestRequest, OnError, OneStream,
};
use crate::pipeline::CommitOutcome;

/// What a patch may call itself.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// How often the data of a change is held: as it came, as it is put into a line, the line, and the tuple.
const DATA_HELD_TIMES: usize = 4;

/// What the query of a change may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeQuery {
    ack: Option<AckWord>,
}

/// A change that is asked for.
struct Change {
    op: ChangeOp,
    stream: Arc<Stream>,
    about: About,
    /// Finds the record.
    plan: RecordsPlan,
}

/// Which record a change is about.
enum About {
    Id(Uuid),
    Key(Vec<String>),
}

impl Change {
    /// Whether it makes a record that is not there.
    fn may_make(&self) -> bool {
        self.op == ChangeOp::Put && matches!(self.about, About::Key(_))
    }

    fn missing(&self) -> ApiError {
        let name = &self.stream.name;
        let detail = match &self.about {
            About::Id(id) => format!("the stream \"{name}\" has no record {id}"),
            About::Key(parts) => {
                format!("the stream \"{name}\" has no record of the key {}", parts.join(","))
            }
        };
        ApiError::not_found("no_such_record", detail)
    }
}

/// A change by a record's id. Needs the scope `write`.
pub async fn by_id(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<(String, Uuid)>, PathRejection>,
    query: Result<Query<ChangeQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::Write)?;
    let (Path((name, id)), Query(query)) = (path?, query?);
    change(&state, &caller, &name, About::Id(id), &query, request).await
}

/// A change by a record's key. Needs the scope `write`.
pub async fn by_key(
    State(state): State<AppState>,
    caller: Caller,
    path: KeyPath,
    query: Result<Query<ChangeQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::Write)?;
    let Query(query) = query?;
    change(&state, &caller, &path.stream, About::Key(path.parts), &query, request).await
}

async fn change(
    state: &AppState,
    caller: &Caller,
    name: &str,
    about: About,
    query: &ChangeQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let op = match *request.method() {
        Method::PUT => ChangeOp::Put,
        Method::PATCH => ChangeOp::Patch,
        _ => ChangeOp::Delete,
    };
    let target = find_target(state, caller, name, Format::Change)?;
    let stream = Arc::clone(&target.stream);
    let plan = match &about {
        About::Id(id) => RecordsPlan::of_id(&stream, *id, &[])?,
        About::Key(parts) => RecordsPlan::of_key(&stream, parts, &[])?,
    };
    let change = Change { op, stream, about, plan };
    let (parts, body) = request.into_parts();
    let key = idempotency_key(&parts.headers)?.map(str::to_owned);
    let Some(precondition) = Precondition::of(&parts.headers, change.may_make())? else {
        return Err(changed_by_others());
    };
    // Held until the change is taken: as it came, as a line, and as it is encoded.
    let (data, _held) = match op {
        ChangeOp::Delete => (None, None),
        ChangeOp::Put | ChangeOp::Patch => {
            let (data, held) = read_data(state, caller, &parts.headers, body).await?;
            (Some(data), Some(held))
        }
    };
    let (id, key_of_record) = match &change.about {
        About::Id(id) => (Some(*id), None),
        About::Key(parts) => (None, Some(key_object(&change.stream, parts)?)),
    };
    let line = ChangeLine {
        op,
        id,
        key: key_of_record.as_deref(),
        data: data.as_deref(),
        if_match: precondition.if_match.map(Cow::from),
        if_none_match: precondition.is_new.then_some(Cow::from("*")),
    };
    let line = serde_json::to_vec(&line).map_err(ApiError::internal)?;
    let ingest = IngestRequest {
        addressing: Addressing::OneStream(OneStream {
            target,
            format: Format::Change,
            csv: CsvOptions::default(),
        }),
        sender: sender(caller),
        quota: admit(state, caller)?,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        ack: query.ack.map_or_else(|| usual_ack(Format::Change), Ack::from),
        on_error: OnError::Reject,
        return_ids: false,
        key,
    };
    let body = BodyReader::whole(Bytes::from(line), body::limits(state));
    match state.ingest.take(ingest, body).await {
        Ok(reply) => answer(state, caller, &change, reply).await,
        Err(failure) => Err(invalid(state, *failure)),
    }
}

/// The body, which is one JSON value and nothing else: so it stays what it is where it is put into a line.
async fn read_data(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<(Box<RawValue>, MemoryPermit), ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let plain = content_type.replacen(MERGE_PATCH, "application/json", 1);
    if body::media_type_of(&plain)?.format != Format::Json {
        let detail =
            "a record, or the members to replace, are JSON: send Content-Type: application/json";
        return Err(ApiError::unsupported_media_type(detail));
    }
    let encoding = body::content_encoding(headers)?;
    let bytes_max = state.config.intake.entry_bytes_max;
    let mut reader = body::read(state, caller, body, encoding, body::limits(state));
    let mut whole = Vec::new();
    let mut held = state.memory_budget.hold(Holder::Known, 0)?;
    while let Some(chunk) = reader.next().await.map_err(|error| body::error(&error))? {
        let bytes = whole.len() + chunk.len();
        if bytes > bytes_max {
            let detail = format!("a record has at most {bytes_max} bytes");
            return Err(ApiError::too_large("body_too_large", detail));
        }
        held.grow_to(DATA_HELD_TIMES * bytes)?;
        whole.extend_from_slice(&chunk);
    }
    let data = serde_json::from_slice(&whole).map_err(|error| {
        ApiError::bad_request("malformed_body", error.to_string())
            .with("line", error.line())
            .with("column", error.column())
    })?;
    Ok((data, held))
}

/// What is told of a change that was taken: what became of it, where that is known.
async fn answer(
    state: &AppState,
    caller: &Caller,
    change: &Change,
    reply: IngestReply,
) -> Result<Response, ApiError> {
    let Some(outcome) = reply.committed else { return Ok(receipt::answer(state, reply, false)) };
    let id = reply.ids.first().copied();
    let response = match outcome {
        CommitOutcome { refused: 1.., .. } => refused(state, id).await.into_response(),
        CommitOutcome { missing: 1.., .. } => change.missing().into_response(),
        CommitOutcome { conflicts: 1.., .. } => changed_by_others().into_response(),
        _ if change.op == ChangeOp::Delete => StatusCode::NO_CONTENT.into_response(),
        _ => match shown(state, caller, change).await {
            Some(found) => {
                let is_new = id.is_some_and(|id| found.is_of(id));
                let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
                (status, found.into_response()).into_response()
            }
            // It was done, whether or not it can be shown: it may be gone again, or readers be many.
            None => return Ok(receipt::answer(state, reply, false)),
        },
    };
    Ok(receipt::of_reply(&reply, response))
}

/// The record as it is now, as far as the caller may see it; None where it cannot be read.
async fn shown(state: &AppState, caller: &Caller, change: &Change) -> Option<FoundRecord> {
    let _permit = state.readers.take(caller).await.ok()?;
    let found = one_record::read(state, &change.stream, &change.plan, Freshness::Primary).await;
    let found = found.ok()??;
    // Who may not read records is not shown what the change left as it was.
    Some(if caller.require(Scope::Read).is_ok() { found } else { found.id_alone() })
}

fn changed_by_others() -> ApiError {
    let detail = "the record is not as the request says: somebody changed, made or deleted it; read it again";
    ApiError::new(StatusCode::PRECONDITION_FAILED, "record_changed", detail)
}

/// What PostgreSQL said of a change, as the quarantine keeps it.
async fn refused(state: &AppState, id: Option<Uuid>) -> ApiError {
    let pool = &state.database.pools().changes;
    let kept = match id {
        Some(id) => answered(kept_records::find(pool, id)).await.ok().flatten(),
        None => None,
    };
    let Some(kept) = kept else {
        let detail = "PostgreSQL refused the change, and its words are not to be had: it has left the quarantine, or that cannot be read";
        return ApiError::conflict("refused_by_postgresql", detail);
    };
    let detail = format!("{} (the change is in the quarantine)", kept.message);
    ApiError::conflict("refused_by_postgresql", detail)
        .with("sqlstate", kept.sqlstate)
        .with("quarantined", kept.id.to_string())
}

fn invalid(state: &AppState, failure: IngestFailure) -> ApiError {
    match (&failure.reason, failure.before.errors.first()) {
        (FailureReason::Rejected { .. }, Some(error)) => {
            let refusal = ApiError::unprocessable("invalid_record", error.message.clone());
            refusal.with("errors", serde_json::json!(failure.before.errors))
        }
        _ => refusal(state, failure),
    }
}
