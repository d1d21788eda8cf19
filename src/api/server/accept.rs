//! Accepting connections, as many as there may be, until shutdown.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::connections::{Admission, Connections, Occupied, Paced};
use crate::api::server::entrance::Entrance;
use crate::api::server::fast_path::{self, Leave};
use crate::api::server::general;
use crate::api::server::reply::ReplyWriter;
use crate::lifecycle::Lifecycle;

/// Wait after a failed accept, such as too many open files.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);
/// While all places are taken, whether one can be freed is looked at this often.
const FULL_RETRY_WAIT: Duration = Duration::from_millis(500);
/// During a shutdown, connections that hold it up are looked for this often.
const SHUTDOWN_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Connections beyond an address's share that are told so at once, and how long each may take to hear it; others are closed
/// without a word.
const TURNED_AWAY_AT_ONCE: usize = 64;
const TURN_AWAY_MAX: Duration = Duration::from_secs(1);
/// What a turned away connection may send until it has heard it, in bytes.
const TURNED_AWAY_BYTES_MAX: u64 = 64 << 10;

/// Accepts connections and has them served.
struct Server {
    listener: TcpListener,
    entrance: Entrance,
    connections: Connections,
    lifecycle: Lifecycle,
    builder: http1::Builder,
    tasks: TaskTracker,
    turning_away: Arc<Semaphore>,
}

/// Serves until `soft` is cancelled, then lets requests under way end, until `hard`.
pub async fn run(listener: TcpListener, entrance: Entrance, lifecycle: Lifecycle) {
    let connections = entrance.state().connections.clone();
    let server = Server {
        listener,
        entrance,
        connections,
        lifecycle,
        builder: general::builder(),
        tasks: TaskTracker::new(),
        turning_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
    };
    let soft = server.lifecycle.soft().clone();
    tokio::select! {
        () = server.accept_all() => {}
        () = soft.cancelled() => {}
    }
    server.end().await;
}

impl Server {
    async fn accept_all(&self) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_RETRY_WAIT).await;
                    continue;
                }
            };
            // One that is gone already is found out when it is read.
            let _ = stream.set_nodelay(true);
            match self.admit(peer).await {
                Some(occupied) => self.serve(stream, occupied),
                None => self.turn_away(stream),
            }
        }
    }

    /// A place for the newest, which waits where all are in use. `None`: its address has its share.
    async fn admit(&self, peer: IpAddr) -> Option<Occupied> {
        loop {
            match self.connections.admit(peer) {
                Admission::Taken(occupied) => return Some(occupied),
                Admission::AddressFull => return None,
                // Others may have become silent meanwhile.
                Admission::Full => {
                    let _ = timeout(FULL_RETRY_WAIT, self.connections.freed()).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, occupied: Occupied) {
        // A token of its own: each look at it takes its lock, and all connections would take the same one.
        let (soft, hard) = (self.lifecycle.soft().child_token(), self.lifecycle.hard().clone());
        let place = Arc::clone(occupied.place());
        let entrance = self.entrance.clone();
        let builder = self.builder.clone();
        let task = serve(builder, Paced::new(stream, occupied), entrance, soft, hard);
        let task = self.lifecycle.spawn("connection", self.tasks.track_future(task));
        place.serve_by(task.abort_handle());
    }

    /// Says why a connection is not served.
    fn turn_away(&self, mut stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.turning_away).try_acquire_owned() else { return };
        let error = self.connections.too_many_of_address();
        let clock = self.entrance.state().clock.clone();
        let telling = async move {
            let _permit = permit;
            let answer = ReplyWriter::last(clock, error).await;
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            // A connection that is closed over unread bytes is reset, and the answer lost.
            let mut rest = stream.take(TURNED_AWAY_BYTES_MAX);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        let telling = async move { drop(timeout(TURN_AWAY_MAX, telling).await) };
        self.lifecycle.spawn("turning away", self.tasks.track_future(telling));
    }

    /// Waits for what is under way, but not for peers that do their part no longer.
    async fn end(self) {
        let Server { listener, connections, lifecycle, tasks, .. } = self;
        drop(listener);
        tasks.close();
        let since = Instant::now();
        let mut looks = interval(SHUTDOWN_LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.wait() => return,
                () = lifecycle.hard().cancelled() => return,
                _ = looks.tick() => connections.end_useless(since),
            }
        }
    }
}

/// Serves a connection, on the fast path for as long as it is for that.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    builder: http1::Builder,
    stream: Paced<S>,
    entrance: Entrance,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let leave = fast_path::serve(entrance.state(), stream, soft.clone()).await;
    if let Leave::HandOver(stream) = leave {
        Box::pin(general::serve(builder, stream, entrance, soft, hard)).await;
    }
}
