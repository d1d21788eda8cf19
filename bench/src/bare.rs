//! What the gateway is compared with: the same framework, doing next to nothing.

use std::fs::File;
use std::io::{self, Write as _};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Bodies that wait for the durable server's disk; more wait at their connections.
const DURABLE_BODIES: usize = 4_096;
/// Records that wait for the slowest monitor of the bare broadcaster; who is slower misses some.
const BROADCAST_RECORDS: usize = 1_024;

/// Reads bodies and answers 202: what is left of a request when nothing is done with it. Ends with its parent.
pub async fn serve_http() -> anyhow::Result<()> {
    let accept = |body: Bytes| async move {
        drop(body);
        StatusCode::ACCEPTED
    };
    serve(Router::new().route("/", post(accept))).await
}

/// A body on its way to the disk.
struct Append {
    body: Bytes,
    done: oneshot::Sender<()>,
}

/// Reads bodies and answers 202 when they are on the disk, all that wait with one `fdatasync`: the least that a durable
/// acknowledgement costs, without checking, encoding or storing anything anywhere else. Its file is in the working
/// directory.
pub async fn serve_syncing() -> anyhow::Result<()> {
    let (appends, waiting) = mpsc::channel(DURABLE_BODIES);
    let file = tempfile::tempfile_in(".")?;
    std::thread::spawn(move || sync_groups(file, waiting).expect("the disk takes it"));
    serve(Router::new().route("/", post(append)).with_state(appends)).await
}

async fn append(State(appends): State<mpsc::Sender<Append>>, body: Bytes) -> StatusCode {
    let (done, is_done) = oneshot::channel();
    if appends.send(Append { body, done }).await.is_ok() && is_done.await.is_ok() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn sync_groups(mut file: File, mut waiting: mpsc::Receiver<Append>) -> io::Result<()> {
    let (mut group, mut bytes) = (Vec::new(), Vec::new());
    while waiting.blocking_recv_many(&mut group, DURABLE_BODIES) > 0 {
        bytes.clear();
        for append in &group {
            bytes.extend_from_slice(&append.body);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        for append in group.drain(..) {
            // A client that left needs no answer.
            let _ = append.done.send(());
        }
    }
    Ok(())
}

/// Sends each line of a body to each WebSocket as a frame of its own: monitors without coalescing.
pub async fn serve_broadcast() -> anyhow::Result<()> {
    let (records, _) = broadcast::channel::<Utf8Bytes>(BROADCAST_RECORDS);
    let router =
        Router::new().route("/", post(publish)).route("/monitor", get(monitor)).with_state(records);
    serve(router).await
}

async fn publish(State(records): State<broadcast::Sender<Utf8Bytes>>, body: String) -> StatusCode {
    for line in body.lines() {
        // Without monitors it goes nowhere.
        let _ = records.send(line.into());
    }
    StatusCode::ACCEPTED
}

async fn monitor(
    State(records): State<broadcast::Sender<Utf8Bytes>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let receiver = records.subscribe();
    upgrade.on_upgrade(|socket| forward(socket, receiver))
}

async fn forward(mut socket: WebSocket, mut records: broadcast::Receiver<Utf8Bytes>) {
    loop {
        match records.recv().await {
            Ok(record) => {
                if socket.send(Message::Text(record)).await.is_err() {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn serve(router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}
