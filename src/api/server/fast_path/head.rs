//! Which requests take the fast path, told from the beginning of what a connection sent.
//!
//! Only what needs nothing but its body, its token and its stream: `POST /v1/streams/{stream}/records` with HTTP/1.1, a
//! Bearer token, a short body of a known length, and no header that asks for more. Everything else is left to the general
//! server, above all what is odd: nothing is refused here.

use std::ops::Range;

use httparse::{EMPTY_HEADER, Header, Request, Status};

/// Longest head that is looked at, in bytes.
pub const HEAD_BYTES_MAX: usize = 4 << 10;
/// Longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 32;

const START: &[u8] = b"POST /v1/streams/";
/// Headers that ask for something that the fast path does not do.
const DEMANDS: [&str; 11] = [
    "transfer-encoding",
    "content-encoding",
    "expect",
    "upgrade",
    "idempotency-key",
    "te",
    "trailer",
    "proxy-connection",
    "keep-alive",
    "http2-settings",
    // A page of another origin, whose reply says whether it may be read.
    "origin",
];

/// What the buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A request for the fast path; its body may be still to come.
    Records(Head),
    /// Perhaps one; more has to be read.
    Unfinished,
    /// Something else, or nothing that makes sense.
    Other,
}

/// Where the parts of a request's head lie in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the head; the body begins there.
    pub len: usize,
    pub body_len: usize,
    pub stream: Range<usize>,
    pub authorization: Range<usize>,
    /// Empty if there is none.
    pub content_type: Range<usize>,
}

/// Looks at the beginning of `buffer`.
pub fn begins(buffer: &[u8]) -> Beginning {
    let common = buffer.len().min(START.len());
    if buffer[..common] != START[..common] {
        return Beginning::Other;
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(buffer) {
        Ok(Status::Complete(len)) => {
            head(buffer, len, &request).map_or(Beginning::Other, Beginning::Records)
        }
        Ok(Status::Partial) if buffer.len() < HEAD_BYTES_MAX => Beginning::Unfinished,
        Ok(Status::Partial) | Err(_) => Beginning::Other,
    }
}

fn head(buffer: &[u8], len: usize, request: &Request<'_, '_>) -> Option<Head> {
    let stream = stream_of(request.path?)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if request.version != Some(1) || len > HEAD_BYTES_MAX || !stream.bytes().all(is_plain) {
        return None;
    }
    let demands = |header: &Header<'_>| {
        DEMANDS.iter().any(|demand| header.name.eq_ignore_ascii_case(demand))
            || (header.name.eq_ignore_ascii_case("connection")
                && !header.value.eq_ignore_ascii_case(b"keep-alive"))
    };
    if request.headers.iter().any(demands) {
        return None;
    }
    let host = only(request.headers, "host")?;
    let authorization = only(request.headers, "authorization")?;
    let body_len = number(only(request.headers, "content-length")?)?;
    let content_type = match only(request.headers, "content-type") {
        Some(value) => value,
        None if has(request.headers, "content-type") => return None,
        None => b"",
    };
    let is_bearer =
        authorization.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    let texts = [host, authorization, content_type];
    if !is_bearer || body_len > BODY_BYTES_MAX || !texts.iter().all(|text| text.is_ascii()) {
        return None;
    }
    Some(Head {
        len,
        body_len,
        stream: range(buffer, stream.as_bytes()),
        authorization: range(buffer, authorization),
        content_type: if content_type.is_empty() { 0..0 } else { range(buffer, content_type) },
    })
}

/// The stream in the path of a request to ingest.
fn stream_of(path: &str) -> Option<&str> {
    let stream = path.strip_prefix("/v1/streams/")?.strip_suffix("/records")?;
    (!stream.is_empty() && !stream.contains(['/', '%'])).then_some(stream)
}

