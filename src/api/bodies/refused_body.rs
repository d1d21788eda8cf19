//! Reading off what a refused sender is still sending.
//!
//! A connection that is closed over unread bytes is reset, and the sender would not get to see why it was refused.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http;
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::api::connections::Requester;

/// How much of a refused body is read off, and for how long.
const DISCARD_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// [`read_off`] for a route.
pub async fn middleware(request: Request, next: Next) -> Response {
    read_off(request, async |parts, body| {
        next.run(Request::from_parts(parts, Body::from_stream(body))).await
    })
    .await
}

/// Has a request handled, and after an answer that is an error, takes the rest of the body off the wire.
pub async fn read_off<B: IncomingBody>(
    request: http::Request<B>,
    handle: impl AsyncFnOnce(Parts, SharedBody<B>) -> Response,
) -> Response {
    let asks_first = request.headers().contains_key(EXPECT);
    let requester = Requester::of(request.extensions());
    let (parts, body) = request.into_parts();
    let rest = SharedBody::new(body);
    let response = handle(parts, rest.clone()).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    // A sender that asks before sending (`Expect: 100-continue`) would take reading for a yes.
    if refused && (rest.was_read() || !asks_first) {
        Box::pin(requester.asking(rest.discard())).await;
    }
    response
}

/// A body of a request.
pub trait IncomingBody:
    HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static
{
}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> IncomingBody for B {}

/// A body that the handler reads, and whose rest can be read when the handler gave up. Clones share it.
pub struct SharedBody<B>(Arc<Shared<B>>);

struct Shared<B> {
    body: Mutex<B>,
    was_read: AtomicBool,
}

impl<B> Clone for SharedBody<B> {
    fn clone(&self) -> SharedBody<B> {
        SharedBody(Arc::clone(&self.0))
    }
}

impl<B: IncomingBody> SharedBody<B> {
    fn new(body: B) -> SharedBody<B> {
        SharedBody(Arc::new(Shared { body: Mutex::new(body), was_read: AtomicBool::new(false) }))
    }

    fn was_read(&self) -> bool {
        self.0.was_read.load(Ordering::Relaxed)
    }

    async fn discard(mut self) {
        let rest = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = self.next().await {
                bytes += chunk.len();
                if bytes > DISCARD_BYTES_MAX {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME_MAX, rest).await;
    }

    fn lock(&self) -> MutexGuard<'_, B> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: IncomingBody> Stream for SharedBody<B> {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.was_read.store(true, Ordering::Relaxed);
        let mut body = self.lock();
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => {
                    // Trailers say nothing that is asked for.
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
            }
        }
    }
}
