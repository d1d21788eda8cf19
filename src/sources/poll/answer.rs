//! One answer to one request: redirects followed, its body read within its limits. What its status means says
//! [`super::refusal`].

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LINK, LOCATION,
};
use reqwest::{Client, Response, StatusCode};
use tidegate_record::clock::Clock;
use url::Url;

use super::definition::{Definition, Method};
use super::endpoint::Endpoint;
use super::error::{FetchError, FetchErrorKind};
use super::guard::{Guard, RefusedHost, UnknownHost};
use super::headers::{Secrets, may_see_secrets};
use super::hosts::{Hosts, Turn};
use super::refusal::{Refusal, is_answer};
use super::resume::Resume;
use super::room::{Held, Room};
use super::shown::address;
use crate::ingest::body::{BodyError, BodyLimits, BodyReader, ContentEncoding};

/// Most redirects of one request.
pub const REDIRECTS_MAX: usize = 5;
/// Longest silence within an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest `ETag` or `Last-Modified` that is kept, in bytes.
const VALIDATOR_BYTES_MAX: usize = 1_024;

/// What every request needs.
#[derive(Debug)]
pub(super) struct Asker {
    pub client: Client,
    pub guard: Guard,
    pub hosts: Hosts,
    pub room: Room,
    pub clock: Clock,
}

/// What to ask.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub definition: &'a Definition,
    pub secrets: &'a Secrets,
    pub url: Endpoint,
    /// Validators of the answer that is known already.
    pub known: Option<&'a Resume>,
    /// What the run holds already.
    pub beside: &'a Held,
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
    pub held: Held,
}

/// What came back.
enum Reply {
    Answer(Answer),
    Refusal(Box<Refusal>),
}

impl Asker {
    /// Asks within the definition's timeout. `turn`: the place among the first host's requests.
    pub async fn ask(&self, question: &Question<'_>, turn: Turn) -> Result<Answer, FetchError> {
        let limit = Duration::from_millis(question.definition.timeout_ms);
        match tokio::time::timeout(limit, self.follow(question, turn)).await {
            Ok(Ok(Reply::Answer(answer))) => Ok(answer),
            Ok(Ok(Reply::Refusal(refusal))) => {
                Err(refusal.into_error(question, self.clock.now()).await)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let message = format!("no whole answer within {} ms", limit.as_millis());
                Err(FetchError::new(FetchErrorKind::Timeout, message))
            }
        }
    }

    async fn follow(&self, question: &Question<'_>, turn: Turn) -> Result<Reply, FetchError> {
        let mut url = question.url.clone();
        let mut turn = turn;
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
                    return Ok(Reply::Refusal(Box::new(Refusal { url, response, _turn: turn })));
                }
                let content = self.read(question, &url, response).await?;
                return Ok(Reply::Answer(Answer::Content(Box::new(content))));
            };
            // As browsers do: only 307 and 308 ask the same again.
            let same = matches!(response.status().as_u16(), 307 | 308);
            method = if same { method } else { Method::Get };
            if method == Method::Post && !may_see_secrets(&question.definition.url, &next) {
                let message = format!("{} redirects a POST to another host", address(&url));
                return Err(FetchError::new(FetchErrorKind::Redirects, message));
            }
            drop(response);
            if next.host() != url.host() {
                drop(turn);
                turn = self.hosts.turn(&next.host()).await;
            }
            url = next;
        }
        drop(turn);
        let message =
            format!("{} redirects more than {REDIRECTS_MAX} times", address(&question.url));
        Err(FetchError::new(FetchErrorKind::Redirects, message))
    }

    async fn send(
        &self,
        question: &Question<'_>,
        url: &Endpoint,
        method: Method,
    ) -> Result<Response, FetchError> {
        self.guard.check_host(url.url()).map_err(|refused| refused_error(&refused))?;
        let request = match method {
            Method::Get => self.client.get(url.url().clone()),
            Method::Post => self.client.post(url.url().clone()),
        };
        let mut request = request.headers(headers(question, url, method));
        if let Some(body) = question.definition.body.as_ref().filter(|_| method == Method::Post) {
            request = request.body(body.clone());
        }
        request.send().await.map_err(|error| connection_error(url, &error.without_url()))
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
        let mut held = self.room.hold();
        held.goes_beside(question.beside);
        let body = match response.status() {
            StatusCode::NO_CONTENT => None,
            _ => Some(read_body(question.definition, response, &mut held).await?),
        };
        let url = url.url().clone();
        Ok(Content { url, body, etag, last_modified, links, held })
    }
}

