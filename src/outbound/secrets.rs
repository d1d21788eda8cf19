//! Headers that are secret: sealed at rest, sent only to the origin that they were given for, and never shown again.

use std::collections::BTreeMap;
use std::fmt;

use super::endpoint::Endpoint;

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

/// Names, in lower case, and values of headers that are not shown again. Its `Debug` shows no value.
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

/// Whether `to` may see what was meant for `from`: the same origin, or the same host by https instead of http.
pub fn may_see_secrets(from: &Endpoint, to: &Endpoint) -> bool {
    let (from, to) = (from.url(), to.url());
    let upgraded = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host_str() == to.host_str()
        && from.port().is_none()
        && to.port().is_none();
    upgraded || from.origin() == to.origin()
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
