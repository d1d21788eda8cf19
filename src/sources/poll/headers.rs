//! The headers that a job sends: plain ones, which everybody may see who sees the job, and secret ones, which are sealed
//! at rest and never shown again.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::header::{HeaderName, HeaderValue};

use super::endpoint::Endpoint;
use super::members::{Invalid, invalid};

/// Most headers of a job, plain and secret ones together.
pub const HEADERS_MAX: usize = 32;
/// Longest value of a header, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 8_192;

/// Headers that the gateway sets itself, or that would change how the answer is framed.
const OWN_HEADERS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header whose name has one of these in it is secret wherever it stands: rather one too many than one too few.
const SECRET_PARTS: [&str; 12] = [
    "auth",
    "cookie",
    "credential",
    "jwt",
    "key",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// Names, in lower case, and values of headers that nobody sees again. Its `Debug` shows no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Checked headers.
    pub fn new(headers: BTreeMap<String, String>) -> Secrets {
        Secrets(headers)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers' names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a header, over what it was.
    pub fn insert(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Those of `self` that are named in `kept`, and all of `newer` over them.
    pub fn keep_and_add(&self, kept: &[String], newer: Secrets) -> Secrets {
        let mut headers = self.0.clone();
        headers.retain(|name, _| kept.contains(name));
        headers.extend(newer.0);
        Secrets(headers)
    }
}

/// Names become lower case; everything that HTTP or the gateway does not allow is refused. `place`: the object's member.
pub fn check(
    place: &str,
    headers: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Invalid> {
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let here = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        let name = check_name(&name).map_err(|message| invalid(here.clone(), message))?;
        if value.len() > HEADER_VALUE_BYTES_MAX {
            let message = format!("has more than {HEADER_VALUE_BYTES_MAX} bytes");
            return Err(invalid(here, message));
        }
        if HeaderValue::from_str(&value).is_err() {
            return Err(invalid(here, "has characters that a header cannot have"));
        }
        if checked.insert(name, value).is_some() {
            return Err(invalid(here, "is there twice"));
        }
    }
    Ok(checked)
}

/// Whether `to` may see what was meant for `from`: the same origin, or the same host by https instead of http.
pub(super) fn may_see_secrets(from: &Endpoint, to: &Endpoint) -> bool {
    let (from, to) = (from.url(), to.url());
    let upgraded = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host_str() == to.host_str()
        && from.port().is_none()
        && to.port().is_none();
    upgraded || from.origin() == to.origin()
}

/// The name in lower case, if a job may set it.
pub fn check_name(name: &str) -> Result<String, String> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("is no name of a header".to_owned());
    };
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("is a header that the gateway sets itself".to_owned());
    }
    Ok(name.as_str().to_owned())
}

/// Whether a header of this name, in lower case, is kept secret even where it was given as a plain one.
pub fn is_secret(name: &str) -> bool {
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_for_one_origin_and_for_the_same_host_by_https() {
        let may_see = |from: &str, to: &str| {
            let endpoint = |text: &str| Endpoint::parse(text).unwrap().0;
            may_see_secrets(&endpoint(from), &endpoint(to))
        };
        for to in ["http://a.test/", "http://a.test:80/x?y=1", "https://a.test/", "https://A.test"]
        {
            assert!(may_see("http://a.test/x", to), "{to}");
        }
        assert!(may_see("https://a.test:8443/x", "https://a.test:8443/y"));
        for to in [
            "https://b.test/",
            "https://www.a.test/",
            "https://a.test.b.test/",
            "https://a.test:8443/",
            "http://a.test:8080/",
            "http://b.test/",
        ] {
            assert!(!may_see("http://a.test/x", to), "{to}");
        }
        for (from, to) in [
            ("https://a.test/", "http://a.test/"),
            ("https://a.test/", "https://b.test/"),
            ("http://a.test:8080/", "https://a.test/"),
            ("http://a.test:8080/", "https://a.test:8080/"),
        ] {
            assert!(!may_see(from, to), "{from} {to}");
        }
    }

    #[test]
    fn names_are_checked_and_lowered() {
        let checked = check("/headers", headers(&[("Accept", "text/x"), ("X-A", "")])).unwrap();
        assert_eq!(checked, headers(&[("accept", "text/x"), ("x-a", "")]));
        for (name, value, place) in [
            ("Host", "x", "/headers/Host"),
            ("a b", "x", "/headers/a b"),
            ("a/b", "x", "/headers/a~1b"),
            ("", "x", "/headers/"),
            ("x-a", "two\r\nlines: x", "/headers/x-a"),
            ("x-a", &"x".repeat(HEADER_VALUE_BYTES_MAX + 1), "/headers/x-a"),
        ] {
            let error = check("/headers", headers(&[(name, value)])).unwrap_err();
            assert_eq!(error.place, place);
        }
        assert!(check("/headers", headers(&[("X-A", "1"), ("x-a", "2")])).is_err());
    }

    #[test]
    fn a_name_tells_a_secret() {
        for name in [
            "apikey",
            "authorization",
            "cookie",
            "ocp-apim-subscription-key",
            "private-token",
            "proxy-authorization",
            "x-amz-security-token",
            "x-amz-signature",
            "x-api-key",
            "x-auth",
            "x-goog-api-key",
            "x-password",
            "x-session-id",
            "x-vault-token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["accept", "accept-language", "content-type", "user-agent", "x-tenant"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_do_not_show_and_are_kept_by_name() {
        let old = Secrets::new(headers(&[("authorization", "Bearer one"), ("cookie", "two")]));
        assert_eq!(format!("{old:?}"), r#"{"authorization", "cookie"}"#);
        let newer = Secrets::new(headers(&[("cookie", "three")]));
        let kept = old.keep_and_add(&["authorization".to_owned(), "cookie".to_owned()], newer);
        assert_eq!(
            kept.iter().collect::<Vec<_>>(),
            [("authorization", "Bearer one"), ("cookie", "three")]
        );
        assert!(old.keep_and_add(&[], Secrets::default()).is_empty());
    }
}
