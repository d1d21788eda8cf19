//! `If-Match` and `If-None-Match` of a change of one record.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName};
use tidegate_codec::changes::RecordHash;

use crate::api::ApiError;

/// What the headers say that has to be true of the record.
pub struct Precondition {
    /// Its tag, without the quotes, or `*`.
    pub if_match: Option<String>,
    /// It is not there.
    pub is_new: bool,
}

impl Precondition {
    /// Reads `If-Match` and `If-None-Match`; `may_be_new`: the request can make a record. None: there is no record of which it is
    /// true.
    pub fn of(headers: &HeaderMap, may_be_new: bool) -> Result<Option<Precondition>, ApiError> {
        let if_match = tags(headers, &IF_MATCH)?;
        let if_none_match = tags(headers, &IF_NONE_MATCH)?;
        let is_new = match if_none_match {
            None => false,
            Some(Tags::Any) if may_be_new && if_match.is_none() => true,
            Some(_) => {
                let detail = "If-None-Match is only of a PUT by key, where it is * and makes a record that is not there";
                return Err(ApiError::bad_request("invalid_precondition", detail));
            }
        };
        let if_match = match if_match {
            None => None,
            Some(Tags::Any) => Some("*".to_owned()),
            Some(Tags::Some(mut tags)) => match (tags.pop(), tags.pop()) {
                (Some(tag), None) => Some(tag),
                // A tag that is none of a record's matches none.
                (None, _) => return Ok(None),
                (Some(_), Some(_)) => {
                    let detail = "If-Match has one ETag of a record, or *";
                    return Err(ApiError::bad_request("invalid_precondition", detail));
                }
            },
        };
        Ok(Some(Precondition { if_match, is_new }))
    }
}

/// What a header of tags says.
enum Tags {
    Any,
    /// Those that a record may have: weak ones, and what is no hash, match no record.
    Some(Vec<String>),
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    let invalid = || {
        let detail = format!("the header {name} has ETags, each in its quotes, or *");
        ApiError::bad_request("invalid_precondition", detail)
    };
    let mut found = Vec::new();
    let values: Vec<_> = headers.get_all(name).iter().collect();
    if values.is_empty() {
        return Ok(None);
    }
    for value in values {
        let text = value.to_str().map_err(|_| invalid())?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        for tag in text.split(',').map(str::trim) {
            let (is_weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
            let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let tag = tag.filter(|tag| !tag.contains('"')).ok_or_else(invalid)?;
            if !is_weak && tag.parse::<RecordHash>().is_ok() {
                found.push(tag.to_owned());
            }
        }
    }
    found.dedup();
    Ok(Some(Tags::Some(found)))
}
