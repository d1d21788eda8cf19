//! `/v1/streams`: making, showing, changing and dropping streams, and proposing columns for one.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tidegate_codec::StreamView;
use tidegate_codec::columns::Column;
use tidegate_codec::csv::CsvWords;
use tidegate_codec::definition::{InvalidDefinition, StreamChange, StreamDefinition};
use tidegate_codec::infer::SampleError;
use tidegate_codec::{OnDuplicate, PayloadType, UnknownKeys, infer};
use tidegate_record::StreamId;
use tokio::time::timeout;

use crate::api::bodies::{ApiJson, Holder, MemoryPermit};
use crate::api::caller::PathText;
use crate::api::inputs::body;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::db::reading::{self, StreamSize};
use crate::db::streams::{NewStream, TableError};
use crate::ingest::body::{BodyError, BodyLimits, ContentEncoding};

/// Largest sample for inference, in bytes.
const SAMPLE_BYTES_MAX: usize = 8 << 20;
/// Longest time that a sample may take to arrive.
const SAMPLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// What a client is told to wait while another session of PostgreSQL holds the table that it wants to change.
const LOCKED_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    /// With the size of each table, which asks PostgreSQL.
    sizes: bool,
}

#[derive(Debug, Serialize)]
pub struct StreamList {
    streams: Vec<ListedStream>,
}

#[derive(Debug, Serialize)]
struct ListedStream {
    #[serde(flatten)]
    stream: StreamView,
    /// Only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Size {
    Known(StreamSize),
    /// null: PostgreSQL is away.
    Unknown,
}

/// A stream to make. The members are those of [`StreamDefinition`], and the name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateStream {
    name: String,
    columns: Option<Vec<Column>>,
    payload: Option<PayloadType>,
    unknown: Option<UnknownKeys>,
    key: Option<Vec<String>>,
    on_duplicate: Option<OnDuplicate>,
    retention_days: Option<u16>,
}

impl From<InvalidDefinition> for ApiError {
    fn from(error: InvalidDefinition) -> ApiError {
        ApiError::unprocessable("invalid_stream", error.to_string()).with("place", error.place)
    }
}

impl From<TableError> for ApiError {
    fn from(error: TableError) -> ApiError {
        match error {
            TableError::Database(error) => error.into(),
            // Callers who may change a table are told what holds it, because only they can do something about it.
            TableError::Locked(ref locked) => {
                tracing::warn!(error = %locked, "a stream was not changed");
                let detail = format!(
                    "{locked}; nothing was changed: wait until it is free, or end who holds it \
                     (pg_terminate_backend), and send this again"
                );
                ApiError::unavailable(error.code(), detail, LOCKED_RETRY)
            }
            TableError::Busy => {
                ApiError::unavailable(error.code(), error.to_string(), LOCKED_RETRY)
            }
            TableError::TooMany(reason) => {
                ApiError::conflict(error.code(), reason.to_string()).with("limit", reason.limit())
            }
            error => ApiError::conflict(error.code(), error.to_string()),
        }
    }
}

/// `GET /v1/streams`: those that the caller may use.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<StreamList>, ApiError> {
    caller.require(Scope::Read)?;
    let Query(query) = query?;
    let sizes = if query.sizes {
        let _permit = state.lists.take(&caller).await?;
        let sizes = reading::sizes(&state.database.pools().reading).await;
        Some(sizes.inspect_err(|error| tracing::debug!(%error, "no sizes of streams")).ok())
    } else {
        None
    };
    let size = |id: StreamId| {
        let known = sizes.as_ref()?.as_ref().and_then(|sizes| sizes.get(&id));
        Some(known.map_or(Size::Unknown, |size| Size::Known(*size)))
    };
    let snapshot = state.catalog.streams().snapshot();
    let mut streams: Vec<ListedStream> = snapshot
        .iter()
        .filter(|stream| caller.may_use(&stream.name))
        .map(|stream| ListedStream { size: size(stream.id), stream: StreamView::from(&**stream) })
        .collect();
    streams.sort_by(|left, right| left.stream.name().cmp(right.stream.name()));
    Ok(Json(StreamList { streams }))
}

/// `POST /v1/streams`: 201 with the stream, 409 if the name is taken by a stream or by anything else in PostgreSQL or there
/// are as many streams as there may be, 422 with the place if something cannot be.
pub async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(asked): ApiJson<CreateStream>,
) -> Result<impl IntoResponse, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let name = named_stream::parse_name(&asked.name)?;
    named_stream::require(&caller, &name)?;
    let definition = StreamDefinition {
        columns: asked.columns,
        payload: asked.payload,
        unknown: asked.unknown,
        key: asked.key,
        on_duplicate: asked.on_duplicate,
        retention_days: asked.retention_days,
    };
    let defined = definition.check()?;
    let new = NewStream {
        name,
        shape: defined.shape,
        key: defined.key,
        retention_days: defined.retention_days,
        created_by: caller.user_id,
    };
    match state.catalog.create(&new).await? {
        Some(stream) => Ok((StatusCode::CREATED, Json(StreamView::from(&*stream)))),
        None => Err(ApiError::conflict(
            "stream_exists",
            format!("there is a stream \"{}\" already", new.name),
        )),
    }
}

