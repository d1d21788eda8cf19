//! An API of another party: it answers as it is told, counts the questions, makes them wait, and misbehaves on
//! command.
//!
//! It speaks HTTP/1.1 by itself, because no server library would send what it is asked to send here.

mod answer;
mod asked;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use answer::Answer;
pub use asked::Asked;

/// Lets polling jobs ask an [`Api`].
pub const ALLOW_LOOPBACK: [&str; 2] =
    ["--allow-networks=127.0.0.0/8", "--polling-host-spacing-ms=0"];

/// The API; dropped with all its connections.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    paths: Mutex<HashMap<String, Path>>,
    requests: Mutex<Vec<Asked>>,
    connections: AtomicU64,
}

type Handler = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

#[derive(Default)]
struct Path {
    /// Without it there is no such path.
    handler: Option<Handler>,
    asked: u64,
    /// While it is true answers wait.
    held: watch::Sender<bool>,
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Path").field("asked", &self.asked).finish_non_exhaustive()
    }
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
        self.shared.at(path, |path| path.handler = Some(Arc::new(handler)));
    }

    /// From now on a path always answers the same.
    pub fn always(&self, path: &str, answer: Answer) {
        self.on(path, move |_| answer.clone());
    }

    /// Makes answers of a path wait, or lets them go; what is answered is what the path answers then.
    pub fn hold(&self, path: &str, held: bool) {
        self.shared.at(path, |path| path.held.send_replace(held));
    }

    /// How often a path was asked.
    pub fn asked(&self, path: &str) -> u64 {
        self.shared.at(path, |path| path.asked)
    }

    /// A header of the latest request for a path.
    pub fn header(&self, path: &str, name: &str) -> Option<String> {
        let requests = self.shared.requests.lock().unwrap();
        let latest = requests.iter().rfind(|asked| asked.path() == path)?;
        latest.header(name).map(str::to_owned)
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Asked> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections there were so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn at<T>(&self, path: &str, change: impl FnOnce(&mut Path) -> T) -> T {
        change(self.paths.lock().unwrap().entry(path.to_owned()).or_default())
    }

    /// The answer to a request, when it may be given.
    async fn answer(&self, asked: Asked) -> Answer {
        let path = asked.path().to_owned();
        let mut held = self.at(&path, |path| {
            path.asked += 1;
            path.held.subscribe()
        });
        self.requests.lock().unwrap().push(asked.clone());
        held.wait_for(|held| !held).await.expect("a path stays");
        match self.at(&path, |path| path.handler.clone()) {
            Some(handler) => handler(&asked),
            None => Answer::text(404, "there is no such path"),
        }
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
        let Some(asked) = asked::read(&mut stream, &mut input).await else {
            // That was no request: perhaps the beginning of TLS.
            return answer::send(&mut stream, Answer::text(400, "that is no request")).await;
        };
        let answer = shared.answer(asked).await;
        answer::send(&mut stream, answer).await?;
    }
}
