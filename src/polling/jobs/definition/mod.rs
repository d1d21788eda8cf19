//! What a person asked a job to ask, checked. Its JSON form is the column `definition`, and what the API shows of it.

mod headers;
mod pagination;
mod parameter;
mod since;
mod since_format;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::headers::{HEADERS_MAX, JobHeaders};
pub use self::pagination::Pagination;
pub(crate) use self::parameter::set_parameter;
pub use self::since::{Since, SinceValue};
pub use self::since_format::SinceFormat;
use crate::outbound::{Endpoint, Secrets};
use crate::polling::jobs::members::{Invalid, Members, invalid};
use crate::polling::jobs::pointer::Pointer;

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Most pointers of a key.
const KEY_POINTERS_MAX: usize = 8;
/// Most pages that a job may ask for in one run.
pub const PAGES_MAX: u32 = 10_000;
/// Longest time that a job may wait for one page, in milliseconds.
const TIMEOUT_MS_MAX: u64 = 300_000;
/// Shortest time, in milliseconds.
const TIMEOUT_MS_MIN: u64 = 100;
/// Largest answer that a job may allow, in bytes, decompressed.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;

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

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> reqwest::Method {
        match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        }
    }
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
        let endpoint = Endpoint::parse(&url);
        let (url, credentials) = endpoint.map_err(|error| invalid("/url", error.to_string()))?;
        let default = Definition::plain(url);
        let JobHeaders { plain, secrets, secret_names } = headers::take(members, credentials)?;
        let definition = Definition {
            method: members.take("method")?.unwrap_or_default(),
            body: members.take("body")?,
            accept_statuses: members.take("accept_statuses")?.unwrap_or_default(),
            items: members.take("items")?.unwrap_or_default(),
            key: members.take("key")?.unwrap_or_default(),
            on_change: members.take("on_change")?.unwrap_or_default(),
            pagination: members.take("pagination")?,
            pages_max: members.take("pages_max")?.unwrap_or(default.pages_max),
            since: members.take("since")?,
            timeout_ms: members.take("timeout_ms")?.unwrap_or(default.timeout_ms),
            response_bytes_max: members
                .take("response_bytes_max")?
                .unwrap_or(default.response_bytes_max),
            conditional: members.take("conditional")?.unwrap_or(default.conditional),
            secret_headers: secret_names,
            headers: plain,
            ..default
        };
        definition.check()?;
        Ok((definition, secrets))
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

fn check_range(place: &str, value: u64, min: u64, max: u64) -> Result<(), Invalid> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(place, format!("must be {min} to {max}")))
}
