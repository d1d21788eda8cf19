//! A monitor over a WebSocket.
//!
//! It promises to say why it ends: 1001 the gateway shuts down, 1008 the monitor may not watch any longer or keeps
//! sending what nobody asked for, 1009 it sent something large, 1013 it is too slow or silent.
//!
//! Messages from the monitor are not part of the protocol, so little memory is spent on reading; the library's defaults
//! would be 128 KiB a connection, messages of 64 MiB, and no limit on what waits to be written.

use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::{PERMISSION_INTERVAL, until_revoked};
use crate::hub::{Ended, Message};

/// Largest message that a monitor may send, in bytes.
const INCOMING_BYTES_MAX: usize = 4 * 1024;
/// Read buffer of a connection, in bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Small messages are gathered up to here before they are written, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Most bytes that wait in a connection to be written. At most one message waits there, so this is a last resort.
const WRITE_BUFFER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A ping goes out this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A monitor from which nothing came for this long, not even an answer to a ping, is let go.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Time for one message to leave, beside what its size needs.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The slowest line for which large messages get more time.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;
/// Messages that are sent before pings and replies have their turn.
const BURST_MAX: usize = 64;
/// Messages from a monitor that are answered before it is let go.
const COMPLAINTS_MAX: usize = 3;
/// Time for a close frame to leave, and again for the answer.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sets the limits of the connection. To be called on each upgrade.
pub fn configure(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(INCOMING_BYTES_MAX)
        .max_frame_size(INCOMING_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
}

/// Serves a monitor until either side ends it. `still_allowed` is asked every few seconds.
pub async fn serve<A, F>(
    socket: WebSocket,
    mut session: Session,
    still_allowed: A,
    shutdown: CancellationToken,
) where
    A: FnMut() -> F,
    F: Future<Output = bool>,
{
    let (mut sink, mut stream) = socket.split();
    let (complaints, replies) = mpsc::channel(COMPLAINTS_MAX);
    let goodbye = tokio::select! {
        goodbye = write(&mut sink, &mut session, replies) => goodbye,
        goodbye = read(&mut stream, complaints) => goodbye,
        () = shutdown.cancelled() => Goodbye::SHUTDOWN,
        () = until_revoked(PERMISSION_INTERVAL, still_allowed) => Goodbye::REVOKED,
    };
    // The goodbye may take seconds; the place is free now.
    drop(session);
    say(goodbye, sink, stream).await;
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
    sink: &mut SplitSink<WebSocket, Frame>,
    session: &mut Session,
    mut replies: mpsc::Receiver<Message>,
) -> Goodbye {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            Some(reply) = replies.recv() => Frame::Text(reply.text),
            _ = pings.tick() => Frame::Ping(bytes::Bytes::new()),
            message = session.next() => match message {
                Ok(message) => Frame::Text(message.text),
                Err(Ended::Shutdown) => return Goodbye::SHUTDOWN,
                Err(Ended::Stuck) => return Goodbye::SLOW,
                Err(Ended::Left) => return Goodbye::FAILED,
            },
        };
        let more = std::iter::from_fn(|| session.next_now()).take(BURST_MAX);
        let frames = std::iter::once(frame).chain(more.map(|message| Frame::Text(message.text)));
        if let Err(goodbye) = send(sink, frames).await {
            return goodbye;
        }
    }
}

/// Sends frames one after the other, each in its time.
async fn send(
    sink: &mut SplitSink<WebSocket, Frame>,
    frames: impl Iterator<Item = Frame>,
) -> Result<(), Goodbye> {
    let mut largest = 0;
    for frame in frames {
        let bytes = match &frame {
            Frame::Text(text) => text.len(),
            _ => 0,
        };
        largest = bytes.max(largest);
        in_time(largest, sink.feed(frame)).await?;
    }
    in_time(largest, sink.flush()).await
}

async fn in_time(
    bytes: usize,
    sending: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Goodbye> {
    let size_needs = Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND);
    match timeout(SEND_TIMEOUT + size_needs, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Goodbye::Gone),
        Err(_) => Err(Goodbye::SLOW),
    }
}

/// Reads until the connection is to end.
async fn read(stream: &mut SplitStream<WebSocket>, complaints: mpsc::Sender<Message>) -> Goodbye {
    let mut unasked = 0;
    loop {
        let frame = match timeout(SILENCE_MAX, stream.next()).await {
            Err(_) => return Goodbye::SILENT,
            Ok(Some(Err(error))) if is_too_large(&error) => return Goodbye::TooLarge,
            Ok(None | Some(Err(_))) => return Goodbye::Gone,
            Ok(Some(Ok(frame))) => frame,
        };
        match frame {
            Frame::Close(_) => return Goodbye::Gone,
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Text(_) | Frame::Binary(_) => {
                unasked += 1;
                if unasked > COMPLAINTS_MAX {
                    return Goodbye::UNASKED;
                }
                let text = "a monitor sends no messages; what to watch is in the address";
                // There is room for as many as are ever sent.
                let _ = complaints.try_send(Message::error("unexpected_message", text));
            }
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(tungstenite::Error::Capacity(_)) = error.downcast_ref() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Sends the close frame and waits a little for the answer, so that the other side gets to read the reason.
async fn say(
    goodbye: Goodbye,
    mut sink: SplitSink<WebSocket, Frame>,
    mut stream: SplitStream<WebSocket>,
) {
    let (code, reason) = match goodbye {
        Goodbye::Gone => {
            // Sends the answer to the other side's close frame.
            let _ = timeout(GOODBYE_TIMEOUT, sink.close()).await;
            return;
        }
        Goodbye::Close(code, reason) => (code, reason),
        Goodbye::TooLarge => (close_code::SIZE, "messages are limited to 4 KiB"),
    };
    let frame = Frame::Close(Some(CloseFrame { code, reason: reason.into() }));
    if !matches!(timeout(GOODBYE_TIMEOUT, sink.send(frame)).await, Ok(Ok(()))) {
        return;
    }
    if goodbye == Goodbye::TooLarge {
        // The rest of the large message is unread. Closing now would reset the connection, and the other side might
        // never see the reason.
        tokio::time::sleep(GOODBYE_TIMEOUT).await;
        return;
    }
    let answered = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(GOODBYE_TIMEOUT, answered).await;
}
