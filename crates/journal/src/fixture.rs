//! A small journal in memory, for the tests beside the code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_record::{ColumnSet, UnixMicros};

use super::faults::FaultStorage;
use super::segment::file_name;
use super::{
    Appended, Appender, EntryDraft, Journal, JournalOptions, OpenError, Opened, Reader, SealedEntry,
};

/// The directory of the journals in memory.
pub(super) const DIR: &str = "/journal";

/// Segments of 4 KiB, no retention.
pub(super) const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4096,
    bytes_max: 1 << 20,
    retention: Duration::ZERO,
    retention_bytes: 1 << 20,
};

pub(super) fn memory() -> FaultStorage {
    FaultStorage::new(1)
}

pub(super) fn try_open(storage: &FaultStorage) -> Result<Opened, OpenError> {
    Journal::open(Path::new(DIR), OPTIONS, storage.clone())
}

pub(super) fn open(storage: &FaultStorage) -> Opened {
    try_open(storage).unwrap()
}

pub(super) fn segment_path(first: u64) -> PathBuf {
    Path::new(DIR).join(file_name(first))
}

/// An entry of kind 1, stream 2, column set 3, 4 rows, with the meta `meta`.
pub(super) fn entry(body: &[u8], received_at: i64) -> SealedEntry {
    let mut draft = EntryDraft::new(b"meta", body.len());
    draft.buffer_mut().extend_from_slice(body);
    draft.seal(1, 2, ColumnSet(3), 4, UnixMicros(received_at))
}

/// Appends one group, an entry a body.
pub(super) fn append(appender: &mut Appender, bodies: &[&[u8]]) -> Appended {
    let mut group: Vec<SealedEntry> = bodies.iter().map(|body| entry(body, 5)).collect();
    appender.append(&mut group).unwrap()
}

/// The bodies from here to what is durable.
pub(super) fn read_bodies(reader: &mut Reader) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| reader.next().unwrap()).map(|entry| entry.body.to_vec()).collect()
}

/// The bodies of the whole journal.
pub(super) fn all_bodies(journal: &Journal) -> Vec<Vec<u8>> {
    read_bodies(&mut journal.reader(journal.first()))
}
