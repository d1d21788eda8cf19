//! The least HTTP/1.1 client there is: requests are bytes that are ready, and of a reply only the status counts. What the
//! load generator does not spend is left for what is measured.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest head of a reply, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 16 << 10;

/// A connection that has no request under way.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub async fn open(address: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: BytesMut::with_capacity(READ_BYTES) })
    }

    /// Sends a request and reads the whole reply; an error unless it says 2xx.
    pub async fn send(&mut self, request: &Bytes) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let (status, head_len, body_len) = self.read_head().await?;
        while self.buffer.len() < head_len + body_len {
            self.read_more().await?;
        }
        if !(200..300).contains(&status) {
            let reply = String::from_utf8_lossy(&self.buffer[..head_len + body_len]);
            bail!("refused: {reply}");
        }
        self.buffer.advance(head_len + body_len);
        Ok(())
    }

    /// Asks for a WebSocket; what follows is its frames, of which some may have been read.
    pub async fn upgrade(mut self, request: &Bytes) -> anyhow::Result<(TcpStream, BytesMut)> {
        self.stream.write_all(request).await?;
        let (status, head_len, _) = self.read_head().await?;
        ensure!(status == 101, "no WebSocket: {}", String::from_utf8_lossy(&self.buffer));
        self.buffer.advance(head_len);
        Ok((self.stream, self.buffer))
    }

    /// Status, and how long the head and the body are.
    async fn read_head(&mut self) -> anyhow::Result<(u16, usize, usize)> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = str::from_utf8(&self.buffer[..end])?;
                let (status, body_len) = parse_head(head)?;
                return Ok((status, end + 4, body_len));
            }
            ensure!(self.buffer.len() < HEAD_BYTES_MAX, "the head of the reply does not end");
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed");
        Ok(())
    }
}

/// A POST as it goes over the wire.
pub fn post(address: &str, path: &str, token: &str, content_type: &str, body: &[u8]) -> Bytes {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// A GET that asks for a WebSocket.
pub fn websocket(address: &str, path: &str, token: &str) -> Bytes {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into()
}

fn parse_head(head: &str) -> anyhow::Result<(u16, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.context("the reply has no status")?.parse()?;
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    Ok((status, length.map_or(Ok(0), str::parse)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_status_and_length() {
        let head = "HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length:  17";
        assert_eq!(parse_head(head).expect("a head"), (202, 17));
        assert_eq!(parse_head("HTTP/1.1 204 No Content").expect("a head"), (204, 0));
        assert!(parse_head("nonsense").is_err());
    }
}
