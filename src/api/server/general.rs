//! The general server for one connection: all requests that it brings, until it ends, is late, or the gateway shuts
//! down.
//!
//! HTTP/1 alone, as behind every proxy: telling two versions apart would leave a silent connection without a timeout.
//!
//! The library that speaks HTTP knows neither a reply's reader nor how long a connection did nothing; the place of the
//! connection does, because its service says what is under way. So the time for a head is kept here.

use std::convert::Infallible;
use std::future::{self, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tidegate_record::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::api::ApiError;
use crate::api::bodies::ArrivingBody;
use crate::api::connections::{ClientAddress, Place, ReadDeadline, Requester};
use crate::api::response::add_default_headers;
use crate::api::server::cross_origin::Answer;
use crate::api::server::entrance::Entrance;
use crate::api::server::explained::{Explained, HEAD_BYTES_MAX};
use crate::api::server::prefixed::PrefixedStream;
use crate::api::server::reply::ReplyWriter;

/// Most bytes read at once and ahead on a connection; the head of a request must fit.
const READ_BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;

/// Why a connection is served no longer.
enum Over {
    Ended(hyper::Result<()>),
    /// No whole head came in time.
    Late,
    /// The time for a shutdown is over.
    Hard,
}

/// How every connection is served.
pub fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).max_buf_size(READ_BUFFER_BYTES_MAX);
    builder
}

/// Serves all requests that come over the connection.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    builder: http1::Builder,
    stream: PrefixedStream<S>,
    entrance: Entrance,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let place = Arc::clone(stream.place());
    let clock = entrance.state().clock.clone();
    let requester = Requester::of_connection(&place);
    let memory_budget = entrance.state().memory_budget.clone();
    let io = Explained::new(stream, memory_budget, requester.clone());
    if let Some(error) = io.refused() {
        return end(io, error, clock).await;
    }
    let service = Served { entrance, place: Arc::clone(&place), requester };
    let mut connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let refusal = match drive(&mut connection, &place, &soft, &hard).await {
        Over::Hard | Over::Ended(Ok(())) => return,
        Over::Ended(Err(error)) => {
            tracing::debug!(%error, "a connection ended early");
            Explained::refused
        }
        Over::Late => Explained::head_too_slow,
    };
    let Some(parts) = connection.into_parts() else { return };
    let io = parts.io.into_inner();
    if let Some(error) = refusal(&io) {
        end(io, error, clock).await;
    }
}

async fn end<S: AsyncRead + AsyncWrite + Unpin>(io: Explained<S>, error: ApiError, clock: Clock) {
    // A peer that is gone does not hear it.
    let _ = io.refuse(ReplyWriter::last(clock, error).await).await;
}

/// A connection as the library serves it.
type Connection<S> = http1::UpgradeableConnection<TokioIo<Explained<S>>, Served>;

async fn drive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: &mut Connection<S>,
    place: &Place,
    soft: &CancellationToken,
    hard: &CancellationToken,
) -> Over {
    let (mut ending, mut at_once) = (pin!(soft.cancelled()), pin!(hard.cancelled()));
    let mut head_deadline = None;
    let (mut is_set_up, mut is_ending) = (false, false);
    poll_fn(|context| {
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(context) {
            return Poll::Ready(Over::Ended(ended));
        }
        // Each poll of a token takes its lock. The waker stays the same: the task is spawned, and this is polled by nothing
        // else.
        let waits = std::mem::replace(&mut is_set_up, true);
        if !is_ending
            && ((!waits && ending.as_mut().poll(context).is_ready()) || soft.is_cancelled())
        {
            is_ending = true;
            Pin::new(&mut *connection).graceful_shutdown();
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(context) {
                return Poll::Ready(Over::Ended(ended));
            }
        }
        if is_ending && at_once.as_mut().poll(context).is_ready() {
            return Poll::Ready(Over::Hard);
        }
        let Some(deadline) = place.head_deadline() else { return Poll::Pending };
        let head_deadline = head_deadline.get_or_insert_with(|| ReadDeadline::until(deadline));
        head_deadline.set(deadline);
        head_deadline.poll(context).map(|()| Over::Late)
    })
    .await
}

/// The entrance, for one connection, whose place hears what is under way.
struct Served {
    entrance: Entrance,
    place: Arc<Place>,
    /// The other end of the connection; a proxy that is trusted brings requests of others.
    requester: Requester,
}

impl Service<Request<Incoming>> for Served {
    type Response = Response;
    type Error = Infallible;
    type Future = UnderWay;

    fn call(&self, request: Request<Incoming>) -> UnderWay {
        let place = Arc::clone(&self.place);
        let answer: Answer = if place.begin_request() {
            match self.requester(&request) {
                Ok(requester) => self.entrance.answer(requester, ArrivingBody::of(request, &place)),
                Err(error) => {
                    // Its body may never come: no proxy waits for it to tell its client.
                    drop(ArrivingBody::of(request, &place));
                    let mut response = error.into_response();
                    add_default_headers(response.headers_mut());
                    Box::pin(future::ready(Ok(response)))
                }
            }
        } else {
            // The task is about to end.
            Box::pin(pending())
        };
        UnderWay { answer, place }
    }
}

impl Served {
    /// The sender of a request. What a proxy brings is counted for the client that it names.
    fn requester(&self, request: &Request<Incoming>) -> Result<Requester, ApiError> {
        if !self.place.is_proxy() {
            return Ok(self.requester.clone());
        }
        let state = self.entrance.state();
        let trusted = &state.config.access.trusted_proxies;
        let client = ClientAddress::new(self.place.peer(), request.headers(), trusted);
        let visit = state.connections.visit(client);
        self.place.bear(visit.ok_or_else(|| state.connections.too_many_of_address())?);
        Ok(Requester::behind_proxy(client.group(), &self.place))
    }
}

/// A request that is being answered.
struct UnderWay {
    answer: Answer,
    place: Arc<Place>,
}

impl Future for UnderWay {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(self.answer.as_mut().poll(context))?;
        if self.place.owes_body() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(watched(response, &self.place)))
    }
}

/// Has the place hear when the reply is made.
fn watched(response: Response, place: &Arc<Place>) -> Response {
    let events = HeaderValue::from_static("text/event-stream");
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        place.begin_monitor();
        return response;
    }
    if response.body().size_hint().exact().is_some() {
        place.end_request();
        return response;
    }
    if response.headers().get(CONTENT_TYPE) == Some(&events) {
        place.begin_monitor();
    }
    response.map(|body| Body::new(Watched { body, place: Arc::clone(place) }))
}

/// A body of unknown length. The reply is made when it is dropped, for then it is at its end, or given up.
struct Watched {
    body: Body,
    place: Arc<Place>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.place.end_request();
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
