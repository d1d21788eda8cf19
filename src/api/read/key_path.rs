//! `/v1/streams/{stream}/by-key/{key}`: a record's key in an address.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidegate_codec::{KeyField, Stream};
use tidegate_query::QueryError;

use crate::api::ApiError;

/// A stream's name and the parts of a key, which are separated by commas; a comma within one is written `%2C`.
#[derive(Debug)]
pub struct KeyPath {
    pub stream: String,
    pub parts: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<KeyPath, ApiError> {
        // As it was sent: what is decoded does not tell a comma from one that separates.
        let mut segments = parts.uri.path().split('/').skip(3);
        let (stream, _, key) = (segments.next(), segments.next(), segments.next());
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| {
                let message = "the address is not UTF-8 behind its percent signs";
                ApiError::from(QueryError::new("key", "invalid_key", message))
            })?;
            Ok::<_, ApiError>(text.into_owned())
        };
        let stream = decoded(stream.unwrap_or_default())?;
        let key: Result<Vec<String>, ApiError> =
            key.unwrap_or_default().split(',').map(decoded).collect();
        Ok(KeyPath { stream, parts: key? })
    }
}

/// The key as the members of a record: its parts as texts, which every type reads.
pub fn key_object(stream: &Stream, parts: &[String]) -> Result<Box<RawValue>, ApiError> {
    let mut members = Map::new();
    let fields = stream.key.as_ref().map_or(&[][..], |key| &key.fields);
    for (field, part) in fields.iter().zip(parts) {
        match field {
            KeyField::Column(index) => {
                let member = stream.columns()[*index].member().to_owned();
                members.insert(member, Value::from(part.as_str()));
            }
            KeyField::Pointer(segments) => put(&mut members, segments, part),
        }
    }
    serde_json::value::to_raw_value(&members).map_err(ApiError::internal)
}

/// Puts a text where a pointer leads.
fn put(members: &mut Map<String, Value>, segments: &[String], part: &str) {
    match segments {
        [] => {}
        [last] => drop(members.insert(last.clone(), Value::from(part))),
        [first, rest @ ..] => {
            let inner = members.entry(first.clone()).or_insert_with(|| Value::from(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, part);
            }
        }
    }
}
