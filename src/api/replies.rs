//! Replies that are not taken yet: their bytes count for as long as they are held.
//!
//! A reply is counted before its first byte leaves, and given back when its last one is handed to the system, whoever has
//! it meanwhile. Without room for it the request is refused, so that peers who ask and never read cost no more than the
//! budget. Beyond it there is a small reserve, so that a gateway whose budget others use up still says how it fares.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;

use crate::api::{ApiError, AppState};

/// Replies up to this size are not counted, in bytes: a connection has more than that of its own.
const UNCOUNTED_BYTES_MAX: usize = 4 << 10;
/// What replies may take when the budget is used up, in bytes.
pub const RESERVE_BYTES: usize = 8 << 20;

/// Counts the reply to a request.
pub async fn middleware(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let bytes = response.body().size_hint().lower();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes <= UNCOUNTED_BYTES_MAX {
        return response;
    }
    match state.held_bytes.hold(bytes).or_else(|_| state.reply_reserve.hold(bytes)) {
        Ok(held) => response.map(|body| held_until_written(body, Arc::new(held))),
        Err(full) => ApiError::request_memory_full(full).into_response(),
    }
}

/// A JSON reply that keeps something until its last byte was written.
pub fn json_with(body: Vec<u8>, kept: impl Send + Sync + 'static) -> Response {
    let body = Bytes::from_owner(Kept { bytes: body.into(), _kept: kept });
    let json = HeaderValue::from_static("application/json");
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn held_until_written(body: Body, kept: Arc<impl Send + Sync + 'static>) -> Body {
    let body = body.map_frame(move |frame| {
        frame.map_data(|bytes| Bytes::from_owner(Kept { bytes, _kept: Arc::clone(&kept) }))
    });
    Body::new(body)
}

/// Bytes that keep something for as long as any part of them is there.
struct Kept<T> {
    bytes: Bytes,
    _kept: T,
}

impl<T> AsRef<[u8]> for Kept<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_reply_keeps_goes_with_its_last_byte() {
        let kept = Arc::new(());
        let body = held_until_written(Body::from("0123456789"), Arc::clone(&kept));
        assert_eq!(body.size_hint().exact(), Some(10), "it still says how long it is");
        let mut frames = body.into_data_stream();
        let mut bytes = futures::StreamExt::next(&mut frames).await.unwrap().unwrap();
        drop(frames);
        assert_eq!(&bytes.split_to(4)[..], b"0123");
        assert_eq!(Arc::strong_count(&kept), 2, "some of it is not written");
        drop(bytes);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
