//! An API that gives no answer: which statuses are answers, and what people are told of all others.
//!
//! Promises: only a status that stands for the whole answer is taken for one. Of what an API says with its refusal the
//! first bytes are shown, without the job's secrets.

use std::time::Duration;

use reqwest::header::CONTENT_ENCODING;
use reqwest::{Response, StatusCode};
use tidegate_record::UnixMicros;

use super::error::{FetchError, FetchErrorKind};
use super::question::Question;
use crate::outbound::{Endpoint, HostPermit, Mask, may_see_secrets, retry_after, shown};
use crate::polling::jobs::{Definition, Method};
use crate::sources::body::{BodyLimits, BodyReader, ContentEncoding};

/// So much of a refusal's body is read, in bytes, and what came with the last of them.
const READ_BYTES: usize = 4 << 10;
/// Most bytes that may come at once.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// Longest wait for them.
const READ_TIME_MAX: Duration = Duration::from_secs(2);
/// So much of it is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 250;

/// An answer whose status is none of an answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub url: Endpoint,
    pub response: Response,
    /// The request is over when the refusal is read.
    pub _permit: HostPermit,
}

/// Does an answer of this status have all that was asked for? 204 has: nothing. What was accepted for later, or is a
/// part, has not; nor has 201 or 226, unless the job says that its POST is answered so.
pub(super) fn is_answer(definition: &Definition, status: StatusCode) -> bool {
    match status.as_u16() {
        200 | 203 | 204 => true,
        other => definition.method == Method::Post && definition.accept_statuses.contains(&other),
    }
}

impl Refusal {
    /// What people are told of it.
    pub async fn into_error(self, question: &Question<'_>, now: UnixMicros) -> FetchError {
        let Refusal { url, response, _permit } = self;
        let status = response.status();
        let retry_after = retry_after::read(response.headers(), now);
        let who = if url == question.url { "the API".to_owned() } else { shown::address(&url) };
        let mut message = format!("{who} answered {}", in_words(status));
        match status.as_u16() {
            202 => message.push_str(": not ready yet"),
            201 | 226 if question.definition.method == Method::Post => {
                message.push_str(", which is an answer only where `accept_statuses` has it");
            }
            200..300 => message.push_str(", which is no whole answer"),
            401 | 403 if leaves_secrets_out(question, &url) => message.push_str(
                "; it is another origin than the job's address, so the secret headers were left out there",
            ),
            _ => {}
        }
        if status.is_client_error() || status.is_server_error() {
            let mask = Mask::of(question.secrets, question.definition.url.url());
            let said = tokio::time::timeout(READ_TIME_MAX, beginning(response, &mask)).await;
            if let Some(said) = said.ok().filter(|said| !said.is_empty()) {
                message = format!("{message}; it said: {said}");
            }
        }
        let kind = match status {
            StatusCode::ACCEPTED => FetchErrorKind::NotReady,
            status => FetchErrorKind::Status(status.as_u16()),
        };
        FetchError { retry_after, ..FetchError::new(kind, message) }
    }
}

fn leaves_secrets_out(question: &Question<'_>, url: &Endpoint) -> bool {
    !question.secrets.is_empty() && !may_see_secrets(&question.definition.url, url)
}

fn in_words(status: StatusCode) -> String {
    let number = status.as_u16();
    status.canonical_reason().map_or(number.to_string(), |reason| format!("{number} {reason}"))
}

/// The first of what the body says, on one line; nothing of what cannot be read.
async fn beginning(response: Response, mask: &Mask) -> String {
    let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str());
    let Ok(encoding) = encoding.transpose() else { return String::new() };
    let Ok(encoding) = ContentEncoding::from_header(encoding) else { return String::new() };
    let limits = BodyLimits {
        wire_bytes_max: CHUNK_BYTES_MAX,
        decompressed_bytes_max: CHUNK_BYTES_MAX,
        idle_timeout: READ_TIME_MAX,
    };
    let mut reader = BodyReader::new(Box::pin(response.bytes_stream()), encoding, limits);
    let mut body = Vec::new();
    let is_cut = loop {
        match reader.next().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(READ_BYTES)]),
            Ok(None) => break false,
            Err(_) => break true,
        }
        if body.len() >= READ_BYTES {
            break true;
        }
    };
    shown::one_line(&mask.hide(&String::from_utf8_lossy(&body), is_cut), SHOWN_CHARACTERS_MAX)
}
