//! What the HTTP server refuses before any of our code sees it, told as every other refusal.
//!
//! Where the head of a request is no HTTP, the server writes a bare status by itself and hangs up, and calls no service. So the
//! connection that it writes to looks for such an answer, which no handler of ours gives, and puts a problem
//! document into it. Then it reads on for a moment: a peer that is still sending would otherwise be reset, and not see it.
//!
//! The same where a request was answered before its body had come.
//!
//! It also sees how much of a head is there, and holds it against the gateway's budget of bytes: the server itself only knows
//! how long one head may be, and not how many there are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::api::bodies::{Full, Holder, MemoryBudget, MemoryPermit};
use crate::api::connections::{HEAD_MAX, Phase, Place, Requester};
use crate::api::error::{ApiError, PROBLEM_JSON};
use crate::api::response::DEFAULT_HEADER_LINES;
use crate::api::server::prefixed::PrefixedStream;
use crate::telemetry::limits;

/// Longest wait for a peer that was refused to stop sending, and how much of it is read.
const READ_ON_MAX: Duration = Duration::from_secs(1);
const READ_ON_BYTES_MAX: usize = 4 << 20;
/// Longest head of a request, in bytes: the first line and all header lines. What a browser sends with its cookies has a few
/// thousand.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// So much of a head is not counted, in bytes: nearly all heads are shorter.
const HEAD_BYTES_FREE: usize = 8 << 10;
/// Most bytes that are read at once while their sender is not authenticated. The server doubles its buffer after each read of 8
/// KiB and more, and keeps it for as long as the connection: with this it stays as small as it begins.
const UNKNOWN_READ_BYTES_MAX: u64 = (8 << 10) - 1;
/// So much of what came first is kept, in bytes, to say what is wrong with it.
const FIRST_BYTES_MAX: usize = 512;
/// Header lines that the server takes.
const HEADER_LINES_MAX: usize = 100;
const BARE_START: &[u8] = b"HTTP/1.1 4";
const BARE_LENGTH: &str = "content-length: 0\r\n";

/// A connection that explains; see the module.
pub struct Explained<S> {
    stream: PrefixedStream<S>,
    /// The beginning of what came first, until something is answered.
    first: Bytes,
    /// What the fast path had read, until it is read here.
    prefix: Option<MemoryPermit>,
    /// An answer of ours that is still to be written.
    answer: Bytes,
    reading_on: Option<(Pin<Box<Sleep>>, usize)>,
    head: UnfinishedHead,
}

