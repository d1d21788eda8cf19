//! Why an API gave no items, in words for the person whose job it is.

use std::time::Duration;

use crate::outbound::RequestError;

/// What went wrong. A closed set, because metrics count by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchErrorKind {
    /// The address lies where the gateway must not ask: a private network, the machine itself.
    Refused,
    /// The host has no address.
    Name,
    /// No connection, or it broke.
    Connect,
    /// The certificate or the encryption.
    Tls,
    /// Not answered in time, or silent for too long.
    Timeout,
    /// The host has as many requests as it may have, or others have the gateway's look-ups of names or its memory for answers,
    /// and the wait was too long. The job is not to blame.
    Busy,
    /// The API has no answer yet (202).
    NotReady,
    /// Any other HTTP status that stands for no answer.
    Status(u16),
    Redirects,
    /// The answer has more bytes or items than it may have.
    TooLarge,
    /// The answer's compression is unknown or broken.
    Encoding,
    /// The answer is no JSON.
    NotJson,
    /// The answer is JSON, but the items are not where they should be.
    NoItems,
    /// The pages do not end, or the next one cannot be found.
    Pages,
}

impl FetchErrorKind {
    /// The word in metrics and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FetchErrorKind::Refused => "refused_address",
            FetchErrorKind::Name => "unknown_host",
            FetchErrorKind::Connect => "connection_failed",
            FetchErrorKind::Tls => "tls_failed",
            FetchErrorKind::Timeout => "timeout",
            FetchErrorKind::Busy => "host_busy",
            FetchErrorKind::NotReady => "not_ready",
            FetchErrorKind::Status(429) => "too_many_requests",
            FetchErrorKind::Status(_) => "http_status",
            FetchErrorKind::Redirects => "redirects",
            FetchErrorKind::TooLarge => "too_large",
            FetchErrorKind::Encoding => "encoding",
            FetchErrorKind::NotJson => "not_json",
            FetchErrorKind::NoItems => "no_items",
            FetchErrorKind::Pages => "pages",
        }
    }
}

/// An API gave no items, or not all of them. No secret is in the message, and no query of an address either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    pub kind: FetchErrorKind,
    pub message: String,
    /// How long the API asked to be left alone, at most [`crate::outbound::retry_after::RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
}

impl FetchError {
    pub fn new(kind: FetchErrorKind, message: impl Into<String>) -> FetchError {
        FetchError { kind, message: message.into(), retry_after: None }
    }
}

impl From<RequestError> for FetchError {
    fn from(error: RequestError) -> FetchError {
        let kind = match &error {
            RequestError::Refused(_) => FetchErrorKind::Refused,
            RequestError::Name(_) => FetchErrorKind::Name,
            RequestError::Busy(_) => FetchErrorKind::Busy,
            RequestError::Tls { .. } => FetchErrorKind::Tls,
            RequestError::Timeout { .. } => FetchErrorKind::Timeout,
            RequestError::Connect { .. } => FetchErrorKind::Connect,
        };
        FetchError::new(kind, error.to_string())
    }
}
