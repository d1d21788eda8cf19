//! Did a browser's request come from this gateway's own pages?
//!
//! A browser adds the session cookie to every request that another site makes it send. So a request that a cookie
//! speaks for, and that changes something or opens a monitor, must name as its `Origin` the host and port that it was
//! sent to, or carry the browser's own word for it (`Sec-Fetch-Site`), which pages cannot set. What tells nothing is
//! not trusted.
//!
//! A proxy may send another `Host` on than it got. The origin of the gateway's public URL counts as its own, too. Pages of
//! any other origin come with a token or a ticket, whatever else they are allowed to.

use std::fmt;
use std::net::Ipv6Addr;

use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::{HeaderValue, Uri};

use crate::config::PublicUrl;

/// Longest part of a header that is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 200;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request says it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From a page of this gateway; `https` if that page was loaded by https.
    Same { https: bool },
    /// From another site, or from something that hides where it is.
    Foreign,
    /// It does not say: not a browser, or a very old one.
    Unknown,
}

/// Reads where a request comes from. `public`: where people find this gateway, if that was said.
pub fn origin_of(headers: &HeaderMap, uri: &Uri, public: &PublicUrl) -> Origin {
    if headers.contains_key(ORIGIN) {
        let origin = the_only(headers, &ORIGIN);
        let of_public = origin.and_then(|origin| public.is_origin(origin));
        let of_host = || origin.and_then(|origin| same_host(origin, headers, uri));
        return match of_public.or_else(of_host) {
            Some(https) => Origin::Same { https },
            None => Origin::Foreign,
        };
    }
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => Origin::Same { https: false },
        Some(_) => Origin::Foreign,
        None => Origin::Unknown,
    }
}

/// `Some(https)` if the origin names the host and port that the request was sent to.
fn same_host(origin: &str, headers: &HeaderMap, uri: &Uri) -> Option<bool> {
    let (scheme, origin_host) = origin.split_once("://")?;
    let (https, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    // HTTP/2 names the host in the address instead.
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => the_only(headers, &HOST)?,
    };
    // `Host` does not tell the scheme, which a proxy may have changed; a port that is left out is that of the scheme
    // that the browser used, and that is the origin's.
    let (origin_host, host) = (parse_host(origin_host)?, parse_host(host)?);
    let same = origin_host.name == host.name
        && origin_host.port.unwrap_or(default_port) == host.port.unwrap_or(default_port);
    same.then_some(https)
}

/// The header's value, if there is exactly one and it is ASCII.
fn the_only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

#[derive(Debug, PartialEq, Eq)]
struct Host {
    /// In lower case; an IPv6 address in its shortest form.
    name: String,
    port: Option<u16>,
}

/// Reads `name`, `name:port`, `[IPv6]` or `[IPv6]:port`, and nothing else: no user, path or space.
fn parse_host(text: &str) -> Option<Host> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let name = address.parse::<Ipv6Addr>().ok()?.to_string();
        return Some(Host { name, port: parse_port(port)? });
    }
    let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    Some(Host { name: name.to_ascii_lowercase(), port: parse_port(port)? })
}

/// Reads nothing or `:port`; None if it is neither.
#[expect(clippy::option_option, reason = "no port is a valid port; the outer None is an error")]
fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.strip_prefix(':')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Some)
}

/// A request with a cookie that did not come from this gateway's own pages, in words that help the operator who set up the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignOrigin {
    /// What the request says, as far as it is worth repeating.
    pub origin: Option<String>,
    pub host: Option<String>,
    site: Option<String>,
}

impl ForeignOrigin {
    pub fn of(headers: &HeaderMap) -> ForeignOrigin {
        let said = |name: HeaderName| {
            let text = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            Some(text.chars().take(SHOWN_CHARACTERS_MAX).collect())
        };
        ForeignOrigin { origin: said(ORIGIN), host: said(HOST), site: said(SEC_FETCH_SITE) }
    }
}

