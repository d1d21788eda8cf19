//! A change as it is sent: one JSON object.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{ChangeOp, Precondition};
use crate::encode::{RecordError, RecordErrorCode};

/// `{"op":"put","id":"…","data":{…}}`: what is done (`op`), to which record (`id` or `key`), with what (`data`; not of a
/// delete), and on which condition (`if_match`, the record's `ETag` or `*`; `if_none_match`, `*`).
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeLine<'a> {
    #[serde(serialize_with = "serialize_op")]
    pub op: ChangeOp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub if_none_match: Option<Cow<'a, str>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn serialize_op<S: serde::Serializer>(op: &ChangeOp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(op.as_str())
}

impl<'a> ChangeLine<'a> {
    /// Reads a JSON object whose syntax is known to be sound.
    pub(crate) fn read(line: &'a [u8]) -> Result<ChangeLine<'a>, RecordError> {
        serde_json::from_slice(line).map_err(|error| {
            // Where it is does not help: the line is one object.
            let error = error.to_string();
            let words = error.split(" at line ").next().unwrap_or_default();
            invalid(format!(
                "{words}: a change has the members op (put, patch or delete), id or key, data (not of a delete), and \
                 perhaps if_match or if_none_match"
            ))
        })
    }

    /// What has to be true of the record.
    pub(crate) fn precondition(&self) -> Result<Option<Precondition>, RecordError> {
        match (self.if_match.as_deref(), self.if_none_match.as_deref()) {
            (None, None) => Ok(None),
            (Some("*"), None) => Ok(Some(Precondition::IsThere)),
            (Some(hash), None) => {
                let hash = hash.trim_matches('"').parse();
                hash.map(|hash| Some(Precondition::Is(hash))).map_err(|error| {
                    let message = format!("if_match is \"*\" or an ETag: {error}");
                    invalid(message).in_column("if_match")
                })
            }
            (None, Some("*")) if self.op == ChangeOp::Put && self.key.is_some() => {
                Ok(Some(Precondition::IsNew))
            }
            (None, Some(_)) => {
                let message = "if_none_match can only be \"*\", and only of a put by key";
                Err(invalid(message).in_column("if_none_match"))
            }
            (Some(_), Some(_)) => Err(invalid("a change has if_match or if_none_match, not both")),
        }
    }
}

/// A change that says something else than a change does.
pub(crate) fn invalid(message: impl Into<String>) -> RecordError {
    RecordError::new(RecordErrorCode::InvalidChange, message)
}
