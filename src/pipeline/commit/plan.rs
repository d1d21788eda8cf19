//! Where the entries of a batch go.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_codec::{Stream, StreamsSnapshot};
use tidegate_journal::Entry;
use tidegate_record::{ColumnSet, EntryKind, StreamId};

use super::batch::{is_for_table, stream_of};
use crate::db::batch::{Fit, Staged};
use crate::pipeline::parking::{Parked, Parking};

/// Entries of a batch that go to the same place.
#[derive(Debug)]
pub(super) struct Part {
    pub destination: Destination,
    /// Its tuples are changes of records.
    pub has_changes: bool,
    pub column_set: ColumnSet,
    /// How their tuples come into the stream's table.
    pub fit: Fit,
    /// Their numbers in the batch.
    pub entries: Vec<usize>,
    pub bodies: Vec<Bytes>,
}

impl Part {
    /// Without entries yet; its tuples are thought to be of the table's own form.
    pub fn new(destination: Destination, has_changes: bool, column_set: ColumnSet) -> Part {
        let (entries, bodies) = (Vec::new(), Vec::new());
        Part { destination, has_changes, column_set, fit: Fit::EXACT, entries, bodies }
    }

    /// The same for entries like this one.
    pub fn like(entry: &Entry, destination: Destination) -> Part {
        let has_changes = entry.header.kind == EntryKind::Changes.code();
        Part::new(destination, has_changes, entry.header.column_set)
    }

    /// Whether an entry has tuples of the same form.
    pub fn takes(&self, entry: &Entry) -> bool {
        let has_changes = entry.header.kind == EntryKind::Changes.code();
        (has_changes, entry.header.column_set) == (self.has_changes, self.column_set)
    }

    /// Where the part is staged on its way into the stream's table.
    pub fn staged<'a>(&'a self, stream: &'a Stream) -> Staged<'a> {
        let (column_set, has_changes) = (self.column_set, self.has_changes);
        Staged { stream, column_set, has_changes, fit: &self.fit }
    }
}

#[derive(Debug)]
pub(super) enum Destination {
    Table(Arc<Stream>),
    /// Staged, then merged by key.
    Keyed(Arc<Stream>),
    Quarantine,
    /// The stream's table cannot be written now.
    Parked(Parked),
    /// The catalog does not have the stream: it was deleted, and its records with it, or PostgreSQL was set back.
    Unknown(StreamId),
}

impl Destination {
    /// The stream whose table is written.
    pub fn stream(&self) -> Option<&Arc<Stream>> {
        match self {
            Destination::Table(stream) | Destination::Keyed(stream) => Some(stream),
            _ => None,
        }
    }
}

/// Groups entries by where they go, in the order in which each place is first met.
pub(super) fn plan(entries: &[Entry], streams: &StreamsSnapshot, parking: &Parking) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut index: BTreeMap<(u8, StreamId, ColumnSet), usize> = BTreeMap::new();
    let mut latest: BTreeMap<StreamId, (u8, ColumnSet)> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let id = stream_of(entry);
        let for_table = is_for_table(entry);
        let form = (entry.header.kind, entry.header.column_set);
        let place = (form.0, if for_table { id } else { StreamId(0) }, form.1);
        // Of a keyed stream a part is consecutive entries, so that their order is kept over a change of the columns, and
        // between records and changes of them.
        let is_keyed = for_table && streams.by_id(id).is_some_and(|stream| stream.key.is_some());
        if is_keyed && latest.insert(id, form).is_some_and(|before| before != form) {
            index.remove(&place);
        }
        let part = *index.entry(place).or_insert_with(|| {
            let destination = match streams.by_id(id) {
                _ if !for_table => Destination::Quarantine,
                None => parking.join(id).map_or(Destination::Unknown(id), Destination::Parked),
                Some(stream) => destination(stream, parking),
            };
            parts.push(Part::like(entry, destination));
            parts.len() - 1
        });
        parts[part].entries.push(number);
        parts[part].bodies.push(entry.body.clone());
    }
    parts
}

fn destination(stream: &Arc<Stream>, parking: &Parking) -> Destination {
    match parking.join(stream.id) {
        Some(parked) => Destination::Parked(parked),
        None if stream.key.is_some() => Destination::Keyed(Arc::clone(stream)),
        None => Destination::Table(Arc::clone(stream)),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_codec::{Key, KeyField, OnDuplicate, PayloadType, Shape};
    use tidegate_journal::EntryHeader;
    use tidegate_record::{Position, UnixMicros};
    use time::OffsetDateTime;

    use super::*;

    fn stream(id: i32, is_keyed: bool) -> Stream {
        let fields = vec![KeyField::Pointer(vec!["k".to_owned()])];
        Stream {
            id: StreamId(id),
            name: format!("s{id}").parse().unwrap(),
            shape: Shape::Document { payload: PayloadType::Json },
            key: is_keyed.then_some(Key { fields, on_duplicate: OnDuplicate::Replace }),
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn entry(stream: u32, column_set: ColumnSet) -> Entry {
        let header = EntryHeader {
            position: Position(0),
            end: Position(0),
            kind: EntryKind::Records.code(),
            stream,
            column_set,
            rows: 1,
            received_at: UnixMicros(0),
            meta_len: 0,
            body_len: 0,
        };
        Entry { header, meta: Bytes::new(), body: Bytes::new() }
    }

    /// A request that began before a column was added may send its last records after it.
    #[test]
    fn entries_of_a_keyed_stream_keep_their_order_over_a_change_of_columns() {
        let streams = StreamsSnapshot::new(vec![stream(1, true), stream(2, false)]);
        let entries = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 1), (2, 1), (1, 1)];
        let entries = entries.map(|(stream, column_set)| entry(stream, ColumnSet(column_set)));
        let parts = plan(&entries, &streams, &Parking::default());
        let groups: Vec<(u32, &[usize])> =
            parts.iter().map(|part| (part.column_set.0, &part.entries[..])).collect();
        let expected: [(u32, &[usize]); 5] =
            [(1, &[0]), (1, &[1, 5]), (2, &[2]), (2, &[3]), (1, &[4, 6])];
        assert_eq!(groups, expected);
    }
}
