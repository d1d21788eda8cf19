//! A WebSocket's frames as they are written (RFC 6455, section 5.2).
//!
//! A server's frames carry no mask, so a message is written from where it lies, one text for all its monitors. Nothing is
//! copied, and no connection keeps a buffer for what it writes: with thousands of monitors those would be most of the
//! gateway's memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Most frames that are taken before what was taken is written.
const FRAMES_MAX: usize = 64;
/// The same in bytes; the frame that reaches it may go beyond.
const BYTES_MAX: usize = 256 * 1024;
/// Frames that one system call writes.
const FRAMES_AT_ONCE: usize = 16;
/// Longest head of a frame without a mask, in bytes.
const HEAD_BYTES_MAX: usize = 10;

/// The last frame of a message, which is each of ours.
const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// A frame; clones share the payload.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    payload: Bytes,
}

impl Frame {
    pub fn text(text: Utf8Bytes) -> Frame {
        Frame::new(TEXT, text.into())
    }

    pub fn ping() -> Frame {
        Frame::new(PING, Bytes::new())
    }

    pub fn close(code: u16, reason: &str) -> Frame {
        Frame::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat().into())
    }

    /// Bytes that are frames already.
    pub fn ready(bytes: Bytes) -> Frame {
        Frame { head: [0; HEAD_BYTES_MAX], head_len: 0, payload: bytes }
    }

    fn new(opcode: u8, payload: Bytes) -> Frame {
        let mut head = [0; HEAD_BYTES_MAX];
        head[0] = FINAL | opcode;
        let length = payload.len() as u64;
        let head_len = if let Ok(length @ 0..126) = u8::try_from(length) {
            head[1] = length;
            2
        } else if let Ok(length) = u16::try_from(length) {
            head[1] = 126;
            head[2..4].copy_from_slice(&length.to_be_bytes());
            4
        } else {
            head[1] = 127;
            head[2..].copy_from_slice(&length.to_be_bytes());
            HEAD_BYTES_MAX
        };
        Frame { head, head_len, payload }
    }

    fn len(&self) -> usize {
        self.head_len + self.payload.len()
    }
}

/// The side of a connection that is written to, and what was taken for it. Frames leave whole and in order, even when a
/// write is dropped half-way.
pub(super) struct Outgoing<W> {
    sink: W,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written.
    written: usize,
    /// Bytes of all frames that are not.
    bytes: usize,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    pub fn new(sink: W) -> Outgoing<W> {
        Outgoing { sink, frames: VecDeque::new(), written: 0, bytes: 0 }
    }

    pub fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Whether another frame may be taken before the next write.
    pub fn has_room(&self) -> bool {
        self.frames.len() < FRAMES_MAX && self.bytes < BYTES_MAX
    }

    /// Bytes to write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes everything. Cancel-safe: what is left is written by the next call.
    pub async fn write(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_write(context)).await
    }

    /// Drops the frames of which nothing was written.
    pub fn forget_unbegun(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.front().map_or(0, |first| first.len() - self.written);
    }

    /// Says that nothing follows.
    pub async fn shut_down(&mut self) -> io::Result<()> {
        self.sink.shutdown().await
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2 * FRAMES_AT_ONCE];
            let mut used = 0;
            for (frame, pair) in self.frames.iter().zip(slices.chunks_exact_mut(2)) {
                pair[0] = IoSlice::new(&frame.head[..frame.head_len]);
                pair[1] = IoSlice::new(&frame.payload);
                used += 2;
            }
            let mut slices = &mut slices[..used];
            IoSlice::advance_slices(&mut slices, self.written);
            let written = ready!(Pin::new(&mut self.sink).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(&mut self.sink).poll_flush(context)
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.written += bytes;
        while let Some(first) = self.frames.front().filter(|first| self.written >= first.len()) {
            self.written -= first.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// Lengths around those where the head grows.
    const LENGTHS: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 300_000];

    #[tokio::test]
    async fn a_client_reads_what_was_pushed() {
        for (pipe_bytes, longest) in
            [(1, 127), (7, 127), (4_096, usize::MAX), (1 << 20, usize::MAX)]
        {
            let lengths = LENGTHS.into_iter().filter(|length| *length <= longest);
            let lengths: Vec<usize> = lengths.collect();
            let (client, server) = tokio::io::duplex(pipe_bytes);
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let mut outgoing = Outgoing::new(server);
            for &length in &lengths {
                outgoing.push(Frame::text("x".repeat(length).into()));
            }
            outgoing.push(Frame::ping());
            outgoing.push(Frame::ready(Bytes::from_static(&[0x8a, 1, b'p', 0x8a, 0])));
            outgoing.push(Frame::close(1013, "too slow"));
            let reading = async {
                let mut seen = Vec::new();
                while let Some(Ok(message)) = client.next().await {
                    let closed = message.is_close();
                    seen.push(message);
                    if closed {
                        return seen;
                    }
                }
                seen
            };
            let (seen, written) = tokio::join!(reading, outgoing.write());
            written.unwrap();
            assert_eq!(outgoing.bytes(), 0);
            for (message, length) in seen.iter().zip(lengths.iter().copied()) {
                assert_eq!(message, &Message::text("x".repeat(length)));
            }
            let [ping, pong, empty_pong, Message::Close(Some(close))] = &seen[lengths.len()..]
            else {
                panic!("{:?}", &seen[lengths.len()..])
            };
            assert_eq!(ping, &Message::Ping(Bytes::new()));
            assert_eq!(pong, &Message::Pong(Bytes::from_static(b"p")));
            assert_eq!(empty_pong, &Message::Pong(Bytes::new()));
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1013, "too slow"));
        }
    }

    #[tokio::test]
    async fn a_frame_that_was_begun_is_ended_before_another_one() {
        // The pipe takes half of the second frame.
        let (client, server) = tokio::io::duplex(1_500);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let mut outgoing = Outgoing::new(server);
        let texts = ["a", "b", "c"].map(|letter| letter.repeat(1_000));
        for text in &texts {
            outgoing.push(Frame::text(text.clone().into()));
        }
        tokio::select! {
            biased;
            written = outgoing.write() => panic!("there is no room: {written:?}"),
            () = std::future::ready(()) => {}
        }
        outgoing.forget_unbegun();
        assert_eq!(outgoing.bytes(), 2 * 1_004 - 1_500);
        outgoing.push(Frame::close(1001, ""));
        let reading = async { [client.next().await, client.next().await, client.next().await] };
        let (seen, written) = tokio::join!(reading, outgoing.write());
        written.unwrap();
        let seen = seen.map(|message| message.unwrap().unwrap());
        assert_eq!(seen[..2], [Message::text(texts[0].as_str()), Message::text(texts[1].as_str())]);
        assert!(seen[2].is_close());
    }

    #[test]
    fn there_is_room_for_some_frames_and_some_bytes() {
        let push_all = |text: &str| {
            let mut outgoing = Outgoing::new(tokio::io::sink());
            let mut frames = 0;
            while outgoing.has_room() {
                outgoing.push(Frame::text(text.into()));
                frames += 1;
            }
            frames
        };
        assert_eq!(push_all("x"), FRAMES_MAX);
        assert_eq!(push_all(&"x".repeat(100_000)), 3);
    }
}
