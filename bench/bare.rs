//! What the gateway is compared with: the same framework, doing next to nothing.

use std::io::Write as _;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

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

/// Sends each line of a body to each WebSocket as a frame of its own: monitors without coalescing.
pub async fn serve_broadcast() -> anyhow::Result<()> {
    let (records, _) = broadcast::channel::<Utf8Bytes>(BROADCAST_RECORDS);
    let router =
        Router::new().route("/", post(publish)).route("/monitor", get(monitor)).with_state(records);
    serve(router).await
}

async fn publish(State(records): State<broadcast::Sender<Utf8Bytes>>, body: String) -> StatusCode {
    for line in body.lines() {
        // Without monitors nobody gets it.
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
