//! Becoming a WebSocket (RFC 6455, section 4.2).
//!
//! The framework could do it, but hands out a socket that copies each message for each connection.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A request that asks for a WebSocket, and may have it.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    connection: OnUpgrade,
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnUpgrade {
    #[error("the header `{0}` does not say `{1}`, as a WebSocket's request does")]
    Header(&'static str, &'static str),
    #[error("the header `sec-websocket-key` is missing")]
    NoKey,
    #[error("this connection cannot become a WebSocket")]
    NotPossible,
}

impl Upgrade {
    /// Reads what is asked for. The request's connection can be taken once.
    pub fn of(request: &mut Request) -> Result<Upgrade, NotAnUpgrade> {
        let headers = request.headers();
        for (name, text, token) in [
            (CONNECTION, "connection", "upgrade"),
            (UPGRADE, "upgrade", "websocket"),
            (SEC_WEBSOCKET_VERSION, "sec-websocket-version", "13"),
        ] {
            if !says(headers, &name, token) {
                return Err(NotAnUpgrade::Header(text, token));
            }
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(NotAnUpgrade::NoKey)?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|_| NotAnUpgrade::NoKey)?;
        let connection = request.extensions_mut().remove();
        let connection = connection.ok_or(NotAnUpgrade::NotPossible)?;
        Ok(Upgrade { accept, connection })
    }

    /// The response, after which the connection is there.
    pub fn accept(self) -> (Response, OnUpgrade) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        (response, self.connection)
    }
}

/// Whether a header has this word among those between its commas.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 6455, section 1.3, with some headers in other words.
    fn request(changes: &[(&'static str, Option<&'static str>)]) -> Request {
        let mut request = Request::new(Body::empty());
        let headers = [
            ("connection", Some("keep-alive, Upgrade")),
            ("upgrade", Some("WebSocket")),
            ("sec-websocket-version", Some("13")),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
        ];
        for (name, value) in headers.iter().chain(changes) {
            match value {
                Some(value) => {
                    request.headers_mut().insert(*name, HeaderValue::from_static(value));
                }
                None => {
                    request.headers_mut().remove(*name);
                }
            }
        }
        request
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |changes: &[_]| Upgrade::of(&mut request(changes)).unwrap_err();
        // All is well but that no server stands behind it.
        assert_eq!(refused(&[]), NotAnUpgrade::NotPossible);
        assert_eq!(refused(&[("sec-websocket-key", None)]), NotAnUpgrade::NoKey);
        for (name, word, changes) in [
            ("connection", "upgrade", [("connection", Some("close"))]),
            ("connection", "upgrade", [("connection", None)]),
            ("upgrade", "websocket", [("upgrade", Some("h2c"))]),
            ("sec-websocket-version", "13", [("sec-websocket-version", Some("8"))]),
        ] {
            assert_eq!(refused(&changes), NotAnUpgrade::Header(name, word));
        }
    }
}
