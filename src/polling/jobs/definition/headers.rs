//! The headers that a job sends: plain ones, which are shown with the job, and secret ones, which are sealed at rest and
//! never shown again.

use std::collections::BTreeMap;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;

use crate::outbound::{Credentials, Secrets, is_secret};
use crate::polling::jobs::members::{Invalid, Members, invalid};
use crate::polling::jobs::pointer::Pointer;

/// Most headers of a job, plain and secret ones together.
pub(super) const HEADERS_MAX: usize = 32;
/// Longest value of a header, in bytes.
const HEADER_VALUE_BYTES_MAX: usize = 8_192;

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

/// What a person asked a job to send, checked.
pub(super) struct JobHeaders {
    pub plain: BTreeMap<String, String>,
    pub secrets: Secrets,
    /// Names of the secret ones, those included whose values the job has already.
    pub secret_names: Vec<String>,
}

/// Takes `headers` and `secret_headers` out of what a person sent. `credentials`: what the address had in it.
pub(super) fn take(
    members: &mut Members,
    credentials: Option<Credentials>,
) -> Result<JobHeaders, Invalid> {
    let mut plain = check("/headers", members.take("headers")?.unwrap_or_default())?;
    let (mut secret_names, mut secrets) = take_secrets(members)?;
    add_known_secrets(credentials, &mut plain, &mut secrets)?;
    secret_names.extend(secrets.names());
    secret_names.sort();
    secret_names.dedup();
    Ok(JobHeaders { plain, secrets, secret_names })
}

/// `secret_headers` as an object with values, or as the names of those that stay.
fn take_secrets(members: &mut Members) -> Result<(Vec<String>, Secrets), Invalid> {
    let place = "/secret_headers";
    match members.take::<Value>("secret_headers")? {
        None => Ok((Vec::new(), Secrets::default())),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            let names = names.ok_or_else(|| invalid(place, "must be names of headers"))?;
            let lower = names.iter().enumerate().map(|(index, name)| {
                check_name(name).map_err(|message| invalid(format!("{place}/{index}"), message))
            });
            Ok((lower.collect::<Result<_, _>>()?, Secrets::default()))
        }
        Some(object) => {
            let values = serde_json::from_value(object);
            // The message of the library would have the value in it.
            let values = values.map_err(|_| {
                invalid(place, "must be an object of names and texts, or a list of names that stay")
            })?;
            Ok((Vec::new(), Secrets::new(check(place, values)?)))
        }
    }
}

/// What is known for a secret joins the secrets.
fn add_known_secrets(
    credentials: Option<Credentials>,
    plain: &mut BTreeMap<String, String>,
    secrets: &mut Secrets,
) -> Result<(), Invalid> {
    for (name, value) in plain.extract_if(.., |name, _| is_secret(name)) {
        secrets.insert(&name, value);
    }
    if let Some(Credentials(value)) = credentials {
        if secrets.iter().any(|(name, _)| name == AUTHORIZATION.as_str()) {
            let message = "has credentials, and there is a header Authorization: leave out one";
            return Err(invalid("/url", message));
        }
        secrets.insert(AUTHORIZATION.as_str(), value);
    }
    Ok(())
}

/// Names become lower case; everything that HTTP or the gateway does not allow is refused. `place`: the object's member.
fn check(
    place: &str,
    headers: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Invalid> {
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let here = format!("{place}{}", Pointer::member(&name));
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

/// The name in lower case, if a job may set it.
fn check_name(name: &str) -> Result<String, String> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("is no name of a header".to_owned());
    };
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("is a header that the gateway sets itself".to_owned());
    }
    Ok(name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
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
}
