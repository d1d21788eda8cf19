//! A polling job's cursor: what of its answers an entry holds, committed with the entry's rows.

use uuid::Uuid;

/// Most items that one entry's cursor names; all of an entry's meta must fit 64 KiB.
pub const CURSOR_ITEMS_MAX: usize = 1_000;

const HASH_BYTES: usize = 16;
/// Job, fence, run, number of changed items.
const HEAD_BYTES: usize = 16 + 8 + 16 + 4;

/// Half a SHA-256 of an item's key, or of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemHash(pub [u8; HASH_BYTES]);

/// An item as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenItem {
    pub key: ItemHash,
    pub content: ItemHash,
}

/// A run of a polling job: its rows are committed only while it is the job's latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub job: Uuid,
    /// Grows with every run of the job.
    pub fence: i64,
    /// Never the same for two runs, not even if a database that was set back gives the same number again.
    pub run: Uuid,
}

/// What an entry tells of the items that its records were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub run: RunId,
    /// How many of them were there before, with other content.
    pub changed: u32,
    /// At most [`CURSOR_ITEMS_MAX`].
    pub seen: Vec<SeenItem>,
}

impl Cursor {
    /// How many of the items were never there before.
    pub fn fresh(&self) -> u64 {
        (self.seen.len() as u64).saturating_sub(u64::from(self.changed))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.seen.len() * 2 * HASH_BYTES);
        out.extend_from_slice(self.run.job.as_bytes());
        out.extend_from_slice(&self.run.fence.to_le_bytes());
        out.extend_from_slice(self.run.run.as_bytes());
        out.extend_from_slice(&self.changed.to_le_bytes());
        for item in &self.seen {
            out.extend_from_slice(&item.key.0);
            out.extend_from_slice(&item.content.0);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Cursor> {
        let (job, rest) = bytes.split_first_chunk::<16>()?;
        let (fence, rest) = rest.split_first_chunk::<8>()?;
        let (run, rest) = rest.split_first_chunk::<16>()?;
        let (changed, rest) = rest.split_first_chunk::<4>()?;
        let (pairs, []) = rest.as_chunks::<{ 2 * HASH_BYTES }>() else { return None };
        let item = |pair: &[u8; 2 * HASH_BYTES]| {
            let (key, content) = pair.split_first_chunk::<HASH_BYTES>()?;
            Some(SeenItem { key: ItemHash(*key), content: ItemHash(content.try_into().ok()?) })
        };
        let run = RunId {
            job: Uuid::from_bytes(*job),
            fence: i64::from_le_bytes(*fence),
            run: Uuid::from_bytes(*run),
        };
        let seen = pairs.iter().map(item).collect::<Option<Vec<SeenItem>>>()?;
        Some(Cursor { run, changed: u32::from_le_bytes(*changed), seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EntryMeta, Source};

    fn cursor(items: u8) -> Cursor {
        let item = |n| SeenItem { key: ItemHash([n; 16]), content: ItemHash([n ^ 255; 16]) };
        let run = RunId { job: Uuid::from_u128(1), fence: -2, run: Uuid::from_u128(3) };
        Cursor { run, changed: 1, seen: (0..items).map(item).collect() }
    }

    #[test]
    fn a_cursor_survives_the_journal() {
        for items in [0, 1, 3] {
            let cursor = cursor(items);
            let meta =
                EntryMeta { cursor: Some(cursor.clone()), ..EntryMeta::new(Source::Poll, "ada") };
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            assert_eq!(EntryMeta::cursor_of(&bytes), Some(cursor.clone()));
            assert_eq!(EntryMeta::decode(&bytes), Some(meta));
            let encoded = cursor.encode();
            assert_eq!(Cursor::decode(&encoded[..encoded.len() - 1]), None);
        }
    }

    #[test]
    fn the_largest_cursor_fits_an_entry() {
        let mut largest = cursor(1);
        largest.seen = vec![largest.seen[0]; CURSOR_ITEMS_MAX];
        let user = "u".repeat(crate::record::USER_NAME_BYTES_MAX);
        let meta = EntryMeta { cursor: Some(largest), ..EntryMeta::new(Source::Poll, user) };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert!(u16::try_from(bytes.len()).is_ok());
    }

    #[test]
    fn records_of_other_sources_have_no_cursor() {
        let meta = EntryMeta { cursor: Some(cursor(1)), ..EntryMeta::new(Source::Http, "ada") };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(EntryMeta::cursor_of(&bytes), None);
        assert_eq!(EntryMeta::cursor_of(&[]), None);
    }
}
