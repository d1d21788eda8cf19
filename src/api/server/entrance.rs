//! The way in for requests, behind the connection and before the routes.
//!
//! Records take a short way: their handler is called directly. Each layer of the router costs a request some boxes and
//! moves, which is nothing to a page and most of the time of a single record.
//!
//! Where pages of other origins are allowed, their requests go by the rules of [`cross_origin`] on either way.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tower::ServiceExt;

use crate::api::bodies::ArrivingBody;
use crate::api::bodies::refused_body::{self, SharedBody};
use crate::api::connections::Requester;
use crate::api::inputs::records;
use crate::api::response::{add_default_headers, panicked};
use crate::api::server::cross_origin::{self, Answer, CrossOrigin};
use crate::api::server::fast_path::stream_of;
use crate::api::server::heads;
use crate::api::{ApiError, AppState, router};
use crate::telemetry::metrics::record_ingest_request;

/// See the module; clones are the same.
#[derive(Clone)]
pub struct Entrance {
    state: AppState,
    router: Router,
    /// None where only the gateway's own pages are served.
    cross_origin: Option<CrossOrigin>,
}

impl Entrance {
    pub fn new(state: AppState) -> Entrance {
        let router = router::router(state.clone());
        let cross_origin = CrossOrigin::new(&state.config.access.allowed_origins);
        Entrance { state, router, cross_origin }
    }

    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Answers a request of this requester.
    pub fn answer(&self, requester: Requester, mut request: Request<ArrivingBody>) -> Answer {
        request.extensions_mut().insert(requester);
        // Also of what a browser asks first, which is answered without anything of ours.
        if let Err(error) = heads::check_host(request.version(), request.headers()) {
            return refuse(request, error);
        }
        if let Some(cross_origin) = &self.cross_origin
            && let Some(rules) = cross_origin.rules_for(&request)
        {
            let entrance = self.clone();
            return cross_origin::answer(rules, request, move |request| entrance.handle(request));
        }
        self.handle(request)
    }

    fn handle(&self, mut request: Request<ArrivingBody>) -> Answer {
        if let Err(error) = heads::check(request.headers_mut()) {
            return refuse(request, error);
        }
        if is_records(&request) {
            let state = self.state.clone();
            Box::pin(async move { Ok(take_records(&state, request).await) })
        } else {
            Box::pin(self.router.clone().oneshot(request.map(Body::new)))
        }
    }
}

/// Answers a request that no handler gets, and reads its body off.
fn refuse(request: Request<ArrivingBody>, error: ApiError) -> Answer {
    Box::pin(async move {
        let refused = async move |_: Parts, _: SharedBody<ArrivingBody>| error.into_response();
        let mut response = refused_body::read_off(request, refused).await;
        add_default_headers(response.headers_mut());
        Ok(response)
    })
}

/// Is it a request to ingest? One whose stream is written with percent signs goes by the router, which reads these.
fn is_records(request: &Request<ArrivingBody>) -> bool {
    request.method() == Method::POST && stream_of(request.uri().path()).is_some()
}

async fn take_records(state: &AppState, request: Request<ArrivingBody>) -> Response {
    let started = Instant::now();
    let handle = async |parts: Parts, body: SharedBody<ArrivingBody>| {
        let uri = parts.uri.clone();
        let stream = stream_of(uri.path()).unwrap_or_default();
        records::take(state, stream, parts, body).await.into_response()
    };
    let answer = refused_body::read_off(request, handle);
    let handled = AssertUnwindSafe(answer).catch_unwind().await;
    let mut response = handled.unwrap_or_else(panicked);
    add_default_headers(response.headers_mut());
    record_ingest_request(response.status().as_u16(), started.elapsed());
    response
}