fn headers(question: &Question<'_>, url: &Endpoint, method: Method) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br, zstd, deflate"));
    if method == Method::Post && question.definition.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let plain = question.definition.headers.iter().map(|(name, value)| (&**name, &**value));
    plain.for_each(|pair| insert(&mut headers, pair, false));
    if may_see_secrets(&question.definition.url, url) {
        question.secrets.iter().for_each(|pair| insert(&mut headers, pair, true));
    }
    if let Some(known) = question.known {
        let etag = known.etag.as_deref().map(|value| (IF_NONE_MATCH.as_str(), value));
        let modified = known.last_modified.as_deref();
        let modified = modified.map(|value| (IF_MODIFIED_SINCE.as_str(), value));
        etag.into_iter().chain(modified).for_each(|pair| insert(&mut headers, pair, false));
    }
    headers
}

/// Names and values were checked when the job was made; what is no header all the same is left out.
fn insert(headers: &mut HeaderMap, (name, value): (&str, &str), secret: bool) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
        value.set_sensitive(secret);
        headers.insert(name, value);
    }
}

/// Where the answer sends us, if it does.
fn redirected(response: &Response, url: &Endpoint) -> Result<Option<Endpoint>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let wrong = |what: &str| {
        let message = format!("{} redirects {what}", address(url));
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
    held: &mut Held,
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
            BodyError::Interrupted { .. } => {
                FetchError::new(FetchErrorKind::Connect, "the connection broke within the answer")
            }
        })?;
        let Some(chunk) = chunk else { return Ok(body.freeze()) };
        held.grow_to(body.len() + chunk.len()).await?;
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

fn refused_error(refused: &RefusedHost) -> FetchError {
    FetchError::new(FetchErrorKind::Refused, refused.to_string())
}

/// What the client's error means: it is somewhere in the chain of its sources.
fn connection_error(url: &Endpoint, error: &reqwest::Error) -> FetchError {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut deepest = String::new();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<RefusedHost>() {
            return refused_error(refused);
        }
        if let Some(unknown) = cause.downcast_ref::<UnknownHost>() {
            return FetchError::new(FetchErrorKind::Name, unknown.to_string());
        }
        if let Some(tls) = tls_error(cause) {
            let message = format!("no encrypted connection to {}: {tls}", address(url));
            return FetchError::new(FetchErrorKind::Tls, message);
        }
        deepest = cause.to_string();
        source = cause.source();
    }
    let kind = if error.is_timeout() { FetchErrorKind::Timeout } else { FetchErrorKind::Connect };
    FetchError::new(kind, format!("no answer from {}: {deepest}", address(url)))
}

/// An I/O error hides the error that it was made of from the chain, and that may be an I/O error again.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = cause;
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    cause.downcast_ref()
}

/// The client that all runs share: no proxy from the environment, no redirect that was not looked at, and names only
/// through the guard.
pub(super) fn client(
    guard: &Guard,
    idle_max: usize,
    roots: &[Vec<u8>],
) -> Result<Client, reqwest::Error> {
    /// Longest time to connect.
    const CONNECT_MAX: Duration = Duration::from_secs(10);
    /// How long a connection is kept that nobody uses.
    const IDLE_MAX: Duration = Duration::from_secs(30);
    let builder = || {
        Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(Arc::new(guard.clone()))
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(idle_max)
    };
    let roots: Result<Vec<_>, _> =
        roots.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
    let with_roots = builder().tls_certs_merge(roots?).build();
    with_roots.or_else(|error| {
        // A machine without certificates can still ask by http; https will say that it trusts nobody.
        tracing::warn!(%error, "the machine's certificates cannot be read: polling jobs cannot use https");
        builder().tls_certs_only([]).build()
    })
}
