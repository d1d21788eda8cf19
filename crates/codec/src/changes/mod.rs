//! Changes: what replaces a record of a stream with a key, alters it, or deletes it.
//!
//! A change is sent as a line ([`ChangeLine`]) and kept as a tuple: the stream's own, then the fields of
//! [`CHANGE_FIELDS`]. So the entries of changes go through the journal, into staging tables and aside as those of records do.
//!
//! What the stream's part of the tuple holds:
//! - `put`: the whole record;
//! - by key: the fields of the key (of a document: a document that has the key), nothing else unless it is assigned;
//! - `patch` of a typed stream: the columns that it assigns, NULL where that is the value.
//!
//! The tuple's id is the change's own. A record that a `put` by key makes has it.

mod decode;
mod line;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

pub(crate) use decode::put_bytes;
pub use decode::{DecodedChange, decode_change};
pub use line::ChangeLine;
pub(crate) use line::invalid;

/// What a tuple has behind the stream's own fields, and the types of these.
pub const CHANGE_FIELDS: [(&str, &str); 5] = [
    // Numbers as [`ChangeOp::code`] says.
    ("op", "smallint"),
    // The id of the record; NULL: by key.
    ("target", "uuid"),
    // Bytes as [`Precondition::as_bytes`] says; NULL: none.
    ("precondition", "bytea"),
    // Of a patch: a bit for each declared column that it assigns, the first column's the lowest of the first byte.
    ("assigned", "bytea"),
    // Of a patch: what is merged into the document, or into `extra`.
    ("merged", "jsonb"),
];

/// How deep the objects of a patch may be inside each other that are merged: each level copies what is in it.
pub const MERGED_DEPTH_MAX: usize = 32;

/// The media type of lines of changes.
pub const CHANGES_MEDIA_TYPE: &str = "application/vnd.tidegate.changes+x-ndjson";

/// What is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeOp {
    /// It is replaced as a whole; by key it is made where it is not there.
    Put,
    /// Members of it are replaced.
    Patch,
    Delete,
}

impl ChangeOp {
    /// The number in tuples.
    pub fn code(self) -> i16 {
        match self {
            ChangeOp::Put => 1,
            ChangeOp::Patch => 2,
            ChangeOp::Delete => 3,
        }
    }

    pub fn from_code(code: i16) -> Option<ChangeOp> {
        [ChangeOp::Put, ChangeOp::Patch, ChangeOp::Delete].into_iter().find(|op| op.code() == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ChangeOp::Put => "put",
            ChangeOp::Patch => "patch",
            ChangeOp::Delete => "delete",
        }
    }
}

/// What has to be true of the record that a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Its content is the one with this hash.
    Is(RecordHash),
    /// It is there.
    IsThere,
    /// It is not there.
    IsNew,
}

impl Precondition {
    /// The bytes in tuples.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Precondition::Is(hash) => &hash.0,
            Precondition::IsThere => b"*",
            Precondition::IsNew => b"",
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Precondition> {
        match bytes {
            b"" => Some(Precondition::IsNew),
            b"*" => Some(Precondition::IsThere),
            hash => Some(Precondition::Is(RecordHash(hash.try_into().ok()?))),
        }
    }
}

/// The hash of a record's content, as PostgreSQL makes it. Shown as 32 hex digits; it is the record's `ETag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHash(pub [u8; 16]);

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The text was not 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a record is 32 hexadecimal digits, as its ETag has them")]
pub struct InvalidRecordHash;

impl FromStr for RecordHash {
    type Err = InvalidRecordHash;

    fn from_str(text: &str) -> Result<RecordHash, InvalidRecordHash> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidRecordHash);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidRecordHash)?;
        Ok(RecordHash(number.to_be_bytes()))
    }
}
