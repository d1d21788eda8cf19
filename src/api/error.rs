//! What every handler answers when it refuses: `application/problem+json` as in RFC 9457.
//!
//! `{"type":"about:blank","title":"Not Found","status":404,"code":"unknown_stream","detail":"…"}` and further members.
//! `code` is for programs and never changes; `detail` is for people. No database detail reaches a client: what the
//! client cannot correct is logged here, once, and answered in general terms.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use sqlx::error::DatabaseError;

use crate::auth::{AuthError, Blamed, Denied, OverQuota};
use crate::db::reading::took_too_long;
use crate::db::words::{ends_connection, words_of};

/// Media type of a refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What a client is told to wait while PostgreSQL is away.
pub const DATABASE_RETRY: Duration = Duration::from_secs(2);
/// What is told while the database lacks what the gateway needs.
const UNPREPARED: &str = "the database lacks something that the gateway needs, or the right to use it; GET /v1/status and the log say what";
/// What is told of a text that PostgreSQL cannot keep.
const NUL_IN_TEXT: &str =
    "PostgreSQL keeps no NUL character (U+0000, %00 in an address) in a text; leave it out";

/// A refusal. Boxed, so that results which carry one stay small.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError(Box<Problem>);

#[derive(Debug, Clone, PartialEq)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    members: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// A refusal with any status; the functions below are the usual ones.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> ApiError {
        let detail = detail.into();
        let members = Map::new();
        ApiError(Box::new(Problem { status, code, detail, members, retry_after: None }))
    }

    /// 400: the request cannot be read.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: the caller is not authenticated.
    pub fn unauthorized(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403: the caller is, and may not.
    pub fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 405: not with this method. The router adds `Allow`.
    pub fn method_not_allowed() -> ApiError {
        let detail = "this address does not take this method";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// 408: the client was too slow.
    pub fn timeout(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, code, detail)
    }

    /// 409: it contradicts what is there.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413: too large.
    pub fn too_large(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail)
    }

    /// 415: a content type or encoding that is not taken here.
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422: well formed, but it cannot be done.
    pub fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429: this client asks too much.
    pub fn too_many_requests(
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(retry_after)
    }

    /// 503: the gateway cannot do it now.
    pub fn unavailable(
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_after)
    }

    /// 503: PostgreSQL is needed for this and cannot be reached.
    pub fn database_unavailable() -> ApiError {
        let detail = "the database cannot be reached at the moment";
        ApiError::unavailable("database_unavailable", detail, DATABASE_RETRY)
    }

    /// 503: PostgreSQL was too slow for this.
    fn database_too_slow() -> ApiError {
        let detail = "PostgreSQL took longer over this than a statement may";
        ApiError::unavailable("database_too_slow", detail, DATABASE_RETRY)
    }

    /// 500: our fault. Logs the reason; the client is told nothing of it.
    pub fn internal(reason: impl Display) -> ApiError {
        tracing::error!(%reason, "a request failed");
        let detail = "the gateway failed; its log says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> ApiError {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the client how long to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> ApiError {
        self.0.retry_after = Some(wait);
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What went wrong, for programs.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What went wrong, for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The problem document.
    pub(super) fn body(&self) -> Vec<u8> {
        self.0.body()
    }
}

