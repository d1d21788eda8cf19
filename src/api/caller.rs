//! Extractors: the authenticated sender of a request, a part of its path, and a JSON body that says where it is wrong.
//!
//! A handler that takes a [`Caller`] runs only for an authenticated one; what the caller may do is the handler's
//! question (`caller.require(…)?`).

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Request};
use axum::http::Extensions;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use url::form_urlencoded;

use crate::api::AppState;
use crate::api::bodies::held_bytes::HeldBytes;
use crate::api::connections::client_address::{ClientAddress, Peer};
use crate::api::connections::requester::Requester;
use crate::api::connections::{self, Place};
use crate::api::error::ApiError;
use crate::auth::{BROWSER_COOKIE, Caller, Presented, Whence, credentials};

/// Largest JSON body of a request that is not records, in bytes.
pub const JSON_BODY_BYTES_MAX: usize = 64 << 10;
/// Longest time that such a body may take to arrive.
pub const JSON_BODY_WAIT_MAX: Duration = Duration::from_secs(15);
/// The same while nobody knows who sends it, as to sign in.
const UNKNOWN_BODY_WAIT_MAX: Duration = Duration::from_secs(5);

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Caller, ApiError> {
        // The route may have asked already.
        match parts.extensions.remove() {
            Some(caller) => Ok(caller),
            None => authenticate((None, None), parts, state).await,
        }
    }
}

/// Who sent a request, of which its connection hears. The router's requests know their connection themselves.
pub async fn authenticate(
    (peer, place): (Option<Peer>, Option<&Place>),
    parts: &Parts,
    state: &AppState,
) -> Result<Caller, ApiError> {
    let caller = state.auth.authenticate(parts, || whence_of(peer, parts, state)).await?;
    recognize(place.or_else(|| place_of(&parts.extensions)), &parts.extensions);
    Ok(caller)
}

/// Tells the connection's place, and the account of what is held for it, that the credentials were good.
fn recognize(place: Option<&Place>, extensions: &Extensions) {
    if let Some(place) = place {
        place.know_caller();
    }
    Requester::recognize_sender(extensions);
}

fn place_of(extensions: &Extensions) -> Option<&Place> {
    extensions.get::<Arc<Place>>().map(Arc::as_ref)
}

/// What limits on passwords go by.
impl FromRequestParts<AppState> for Whence {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Whence, Infallible> {
        Ok(whence_of(None, parts, state))
    }
}

/// Where a request comes from. The router's requests know their peer themselves.
pub fn whence_of(peer: Option<Peer>, parts: &Parts, state: &AppState) -> Whence {
    let peer = peer.or_else(|| parts.extensions.get().copied());
    let peer = peer.unwrap_or(Peer(Ipv6Addr::UNSPECIFIED.into()));
    let client = ClientAddress::new(peer, &parts.headers, &state.config.access.trusted_proxies);
    let browser = credentials::session_cookie(&parts.headers, BROWSER_COOKIE);
    Whence { address: client.group(), browser }
}

/// The sender of a request for a monitor: may come with `?ticket=`, and with a cookie only from our own pages.
#[derive(Debug, Clone)]
pub struct MonitorCaller {
    pub caller: Caller,
    /// What was presented, if it was a ticket; whoever lets the caller watch uses it up.
    pub ticket: Option<Presented>,
}

impl FromRequestParts<AppState> for MonitorCaller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<MonitorCaller, ApiError> {
        let ticket = ticket_of(parts.uri.query().unwrap_or_default());
        let whence = || whence_of(None, parts, state);
        let (caller, ticket) =
            state.auth.authenticate_monitor(parts, whence, ticket.as_deref()).await?;
        recognize(place_of(&parts.extensions), &parts.extensions);
        Ok(MonitorCaller { caller, ticket })
    }
}

fn ticket_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket.into_owned())
}

/// The one part of a path that a route leaves open. What is no text (`%FF`) is the name of nothing.
#[derive(Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathText, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(PathText(text))
    }
}

/// A JSON body of at most `BYTES_MAX`, which counts for as long as it is held. What cannot be read is 400 and what does not
/// fit `T` is 422, both
/// with the members `line` and `column` (from 1).
#[derive(Debug)]
pub struct ApiJson<T, const BYTES_MAX: usize = JSON_BODY_BYTES_MAX>(pub T);

impl<S, T, const BYTES_MAX: usize> FromRequest<S> for ApiJson<T, BYTES_MAX>
where
    S: Send + Sync,
    T: DeserializeOwned,
    HeldBytes: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<ApiJson<T, BYTES_MAX>, ApiError> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON: send Content-Type: application/json";
            return Err(ApiError::unsupported_media_type(detail));
        }
        let holder = Requester::sender(request.extensions()).holder();
        let held = HeldBytes::from_ref(state).hold(holder, held_for(request.body(), BYTES_MAX));
        let _held = held.map_err(ApiError::request_memory_full)?;
        let (parts, body) = request.into_parts();
        let place = place_of(&parts.extensions);
        let wait_max = match place {
            Some(place) if !place.is_caller_known() => UNKNOWN_BODY_WAIT_MAX,
            _ => JSON_BODY_WAIT_MAX,
        };
        let body = tokio::time::timeout(wait_max, to_bytes(body, BYTES_MAX));
        let bytes = connections::asking(place, body)
            .await
            .map_err(|_| ApiError::timeout("body_timeout", "the body took too long to arrive"))?
            .map_err(|error| body_error(&error, BYTES_MAX))?;
        parse(&bytes).map(ApiJson)
    }
}

