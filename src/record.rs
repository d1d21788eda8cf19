//! The words every layer shares: positions, ids, the kind of an entry, and where a record came from.
//!
//! Nothing here does I/O. Numbers are newtypes, so that a stream cannot be taken for a position.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{OffsetDateTime, PrimitiveDateTime};

/// A byte offset in the endless journal. It only grows, over restarts too. Shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text was not 1 to 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is 1 to 16 hexadecimal digits")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(InvalidPosition);
        }
        u64::from_str_radix(text, 16).map(Position).map_err(|_| InvalidPosition)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The number of a stream in the catalog; it is never used again after a stream is deleted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct StreamId(pub i32);

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// The same moment as PostgreSQL and JSON know it. Years beyond 9999 become the last moment of 9999.
    pub fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .unwrap_or(PrimitiveDateTime::MAX.assume_utc())
    }
}

/// Where a record entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Http,
    Poll,
    File,
}

impl Source {
    /// Every source, for metrics and tests.
    pub const ALL: [Source; 3] = [Source::Http, Source::Poll, Source::File];

    /// The word used in messages, metrics and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Http => "http",
            Source::Poll => "poll",
            Source::File => "file",
        }
    }

    fn code(self) -> u8 {
        match self {
            Source::Http => 1,
            Source::Poll => 2,
            Source::File => 3,
        }
    }

    fn from_code(code: u8) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.code() == code)
    }
}

/// What an entry's tuples are for: the stream's own table, or the table `quarantine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    Records,
    Quarantine,
}

impl EntryKind {
    /// The number that the journal keeps.
    pub fn code(self) -> u8 {
        match self {
            EntryKind::Records => 1,
            EntryKind::Quarantine => 2,
        }
    }

    /// The kind that the journal kept, if this version knows it.
    pub fn from_code(code: u8) -> Option<EntryKind> {
        match code {
            1 => Some(EntryKind::Records),
            2 => Some(EntryKind::Quarantine),
            _ => None,
        }
    }
}

/// What an entry tells beside its tuples. It travels in the entry as tag, length (u16, little endian), bytes;
/// an unknown tag is skipped, so that later versions may add some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    pub source: Source,
    /// Name of the user who sent it.
    pub user: String,
}

const TAG_SOURCE: u8 = 1;
const TAG_USER: u8 = 2;

/// Longest name of a user, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 200;

impl EntryMeta {
    /// Appends the tagged form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_field(out, TAG_SOURCE, &[self.source.code()]);
        put_field(out, TAG_USER, self.user.as_bytes());
    }

    /// Reads the tagged form; `None` if it is not well formed or names no source.
    pub fn decode(mut bytes: &[u8]) -> Option<EntryMeta> {
        let mut source = None;
        let mut user = String::new();
        while let [tag, low, high, rest @ ..] = bytes {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let (value, rest) = rest.split_at_checked(length)?;
            match *tag {
                TAG_SOURCE => source = Source::from_code(*value.first()?),
                TAG_USER => user = String::from_utf8(value.to_vec()).ok()?,
                _ => {}
            }
            bytes = rest;
        }
        if !bytes.is_empty() {
            return None;
        }
        Some(EntryMeta { source: source?, user })
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("fields are limited to far less than 64 KiB");
    out.push(tag);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_reads_what_it_shows() {
        for value in [0, 1, 0xa3f10, u64::MAX] {
            let position = Position(value);
            assert_eq!(position.to_string().len(), 16);
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "g", "-1", "+1", "00000000000000000"] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }

    #[test]
    fn meta_survives_the_journal_and_later_tags() {
        let meta = EntryMeta { source: Source::Poll, user: "ada".into() };
        let mut bytes = Vec::new();
        put_field(&mut bytes, 99, b"from a later version");
        meta.encode(&mut bytes);
        assert_eq!(EntryMeta::decode(&bytes), Some(meta));
        assert_eq!(EntryMeta::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(EntryMeta::decode(&[]), None);
    }
}
