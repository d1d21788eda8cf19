//! What a person asked a job to ask, checked. Its JSON form is the column `definition`, and what the API shows of it.

use std::collections::BTreeMap;

use reqwest::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::endpoint::{Credentials, Endpoint, InvalidEndpoint};
use super::headers::{self, HEADERS_MAX, Secrets};
use super::members::{Invalid, Members, invalid};
use super::pagination::{PARAMETER_BYTES_MAX, Pagination};
use super::pointer::Pointer;
use super::since::Since;

/// Longest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Most pointers of a key.
pub const KEY_POINTERS_MAX: usize = 8;
/// Most pages that a job may ask for in one run.
pub const PAGES_MAX: u32 = 10_000;
/// Longest time that a job may wait for one page, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 300_000;
/// Shortest time, in milliseconds.
pub const TIMEOUT_MS_MIN: u64 = 100;
/// Largest answer that a job may allow, in bytes, decompressed.
pub const RESPONSE_BYTES_MAX: u64 = 64 << 20;

/// What a POST may be answered with where the job says so.
const POST_STATUSES: [u16; 2] = [201, 226];
const PAGES_DEFAULT: u32 = 100;
const TIMEOUT_MS_DEFAULT: u64 = 30_000;
const RESPONSE_BYTES_DEFAULT: u64 = 16 << 20;

/// A request, and where the items are in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub url: Endpoint,
    pub method: Method,
    /// Sent as `application/json` unless the headers say otherwise. Only with POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Statuses beside 200, 203 and 204 that this POST is answered with: 201, 226.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_statuses: Vec<u16>,
    /// The headers that are no secret; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The names of the secret ones, whose values are sealed elsewhere.
    pub secret_headers: Vec<String>,
    /// Points at an array of items or at a single one; empty: the whole answer.
    pub items: Pointer,
    /// What makes an item the same item; none: all that is in it.
    pub key: Vec<Pointer>,
    pub on_change: OnChange,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
    pub pages_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// For one page, redirects and the whole answer included.
    pub timeout_ms: u64,
    /// For one page, decompressed.
    pub response_bytes_max: u64,
    /// Whether to ask with `If-None-Match` and `If-Modified-Since`. Only a GET without pagination is asked so: that the
    /// first page is the same says nothing of the others.
    pub conditional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Post,
}

/// What an item becomes that was seen before with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// A new record.
    #[default]
    Append,
    /// The record that it was.
    Replace,
}

impl Definition {
    /// The form with nothing but an address.
    pub fn plain(url: Endpoint) -> Definition {
        Definition {
            url,
            method: Method::Get,
            body: None,
            accept_statuses: Vec::new(),
            headers: BTreeMap::new(),
            secret_headers: Vec::new(),
            items: Pointer::default(),
            key: Vec::new(),
            on_change: OnChange::Append,
            pagination: None,
            pages_max: PAGES_DEFAULT,
            since: None,
            timeout_ms: TIMEOUT_MS_DEFAULT,
            response_bytes_max: RESPONSE_BYTES_DEFAULT,
            conditional: true,
        }
    }

    /// Takes its members out of what a person sent. Credentials in the address, `secret_headers` (an object), and headers
    /// whose names are known for secrets come back as [`Secrets`]; the definition keeps their names. `secret_headers` may
    /// also be a list of names, as it is shown: it says which of the secrets that the job has are kept.
    pub fn take(members: &mut Members) -> Result<(Definition, Secrets), Invalid> {
        let url: Option<String> = members.take("url")?;
        let url = url.ok_or_else(|| invalid("/url", "is needed: the address to ask"))?;
        let (url, credentials) = parse_endpoint("/url", &url)?;
        let plain = Definition::plain(url);
        let mut headers = headers::check("/headers", members.take("headers")?.unwrap_or_default())?;
        let (kept, mut secrets) = take_secrets(members)?;
        add_credentials(credentials, &mut headers, &mut secrets)?;
        let definition = Definition {
            method: members.take("method")?.unwrap_or_default(),
            body: members.take("body")?,
            accept_statuses: members.take("accept_statuses")?.unwrap_or_default(),
            items: members.take("items")?.unwrap_or_default(),
            key: members.take("key")?.unwrap_or_default(),
            on_change: members.take("on_change")?.unwrap_or_default(),
            pagination: members.take("pagination")?,
            pages_max: members.take("pages_max")?.unwrap_or(plain.pages_max),
            since: members.take("since")?,
            timeout_ms: members.take("timeout_ms")?.unwrap_or(plain.timeout_ms),
            response_bytes_max: members
                .take("response_bytes_max")?
                .unwrap_or(plain.response_bytes_max),
            conditional: members.take("conditional")?.unwrap_or(plain.conditional),
            secret_headers: all_names(kept, &secrets),
            headers,
            ..plain
        };
        definition.check()?;
        Ok((definition, secrets))
    }

