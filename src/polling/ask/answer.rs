//! One answer to one request: redirects followed, its body read within its limits. Which statuses stand for an answer
//! stands in [`super::refusal`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LINK, LOCATION,
};
use reqwest::{Response, StatusCode};
use tidegate_record::clock::Clock;
use url::Url;

use super::budget::{AnswerBudget, AnswerPermit};
use super::error::{FetchError, FetchErrorKind};
use super::question::Question;
use super::refusal::{Refusal, is_answer};
use crate::ingest::body::{BodyError, BodyLimits, BodyReader, ContentEncoding};
use crate::outbound::{
    Asking, BusyLookups, Client, Endpoint, HostPermit, Hosts, RequestError, may_see_secrets, shown,
};
use crate::polling::jobs::{Definition, Method};

/// Most redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Longest silence within an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest `ETag` or `Last-Modified` that is kept, in bytes.
const VALIDATOR_BYTES_MAX: usize = 1_024;

/// What every request needs.
#[derive(Debug)]
pub(super) struct Asker {
    pub client: Client,
    pub hosts: Hosts,
    pub budget: AnswerBudget,
    pub clock: Clock,
}

#[derive(Debug)]
pub(super) enum Answer {
    NotModified,
    Content(Box<Content>),
}

#[derive(Debug)]
pub(super) struct Content {
    /// Where it came from, after redirects.
    pub url: Url,
    /// None: the API has nothing to say (204).
    pub body: Option<Bytes>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// The values of the header `Link`.
    pub links: Vec<String>,
    pub permit: AnswerPermit,
}

/// What came back.
enum Reply {
    Answer(Answer),
    Refusal(Box<Refusal>),
}

impl Asker {
    /// Asks within the definition's timeout. `permit`: for the request to the first host.
    pub async fn ask(
        &self,
        question: &Question<'_>,
        permit: HostPermit,
    ) -> Result<Answer, FetchError> {
        let limit = Duration::from_millis(question.definition.timeout_ms);
        let asking = Asking::of(question.owner);
        match tokio::time::timeout(limit, asking.scope(self.follow(question, permit))).await {
            Ok(Ok(Reply::Answer(answer))) => Ok(answer),
            Ok(Ok(Reply::Refusal(refusal))) => {
                Err(refusal.into_error(question, self.clock.now()).await)
            }
            Ok(Err(error)) => Err(error),
            Err(_) if asking.waits_for_lookup() => Err(RequestError::from(BusyLookups).into()),
            Err(_) => {
                let message = format!("no whole answer within {} ms", limit.as_millis());
                Err(FetchError::new(FetchErrorKind::Timeout, message))
            }
        }
    }

    async fn follow(
        &self,
        question: &Question<'_>,
        mut permit: HostPermit,
    ) -> Result<Reply, FetchError> {
        let mut url = question.url.clone();
        let mut method = question.definition.method;
        // A page that the API named may be anywhere.
        if method == Method::Post && !may_see_secrets(&question.definition.url, &url) {
            let message = "the next page of a POST is on another host";
            return Err(FetchError::new(FetchErrorKind::Pages, message));
        }
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(question, &url, method).await?;
            let Some(next) = redirected(&response, &url)? else {
                if response.status() == StatusCode::NOT_MODIFIED && question.known.is_some() {
                    return Ok(Reply::Answer(Answer::NotModified));
                }
                if !is_answer(question.definition, response.status()) {
                    return Ok(Reply::Refusal(Box::new(Refusal {
                        url,
                        response,
                        _permit: permit,
                    })));
                }
                let content = self.read(question, &url, response).await?;
                return Ok(Reply::Answer(Answer::Content(Box::new(content))));
            };
            // As browsers do: only 307 and 308 ask the same again.
            let same = matches!(response.status().as_u16(), 307 | 308);
            method = if same { method } else { Method::Get };
            if method == Method::Post && !may_see_secrets(&question.definition.url, &next) {
                let message = format!("{} redirects a POST to another host", shown::address(&url));
                return Err(FetchError::new(FetchErrorKind::Redirects, message));
            }
            drop(response);
            if next.host() != url.host() {
                drop(permit);
                permit = self.hosts.permit(&next.host()).await;
            }
            url = next;
        }
        drop(permit);
        let message =
            format!("{} redirects more than {REDIRECTS_MAX} times", shown::address(&question.url));
        Err(FetchError::new(FetchErrorKind::Redirects, message))
    }

    async fn send(
        &self,
        question: &Question<'_>,
        url: &Endpoint,
        method: Method,
    ) -> Result<Response, FetchError> {
        let headers = question.headers(url, method);
        let body = question.definition.body.clone().filter(|_| method == Method::Post);
        Ok(self.client.send(method.into(), url, headers, body).await?)
    }

    async fn read(
        &self,
        question: &Question<'_>,
        url: &Endpoint,
        response: Response,
    ) -> Result<Content, FetchError> {
        let headers = response.headers();
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let links = links.map(str::to_owned).collect();
        let (etag, last_modified) = (validator(headers, &ETAG), validator(headers, &LAST_MODIFIED));
        let mut permit = self.budget.permit(question.owner);
        permit.goes_beside(question.beside);
        let body = match response.status() {
            StatusCode::NO_CONTENT => None,
            _ => Some(read_body(question.definition, response, &mut permit).await?),
        };
        let url = url.url().clone();
        Ok(Content { url, body, etag, last_modified, links, permit })
    }
}