impl Problem {
    fn body(&self) -> Vec<u8> {
        let mut body = Map::new();
        let title = self.status.canonical_reason().unwrap_or("Error");
        body.insert("type".into(), "about:blank".into());
        body.insert("title".into(), title.into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("code".into(), self.code.into());
        body.insert("detail".into(), self.detail.as_ref().into());
        for (name, value) in &self.members {
            // The members above are the standard's; an extension does not replace them.
            body.entry(name).or_insert_with(|| value.clone());
        }
        Value::Object(body).to_string().into_bytes()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.0;
        let mut response = (problem.status, problem.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait) = problem.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        // Not Basic: a browser would open its own window, over the page's form.
        if problem.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"tidegate\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Rounds up: a client that waits this long has waited long enough. Never 0, which would ask for a storm.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        ApiError::forbidden("missing_scope", denied.to_string())
            .with("scope", denied.scope.as_str())
    }
}

impl From<OverQuota> for ApiError {
    fn from(over: OverQuota) -> ApiError {
        ApiError::too_many_requests("quota_exceeded", over.to_string(), over.retry_after)
            .with("records_per_second", over.records_per_second)
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        let text = error.to_string();
        match error {
            AuthError::Missing => ApiError::unauthorized("missing_credentials", text),
            AuthError::Garbled(_) => ApiError::unauthorized("malformed_credentials", text),
            AuthError::Token => ApiError::unauthorized("invalid_token", text),
            AuthError::Password => ApiError::unauthorized("invalid_password", text),
            AuthError::Session => ApiError::unauthorized("invalid_session", text),
            AuthError::Ticket => ApiError::unauthorized("invalid_ticket", text),
            AuthError::ForeignOrigin(foreign) => ApiError::forbidden("foreign_origin", text)
                .with("origin", foreign.origin)
                .with("host", foreign.host),
            AuthError::Busy { retry_after } => {
                ApiError::too_many_requests("busy", text, retry_after)
            }
            AuthError::Throttled(throttled) => {
                let code = match throttled.blamed {
                    Blamed::Own => "sign_in_throttled",
                    Blamed::Place => "address_throttled",
                    Blamed::Account => "user_throttled",
                };
                ApiError::too_many_requests(code, text, throttled.retry_after)
            }
            AuthError::NotKnown => {
                ApiError::unavailable("database_unavailable", text, DATABASE_RETRY)
            }
            AuthError::NotAppliedYet => {
                ApiError::unavailable("not_applied_yet", text, DATABASE_RETRY)
            }
            AuthError::Denied(denied) => denied.into(),
            AuthError::Interrupted => ApiError::internal(text),
            AuthError::Database(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> ApiError {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => {
                tracing::warn!(%error, "the database cannot be reached");
                ApiError::database_unavailable()
            }
            sqlx::Error::Database(ref reason) if reason.is_unique_violation() => {
                ApiError::conflict("already_exists", "this name is taken")
            }
            sqlx::Error::Database(_) if took_too_long(&error) => {
                tracing::warn!(error = words_of(&error), "a statement took too long");
                ApiError::database_too_slow()
            }
            sqlx::Error::Database(ref reason) if passes(reason.code().as_deref()) => {
                let error = words_of(&error);
                tracing::warn!(error, "the database refuses for now");
                ApiError::database_unavailable()
            }
            sqlx::Error::Database(ref reason) if has_nul(reason.code().as_deref()) => {
                ApiError::unprocessable("invalid_text", NUL_IN_TEXT)
            }
            sqlx::Error::Database(ref reason) if is_unprepared(&**reason) => {
                tracing::warn!(error = words_of(&error), "the database is not prepared");
                ApiError::unavailable("database_unavailable", UNPREPARED, DATABASE_RETRY)
            }
            sqlx::Error::Database(ref reason) if ends_connection(&**reason) => {
                tracing::warn!(error = words_of(&error), "the database takes no connections");
                ApiError::database_unavailable()
            }
            error => ApiError::internal(format!("the database refused: {}", words_of(&error))),
        }
    }
}

/// Do the gateway's own tables lack, or the right to use what is there? Both are for the database's administrator to give.
fn is_unprepared(reason: &dyn DatabaseError) -> bool {
    match reason.code().as_deref() {
        Some("42501") => true,
        Some("42P01" | "3F000") => reason.message().contains("tidegate"),
        _ => false,
    }
}

/// Was a text or a JSON document refused for what PostgreSQL cannot keep in one? What we send is UTF-8, so it is a NUL.
fn has_nul(code: Option<&str>) -> bool {
    matches!(code, Some("22021" | "22P05"))
}

/// Is it a condition that goes away by itself? By SQLSTATE: connections (08), transactions that collided (40),
/// resources (53), an operator's doing (57), the system (58), a lock not had in time, a server that is read-only.
fn passes(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || ["55P03", "25006"].contains(&code)
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> ApiError {
        ApiError::not_found("not_found", "there is nothing at this address")
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::bad_request("invalid_query", rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn shown(error: ApiError) -> (StatusCode, axum::http::HeaderMap, Value) {
        let (parts, body) = error.into_response().into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_is_a_problem_document() {
        let error = ApiError::unavailable("overloaded", "full", Duration::from_millis(1_001))
            .with("backlog_bytes", 7)
            .with("status", 200);
        let (status, headers, body) = shown(error).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["retry-after"], "2");
        let expected = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"code":"overloaded","detail":"full","backlog_bytes":7}"#;
        assert_eq!(body.to_string(), expected);
    }

    #[tokio::test]
    async fn a_401_challenges_and_others_do_not() {
        let (_, headers, _) = shown(AuthError::Token.into()).await;
        assert_eq!(headers["www-authenticate"], "Bearer realm=\"tidegate\"");
        let (_, headers, _) =
            shown(AuthError::foreign_origin(&axum::http::HeaderMap::new()).into()).await;
        assert!(!headers.contains_key("www-authenticate"));
    }

    #[tokio::test]
    async fn our_failures_tell_the_client_nothing() {
        let secret = "relation \"tidegate.users\" does not exist";
        let (_, _, body) = shown(ApiError::internal(secret)).await;
        assert!(!body.to_string().contains("relation"));
        let (status, _, body) = shown(sqlx::Error::Protocol(secret.into()).into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.to_string().contains("relation"));
        let (status, headers, body) = shown(sqlx::Error::PoolTimedOut.into()).await;
        assert_eq!(
            (status, &body["code"]),
            (503.try_into().unwrap(), &"database_unavailable".into())
        );
        assert_eq!(headers["retry-after"], "2");
    }

    #[test]
    fn a_wait_is_never_understated() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for code in ["08006", "40P01", "53300", "57P01", "57014", "55P03", "25006"] {
            assert!(passes(Some(code)), "{code}");
        }
        for code in [None, Some("42P01"), Some("23505"), Some("22P02"), Some("")] {
            assert!(!passes(code), "{code:?}");
        }
        assert!(has_nul(Some("22021")) && has_nul(Some("22P05")) && !has_nul(Some("22P02")));
    }
}
