//! The seen items of a polling job: what of its answers an entry holds, committed with the entry's rows.

use uuid::Uuid;

/// Most items that one entry names; all of an entry's meta must fit 64 KiB.
pub const SEEN_ITEMS_MAX: usize = 1_000;

const HASH_BYTES: usize = 16;
/// Job, fence, run, number of items.
const HEAD_BYTES: usize = 16 + 8 + 16 + 4;
/// In the number of items: a bit for each says whether it is changed. Without it the number is of the changed items, of
/// which it is not known which they are.
const HAS_BITS: u32 = 1 << 31;

/// Half a SHA-256 of an item's key, or of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemHash(pub [u8; HASH_BYTES]);

/// An item as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenItem {
    pub key: ItemHash,
    pub content: ItemHash,
    /// It was there before, with other content.
    pub is_changed: bool,
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
pub struct SeenItems {
    pub run: RunId,
    /// In the order of the records; at most [`SEEN_ITEMS_MAX`].
    pub seen: Vec<SeenItem>,
}

impl SeenItems {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.seen.len() * (2 * HASH_BYTES + 1));
        out.extend_from_slice(self.run.job.as_bytes());
        out.extend_from_slice(&self.run.fence.to_le_bytes());
        out.extend_from_slice(self.run.run.as_bytes());
        let items = u32::try_from(self.seen.len()).expect("an entry has few items");
        out.extend_from_slice(&(items | HAS_BITS).to_le_bytes());
        for eight in self.seen.chunks(8) {
            let bit = |(place, item): (usize, &SeenItem)| u8::from(item.is_changed) << place;
            out.push(eight.iter().enumerate().map(bit).sum());
        }
        for item in &self.seen {
            out.extend_from_slice(&item.key.0);
            out.extend_from_slice(&item.content.0);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<SeenItems> {
        let (job, rest) = bytes.split_first_chunk::<16>()?;
        let (fence, rest) = rest.split_first_chunk::<8>()?;
        let (run, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let number = u32::from_le_bytes(*number);
        let items = usize::try_from(number & !HAS_BITS).ok()?;
        let has_bits = number & HAS_BITS != 0;
        let (bits, rest) = rest.split_at_checked(if has_bits { items.div_ceil(8) } else { 0 })?;
        let (pairs, []) = rest.as_chunks::<{ 2 * HASH_BYTES }>() else { return None };
        if has_bits && pairs.len() != items {
            return None;
        }
        let is_changed = |place: usize| match bits.get(place / 8) {
            Some(eight) => eight >> (place % 8) & 1 == 1,
            None => place < items,
        };
        let item = |(place, pair): (usize, &[u8; 2 * HASH_BYTES])| {
            let (key, content) = pair.split_first_chunk::<HASH_BYTES>()?;
            let (key, content) = (ItemHash(*key), ItemHash(content.try_into().ok()?));
            Some(SeenItem { key, content, is_changed: is_changed(place) })
        };
        let run = RunId {
            job: Uuid::from_bytes(*job),
            fence: i64::from_le_bytes(*fence),
            run: Uuid::from_bytes(*run),
        };
        let seen = pairs.iter().enumerate().map(item).collect::<Option<Vec<SeenItem>>>()?;
        Some(SeenItems { run, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryMeta, Source};

    fn seen_items(items: u8) -> SeenItems {
        let item = |n: u8| SeenItem {
            key: ItemHash([n; 16]),
            content: ItemHash([n ^ 255; 16]),
            is_changed: n % 3 == 1,
        };
        let run = RunId { job: Uuid::from_u128(1), fence: -2, run: Uuid::from_u128(3) };
        SeenItems { run, seen: (0..items).map(item).collect() }
    }

    #[test]
    fn seen_items_survive_the_journal() {
        for items in [0, 1, 3, 8, 20] {
            let seen_items = seen_items(items);
            let meta = EntryMeta {
                seen_items: Some(seen_items.clone()),
                ..EntryMeta::new(Source::Poll, "ada")
            };
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            assert_eq!(EntryMeta::seen_items_of(&bytes), Some(seen_items.clone()));
            assert_eq!(EntryMeta::decode(&bytes), Some(meta));
            let encoded = seen_items.encode();
            assert_eq!(SeenItems::decode(&encoded[..encoded.len() - 1]), None);
        }
    }

    #[test]
    fn seen_items_of_an_earlier_version_are_read() {
        let new = seen_items(3);
        let encoded = new.encode();
        let head = &encoded[..HEAD_BYTES - 4];
        let old = [head, &1_u32.to_le_bytes(), &encoded[HEAD_BYTES + 1..]].concat();
        let read = SeenItems::decode(&old).unwrap();
        let changed =
            |seen_items: &SeenItems| seen_items.seen.iter().filter(|item| item.is_changed).count();
        assert_eq!((read.run, read.seen.len(), changed(&read)), (new.run, 3, 1));
        assert_eq!(read.seen[2], SeenItem { is_changed: false, ..new.seen[2] });
    }

    #[test]
    fn as_many_seen_items_as_may_be_fit_an_entry() {
        let mut largest = seen_items(1);
        largest.seen = vec![largest.seen[0]; SEEN_ITEMS_MAX];
        let user = "u".repeat(crate::USER_NAME_BYTES_MAX);
        let new = EntryMeta::new(Source::Poll, user);
        let meta = EntryMeta { seen_items: Some(largest), members: Some(u32::MAX), ..new };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert!(u16::try_from(bytes.len()).is_ok());
    }

    #[test]
    fn records_of_other_sources_have_no_seen_items() {
        let meta =
            EntryMeta { seen_items: Some(seen_items(1)), ..EntryMeta::new(Source::Http, "ada") };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(EntryMeta::seen_items_of(&bytes), None);
        assert_eq!(EntryMeta::seen_items_of(&[]), None);
    }
}
