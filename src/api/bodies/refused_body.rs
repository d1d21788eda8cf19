//! Reading off what a refused sender is still sending.
//!
//! A connection that is closed over unread bytes is reset, and the sender would not get to see why it was refused.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
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
    read_off(request, async |request| next.run(request).await).await
}

/// Has a request handled, and after an answer that is an error, takes the rest of the body off the wire.
pub async fn read_off(request: Request, handle: impl AsyncFnOnce(Request) -> Response) -> Response {
    let asks_first = request.headers().contains_key(EXPECT);
    let requester = Requester::of(request.extensions());
    let (parts, body) = request.into_parts();
    let rest = SharedBody::new(body);
    let response = handle(Request::from_parts(parts, Body::from_stream(rest.clone()))).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    // A sender that asks before sending (`Expect: 100-continue`) would take reading for a yes.
    if refused && (rest.was_read() || !asks_first) {
        Box::pin(requester.asking(rest.discard())).await;
    }
    response
}

/// A body that the handler reads, and whose rest can be read when the handler gave up. Clones share it.
#[derive(Clone)]
struct SharedBody(Arc<Shared>);

struct Shared {
    body: Mutex<Body>,
    was_read: AtomicBool,
}

impl SharedBody {
    fn new(body: Body) -> SharedBody {
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

    fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.was_read.store(true, Ordering::Relaxed);
        let mut body = self.lock();
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
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
