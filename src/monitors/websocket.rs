//! A monitor over a WebSocket.
//!
//! It promises to say why it ends: 1001 the gateway shuts down, 1008 the monitor may not watch any longer or keeps
//! sending what nobody asked for, 1009 it sent something large, 1013 it is too slow or silent.
//!
//! Messages from the monitor are not part of the protocol, so little memory is spent on reading, which a library does
//! (`incoming`). Writing is ours (`frame`), because every monitor is sent the same bytes.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::extract::ws::close_code;
use futures::StreamExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message as Received};
use tokio_util::sync::{CancellationToken, PollSender};

use super::frame::{Frame, Outgoing};
use super::incoming::Incoming;
use super::session::Session;
use super::{PERMISSION_INTERVAL, until_revoked};
use crate::hub::{Ended, Message};

/// A ping goes out this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A monitor from which nothing came for this long, not even an answer to a ping, is let go.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Time for what was taken to leave, beside what its size needs.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The slowest line for which large messages get more time.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;
/// Messages from a monitor that are answered before it is let go.
const COMPLAINTS_MAX: usize = 3;
/// Answers that wait for the frames before them to leave; until then nothing more is read.
const REPLIES_MAX: usize = 4;
/// Time for a close frame to leave, and again for the answer.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a monitor until either side ends it. `still_allowed` is asked every few seconds.
pub async fn serve<A, F>(
    connection: OnUpgrade,
    mut session: Session,
    still_allowed: A,
    shutdown: CancellationToken,
) where
    A: FnMut() -> F,
    F: Future<Output = bool>,
{
    let connection = match connection.await {
        Ok(connection) => TokioIo::new(connection),
        Err(error) => {
            tracing::debug!(%error, "a connection did not become a WebSocket");
            return;
        }
    };
    let (source, sink) = tokio::io::split(connection);
    let (sender, mut replies) = mpsc::channel(REPLIES_MAX);
    let mut incoming = Incoming::websocket(source, PollSender::new(sender.clone())).await;
    let mut outgoing = Outgoing::new(sink);
    let goodbye = tokio::select! {
        goodbye = write(&mut outgoing, &mut session, &mut replies) => goodbye,
        goodbye = read(&mut incoming, sender) => goodbye,
        () = shutdown.cancelled() => Goodbye::SHUTDOWN,
        () = until_revoked(PERMISSION_INTERVAL, still_allowed) => Goodbye::REVOKED,
    };
    // The goodbye may take seconds; the place is free now.
    drop(session);
    say(goodbye, outgoing, incoming, replies).await;
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// The other side is gone, or said so.
    Gone,
    Close(u16, &'static str),
    /// What came was too large; nothing can be read after it.
    TooLarge,
}

impl Goodbye {
    const SHUTDOWN: Goodbye = Goodbye::Close(close_code::AWAY, "the gateway is shutting down");
    const REVOKED: Goodbye = Goodbye::Close(close_code::POLICY, "you may not watch any longer");
    const UNASKED: Goodbye = Goodbye::Close(close_code::POLICY, "a monitor sends no messages");
    const SLOW: Goodbye =
        Goodbye::Close(close_code::AGAIN, "too slow; resume with the last cursor");
    const SILENT: Goodbye = Goodbye::Close(close_code::AGAIN, "no answer to pings");
    const FAILED: Goodbye = Goodbye::Close(close_code::ERROR, "resume with the last cursor");
}

/// Sends what the session has, replies and pings, until that is over.
async fn write(
    outgoing: &mut Outgoing<impl AsyncWrite + Unpin>,
    session: &mut Session,
    replies: &mut mpsc::Receiver<Frame>,
) -> Goodbye {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            Some(reply) = replies.recv() => reply,
            _ = pings.tick() => Frame::ping(),
            message = session.next() => match message {
                Ok(message) => Frame::text(message.text),
                Err(Ended::Shutdown) => return Goodbye::SHUTDOWN,
                Err(Ended::Stuck) => return Goodbye::SLOW,
                Err(Ended::Left) => return Goodbye::FAILED,
            },
        };
        outgoing.push(frame);
        while outgoing.has_room()
            && let Some(message) = session.next_now()
        {
            outgoing.push(Frame::text(message.text));
        }
        if let Err(goodbye) = in_time(outgoing.bytes(), outgoing.write()).await {
            return goodbye;
        }
    }
}

async fn in_time(
    bytes: usize,
    sending: impl Future<Output = io::Result<()>>,
) -> Result<(), Goodbye> {
    let size_needs = Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND);
    match timeout(SEND_TIMEOUT + size_needs, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Goodbye::Gone),
        Err(_) => Err(Goodbye::SLOW),
    }
}

/// Reads until the connection is to end.
async fn read(
    incoming: &mut WebSocketStream<Incoming<impl AsyncRead + Unpin>>,
    replies: mpsc::Sender<Frame>,
) -> Goodbye {
    let mut unasked = 0;
    loop {
        let received = match timeout(SILENCE_MAX, incoming.next()).await {
            Err(_) => return Goodbye::SILENT,
            Ok(Some(Err(Error::Capacity(_)))) => return Goodbye::TooLarge,
            Ok(None | Some(Err(_))) => return Goodbye::Gone,
            Ok(Some(Ok(received))) => received,
        };
        match received {
            Received::Close(_) => return Goodbye::Gone,
            Received::Ping(_) | Received::Pong(_) | Received::Frame(_) => {}
            Received::Text(_) | Received::Binary(_) => {
                unasked += 1;
                if unasked > COMPLAINTS_MAX {
                    return Goodbye::UNASKED;
                }
                let text = "a monitor sends no messages; what to watch is in the address";
                let complaint = Message::error("unexpected_message", text);
                // The writer lives as long as this does.
                let _ = replies.send(Frame::text(complaint.text)).await;
            }
        }
    }
}

/// Sends the close frame and waits a little for the answer, so that the other side gets to read the reason.
async fn say(
    goodbye: Goodbye,
    mut outgoing: Outgoing<impl AsyncWrite + Unpin>,
    mut incoming: WebSocketStream<Incoming<impl AsyncRead + Unpin>>,
    mut replies: mpsc::Receiver<Frame>,
) {
    outgoing.forget_unbegun();
    let (code, reason) = match goodbye {
        Goodbye::Gone => {
            // Sends the answer to the other side's close frame.
            let answer = async {
                // What else was to be answered does not matter any more, and makes room.
                while replies.try_recv().is_ok() {}
                let _ = incoming.close(None).await;
                while let Ok(answer) = replies.try_recv() {
                    outgoing.push(answer);
                }
                outgoing.write().await?;
                outgoing.shut_down().await
            };
            let _ = timeout(GOODBYE_TIMEOUT, answer).await;
            return;
        }
        Goodbye::Close(code, reason) => (code, reason),
        Goodbye::TooLarge => (close_code::SIZE, "messages are limited to 4 KiB"),
    };
    outgoing.push(Frame::close(code, reason));
    if !matches!(timeout(GOODBYE_TIMEOUT, outgoing.write()).await, Ok(Ok(()))) {
        return;
    }
    if goodbye == Goodbye::TooLarge {
        // The rest of the large message is unread. Closing now would reset the connection, and the other side might
        // never see the reason.
        tokio::time::sleep(GOODBYE_TIMEOUT).await;
        return;
    }
    let answered = async { while let Some(Ok(_)) = incoming.next().await {} };
    let _ = timeout(GOODBYE_TIMEOUT, answered).await;
}
