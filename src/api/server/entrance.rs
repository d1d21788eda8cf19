//! The way in for requests, behind the connection and before the routes.
//!
//! Where pages of other origins are allowed, their requests go by the rules of [`cross_origin`].

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::IntoResponse;
use tower::ServiceExt;

use crate::api::bodies::{ArrivingBody, refused_body};
use crate::api::connections::Requester;
use crate::api::response::add_default_headers;
use crate::api::server::cross_origin::{self, Answer, CrossOrigin};
use crate::api::server::heads;
use crate::api::{ApiError, AppState, router};

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
        match heads::check(request.headers_mut()) {
            Ok(()) => Box::pin(self.router.clone().oneshot(request.map(Body::new))),
            Err(error) => refuse(request, error),
        }
    }
}

/// Answers a request that no handler gets, and reads its body off.
fn refuse(request: Request<ArrivingBody>, error: ApiError) -> Answer {
    Box::pin(async move {
        let refused = async move |_| error.into_response();
        let mut response = refused_body::read_off(request.map(Body::new), refused).await;
        add_default_headers(response.headers_mut());
        Ok(response)
    })
}
