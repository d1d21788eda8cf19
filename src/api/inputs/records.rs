//! `POST /v1/streams/{stream}/records`: the way in for records.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use tidegate_codec::csv::{CsvOptions, CsvWords, InvalidCsvOptions};
use tidegate_codec::{PayloadType, Shape, Stream};
use tidegate_record::StreamId;

use crate::api::caller::{PathText, authenticate};
use crate::api::inputs::receipt::{answer, reply_json};
use crate::api::inputs::refusal::refusal;
use crate::api::inputs::{body, not_kept};
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Admission, Caller, Scope, Via};
use crate::db::streams::NewStream;
use crate::pipeline::SenderId;
use crate::sources::body::BodyReader;
use crate::sources::http::{Ack, IngestRequest, MakeStream, OnError};
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
enum OnErrorWord {
    #[default]
    Quarantine,
    Reject,
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
    caller.require(Scope::Ingest)?;
    let Query(query) = Query::<RecordsQuery>::try_from_uri(&parts.uri)?;
    let media_type = body::media_type(&parts.headers)?;
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
    let (stream, is_new) = find_or_plan(state, &caller, &name)?;
    let quota = admit(state, &caller)?;
    let mut not_made = None;
    let make =
        is_new.then(|| make_stream(state, caller.user_id, Arc::clone(&stream), &mut not_made));
    let ingest = IngestRequest {
        key,
        stream,
        sender: sender(&caller),
        quota,
        user: Arc::clone(&caller.user_name),
        received_at: state.clock.now(),
        format: media_type.format,
        csv,
        ack: query.ack.into(),
        on_error: match query.on_error {
            OnErrorWord::Quarantine => OnError::Quarantine,
            OnErrorWord::Reject => OnError::Reject,
        },
        return_ids,
    };
    let body = body::read(state, body, encoding, body::limits(state));
    match state.source.ingest(ingest, body, make).await {
        Ok(reply) => Ok(answer(state, reply, return_ids)),
        Err(failure) => Err(not_made.unwrap_or_else(|| refusal(state, *failure))),
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
    caller.require(Scope::Ingest)?;
    let media_type = body::media_type_of(content_type)?;
    let csv = match media_type.header {
        None => CsvOptions::default(),
        said => CsvWords::default().check(said)?,
    };
    let (stream, is_new) = find_or_plan(state, &caller, name)?;
    let quota = admit(state, &caller)?;
    let mut not_made = None;
    let make =
        is_new.then(|| make_stream(state, caller.user_id, Arc::clone(&stream), &mut not_made));
    let ingest = IngestRequest {
        key: None,
        stream,
        sender: sender(&caller),
        quota,
        user: caller.user_name,
        received_at: state.clock.now(),
        format: media_type.format,
        csv,
        ack: Ack::default(),
        on_error: OnError::default(),
        return_ids: false,
    };
    let body = BodyReader::whole(body, body::limits(state));
    match state.source.ingest(ingest, body, make).await {
        Ok(reply) => match not_kept::nothing_taken(&state.config.quarantine, &reply) {
            Some(error) => Err(error),
            None => Ok(reply_json(state, reply, false)),
        },
        Err(failure) => Err(not_made.unwrap_or_else(|| refusal(state, *failure))),
    }
}

fn admit(state: &AppState, caller: &Caller) -> Result<Option<Admission>, ApiError> {
    Ok(state.auth.admit(caller).inspect_err(|_| metrics::count_refused("quota_exceeded"))?)
}

/// The header `Idempotency-Key`, if there is one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
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

/// The stream of this name, or, where it is still to be made and may be, what it will be; and whether it is still to be
/// made.
fn find_or_plan(
    state: &AppState,
    caller: &Caller,
    name: &str,
) -> Result<(Arc<Stream>, bool), ApiError> {
    let name = named_stream::parse_name(name)?;
    named_stream::require(caller, &name)?;
    if let Some(stream) = state.catalog.streams().by_name(&name) {
        return Ok((stream, false));
    }
    if !state.config.access.auto_create_streams || caller.require(Scope::StreamsWrite).is_err() {
        return Err(named_stream::no_such_stream(name.as_str()));
    }
    let planned = Stream {
        id: StreamId(0),
        name,
        shape: Shape::Document { payload: PayloadType::Jsonb },
        key: None,
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    };
    Ok((Arc::new(planned), true))
}

/// Makes an unknown stream, for its first record; or says in `not_made` why not.
fn make_stream<'a>(
    state: &'a AppState,
    maker: Option<i64>,
    planned: Arc<Stream>,
    not_made: &'a mut Option<ApiError>,
) -> MakeStream<'a> {
    Box::pin(async move {
        let made = create_stream(state, maker, &planned).await;
        made.map_err(|error| *not_made = Some(error)).ok()
    })
}

async fn create_stream(
    state: &AppState,
    maker: Option<i64>,
    planned: &Stream,
) -> Result<Arc<Stream>, ApiError> {
    let new = NewStream {
        name: planned.name.clone(),
        shape: planned.shape.clone(),
        key: None,
        retention_days: None,
        created_by: maker,
    };
    if let Some(stream) = state.catalog.create(&new).await? {
        return Ok(stream);
    }
    // Another request made it at the same moment.
    let made = state.catalog.streams().by_name(&new.name);
    let stream = made.ok_or_else(|| named_stream::no_such_stream(new.name.as_str()))?;
    // What is waiting for it was read for a stream of documents without a key.
    if stream.shape == new.shape && stream.key.is_none() {
        return Ok(stream);
    }
    let detail =
        "another request made this stream at the same moment, with a shape of its own; send again";
    Err(ApiError::unavailable("stream_just_made", detail, RETRY_AFTER_MADE))
}

impl From<InvalidCsvOptions> for ApiError {
    fn from(error: InvalidCsvOptions) -> ApiError {
        ApiError::bad_request("invalid_query", error.to_string())
    }
}
