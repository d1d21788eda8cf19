//! The side of a connection that is read, as the WebSocket library wants it: it reads here, and what it answers by itself,
//! such as pongs, goes to the writer, which may be in the middle of a frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::PollSender;

use super::frame::Frame;

/// Largest message that a monitor may send, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Read buffer of a connection, in bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Answers that the library keeps while the writer takes none, in bytes.
const ANSWER_BYTES_MAX: usize = 1024;

pub(super) struct Incoming<R> {
    source: R,
    answers: PollSender<Frame>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// The library's defaults would be 128 KiB a connection and messages of 64 MiB.
    pub async fn websocket(source: R, answers: PollSender<Frame>) -> WebSocketStream<Incoming<R>> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(ANSWER_BYTES_MAX);
        let incoming = Incoming { source, answers };
        WebSocketStream::from_raw_socket(incoming, Role::Server, Some(config)).await
    }

    /// Reads all that still comes, frame or not, until the other side hangs up.
    pub async fn read_off(&mut self) -> io::Result<()> {
        tokio::io::copy(&mut self.source, &mut tokio::io::sink()).await.map(drop)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Incoming<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.source).poll_read(context, buffer)
    }
}

impl<R: Unpin> AsyncWrite for Incoming<R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.answers.poll_reserve(context)).map_err(gone)?;
        self.answers.send_item(Frame::ready(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
