//! The body of a request that brings records: what it says that it is, how long it may be, and how it is read.
//!
//! A decoder counts what it remembers: a few hundred bytes on the line may have it remember megabytes.

use std::task::{Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures::stream::{self, Stream, StreamExt};
use tidegate_codec::formats::MediaType;

use crate::api::bodies::{Full, Holder, MemoryPermit};
use crate::api::{ApiError, AppState};
use crate::auth::{Auth, AuthError, Caller};
use crate::ingest::body::{BodyError, BodyLimits, BodyReader, ContentEncoding};

/// What a body says that it is.
pub fn media_type(headers: &HeaderMap) -> Result<MediaType, ApiError> {
    let header = headers.get(header::CONTENT_TYPE);
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type_of(text)
}

/// The same of a header that was read already.
pub fn media_type_of(content_type: &str) -> Result<MediaType, ApiError> {
    MediaType::read(content_type)
        .map_err(|error| ApiError::unsupported_media_type(error.to_string()))
}

/// How a body is compressed.
pub fn content_encoding(headers: &HeaderMap) -> Result<ContentEncoding, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map(|value| value.to_str().unwrap_or("?"));
    ContentEncoding::from_header(encoding)
        .map_err(|error| ApiError::unsupported_media_type(error.to_string()))
}

/// How long a body of records may be and take.
pub fn limits(state: &AppState) -> BodyLimits {
    BodyLimits {
        wire_bytes_max: state.config.intake.body_bytes_max,
        decompressed_bytes_max: state.config.intake.body_decompressed_bytes_max,
        idle_timeout: Duration::from_secs(state.config.intake.body_idle_seconds),
    }
}

/// Reads the body of an authenticated caller, for as long as they are let in; what its decoder remembers counts for as long as
/// it does.
pub fn read(
    state: &AppState,
    caller: &Caller,
    body: Body,
    encoding: ContentEncoding,
    limits: BodyLimits,
) -> BodyReader {
    let body = while_let_in(state.auth.clone(), caller.clone(), body);
    let reader = BodyReader::new(body, encoding, limits);
    if encoding == ContentEncoding::Identity {
        return reader;
    }
    let (budget, mut held) = (state.memory_budget.clone(), None::<MemoryPermit>);
    reader.with_account(move |bytes| match &mut held {
        Some(held) => held.grow(bytes).is_ok(),
        None => {
            held = budget.hold(Holder::Known, bytes).ok();
            held.is_some()
        }
    })
}

/// Each part of a body, and its end, asks whether the caller is still let in: a body may arrive for hours.
fn while_let_in(
    auth: Auth,
    caller: Caller,
    body: Body,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static {
    let mut body = body.into_data_stream();
    stream::poll_fn(move |context| {
        let next = ready!(body.poll_next_unpin(context));
        if !auth.takes(&caller) {
            return Poll::Ready(Some(Err(BodyError::ShutOut { via: caller.via }.into())));
        }
        Poll::Ready(next.map(|chunk| chunk.map_err(BoxError::from)))
    })
}

/// What a sender is told whose body cannot be read.
pub fn error(error: &BodyError) -> ApiError {
    match error {
        BodyError::TooLarge { .. } => ApiError::too_large("body_too_large", error.to_string()),
        BodyError::Idle { .. } => ApiError::timeout("body_too_slow", error.to_string()),
        BodyError::Corrupt { .. } | BodyError::Padded => {
            ApiError::bad_request("corrupt_body", error.to_string())
        }
        BodyError::Undeclared { .. } => ApiError::unsupported_media_type(error.to_string()),
        BodyError::NoMemory => Full::Budget.into(),
        BodyError::ShutOut { via } => AuthError::no_longer(*via).into(),
        BodyError::Interrupted { .. } => ApiError::bad_request("broken_body", error.to_string()),
    }
}
