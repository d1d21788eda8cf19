//! A line between a gateway and PostgreSQL that breaks on demand: it cuts, stalls, delays, goes half-open, and cuts or
//! holds exactly at a COMMIT.
//!
//! It listens on TCP and dials the server's socket, so the gateway gets a TCP URL. It reads as much of PostgreSQL's
//! protocol as it takes to see where a message ends and which of them commits a batch.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;

/// Longest message that is believed; a longer one means that the proxy lost its place.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What the message that commits a batch has in it, beside `commit` at its end.
const COMMITTED_RANGE: &[u8] = b"insert into tidegate.committed_ranges";
/// What the message that begins a session has in it.
const FENCE: &[u8] = b"insert into tidegate.journals";
/// Cuts that may wait for a connection to notice.
const CUTS_MAX: usize = 16;

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// With a reset: a side that writes or reads is told at once.
    Reset,
    /// In an orderly way.
    Close,
    /// The server's side is closed, the gateway's is not: it hears nothing and what it says goes nowhere.
    HalfOpen,
}

/// What happens to the next message of a kind.
#[derive(Debug)]
enum Order {
    /// One that begins a session: it goes nowhere, and its connection is half open.
    SilenceFence { done: oneshot::Sender<()> },
    /// One that commits a batch: it reaches the server; the reply does not reach the gateway, whose connection is cut.
    CutBeforeReply { done: oneshot::Sender<()> },
    /// One that commits a batch: it waits in the proxy; the gateway's connection is cut, the server's stays.
    Hold { held: oneshot::Sender<HeldCommit> },
}

/// A COMMIT under way that its gateway knows nothing of any more.
#[derive(Debug)]
pub struct HeldCommit {
    message: Vec<u8>,
    server: UnixStream,
}

/// How fast bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Free,
    Stalled,
    /// Each message waits so long.
    Delayed(Duration),
}

/// The proxy; dropped with all its connections.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    accepted: AtomicU64,
    pace: watch::Sender<Pace>,
    cuts: broadcast::Sender<Cut>,
    /// What is still to be done, oldest first.
    orders: Mutex<Vec<Order>>,
}

impl ChaosProxy {
    /// In front of the server whose URL names the directory of its socket.
    pub async fn before(server_url: &str) -> ChaosProxy {
        let url: url::Url = server_url.parse().expect("a URL");
        let directory = url.query_pairs().find(|(name, _)| name == "host").expect("a socket").1;
        let port = url.port().expect("a port, which is part of the socket's name");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let shared = Arc::new(Shared {
            socket: PathBuf::from(&*directory).join(format!(".s.PGSQL.{port}")),
            accepted: AtomicU64::new(0),
            pace: watch::Sender::new(Pace::Free),
            cuts: broadcast::Sender::new(CUTS_MAX),
            orders: Mutex::default(),
        });
        let address = listener.local_addr().expect("it listens");
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        ChaosProxy { address, shared, _accepting: accepting }
    }

    /// The URL of the same database by way of the proxy.
    pub fn url(&self, server_url: &str) -> String {
        let mut url: url::Url = server_url.parse().expect("a URL");
        url.set_query(Some("sslmode=disable"));
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url.into()
    }

    /// How many connections were ever taken.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Ends all connections of this moment; later ones pass.
    pub fn cut(&self, how: Cut) {
        // Without connections there is nothing to cut.
        let _ = self.shared.cuts.send(how);
    }

    /// Nothing passes from now on; connections are taken all the same.
    pub fn stall(&self) {
        self.shared.pace.send_replace(Pace::Stalled);
    }

    /// Every message waits so long from now on.
    pub fn delay(&self, by: Duration) {
        self.shared.pace.send_replace(Pace::Delayed(by));
    }

    /// Everything passes again, and what was stalled goes on.
    pub fn pass(&self) {
        self.shared.pace.send_replace(Pace::Free);
    }

    /// The next batch is committed, but its gateway is not told: it finds its connection cut instead. The future waits
    /// until that has happened; false if the server did not commit.
    pub fn cut_before_reply_to_commit(&self) -> impl Future<Output = bool> + use<> {
        let (done, happened) = oneshot::channel();
        self.order(Order::CutBeforeReply { done });
        async move { happened.await.is_ok() }
    }

    /// The COMMIT of the next batch goes no further than here. The future waits for it.
    pub fn hold_commit(&self) -> impl Future<Output = HeldCommit> + use<> {
        let (held, commit) = oneshot::channel();
        self.order(Order::Hold { held });
        async move { commit.await.expect("the proxy lives as long as its gateway") }
    }

    /// The next session never hears what became of its fence. The future waits until it asked.
    pub fn silence_fence(&self) -> impl Future<Output = ()> + use<> {
        let (done, happened) = oneshot::channel();
        self.order(Order::SilenceFence { done });
        async move { happened.await.expect("the proxy lives as long as its gateway") }
    }

    fn order(&self, order: Order) {
        self.shared.orders.lock().expect("no test panics with it").push(order);
    }
}

