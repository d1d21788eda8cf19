//! Turns the records of one request into entries: good ones into tuples of the stream's table, refused ones into tuples
//! of the quarantine.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_codec::Stream;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::{MatchedName, RecordError, RecordErrorCode, TuplePrefix};
use tidegate_codec::formats::{RecordPlace, RecordSink};
use tidegate_journal::{EntryDraft, SealedEntry};
use tidegate_record::{
    ColumnSet, DENSE_EXCESS_MIN, EntryKey, EntryKind, EntryMeta, SeenItems, Source, UnixMicros,
    excess_members,
};
use uuid::Uuid;

use crate::db::quarantine::{self, QuarantinedRecord, ReadAs};
use crate::ingest::assembled::Assembled;
use crate::ingest::ids::{first_id, nth_id};
use crate::ingest::keeping::{Keeping, NotKept};
use crate::ingest::level::{ENTRY_TARGET_BYTES, Level};
use crate::pipeline::KeptAmount;
use crate::telemetry::limits;

/// Most errors that a reply lists.
pub const RECORD_ERRORS_MAX: usize = 100;
/// Room for the body that a new entry begins with. Small pieces of memory come cheaper than a page.
const DRAFT_BYTES: usize = 256;

/// A refused record, as the reply shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlacedError {
    pub record: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Only of a request of many streams: what the line says, whether or not there is such a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub code: Cow<'static, str>,
    pub message: String,
}

/// What a request's sender wants and is.
#[derive(Debug, Clone)]
pub struct Origin {
    pub stream: Arc<Stream>,
    pub source: Source,
    pub user: Arc<str>,
    pub received_at: UnixMicros,
    /// All records must fit one entry (`on_error=reject`, an idempotency key).
    pub one_entry: bool,
    /// How a body of CSV is read.
    pub csv: CsvOptions,
    /// The quarantined record that the request's only record replays.
    pub replays: Option<Uuid>,
    /// They are changes of records.
    pub has_changes: bool,
}

/// What is left of what one request may have kept and told.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    errors: usize,
    kept: Option<KeptAmount>,
}

/// What the entries of a request with a key tell of it: of the good records and of the refused ones. `None`: they are in the
/// journal already.
#[derive(Debug, Default)]
pub struct EntryKeys {
    pub records: Option<EntryKey>,
    pub quarantine: Option<EntryKey>,
}

/// Gathers records; see the module.
#[derive(Debug)]
pub struct Assembler {
    origin: Origin,
    column_set: ColumnSet,
    meta: Vec<u8>,
    records: EntryDraft,
    rows: u32,
    /// Keys and values in the documents of these.
    members: u64,
    first_id: Uuid,
    /// Decides which refused records are kept in the quarantine; `None`: none of them, for the request is refused.
    keeping: Option<Keeping>,
    quarantine: Option<EntryDraft>,
    quarantined: u32,
    /// Bytes from which on room is to be asked for, where all records must fit one entry.
    full_at_bytes: usize,
    errors: Vec<PlacedError>,
    errors_left: usize,
    refused: u64,
    csv_header: Option<Vec<u8>>,
    matched: Vec<MatchedName>,
    skipped_lines: u64,
}

impl Assembler {
    pub fn new(origin: Origin, column_set: ColumnSet, keeping: Option<Keeping>) -> Assembler {
        let mut meta = Vec::with_capacity(64);
        origin.meta(None).encode(&mut meta);
        Assembler {
            records: EntryDraft::new(&meta, DRAFT_BYTES),
            first_id: first_id(origin.received_at),
            origin,
            column_set,
            meta,
            rows: 0,
            keeping,
            members: 0,
            quarantine: None,
            quarantined: 0,
            full_at_bytes: ENTRY_TARGET_BYTES,
            errors: Vec::new(),
            errors_left: RECORD_ERRORS_MAX,
            refused: 0,
            csv_header: None,
            matched: Vec::new(),
            skipped_lines: 0,
        }
    }

