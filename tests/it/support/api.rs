//! An API that somebody else runs: it answers as it is told, and misbehaves on command.
//!
//! It speaks HTTP/1.1 by itself, because no server library would send what it is asked to send here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// The API; dropped with all its connections.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

#[derive(Default)]
struct Shared {
    handlers: Mutex<HashMap<String, Handler>>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// What is sent back.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Whole(Vec<u8>),
    /// Not even a head.
    Silence,
    /// The beginning, then nothing more; the connection stays.
    Stalled(Vec<u8>),
    /// The beginning, and the end of the connection.
    Cut(Vec<u8>),
    /// The beginning, then one piece over and over until nobody listens.
    Endless(Vec<u8>, Vec<u8>),
}

impl Api {
    /// On a port of 127.0.0.1.
    pub async fn start() -> Api {
        Api::start_at("127.0.0.1").await
    }

    /// On a port of another address of this machine.
    pub async fn start_at(host: &str) -> Api {
        Api::serve(host, None).await
    }

    /// With TLS, as `localhost`.
    pub async fn start_tls(config: rustls::ServerConfig) -> Api {
        Api::serve("127.0.0.1", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(host: &str, tls: Option<TlsAcceptor>) -> Api {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("it listens");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tls, Arc::clone(&shared)));
        Api { address, scheme, shared, _accepting: accepting }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The same by another name of the host.
    pub fn url_by_name(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// From now on a path answers so, whatever its query.
    pub fn on(&self, path: &str, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        self.shared.handlers.lock().unwrap().insert(path.to_owned(), Arc::new(handler));
    }

    /// From now on a path always answers the same.
    pub fn always(&self, path: &str, answer: Answer) {
        self.on(path, move |_| answer.clone());
    }

    /// Every request so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many connections there were so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Asked {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a query parameter.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Answer {
    pub fn json(value: &Value) -> Answer {
        Answer::text(200, &value.to_string()).header("content-type", "application/json")
    }

    pub fn text(status: u16, body: &str) -> Answer {
        Answer::bytes(status, body)
    }

    pub fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn redirect(status: u16, location: &str) -> Answer {
        Answer::text(status, "").header("location", location)
    }

    pub fn silence() -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Silence }
    }

    pub fn stalled(beginning: &str) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Stalled(beginning.into()) }
    }

    pub fn cut(beginning: &str) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Cut(beginning.into()) }
    }

    pub fn endless(beginning: &str, piece: &str) -> Answer {
        let body = Body::Endless(beginning.into(), piece.repeat(1_000).into());
        Answer { status: 200, headers: Vec::new(), body }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).expect("a socket");
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => converse(stream, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, &shared).await,
                    Err(_) => None,
                },
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers until the connection ends; `None` is its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) -> Option<()> {
    let mut input = Vec::new();
    loop {
        let Some(asked) = read_request(&mut stream, &mut input).await else {
            // Whatever that was: perhaps the beginning of TLS.
            return send(&mut stream, Answer::text(400, "that is no request")).await;
        };
        let handler = shared.handlers.lock().unwrap().get(asked.path()).cloned();
        shared.asked.lock().unwrap().push(asked.clone());
        let answer = match handler {
            Some(handler) => handler(&asked),
            None => Answer::text(404, "there is no such path"),
        };
        send(&mut stream, answer).await?;
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>) -> Option<Asked> {
    loop {
        if let Some((asked, length)) = parse(input).ok()? {
            input.drain(..length);
            return Some(asked);
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

/// A request and its length, if it is there as a whole.
fn parse(input: &[u8]) -> Result<Option<(Asked, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(input)? else {
        return Ok(None);
    };
    let text = |header: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_ascii_lowercase(), value)
    };
    let headers: HashMap<String, String> = request.headers.iter().map(text).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let Some(body) = input.get(head..head + length) else { return Ok(None) };
    let asked = Asked {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers,
        body: String::from_utf8_lossy(body).into_owned(),
    };
    Ok(Some((asked, head + length)))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: Answer) -> Option<()> {
    let head = |length: Option<usize>| {
        let mut head = format!("HTTP/1.1 {} Told So\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&header_line(name, value));
        }
        if let Some(length) = length.filter(|_| !matches!(answer.status, 204 | 304)) {
            head.push_str(&header_line("content-length", &length.to_string()));
        }
        head + "\r\n"
    };
    let (head, beginning) = match &answer.body {
        Body::Silence => std::future::pending().await,
        Body::Whole(body) => (head(Some(body.len())), body),
        Body::Cut(body) => (head(Some(body.len() + 1)), body),
        Body::Stalled(body) | Body::Endless(body, _) => (head(None), body),
    };
    stream.write_all(&[head.as_bytes(), beginning].concat()).await.ok()?;
    stream.flush().await.ok()?;
    match &answer.body {
        Body::Silence | Body::Stalled(_) => std::future::pending().await,
        Body::Cut(_) => None,
        Body::Whole(_) => Some(()),
        Body::Endless(_, piece) => loop {
            stream.write_all(piece).await.ok()?;
        },
    }
}

fn header_line(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}
