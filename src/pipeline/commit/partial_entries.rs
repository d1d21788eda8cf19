//! Parked entries of which only the first records are in their table so far: what became of these is told with the rest.
//!
//! That is known to the session that wrote them, and lost with it. PostgreSQL keeps the rest of such an entry without its
//! key (`parking/entries.rs`), so the next session takes the outcome of the rest for that of no request.

use std::collections::HashMap;

use bytes::Bytes;
use tidegate_codec::decode::tuple_len;
use tidegate_journal::Entry;
use tidegate_record::StreamId;

use crate::pipeline::admission::CommitOutcome;

/// One session's, at most one of each stream: they are drained in order.
#[derive(Debug, Default)]
pub(super) struct PartialEntries(HashMap<StreamId, PartialEntry>);

#[derive(Debug)]
struct PartialEntry {
    /// As it was parked, with its first record alone: a request waits for the id of that.
    entry: Entry,
    /// Of the records that left so far.
    outcome: CommitOutcome,
}

impl PartialEntries {
    /// The first records of what is left of an entry are committed, with this outcome.
    pub fn add(&mut self, stream: StreamId, entry: &Entry, outcome: CommitOutcome) {
        let new =
            || PartialEntry { entry: with_first_record(entry), outcome: CommitOutcome::default() };
        let mut partial = self.take(stream, entry).unwrap_or_else(new);
        partial.outcome.add(outcome);
        self.0.insert(stream, partial);
    }

    /// All that was left of an entry is committed, with this outcome. Where its first records left before: the entry as it
    /// was parked, with its first record alone, and what became of all of them.
    pub fn end(
        &mut self,
        stream: StreamId,
        entry: &Entry,
        outcome: CommitOutcome,
    ) -> Option<(Entry, CommitOutcome)> {
        let PartialEntry { entry, outcome: mut sum } = self.take(stream, entry)?;
        sum.add(outcome);
        Some((entry, sum))
    }

    fn take(&mut self, stream: StreamId, entry: &Entry) -> Option<PartialEntry> {
        let partial = self.0.remove(&stream)?;
        (partial.entry.header.position == entry.header.position).then_some(partial)
    }
}

/// The entry with a copy of its first record, so that the memory of the others is given back.
fn with_first_record(entry: &Entry) -> Entry {
    let mut first = entry.clone();
    let length = tuple_len(&entry.body).unwrap_or(entry.body.len());
    first.body = Bytes::copy_from_slice(&entry.body[..length]);
    first
}

#[cfg(test)]
mod tests {
    use tidegate_journal::EntryHeader;
    use tidegate_record::{ColumnSet, EntryKind, Position, UnixMicros};

    use super::*;

    const STREAM: StreamId = StreamId(7);

    fn entry(position: u64, meta: &'static str, body: &'static [u8]) -> Entry {
        let header = EntryHeader {
            position: Position(position),
            end: Position(position),
            kind: EntryKind::Records.code(),
            stream: STREAM.0.cast_unsigned(),
            column_set: ColumnSet(0),
            rows: 0,
            received_at: UnixMicros(0),
            meta_len: 0,
            body_len: 0,
        };
        Entry { header, meta: Bytes::from(meta), body: Bytes::from_static(body) }
    }

    fn outcome(committed: u64, refused: u64) -> CommitOutcome {
        CommitOutcome { committed, refused, ..CommitOutcome::default() }
    }

    #[test]
    fn the_end_of_an_entry_is_told_of_all_of_it_as_it_was_parked() {
        // Tuples of one field of one byte.
        let records = b"\0\x01\0\0\0\x01a\0\x01\0\0\0\x01b\0\x01\0\0\0\x01c";
        let mut partial = PartialEntries::default();
        partial.add(STREAM, &entry(64, "with a key", records), outcome(1, 0));
        partial.add(STREAM, &entry(64, "", &records[7..]), outcome(0, 1));
        let of_another = partial.end(StreamId(8), &entry(64, "", records), outcome(3, 0));
        assert!(of_another.is_none());
        let last = entry(64, "", &records[14..]);
        let (whole, sum) = partial.end(STREAM, &last, outcome(1, 0)).unwrap();
        assert_eq!((&whole.meta[..], &whole.body[..]), (&b"with a key"[..], &records[..7]));
        assert_eq!(sum, outcome(2, 1));
        assert!(partial.end(STREAM, &last, outcome(1, 0)).is_none(), "it is told once");
    }

    #[test]
    fn what_was_begun_of_an_entry_that_is_gone_is_not_another_s() {
        let mut partial = PartialEntries::default();
        partial.add(STREAM, &entry(64, "", b"\0\0"), outcome(5, 5));
        assert!(partial.end(STREAM, &entry(128, "", b"\0\0"), outcome(1, 0)).is_none());
    }
}
