//! Turns the records of one request into entries: good ones into tuples of the stream's table, refused ones into tuples
//! of the quarantine.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::db::quarantine::QuarantinedRecord;
use crate::journal::{EntryDraft, SealedEntry};
use crate::record::{EntryKind, EntryMeta, Source, UnixMicros};
use crate::sources::formats::{RecordPlace, RecordSink};
use crate::streams::Stream;
use crate::streams::encode::{RecordError, TuplePrefix};

/// An entry is handed on at this many bytes or records, so that a large body is never held in memory.
pub const ENTRY_TARGET_BYTES: usize = 1 << 20;
pub const ENTRY_TARGET_ROWS: u32 = 10_000;
/// Most errors that a reply lists.
pub const RECORD_ERRORS_MAX: usize = 100;
/// Room that a new entry begins with.
const DRAFT_BYTES: usize = 4 << 10;

/// A refused record, as the reply shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PlacedError {
    pub record: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub code: &'static str,
    pub message: String,
}

/// What a request's sender wants and is.
#[derive(Debug, Clone)]
pub struct Origin {
    pub stream: Arc<Stream>,
    pub source: Source,
    pub user: Arc<str>,
    pub received_at: UnixMicros,
    /// All records must fit one entry (`on_error=reject`).
    pub one_entry: bool,
    /// Refused records are kept in the quarantine.
    pub keep_refused: bool,
}

/// Entries that are ready for the journal.
#[derive(Debug)]
pub struct Assembled {
    pub entries: Vec<SealedEntry>,
    /// The good records among them: id of the first, and how many.
    pub first_id: Uuid,
    pub rows: u32,
    pub quarantined: u32,
}

/// Gathers records; see the module.
#[derive(Debug)]
pub struct Assembler {
    origin: Origin,
    column_set: u32,
    meta: Vec<u8>,
    records: EntryDraft,
    rows: u32,
    first_id: Uuid,
    quarantine: Option<EntryDraft>,
    quarantined: u32,
    errors: Vec<PlacedError>,
    refused: u64,
}

impl Assembler {
    pub fn new(origin: Origin, column_set: u32) -> Assembler {
        let mut meta = Vec::with_capacity(64);
        EntryMeta { source: origin.source, user: origin.user.to_string() }.encode(&mut meta);
        Assembler {
            records: EntryDraft::new(&meta, DRAFT_BYTES),
            first_id: first_id(origin.received_at),
            origin,
            column_set,
            meta,
            rows: 0,
            quarantine: None,
            quarantined: 0,
            errors: Vec::new(),
            refused: 0,
        }
    }

    /// The first refused records, at most [`RECORD_ERRORS_MAX`].
    pub fn errors(&self) -> &[PlacedError] {
        &self.errors
    }

    /// How many records were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.records.body_len() + self.quarantine.as_ref().map_or(0, EntryDraft::body_len)
    }

    /// Takes what was gathered; `None` if there is nothing.
    pub fn take(&mut self) -> Option<Assembled> {
        let stream = u32::try_from(self.origin.stream.id.0).unwrap_or(u32::MAX);
        let received_at = self.origin.received_at;
        let mut entries = Vec::with_capacity(2);
        if self.rows > 0 {
            let draft =
                std::mem::replace(&mut self.records, EntryDraft::new(&self.meta, DRAFT_BYTES));
            let kind = EntryKind::Records.code();
            entries.push(draft.seal(kind, stream, self.column_set, self.rows, received_at));
        }
        if let Some(draft) = self.quarantine.take() {
            let kind = EntryKind::Quarantine.code();
            entries.push(draft.seal(kind, stream, 0, self.quarantined, received_at));
        }
        if entries.is_empty() {
            return None;
        }
        let taken = Assembled {
            entries,
            first_id: self.first_id,
            rows: self.rows,
            quarantined: self.quarantined,
        };
        // The ids of a body's records are consecutive, over all its entries.
        self.first_id = nth_id(self.first_id, self.rows);
        self.rows = 0;
        self.quarantined = 0;
        Some(taken)
    }

    fn keep(&mut self, place: RecordPlace, error: &RecordError, raw: &[u8], truncated: bool) {
        let meta = &self.meta;
        let draft = self.quarantine.get_or_insert_with(|| EntryDraft::new(meta, DRAFT_BYTES));
        let record = QuarantinedRecord {
            id: first_id(self.origin.received_at),
            received_at: self.origin.received_at,
            stream: self.origin.stream.id,
            source: self.origin.source,
            user: &self.origin.user,
            record: Some(place.record),
            line: place.line,
            column: error.column.as_deref(),
            code: error.code.as_str(),
            message: &error.message,
            raw,
            truncated,
        };
        record.encode(draft.buffer_mut());
        self.quarantined += 1;
    }
}

impl RecordSink for Assembler {
    fn prefix(&mut self) -> TuplePrefix {
        TuplePrefix { id: nth_id(self.first_id, self.rows), received_at: self.origin.received_at }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        self.records.buffer_mut()
    }

    fn encoded(&mut self) {
        self.rows += 1;
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError, raw: &[u8], truncated: bool) {
        if self.origin.keep_refused {
            self.keep(place, &error, raw, truncated);
        }
        self.refused += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(PlacedError {
                record: place.record,
                line: place.line,
                column: error.column,
                code: error.code.as_str(),
                message: error.message,
            });
        }
    }

    fn is_full(&self) -> bool {
        !self.origin.one_entry
            && (self.bytes() >= ENTRY_TARGET_BYTES
                || self.rows >= ENTRY_TARGET_ROWS
                || self.quarantined >= ENTRY_TARGET_ROWS)
    }
}

/// A fresh UUIDv7 whose following ids are free as well: the highest random bit is 0, so that counting up from it
/// never reaches the variant.
fn first_id(at: UnixMicros) -> Uuid {
    let milliseconds = u64::try_from(at.0 / 1_000).unwrap_or_default();
    let mut random: [u8; 10] = rand::random();
    random[2] &= 0x1f;
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

/// The id of an entry's record, counted from 0.
pub fn nth_id(first: Uuid, index: u32) -> Uuid {
    Uuid::from_u128(first.as_u128() + u128::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_an_entry_are_version_7_and_consecutive() {
        for _ in 0..1_000 {
            let first = first_id(UnixMicros(1_700_000_000_000_000));
            let last = nth_id(first, u32::MAX);
            for id in [first, last] {
                assert_eq!(id.get_version_num(), 7);
                assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
                assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_700_000_000);
            }
            assert!(first < last);
        }
    }
}