/// Where the answer sends us, if it does.
fn redirected(response: &Response, url: &Endpoint) -> Result<Option<Endpoint>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let wrong = |what: &str| {
        let message = format!("{} redirects {what}", shown::address(url));
        FetchError::new(FetchErrorKind::Redirects, message)
    };
    let location = response.headers().get(LOCATION).ok_or_else(|| wrong("to nowhere"))?;
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| wrong("to no address"))?;
    let mut next = url.url().join(location).map_err(|_| wrong("to no address"))?;
    next.set_fragment(None);
    Endpoint::of(next).map(Some).map_err(|error| wrong(&format!("to an address that {error}")))
}

fn validator(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= VALIDATOR_BYTES_MAX).then(|| value.to_owned())
}

async fn read_body(
    definition: &Definition,
    response: Response,
    permit: &mut AnswerPermit,
) -> Result<Bytes, FetchError> {
    let bytes_max = definition.response_bytes_max;
    let too_large = || {
        let message = format!("the answer has more than {bytes_max} bytes (`response_bytes_max`)");
        FetchError::new(FetchErrorKind::TooLarge, message)
    };
    if response.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let encoding = encoding(response.headers())?;
    let limits = BodyLimits {
        wire_bytes_max: bytes_max,
        decompressed_bytes_max: bytes_max,
        idle_timeout: SILENCE_MAX,
    };
    let mut reader = BodyReader::new(Box::pin(response.bytes_stream()), encoding, limits);
    let mut body = BytesMut::new();
    loop {
        let next = match reader.next().await {
            // What an archive or a device added is no part of the answer.
            Err(BodyError::Padded) => Ok(None),
            next => next,
        };
        let chunk = next.map_err(|error| match error {
            BodyError::TooLarge { .. } => too_large(),
            BodyError::Idle { .. } => FetchError::new(
                FetchErrorKind::Timeout,
                format!("the answer stopped: {error}").replace("body", "answer"),
            ),
            BodyError::Corrupt { message } => FetchError::new(
                FetchErrorKind::Encoding,
                format!("the answer's compression is broken: {message}"),
            ),
            BodyError::Padded | BodyError::Undeclared { .. } | BodyError::NoMemory => {
                FetchError::new(
                    FetchErrorKind::Encoding,
                    format!("the answer is compressed wrongly: {error}").replace("body", "answer"),
                )
            }
            BodyError::ShutOut { .. } | BodyError::Interrupted { .. } => {
                FetchError::new(FetchErrorKind::Connect, "the connection broke within the answer")
            }
        })?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        permit.grow_to(body.len() + chunk.len()).await?;
        body.extend_from_slice(&chunk);
    }
}

fn encoding(headers: &HeaderMap) -> Result<ContentEncoding, FetchError> {
    let values: Vec<&str> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .collect();
    let joined = values.join(", ");
    ContentEncoding::from_header(Some(&joined)).map_err(|error| {
        let message = format!("the answer's encoding {:?} is unknown", error.0);
        FetchError::new(FetchErrorKind::Encoding, message)
    })
}
