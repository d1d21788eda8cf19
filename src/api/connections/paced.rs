//! A connection whose peer has to take what is written to it.
//!
//! A write that waits is given a window. In it the peer takes all, or so much that another window is worth while; else the
//! connection ends. The fast path, the general server and the monitors write through this, so no reply can hold a connection
//! for ever. It costs nothing until a write has to wait.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Occupied, Place};
use crate::telemetry::limits;

/// How long a write may wait until so much was taken, in bytes: 1.6 KiB/s. A peer that takes a byte now and then is as bad
/// as one that takes none.
const WINDOW: Duration = Duration::from_secs(20);
const WINDOW_BYTES_MIN: usize = 32 << 10;

/// See the module. The place is given up with the connection.
pub struct Paced<S> {
    stream: S,
    place: Occupied,
    /// Made when a write waits for the first time.
    stall: Option<Pin<Box<Stall>>>,
}

struct Stall {
    window: Pin<Box<Sleep>>,
    /// Does a write wait, or did one since the last flush?
    is_running: bool,
    /// Bytes that were taken in the window.
    taken: usize,
}

impl<S> Paced<S> {
    pub fn new(stream: S, place: Occupied) -> Paced<S> {
        Paced { stream, place, stall: None }
    }

    pub fn place(&self) -> &Arc<Place> {
        self.place.place()
    }

    fn note(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.poll_stall(context).map(Err),
            Poll::Ready(Ok(bytes)) => {
                if let Some(stall) = &mut self.stall
                    && stall.is_running
                {
                    stall.taken += bytes;
                    self.place.place().unread(Instant::now());
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let stall = self.stall.get_or_insert_with(|| Box::pin(Stall::new()));
        if !stall.is_running {
            self.place.place().unread(Instant::now());
        }
        if stall.poll(context).is_pending() {
            return Poll::Pending;
        }
        limits::REPLY_UNREAD.hit();
        let words = "the peer does not take what it is sent";
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, words))
    }

    /// Everything that was written has left.
    fn settle(&mut self) {
        if let Some(stall) = &mut self.stall
            && std::mem::replace(&mut stall.is_running, false)
        {
            self.place.place().read();
        }
    }
}

impl Stall {
    fn new() -> Stall {
        let window = Box::pin(sleep_until(Instant::now()));
        Stall { window, is_running: false, taken: 0 }
    }

    /// Ready when too little was taken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_running, true) {
            self.begin_window();
        }
        while self.window.as_mut().poll(context).is_ready() {
            if self.taken < WINDOW_BYTES_MIN {
                return Poll::Ready(());
            }
            self.begin_window();
        }
        Poll::Pending
    }

    fn begin_window(&mut self) {
        self.taken = 0;
        self.window.as_mut().reset(Instant::now() + WINDOW);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all was written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.settle();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::api::connections::testing::connections;

    /// What the pipe between the two holds, in bytes.
    const PIPE_BYTES: usize = 1_024;

    /// A connection, and its peer.
    fn paced() -> (Paced<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(PIPE_BYTES);
        (Paced::new(server, connections(1, 1).take("192.0.2.1")), client)
    }

    /// Writes so many bytes to a peer that takes so many at a time and then waits: whether all left, and after how long.
    async fn write(bytes: usize, taken_at_once: usize, wait: Duration) -> (io::Result<()>, u64) {
        let (mut paced, mut client) = paced();
        let begin = Instant::now();
        let reading = async move {
            let mut buffer = vec![0; taken_at_once];
            loop {
                tokio::time::sleep(wait).await;
                if taken_at_once > 0 && client.read_exact(&mut buffer).await.is_err() {
                    return;
                }
            }
        };
        let body = vec![0; bytes];
        let written = tokio::select! {
            written = async {
                paced.write_all(&body).await?;
                paced.flush().await
            } => written,
            () = reading => panic!("the connection was closed"),
        };
        (written, begin.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_or_next_to_nothing_is_given_up() {
        let second = Duration::from_secs(1);
        let (written, took) = write(100_000, 0, second).await;
        assert_eq!((written.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, 20));
        // One byte every nine seconds.
        let (written, took) = write(100_000, 1, 9 * second).await;
        assert_eq!((written.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, 20));
        let (written, took) = write(100_000, 1_000, second).await;
        assert_eq!((written.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_waited_for_as_long_as_it_takes() {
        let (written, took) = write(1_000_000, 2_000, Duration::from_secs(1)).await;
        assert!(written.is_ok(), "{written:?}");
        assert!((490..=500).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_reply_has_its_own_time() {
        let (mut paced, mut client) = paced();
        let mut buffer = [0; 2 * PIPE_BYTES];
        for _ in 0..3 {
            let sending = async {
                paced.write_all(&[0; 2 * PIPE_BYTES]).await.unwrap();
                assert!(paced.place().is_unread(Instant::now(), Duration::ZERO));
                paced.flush().await.unwrap();
                assert!(!paced.place().is_unread(Instant::now(), Duration::ZERO));
            };
            let reading = async {
                tokio::time::sleep(WINDOW * 3 / 4).await;
                client.read_exact(&mut buffer).await.unwrap();
            };
            tokio::join!(sending, reading);
            // Nothing is owed, so nothing is counted.
            tokio::time::sleep(3 * WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_is_given_up_with_the_connection() {
        let (server, _client) = duplex(PIPE_BYTES);
        let connections = connections(1, 1);
        let paced = Paced::new(server, connections.take("192.0.2.1"));
        assert_eq!(connections.open(), 1);
        drop(paced);
        assert_eq!(connections.open(), 0);
    }
}
