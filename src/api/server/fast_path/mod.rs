//! The fast path for small records: requests that lie whole in what was read from a connection are answered in place.
//!
//! Most senders send one small record a request, over a connection that stays open, and then most of what a request costs
//! is the general machinery of HTTP. So a connection begins here: as long as it brings nothing but plain requests to
//! ingest ([`head`] says which), they are read, taken and answered without it. The first request that is anything else
//! goes to the general server, with the rest of the connection: see [`Leave::HandOver`]. What is answered is the same on
//! both ways.

mod head;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::api::AppState;
use crate::api::connections::{HEAD_MAX, IDLE_MAX, Paced, ReadDeadline};
use crate::api::inputs::records;
use crate::api::response::{add_default_headers, panicked};
use crate::api::server::prefixed::PrefixedStream;
use crate::api::server::reply::ReplyWriter;
use crate::telemetry::metrics::record_ingest_request;

use head::{Beginning, Head, begins};

/// Longest head and body together that are taken here, in bytes.
const REQUEST_BYTES_MAX: usize = head::HEAD_BYTES_MAX + head::BODY_BYTES_MAX;
/// What is read at once, in bytes.
const READ_BYTES: usize = 8 << 10;
/// Longest time for the rest of a request; then the general server waits for it, which has its own limits.
const REST_MAX: Duration = Duration::from_secs(1);

/// Why a connection leaves the fast path.
pub enum Leave<S> {
    /// It is over.
    Ended,
    /// The general server goes on with it, from the beginning of a request.
    HandOver(PrefixedStream<S>),
}

/// A connection on the fast path.
struct FastPath<'a, S> {
    state: &'a AppState,
    stream: Paced<S>,
    buffer: BytesMut,
    writer: ReplyWriter,
    deadline: ReadDeadline,
    ending: Ending,
}

/// What came of waiting for more bytes.
enum Filled {
    More,
    Closed,
    /// It took too long.
    Late,
    /// The gateway shuts down.
    Ending,
}

/// Answers requests as long as they are for this way. `ending`: the gateway shuts down.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    state: &AppState,
    stream: Paced<S>,
    ending: CancellationToken,
) -> Leave<S> {
    let fast_path = FastPath {
        state,
        stream,
        // Most attackers send nothing, and get no buffer for it.
        buffer: BytesMut::new(),
        writer: ReplyWriter::new(state.clock.clone()),
        deadline: ReadDeadline::until(Instant::now() + HEAD_MAX),
        ending: Ending::new(ending),
    };
    match fast_path.run().await {
        Ok(leave) => leave,
        Err(error) => {
            tracing::debug!(%error, "a connection ended early");
            Leave::Ended
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FastPath<'_, S> {
    async fn run(mut self) -> io::Result<Leave<S>> {
        loop {
            let is_headless = match begins(&self.buffer) {
                // Each request that a proxy brings counts for its client.
                Beginning::Records(_) if self.stream.place().is_proxy() => {
                    return Ok(self.hand_over());
                }
                Beginning::Records(head) if self.buffer.len() >= head.len + head.body_len => {
                    if !self.stream.place().begin_request() {
                        return Ok(Leave::Ended);
                    }
                    self.answer(&head).await?;
                    if self.ending.has_come() {
                        self.stream.shutdown().await?;
                        return Ok(Leave::Ended);
                    }
                    continue;
                }
                // Its body is under way, and its token not yet looked at.
                Beginning::Records(_) if self.stream.place().begin_asking() => false,
                Beginning::Records(_) => return Ok(Leave::Ended),
                Beginning::Unfinished => true,
                Beginning::Other => return Ok(self.hand_over()),
            };
            match self.fill().await? {
                Filled::More if self.buffer.len() <= REQUEST_BYTES_MAX => {}
                Filled::Closed | Filled::Late if self.buffer.is_empty() => return Ok(Leave::Ended),
                Filled::Ending if is_headless => return Ok(Leave::Ended),
                // The general server knows what to say to half a request.
                _ => return Ok(self.hand_over()),
            }
        }
    }

    fn hand_over(self) -> Leave<S> {
        self.stream.place().begin_head(Instant::now);
        Leave::HandOver(PrefixedStream::new(self.buffer.freeze(), self.stream))
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
                self.writer.json(status, &json, closes)
            }
            other => {
                let mut response = match other {
                    Ok(refused) => refused.map(|(status, _)| status).into_response(),
                    Err(panic) => panicked(panic),
                };
                add_default_headers(response.headers_mut());
                record_ingest_request(response.status().as_u16(), started.elapsed());
                self.writer.response(response, closes).await
            }
        };
        self.stream.write_all(reply).await?;
        self.stream.flush().await?;
        let now = Instant::now();
        self.stream.place().answered(now);
        self.deadline.set(now + IDLE_MAX);
        Ok(())
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> io::Result<Filled> {
        if !self.buffer.is_empty() {
            self.deadline.hurry(Instant::now() + REST_MAX);
        }
        poll_fn(|context| self.poll_fill(context)).await
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        let read = if self.buffer.capacity() == 0 {
            self.poll_read_first(context)
        } else {
            self.buffer.reserve(READ_BYTES);
            poll_read_buf(Pin::new(&mut self.stream), context, &mut self.buffer)
        };
        match read {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(Filled::Closed)),
            Poll::Ready(read) => Poll::Ready(read.map(|_| Filled::More)),
            Poll::Pending => self.poll_no_longer(context),
        }
    }

    /// Reads the first bytes, and makes the buffer only when they are there.
    #[inline(never)]
    fn poll_read_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut bytes = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes))?;
        if !bytes.filled().is_empty() {
            self.buffer.reserve(READ_BYTES);
            self.buffer.extend_from_slice(bytes.filled());
        }
        Poll::Ready(Ok(bytes.filled().len()))
    }

    /// Ready when nothing more is waited for.
    fn poll_no_longer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if self.ending.poll(context).is_ready() {
            return Poll::Ready(Ok(Filled::Ending));
        }
        self.deadline.poll(context).map(|()| Ok(Filled::Late))
    }
}

/// The parts of a head that are asked for are ASCII: [`head`] has looked.
fn text<'a>(request: &'a Bytes, range: &std::ops::Range<usize>) -> &'a str {
    str::from_utf8(&request[range.clone()]).unwrap_or_default()
}

/// Tells when the gateway shuts down. The waker is left behind once: it stays the same for the connection's task.
struct Ending {
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    is_set_up: bool,
}

impl Ending {
    /// `token` is this connection's own: each look at it takes its lock.
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
