//! Pages of other origins (CORS): whose scripts may read what this gateway answers, and on which routes.
//!
//! Nothing is opened unless origins were allowed, and then only sending records, watching and reading, for requests whose
//! token or ticket speaks for them. No answer ever allows credentials, so a browser does not show a script of another origin
//! what a cookie obtained; that a cookie changes nothing for such a page is held where callers are authenticated.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE,
    ORIGIN, RETRY_AFTER,
};
use axum::http::{HeaderName, HeaderValue, Method, Request};
use axum::response::Response;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::AllowedOrigins;

/// How long a browser may go by an answer about what is allowed.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The rules of the routes that are opened.
#[derive(Clone)]
pub struct CrossOrigin {
    /// Where records are sent or tickets fetched.
    sending: CorsLayer,
    /// Where there is only something to read.
    reading: CorsLayer,
}

impl CrossOrigin {
    /// None if no other origin is allowed.
    pub fn new(origins: &AllowedOrigins) -> Option<CrossOrigin> {
        let origins = match origins {
            AllowedOrigins::Every => AllowOrigin::any(),
            AllowedOrigins::These(origins) if origins.is_empty() => return None,
            AllowedOrigins::These(origins) => AllowOrigin::list(
                origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()),
            ),
        };
        let rules = CorsLayer::new()
            .allow_origin(origins)
            .allow_headers([
                AUTHORIZATION,
                CONTENT_TYPE,
                CONTENT_ENCODING,
                CACHE_CONTROL,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("last-event-id"),
                HeaderName::from_static("traceparent"),
                HeaderName::from_static("tracestate"),
            ])
            .expose_headers([RETRY_AFTER, HeaderName::from_static("idempotency-replayed")])
            .max_age(MAX_AGE);
        let sending = rules.clone().allow_methods([Method::GET, Method::POST]);
        Some(CrossOrigin { sending, reading: rules.allow_methods([Method::GET]) })
    }

    /// The rules for a request, if a page of some origin sent it to a route that is opened.
    pub fn rules_for<B>(&self, request: &Request<B>) -> Option<&CorsLayer> {
        let headers = request.headers();
        let asks_first = request.method() == Method::OPTIONS;
        if !headers.contains_key(ORIGIN)
            || (asks_first && !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD))
        {
            return None;
        }
        match opened(request.uri().path())? {
            Opened::Sending => Some(&self.sending),
            Opened::Reading => Some(&self.reading),
        }
    }
}

/// Has a request answered by these rules.
pub fn answer<B: Send + 'static>(
    rules: &CorsLayer,
    request: Request<B>,
    handle: impl Fn(Request<B>) -> Answer + Send + 'static,
) -> Answer {
    Box::pin(rules.layer(service_fn(handle)).oneshot(request))
}

/// An answer that is under way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

#[derive(Debug, PartialEq, Eq)]
enum Opened {
    Sending,
    Reading,
}

fn opened(path: &str) -> Option<Opened> {
    let parts: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    match parts[..] {
        ["streams", _, "records"] | ["records" | "monitor"] | ["monitor", "tickets"] => {
            Some(Opened::Sending)
        }
        ["streams", "infer"] => None,
        ["streams"] | ["streams", _] | ["monitor", "events"] => Some(Opened::Reading),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_watching_and_reading_are_opened_and_nothing_else() {
        for path in [
            "/v1/streams/a/records",
            "/v1/streams/a%20b/records",
            "/v1/records",
            "/v1/monitor/tickets",
            "/v1/monitor",
        ] {
            assert_eq!(opened(path), Some(Opened::Sending), "{path}");
        }
        for path in ["/v1/streams", "/v1/streams/a", "/v1/monitor/events"] {
            assert_eq!(opened(path), Some(Opened::Reading), "{path}");
        }
        for path in [
            "/",
            "/metrics",
            "/v1/sessions",
            "/v1/users",
            "/v1/tokens",
            "/v1/streams/infer",
            "/v1/streams/a/records/b",
            "/v1/quarantine",
            "/v1/quarantine/a/replay",
            "/v1/polling-jobs",
            "/polling-jobs",
            "/v1/configuration",
            "/v1/status",
        ] {
            assert_eq!(opened(path), None, "{path}");
        }
    }

    #[test]
    fn without_an_allowed_origin_nothing_is_opened() {
        assert!(CrossOrigin::new(&"".parse().unwrap()).is_none());
        assert!(CrossOrigin::new(&"*".parse().unwrap()).is_some());
    }

    #[test]
    fn only_what_a_page_sends_goes_by_the_rules() {
        let rules = CrossOrigin::new(&"https://app.example.com".parse().unwrap()).unwrap();
        let request = |method: &str, headers: &[&str]| {
            let mut request = Request::builder().method(method).uri("/v1/streams");
            for name in headers {
                request = request.header(*name, "GET");
            }
            rules.rules_for(&request.body(()).unwrap()).is_some()
        };
        assert!(request("GET", &["origin"]));
        assert!(request("OPTIONS", &["origin", "access-control-request-method"]));
        assert!(!request("OPTIONS", &["origin"]));
        assert!(!request("GET", &[]));
    }
}