fn has(headers: &[Header<'_>], name: &str) -> bool {
    headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
}

/// The value of a header that comes exactly once.
fn only<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (Some(header), None) => Some(header.value),
        _ => None,
    }
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Where a part of the buffer lies in it.
fn range(buffer: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - buffer.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST /v1/streams/weather_2/records HTTP/1.1\r\nHost: a\r\n\
        Authorization: Bearer t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

    fn changed(from: &str, to: &str) -> Beginning {
        assert!(PLAIN.contains(from), "{from}");
        begins(PLAIN.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn a_plain_request_is_taken_apart() {
        let Beginning::Records(head) = begins(PLAIN.as_bytes()) else { panic!("it is plain") };
        assert_eq!(&PLAIN[head.stream], "weather_2");
        assert_eq!(&PLAIN[head.authorization], "Bearer t");
        assert_eq!(&PLAIN[head.content_type], "application/json");
        assert_eq!((&PLAIN[head.len..], head.body_len), ("{}", 2));
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for() {
        let head = PLAIN.len() - 2;
        for end in 0..head {
            assert_eq!(begins(&PLAIN.as_bytes()[..end]), Beginning::Unfinished, "{end}");
        }
        assert!(matches!(begins(&PLAIN.as_bytes()[..head]), Beginning::Records(_)));
        let endless = format!("{}X-Long: {}", &PLAIN[..head - 2], "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(begins(endless.as_bytes()), Beginning::Other);
    }

    #[test]
    fn a_request_that_asks_for_more_is_left_to_the_general_server() {
        for (from, to) in [
            ("POST", "PUT"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("/records", "/records?ack=commit"),
            ("/records", "/record"),
            ("weather_2", ""),
            ("weather_2", "a%20b"),
            ("weather_2", "a/b"),
            ("weather_2", "ü"),
            ("Host: a\r\n", ""),
            ("Host: a\r\n", "Host: a\r\nHost: b\r\n"),
            ("Bearer t", "Basic dDp0"),
            (
                "Authorization: Bearer t\r\n",
                "Authorization: Bearer t\r\nAuthorization: Bearer u\r\n",
            ),
            ("Authorization: Bearer t\r\n", ""),
            ("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2, 2"),
            ("Content-Length: 2", "Content-Length: 99999999999999999999999"),
            ("Content-Length: 2", "Content-Length: 65537"),
            ("Content-Length: 2", "Transfer-Encoding: chunked"),
            ("Content-Length: 2", "Content-Length: 2\r\nTransfer-Encoding: chunked"),
            ("Host: a", "Host: a\r\nExpect: 100-continue"),
            ("Host: a", "Host: a\r\nConnection: close"),
            ("Host: a", "Host: a\r\nConnection: keep-alive, upgrade"),
            ("Host: a", "Host: a\r\nContent-Encoding: gzip"),
            ("Host: a", "Host: a\r\nIdempotency-Key: 1"),
            ("Host: a", "Host: a\r\nOrigin: https://b"),
            ("Host: a", "Host: a\r\n folded: b"),
            ("Content-Type: application/json", "Content-Type: a\r\nContent-Type: b"),
        ] {
            assert_eq!(changed(from, to), Beginning::Other, "{to}");
        }
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        for (from, to) in [
            ("Host: a", "Host: a\r\nConnection: Keep-Alive"),
            ("Host: a", "Host: a\r\nAccept: */*\r\nUser-Agent: x\r\nTraceparent: 00-1"),
            ("Content-Type: application/json\r\n", ""),
            ("Bearer", "bearer"),
        ] {
            assert!(matches!(changed(from, to), Beginning::Records(_)), "{to}");
        }
    }

    #[test]
    fn records_are_told_by_their_path() {
        assert_eq!(stream_of("/v1/streams/weather/records"), Some("weather"));
        for other in [
            "/v1/streams//records",
            "/v1/streams/records",
            "/v1/streams/a/b/records",
            "/v1/streams/a%20b/records",
            "/v1/streams/a/records/",
            "/v1/streams/a",
        ] {
            assert_eq!(stream_of(other), None, "{other}");
        }
    }
}
