//! A monitor over a WebSocket.
//!
//! It promises to say why it ends: 1001 the gateway shuts down, 1002 and 1007 the monitor sent what is no frame or no text,
//! 1008 it may not watch any longer or keeps sending what it was not asked for, 1009 it sent something large, 1013 it is too
//! slow or silent. After that it reads on for a moment: a connection that is closed over unread bytes is reset, and the
//! other side might never see the reason.
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
use tokio_tungstenite::tungstenite::error::ProtocolError;
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
/// Time for a close frame to leave, and again for the other side to read it and hang up.
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
}

impl Goodbye {
    const SHUTDOWN: Goodbye = Goodbye::Close(close_code::AWAY, "the gateway is shutting down");
    const REVOKED: Goodbye = Goodbye::Close(close_code::POLICY, "you may not watch any longer");
    const UNASKED: Goodbye = Goodbye::Close(close_code::POLICY, "a monitor sends no messages");
    const TOO_LARGE: Goodbye = Goodbye::Close(close_code::SIZE, "messages are limited to 4 KiB");
    const NO_FRAME: Goodbye = Goodbye::Close(close_code::PROTOCOL, "this is no frame of RFC 6455");
    const NO_TEXT: Goodbye = Goodbye::Close(close_code::INVALID, "a text message must be UTF-8");
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
            Ok(Some(Err(error))) => return goodbye_after(&error),
            Ok(None) => return Goodbye::Gone,
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

/// What is said to a monitor from which nothing can be read any more.
fn goodbye_after(error: &Error) -> Goodbye {
    match error {
        Error::Capacity(_) => Goodbye::TOO_LARGE,
        Error::Utf8(_) => Goodbye::NO_TEXT,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Goodbye::Gone,
        Error::Protocol(_) => Goodbye::NO_FRAME,
        _ => Goodbye::Gone,
    }
}

/// Says why it ends, or answers the other side's goodbye, and reads on until the other side hangs up.
async fn say(
    goodbye: Goodbye,
    mut outgoing: Outgoing<impl AsyncWrite + Unpin>,
    mut incoming: WebSocketStream<Incoming<impl AsyncRead + Unpin>>,
    mut replies: mpsc::Receiver<Frame>,
) {
    outgoing.forget_unbegun();
    let saying = async {
        match goodbye {
            Goodbye::Gone => {
                // What else was to be answered does not matter any more, and makes room.
                while replies.try_recv().is_ok() {}
                let _ = incoming.close(None).await;
                while let Ok(answer) = replies.try_recv() {
                    outgoing.push(answer);
                }
            }
            Goodbye::Close(code, reason) => outgoing.push(Frame::close(code, reason)),
        }
        outgoing.write().await
    };
    if !matches!(timeout(GOODBYE_TIMEOUT, saying).await, Ok(Ok(()))) {
        return;
    }
    // Nothing is answered any more.
    drop(replies);
    let reading = async {
        while let Some(Ok(_)) = incoming.next().await {}
        // It answered, or sends what cannot be read. Without more to come from here it hangs up.
        outgoing.shut_down().await?;
        incoming.get_mut().read_off().await
    };
    let _ = timeout(GOODBYE_TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// The other side of a connection that ends with this goodbye.
    fn leave(goodbye: Goodbye) -> DuplexStream {
        let (client, server) = duplex(1_024);
        let (source, sink) = tokio::io::split(server);
        crate::lifecycle::Lifecycle::new().spawn("goodbye", async move {
            let (sender, replies) = mpsc::channel(REPLIES_MAX);
            let incoming = Incoming::websocket(source, PollSender::new(sender)).await;
            say(goodbye, Outgoing::new(sink), incoming, replies).await;
        });
        client
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_still_sending_gets_to_read_the_reason() {
        for goodbye in [Goodbye::TOO_LARGE, Goodbye::NO_FRAME, Goodbye::SLOW, Goodbye::SHUTDOWN] {
            let Goodbye::Close(code, reason) = goodbye else { panic!("it has a reason") };
            let mut client = leave(goodbye);
            // Far more than the line holds, and no frame of any kind.
            client.write_all(&vec![0xff; 1 << 20]).await.expect("it is read");
            client.shutdown().await.unwrap();
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await.unwrap();
            let length = u8::try_from(2 + reason.len()).unwrap();
            let [high, low] = code.to_be_bytes();
            let expected = [&[0x88, length, high, low][..], reason.as_bytes()].concat();
            assert_eq!(seen, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_hangs_up_is_not_waited_for_long() {
        let begin = Instant::now();
        let mut client = leave(Goodbye::TOO_LARGE);
        while client.write_all(&[0xff; 1_000]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(begin.elapsed() <= 2 * GOODBYE_TIMEOUT, "{:?}", begin.elapsed());
    }
}