    /// Makes room for the tuples of so many bytes of records, as far as they go into one entry.
    pub fn expect(&mut self, bytes: usize) {
        let left = ENTRY_TARGET_BYTES.saturating_sub(self.records.body_len());
        self.records.buffer_mut().reserve(bytes.min(left));
    }

    /// The first refused records, at most [`RECORD_ERRORS_MAX`].
    pub fn errors(&self) -> &[PlacedError] {
        &self.errors
    }

    /// How many records were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many of them are not kept, and why; `None`: the request keeps none.
    pub fn not_kept(&self) -> Option<&NotKept> {
        self.keeping.as_ref().map(Keeping::not_kept)
    }

    /// Names of a CSV header that were taken for others.
    pub fn matched(&self) -> &[MatchedName] {
        &self.matched
    }

    /// How many lines without anything were skipped; known at the end of the body.
    pub fn skipped_lines(&self) -> u64 {
        self.skipped_lines
    }

    /// Bytes that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.records.body_len() + self.quarantine.as_ref().map_or(0, EntryDraft::body_len)
    }

    /// There is room for as much again as goes into an entry, beside what waits. Only where all records must fit one entry:
    /// then nothing is taken before the end, and a few bytes of a body may become any number of bytes of tuples.
    pub fn raise(&mut self) {
        self.full_at_bytes = self.bytes() + ENTRY_TARGET_BYTES;
    }

    /// All that waits to be taken.
    pub fn level(&self) -> Level {
        let Assembler { rows, members, quarantined, .. } = *self;
        Level { bytes: self.bytes(), rows, members, quarantined }
    }

    /// What is left for the records to come, of all the request's streams.
    pub fn allowance(&self) -> Allowance {
        Allowance { errors: self.errors_left, kept: self.keeping.as_ref().map(Keeping::left) }
    }

    pub fn set_allowance(&mut self, allowance: Allowance) {
        self.errors_left = allowance.errors;
        if let (Some(keeping), Some(left)) = (&mut self.keeping, allowance.kept) {
            keeping.set_left(left);
        }
    }

    /// Gives up what was gathered: there is no stream for it.
    pub fn give_up(&mut self) {
        self.records = EntryDraft::new(&self.meta, DRAFT_BYTES);
        self.quarantine = None;
        (self.rows, self.members, self.quarantined) = (0, 0, 0);
        if let Some(keeping) = &mut self.keeping {
            keeping.give_up();
        }
    }

    /// How many refused records wait to be taken.
    pub fn quarantined(&self) -> u64 {
        self.quarantined.into()
    }

    /// How many good records wait to be taken, and the id of the first.
    pub fn gathered(&self) -> (u32, Uuid) {
        (self.rows, self.first_id)
    }

    /// Nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.level().is_empty()
    }

    /// The stream was made only now; it is shaped like the one that everything was gathered for.
    pub fn set_stream(&mut self, stream: Arc<Stream>) {
        if let Some(draft) = &mut self.quarantine {
            let start = draft.body_start();
            quarantine::set_stream(&mut draft.buffer_mut()[start..], stream.id);
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.set_stream(stream.id);
        }
        self.origin.stream = stream;
    }

    /// Takes what was gathered; `None` if there is nothing.
    pub fn take(&mut self) -> Option<Assembled> {
        let (mut entries, excess) = (Vec::with_capacity(2), self.excess());
        let members = self.told_members(excess);
        if let Some(draft) = self.quarantine.take() {
            entries.push(self.seal_quarantine(draft));
        }
        if self.rows > 0 {
            let next = EntryDraft::new(&self.meta, DRAFT_BYTES);
            let mut draft = std::mem::replace(&mut self.records, next);
            if members.is_some() {
                draft = with_meta(&draft, &EntryMeta { members, ..self.origin.meta(None) });
            }
            entries.push(self.seal_records(draft));
        }
        self.taken(entries, excess)
    }

    /// Takes everything as entries of a request with a key.
    ///
    /// Invariant: the refused records come first, and the answer is in the last entry of all, so that whatever a crash leaves
    /// of a request, no record is in the journal whose key is not.
    pub fn take_once(&mut self, keys: EntryKeys) -> Option<Assembled> {
        let (mut entries, excess) = (Vec::with_capacity(2), self.excess());
        let members = self.told_members(excess);
        if let (Some(draft), Some(key)) = (self.quarantine.take(), keys.quarantine) {
            let meta = self.origin.meta(Some(key));
            entries.push(self.seal_quarantine(with_meta(&draft, &meta)));
        } else {
            self.quarantined = 0;
            self.keeping.as_mut().map(Keeping::give_up);
        }
        if let Some(key) = keys.records.filter(|_| self.rows > 0) {
            let meta = EntryMeta { members, ..self.origin.meta(Some(key)) };
            entries.push(self.seal_records(with_meta(&self.records, &meta)));
        } else {
            self.rows = 0;
        }
        self.taken(entries, excess)
    }

    /// Takes everything as entries of a polling job's run, each with its own seen items: `good` of those that
    /// were encoded, `refused` of those that were not.
    pub fn take_polled(&mut self, good: SeenItems, refused: SeenItems) -> Option<Assembled> {
        let (mut entries, excess) = (Vec::with_capacity(2), self.excess());
        let members = self.told_members(excess);
        let meta = |seen| EntryMeta { seen_items: Some(seen), ..self.origin.meta(None) };
        let good = EntryMeta { members, ..meta(good) };
        let refused = meta(refused);
        if let Some(draft) = self.quarantine.take() {
            entries.push(self.seal_quarantine(with_meta(&draft, &refused)));
        }
        if self.rows > 0 {
            let next = EntryDraft::new(&self.meta, DRAFT_BYTES);
            let draft = std::mem::replace(&mut self.records, next);
            entries.push(self.seal_records(with_meta(&draft, &good)));
        }
        self.taken(entries, excess)
    }

    /// How many keys and values the gathered records have beyond what their bytes say.
    fn excess(&self) -> u64 {
        excess_members(self.members, self.rows.into(), self.records.body_len() as u64)
    }

    /// What an entry of the gathered records tells of them; nothing where its bytes say enough.
    fn told_members(&self, excess: u64) -> Option<u32> {
        (excess > 0).then(|| u32::try_from(self.members).unwrap_or(u32::MAX))
    }

    fn seal_records(&self, draft: EntryDraft) -> SealedEntry {
        let has_changes = self.origin.has_changes;
        let kind = if has_changes { EntryKind::Changes } else { EntryKind::Records }.code();
        draft.seal(kind, self.stream(), self.column_set, self.rows, self.origin.received_at)
    }

    fn seal_quarantine(&self, draft: EntryDraft) -> SealedEntry {
        let kind = EntryKind::Quarantine.code();
        let column_set = quarantine::COLUMN_SET;
        draft.seal(kind, self.stream(), column_set, self.quarantined, self.origin.received_at)
    }

    fn stream(&self) -> u32 {
        u32::try_from(self.origin.stream.id.0).unwrap_or(u32::MAX)
    }

    fn taken(&mut self, entries: Vec<SealedEntry>, excess: u64) -> Option<Assembled> {
        if entries.is_empty() {
            return None;
        }
        let (kept, paid) = self.keeping.as_mut().map(Keeping::split).unwrap_or_default();
        let taken = Assembled {
            entries,
            first_id: self.first_id,
            rows: self.rows,
            quarantined: self.quarantined,
            kept: kept.map(Box::new),
            paid,
            is_costly: excess >= DENSE_EXCESS_MIN,
        };
        // The ids of a body's records are consecutive, over all its entries.
        self.first_id = nth_id(self.first_id, self.rows);
        self.rows = 0;
        self.members = 0;
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
        let read_as = match &self.csv_header {
            None if self.origin.has_changes => ReadAs::Change,
            None => ReadAs::Json,
            Some(header) => ReadAs::Csv {
                header,
                null: self.origin.csv.null.as_deref(),
                delimiter: self.origin.csv.dialect.delimiter_word(),
                quote: self.origin.csv.dialect.quote_word(),
            },
        };
        record.encode(&read_as, draft.buffer_mut());
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

    fn encoded(&mut self, members: u64) {
        self.rows += 1;
        self.members = self.members.saturating_add(members);
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError, raw: &[u8], truncated: bool) {
        if error.code == RecordErrorCode::TooManyMembers {
            limits::DOCUMENT_MEMBERS.hit();
        }
        let error = error.with_bytes(raw);
        let bytes = quarantine::kept_bytes(raw, self.csv_header.as_deref(), &error.message);
        if self.keeping.as_mut().is_some_and(|keeping| keeping.take(bytes)) {
            self.keep(place, &error, raw, truncated);
        }
        self.refused += 1;
        if self.errors_left > 0 {
            self.errors_left -= 1;
            self.errors.push(PlacedError {
                record: place.record,
                line: place.line,
                stream: None,
                column: error.column,
                code: error.code.as_str().into(),
                message: error.message,
            });
        }
    }

    fn csv_header(&mut self, raw: &[u8], matched: &[MatchedName]) {
        self.csv_header = Some(raw.to_vec());
        self.matched = matched.to_vec();
    }

    fn skipped_lines(&mut self, lines: u64) {
        self.skipped_lines = lines;
    }

    fn is_full(&self) -> bool {
        if self.origin.one_entry {
            self.bytes() >= self.full_at_bytes
        } else {
            self.level().is_full()
        }
    }
}

