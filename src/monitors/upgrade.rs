//! Becoming a WebSocket (RFC 6455, section 4.2).
//!
//! The framework could do it, but hands out a socket that copies each message for each connection.
//!
//! One subprotocol has a name, [`SUBPROTOCOL`], for clients that cannot do without. A request that offers others alone is
//! refused: a browser drops a WebSocket of whose offers none was taken, and what it offered may be a secret, so none is repeated.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The only version of the protocol that there is outside of history.
pub const WEBSOCKET_VERSION: &str = "13";
/// The only subprotocol.
pub const SUBPROTOCOL: &str = "tidegate";

/// A request that asks for a WebSocket, and may have it.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    /// The client offered [`SUBPROTOCOL`] and wants to hear that it was taken.
    names_subprotocol: bool,
    connection: OnUpgrade,
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnUpgrade {
    #[error("a WebSocket begins with a GET")]
    Method,
    #[error("the header `{0}` does not say `{1}`, as a WebSocket's request does")]
    Header(&'static str, &'static str),
    #[error("the header `sec-websocket-key` is missing")]
    NoKey,
    #[error("the header `sec-websocket-version` must say {WEBSOCKET_VERSION}, as in RFC 6455")]
    Version,
    #[error(
        "the header `sec-websocket-protocol` offers no subprotocol that is spoken here: leave it out, or offer \
         `{SUBPROTOCOL}`. A token goes into the header `authorization`, a ticket into the address"
    )]
    Subprotocol,
    #[error("this connection cannot become a WebSocket")]
    NotPossible,
}

impl Upgrade {
    /// Reads what is asked for. The request's connection can be taken once.
    pub fn of(request: &mut Request) -> Result<Upgrade, NotAnUpgrade> {
        // A HEAD comes to where a GET does.
        if request.method() != Method::GET {
            return Err(NotAnUpgrade::Method);
        }
        let headers = request.headers();
        for (name, text, token) in
            [(CONNECTION, "connection", "upgrade"), (UPGRADE, "upgrade", "websocket")]
        {
            if !words(headers, &name).any(|word| word.eq_ignore_ascii_case(token)) {
                return Err(NotAnUpgrade::Header(text, token));
            }
        }
        if !words(headers, &SEC_WEBSOCKET_VERSION).any(|word| word == WEBSOCKET_VERSION) {
            return Err(NotAnUpgrade::Version);
        }
        // Names of subprotocols differ by case.
        let names_subprotocol =
            words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|word| word == SUBPROTOCOL);
        if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) && !names_subprotocol {
            return Err(NotAnUpgrade::Subprotocol);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(NotAnUpgrade::NoKey)?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|_| NotAnUpgrade::NoKey)?;
        let connection = request.extensions_mut().remove();
        let connection = connection.ok_or(NotAnUpgrade::NotPossible)?;
        Ok(Upgrade { accept, names_subprotocol, connection })
    }

    /// The response, after which the connection is there.
    pub fn accept(self) -> (Response, OnUpgrade) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if self.names_subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        (response, self.connection)
    }
}

/// What a header says between its commas.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
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
        ] {
            assert_eq!(refused(&changes), NotAnUpgrade::Header(name, word));
        }
        for version in [Some("8"), Some("130"), Some(""), None] {
            assert_eq!(refused(&[("sec-websocket-version", version)]), NotAnUpgrade::Version);
        }
    }

    #[test]
    fn one_subprotocol_is_taken_and_no_other() {
        let asked = |offers| {
            Upgrade::of(&mut request(&[("sec-websocket-protocol", Some(offers))])).unwrap_err()
        };
        for offers in ["tidegate", "graphql-ws, tidegate"] {
            // All is well but that no server stands behind it.
            assert_eq!(asked(offers), NotAnUpgrade::NotPossible, "{offers}");
        }
        for offers in ["tg_secret", "Tidegate", "tidegate2", ""] {
            let refused = asked(offers);
            assert_eq!(refused, NotAnUpgrade::Subprotocol, "{offers}");
            assert!(!refused.to_string().contains("tg_secret"), "{refused}");
        }
    }
}
