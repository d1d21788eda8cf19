//! An extractor of JSON bodies that says where they are wrong.

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde_json::error::Category;

use crate::api::ApiError;
use crate::api::authenticated::Authenticated;
use crate::api::bodies::{Holder, MemoryBudget};
use crate::api::connections::Requester;

/// Largest JSON body of a request that is not records, in bytes.
pub const JSON_BODY_BYTES_MAX: usize = 64 << 10;
/// Longest time that such a body may take to arrive.
const JSON_BODY_WAIT_MAX: Duration = Duration::from_secs(15);
/// The same while its sender is not authenticated, as to sign in.
const UNKNOWN_BODY_WAIT_MAX: Duration = Duration::from_secs(5);

/// A JSON object of at most `BYTES_MAX`, which counts for as long as it is held. A caller who is shut out while it arrives is
/// refused. What cannot be read is 400 and what does not
/// fit `T` is 422, both with the members `line` and `column` (from 1).
#[derive(Debug)]
pub struct ApiJson<T, const BYTES_MAX: usize = JSON_BODY_BYTES_MAX>(pub T);

impl<S, T, const BYTES_MAX: usize> FromRequest<S> for ApiJson<T, BYTES_MAX>
where
    S: Send + Sync,
    T: DeserializeOwned,
    MemoryBudget: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<ApiJson<T, BYTES_MAX>, ApiError> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON: send Content-Type: application/json";
            return Err(ApiError::unsupported_media_type(detail));
        }
        let requester = Requester::of(request.extensions());
        let authenticated = request.extensions().get::<Authenticated>().cloned();
        let holder = Holder::of(&requester);
        let _held =
            MemoryBudget::from_ref(state).hold(holder, held_for(request.body(), BYTES_MAX))?;
        let wait_max = match requester.place() {
            Some(place) if !place.is_caller_known() => UNKNOWN_BODY_WAIT_MAX,
            _ => JSON_BODY_WAIT_MAX,
        };
        let body = tokio::time::timeout(wait_max, to_bytes(request.into_body(), BYTES_MAX));
        let bytes = requester
            .asking(body)
            .await
            .map_err(|_| ApiError::timeout("body_timeout", "the body took too long to arrive"))?
            .map_err(|error| body_error(&error, BYTES_MAX))?;
        if let Some(authenticated) = authenticated {
            authenticated.require_still().await?;
        }
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
    // A list would be taken for the members in their order, whatever they are.
    let is_list = bytes.trim_ascii_start().starts_with(b"[");
    let parsed = if is_list {
        serde_json::from_slice::<IgnoredAny>(bytes)
            .and_then(|_| Err(serde_json::Error::custom("the body is a JSON object, not a list")))
    } else {
        serde_json::from_slice(bytes)
    };
    parsed.map_err(|error| {
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
        let memory_budget = MemoryBudget::new(4 * JSON_BODY_BYTES_MAX);
        let read: Result<ApiJson<Sample>, _> = ApiJson::from_request(request, &memory_budget).await;
        assert_eq!(memory_budget.held(), 0);
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
            ("[\"a\"]", 422, "invalid_body", 0),
            ("[\"a\"", 400, "malformed_json", 1),
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
        let memory_budget = MemoryBudget::new(100);
        let request = |length: usize| {
            let body = Body::from(json!({"name": "a".repeat(length)}).to_string());
            Request::builder().header("content-type", "application/json").body(body).unwrap()
        };
        let read: Result<ApiJson<Sample>, _> =
            ApiJson::from_request(request(100), &memory_budget).await;
        assert_eq!(read.unwrap_err().code(), "request_memory_full");
        let read: Result<ApiJson<Sample>, _> =
            ApiJson::from_request(request(10), &memory_budget).await;
        assert!(read.is_ok());
        let read: Result<ApiJson<Sample, 10>, _> =
            ApiJson::from_request(request(10), &memory_budget).await;
        assert_eq!(read.unwrap_err().status(), 413);
    }

    #[test]
    fn any_object_is_parsed() {
        let body: Value = parse(b" {\"a\":[1]}").unwrap();
        assert_eq!(body, json!({"a": [1]}));
    }
}
