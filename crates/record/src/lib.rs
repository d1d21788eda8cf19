//! The words every layer shares: positions, ids, the kind of an entry, and where a record came from.
//!
//! Nothing here does I/O, but that [`clock`] reads the time of day. Numbers are newtypes, so that a stream cannot be taken
//! for a position.

pub mod clock;
mod column_set;
mod density;
mod seen_items;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{OffsetDateTime, PrimitiveDateTime};
use uuid::Uuid;

pub use column_set::ColumnSet;
pub use density::{DENSE_EXCESS_MIN, excess_members};
pub use seen_items::{ItemHash, RunId, SEEN_ITEMS_MAX, SeenItem, SeenItems};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
pub struct StreamId(pub i32);

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// From a moment as PostgreSQL gives it.
    pub fn of(moment: OffsetDateTime) -> UnixMicros {
        let micros = moment.unix_timestamp_nanos() / 1_000;
        UnixMicros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

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
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 2] = [Source::Http, Source::Poll];

    /// The word used in messages, metrics and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Http => "http",
            Source::Poll => "poll",
        }
    }

    fn code(self) -> u8 {
        match self {
            Source::Http => 1,
            Source::Poll => 2,
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
    /// Changes of a stream's records.
    Changes,
}

impl EntryKind {
    /// The number that the journal keeps.
    pub fn code(self) -> u8 {
        match self {
            EntryKind::Records => 1,
            EntryKind::Quarantine => 2,
            EntryKind::Changes => 3,
        }
    }

    /// The kind that the journal kept, if this version knows it.
    pub fn from_code(code: u8) -> Option<EntryKind> {
        match code {
            1 => Some(EntryKind::Records),
            2 => Some(EntryKind::Quarantine),
            3 => Some(EntryKind::Changes),
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
    /// Of an entry whose request came with an idempotency key.
    pub key: Option<EntryKey>,
    /// The quarantined record that this entry's only record replays: its row goes in the transaction that commits the
    /// entry.
    pub replays: Option<Uuid>,
    /// Of an entry of a polling job's run.
    pub seen_items: Option<SeenItems>,
    /// How many keys and values its tuples' documents have, where these are more than [`excess_members`] takes for likely:
    /// PostgreSQL takes longer over them than the bytes say.
    pub members: Option<u32>,
}

/// What tells an idempotency key from others: a hash of whose it is, where it holds, and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 16]);

/// What tells the request of a key from another one with the same key: a hash of its body and of how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHash(pub [u8; 16]);

/// What an entry tells of its request's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryKey {
    pub key: KeyHash,
    pub body: BodyHash,
    /// What the request was answered, at most [`ANSWER_BYTES_MAX`] bytes. Only the last of a request's entries has it:
    /// without it the request was not taken as a whole.
    pub answer: Option<Vec<u8>>,
}

const TAG_SOURCE: u8 = 1;
const TAG_USER: u8 = 2;
const TAG_KEY: u8 = 3;
const TAG_ANSWER: u8 = 4;
const TAG_REPLAYS: u8 = 5;
const TAG_SEEN_ITEMS: u8 = 6;
const TAG_MEMBERS: u8 = 7;

/// Longest name of a user, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 200;
/// Longest answer that an entry keeps, in bytes; all of an entry's meta must fit 64 KiB.
pub const ANSWER_BYTES_MAX: usize = 48 << 10;

impl EntryMeta {
    /// Of an entry without a key.
    pub fn new(source: Source, user: impl Into<String>) -> EntryMeta {
        EntryMeta {
            source,
            user: user.into(),
            key: None,
            replays: None,
            seen_items: None,
            members: None,
        }
    }

    /// Appends the tagged form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_field(out, TAG_SOURCE, &[self.source.code()]);
        put_field(out, TAG_USER, self.user.as_bytes());
        if let Some(EntryKey { key, body, answer }) = &self.key {
            put_field(out, TAG_KEY, &[key.0, body.0].concat());
            if let Some(answer) = answer {
                put_field(out, TAG_ANSWER, answer);
            }
        }
        if let Some(id) = self.replays {
            put_field(out, TAG_REPLAYS, id.as_bytes());
        }
        if let Some(seen_items) = &self.seen_items {
            put_field(out, TAG_SEEN_ITEMS, &seen_items.encode());
        }
        if let Some(members) = self.members {
            put_field(out, TAG_MEMBERS, &members.to_le_bytes());
        }
    }

    /// Reads the tagged form; `None` if it is not well formed or names no source.
    pub fn decode(bytes: &[u8]) -> Option<EntryMeta> {
        let (mut source, mut replays, mut seen_items, mut members) = (None, None, None, None);
        let (mut user, mut key, mut answer) = (String::new(), None, None);
        for field in Fields(bytes) {
            let (tag, value) = field?;
            match tag {
                TAG_SOURCE => source = Source::from_code(*value.first()?),
                TAG_USER => user = String::from_utf8(value.to_vec()).ok()?,
                TAG_KEY => key = Some(hashes(value)?),
                TAG_ANSWER => answer = Some(value.to_vec()),
                TAG_REPLAYS => replays = Some(Uuid::from_slice(value).ok()?),
                TAG_SEEN_ITEMS => seen_items = Some(SeenItems::decode(value)?),
                TAG_MEMBERS => members = Some(u32::from_le_bytes(value.try_into().ok()?)),
                _ => {}
            }
        }
        let key = key.map(|(key, body)| EntryKey { key, body, answer });
        Some(EntryMeta { source: source?, user, key, replays, seen_items, members })
    }

    /// The idempotency key of an entry with this meta, without reading the rest of it.
    pub fn key_of(bytes: &[u8]) -> Option<KeyHash> {
        Some(hashes(value_of(bytes, TAG_KEY)?)?.0)
    }

    /// The quarantined record that an entry with this meta replays, without reading the rest of it.
    pub fn replays_of(bytes: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(value_of(bytes, TAG_REPLAYS)?).ok()
    }

    /// How many keys and values the documents of an entry with this meta have, where they are many for their bytes.
    pub fn members_of(bytes: &[u8]) -> Option<u32> {
        Some(u32::from_le_bytes(value_of(bytes, TAG_MEMBERS)?.try_into().ok()?))
    }

    /// The seen items of an entry with this meta. Costs entries of other sources a look at one byte.
    pub fn seen_items_of(bytes: &[u8]) -> Option<SeenItems> {
        let [TAG_SOURCE, 1, 0, source, ..] = bytes else { return None };
        if *source != Source::Poll.code() {
            return None;
        }
        SeenItems::decode(value_of(bytes, TAG_SEEN_ITEMS)?)
    }
}

fn hashes(value: &[u8]) -> Option<(KeyHash, BodyHash)> {
    let (key, body) = value.split_at_checked(16)?;
    Some((KeyHash(key.try_into().ok()?), BodyHash(body.try_into().ok()?)))
}

fn value_of(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    Fields(bytes).flatten().find_map(|(tag, value)| (tag == wanted).then_some(value))
}

/// The fields of a tagged form as tag and value; `None`, and nothing more, where it is broken.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let [tag, low, high, rest @ ..] = bytes else { return Some(None) };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return Some(None) };
        self.0 = rest;
        Some(Some((*tag, value)))
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("fields are limited to less than 64 KiB");
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
        let plain = EntryMeta::new(Source::Poll, "ada");
        let key = EntryKey { key: KeyHash([7; 16]), body: BodyHash([9; 16]), answer: None };
        let answered = EntryKey { answer: Some(b"{}".to_vec()), ..key.clone() };
        let replays = Some(Uuid::from_u128(5));
        for meta in [
            plain.clone(),
            EntryMeta { key: Some(key), ..plain.clone() },
            EntryMeta { members: Some(300_000), ..plain.clone() },
            EntryMeta { key: Some(answered), replays, members: Some(7), ..plain },
        ] {
            let mut bytes = Vec::new();
            put_field(&mut bytes, 99, b"from a later version");
            meta.encode(&mut bytes);
            assert_eq!(EntryMeta::key_of(&bytes), meta.key.as_ref().map(|key| key.key));
            assert_eq!(EntryMeta::replays_of(&bytes), meta.replays);
            assert_eq!(EntryMeta::members_of(&bytes), meta.members);
            assert_eq!(EntryMeta::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(EntryMeta::decode(&bytes), Some(meta));
        }
        assert_eq!(EntryMeta::decode(&[]), None);
        assert_eq!(EntryMeta::key_of(&[TAG_KEY, 2, 0, 1, 2]), None);
    }
}
