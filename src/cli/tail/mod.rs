//! `tidegate tail`: watch records in the terminal.
//!
//! It stays: when the connection breaks it connects again and goes on behind the last record it showed, so that what
//! is missing is either shown later or told as a gap. It ends when the gateway says that it may not watch.

pub(super) mod printer;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures::StreamExt;
use tidegate_codec::StreamName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use self::printer::{Printer, Style};
use crate::backoff::Backoff;
use crate::cli::credential::credential;
use crate::cli::output::printable;
use crate::config::DataDir;

/// Longest time for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway sends statistics every second; one from which nothing came for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Largest message that is taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The close code of a gateway that refuses.
const CLOSE_POLICY: u16 = 1008;

/// Watch records of streams as they arrive.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Streams to watch; all that you may see where none is named.
    #[arg(value_name = "STREAM", env = "TIDEGATE_TAIL_STREAMS", value_delimiter = ',')]
    streams: Vec<StreamName>,

    /// Address of the gateway.
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://127.0.0.1:8000")]
    url: Url,

    /// Token to come in with; without it the gateway's own in the data directory is taken, on the same machine.
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Begin behind this cursor, as a message of `--json` shows it; without it with what arrives from now on.
    #[arg(long, env = "TIDEGATE_TAIL_SINCE", value_name = "CURSOR")]
    since: Option<String>,

    /// Show only some records a second, and count the others.
    #[arg(long, env = "TIDEGATE_TAIL_SAMPLE")]
    sample: bool,

    /// Show the messages of records and gaps as they come, one JSON object a line.
    #[arg(long, env = "TIDEGATE_TAIL_JSON")]
    json: bool,

    #[command(flatten)]
    data: DataDir,
}

/// Watches until Ctrl-C, until the output is closed, or until the gateway refuses.
pub async fn run(args: TailArgs) -> anyhow::Result<()> {
    let stdout = io::stdout();
    let coloured = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = if args.json { Style::Json } else { Style::Text { coloured } };
    let mut printer = Printer::new(stdout.lock(), style);
    let ended = tokio::select! {
        ended = follow(&args, &mut printer) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(anyhow::Error::from),
    };
    match ended {
        // The reader of the output, `head` for example, has enough.
        Err(error) if is_closed_output(&error) => Ok(()),
        other => other,
    }
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Connects again and again, each time behind what was shown.
async fn follow<W: Write>(args: &TailArgs, printer: &mut Printer<W>) -> anyhow::Result<()> {
    let mut cursor = args.since.clone();
    let mut backoff = Backoff::new();
    let mut connected_before = false;
    loop {
        let request = request(args, cursor.as_deref())?;
        let ended = match connect(request).await {
            Ok(socket) => {
                if connected_before {
                    eprintln!("connected again");
                }
                connected_before = true;
                backoff = Backoff::new();
                show(socket, printer, &mut cursor).await?
            }
            Err(Refusal::Final(reason)) => bail!(reason),
            Err(Refusal::Now(reason)) if connected_before => reason,
            Err(Refusal::Now(reason)) => bail!("{reason} ({})", args.url),
        };
        let from = if cursor.is_some() { ", from the last record on" } else { "" };
        eprintln!("{}; connecting again{from}", printable(&ended));
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum Refusal {
    /// It may work later.
    Now(String),
    /// It will not work.
    Final(String),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(request: Request) -> Result<Socket, Refusal> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connecting = connect_async_with_config(request, Some(config), true);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(response))) => Err(refusal(&response)),
        Ok(Err(Error::Io(error))) => {
            Err(Refusal::Now(format!("the gateway cannot be reached: {error}")))
        }
        Ok(Err(error)) => Err(Refusal::Now(format!("this is not a gateway's answer: {error}"))),
        Err(_) => Err(Refusal::Now("the gateway does not answer".to_owned())),
    }
}

