//! Bodies that are not read: those of callers who may not send them, whatever their size.
//!
//! A caller who asks before sending (`Expect: 100-continue`) is told at once, and never to go on. Before, a caller with a
//! token of another scope was told to go on by every route that takes JSON, and had up to 64 KiB read in up to 15 s before
//! the 403.

use std::fmt::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::callers::{Callers, Credential};
use super::requests::Things;
use super::{FLAGS, table, with_body};
use crate::support::{Gateway, soon};

/// Larger than any body may be but that of records.
const BODY_BYTES: u64 = 100 << 20;

/// The first line of the answer to a head that asks whether its body may follow.
async fn answer_before_body(gateway: &Gateway, method: &str, path: &str, who: &Credential) -> u16 {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n\
         content-length: {BODY_BYTES}\r\n",
        gateway.address(),
    );
    if let Credential::Bearer(token) = who {
        let _ = write!(head, "authorization: Bearer {token}\r\n");
    }
    head.push_str("\r\n");
    let mut line = TcpStream::connect(gateway.address()).await.expect("it listens");
    line.write_all(head.as_bytes()).await.expect("it takes a head");
    let mut start = [0; 12];
    soon("an answer comes without the body", line.read_exact(&mut start)).await.expect("a status");
    let start = String::from_utf8_lossy(&start).into_owned();
    start.strip_prefix("HTTP/1.1 ").and_then(|status| status.parse().ok()).expect(&start)
}

#[tokio::test]
async fn no_body_is_read_of_who_may_not_send_it() {
    let gateway = Gateway::with(&FLAGS).await;
    let mut things = Things::prepare(&gateway).await;
    let callers = Callers::prepare(&gateway).await;
    let (kinds, _) = table::read();
    for row in with_body() {
        for kind in
            ["absent", "wrong", "expired", "ingest", "write", "read", "monitor", "s:write", "jobs"]
        {
            let place = kinds.iter().position(|known| *known == kind).expect("a kind");
            let status = row.statuses[place];
            if !matches!(status, 401 | 403) {
                continue;
            }
            let who = callers.credential(&gateway, kind).await;
            let wanted = things.wanted(&gateway, &callers, &row).await;
            let answer =
                answer_before_body(&gateway, row.method.as_str(), &wanted.path, &who).await;
            assert_eq!(answer, status, "{kind}: {} {}", row.method, row.path);
        }
    }
}
