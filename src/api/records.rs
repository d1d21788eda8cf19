//! `POST /v1/streams/{stream}/records`: the way in for records.

use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_codec::csv::{CsvOptions, CsvWords, InvalidCsvOptions};
use tidegate_codec::encode::MatchedName;
use tidegate_record::Position;
use uuid::Uuid;

use crate::api::caller::{PathText, authenticate};
use crate::api::client_address::Peer;
use crate::api::connections::Place;
use crate::api::held_bytes::Full;
use crate::api::many_records::ByStream;
use crate::api::not_kept::{self, Reason};
use crate::api::{ApiError, AppState, counted_body, streams};
use crate::auth::{Admission, Caller, Scope, Via};
use crate::ingest::PlacedError;
use crate::ingest::body::{BodyError, BodyLimits, BodyReader, ContentEncoding};
use crate::ingest::{
    Ack, Addressing, FailureReason, IDS_MAX, IngestFailure, IngestReply, IngestRequest, NoTarget,
    NotMade, OnError, OneStream, Target,
};
use crate::pipeline::{IntakeError, KeyError, SenderId};
use crate::telemetry::metrics;

/// Advice while the gateway shuts down: it may be starting again.
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(5);
/// Advice while the first request with the same key is under way.
const RETRY_AFTER_UNDER_WAY: Duration = Duration::from_secs(1);
/// Advice while the journal is an older copy, which a person has to take away.
const RETRY_AFTER_OLDER_JOURNAL: Duration = Duration::from_secs(60);
/// Advice where somebody else makes a stream of the same name at the same moment.
const RETRY_AFTER_MADE: Duration = Duration::from_secs(1);
/// Advice while there are as many keys as there may be: about when some of them go.
const RETRY_AFTER_KEYS_FULL: Duration = Duration::from_secs(60);
/// Room for the usual reply.
const REPLY_BYTES: usize = 160;
const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Longest idempotency key, in characters.
const KEY_CHARACTERS_MAX: usize = 255;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that a request was taken before, and that this is what it was answered then.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsQuery {
    #[serde(default)]
    ack: AckWord,
    #[serde(default)]
    on_error: OnErrorWord,
    #[serde(rename = "return")]
    returned: Option<ReturnWord>,
    null: Option<String>,
    delimiter: Option<String>,
    quote: Option<String>,
    header: Option<String>,
    columns: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AckWord {
    #[default]
    Journal,
    Commit,
}

impl From<AckWord> for Ack {
    fn from(word: AckWord) -> Ack {
        match word {
            AckWord::Journal => Ack::Journal,
            AckWord::Commit => Ack::Commit,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnErrorWord {
    #[default]
    Quarantine,
    Reject,
}

impl From<OnErrorWord> for OnError {
    fn from(word: OnErrorWord) -> OnError {
        match word {
            OnErrorWord::Quarantine => OnError::Quarantine,
            OnErrorWord::Reject => OnError::Reject,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReturnWord {
    Ids,
}

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

/// [`take`] for a stream whose name is written with percent signs.
pub async fn create(
    State(state): State<AppState>,
    PathText(name): PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    take(&state, &name, (None, None), parts, body.into_data_stream()).await
}

/// 202 once the records are durable, or 201 once they are in the table.
pub(super) async fn take<S, E>(
    state: &AppState,
    name: &str,
    from: (Option<Peer>, Option<&Place>),
    parts: Parts,
    body: S,
) -> Result<Response, ApiError>
where
    S: futures::Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    let caller = authenticate(from, &parts, state).await?;
    caller.require(Scope::Ingest)?;
    let Query(query) = Query::<RecordsQuery>::try_from_uri(&parts.uri)?;
    let media_type = streams::media_type(&parts.headers)?;
    let encoding = content_encoding(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?.map(str::to_owned);
    let return_ids = query.returned == Some(ReturnWord::Ids);
    let words = CsvWords {
        null: query.null,
        delimiter: query.delimiter,
        quote: query.quote,
        header: query.header,
        columns: query.columns,
    };
    let csv = words.check(media_type.header)?;
    let target = find_target(state, &caller, name)?;
    let quota = admit(state, &caller)?;
    let ingest = IngestRequest {
        key,
        addressing: Addressing::OneStream(OneStream { target, format: media_type.format, csv }),
        sender: sender(&caller),
        quota,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        ack: query.ack.into(),
        on_error: query.on_error.into(),
        return_ids,
    };
    let body = counted_body::read(state, body, encoding, body_limits(state));
    match state.ingest.take(ingest, body).await {
        Ok(reply) => Ok(answer(state, reply, return_ids)),
        Err(failure) => Err(refusal(state, *failure)),
    }
}

/// The same for a request that asks for nothing in particular, whose body is there as a whole. Gives the status and the
/// JSON of the reply. `authorization`: the header, with a Bearer token.
pub(super) async fn take_small(
    state: &AppState,
    authorization: &str,
    name: &str,
    content_type: &str,
    body: Bytes,
) -> Result<(StatusCode, Vec<u8>), ApiError> {
    let caller = state.auth.authenticate_token(authorization).await?;
    caller.require(Scope::Ingest)?;
    let media_type = streams::media_type_of(content_type)?;
    let csv = match media_type.header {
        None => CsvOptions::default(),
        said => CsvWords::default().check(said)?,
    };
    let target = find_target(state, &caller, name)?;
    let quota = admit(state, &caller)?;
    let ingest = IngestRequest {
        key: None,
        addressing: Addressing::OneStream(OneStream { target, format: media_type.format, csv }),
        sender: sender(&caller),
        quota,
        user: caller.user_name,
        received_at: state.clock.now(),
        ack: Ack::default(),
        on_error: OnError::default(),
        return_ids: false,
    };
    let body = BodyReader::whole(body, body_limits(state));
    match state.ingest.take(ingest, body).await {
        Ok(reply) => match not_kept::nothing_taken(&state.config.quarantine, &reply) {
            Some(error) => Err(error),
            None => Ok(reply_json(state, reply, false)),
        },
        Err(failure) => Err(refusal(state, *failure)),
    }
}

pub(super) fn admit(state: &AppState, caller: &Caller) -> Result<Option<Admission>, ApiError> {
    Ok(state.auth.admit(caller).inspect_err(|_| metrics::count_refused("quota_exceeded"))?)
}

pub(super) fn body_limits(state: &AppState) -> BodyLimits {
    BodyLimits {
        wire_bytes_max: state.config.intake.body_bytes_max,
        decompressed_bytes_max: state.config.intake.body_decompressed_bytes_max,
        idle_timeout: Duration::from_secs(state.config.intake.body_idle_seconds),
    }
}

/// The header `Idempotency-Key`, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(IDEMPOTENCY_KEY) { Err(invalid_key()) } else { Ok(None) };
    };
    let printable = value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    match value.to_str() {
        Ok(key) if printable && (1..=KEY_CHARACTERS_MAX).contains(&key.len()) => Ok(Some(key)),
        _ => Err(invalid_key()),
    }
}

fn invalid_key() -> ApiError {
    let detail = format!(
        "the header Idempotency-Key comes once, with 1 to {KEY_CHARACTERS_MAX} printable ASCII characters"
    );
    ApiError::bad_request("invalid_idempotency_key", detail)
}

/// Those who share the intake: tokens, and users where no token was used.
pub(super) fn sender(caller: &Caller) -> SenderId {
    match (caller.via, caller.user_id) {
        (Via::Bearer { token_id } | Via::Ticket { token_id: Some(token_id) }, _) => {
            SenderId::Token(token_id)
        }
        (_, Some(user_id)) => SenderId::User(user_id),
        (_, None) => SenderId::Local,
    }
}

/// How a body is compressed.
pub(super) fn content_encoding(headers: &HeaderMap) -> Result<ContentEncoding, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map(|value| value.to_str().unwrap_or("?"));
    ContentEncoding::from_header(encoding)
        .map_err(|error| ApiError::unsupported_media_type(error.to_string()))
}

fn find_target(state: &AppState, caller: &Caller, name: &str) -> Result<Target, ApiError> {
    let makes_streams = state.config.access.auto_create_streams;
    Target::find(&state.catalog, caller, makes_streams, name).map_err(|error| {
        let (code, message) = (error.code(), error.to_string());
        match error {
            NoTarget::InvalidName(_) => ApiError::unprocessable(code, message),
            NoTarget::NotAllowed(_) => ApiError::forbidden(code, message),
            NoTarget::Unknown(_) => ApiError::not_found(code, message),
        }
    })
}

impl From<NotMade> for ApiError {
    fn from(error: NotMade) -> ApiError {
        let (code, message) = (error.code(), error.to_string());
        match error {
            NotMade::Table(error) => error.into(),
            NotMade::Gone(_) => ApiError::not_found(code, message),
            NotMade::MadeOtherwise => ApiError::unavailable(code, message, RETRY_AFTER_MADE),
        }
    }
}

impl From<InvalidCsvOptions> for ApiError {
    fn from(error: InvalidCsvOptions) -> ApiError {
        ApiError::bad_request("invalid_query", error.to_string())
    }
}

pub(super) fn answer(state: &AppState, reply: IngestReply, return_ids: bool) -> Response {
    let replayed = reply.replayed;
    let mut response = first_answer(state, reply, return_ids);
    if replayed {
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

/// The reply to records that were taken.
fn reply_json(state: &AppState, reply: IngestReply, return_ids: bool) -> (StatusCode, Vec<u8>) {
    let committed = reply.committed;
    let ids_omitted =
        (return_ids && reply.accepted > IDS_MAX as u64).then(|| reply.accepted - IDS_MAX as u64);
    let omitted = reply.refused - reply.errors.len() as u64;
    let body = Receipt {
        id: reply.ids.first().copied().filter(|_| reply.single),
        accepted: committed.is_none().then_some(reply.accepted),
        committed: committed.map(|outcome| outcome.committed),
        duplicates: committed.map(|outcome| outcome.duplicates),
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
    let status = if committed.is_some() { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let mut json = Vec::with_capacity(REPLY_BYTES);
    serde_json::to_writer(&mut json, &body).expect("plain structs become JSON");
    (status, json)
}

/// What a refused request is told, with what was taken before the failure.
pub(super) fn refusal(state: &AppState, failure: IngestFailure) -> ApiError {
    let IngestFailure { reason, before, is_outcome_unknown } = failure;
    let error = match reason {
        FailureReason::Body(error) => body_error(&error),
        FailureReason::Framing(error) => {
            ApiError::bad_request(error.code.as_str(), error.to_string())
                .with("offset", error.offset)
                .with("record", error.record)
                .with("line", serde_json::json!(error.line))
        }
        FailureReason::Intake(error) => intake_error(&error),
        FailureReason::Stream(message) => ApiError::unprocessable("unusable_stream", message),
        FailureReason::TooLargeToReject { .. } | FailureReason::TooManyToReject { .. } => {
            ApiError::too_large("too_large_to_reject", reason.to_string())
        }
        FailureReason::TooLargeForKey { .. } | FailureReason::TooManyForKey { .. } => {
            ApiError::too_large("too_large_for_key", reason.to_string())
        }
        FailureReason::Rejected { .. } => ApiError::unprocessable("rejected", reason.to_string()),
        FailureReason::NotReplayable => {
            return ApiError::unprocessable("not_replayable", reason.to_string());
        }
        FailureReason::NotOneRecord { .. } => {
            return ApiError::unprocessable("not_one_record", reason.to_string());
        }
        FailureReason::Gone => return ApiError::not_found("not_in_quarantine", reason.to_string()),
        FailureReason::ReplayedElsewhere => {
            return ApiError::conflict("replayed_elsewhere", reason.to_string());
        }
        FailureReason::Database(error) => return error.into(),
        FailureReason::Key(error) => return key_error(error),
        FailureReason::NotMade(error) if before.position.is_none() => return error.into(),
        FailureReason::NotMade(error) => error.into(),
        FailureReason::AnswerLost => return ApiError::internal(reason),
    };
    let error = not_kept::with_counts(error, &state.config.quarantine, &before);
    if is_outcome_unknown { error.with("outcome", "unknown") } else { error }
}

fn key_error(error: KeyError) -> ApiError {
    let message = error.to_string();
    match error {
        KeyError::Reused => ApiError::unprocessable("idempotency_key_reused", message),
        KeyError::UnderWay => ApiError::conflict("idempotency_key_under_way", message)
            .retry_after(RETRY_AFTER_UNDER_WAY),
        KeyError::Full { .. } => {
            metrics::count_refused("idempotency_keys_full");
            ApiError::unavailable("idempotency_keys_full", message, RETRY_AFTER_KEYS_FULL)
        }
    }
}

pub(super) fn body_error(error: &BodyError) -> ApiError {
    match error {
        BodyError::TooLarge { .. } => ApiError::too_large("body_too_large", error.to_string()),
        BodyError::Idle { .. } => ApiError::timeout("body_too_slow", error.to_string()),
        BodyError::Corrupt { .. } | BodyError::Padded => {
            ApiError::bad_request("corrupt_body", error.to_string())
        }
        BodyError::Undeclared { .. } => ApiError::unsupported_media_type(error.to_string()),
        BodyError::NoMemory => ApiError::request_memory_full(Full::Budget),
        BodyError::Interrupted { .. } => ApiError::bad_request("broken_body", error.to_string()),
    }
}

fn intake_error(error: &IntakeError) -> ApiError {
    let message = error.to_string();
    let refused = |code, retry_after| {
        metrics::count_refused(code);
        ApiError::unavailable(code, message.clone(), retry_after)
    };
    match error {
        IntakeError::Overloaded { retry_after } => refused("overloaded", *retry_after),
        IntakeError::CostlyFull { retry_after } => refused("costly_documents", *retry_after),
        IntakeError::JournalFull { retry_after, .. } => refused("journal_full", *retry_after),
        IntakeError::JournalFailed { retry_after }
        | IntakeError::JournalFailedMidway { retry_after } => {
            refused("journal_failed", *retry_after)
        }
        IntakeError::OutcomeUnknown => ApiError::internal(&message),
        IntakeError::ShuttingDown => refused("shutting_down", RETRY_AFTER_SHUTDOWN),
        IntakeError::JournalIsOlder => refused("older_journal", RETRY_AFTER_OLDER_JOURNAL),
        IntakeError::TooLarge { .. } => ApiError::too_large("entry_too_large", message),
    }
}