impl Order {
    fn wants(&self, message: &[u8]) -> bool {
        match self {
            Order::SilenceFence { .. } => message[0] == b'P' && contains(message, FENCE),
            Order::CutBeforeReply { .. } | Order::Hold { .. } => {
                let text = message[0] == b'Q' && message.ends_with(b"commit\0");
                text && contains(message, COMMITTED_RANGE)
            }
        }
    }
}

impl Shared {
    /// What is to be done at this message.
    fn take_order(&self, message: &[u8]) -> Option<Order> {
        let mut orders = self.orders.lock().expect("no test panics with it");
        let index = orders.iter().position(|order| order.wants(message))?;
        Some(orders.remove(index))
    }
}

impl HeldCommit {
    /// Hands the COMMIT to the server after all; whether it was carried out.
    pub async fn deliver(mut self) -> bool {
        if self.server.write_all(&self.message).await.is_err() {
            return false;
        }
        let mut committed = false;
        while let Ok(message) = read_message(&mut self.server).await {
            match message[0] {
                b'C' => committed = message.ends_with(b"COMMIT\0"),
                b'E' => committed = false,
                b'Z' => return committed,
                _ => {}
            }
        }
        false
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (gateway, _) = accepted.expect("a connection");
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(gateway, Arc::clone(&shared)));
            }
            // Those that ended are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(gateway: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    // A server that is down hangs up on the gateway as well.
    let Ok(mut server) = UnixStream::connect(&shared.socket).await else { return };
    gateway.set_nodelay(true).expect("TCP");
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let ordered = {
        let (mut from_server, mut to_server) = server.split();
        // The first message has no type: its length, and the rest.
        let passing = async {
            let first = read_untyped(&mut from_gateway).await?;
            to_server.write_all(&first).await?;
            tokio::select! {
                order = gateway_to_server(&shared, &mut from_gateway, &mut to_server) => order.map(Some),
                ended = pass_on(&shared, &mut from_server, &mut to_gateway) => ended.map(|()| None),
            }
        };
        tokio::select! {
            // What was cut before the pace changed does not live on for another message.
            biased;
            cut = cuts.recv() => cut.ok().map(Err),
            order = passing => order.unwrap_or(None).map(Ok),
        }
    };
    let cut = match ordered {
        None => Cut::Close,
        Some(Err(cut)) => cut,
        Some(Ok((Order::Hold { held }, message))) => {
            let _ = held.send(HeldCommit { message, server });
            return reset(from_gateway, to_gateway);
        }
        Some(Ok((Order::SilenceFence { done }, _))) => {
            let _ = done.send(());
            Cut::HalfOpen
        }
        Some(Ok((Order::CutBeforeReply { done }, message))) => {
            let carried_out = HeldCommit { message, server }.deliver().await;
            reset(from_gateway, to_gateway);
            if carried_out {
                let _ = done.send(());
            }
            return;
        }
    };
    match cut {
        Cut::Reset => reset(from_gateway, to_gateway),
        Cut::Close => {}
        Cut::HalfOpen => {
            drop(server);
            // Read and thrown away until the gateway gives up.
            let _ = tokio::io::copy(&mut from_gateway, &mut tokio::io::sink()).await;
            drop(to_gateway);
        }
    }
}

fn reset(read: tokio::net::tcp::OwnedReadHalf, write: tokio::net::tcp::OwnedWriteHalf) {
    let gateway = read.reunite(write).expect("two halves of one connection");
    gateway.set_zero_linger().expect("TCP");
}

/// Passes on what the gateway says, until it hangs up or a message comes that there is an order for.
async fn gateway_to_server(
    shared: &Shared,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<(Order, Vec<u8>)> {
    loop {
        let message = read_message(from).await?;
        wait_for_leave(shared).await;
        if let Some(order) = shared.take_order(&message) {
            return Ok((order, message));
        }
        to.write_all(&message).await?;
    }
}

async fn pass_on(
    shared: &Shared,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    loop {
        let message = read_message(from).await?;
        wait_for_leave(shared).await;
        to.write_all(&message).await?;
    }
}

/// Waits as long as the pace says.
async fn wait_for_leave(shared: &Shared) {
    let mut pace = shared.pace.subscribe();
    loop {
        let now = *pace.borrow_and_update();
        match now {
            Pace::Free => return,
            Pace::Delayed(by) => return tokio::time::sleep(by).await,
            Pace::Stalled => pace.changed().await.expect("the proxy holds the other end"),
        }
    }
}

fn contains(message: &[u8], text: &[u8]) -> bool {
    message.windows(text.len()).any(|window| window == text)
}

/// A whole message with its type.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let kind = from.read_u8().await?;
    let mut message = vec![kind];
    message.extend_from_slice(&read_untyped(from).await?);
    Ok(message)
}

/// A length, which counts itself, and as many bytes.
async fn read_untyped(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let bytes = usize::try_from(length).expect("32 bits fit");
    assert!((4..MESSAGE_BYTES_MAX).contains(&bytes), "{bytes} is no length of a message");
    let mut message = length.to_be_bytes().to_vec();
    message.resize(bytes, 0);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}
