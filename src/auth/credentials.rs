//! What a client presents to show who it is, read from its headers. Nothing is checked here but the form.
//!
//! `Authorization` wins over the cookie, and when it is there but cannot be read the request is refused: falling back
//! to the cookie would do the right thing as the wrong person.

use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum_extra::extract::cookie::CookieJar;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::auth::secret::{SECRET_TEXT_BYTES_MAX, SecretHash};

/// Longest `Authorization` header that is read, in bytes; it holds a name and a password at their limits in base64.
pub const AUTHORIZATION_BYTES_MAX: usize = 2_048;

// Clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client presented. Secrets are hashed as soon as they are read.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Bearer(SecretHash),
    Basic { name: String, password: String },
    Session(SecretHash),
}

/// The `Authorization` header cannot be read; the text says how it should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    #[error("send one Authorization header, in ASCII, of at most {AUTHORIZATION_BYTES_MAX} bytes")]
    Header,
    #[error("the Authorization scheme is unknown; use Bearer or Basic")]
    Scheme,
    #[error("the Bearer token is malformed")]
    Bearer,
    #[error("Basic takes base64 of user:password, in UTF-8")]
    Basic,
}

/// Reads the credentials of a request; None if it has none. `cookie` is the name of the session's cookie.
pub fn read(headers: &HeaderMap, cookie: &str) -> Result<Option<Credentials>, Garbled> {
    if headers.contains_key(AUTHORIZATION) {
        return authorization(headers).map(Some);
    }
    Ok(session_cookie(headers, cookie).map(Credentials::Session))
}

/// The hash of a cookie, the session's or another secret, if the browser sent it.
pub fn session_cookie(headers: &HeaderMap, cookie: &str) -> Option<SecretHash> {
    let jar = CookieJar::from_headers(headers);
    let value = jar.get(cookie)?.value();
    (!value.is_empty() && value.len() <= SECRET_TEXT_BYTES_MAX).then(|| SecretHash::of(value))
}

fn authorization(headers: &HeaderMap) -> Result<Credentials, Garbled> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Garbled::Header);
    };
    authorization_value(value.to_str().map_err(|_| Garbled::Header)?)
}

/// Reads the value of the header `Authorization`.
pub fn authorization_value(text: &str) -> Result<Credentials, Garbled> {
    let text = text.trim();
    if text.len() > AUTHORIZATION_BYTES_MAX {
        return Err(Garbled::Header);
    }
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        bearer(rest)
    } else if scheme.eq_ignore_ascii_case("basic") {
        basic(rest).ok_or(Garbled::Basic)
    } else {
        Err(Garbled::Scheme)
    }
}

fn bearer(text: &str) -> Result<Credentials, Garbled> {
    let of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if text.is_empty() || text.len() > SECRET_TEXT_BYTES_MAX || !text.bytes().all(of_a_token) {
        return Err(Garbled::Bearer);
    }
    Ok(Credentials::Bearer(SecretHash::of(text)))
}

fn basic(text: &str) -> Option<Credentials> {
    let bytes = BASE64.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // A name has no colon, a password may.
    let (name, password) = text.split_once(':')?;
    Some(Credentials::Basic { name: name.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use base64::engine::general_purpose::STANDARD;
    use tidegate_record::USER_NAME_BYTES_MAX;

    use super::*;
    use crate::auth::password::PASSWORD_BYTES_MAX;

    fn with(fields: &[(&'static str, &[u8])]) -> Result<Option<Credentials>, Garbled> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers, "tidegate_session")
    }

    fn header(value: &str) -> Result<Option<Credentials>, Garbled> {
        with(&[("authorization", value.as_bytes())])
    }

    fn is_basic(value: &str, expected: (&str, &str)) -> bool {
        let (name, password) = (expected.0.to_owned(), expected.1.to_owned());
        header(value) == Ok(Some(Credentials::Basic { name, password }))
    }

    #[test]
    fn basic_is_read_as_clients_send_it() {
        assert!(is_basic("Basic YWRhOnNlY3JldDE6Mg==", ("ada", "secret1:2")));
        assert!(is_basic("bAsIc   YWRhOnNlY3JldDE6Mg", ("ada", "secret1:2")));
        assert!(is_basic(&format!("Basic {}", STANDARD.encode("ä:ß")), ("ä", "ß")));
        assert!(is_basic(&format!("Basic {}", STANDARD.encode(":")), ("", "")));
        let (name, password) = ("a".repeat(USER_NAME_BYTES_MAX), "b".repeat(PASSWORD_BYTES_MAX));
        let longest = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        assert!(is_basic(&longest, (&name, &password)));
    }

    #[test]
    fn garbage_is_refused_by_its_kind() {
        let no_colon = format!("Basic {}", STANDARD.encode("ada"));
        let no_utf8 = format!("Basic {}", STANDARD.encode([0xff, b':', b'a']));
        for value in ["Basic", "Basic ", "Basic !!!", "Basic YWRh OnNl", &no_colon, &no_utf8] {
            assert!(header(value) == Err(Garbled::Basic), "{value}");
        }
        let long = format!("Bearer {}", "a".repeat(SECRET_TEXT_BYTES_MAX + 1));
        for value in ["Bearer", "bearer ", "Bearer tg_a b", "Bearer tg_\"", &long] {
            assert!(header(value) == Err(Garbled::Bearer), "{value}");
        }
        for value in ["", "Digest abc", "tg_abc", "Bearer\ttg_abc"] {
            assert!(header(value) == Err(Garbled::Scheme), "{value}");
        }
        let longer = format!("Basic {}", "a".repeat(AUTHORIZATION_BYTES_MAX));
        assert!(header(&longer) == Err(Garbled::Header));
        assert!(with(&[("authorization", b"Bearer \xff")]) == Err(Garbled::Header));
        let twice: [(_, &[u8]); 2] =
            [("authorization", b"Bearer tg_a"), ("authorization", b"Bearer tg_a")];
        assert!(with(&twice) == Err(Garbled::Header));
    }

    #[test]
    fn authorization_wins_even_when_it_cannot_be_read() {
        let cookie: (&str, &[u8]) = ("cookie", b"a=b; tidegate_session=s");
        let session = Credentials::Session(SecretHash::of("s"));
        assert!(with(&[cookie]) == Ok(Some(session)));
        let bearer = Credentials::Bearer(SecretHash::of("tg_a"));
        assert!(with(&[cookie, ("authorization", b"Bearer tg_a")]) == Ok(Some(bearer)));
        assert!(with(&[cookie, ("authorization", b"nonsense")]) == Err(Garbled::Scheme));
    }

    #[test]
    fn no_credentials_are_none() {
        assert!(with(&[]) == Ok(None));
        assert!(with(&[("cookie", b"tidegate_session=")]) == Ok(None));
        assert!(with(&[("cookie", b"tidegate_session_=x; other=y")]) == Ok(None));
        assert!(with(&[("cookie", b"\xff\xfe=;;;==")]) == Ok(None));
    }
}
