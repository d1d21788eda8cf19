//! Attackers who hold connections: they send what makes the gateway wait, and hold on until they are cut off.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use super::{Target, source};

/// What the system takes in for an attacker who does not read, in bytes.
const UNREAD_BYTES: u32 = 4 << 10;
/// Requests that are sent at once.
const PIPELINED: usize = 64;
/// A head just below what a head may have, in bytes.
const HEAD_BYTES: usize = 390 << 10;
/// Time between two bytes of a head.
const DRIP: Duration = Duration::from_millis(200);
/// A sample, and how much of it is sent, in bytes.
const SAMPLE_BYTES: usize = 8 << 20;
const SAMPLE_SENT_BYTES: usize = 4 << 20;
/// Time that a monitor that does not read stays, unless it is let go.
const DEAF: Duration = Duration::from_secs(20);

pub async fn unread_replies(target: &Target) {
    let Some(mut line) = connect(target, true).await else { return };
    let asked = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", target.address);
    let asked = asked.repeat(PIPELINED);
    // It ends when the gateway hangs up; until then it waits for the gateway to read on.
    while line.write_all(asked.as_bytes()).await.is_ok() {}
}

pub async fn silent(target: &Target) {
    let Some(line) = connect(target, false).await else { return };
    until_cut_off(line).await;
}

pub async fn dripping_head(target: &Target) {
    let Some(mut line) = connect(target, false).await else { return };
    let start = format!("GET / HTTP/1.1\r\nhost: {}\r\nx-long: ", target.address);
    let head = [start.into_bytes(), vec![b'a'; HEAD_BYTES]].concat();
    let mut sent = line.write_all(&head).await;
    while sent.is_ok() {
        sleep(DRIP).await;
        sent = line.write_all(b"a").await;
    }
}

pub async fn stalled_sample(target: &Target) {
    let Some(mut line) = connect(target, false).await else { return };
    let head = format!(
        "POST /v1/streams/infer HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {SAMPLE_BYTES}\r\n\r\n",
        target.address, target.token,
    );
    let sent = [head.into_bytes(), b"{\"n\":1}\n".repeat(SAMPLE_SENT_BYTES / 8)].concat();
    if line.write_all(&sent).await.is_ok() {
        until_cut_off(line).await;
    }
}

pub async fn deaf_monitor(target: &Target) {
    let Some(mut line) = connect(target, true).await else { return };
    let head = format!(
        "GET /v1/monitor HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target.address, target.token,
    );
    if line.write_all(head.as_bytes()).await.is_ok() {
        sleep(DEAF).await;
    }
}

/// A connection, from where attackers come. `small`: the system takes in as little as it can.
async fn connect(target: &Target, small: bool) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    if small {
        socket.set_recv_buffer_size(UNREAD_BYTES).ok()?;
    }
    if let Some(source) = source() {
        socket.bind(SocketAddr::new(source, 0)).ok()?;
    }
    socket.connect(target.address).await.ok()
}

async fn until_cut_off(mut line: TcpStream) {
    let mut answer = [0; 1 << 10];
    while line.read(&mut answer).await.is_ok_and(|bytes| bytes > 0) {}
}
