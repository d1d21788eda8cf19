//! Replies as they go over the wire. They look as the general server's: same headers, in lower case, with the date.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::to_bytes;
use axum::http::{StatusCode, header};
use axum::response::Response;
use tidegate_record::clock::Clock;

/// Largest body of a refusal, in bytes; they are far shorter.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// Writes one connection's replies, in one buffer.
pub struct Replies {
    buffer: Vec<u8>,
    clock: Clock,
    /// The date as text, and its seconds since 1970.
    date: String,
    seconds: Option<i64>,
}

impl Replies {
    pub fn new(clock: Clock) -> Replies {
        Replies { buffer: Vec::new(), clock, date: String::new(), seconds: None }
    }

    /// The reply to records that were taken.
    pub fn json(&mut self, status: StatusCode, json: &[u8], closes: bool) -> &[u8] {
        self.begin(status);
        self.buffer.extend_from_slice(
            b"content-type: application/json\r\nx-content-type-options: nosniff\r\n\
              referrer-policy: no-referrer\r\nx-frame-options: DENY\r\ncache-control: no-store\r\n",
        );
        self.end(json, closes);
        &self.buffer
    }

    /// Any other reply.
    pub async fn response(&mut self, response: Response, closes: bool) -> &[u8] {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        self.begin(parts.status);
        let told = [header::CONTENT_LENGTH, header::CONNECTION, header::DATE];
        for (name, value) in parts.headers.iter().filter(|(name, _)| !told.contains(name)) {
            self.buffer.extend_from_slice(name.as_str().as_bytes());
            self.buffer.extend_from_slice(b": ");
            self.buffer.extend_from_slice(value.as_bytes());
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.end(&body, closes);
        &self.buffer
    }

    fn begin(&mut self, status: StatusCode) {
        self.buffer.clear();
        self.buffer.extend_from_slice(b"HTTP/1.1 ");
        self.buffer.extend_from_slice(status.as_str().as_bytes());
        self.buffer.push(b' ');
        let reason = status.canonical_reason().unwrap_or_default();
        self.buffer.extend_from_slice(reason.as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
    }

    fn end(&mut self, body: &[u8], closes: bool) {
        if closes {
            self.buffer.extend_from_slice(b"connection: close\r\n");
        }
        let length = body.len();
        write!(self.buffer, "content-length: {length}\r\n").expect("a vector takes all bytes");
        self.buffer.extend_from_slice(b"date: ");
        let seconds = self.clock.now().0.div_euclid(1_000_000);
        if self.seconds != Some(seconds) {
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            self.date = httpdate::fmt_http_date(UNIX_EPOCH + since);
            self.seconds = Some(seconds);
        }
        self.buffer.extend_from_slice(self.date.as_bytes());
        self.buffer.extend_from_slice(b"\r\n\r\n");
        self.buffer.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use tidegate_record::UnixMicros;

    use super::*;
    use crate::api::ApiError;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_reply_has_its_date_and_length_and_says_when_it_is_the_last() {
        let clock = Clock::manual(UnixMicros(784_111_777_999_999));
        let mut replies = Replies::new(clock.clone());
        let reply = text(replies.json(StatusCode::ACCEPTED, b"{}", false));
        assert!(reply.starts_with("HTTP/1.1 202 Accepted\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\n{}"), "{reply}");
        assert!(reply.contains("content-length: 2\r\n"), "{reply}");
        assert!(reply.contains("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{reply}");
        assert!(!reply.contains("connection:"), "{reply}");
        clock.set(UnixMicros(784_111_778_000_000));
        let last = text(replies.json(StatusCode::ACCEPTED, b"{}", true));
        assert!(last.contains("08:49:38 GMT\r\n"), "{last}");
        assert!(last.contains("connection: close\r\n"), "{last}");
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_headers_and_its_body() {
        let mut replies = Replies::new(Clock::manual(UnixMicros(0)));
        let wait = std::time::Duration::from_secs(7);
        let refusal = ApiError::unavailable("overloaded", "full", wait).into_response();
        let reply = text(replies.response(refusal, false).await);
        assert!(reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{reply}");
        assert!(reply.contains("retry-after: 7\r\n"), "{reply}");
        assert!(reply.contains("content-type: application/problem+json\r\n"), "{reply}");
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("overloaded"), "{body}");
    }
}
