//! Changes of one record: `PUT`, `PATCH` and `DELETE` of `/v1/streams/{stream}/records/{id}` and `…/by-key/{key}`.
//!
//! Each becomes the line that it would be in a body of changes (`codec::changes`), and goes the way of one. It is answered once
//! it is done, with the record as it is then.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_codec::Stream;
use tidegate_codec::changes::{ChangeLine, ChangeOp};
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::formats::Format;
use tidegate_query::RecordsPlan;
use uuid::Uuid;

use crate::api::bodies::Holder;
use crate::api::inputs::records::{
    AckWord, admit, find_target, idempotency_key, sender, usual_ack,
};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, receipt};
use crate::api::read::key_path::{KeyPath, key_object};
use crate::api::read::one_record;
use crate::api::read::own_writes::Freshness;
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::db::{answered, kept_records};
use crate::ingest::body::BodyReader;
use crate::ingest::{
    Ack, Addressing, FailureReason, IngestFailure, IngestReply, IngestRequest, OnError, OneStream,
};
use crate::pipeline::CommitOutcome;

/// The class of SQLSTATE of what is against a constraint.
const CONSTRAINT_CLASS: &str = "23";

/// What the query of a change may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeQuery {
    ack: Option<AckWord>,
}

/// Which record a change is about.
enum About {
    Id(Uuid),
    Key(Vec<String>),
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
    let (parts, body) = request.into_parts();
    let key = idempotency_key(&parts.headers)?.map(str::to_owned);
    let if_match = precondition(&parts.headers, &IF_MATCH)?;
    let if_none_match = precondition(&parts.headers, &IF_NONE_MATCH)?;
    let data = match op {
        ChangeOp::Delete => None,
        ChangeOp::Put | ChangeOp::Patch => {
            Some(read_data(state, caller, &parts.headers, body).await?)
        }
    };
    let (id, key_of_record) = match &about {
        About::Id(id) => (Some(*id), None),
        About::Key(parts) => (None, Some(key_object(&stream, parts)?)),
    };
    let line = ChangeLine {
        op,
        id,
        key: key_of_record.as_deref(),
        data: data.as_deref(),
        if_match: if_match.map(Cow::from),
        if_none_match: if_none_match.map(Cow::from),
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
        Ok(reply) => answer(state, caller, &stream, &plan, op, &about, reply).await,
        Err(failure) => Err(invalid(state, *failure)),
    }
}

/// The body, which is one JSON value and nothing else: so it stays what it is where it is put into a line.
async fn read_data(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Box<RawValue>, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/json", "application/merge-patch+json"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(media_type))
    {
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
        if whole.len() + chunk.len() > bytes_max {
            let detail = format!("a record has at most {bytes_max} bytes");
            return Err(ApiError::too_large("body_too_large", detail));
        }
        held.grow_to(2 * (whole.len() + chunk.len()))?;
        whole.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&whole).map_err(|error| {
        ApiError::bad_request("malformed_body", error.to_string())
            .with("line", error.line())
            .with("column", error.column())
    })
}

/// The one tag of a header, or `*`.
fn precondition(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match tag {
        _ if values.next().is_some() => {}
        None if text == "*" => return Ok(Some("*".to_owned())),
        Some(tag) if !tag.contains('"') => return Ok(Some(tag.to_owned())),
        _ => {}
    }
    let detail = format!("the header {name} has one ETag of a record, in its quotes, or *");
    Err(ApiError::bad_request("invalid_precondition", detail))
}

async fn answer(
    state: &AppState,
    caller: &Caller,
    stream: &Stream,
    plan: &RecordsPlan,
    op: ChangeOp,
    about: &About,
    reply: IngestReply,
) -> Result<Response, ApiError> {
    let Some(outcome) = reply.committed else { return Ok(receipt::answer(state, reply, false)) };
    let change = reply.ids.first().copied();
    match outcome {
        CommitOutcome { refused: 1.., .. } => Err(refused(state, change).await),
        CommitOutcome { missing: 1.., .. } => Err(missing(stream, about)),
        CommitOutcome { conflicts: 1.., .. } => {
            let detail = "the record is not as the request says: somebody changed, made or deleted it; read it again";
            Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "record_changed", detail))
        }
        _ if op == ChangeOp::Delete => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => {
            let found = one_record::read(state, stream, plan, Freshness::Primary).await?;
            let Some(found) = found else {
                // It was deleted since.
                return Err(missing(stream, about));
            };
            // Who may not read records is not shown what the change left as it was.
            let found = if caller.require(Scope::Read).is_ok() { found } else { found.id_alone() };
            let is_new = change.is_some_and(|id| found.is_of(id));
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, found.into_response()).into_response())
        }
    }
}

fn missing(stream: &Stream, about: &About) -> ApiError {
    let name = &stream.name;
    let detail = match about {
        About::Id(id) => format!("the stream \"{name}\" has no record {id}"),
        About::Key(parts) => {
            format!("the stream \"{name}\" has no record of the key {}", parts.join(","))
        }
    };
    ApiError::not_found("no_such_record", detail)
}

/// What PostgreSQL said of a change, as the quarantine keeps it.
async fn refused(state: &AppState, change: Option<Uuid>) -> ApiError {
    let pool = &state.database.pools().changes;
    let kept = match change {
        Some(id) => answered(kept_records::find(pool, id)).await,
        None => Ok(None),
    };
    let (sqlstate, message) = match kept {
        Ok(Some(kept)) => (kept.sqlstate.unwrap_or_default(), kept.message),
        Ok(None) | Err(_) => (String::new(), "PostgreSQL refused it".to_owned()),
    };
    let detail = format!("{message} (the change is in the quarantine)");
    let error = if sqlstate.starts_with(CONSTRAINT_CLASS) {
        ApiError::conflict("refused_by_postgresql", detail)
    } else {
        ApiError::unprocessable("refused_by_postgresql", detail)
    };
    error.with("sqlstate", sqlstate).with("quarantined", change.map(|id| id.to_string()))
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
