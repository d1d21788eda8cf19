//! The gateway as a client sees it: its HTTP API.
//!
//! What matters here is to tell three failures of a POST apart. *Refused*: the gateway said that it took nothing, or
//! was never reached; the same records may be sent again. *Rejected*: it said why it will not take them, and would say
//! so again. *Unknown*: the connection broke or the reply makes no sense; the records may be in the journal or not,
//! and sending them again could double them. Nothing below this module sends a request twice on its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_record::Position;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::credentials::Credentials;
use crate::feed::Feed;
use crate::options::{Acknowledgement, Options};
use crate::problem::Problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the reply to records. `ack=commit` waits for the database, so this is generous.
const RECORDS_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait for any other reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at `/readyz`.
const READY_PAUSE: Duration = Duration::from_millis(200);

/// The reply to records.
#[derive(Debug, Clone, Deserialize)]
pub struct Reply {
    /// With `ack=journal`.
    accepted: Option<u64>,
    /// With `ack=commit`.
    committed: Option<u64>,
    #[serde(default)]
    pub quarantined: u64,
    /// Invalid records that the quarantine does not keep.
    #[serde(default)]
    pub not_kept: u64,
    pub position: Position,
    #[serde(default)]
    pub errors: Vec<RecordError>,
}

impl Reply {
    /// How many records the gateway promises to keep. Duplicates are not among them: the demo's streams have no key,
    /// so a reply that speaks of any must not add up.
    pub fn accepted(&self) -> u64 {
        self.accepted.or(self.committed).unwrap_or(0)
    }
}

/// One record that went to the quarantine.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordError {
    /// Its number in the request, from 1.
    pub record: u64,
}

/// What became of one POST.
#[derive(Debug, Clone)]
pub enum Attempt {
    Answered(Reply),
    /// Nothing was accepted; it may be sent again.
    Refused {
        retry_after: Option<Duration>,
        reason: String,
    },
    /// Nothing was accepted, and the same request would not be either.
    Rejected(String),
    /// It may have been accepted; it must not be sent again.
    Unknown(String),
}

/// A part of `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub journal: JournalStatus,
    #[serde(default)]
    pub streams: HashMap<String, StreamStatus>,
}

/// Totals since the gateway started.
#[derive(Debug, Deserialize)]
pub struct StreamStatus {
    pub committed: u64,
}

/// How far the journal has come.
#[derive(Debug, Deserialize)]
pub struct JournalStatus {
    pub synced: Position,
    pub committed: Position,
}

#[derive(Debug, Deserialize)]
struct WhoAmI {
    user: User,
}

#[derive(Debug, Deserialize)]
struct User {
    name: String,
}

/// A client of one gateway.
pub struct Gateway {
    http: Client,
    base: Url,
    credentials: Credentials,
    authorization: ArcSwap<HeaderValue>,
}

impl Gateway {
    /// Waits until the gateway is ready, then signs in.
    pub async fn connect(options: &Options) -> anyhow::Result<Gateway> {
        let connections = usize::try_from(options.connections)?;
        let http = Client::builder()
            .user_agent(concat!("tidegate-demo/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REPLY_TIMEOUT)
            .pool_max_idle_per_host(connections)
            // HTTP/2 would put all workers on one connection.
            .http1_only()
            .tcp_nodelay(true)
            .no_proxy()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let base = options.url.clone();
        wait_until_ready(&http, &base, options.wait).await?;
        let credentials = Credentials::new(options);
        // The gateway writes its token at start, so the file is read only now.
        let authorization = ArcSwap::from_pointee(credentials.header()?);
        Ok(Gateway { http, base, credentials, authorization })
    }

    /// The name of the user that the credentials belong to.
    pub async fn user_name(&self) -> anyhow::Result<String> {
        let me: WhoAmI = self.get("v1/sessions").await.context("cannot sign in")?;
        Ok(me.user.name)
    }

    /// How far the journal is durable and committed.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.get("v1/status").await
    }

    /// Sends records once.
    pub async fn send_records(
        &self,
        url: &Url,
        content_type: &'static str,
        body: Bytes,
    ) -> Attempt {
        let used = self.authorization();
        let request = self
            .http
            .post(url.clone())
            .header(AUTHORIZATION, used.as_ref())
            .header(CONTENT_TYPE, content_type)
            .timeout(RECORDS_TIMEOUT)
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            // Never reached: not one byte was sent.
            Err(error) if error.is_connect() => {
                return Attempt::Refused { retry_after: None, reason: chain(error) };
            }
            Err(error) => return Attempt::Unknown(chain(error)),
        };
        let status = response.status();
        if status.is_success() {
            return match response.json().await {
                Ok(reply) => Attempt::Answered(reply),
                Err(error) => Attempt::Unknown(chain(error)),
            };
        }
        let retry_after = retry_after(&response);
        if status == StatusCode::UNAUTHORIZED && self.renew(&used) {
            let reason = "the gateway has a new local token".into();
            return Attempt::Refused { retry_after, reason };
        }
        Problem::read(response).await.judge(retry_after)
    }

