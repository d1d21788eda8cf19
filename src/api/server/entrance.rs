//! The way in for requests, behind the connection and before the routes.
//!
//! Records take a short way: their handler is called directly. Each layer of the router costs a request some boxes and
//! moves, which is nothing to a page and most of the time of a single record.
//!
//! Where pages of other origins are allowed, their requests go by the rules of [`cross_origin`] on either way.

use std::any::Any;
use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::service::Service;
use tower::ServiceExt;

use crate::api::bodies::arriving_body::ArrivingBody;
use crate::api::bodies::refused_body;
use crate::api::bodies::refused_body::SharedBody;
use crate::api::connections::Place;
use crate::api::connections::client_address::{ClientAddress, Peer};
use crate::api::connections::requester::Requester;
use crate::api::inputs::records;
use crate::api::server::cross_origin::{self, Answer, CrossOrigin};
use crate::api::server::heads;
use crate::api::{ApiError, AppState, router};
use crate::telemetry::metrics::record_ingest_request;

/// In every response, unless the handler says something else.
pub const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// See the module; clones are the same.
#[derive(Clone)]
pub struct Entrance {
    state: AppState,
    router: Router,
    /// Who is at the other end of the connection.
    peer: Option<Peer>,
    /// Who that is, where it is one: behind a proxy that is trusted each request has its own.
    requester: Option<Requester>,
    /// That connection's place.
    place: Option<Arc<Place>>,
    /// None where only the gateway's own pages are served.
    cross_origin: Option<CrossOrigin>,
}

impl Entrance {
    pub fn new(state: AppState) -> Entrance {
        let router = router::router(state.clone());
        let cross_origin = CrossOrigin::new(&state.config.access.allowed_origins);
        Entrance { state, router, peer: None, requester: None, place: None, cross_origin }
    }

    /// The same for one connection.
    pub fn for_connection(&self, peer: Peer, place: Arc<Place>) -> Entrance {
        Entrance { peer: Some(peer), place: Some(place), ..self.clone() }
    }

    /// The same for a connection whose requests all come from this one.
    pub fn for_requester(self, requester: Requester) -> Entrance {
        Entrance { requester: Some(requester), ..self }
    }

    pub fn state(&self) -> &AppState {
        &self.state
    }
}

impl Service<Request<ArrivingBody>> for Entrance {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<ArrivingBody>) -> Answer {
        // Also of what a browser asks first, which is answered without anything of ours.
        if let Err(error) = heads::check_host(request.version(), request.headers()) {
            return self.refuse(request, error);
        }
        if let Some(cross_origin) = &self.cross_origin
            && let Some(rules) = cross_origin.rules_for(&request)
        {
            let entrance = self.clone();
            return cross_origin::answer(rules, request, move |request| entrance.answer(request));
        }
        self.answer(request)
    }
}

impl Entrance {
    /// The client that sent these headers.
    pub fn client(&self, headers: &HeaderMap) -> ClientAddress {
        let peer = self.peer.unwrap_or(Peer(Ipv6Addr::UNSPECIFIED.into()));
        ClientAddress::new(peer, headers, &self.state.config.access.trusted_proxies)
    }

    fn answer(&self, mut request: Request<ArrivingBody>) -> Answer {
        if let Err(error) = heads::check(request.headers_mut()) {
            return self.refuse(request, error);
        }
        if is_records(&request) {
            let (state, peer) = (self.state.clone(), self.peer);
            let (place, requester) = (self.place.clone(), self.requester.clone());
            Box::pin(async move {
                let response = take_records(&state, peer, place, request).await;
                // Only with good credentials.
                if response.status().is_success() {
                    requester.iter().for_each(Requester::recognize);
                }
                Ok(response)
            })
        } else {
            if let Some(peer) = self.peer {
                request.extensions_mut().insert(peer);
            }
            if let Some(requester) = &self.requester {
                request.extensions_mut().insert(requester.clone());
            }
            if let Some(place) = &self.place {
                request.extensions_mut().insert(Arc::clone(place));
            }
            Box::pin(self.router.clone().oneshot(request.map(Body::new)))
        }
    }

    /// Answers a request that nobody handles, and reads its body off.
    fn refuse(&self, request: Request<ArrivingBody>, error: ApiError) -> Answer {
        let place = self.place.clone();
        Box::pin(async move {
            let refused = async move |_: Parts, _: SharedBody<ArrivingBody>| error.into_response();
            let mut response = refused_body::read_off(request, place.as_deref(), refused).await;
            add_default_headers(response.headers_mut());
            Ok(response)
        })
    }
}

/// Is it a request to ingest? One whose stream is written with percent signs goes by the router, which reads these.
fn is_records(request: &Request<ArrivingBody>) -> bool {
    request.method() == Method::POST && stream_of(request.uri().path()).is_some()
}

/// The stream in the path of a request to ingest.
pub fn stream_of(path: &str) -> Option<&str> {
    let stream = path.strip_prefix("/v1/streams/")?.strip_suffix("/records")?;
    (!stream.is_empty() && !stream.contains(['/', '%'])).then_some(stream)
}

async fn take_records(
    state: &AppState,
    peer: Option<Peer>,
    place: Option<Arc<Place>>,
    request: Request<ArrivingBody>,
) -> Response {
    let started = Instant::now();
    let place = place.as_deref();
    let handle = async |parts: Parts, body: SharedBody<ArrivingBody>| {
        let uri = parts.uri.clone();
        let stream = stream_of(uri.path()).unwrap_or_default();
        records::take(state, stream, (peer, place), parts, body).await.into_response()
    };
    let answer = refused_body::read_off(request, place, handle);
    let handled = AssertUnwindSafe(answer).catch_unwind().await;
    let mut response = handled.unwrap_or_else(panicked);
    add_default_headers(response.headers_mut());
    record_ingest_request(response.status().as_u16(), started.elapsed());
    response
}

/// Adds the headers that every response has.
pub fn add_default_headers(headers: &mut HeaderMap) {
    for (name, value) in DEFAULT_HEADERS {
        headers.entry(name).or_insert(value);
    }
}

/// What is answered for a handler that panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("a request handler panicked").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_by_their_path() {
        assert_eq!(stream_of("/v1/streams/weather/records"), Some("weather"));
        for other in [
            "/v1/streams//records",
            "/v1/streams/records",
            "/v1/streams/a/b/records",
            "/v1/streams/a%20b/records",
            "/v1/streams/a/records/",
            "/v1/streams/a",
        ] {
            assert_eq!(stream_of(other), None, "{other}");
        }
    }
}
