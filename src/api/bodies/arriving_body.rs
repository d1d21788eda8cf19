//! The body of a request on its way: its connection's place hears whether the end of it was seen.
//!
//! A handler may answer before that. Then the rest of a large body is in the way of the next request, so the connection ends
//! with the reply, and the reply has to say so: a client that keeps connections would send its next request into a closed one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use hyper::body::{Frame, Incoming, SizeHint};

use crate::api::connections::Place;

/// A body of at most so many bytes comes with its head, and the server takes what a handler left of it.
const LEFT_TO_SERVER_BYTES_MAX: u64 = 4 << 10;

/// See the module.
pub struct ArrivingBody {
    body: Incoming,
    place: Arc<Place>,
}

impl ArrivingBody {
    /// The same request, of which `place` hears.
    pub fn of(request: Request<Incoming>, place: &Arc<Place>) -> Request<ArrivingBody> {
        let upper = request.body().size_hint().upper();
        place.set_owes_body(upper.is_none_or(|bytes| bytes > LEFT_TO_SERVER_BYTES_MAX));
        request.map(|body| ArrivingBody { body, place: Arc::clone(place) })
    }
}

impl HttpBody for ArrivingBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.place.set_owes_body(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