    /// Where a feed's records go.
    pub fn records_url(&self, feed: &Feed, ack: Acknowledgement) -> anyhow::Result<Url> {
        let mut url = self.base.join(&format!("v1/streams/{}/records", feed.stream()))?;
        url.query_pairs_mut().append_pair("ack", ack.as_str());
        if let Some(text) = feed.null_text() {
            url.query_pairs_mut().append_pair("null", text);
        }
        Ok(url)
    }

    /// Where a monitor of these streams connects; `since` is the cursor it resumes from.
    pub fn monitor_url(&self, streams: &str, since: Option<&str>) -> anyhow::Result<Url> {
        let mut url = self.base.join("v1/monitor")?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| anyhow!("{url} has no WebSocket form"))?;
        url.query_pairs_mut().append_pair("streams", streams).append_pair("mode", "full");
        if let Some(cursor) = since {
            url.query_pairs_mut().append_pair("since", cursor);
        }
        Ok(url)
    }

    /// The header to send now.
    pub fn authorization(&self) -> Arc<HeaderValue> {
        self.authorization.load_full()
    }

    /// After a 401 for the header `used`: whether there is another one by now, as after a restart of the gateway.
    pub fn renew(&self, used: &HeaderValue) -> bool {
        if self.authorization.load().as_ref() != used {
            return true;
        }
        match self.credentials.header() {
            Ok(header) if header != *used => {
                self.authorization.store(Arc::new(header));
                true
            }
            _ => false,
        }
    }

    /// The reply to a GET: `None` for 404.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let response = self.request(Method::GET, path)?.send().await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response.json().await?)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("{}", Problem::read(response).await),
        }
    }

    /// POSTs JSON; false if there is such a thing already (409).
    pub async fn create(&self, path: &str, json: &Value) -> anyhow::Result<bool> {
        let request = self.request(Method::POST, path)?;
        let request = request.header(CONTENT_TYPE, "application/json").body(json.to_string());
        let response = request.send().await?;
        match response.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(true),
            StatusCode::CONFLICT => Ok(false),
            _ => bail!("{}", Problem::read(response).await),
        }
    }

    /// POSTs JSON; the reply to it.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, json: &Value) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path)?;
        let request = request.header(CONTENT_TYPE, "application/json").body(json.to_string());
        let response = request.send().await?;
        if !response.status().is_success() {
            bail!("{}", Problem::read(response).await);
        }
        Ok(response.json().await?)
    }

    /// DELETEs; what is gone already is well.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let response = self.request(Method::DELETE, path)?.send().await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => bail!("{}", Problem::read(response).await),
        }
    }

    /// The reply to a GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let used = self.authorization();
        let mut response = self.request(Method::GET, path)?.send().await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.renew(&used) {
            response = self.request(Method::GET, path)?.send().await?;
        }
        if !response.status().is_success() {
            bail!("{}", Problem::read(response).await);
        }
        Ok(response.json().await?)
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.base.join(path)?;
        Ok(self.http.request(method, url).header(AUTHORIZATION, self.authorization().as_ref()))
    }
}

async fn wait_until_ready(http: &Client, base: &Url, wait: Duration) -> anyhow::Result<()> {
    let url = base.join("readyz")?;
    let deadline = Instant::now() + wait;
    let mut told = false;
    loop {
        let reason = match http.get(url.clone()).send().await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                format!("it answers, but is not ready: {}", Problem::read(response).await)
            }
            Err(error) => chain(error),
        };
        if Instant::now() >= deadline {
            bail!(
                "no gateway is ready at {base} after {} s ({reason}); start one, or name another with --url",
                wait.as_secs()
            );
        }
        if !told {
            eprintln!("waiting up to {} s for the gateway at {base}", wait.as_secs());
            told = true;
        }
        sleep(READY_PAUSE).await;
    }
}

/// `Retry-After` in seconds; the gateway does not send dates.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An error with its causes: the outermost alone only says that a request failed.
fn chain(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_counts_what_is_promised() {
        let accepted = |json| serde_json::from_str::<Reply>(json).map(|reply| reply.accepted());
        assert_eq!(
            accepted(r#"{"accepted":998,"quarantined":2,"position":"00000000000a3f10"}"#).ok(),
            Some(998)
        );
        assert_eq!(
            accepted(r#"{"committed":996,"duplicates":2,"quarantined":2,"position":"1"}"#).ok(),
            Some(996)
        );
        assert!(accepted(r#"{"accepted":998}"#).is_err(), "a reply without a position is none");
    }
}