/// What came of a head that is not whole yet.
struct UnfinishedHead {
    budget: MemoryBudget,
    requester: Requester,
    bytes: usize,
    held: Option<MemoryPermit>,
    /// The budget was used up.
    refused: Option<Full>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Explained<S> {
    pub fn new(
        stream: PrefixedStream<S>,
        budget: MemoryBudget,
        requester: Requester,
    ) -> Explained<S> {
        let first = stream.first();
        let counted = first.len().saturating_sub(HEAD_BYTES_FREE);
        let hold = || budget.hold(Holder::of(&requester), counted);
        let (prefix, refused) = match (counted > 0).then(hold).transpose() {
            Ok(held) => (held, None),
            Err(full) => (None, Some(full)),
        };
        let first = Bytes::copy_from_slice(&first[..first.len().min(FIRST_BYTES_MAX)]);
        let head = UnfinishedHead { budget, requester, bytes: 0, held: None, refused };
        Explained { stream, first, prefix, answer: Bytes::new(), reading_on: None, head }
    }

    /// Why the server is left without a request, or the rest of a head, if it is.
    pub fn refused(&self) -> Option<ApiError> {
        self.head.refused.map(ApiError::from)
    }

    /// What is said when the head that has begun does not come in time; `None` where nothing came.
    pub fn head_too_slow(&self) -> Option<ApiError> {
        (self.head.bytes > 0).then(|| {
            limits::HEAD_TIME.hit();
            let detail = format!(
                "the head of the request did not come within {} seconds of its beginning",
                HEAD_MAX.as_secs()
            );
            ApiError::timeout("head_too_slow", detail)
        })
    }

    /// The last answer on a connection that the server has left. Nothing else may have been written of one.
    pub async fn refuse(mut self, answer: Vec<u8>) -> io::Result<()> {
        self.answer = answer.into();
        self.reading_on = Some((Box::pin(sleep(READ_ON_MAX)), 0));
        self.shutdown().await
    }

    /// Takes what the server is about to write, if it is a bare refusal.
    fn explain(&mut self, written: &[u8]) -> bool {
        let first = std::mem::take(&mut self.first);
        if !written.starts_with(BARE_START) {
            return false;
        }
        let Some(answer) = explained(written, &first) else {
            return false;
        };
        self.answer = answer.into();
        self.reading_on = Some((Box::pin(sleep(READ_ON_MAX)), 0));
        true
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.answer.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.answer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.answer.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the peer has ended, or long enough.
    fn poll_read_on(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((timer, bytes)) = &mut self.reading_on else {
            return Poll::Ready(());
        };
        let mut scratch = [0; 8 << 10];
        while timer.as_mut().poll(context).is_pending() && *bytes < READ_ON_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *bytes += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl UnfinishedHead {
    /// Bytes came.
    fn add(&mut self, bytes: usize, place: &Place) -> Result<(), Full> {
        // Of a request under way these are a body, or belong to a later one.
        if place.head_deadline().is_none() {
            return Ok(());
        }
        place.begin_head(Instant::now);
        self.bytes += bytes;
        let counted = self.bytes.saturating_sub(HEAD_BYTES_FREE);
        let held = match &mut self.held {
            Some(held) => held.grow(counted - held.bytes()),
            None if counted == 0 => Ok(()),
            None => {
                let held = self.budget.hold(Holder::of(&self.requester), counted);
                held.map(|held| self.held = Some(held))
            }
        };
        held.inspect_err(|full| self.refused = Some(*full))
    }

    /// The request is answered, and its head gone.
    fn forget(&mut self) {
        self.bytes = 0;
        self.held = None;
    }
}

/// A bare refusal with a problem document in it; `None` if it is not one.
fn explained(written: &[u8], first: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let (status, fields) = head.split_once("\r\n")?;
    let status = StatusCode::from_bytes(status.split(' ').nth(1)?.as_bytes()).ok()?;
    let fields = format!("{fields}\r\n");
    if !fields.contains(BARE_LENGTH) || fields.contains("content-type:") {
        return None;
    }
    let error = match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request("malformed_request", reason(first)),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let detail = format!(
                "the head of the request, its address included, is longer than {} KiB, or has more than \
                 {HEADER_LINES_MAX} header lines",
                HEAD_BYTES_MAX >> 10
            );
            ApiError::new(status, "header_too_large", detail)
        }
        _ => return None,
    };
    let body = error.body();
    let told = format!(
        "content-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n{}",
        body.len(),
        String::from_utf8_lossy(&DEFAULT_HEADER_LINES)
    );
    let fields = fields.replacen(BARE_LENGTH, &told, 1);
    let status_line = head.split_once("\r\n")?.0;
    let mut answer = format!("{status_line}\r\n{fields}\r\n").into_bytes();
    answer.extend_from_slice(&body);
    Some(answer)
}

/// What is wrong with the head of a connection's first request, as far as its beginning shows.
fn reason(first: &[u8]) -> String {
    if first.starts_with(b"\x16\x03") {
        return "this looks like TLS, and the gateway speaks plain HTTP here: say http://, or put a proxy before it that ends TLS".to_owned();
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LINES_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let fault = match request.parse(first) {
        Err(httparse::Error::Token) => {
            "there is no method, or a space or another character in it or the address that is to be written with a percent sign"
        }
        Err(httparse::Error::Version) => "the version is not HTTP/1.1 or HTTP/1.0",
        Err(httparse::Error::HeaderName) => {
            "a header line has no name, or one with a character that names do not have"
        }
        Err(httparse::Error::HeaderValue) => "a header's value has a control character",
        Err(httparse::Error::NewLine) => "a line does not end as lines do",
        _ => {
            let told = |name: &str| {
                request.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
            };
            if told("transfer-encoding") {
                "its Transfer-Encoding is not chunked, or is not for this version"
            } else if told("content-length") {
                "its Content-Length is no number, or comes twice with different ones"
            } else {
                "its first line, a header, or the length of its body makes no sense"
            }
        }
    };
    format!("the head of the request is no HTTP/1.1: {fault}")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Explained { stream, head, prefix, .. } = &mut *self;
        let is_known = stream.place().is_caller_known();
        let bytes_max = if is_known { u64::MAX } else { UNKNOWN_READ_BYTES_MAX };
        ready!(Pin::new(&mut (&mut *stream).take(bytes_max)).poll_read(context, buffer))?;
        if stream.first().is_empty() {
            *prefix = None;
        }
        head.add(buffer.filled().len() - before, stream.place()).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.explain(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare refusal is a head and nothing else.
        if let [head] = pieces
            && self.explain(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        match self.stream.place().phase() {
            Phase::Answered => {
                self.stream.place().flushed(Instant::now());
                self.head.forget();
            }
            Phase::Monitor if self.head.bytes > 0 => self.head.forget(),
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.reading_on.is_none() && self.stream.place().owes_body() {
            self.reading_on = Some((Box::pin(sleep(READ_ON_MAX)), 0));
        }
        ready!(self.poll_read_on(context));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: today\r\n\r\n";

    #[test]
    fn a_bare_refusal_gets_a_problem_document() {
        let answer =
            String::from_utf8(explained(BARE, b"GET /a b HTTP/1.1\r\n\r\n").unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"), "{head}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(head.ends_with("date: today"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&400.into(), &"malformed_request".into()));
    }

    #[test]
    fn every_other_answer_stays_as_it_is() {
        let whole = String::from_utf8(BARE.to_vec()).unwrap();
        for other in [
            whole.replace("content-length: 0", "content-length: 1") + "x",
            whole.replace("connection: close", "content-type: text/plain"),
            whole.replace("400 Bad Request", "404 Not Found"),
            whole.replace("400 Bad Request", "426 Upgrade Required"),
            whole[..whole.len() - 2].to_owned(),
        ] {
            assert_eq!(explained(other.as_bytes(), b""), None, "{other}");
        }
    }

    #[test]
    fn the_reason_is_told_as_far_as_it_shows() {
        for (first, word) in [
            (&b"\x16\x03\x01\x02"[..], "TLS"),
            (b"GET /a b HTTP/1.1\r\n\r\n", "version"),
            (b"GET / HTTP/9.9\r\n\r\n", "version"),
            (b"{\"a\":1}\r\n\r\n", "method"),
            (b"GET / HTTP/1.1\r\nA B: c\r\n\r\n", "header line"),
            (b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n", "control character"),
            (b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n", "Content-Length"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
            (b"", "makes no sense"),
        ] {
            let reason = reason(first);
            assert!(reason.contains(word), "{first:?}: {reason}");
        }
    }
}
