//! CSV as in RFC 4180: a header line, then one record a row. Quoted fields may hold commas, quotes and line ends; rows end
//! with LF, CR LF or CR; blank lines are skipped.
//!
//! The fields are unquoted by `csv-core` as the bytes arrive. A row's raw bytes are those of the chunk; they are copied
//! only where a row reaches into the next chunk. A row with another number of fields than the header is refused, and so
//! is one that is too long, whose rest is skipped up to its end outside quotes. A quote that is never closed would
//! swallow the rest of the body, so it makes the body invalid.

use csv_core::{ReadRecordResult, Reader};
use memchr::memchr2_iter;

use super::{Finished, FramerLimits, FramingError, FramingErrorCode, Progress, RecordPlace};
use super::{RecordSink, empty_body, too_large};
use crate::streams::encode::{CsvHeader, RecordEncoder, RecordError, RecordErrorCode};

/// Most names in a header.
pub const CSV_FIELDS_MAX: usize = 10_000;
/// First size of the room for a row's unquoted fields, in bytes.
const FIELDS_BYTES_MIN: usize = 4 * 1024;

pub(super) struct CsvFramer {
    encoder: RecordEncoder,
    limits: FramerLimits,
    null: Option<String>,
    /// `None` until the header line was read.
    header: Option<CsvHeader>,
    reader: Reader,
    stage: Stage,
    fields: Fields,
    /// The raw beginning of a row whose end has not arrived.
    carry: Vec<u8>,
    offset: u64,
    line: u64,
    /// The byte before was a carriage return: a line feed now belongs to the same line end.
    after_return: bool,
    /// Where the row begins.
    row_line: u64,
    row_offset: u64,
    records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first byte of a row.
    Blank,
    Row,
    /// Inside a row that was too long.
    Skip,
}

impl CsvFramer {
    pub(super) fn new(
        encoder: RecordEncoder,
        limits: FramerLimits,
        null: Option<String>,
    ) -> CsvFramer {
        let mut reader = Reader::new();
        // The reader drops a byte order mark at its beginning, but only if it comes in one piece. The framer did that
        // already; a blank line takes the reader beyond its beginning.
        reader.read_record(b"\n", &mut [0], &mut [0]);
        CsvFramer {
            encoder,
            limits,
            null,
            header: None,
            reader,
            stage: Stage::Blank,
            fields: Fields::with_room_for(CSV_FIELDS_MAX),
            carry: Vec::new(),
            offset: 0,
            line: 1,
            after_return: false,
            row_line: 1,
            row_offset: 0,
            records: 0,
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    pub(super) fn carry_bytes(&self) -> usize {
        self.carry.len() + self.fields.capacity_bytes()
    }

    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.carry.capacity() + self.fields.capacity_bytes()
    }

    pub(super) fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<Progress, FramingError> {
        let mut at = 0;
        while at < chunk.len() {
            let records = self.records;
            let rest = &chunk[at..];
            let used = self.step(rest, sink)?;
            self.count_lines(&rest[..used]);
            at += used;
            self.offset += used as u64;
            if self.records > records && sink.is_full() {
                return Ok(Progress::SinkFull { consumed: at });
            }
        }
        Ok(Progress::ChunkTaken)
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if self.stage != Stage::Blank {
            // A line end completes the last row, unless it is inside quotes.
            if !self.fields.read(&mut self.reader, b"\n").1 {
                let message = "a quoted field in this row is never closed";
                return Err(self.error(FramingErrorCode::TruncatedBody, message));
            }
            if self.stage == Stage::Row {
                self.carried_row(sink)?;
            }
        }
        if self.header.is_none() {
            return Err(empty_body(self.offset, Some(self.line)));
        }
        Ok(Finished { records: self.records, single: false })
    }

    /// Goes on in `rest`, which is not empty, by one row or to its end; gives how many bytes were used.
    fn step<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> Result<usize, FramingError> {
        match self.stage {
            Stage::Blank => {
                let line_ends =
                    rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                if line_ends == 0 {
                    self.stage = Stage::Row;
                    self.row_line = self.line;
                    self.row_offset = self.offset;
                    self.fields.begin();
                }
                Ok(line_ends)
            }
            Stage::Row => self.read_row(rest, sink),
            Stage::Skip => {
                let (used, row_ended) = self.fields.read(&mut self.reader, rest);
                if row_ended {
                    self.stage = Stage::Blank;
                }
                Ok(used)
            }
        }
    }

    fn read_row<S: RecordSink>(
        &mut self,
        rest: &[u8],
        sink: &mut S,
    ) -> Result<usize, FramingError> {
        // The byte over the limit is the line end, or tells that the row is too long.
        let room = self.limits.record_bytes_max + 1 - self.carry.len();
        let window = &rest[..rest.len().min(room)];
        let (used, row_ended) = self.fields.read(&mut self.reader, window);
        if !row_ended {
            self.carry.extend_from_slice(window);
            if self.carry.len() > self.limits.record_bytes_max {
                self.refuse_long_row(sink)?;
            }
        } else if self.carry.is_empty() {
            self.whole_row(&window[..used - 1], sink)?;
        } else {
            self.carry.extend_from_slice(&window[..used - 1]);
            self.carried_row(sink)?;
        }
        Ok(used)
    }

    fn carried_row<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), FramingError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = self.whole_row(&carry, sink);
        carry.clear();
        self.carry = carry;
        result
    }

    /// Encodes or refuses the row whose fields were read. `raw` is the row without its line end.
    fn whole_row<S: RecordSink>(&mut self, raw: &[u8], sink: &mut S) -> Result<(), FramingError> {
        self.stage = Stage::Blank;
        let Some(header) = &self.header else {
            self.read_header()?;
            sink.csv_header(raw);
            return Ok(());
        };
        self.records += 1;
        let place = RecordPlace { record: self.records, line: Some(self.row_line) };
        let (count, expected) = (self.fields.count(), self.fields.room);
        if count != expected {
            let message = format!("expected {expected} fields, got {count}");
            let error = RecordError::new(RecordErrorCode::WrongFieldCount, message);
            sink.refused(place, error, raw, false);
            return Ok(());
        }
        let prefix = sink.prefix();
        let field = |index| self.fields.field(index);
        match self.encoder.encode_csv(header, field, count, prefix, sink.buffer()) {
            Ok(()) => sink.encoded(),
            Err(error) => sink.refused(place, error, raw, false),
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), FramingError> {
        if self.fields.count() > CSV_FIELDS_MAX {
            let message = format!("the header has more than {CSV_FIELDS_MAX} names");
            return Err(self.error(FramingErrorCode::InvalidHeader, &message));
        }
        let count = self.fields.count();
        let names = (0..count).map(|index| std::str::from_utf8(self.fields.field(index)));
        let Ok(names) = names.collect::<Result<Vec<&str>, _>>() else {
            let message = "the header is not valid UTF-8";
            return Err(self.error(FramingErrorCode::InvalidHeader, message));
        };
        let header = match self.encoder.csv_header(&names, self.null.as_deref()) {
            Ok(header) => header,
            Err(error) => {
                return Err(self.error(FramingErrorCode::InvalidHeader, &error.message));
            }
        };
        self.header = Some(header);
        self.fields = Fields::with_room_for(count);
        Ok(())
    }

    fn refuse_long_row<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), FramingError> {
        self.stage = Stage::Skip;
        self.fields.discard();
        if self.header.is_none() {
            let limit = self.limits.record_bytes_max;
            let message = format!("the header is longer than {limit} bytes");
            return Err(self.error(FramingErrorCode::InvalidHeader, &message));
        }
        self.records += 1;
        let place = RecordPlace { record: self.records, line: Some(self.row_line) };
        let raw = self.limits.kept(&self.carry);
        sink.refused(place, too_large(self.limits), raw, true);
        self.carry.clear();
        Ok(())
    }

    fn count_lines(&mut self, bytes: &[u8]) {
        // A line feed directly behind a carriage return does not count.
        let mut returned_at = self.after_return.then_some(0);
        for at in memchr2_iter(b'\r', b'\n', bytes) {
            if bytes[at] == b'\r' {
                self.line += 1;
                returned_at = Some(at + 1);
            } else if returned_at != Some(at) {
                self.line += 1;
            }
        }
        self.after_return = bytes.last().map_or(self.after_return, |&last| last == b'\r');
    }

    /// An error in the present row, placed where the row begins.
    fn error(&self, code: FramingErrorCode, message: &str) -> FramingError {
        FramingError {
            code,
            message: message.to_owned(),
            offset: self.row_offset,
            record: self.records + u64::from(self.header.is_some() && self.stage == Stage::Row),
            line: Some(self.row_line),
        }
    }
}

