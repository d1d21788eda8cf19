//! Reading off what a refused sender is still sending.
//!
//! A connection that is closed over unread bytes is reset, and the sender would not get to see why it was refused.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};

/// How much of a refused body is read off, and for how long.
const DISCARD_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Middleware: after an answer that is an error, takes the rest of the body off the wire.
pub async fn read_off(request: Request, next: Next) -> Response {
    let asks_first = request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let rest = SharedBody::new(body);
    let body = Body::from_stream(rest.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    // Who asks before sending (`Expect: 100-continue`) would take reading for a yes.
    if refused && (rest.was_read() || !asks_first) {
        rest.discard().await;
    }
    response
}

/// A body that the handler reads, and whose rest can be read when the handler gave up.
#[derive(Clone)]
struct SharedBody {
    body: Arc<Mutex<BodyDataStream>>,
    read: Arc<AtomicBool>,
}

impl SharedBody {
    fn new(body: Body) -> SharedBody {
        SharedBody { body: Arc::new(Mutex::new(body.into_data_stream())), read: Arc::default() }
    }

    fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
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
}

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.read.store(true, Ordering::Relaxed);
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_next(context)
    }
}