/// `GET /v1/streams/{stream}`.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
) -> Result<Json<StreamView>, ApiError> {
    caller.require(Scope::Read)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    Ok(Json(StreamView::from(&*stream)))
}

/// `PATCH /v1/streams/{stream}`: columns only grow, at the end and by wider types. 409 if the table is not what the stream
/// says, or if PostgreSQL does not let it be changed.
pub async fn change(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
    ApiJson(change): ApiJson<StreamChange>,
) -> Result<Json<StreamView>, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    let changed = change.apply(&stream)?;
    match state.catalog.update(&stream, &changed).await? {
        Some(stream) => Ok(Json(StreamView::from(&*stream))),
        None => Err(ApiError::conflict(
            "stream_changed",
            "the stream was changed or deleted in the meantime; look at it and try again",
        )),
    }
}

/// `DELETE /v1/streams/{stream}`: drops the table with all its rows. Records that still wait in the journal go too.
pub async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    PathText(name): PathText,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::StreamsWrite)?;
    let stream = named_stream::find(&state, &caller, &name)?;
    if state.catalog.delete(&stream).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(named_stream::no_such_stream(&name))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferQuery {
    null: Option<String>,
    delimiter: Option<String>,
    quote: Option<String>,
    header: Option<String>,
    columns: Option<String>,
}

/// `POST /v1/streams/infer`: proposes columns from a sample in the body; makes nothing.
pub async fn infer(
    State(state): State<AppState>,
    caller: Caller,
    query: Result<Query<InferQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<infer::Inferred>, ApiError> {
    caller.require(Scope::Read)?;
    let Query(InferQuery { null, delimiter, quote, header, columns }) = query?;
    let media_type = body::media_type(request.headers())?;
    if media_type.format.is_of_changes() {
        let detail = "a sample has records, not changes: send application/json, application/x-ndjson or text/csv";
        return Err(ApiError::unsupported_media_type(detail));
    }
    let csv = CsvWords { null, delimiter, quote, header, columns }.check(media_type.header)?;
    let encoding = body::content_encoding(request.headers())?;
    let permit = state.samples.take(&caller).await?;
    let sample = timeout(SAMPLE_WAIT_MAX, read_sample(&state, &caller, request, encoding)).await;
    let (body, held) = sample.map_err(|_| sample_too_slow())??;
    // Apart from where requests are served; the memory is held until that is done, even if the request is given up.
    let look = move || {
        let inferred = infer::infer(infer::Sample::of(media_type.format, &body, &csv));
        drop((body, held, permit));
        inferred
    };
    let inferred = tokio::task::spawn_blocking(look).await.map_err(ApiError::internal)?;
    let invalid = |error: SampleError| ApiError::bad_request("invalid_sample", error.to_string());
    Ok(Json(inferred.map_err(invalid)?))
}

/// All of a sample, and the part of the budget that it takes.
async fn read_sample(
    state: &AppState,
    caller: &Caller,
    request: Request,
    encoding: ContentEncoding,
) -> Result<(BytesMut, MemoryPermit), ApiError> {
    let limits = BodyLimits {
        wire_bytes_max: SAMPLE_BYTES_MAX as u64,
        decompressed_bytes_max: SAMPLE_BYTES_MAX as u64,
        ..body::limits(state)
    };
    let mut reader = body::read(state, caller, request.into_body(), encoding, limits);
    let mut body = BytesMut::new();
    let mut held = state.memory_budget.hold(Holder::Known, 0)?;
    while let Some(chunk) = reader.next().await.map_err(|error| sample_error(&error))? {
        let bytes = body.len() + chunk.len();
        if bytes > body.capacity() {
            // Twice as much is kept, and while it is moved, what there was as well.
            let capacity = (2 * bytes).min(SAMPLE_BYTES_MAX);
            held.grow(capacity)?;
            body.reserve(capacity - body.len());
            held.shrink_to(body.capacity());
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, held))
}

fn sample_too_slow() -> ApiError {
    let seconds = SAMPLE_WAIT_MAX.as_secs();
    let detail = format!("a sample must arrive within {seconds} s; send its beginning");
    ApiError::timeout("body_timeout", detail)
}

fn sample_error(error: &BodyError) -> ApiError {
    match error {
        BodyError::TooLarge { .. } => ApiError::too_large(
            "sample_too_large",
            format!("a sample has at most {SAMPLE_BYTES_MAX} bytes; send its beginning"),
        ),
        _ => body::error(error),
    }
}
