//! A monitor over server-sent events: the same messages as over a WebSocket, for every client that can read a plain
//! response.
//!
//! Each event's `data` is one message; its `id` is the cursor, so that a browser resumes by itself. The body gives one
//! piece after the other as the connection takes them; a reader that takes nothing is ended by the hub, and frees what
//! waited for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::{PERMISSION_INTERVAL, until_revoked};
use crate::hub::{Ended, Message};

/// A comment goes out after this long without an event, so that no proxy on the way takes the connection for dead.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Browsers wait this long before they connect again.
const RETRY_MS: u32 = 2_000;
/// Messages up to this size are copied into one piece with what surrounds them, in bytes.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// The response that serves a monitor until either side ends it. `still_allowed` is asked every few seconds.
pub fn respond<A, F>(session: Session, still_allowed: A, shutdown: CancellationToken) -> Response
where
    A: FnMut() -> F + Send + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    let events = Events {
        session: Some(session),
        pieces: VecDeque::from([Bytes::from(format!("retry: {RETRY_MS}\n\n"))]),
        revoked: Box::pin(until_revoked(PERMISSION_INTERVAL, still_allowed)),
        shutdown,
    };
    let body = futures::stream::unfold(events, |mut events| async move {
        let piece = events.next().await?;
        Some((Ok::<_, Infallible>(piece), events))
    });
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        // Proxies that understand it send each event on at once.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

struct Events {
    /// None once it is over.
    session: Option<Session>,
    pieces: VecDeque<Bytes>,
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    shutdown: CancellationToken,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            let session = self.session.as_mut()?;
            let over = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => Over::SHUTDOWN,
                () = &mut self.revoked => Over("forbidden", "you may not watch any longer"),
                message = session.next() => match message {
                    Ok(message) => {
                        self.pieces.extend(event(message));
                        return self.pieces.pop_front();
                    }
                    Err(Ended::Shutdown) => Over::SHUTDOWN,
                    Err(Ended::Stuck | Ended::Left) => {
                        Over("too_slow", "too slow; resume with the last id")
                    }
                },
                () = tokio::time::sleep(KEEP_ALIVE_INTERVAL) => {
                    return Some(Bytes::from_static(b": alive\n\n"));
                }
            };
            self.session = None;
            self.pieces.extend(event(Message::error(over.0, over.1)));
        }
        self.pieces.pop_front()
    }
}

/// Why there are no more events: code and message.
struct Over(&'static str, &'static str);

impl Over {
    const SHUTDOWN: Over = Over("shutting_down", "the gateway is shutting down");
}

/// An event. Messages are one line each, so their text is the data as it stands; a large one is shared, not copied.
fn event(message: Message) -> Vec<Bytes> {
    let head = match message.cursor {
        Some(cursor) => format!("id: {cursor}\ndata: "),
        None => "data: ".to_owned(),
    };
    if message.text.len() <= COPY_BYTES_MAX {
        return vec![Bytes::from([&head, message.text.as_str(), "\n\n"].concat())];
    }
    vec![Bytes::from(head), Bytes::from(message.text), Bytes::from_static(b"\n\n")]
}
