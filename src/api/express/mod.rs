//! The express way for small records: requests that lie whole in what was read from a connection are answered in place.
//!
//! Most senders send one small record a request, over a connection that stays open, and then most of what a request costs
//! is the general machinery of HTTP. So a connection begins here: as long as it brings nothing but plain requests to
//! ingest ([`head`] says which), they are read, taken and answered without it. The first request that is anything else
//! goes to the general server, with the rest of the connection: see [`Leave::HandOver`]. What is answered is the same on
//! both ways.

mod head;
mod reply;
mod rewound;

use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::entrance::{add_default_headers, panicked};
use crate::api::{AppState, records};
use crate::telemetry::metrics::record_ingest_request;

use head::{Head, Look, look};
use reply::Replies;
pub use rewound::Rewound;

/// Longest head and body together that are taken here, in bytes.
const REQUEST_BYTES_MAX: usize = head::HEAD_BYTES_MAX + head::BODY_BYTES_MAX;
/// What is read at once, in bytes.
const READ_BYTES: usize = 8 << 10;
/// Longest time for a request to arrive, and for an idle connection.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a connection leaves the express way.
pub enum Leave {
    /// It is over.
    Ended,
    /// The general server goes on with it, from the beginning of a request.
    HandOver(Rewound),
}

/// A connection on the express way.
struct Express<'a> {
    state: &'a AppState,
    stream: TcpStream,
    buffer: BytesMut,
    replies: Replies,
    silence: Silence,
    ending: Ending,
}

/// What came of waiting for more bytes.
enum Filled {
    More,
    Closed,
    /// Nothing came for too long.
    Silent,
    /// The gateway shuts down.
    Ending,
}

/// Answers requests as long as they are for this way. `ending`: the gateway shuts down.
pub async fn serve(state: &AppState, stream: TcpStream, ending: CancellationToken) -> Leave {
    let express = Express {
        state,
        stream,
        buffer: BytesMut::with_capacity(READ_BYTES),
        replies: Replies::new(state.clock.clone()),
        silence: Silence::new(),
        ending: Ending::new(ending),
    };
    match express.run().await {
        Ok(leave) => leave,
        Err(error) => {
            tracing::debug!(%error, "a connection ended early");
            Leave::Ended
        }
    }
}

impl Express<'_> {
    async fn run(mut self) -> io::Result<Leave> {
        loop {
            match look(&self.buffer) {
                Look::Records(head) if self.buffer.len() >= head.len + head.body_len => {
                    self.answer(&head).await?;
                    if self.ending.has_come() {
                        self.stream.shutdown().await?;
                        return Ok(Leave::Ended);
                    }
                    continue;
                }
                Look::Records(_) | Look::Unfinished => {}
                Look::Other => return Ok(self.hand_over()),
            }
            match self.fill().await? {
                Filled::More if self.buffer.len() <= REQUEST_BYTES_MAX => {}
                Filled::Closed | Filled::Silent | Filled::Ending if self.buffer.is_empty() => {
                    return Ok(Leave::Ended);
                }
                // The general server knows what to say to half a request.
                _ => return Ok(self.hand_over()),
            }
        }
    }

    fn hand_over(self) -> Leave {
        Leave::HandOver(Rewound::new(self.buffer.freeze(), self.stream))
    }

    /// Takes one request off the buffer and answers it.
    async fn answer(&mut self, head: &Head) -> io::Result<()> {
        let started = std::time::Instant::now();
        let request = self.buffer.split_to(head.len + head.body_len).freeze();
        let body = request.slice(head.len..);
        let text = |range: &std::ops::Range<usize>| text(&request, range);
        let (stream, token) = (text(&head.stream), text(&head.authorization));
        let taken = records::take_small(self.state, token, stream, text(&head.content_type), body);
        let taken = AssertUnwindSafe(taken).catch_unwind().await;
        let closes = self.ending.has_come();
        let reply = match taken {
            Ok(Ok(reply)) => {
                let (status, json) = reply;
                record_ingest_request(status.as_u16(), started.elapsed());
                self.replies.json(status, &json, closes)
            }
            other => {
                let mut response = match other {
                    Ok(refused) => refused.map(|(status, _)| status).into_response(),
                    Err(panic) => panicked(panic),
                };
                add_default_headers(response.headers_mut());
                record_ingest_request(response.status().as_u16(), started.elapsed());
                self.replies.response(response, closes).await
            }
        };
        self.stream.write_all(reply).await
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> io::Result<Filled> {
        self.buffer.reserve(READ_BYTES);
        self.silence.begin();
        poll_fn(|context| self.poll_fill(context)).await
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if let Poll::Ready(read) = poll_read(&mut self.stream, &mut self.buffer, context) {
            return Poll::Ready(
                read.map(|bytes| if bytes == 0 { Filled::Closed } else { Filled::More }),
            );
        }
        if self.ending.poll(context).is_ready() {
            return Poll::Ready(Ok(Filled::Ending));
        }
        self.silence.poll(context).map(|()| Ok(Filled::Silent))
    }
}

/// Appends what has arrived; 0 bytes are the end.
fn poll_read(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let start = buffer.len();
    buffer.resize(start + READ_BYTES, 0);
    let mut free = ReadBuf::new(&mut buffer[start..]);
    let result = Pin::new(stream).poll_read(context, &mut free);
    let bytes = free.filled().len();
    buffer.truncate(start + bytes);
    ready!(result)?;
    Poll::Ready(Ok(bytes))
}

/// The parts of a head that are asked for are ASCII: [`head`] has looked.
fn text<'a>(request: &'a Bytes, range: &std::ops::Range<usize>) -> &'a str {
    str::from_utf8(&request[range.clone()]).unwrap_or_default()
}

/// A limit on waiting whose timer is set once and moved only when it rings: waits are far shorter than the limit.
struct Silence {
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new() -> Silence {
        let deadline = Instant::now() + REQUEST_WAIT_MAX;
        Silence { deadline, timer: Box::pin(sleep_until(deadline)) }
    }

    fn begin(&mut self) {
        self.deadline = Instant::now() + REQUEST_WAIT_MAX;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

/// Tells when the gateway shuts down. The waker is left behind once: it stays the same for the connection's task.
struct Ending {
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    is_set_up: bool,
}

impl Ending {
    /// `token` is this connection's own: whoever looks at it takes its lock.
    fn new(token: CancellationToken) -> Ending {
        let waiting = Box::pin(token.clone().cancelled_owned());
        Ending { token, waiting, is_set_up: false }
    }

    fn has_come(&self) -> bool {
        self.token.is_cancelled()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_set_up, true) {
            return self.waiting.as_mut().poll(context);
        }
        if self.has_come() { Poll::Ready(()) } else { Poll::Pending }
    }
}
