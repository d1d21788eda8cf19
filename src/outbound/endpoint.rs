//! The address that is asked: http or https, with a host, and never with credentials in it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use url::Url;

/// Longest address, in bytes.
const ENDPOINT_BYTES_MAX: usize = 8_192;

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(Arc<Url>);

/// The value of a header `Authorization` that stood in an address as `user:password@`. Its `Debug` shows nothing.
pub struct Credentials(pub String);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Why a text is no address to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("is no URL: {0}")]
    Syntax(String),
    #[error("must begin with http:// or https://")]
    Scheme,
    #[error("has more than {ENDPOINT_BYTES_MAX} bytes")]
    TooLong,
    #[error("must not have credentials in it")]
    Credentials,
}

impl Endpoint {
    /// Reads an address; credentials in it are taken out of it.
    pub fn parse(text: &str) -> Result<(Endpoint, Option<Credentials>), InvalidEndpoint> {
        if text.len() > ENDPOINT_BYTES_MAX {
            return Err(InvalidEndpoint::TooLong);
        }
        let parsed = Url::parse(text.trim());
        let mut url = parsed.map_err(|error| InvalidEndpoint::Syntax(error.to_string()))?;
        let credentials = take_credentials(&mut url);
        url.set_fragment(None);
        Ok((Endpoint::of(url)?, credentials))
    }

    /// An address that was made from a checked one, by a redirect or a link: it may have left http.
    pub fn of(url: Url) -> Result<Endpoint, InvalidEndpoint> {
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(InvalidEndpoint::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::Credentials);
        }
        if url.as_str().len() > ENDPOINT_BYTES_MAX {
            return Err(InvalidEndpoint::TooLong);
        }
        Ok(Endpoint(Arc::new(url)))
    }

    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Host and port, by which requests are counted and spaced.
    pub fn host(&self) -> String {
        let port = self.0.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Endpoint, InvalidEndpoint> {
        match Endpoint::parse(&text)? {
            (endpoint, None) => Ok(endpoint),
            (_, Some(_)) => Err(InvalidEndpoint::Credentials),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.0.as_str().to_owned()
    }
}

fn take_credentials(url: &mut Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    let basic = format!("Basic {}", STANDARD.encode(pair));
    // Only addresses that cannot have credentials refuse this, and they had none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(Credentials(basic))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                decoded.extend(hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low));
                rest = after;
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_move_out_of_the_address() {
        let (endpoint, credentials) =
            Endpoint::parse("https://ada:p%40ss%zz@api.test/users?a=1#top").unwrap();
        assert_eq!(endpoint.to_string(), "https://api.test/users?a=1");
        let expected = format!("Basic {}", STANDARD.encode("ada:p@ss%zz"));
        let credentials = credentials.unwrap();
        assert_eq!(credentials.0, expected);
        assert!(!format!("{credentials:?}").contains("Basic"));
        let token_only = Endpoint::parse("https://token@api.test/").unwrap();
        assert_eq!(token_only.1.unwrap().0, format!("Basic {}", STANDARD.encode("token:")));
        assert!(Endpoint::parse("https://api.test/").unwrap().1.is_none());
        assert_eq!(
            Endpoint::try_from("https://a:b@api.test/".to_owned()),
            Err(InvalidEndpoint::Credentials)
        );
    }

    #[test]
    fn only_http_with_a_host_is_an_address() {
        for text in ["ftp://api.test/", "file:///etc/passwd", "data:text/plain,x", "unix:/run/x"] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), InvalidEndpoint::Scheme, "{text}");
        }
        for text in ["", "api.test/users", "http://", "http://[::1", "http://a b/"] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(matches!(error, InvalidEndpoint::Syntax(_)), "{text}: {error}");
        }
        let long = format!("http://api.test/{}", "x".repeat(ENDPOINT_BYTES_MAX));
        assert_eq!(Endpoint::parse(&long).unwrap_err(), InvalidEndpoint::TooLong);
    }
}
