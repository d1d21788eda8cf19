//! Accepting connections, with limits and timeouts on all of them, until shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lifecycle::Lifecycle;

/// Longest time for the head of a request, and for an idle connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of an HTTP/1 request, in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;
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
pub async fn run(
    listener: TcpListener,
    router: Router,
    limit: ConnectionLimit,
    lifecycle: Lifecycle,
) {
    let graceful = GracefulShutdown::new();
    // HTTP/1 alone: telling the two versions apart has no timeout, so a silent connection would stay for ever.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX.max(400 << 10));
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
        let service =
            TowerToHyperService::new(router.clone().layer(axum::Extension(ConnectInfo(peer))));
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        let hard = lifecycle.hard().clone();
        lifecycle.spawn("connection", async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = hard.cancelled() => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = lifecycle.hard().cancelled() => {}
    }
}

/// At the limit nothing is accepted: who comes waits in the system's queue.
async fn accept(
    listener: &TcpListener,
    limit: &ConnectionLimit,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&limit.permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}
