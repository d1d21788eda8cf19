//! What an API is asked, and the headers that it is asked with.

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
};

use super::budget::AnswerPermit;
use super::resume::Resume;
use crate::outbound::{Endpoint, Secrets, may_see_secrets};
use crate::polling::jobs::{Definition, Method};

/// See the module.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub definition: &'a Definition,
    pub secrets: &'a Secrets,
    /// The user on whose behalf it is asked; None: of who can read the data directory.
    pub owner: Option<i64>,
    pub url: Endpoint,
    /// Validators of the answer that is known already.
    pub known: Option<&'a Resume>,
    /// What the run holds already.
    pub beside: &'a AnswerPermit,
}

impl Question<'_> {
    /// What is sent to `url`: the secrets only where they may be seen.
    pub fn headers(&self, url: &Endpoint, method: Method) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br, zstd, deflate"));
        if method == Method::Post && self.definition.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let plain = self.definition.headers.iter().map(|(name, value)| (&**name, &**value));
        plain.for_each(|pair| insert(&mut headers, pair, false));
        if may_see_secrets(&self.definition.url, url) {
            self.secrets.iter().for_each(|pair| insert(&mut headers, pair, true));
        }
        if let Some(known) = self.known {
            let etag = known.etag.as_deref().map(|value| (IF_NONE_MATCH.as_str(), value));
            let modified = known.last_modified.as_deref();
            let modified = modified.map(|value| (IF_MODIFIED_SINCE.as_str(), value));
            etag.into_iter().chain(modified).for_each(|pair| insert(&mut headers, pair, false));
        }
        headers
    }
}

/// Names and values were checked when the job was made; what is no header all the same is left out.
fn insert(headers: &mut HeaderMap, (name, value): (&str, &str), secret: bool) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
        value.set_sensitive(secret);
        headers.insert(name, value);
    }
}