/// A refusal in words: what the gateway said, and what to do.
fn refusal(response: &Response<Option<Vec<u8>>>) -> Refusal {
    let body = response.body().as_deref().unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().map(printable).unwrap_or_default();
    let status = response.status();
    let advice = match status.as_u16() {
        401 => "the gateway does not know this token; give one with --token or TIDEGATE_TOKEN",
        403 => "the gateway does not let this token watch that",
        404 => "there is no such stream",
        400 => "the gateway does not understand the request",
        _ => "the gateway refuses",
    };
    let text = if detail.is_empty() {
        format!("{advice} ({status})")
    } else {
        format!("{advice}: {detail}")
    };
    let later = status.is_server_error() || status.as_u16() == 429;
    if later { Refusal::Now(text) } else { Refusal::Final(text) }
}

/// Shows what comes until the connection ends; why it did.
async fn show<W: Write>(
    mut socket: Socket,
    printer: &mut Printer<W>,
    cursor: &mut Option<String>,
) -> anyhow::Result<String> {
    loop {
        let message = match timeout(SILENCE_MAX, socket.next()).await {
            Err(_) => return Ok("the gateway is silent".to_owned()),
            Ok(None) => return Ok("the connection ended".to_owned()),
            Ok(Some(Err(error))) => return Ok(format!("the connection broke: {error}")),
            Ok(Some(Ok(message))) => message,
        };
        match message {
            Message::Text(text) => {
                if let Some(moved) = printer.show(&text)? {
                    *cursor = Some(moved);
                }
            }
            Message::Close(Some(frame)) if u16::from(frame.code) == CLOSE_POLICY => {
                bail!("the gateway ended it: {}", printable(&frame.reason));
            }
            Message::Close(Some(frame)) => {
                return Ok(format!("the gateway ended it: {}", frame.reason));
            }
            _ => {}
        }
    }
}

/// The request for a monitor. The local token is read each time: a gateway makes a new one when it starts.
fn request(args: &TailArgs, since: Option<&str>) -> anyhow::Result<Request> {
    let address = address(args, since)?;
    let mut request = address.as_str().into_client_request().context("the address")?;
    let token = credential(args.token.as_deref(), &args.data)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| anyhow!("the token has characters that no token has"))?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(request)
}

