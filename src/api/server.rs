//! Accepting connections, with limits and timeouts on all of them, until shutdown.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::client_address::Peer;
use crate::api::entrance::Entrance;
use crate::api::explained::Explained;
use crate::api::express::{self, Leave, Rewound};
use crate::lifecycle::Lifecycle;

/// Longest time for the head of a request, and for an idle connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes read ahead on a connection; the head of a request must fit.
const READ_BUFFER_BYTES_MAX: usize = 400 << 10;
/// Wait after a failed accept, such as too many open files.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);

/// Counts connections against their limit; clones share it.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    permits: Arc<Semaphore>,
    max: usize,
}

impl ConnectionLimit {
    pub fn new(max: usize) -> ConnectionLimit {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        ConnectionLimit { permits: Arc::new(Semaphore::new(max)), max }
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.max - self.permits.available_permits()
    }
}

/// Serves until `soft` is cancelled, then lets requests under way end, until `hard`.
///
/// HTTP/1 alone, as behind every proxy: telling two versions apart would leave a silent connection without a timeout.
pub async fn run(
    listener: TcpListener,
    entrance: Entrance,
    limit: ConnectionLimit,
    lifecycle: Lifecycle,
) {
    let connections = TaskTracker::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(READ_BUFFER_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &limit) => accepted,
            () = lifecycle.soft().cancelled() => break,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY_WAIT).await;
                continue;
            }
        };
        // A token of its own: whoever looks at it takes its lock, and all connections would take the same one.
        let (soft, hard) = (lifecycle.soft().child_token(), lifecycle.hard().clone());
        let (builder, entrance) = (builder.clone(), entrance.for_peer(peer));
        let task = async move {
            let leave = express::serve(entrance.state(), stream, soft.clone()).await;
            if let Leave::HandOver(stream) = leave {
                Box::pin(serve_connection(builder, stream, entrance, soft, hard)).await;
            }
            drop(permit);
        };
        lifecycle.spawn("connection", connections.track_future(task));
    }
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = lifecycle.hard().cancelled() => {}
    }
}

/// Serves whatever comes over the connection.
async fn serve_connection(
    builder: http1::Builder,
    stream: Rewound,
    entrance: Entrance,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let connection =
        builder.serve_connection(TokioIo::new(Explained::new(stream)), entrance).with_upgrades();
    let mut connection = pin!(connection);
    let ended = match until_cancelled(connection.as_mut(), &soft).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = hard.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Runs until it ends, or until the token is cancelled: `None`. The wait for the token is set up once and not at each
/// poll, of which a connection has several for each request.
async fn until_cancelled<F: Future>(
    mut task: Pin<&mut F>,
    token: &CancellationToken,
) -> Option<F::Output> {
    let mut cancelled = pin!(token.cancelled());
    let mut is_set_up = false;
    poll_fn(|context| {
        if let Poll::Ready(output) = task.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        // The waker stays the same: the task is spawned, and this is polled by nothing else.
        if !std::mem::replace(&mut is_set_up, true) && cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if token.is_cancelled() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// At the limit nothing is accepted: who comes waits in the system's queue.
async fn accept(
    listener: &TcpListener,
    limit: &ConnectionLimit,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&limit.permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, Peer(peer.ip()), permit))
}