    /// The JSON form, as the base that a patch is merged into before it is taken again.
    pub fn to_members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.body.is_some() && self.method == Method::Get {
            return Err(invalid("/body", "is only sent with the method POST"));
        }
        if self.body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
            return Err(invalid("/body", format!("has more than {BODY_BYTES_MAX} bytes")));
        }
        self.check_statuses()?;
        if self.headers.len() + self.secret_headers.len() > HEADERS_MAX {
            return Err(invalid("/headers", format!("are more than {HEADERS_MAX}")));
        }
        self.check_key()?;
        self.pagination.as_ref().map_or(Ok(()), Pagination::check)?;
        self.since.as_ref().map_or(Ok(()), Since::check)?;
        check_range("/pages_max", self.pages_max.into(), 1, PAGES_MAX.into())?;
        check_range("/timeout_ms", self.timeout_ms, TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)?;
        check_range("/response_bytes_max", self.response_bytes_max, 1, RESPONSE_BYTES_MAX)
    }

    fn check_statuses(&self) -> Result<(), Invalid> {
        let place = "/accept_statuses";
        if self.method == Method::Get && !self.accept_statuses.is_empty() {
            return Err(invalid(place, "are for the method POST only"));
        }
        match self.accept_statuses.iter().position(|status| !POST_STATUSES.contains(status)) {
            None => Ok(()),
            Some(index) => Err(invalid(format!("{place}/{index}"), "must be 201 or 226")),
        }
    }

    fn check_key(&self) -> Result<(), Invalid> {
        if self.key.len() > KEY_POINTERS_MAX {
            return Err(invalid("/key", format!("has more than {KEY_POINTERS_MAX} pointers")));
        }
        for (index, pointer) in self.key.iter().enumerate() {
            let place = format!("/key/{index}");
            if pointer.is_whole() {
                return Err(invalid(place, "must point into an item, as /id"));
            }
            if self.key[..index].contains(pointer) {
                return Err(invalid(place, "is there twice"));
            }
        }
        if self.on_change == OnChange::Replace && self.key.is_empty() {
            let message = "`replace` needs a `key` that tells which record it was";
            return Err(invalid("/on_change", message));
        }
        Ok(())
    }
}

/// Reads an address at a place of the request.
pub fn parse_endpoint(place: &str, text: &str) -> Result<(Endpoint, Option<Credentials>), Invalid> {
    Endpoint::parse(text).map_err(|error: InvalidEndpoint| invalid(place, error.to_string()))
}

pub(super) fn check_parameter(place: &str, name: &str) -> Result<(), Invalid> {
    if (1..=PARAMETER_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let message =
        format!("must be the name of a query parameter, 1 to {PARAMETER_BYTES_MAX} bytes");
    Err(invalid(place, message))
}

fn check_range(place: &str, value: u64, min: u64, max: u64) -> Result<(), Invalid> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(place, format!("must be {min} to {max}")))
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
                headers::check_name(name)
                    .map_err(|message| invalid(format!("{place}/{index}"), message))
            });
            Ok((lower.collect::<Result<_, _>>()?, Secrets::default()))
        }
        Some(object) => {
            let values = serde_json::from_value(object);
            // The message of the library would have the value in it.
            let values = values.map_err(|_| {
                invalid(place, "must be an object of names and texts, or a list of names that stay")
            })?;
            Ok((Vec::new(), Secrets::new(headers::check(place, values)?)))
        }
    }
}

