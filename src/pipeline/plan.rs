//! Where the entries of a batch go.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::journal::Entry;
use crate::pipeline::batcher::stream_of;
use crate::pipeline::parking::{Parked, Parking};
use crate::record::{EntryKind, StreamId};
use crate::streams::{Stream, StreamsSnapshot};

/// Entries of a batch that go to the same place.
#[derive(Debug)]
pub(super) struct Part {
    pub destination: Destination,
    pub column_set: u32,
    /// Their numbers in the batch.
    pub entries: Vec<usize>,
    pub bodies: Vec<Bytes>,
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
    let mut index: BTreeMap<(u8, StreamId, u32), usize> = BTreeMap::new();
    let mut latest: BTreeMap<StreamId, u32> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let id = stream_of(entry);
        let records = EntryKind::from_code(entry.header.kind) == Some(EntryKind::Records);
        let place = if records {
            (entry.header.kind, id, entry.header.column_set)
        } else {
            (entry.header.kind, StreamId(0), entry.header.column_set)
        };
        // Of a keyed stream a part is consecutive entries, so that their order is kept over a change of the columns.
        let column_set = entry.header.column_set;
        let is_keyed = records && streams.by_id(id).is_some_and(|stream| stream.key.is_some());
        if is_keyed && latest.insert(id, column_set).is_some_and(|before| before != column_set) {
            index.remove(&place);
        }
        let part = *index.entry(place).or_insert_with(|| {
            let destination = match streams.by_id(id) {
                _ if !records => Destination::Quarantine,
                None => parking.join(id).map_or(Destination::Unknown(id), Destination::Parked),
                Some(stream) => destination(stream, parking),
            };
            parts.push(Part { destination, column_set, entries: Vec::new(), bodies: Vec::new() });
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