/// What a body may come to hold: as many bytes as it says that it has, if it does.
fn held_for(body: &Body, bytes_max: usize) -> usize {
    let said = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    said.map_or(bytes_max, |bytes| bytes.min(bytes_max))
}

fn body_error(error: &axum::Error, bytes_max: usize) -> ApiError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            let detail = format!("the body is larger than {bytes_max} bytes");
            return ApiError::too_large("body_too_large", detail);
        }
        cause = error.source();
    }
    ApiError::bad_request("incomplete_body", "the body broke off")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let detail = error.to_string();
        let refusal = match error.classify() {
            Category::Data => ApiError::unprocessable("invalid_body", detail),
            Category::Syntax | Category::Eof | Category::Io => {
                ApiError::bad_request("malformed_json", detail)
            }
        };
        refusal.with("line", error.line()).with("column", error.column())
    })
}

/// `application/json` or `application/…+json`, whatever the parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffixed =
        media_type.strip_prefix("application/").is_some_and(|sub| sub.ends_with("+json"));
    media_type == "application/json" || suffixed
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
    }

    async fn read(content_type: Option<&str>, body: impl Into<Body>) -> Result<Sample, ApiError> {
        let mut request = Request::builder().method("POST");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(body.into()).unwrap();
        // A stranger may have a quarter of it.
        let held_bytes = HeldBytes::new(4 * JSON_BODY_BYTES_MAX);
        let read: Result<ApiJson<Sample>, _> = ApiJson::from_request(request, &held_bytes).await;
        assert_eq!(held_bytes.held(), 0);
        read.map(|ApiJson(sample)| sample)
    }

    #[tokio::test]
    async fn a_body_is_read_whatever_json_is_called() {
        for content_type in
            ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
        {
            let sample = read(Some(content_type), r#"{"name":"a"}"#).await.unwrap();
            assert_eq!(sample, Sample { name: "a".into() }, "{content_type}");
        }
        let others = ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""];
        for content_type in others.map(Some).into_iter().chain([None]) {
            let error = read(content_type, r#"{"name":"a"}"#).await.unwrap_err();
            assert_eq!(error.status(), 415, "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn an_error_names_its_place() {
        for (body, status, code, line) in [
            ("{\n\"name\": }", 400, "malformed_json", 2),
            ("", 400, "malformed_json", 1),
            ("{\"name\":\"a\"} x", 400, "malformed_json", 1),
            ("{\n\"nam\":\"a\"}", 422, "invalid_body", 2),
            ("{\"name\":5}", 422, "invalid_body", 1),
            ("{}", 422, "invalid_body", 1),
            ("{\"name\":\"a\",\"name\":\"b\"}", 422, "invalid_body", 1),
        ] {
            let error = read(Some("application/json"), body).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (status, code), "{body}");
            assert_eq!(error.clone(), error.with("line", line), "{body}");
        }
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit() {
        let sample = |length| json!({"name": "a".repeat(length)}).to_string();
        let frame = sample(0).len();
        let fits = read(Some("application/json"), sample(JSON_BODY_BYTES_MAX - frame)).await;
        assert!(fits.is_ok());
        let large = read(Some("application/json"), sample(JSON_BODY_BYTES_MAX - frame + 1)).await;
        assert_eq!(large.unwrap_err().status(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let stream = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let error = read(Some("application/json"), Body::from_stream(stream)).await.unwrap_err();
        assert_eq!(error.status(), 408);
        let broken = futures::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other("gone"))]);
        let error = read(Some("application/json"), Body::from_stream(broken)).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (400, "incomplete_body"));
    }

    #[tokio::test]
    async fn a_body_without_room_is_refused_before_it_is_read() {
        let held_bytes = HeldBytes::new(100);
        let request = |length: usize| {
            let body = Body::from(json!({"name": "a".repeat(length)}).to_string());
            Request::builder().header("content-type", "application/json").body(body).unwrap()
        };
        let read: Result<ApiJson<Sample>, _> =
            ApiJson::from_request(request(100), &held_bytes).await;
        assert_eq!(read.unwrap_err().code(), "request_memory_full");
        let read: Result<ApiJson<Sample>, _> =
            ApiJson::from_request(request(10), &held_bytes).await;
        assert!(read.is_ok());
        let read: Result<ApiJson<Sample, 10>, _> =
            ApiJson::from_request(request(10), &held_bytes).await;
        assert_eq!(read.unwrap_err().status(), 413);
    }

    #[test]
    fn the_ticket_is_found_among_the_rest() {
        assert_eq!(ticket_of("streams=a%2Cb&ticket=x-_y&mode=full").as_deref(), Some("x-_y"));
        assert_eq!(ticket_of("tickets=x&TICKET=y"), None);
        assert_eq!(ticket_of("ticket=").as_deref(), Some(""));
        assert_eq!(ticket_of(""), None);
        let body: Value = parse(b"[1]").unwrap();
        assert_eq!(body, json!([1]));
    }
}
