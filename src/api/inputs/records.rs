//! `POST /v1/streams/{stream}/records`: the way in for records.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use tidegate_codec::csv::{CsvOptions, CsvWords, InvalidCsvOptions};
use tidegate_codec::formats::{Format, MediaType};

use crate::api::caller::{PathText, authenticate};
use crate::api::inputs::receipt::{answer, reply_json};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, not_kept};
use crate::api::{ApiError, AppState};
use crate::auth::{Admission, Caller, Scope, Via};
use crate::ingest::body::BodyReader;
use crate::ingest::{
    Ack, Addressing, IngestRequest, NoTarget, NotMade, OnError, OneStream, Target,
};
use crate::pipeline::SenderId;
use crate::telemetry::metrics;

/// Advice where another request makes a stream of the same name at the same moment.
const RETRY_AFTER_MADE: Duration = Duration::from_secs(1);
/// Longest idempotency key, in characters.
const KEY_CHARACTERS_MAX: usize = 255;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsQuery {
    ack: Option<AckWord>,
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
pub enum AckWord {
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
pub enum OnErrorWord {
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

/// 202 once the records are durable, or 201 once they are in the table.
pub async fn create(
    State(state): State<AppState>,
    PathText(name): PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let state = &state;
    let (parts, body) = request.into_parts();
    let caller = authenticate(&parts, state).await?;
    let media_type = require(&caller, body::media_type(&parts.headers))?;
    let Query(query) = Query::<RecordsQuery>::try_from_uri(&parts.uri)?;
    let encoding = body::content_encoding(&parts.headers)?;
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
    let target = find_target(state, &caller, &name, media_type.format)?;
    let quota = admit(state, &caller)?;
    let ingest = IngestRequest {
        key,
        addressing: Addressing::OneStream(OneStream { target, format: media_type.format, csv }),
        sender: sender(&caller),
        quota,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        ack: query.ack.map_or_else(|| usual_ack(media_type.format), Ack::from),
        on_error: query.on_error.into(),
        return_ids,
    };
    let body = body::read(state, &caller, body, encoding, body::limits(state));
    match state.ingest.take(ingest, body).await {
        Ok(reply) => Ok(answer(state, reply, return_ids)),
        Err(failure) => Err(refusal(state, *failure)),
    }
}

/// The same for a request that asks for nothing in particular, whose body is there as a whole. Gives the status and the
/// JSON of the reply. `authorization`: the header, with a Bearer token.
pub async fn take_small(
    state: &AppState,
    authorization: &str,
    name: &str,
    content_type: &str,
    body: Bytes,
) -> Result<(StatusCode, Vec<u8>), ApiError> {
    let caller = state.auth.authenticate_token(authorization).await?;
    let media_type = require(&caller, body::media_type_of(content_type))?;
    let csv = match media_type.header {
        None => CsvOptions::default(),
        said => CsvWords::default().check(said)?,
    };
    let target = find_target(state, &caller, name, media_type.format)?;
    let quota = admit(state, &caller)?;
    let ingest = IngestRequest {
        key: None,
        addressing: Addressing::OneStream(OneStream { target, format: media_type.format, csv }),
        sender: sender(&caller),
        quota,
        user: caller.user_name,
        received_at: state.clock.now(),
        ack: usual_ack(media_type.format),
        on_error: OnError::default(),
        return_ids: false,
    };
    let body = BodyReader::whole(body, body::limits(state));
    match state.ingest.take(ingest, body).await {
        Ok(reply) => match not_kept::nothing_taken(&state.config.quarantine, &reply) {
            Some(error) => Err(error),
            None => Ok(reply_json(state, reply, false)),
        },
        Err(failure) => Err(refusal(state, *failure)),
    }
}

/// What a body says that it is, if its sender may send such bodies.
fn require(
    caller: &Caller,
    media_type: Result<MediaType, ApiError>,
) -> Result<MediaType, ApiError> {
    let has_changes = media_type.as_ref().is_ok_and(|it| it.format.is_of_changes());
    caller.require(if has_changes { Scope::Write } else { Scope::Ingest })?;
    media_type
}

/// When a request is answered that does not say: changes once they are done, because only then it is known whether they were.
pub fn usual_ack(format: Format) -> Ack {
    if format.is_of_changes() { Ack::Commit } else { Ack::default() }
}

pub fn admit(state: &AppState, caller: &Caller) -> Result<Option<Admission>, ApiError> {
    Ok(state.auth.admit(caller).inspect_err(|_| metrics::count_refused("quota_exceeded"))?)
}

/// The header `Idempotency-Key`, if there is one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
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
pub fn sender(caller: &Caller) -> SenderId {
    match (caller.via, caller.user_id) {
        (Via::Bearer { token_id } | Via::Ticket { token_id: Some(token_id) }, _) => {
            SenderId::Token(token_id)
        }
        (_, Some(user_id)) => SenderId::User(user_id),
        (_, None) => SenderId::Local,
    }
}

/// The stream for a body of this format.
pub fn find_target(
    state: &AppState,
    caller: &Caller,
    name: &str,
    format: Format,
) -> Result<Target, ApiError> {
    let makes_streams = state.config.access.auto_create_streams && !format.is_of_changes();
    let target = Target::find(&state.catalog, caller, makes_streams, name).map_err(|error| {
        let (code, message) = (error.code(), error.to_string());
        match error {
            NoTarget::InvalidName(_) => ApiError::unprocessable(code, message),
            NoTarget::NotAllowed(_) => ApiError::forbidden(code, message),
            NoTarget::Unknown(_) => ApiError::not_found(code, message),
        }
    })?;
    if format.is_of_changes() && !target.stream.takes_changes() {
        let detail = format!(
            "the stream \"{name}\" takes no changes: its records need a key, and on_duplicate must be replace; make a stream \
             with both"
        );
        return Err(ApiError::conflict("stream_takes_no_changes", detail));
    }
    Ok(target)
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
