//! An entry on its way into the table `parked`, and back.

use tidegate_codec::decode::tuple_len;
use tidegate_journal::{Entry, EntryHeader};
use tidegate_record::{EntryMeta, StreamId};

use crate::db::parked::ParkedEntry;

/// Why entries of a stream that the catalog does not have are parked.
pub const UNKNOWN_STREAM: &str =
    "the stream is not in the catalog, and PostgreSQL does not know that it was deleted";

/// The entry as it is parked.
pub fn parked_entry(entry: &Entry) -> ParkedEntry {
    ParkedEntry {
        position: entry.header.position,
        kind: entry.header.kind,
        column_set: entry.header.column_set,
        rows: entry.header.rows,
        received_at: entry.header.received_at,
        meta: entry.meta.clone(),
        body: entry.body.clone(),
    }
}

/// The entry as it was read from the journal.
pub fn unparked_entry(stream: StreamId, parked: &ParkedEntry) -> Entry {
    let limits = "a parked entry was an entry of the journal, with its limits";
    let header = EntryHeader {
        position: parked.position,
        end: parked.position,
        kind: parked.kind,
        stream: stream.0.cast_unsigned(),
        column_set: parked.column_set,
        rows: parked.rows,
        received_at: parked.received_at,
        meta_len: u16::try_from(parked.meta.len()).expect(limits),
        body_len: u32::try_from(parked.body.len()).expect(limits),
    };
    Entry { header, meta: parked.meta.clone(), body: parked.body.clone() }
}

/// What is left of an entry of which so many of the first records are written.
pub fn rest_of(entry: &ParkedEntry, records: usize) -> ParkedEntry {
    let mut rest = entry.clone();
    for _ in 0..records {
        let length = tuple_len(&rest.body).unwrap_or(rest.body.len());
        rest.body = rest.body.slice(length..);
    }
    rest.rows -= u32::try_from(records).unwrap_or(rest.rows);
    // What a repeat of the request is told is about all of its records. The session that wrote the first of them knows
    // what became of these, and the key; no later one shall take the rest for all of it. By a polling job's cursor, which
    // was committed when the entry was parked, its run counts what becomes of the rest.
    if let Some(meta) = EntryMeta::decode(&rest.meta) {
        let mut encoded = Vec::new();
        EntryMeta { key: None, ..meta }.encode(&mut encoded);
        rest.meta = encoded.into();
    }
    rest
}
