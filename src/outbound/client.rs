//! The client that sends requests, to addresses that the guard allows only: no proxy from the environment, no redirect
//! that its caller did not look at, no name that the guard did not look up.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};

use super::endpoint::Endpoint;
use super::guard::{Guard, RefusedHost, UnknownHost};
use super::lookups::BusyLookups;
use super::shown;

/// Longest time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    guard: Guard,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client for requests to other hosts: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// A request got no answer. No secret is in the message, and no query of an address either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Refused(#[from] RefusedHost),
    #[error(transparent)]
    Name(#[from] UnknownHost),
    /// Nothing was asked, and neither the host nor its name is to blame.
    #[error(transparent)]
    Busy(#[from] BusyLookups),
    #[error("no encrypted connection to {to}: {reason}")]
    Tls { to: String, reason: String },
    #[error("no answer from {from}: {reason}")]
    Timeout { from: String, reason: String },
    #[error("no answer from {from}: {reason}")]
    Connect { from: String, reason: String },
}

impl Client {
    /// `idle_max`: most unused connections to a host. `roots`: certificates (DER) of authorities that are believed beside
    /// the machine's own.
    pub fn new(guard: Guard, idle_max: usize, roots: &[Vec<u8>]) -> Result<Client, ClientError> {
        let builder = || {
            reqwest::Client::builder()
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
        let http = with_roots.or_else(|error| {
            // A machine without certificates can still ask by http; https will say that it trusts none.
            tracing::warn!(%error, "the machine's certificates cannot be read: requests to other hosts cannot use https");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Client { http, guard })
    }

    /// Sends one request; returns when the head of its answer is there.
    pub async fn send(
        &self,
        method: Method,
        to: &Endpoint,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<Response, RequestError> {
        self.guard.check_host(to.url())?;
        let mut request = self.http.request(method, to.url().clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| request_error(to, &error.without_url()))
    }
}

/// What the client's error means: it is somewhere in the chain of its sources.
fn request_error(to: &Endpoint, error: &reqwest::Error) -> RequestError {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut deepest = String::new();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<RefusedHost>() {
            return refused.clone().into();
        }
        if let Some(unknown) = cause.downcast_ref::<UnknownHost>() {
            return unknown.clone().into();
        }
        if let Some(busy) = cause.downcast_ref::<BusyLookups>() {
            return (*busy).into();
        }
        if let Some(tls) = tls_error(cause) {
            return RequestError::Tls { to: shown::address(to), reason: tls.to_string() };
        }
        deepest = cause.to_string();
        source = cause.source();
    }
    let (from, reason) = (shown::address(to), deepest);
    if error.is_timeout() {
        RequestError::Timeout { from, reason }
    } else {
        RequestError::Connect { from, reason }
    }
}

/// An I/O error hides the error that it was made of from the chain, and that may be an I/O error again.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = cause;
    while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        cause = inner;
    }
    cause.downcast_ref()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    /// Answers every connection once, and ends it.
    async fn answer_all(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let head = b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_whose_address_changes_gains_nothing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://api.test:{}/", listener.local_addr().unwrap().port());
        let url = Endpoint::try_from(url).unwrap();
        let mut answering = JoinSet::new();
        answering.spawn(answer_all(listener));
        let (allowed, private) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let looks = vec![vec![allowed], vec![private], vec![private, allowed]];
        let guard = Guard::scripted(vec!["127.0.0.1/32".parse().unwrap()], looks);
        let client = Client::new(guard, 0, &[]).unwrap();
        let send = || client.send(Method::GET, &url, HeaderMap::new(), None);
        assert_eq!(send().await.unwrap().status(), 204);
        let error = send().await.unwrap_err();
        assert!(error.to_string().starts_with("api.test lies in"), "{error}");
        assert_eq!(send().await.unwrap().status(), 204, "only the allowed one");
    }
}