impl Origin {
    fn meta(&self, key: Option<EntryKey>) -> EntryMeta {
        let replays = self.replays;
        EntryMeta { key, replays, ..EntryMeta::new(self.source, &*self.user) }
    }
}

/// The same body behind another meta, which is known only when the body is.
fn with_meta(draft: &EntryDraft, meta: &EntryMeta) -> EntryDraft {
    let mut encoded = Vec::new();
    meta.encode(&mut encoded);
    let mut replacement = EntryDraft::new(&encoded, draft.body_len());
    replacement.buffer_mut().extend_from_slice(draft.body());
    replacement
}

#[cfg(test)]
mod tests {
    use tidegate_codec::{PayloadType, Shape};
    use tidegate_record::StreamId;
    use time::OffsetDateTime;

    use super::*;

    fn assembler() -> Assembler {
        let stream = Stream {
            id: StreamId(1),
            name: "tests".parse().unwrap(),
            shape: Shape::Document { payload: PayloadType::Jsonb },
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let origin = Origin {
            stream: Arc::new(stream),
            source: Source::Http,
            user: "ada".into(),
            received_at: UnixMicros(0),
            one_entry: false,
            csv: CsvOptions::default(),
            replays: None,
            has_changes: false,
        };
        Assembler::new(origin, ColumnSet(0), None)
    }

    /// Records, keys and values in each, bytes of each; what the entry tells, and whether it is costly.
    #[test]
    fn an_entry_tells_of_keys_and_values_where_they_are_many_for_its_bytes() {
        for (records, members, bytes, told, is_costly) in [
            (1, 41, 160, None, false),
            (10_000, 41, 160, None, false),
            (1_000, 31, 1_000, None, false),
            (1, 104, 243, Some(104), false),
            (1, 3_000, 9_000, Some(3_000), false),
            (1, 9_100, 27_300, Some(9_100), true),
            (1, 249_000, 747_000, Some(249_000), true),
            (100, 200, 440, Some(20_000), true),
        ] {
            let mut assembler = assembler();
            for _ in 0..records {
                assembler.buffer().extend(std::iter::repeat_n(b'1', bytes));
                assembler.encoded(members);
            }
            assert_eq!(assembler.told_members(assembler.excess()), told, "{members}");
            assert_eq!(assembler.take().unwrap().is_costly, is_costly, "{members}");
            assert!(assembler.take().is_none());
        }
    }
}
