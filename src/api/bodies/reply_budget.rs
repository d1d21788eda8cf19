//! Replies that are not taken yet: their bytes count for as long as they are held.
//!
//! A reply is counted before its first byte leaves, and given back when its last one is handed to the system, whichever buffer
//! has it meanwhile. Without room for it the request is refused, so that peers who ask and never read cost no more than the
//! budget. Beyond it there is a small reserve for the status and the metrics, so that a gateway whose budget is used up still
//! says how it fares.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::api::ApiError;
use crate::api::bodies::{Holder, MemoryBudget};
use crate::api::connections::Requester;

/// Replies up to this size are not counted, in bytes: a connection has more than that of its own.
const UNCOUNTED_BYTES_MAX: usize = 4 << 10;
/// What replies that say how the gateway fares may take when the budget is used up, in bytes.
const RESERVE_BYTES: usize = 8 << 20;
/// Where it says how it fares.
const RESERVED_FOR: [&str; 2] = ["/metrics", "/v1/status"];

/// What replies count against: the budget of the gateway, and the reserve beyond it.
#[derive(Debug, Clone)]
pub struct ReplyBudget {
    memory_budget: MemoryBudget,
    reserve: MemoryBudget,
}

impl ReplyBudget {
    pub fn new(memory_budget: MemoryBudget) -> ReplyBudget {
        ReplyBudget { memory_budget, reserve: MemoryBudget::new(RESERVE_BYTES) }
    }
}

/// In the extensions of a response whose bytes are held anyway, even if it is never read.
#[derive(Debug, Clone, Copy)]
pub struct Uncounted;

/// Counts the reply to a request for its requester, who may be known by then.
pub async fn middleware(
    State(budget): State<ReplyBudget>,
    request: Request,
    next: Next,
) -> Response {
    let requester = Requester::of(request.extensions());
    let has_reserve = RESERVED_FOR.contains(&request.uri().path());
    let response = next.run(request).await;
    let reserve = has_reserve.then_some(&budget.reserve);
    counted(response, Holder::of(&requester), &budget.memory_budget, reserve)
}

fn counted(
    response: Response,
    holder: Holder,
    budget: &MemoryBudget,
    reserve: Option<&MemoryBudget>,
) -> Response {
    let bytes = response.body().size_hint().lower();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes <= UNCOUNTED_BYTES_MAX || response.extensions().get::<Uncounted>().is_some() {
        return response;
    }
    let held = budget.hold(holder, bytes);
    let held = held.or_else(|full| reserve.ok_or(full)?.hold(holder, bytes));
    match held {
        Ok(held) => response.map(|body| held_until_written(body, Arc::new(held))),
        Err(full) => ApiError::from(full).into_response(),
    }
}

/// A JSON reply that keeps something until its last byte was written.
pub fn json_with(body: Vec<u8>, kept: impl Send + Sync + 'static) -> Response {
    reply_with("application/json", body, kept)
}

/// [`json_with`] for a reply of another media type.
pub fn reply_with(
    media_type: &'static str,
    body: Vec<u8>,
    kept: impl Send + Sync + 'static,
) -> Response {
    let body = Bytes::from_owner(Kept { bytes: body.into(), _kept: kept });
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn held_until_written<T: Send + Sync + 'static>(body: Body, kept: Arc<T>) -> Body {
    Body::new(Keeping { body, kept })
}

/// A body whose bytes keep something.
struct Keeping<T> {
    body: Body,
    kept: Arc<T>,
}

impl<T: Send + Sync + 'static> HttpBody for Keeping<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Keeping { body, kept } = self.get_mut();
        let frame = ready!(Pin::new(body).poll_frame(context));
        let keep = |bytes| Bytes::from_owner(Kept { bytes, _kept: Arc::clone(kept) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(keep))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
    use std::net::{IpAddr, Ipv4Addr};

    use axum::http::StatusCode;

    use super::*;

    const STRANGER: Holder = Holder::Stranger(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn reply(bytes: usize) -> Response {
        Response::new(Body::from("x".repeat(bytes)))
    }

    #[test]
    fn a_reply_whose_bytes_are_there_anyway_costs_nothing() {
        let budget = MemoryBudget::new(0);
        let mut page = reply(1 << 20);
        page.extensions_mut().insert(Uncounted);
        let page = counted(page, STRANGER, &budget, None);
        assert_eq!(page.status(), StatusCode::OK);
        let other = counted(reply(1 << 20), STRANGER, &budget, None);
        assert_eq!(other.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn only_what_says_how_the_gateway_fares_has_the_reserve() {
        let (budget, reserve) = (MemoryBudget::new(0), MemoryBudget::new(100_000));
        let status = |reserve| counted(reply(20_000), STRANGER, &budget, reserve).status();
        assert_eq!(status(None), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Some(&reserve)), StatusCode::OK);
        assert_eq!(reserve.held(), 0, "the reply was dropped");
        let unread = counted(reply(20_000), STRANGER, &budget, Some(&reserve));
        assert_eq!(status(Some(&reserve)), StatusCode::SERVICE_UNAVAILABLE, "one address");
        let known = counted(reply(50_000), Holder::Known, &budget, Some(&reserve));
        assert_eq!((unread.status(), known.status()), (StatusCode::OK, StatusCode::OK));
    }

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
