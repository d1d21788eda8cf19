//! What every response has, whichever way its request went.

use std::any::Any;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::api::ApiError;

/// In every response, unless the handler says something else.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The same as lines of a head.
pub static DEFAULT_HEADER_LINES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let line = |(name, value): &(HeaderName, HeaderValue)| {
        [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
    };
    DEFAULT_HEADERS.iter().flat_map(line).collect()
});

/// Adds the headers that every response has.
pub fn add_default_headers(headers: &mut HeaderMap) {
    for (name, value) in DEFAULT_HEADERS {
        headers.entry(name).or_insert(value);
    }
}

/// What is answered for a handler that panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("a request handler panicked").into_response()
}
