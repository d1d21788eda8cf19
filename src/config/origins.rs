//! Origins, as browsers name them: where people find this gateway, and whose pages may use it beside its own.
//!
//! The two are apart on purpose. Pages of the public URL are this gateway's own, and speak with the session's cookie. Pages
//! of an allowed origin are another site's: they come with a token or a ticket, and no cookie speaks for them.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// What allows the pages of every origin.
const EVERY_ORIGIN: &str = "*";

/// Where people find this gateway, such as `https://tide.example.com`; nothing where it was not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublicUrl(Option<String>);

impl PublicUrl {
    /// `Some(https)` if this is what a browser calls the origin of its pages.
    pub fn is_origin(&self, origin: &str) -> Option<bool> {
        let public = self.0.as_deref().filter(|public| public.eq_ignore_ascii_case(origin))?;
        Some(public.starts_with("https:"))
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicUrl, String> {
        if text.is_empty() {
            return Ok(PublicUrl(None));
        }
        parse_origin(text).map(|origin| PublicUrl(Some(origin)))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or_default())
    }
}

/// Whose pages may send records, watch and read, with a token or a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// None but the gateway's own, if the list is empty.
    These(Vec<String>),
    Every,
}

impl FromStr for AllowedOrigins {
    type Err = String;

    /// Reads a list with commas, or `*`.
    fn from_str(text: &str) -> Result<AllowedOrigins, String> {
        let parts: Vec<&str> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts == [EVERY_ORIGIN] {
            return Ok(AllowedOrigins::Every);
        }
        parts.into_iter().map(parse_origin).collect::<Result<_, _>>().map(AllowedOrigins::These)
    }
}

/// An origin as browsers write it: scheme, host, and the port if it is not the scheme's own.
fn parse_origin(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no origin such as https://tide.example.com");
    let url = Url::parse(text).map_err(|_| wrong())?;
    // A pattern would never equal what a browser sends.
    let is_bare = url.host_str().is_some_and(|host| !host.contains('*'))
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !["http", "https"].contains(&url.scheme()) || !is_bare {
        return Err(wrong());
    }
    Ok(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_or_nothing() {
        let public: PublicUrl = "https://Tide.example.com:443/".parse().unwrap();
        assert_eq!(public.to_string(), "https://tide.example.com");
        assert_eq!(public.is_origin("https://tide.example.com"), Some(true));
        for other in [
            "http://tide.example.com",
            "https://tide.example.com:8443",
            "https://tide.example.com.evil.com",
            "https://evil.com",
            "null",
            "",
        ] {
            assert_eq!(public.is_origin(other), None, "{other}");
        }
        let plain: PublicUrl = "http://10.0.0.7:8080".parse().unwrap();
        assert_eq!(plain.is_origin("http://10.0.0.7:8080"), Some(false));
        let none: PublicUrl = "".parse().unwrap();
        assert_eq!(none, PublicUrl::default());
        assert_eq!(none.is_origin(""), None);
        for wrong in [
            "tide.example.com",
            "https://tide.example.com/tide",
            "https://tide.example.com/?a",
            "https://ada@tide.example.com",
            "ftp://tide.example.com",
            "null",
            "*",
        ] {
            let error = wrong.parse::<PublicUrl>().unwrap_err();
            assert!(error.contains("such as https://"), "{error}");
        }
    }

    #[test]
    fn allowed_origins_are_a_list_or_all() {
        let these = |origins: &[&str]| {
            AllowedOrigins::These(origins.iter().map(ToString::to_string).collect())
        };
        assert_eq!("".parse(), Ok(these(&[])));
        assert_eq!("*".parse(), Ok(AllowedOrigins::Every));
        let two = " https://app.example.com/, http://localhost:5173,".parse();
        assert_eq!(two, Ok(these(&["https://app.example.com", "http://localhost:5173"])));
        for wrong in ["https://app.example.com,*", "https://*.example.com", "app.example.com"] {
            assert!(wrong.parse::<AllowedOrigins>().is_err(), "{wrong}");
        }
    }
}
