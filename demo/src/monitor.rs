//! The demo's one monitor: a WebSocket on both streams in full mode.
//!
//! It reads as fast as it can and holds one message at a time; when it is too slow, the gateway has to say so with a
//! gap. When the connection breaks, it resumes after the last message that it has counted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{SinkExt, StreamExt};
use tidegate_record::clock::Clock;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::feed::{Dataset, Feed};
use crate::gateway::Gateway;
use crate::message::{Event, MessageReader};

/// Largest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes waiting to be written: the demo writes nothing but pongs.
const WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// `stats` come every second; a connection that is silent for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Longest time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection could not be made.
enum ConnectError {
    /// The gateway said no: trying again will not help.
    Refused(anyhow::Error),
    /// It may be there in a moment.
    Unreachable(anyhow::Error),
}

/// See the module.
pub struct Monitor {
    gateway: Arc<Gateway>,
    book: Arc<Book>,
    clock: Clock,
    /// Names of the streams, separated by commas.
    streams: String,
    reader: MessageReader,
    /// The last message's cursor: where to resume.
    cursor: Option<String>,
    /// How long to try to reconnect.
    wait: Duration,
}

impl Monitor {
    pub fn new(
        gateway: Arc<Gateway>,
        book: Arc<Book>,
        feeds: &[(Dataset, Arc<Feed>)],
        run: &str,
        wait: Duration,
    ) -> Monitor {
        let named = feeds.iter().map(|(dataset, feed)| (feed.stream().to_owned(), *dataset));
        let joined: Vec<&str> = feeds.iter().map(|(_, feed)| feed.stream()).collect();
        Monitor {
            gateway,
            book,
            clock: Clock::System,
            streams: joined.join(","),
            reader: MessageReader::new(run, named.collect()),
            cursor: None,
            wait,
        }
    }

    /// Watches until `stop`. `watching` is answered when the gateway has said hello, or with why it did not.
    pub async fn watch(
        mut self,
        watching: oneshot::Sender<anyhow::Result<()>>,
        stop: CancellationToken,
    ) {
        let socket = match self.start().await {
            Ok(socket) => socket,
            Err(error) => {
                // No task waits any more when the demo was interrupted.
                let _ = watching.send(Err(error.context("cannot watch the streams")));
                return;
            }
        };
        let _ = watching.send(Ok(()));
        let book = Arc::clone(&self.book);
        if let Some(error) = stop.run_until_cancelled(Box::pin(self.follow(socket))).await {
            book.sightings().failure = Some(format!("{error:#}"));
        }
    }

    /// The first connection, up to the gateway's hello: what is sent from now on will be seen.
    async fn start(&mut self) -> anyhow::Result<Socket> {
        let mut socket = self.connect().await?;
        while self.cursor.is_none() {
            self.read_message(&mut socket).await?;
        }
        Ok(socket)
    }

    /// Reads over broken connections, until there is no connecting any more; returns why.
    async fn follow(&mut self, mut socket: Socket) -> anyhow::Error {
        loop {
            let broken = loop {
                if let Err(error) = self.read_message(&mut socket).await {
                    break error;
                }
            };
            // A courtesy to a gateway that still listens; it has its own time limit if not.
            let _ = timeout(CONNECT_TIMEOUT, socket.close(None)).await;
            // A gateway that accepts and closes at once shall not be asked without a pause.
            sleep(RECONNECT_PAUSE_MIN).await;
            socket = match self.connect().await {
                Ok(socket) => socket,
                Err(error) => return error.context(format!("after {broken:#}")),
            };
            self.book.sightings().reconnects += 1;
        }
    }

    async fn read_message(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let message = timeout(SILENCE_MAX, socket.next()).await;
        let message = message.with_context(|| format!("silent for {} s", SILENCE_MAX.as_secs()))?;
        match message.context("the gateway ended the connection")?? {
            Message::Text(text) => self.read_text(&text),
            Message::Close(frame) => {
                let reason = frame.map_or_else(String::new, |frame| frame.to_string());
                bail!("the gateway closed the connection: {reason}")
            }
            Message::Ping(_) => Ok(socket.flush().await?),
            Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn read_text(&mut self, text: &str) -> anyhow::Result<()> {
        let now = self.clock.now();
        let mut sightings = self.book.sightings();
        match self.reader.read(text, now, &mut sightings) {
            // Only the first hello starts anything: a later one must not skip what is still to be resumed.
            Ok(Event::Hello { cursor }) => {
                if self.cursor.is_none() {
                    self.cursor = Some(cursor.context("the gateway's hello names no cursor")?);
                }
            }
            Ok(Event::Progress { cursor }) => self.cursor = cursor.or_else(|| self.cursor.take()),
            Ok(Event::Error(reason)) => bail!("the gateway reports: {reason}"),
            Ok(Event::Other) => {}
            // Its records, if it had any, will be missed at the end.
            Err(_) => sightings.unreadable += 1,
        }
        Ok(())
    }

    /// Connects; tries again until the deadline.
    async fn connect(&self) -> anyhow::Result<Socket> {
        let deadline = Instant::now() + self.wait;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(RECONNECT_PAUSE_MIN)
            .with_max_delay(RECONNECT_PAUSE_MAX)
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            match self.try_connect().await {
                Ok(socket) => return Ok(socket),
                Err(ConnectError::Refused(error)) => return Err(error),
                Err(ConnectError::Unreachable(error)) if Instant::now() >= deadline => {
                    return Err(error);
                }
                Err(ConnectError::Unreachable(_)) => {
                    sleep(pauses.next().unwrap_or(RECONNECT_PAUSE_MAX)).await;
                }
            }
        }
    }

    async fn try_connect(&self) -> Result<Socket, ConnectError> {
        let url = self.gateway.monitor_url(&self.streams, self.cursor.as_deref());
        let request = url.and_then(|url| Ok(url.as_str().into_client_request()?));
        let mut request = request.map_err(ConnectError::Refused)?;
        let authorization = self.gateway.authorization();
        request.headers_mut().insert(AUTHORIZATION, authorization.as_ref().clone());
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        let connecting = connect_async_with_config(request, Some(config), true);
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default());
                let error = anyhow!("{}: {}", response.status(), body.trim());
                let renewed = response.status() == StatusCode::UNAUTHORIZED
                    && self.gateway.renew(&authorization);
                let later = renewed
                    || response.status() == StatusCode::TOO_MANY_REQUESTS
                    || response.status().is_server_error();
                let wrap = if later { ConnectError::Unreachable } else { ConnectError::Refused };
                Err(wrap(error))
            }
            Ok(Err(error)) => Err(ConnectError::Unreachable(error.into())),
            Err(_) => Err(ConnectError::Unreachable(anyhow!("no answer in time"))),
        }
    }
}