impl fmt::Display for ForeignOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a request with the session's cookie must come from this gateway's own pages; ",
        )?;
        let host = self.host.as_deref().unwrap_or_default();
        match (&self.origin, &self.site) {
            (Some(origin), _) => write!(f, "this one says Origin: {origin} and Host: {host}"),
            (None, Some(site)) => write!(f, "this one says Sec-Fetch-Site: {site}"),
            (None, None) => f.write_str("this one has no Origin: a program sends a token instead"),
        }?;
        // Only what could be a gateway's address is proposed as one.
        let origin = self.origin.as_deref().filter(|origin| !origin.is_empty());
        match origin.and_then(|origin| origin.parse::<PublicUrl>().ok()) {
            Some(public) => write!(
                f,
                ". If {public} is where people find this gateway, a proxy has changed Host: have it send the Host on that \
                 it got, or start the gateway with TIDEGATE_PUBLIC_URL={public}"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(fields: &[(&'static str, &str)], uri: &str) -> Origin {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        origin_of(&headers, &uri.parse().unwrap(), &PublicUrl::default())
    }

    fn compare(from: &str, host: &str) -> Origin {
        origin(&[("origin", from), ("host", host)], "/v1/users")
    }

    #[test]
    fn the_same_host_and_port_is_the_same_site() {
        for (from, host, https) in [
            ("http://localhost:8000", "localhost:8000", false),
            ("http://example.com", "example.com", false),
            ("http://example.com", "example.com:80", false),
            ("http://example.com:80", "example.com", false),
            ("https://example.com", "example.com", true),
            ("https://example.com", "example.com:443", true),
            ("https://example.com:443", "example.com", true),
            ("http://Example.COM:8000", "example.com:8000", false),
            ("http://example.com", "EXAMPLE.com", false),
            ("http://[::1]:8000", "[::1]:8000", false),
            ("http://[::1]", "[0:0:0:0:0:0:0:1]:80", false),
            ("http://[FE80::1]", "[fe80::1]", false),
            ("http://127.0.0.1:8000", "127.0.0.1:8000", false),
        ] {
            assert_eq!(compare(from, host), Origin::Same { https }, "{from} at {host}");
        }
    }

    #[test]
    fn anything_else_is_another_site() {
        for (from, host) in [
            ("http://localhost:8001", "localhost:8000"),
            ("http://localhost", "localhost:8000"),
            ("http://localhost:8000", "localhost"),
            ("https://example.com", "example.com:80"),
            ("http://example.com", "example.com:443"),
            ("http://127.0.0.1:8000", "localhost:8000"),
            ("http://evil.com", "example.com"),
            ("http://example.com.evil.com", "example.com"),
            ("http://evil-example.com", "example.com"),
            ("http://example.com@evil.com", "example.com"),
            ("http://example.com:80@evil.com", "example.com"),
            ("http://example.com/", "example.com"),
            ("http://example.com:", "example.com"),
            ("http://example.com:080x", "example.com"),
            ("http://example.com:+80", "example.com"),
            ("http://example.com:65616", "example.com:80"),
            ("http://[::1", "[::1"),
            ("http://[::1]x", "[::1]x"),
            ("http://[localhost]", "[localhost]"),
            ("http://[::1]", "[::2]"),
            ("http://", ""),
            ("http://a b", "a b"),
            ("http://exämple.com", "exämple.com"),
            ("null", "null"),
            ("null", "example.com"),
            ("", "example.com"),
            ("example.com", "example.com"),
            ("//example.com", "example.com"),
            ("file://example.com", "example.com"),
            ("chrome-extension://example.com", "example.com"),
        ] {
            assert_eq!(compare(from, host), Origin::Foreign, "{from} at {host}");
        }
    }

    #[test]
    fn what_is_said_twice_is_not_believed() {
        let twice = [("origin", "http://a"), ("origin", "http://a"), ("host", "a")];
        assert_eq!(origin(&twice, "/"), Origin::Foreign);
        let twice = [("origin", "http://a"), ("host", "a"), ("host", "a")];
        assert_eq!(origin(&twice, "/"), Origin::Foreign);
        assert_eq!(origin(&[("origin", "http://a")], "/"), Origin::Foreign, "no host at all");
    }

    #[test]
    fn http2_names_the_host_in_the_address() {
        let from = [("origin", "https://example.com")];
        assert_eq!(origin(&from, "https://example.com/x"), Origin::Same { https: true });
        assert_eq!(origin(&from, "https://evil.com/x"), Origin::Foreign);
    }

    #[test]
    fn the_browsers_word_counts_only_without_an_origin() {
        let site = |site| origin(&[("sec-fetch-site", site), ("host", "a")], "/");
        assert_eq!(site("same-origin"), Origin::Same { https: false });
        assert_eq!(site("none"), Origin::Same { https: false });
        assert_eq!(site("same-site"), Origin::Foreign);
        assert_eq!(site("cross-site"), Origin::Foreign);
        assert_eq!(site(""), Origin::Foreign);
        assert_eq!(origin(&[("host", "a")], "/"), Origin::Unknown);
        let both = [("sec-fetch-site", "same-origin"), ("origin", "http://b"), ("host", "a")];
        assert_eq!(origin(&both, "/"), Origin::Foreign);
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        fields.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn the_public_url_is_our_own_whatever_host_a_proxy_sends() {
        let public = "https://tide.example.com".parse().unwrap();
        let uri = Uri::from_static("/v1/users");
        let from =
            |origin, host| origin_of(&headers(&[(ORIGIN, origin), (HOST, host)]), &uri, &public);
        let ours = Origin::Same { https: true };
        assert_eq!(from("https://tide.example.com", "127.0.0.1:8000"), ours);
        assert_eq!(from("https://tide.example.com", "tide.example.com"), ours);
        let inside = Origin::Same { https: false };
        assert_eq!(from("http://127.0.0.1:8000", "127.0.0.1:8000"), inside, "from inside, too");
        for other in
            ["http://tide.example.com", "https://tide.example.com:8443", "https://evil.com"]
        {
            assert_eq!(from(other, "127.0.0.1:8000"), Origin::Foreign, "{other}");
        }
    }

    #[test]
    fn a_foreign_origin_is_told_with_what_helps() {
        let told = |fields: &[_]| ForeignOrigin::of(&headers(fields)).to_string();
        let proxied = told(&[(ORIGIN, "https://tide.example.com"), (HOST, "127.0.0.1:8000")]);
        for part in [
            "Origin: https://tide.example.com and Host: 127.0.0.1:8000",
            "TIDEGATE_PUBLIC_URL=https://tide.example.com",
        ] {
            assert!(proxied.contains(part), "{proxied}");
        }
        for origin in ["null", "", "file://"] {
            let hidden = told(&[(ORIGIN, origin), (HOST, "tide.example.com")]);
            assert!(hidden.contains(&format!("Origin: {origin} and")), "{hidden}");
            assert!(!hidden.contains("PUBLIC_URL"), "{hidden}");
        }
        let elsewhere = told(&[(SEC_FETCH_SITE, "cross-site")]);
        assert!(elsewhere.contains("Sec-Fetch-Site: cross-site"), "{elsewhere}");
        assert!(told(&[]).contains("no Origin"));
        assert!(told(&[(ORIGIN, &"x".repeat(10_000))]).len() < 1_000);
    }
}