fn address(args: &TailArgs, since: Option<&str>) -> anyhow::Result<Url> {
    let mut address = args.url.clone();
    let scheme = match address.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        other => bail!("--url begins with http:// or https://, not {other}:"),
    };
    let changed = address.set_scheme(scheme);
    changed.map_err(|()| anyhow!("--url is not an address of a gateway"))?;
    let path = format!("{}/v1/monitor", address.path().trim_end_matches('/'));
    address.set_path(&path);
    let names: Vec<_> = args.streams.iter().map(StreamName::as_str).collect();
    address.set_query(None);
    let mut query = address.query_pairs_mut();
    query.append_pair("mode", if args.sample { "sample" } else { "full" });
    if !names.is_empty() {
        query.append_pair("streams", &names.join(","));
    }
    if let Some(since) = since {
        query.append_pair("since", since);
    }
    drop(query);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::ws::{CloseFrame, Message as Sent, WebSocket, WebSocketUpgrade};
    use axum::extract::{RawQuery, State};
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::lifecycle::Lifecycle;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: TailArgs,
    }

    fn args(line: &[&str]) -> TailArgs {
        Command::try_parse_from(std::iter::once(&"tail").chain(line)).unwrap().args
    }

    #[test]
    fn the_address_carries_what_to_watch() {
        let address = |line: &[&str], since| super::address(&args(line), since);
        let plain = address(&["flights", "quakes"], None).unwrap();
        assert_eq!(
            plain.as_str(),
            "ws://127.0.0.1:8000/v1/monitor?mode=full&streams=flights%2Cquakes"
        );
        let other = address(&["--url", "https://here/tide/", "--sample"], Some("0000000a.10"));
        let expected = "wss://here/tide/v1/monitor?mode=sample&since=0000000a.10";
        assert_eq!(other.unwrap().as_str(), expected);
        assert!(address(&["--url", "ftp://here"], None).is_err());
    }

    #[test]
    fn refusals_are_in_words() {
        let refused = |status: u16, body: &str| {
            let body = Some(body.as_bytes().to_vec());
            refusal(&Response::builder().status(status).body(body).unwrap())
        };
        let text = |refusal| match refusal {
            Refusal::Final(text) => text,
            Refusal::Now(text) => panic!("it would try again: {text}"),
        };
        let missing = r#"{"status":404,"detail":"there is no stream `x`"}"#;
        assert!(text(refused(404, missing)).ends_with("no such stream: there is no stream `x`"));
        assert!(text(refused(401, "")).contains("--token"));
        assert!(text(refused(403, "<html>")).contains("does not let"));
        assert!(matches!(refused(503, ""), Refusal::Now(_)));
        assert!(matches!(refused(429, ""), Refusal::Now(_)));
    }

    /// What the test's gateway was asked.
    type Asked = Arc<Mutex<Vec<String>>>;

    /// A gateway that breaks the first connection, says goodbye on the second, and refuses the third for good.
    async fn gateway(
        State(asked): State<Asked>,
        RawQuery(query): RawQuery,
        headers: HeaderMap,
        upgrade: WebSocketUpgrade,
    ) -> Response {
        if headers[header::AUTHORIZATION] != "Bearer tg_test" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let visit = {
            let mut asked = asked.lock().unwrap();
            asked.push(query.unwrap_or_default());
            asked.len()
        };
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            let text = format!(
                r#"{{"type":"records","stream":"a","cursor":"0000000a.{visit}","records":[{{"received_at":"2026-11-21T05:00:00.000000Z","data":{{"n":{visit}}}}}]}}"#
            );
            socket.send(Sent::Text(text.into())).await.unwrap();
            if visit > 1 {
                let code = if visit == 2 { 1001 } else { 1008 };
                let frame = CloseFrame { code, reason: "because".into() };
                socket.send(Sent::Close(Some(frame))).await.unwrap();
                while let Some(Ok(_)) = socket.recv().await {}
            }
        })
    }

    async fn serve() -> (String, Asked) {
        let asked = Asked::default();
        let router =
            Router::new().route("/v1/monitor", get(gateway)).with_state(Arc::clone(&asked));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Lifecycle::new().spawn("server", async move { axum::serve(listener, router).await });
        (url, asked)
    }

    #[tokio::test]
    async fn it_goes_on_behind_the_last_record_until_it_is_refused() {
        let (url, asked) = serve().await;
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Style::Text { coloured: false });
        let args = args(&["a", "--url", &url, "--token", "tg_test"]);
        let error = follow(&args, &mut printer).await.unwrap_err();
        assert_eq!(error.to_string(), "the gateway ended it: because");
        let lines: String = [1, 2, 3].map(|n| format!("05:00:00.000 a {{\"n\":{n}}}\n")).concat();
        assert_eq!(String::from_utf8(out).unwrap(), lines);
        let expected = [
            "mode=full&streams=a",
            "mode=full&streams=a&since=0000000a.1",
            "mode=full&streams=a&since=0000000a.2",
        ];
        assert_eq!(*asked.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_wrong_token_and_a_gateway_that_is_not_there_end_it_at_once() {
        let (url, _asked) = serve().await;
        let try_once = async |url: &str| {
            let args = args(&["--url", url, "--token", "tg_wrong"]);
            let mut printer = Printer::new(Vec::new(), Style::Json);
            follow(&args, &mut printer).await.unwrap_err().to_string()
        };
        assert!(try_once(&url).await.contains("does not know this token"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unreachable = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(try_once(&unreachable).await.contains("cannot be reached"));
    }

    /// A pipe that its reader closed.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_output_ends_it() {
        let (url, _asked) = serve().await;
        let args = args(&["--url", &url, "--token", "tg_test"]);
        let mut printer = Printer::new(Closed, Style::Json);
        let error = follow(&args, &mut printer).await.unwrap_err();
        assert!(is_closed_output(&error), "{error:?}");
    }
}