/// What is known for a secret joins the secrets.
fn add_credentials(
    credentials: Option<Credentials>,
    plain: &mut BTreeMap<String, String>,
    secrets: &mut Secrets,
) -> Result<(), Invalid> {
    let known: Vec<String> =
        plain.keys().filter(|name| headers::is_secret(name)).cloned().collect();
    for name in known {
        if let Some(value) = plain.remove(&name) {
            secrets.insert(&name, value);
        }
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

fn all_names(kept: Vec<String>, secrets: &Secrets) -> Vec<String> {
    let mut names = kept;
    names.extend(secrets.names());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(members: Value) -> Result<(Definition, Secrets), Invalid> {
        let members: Map<String, Value> = serde_json::from_value(members).unwrap();
        let mut members = Members::new(members);
        let taken = Definition::take(&mut members)?;
        members.finish()?;
        Ok(taken)
    }

    fn full() -> Value {
        json!({
            "url": "https://api.test/v1/users?x=1", "method": "POST", "body": "{}", "accept_statuses": [201],
            "headers": {"accept": "text/json"}, "secret_headers": ["x-mine"],
            "items": "/data", "key": ["/id", "/a~1b"], "on_change": "replace",
            "pagination": {"by": "next", "pointer": "/next", "parameter": "cursor"}, "pages_max": 5,
            "since": {"parameter": "since", "field": "/at", "format": "unix_ms", "overlap": 1},
            "timeout_ms": 1_000, "response_bytes_max": 1_000_000, "conditional": false,
        })
    }

    #[test]
    fn the_json_form_comes_back() {
        let (definition, secrets) = taken(full()).unwrap();
        assert!(secrets.is_empty());
        assert_eq!(Value::Object(definition.to_members()), full());
        assert_eq!(serde_json::from_value::<Definition>(full()).unwrap(), definition);
        assert_eq!(taken(Value::Object(definition.to_members())).unwrap().0, definition);
    }

    #[test]
    fn an_address_is_enough() {
        let (definition, secrets) = taken(json!({"url": "http://api.test/users"})).unwrap();
        assert_eq!(
            definition,
            Definition::plain("http://api.test/users".to_owned().try_into().unwrap())
        );
        assert!(secrets.is_empty());
    }

    #[test]
    fn secrets_go_apart_and_leave_their_names() {
        let (definition, secrets) = taken(json!({
            "url": "https://ada:pw@api.test/users",
            "headers": {"X-API-Key": "hidden1", "Accept": "seen"},
            "secret_headers": {"X-Mine": "hidden2"},
        }))
        .unwrap();
        assert_eq!(definition.secret_headers, ["authorization", "x-api-key", "x-mine"]);
        assert_eq!(definition.headers.keys().collect::<Vec<_>>(), ["accept"]);
        let text = serde_json::to_string(&definition).unwrap() + &format!("{secrets:?}");
        for hidden in ["hidden1", "hidden2", "pw", "ada"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        let values: Vec<&str> = secrets.iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["Basic YWRhOnB3", "hidden1", "hidden2"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (change, place) in [
            (json!({"url": null}), "/url"),
            (json!({"url": "ftp://api.test/"}), "/url"),
            (json!({"url": 7}), "/url"),
            (
                json!({"url": "http://a:b@api.test/", "secret_headers": {"Authorization": "x"}}),
                "/url",
            ),
            (json!({"method": "DELETE"}), "/method"),
            (json!({"method": "GET"}), "/body"),
            (json!({"method": "GET", "body": null}), "/accept_statuses"),
            (json!({"accept_statuses": [226, 202]}), "/accept_statuses/1"),
            (json!({"accept_statuses": [200]}), "/accept_statuses/0"),
            (json!({"accept_statuses": 201}), "/accept_statuses"),
            (json!({"body": "x".repeat(BODY_BYTES_MAX + 1)}), "/body"),
            (json!({"headers": {"Host": "x"}}), "/headers/Host"),
            (json!({"headers": ["x"]}), "/headers"),
            (json!({"secret_headers": {"a b": "x"}}), "/secret_headers/a b"),
            (json!({"secret_headers": {"x": 1}}), "/secret_headers"),
            (json!({"secret_headers": [1]}), "/secret_headers"),
            (json!({"secret_headers": ["x", "Host"]}), "/secret_headers/1"),
            (json!({"items": "data"}), "/items"),
            (json!({"key": ["/id", ""]}), "/key/1"),
            (json!({"key": ["/id", "/id"]}), "/key/1"),
            (json!({"key": "/id"}), "/key"),
            (json!({"key": null}), "/on_change"),
            (json!({"on_change": "forget"}), "/on_change"),
            (json!({"pagination": {"by": "magic"}}), "/pagination"),
            (json!({"pagination": {"by": "offset", "limit": 0}}), "/pagination/limit"),
            (json!({"pagination": {"by": "page", "parameter": ""}}), "/pagination/parameter"),
            (json!({"pagination": {"by": "page", "size_parameter": "n"}}), "/pagination/size"),
            (json!({"pages_max": 0}), "/pages_max"),
            (json!({"pages_max": -1}), "/pages_max"),
            (json!({"pages_max": PAGES_MAX + 1}), "/pages_max"),
            (json!({"since": {"parameter": "s", "field": ""}}), "/since/field"),
            (json!({"since": {"parameter": "", "field": "/a"}}), "/since/parameter"),
            (json!({"since": {"parameter": "s", "field": "/a", "format": "iso"}}), "/since"),
            (
                json!({"since": {"parameter": "s", "field": "/a", "overlap": u32::MAX}}),
                "/since/overlap",
            ),
            (json!({"timeout_ms": 1}), "/timeout_ms"),
            (json!({"response_bytes_max": u64::MAX}), "/response_bytes_max"),
            (json!({"conditional": "yes"}), "/conditional"),
            (json!({"colour": "red"}), "/colour"),
        ] {
            let mut members: Map<String, Value> = serde_json::from_value(full()).unwrap();
            for (name, value) in
                serde_json::from_value::<Map<String, Value>>(change.clone()).unwrap()
            {
                members.insert(name, value);
            }
            let error = taken(Value::Object(members)).expect_err(&change.to_string());
            assert_eq!(error.place, place, "{change}: {error}");
        }
    }
}