/// The unquoted fields of one row.
struct Fields {
    bytes: Vec<u8>,
    bytes_used: usize,
    /// Where each field ends in `bytes`.
    ends: Vec<usize>,
    ends_used: usize,
    /// As many fields are wanted; of a row with more they are only counted.
    room: usize,
    /// Fields that were counted and dropped.
    dropped: usize,
    /// Nothing of this row is wanted any more.
    discarding: bool,
}

impl Fields {
    fn with_room_for(room: usize) -> Fields {
        Fields {
            bytes: vec![0; FIELDS_BYTES_MIN],
            bytes_used: 0,
            // One more tells that there are too many.
            ends: vec![0; room + 1],
            ends_used: 0,
            room,
            dropped: 0,
            discarding: false,
        }
    }

    fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn begin(&mut self) {
        self.bytes_used = 0;
        self.ends_used = 0;
        self.dropped = 0;
        self.discarding = false;
    }

    fn discard(&mut self) {
        self.discarding = true;
    }

    fn count(&self) -> usize {
        self.dropped + self.ends_used
    }

    /// Reads on in the row; gives how many bytes were used and whether the row ended.
    fn read(&mut self, reader: &mut Reader, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while used < input.len() {
            let (result, input_bytes, output_bytes, ends) = reader.read_record(
                &input[used..],
                &mut self.bytes[self.bytes_used..],
                &mut self.ends[self.ends_used..],
            );
            used += input_bytes;
            self.bytes_used += output_bytes;
            self.ends_used += ends;
            match result {
                ReadRecordResult::Record => return (used, true),
                ReadRecordResult::OutputFull if self.discarding => self.bytes_used = 0,
                // Never larger than twice the row, whose length is limited.
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                ReadRecordResult::OutputEndsFull => {
                    self.discarding = true;
                    self.dropped += std::mem::take(&mut self.ends_used);
                    self.bytes_used = 0;
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        (used, false)
    }

    /// A field's bytes without its quotes.
    fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}
