//! CSV as in RFC 4180: a header line, then one record a row. Quoted fields may hold delimiters, quotes and line ends; rows
//! end with LF, CR LF or CR. Where the header has one name a line without anything is a row, of NULL; else it is skipped
//! and counted.
//!
//! The fields are unquoted by `csv-core` as the bytes arrive. A row's raw bytes are those of the chunk; they are copied
//! only where a row reaches into the next chunk. A row with another number of fields than the header is refused, and so
//! is one that is too long, whose rest is skipped up to its end outside quotes. A quote that is never closed would
//! swallow the rest of the body, so it makes the body invalid. So does a header that is none of the stream's, or none at
//! all ([`foreign_header`]), and one that nothing follows: it was meant as something else.

use csv_core::Reader;
use memchr::memchr2_iter;

use super::{Finished, FramerLimits, FramingError, FramingErrorCode, PushProgress, RecordPlace};
use super::{RecordSink, empty_body, too_large};
use crate::csv::{CSV_FIELDS_MAX, CsvFields, CsvOptions, foreign_header};
use crate::encode::{CsvHeader, RecordEncoder, RecordError, RecordErrorCode, not_utf8};

pub(super) struct CsvFramer {
    encoder: RecordEncoder,
    limits: FramerLimits,
    /// Its columns are taken once they are the header.
    options: CsvOptions,
    /// `None` until the header line was read.
    header: Option<CsvHeader>,
    reader: Reader,
    stage: Stage,
    /// A line without anything is a row.
    blank_is_row: bool,
    /// The names were said apart from the body.
    is_headerless: bool,
    fields: CsvFields,
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
    /// Lines without anything that were no rows.
    skipped_lines: u64,
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
        options: CsvOptions,
    ) -> CsvFramer {
        CsvFramer {
            encoder,
            limits,
            reader: options.dialect.reader(),
            is_headerless: options.columns.is_some(),
            options,
            header: None,
            blank_is_row: false,
            stage: Stage::Blank,
            fields: CsvFields::with_room_for(CSV_FIELDS_MAX),
            carry: Vec::new(),
            offset: 0,
            line: 1,
            after_return: false,
            row_line: 1,
            row_offset: 0,
            records: 0,
            skipped_lines: 0,
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    pub(super) fn carry_bytes(&self) -> usize {
        self.carry.len() + self.fields.capacity_bytes()
    }

    pub(super) fn is_between_rows(&self) -> bool {
        self.carry.is_empty()
    }

    #[cfg(test)]
    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.carry.capacity() + self.fields.capacity_bytes()
    }

    pub(super) fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<PushProgress, FramingError> {
        self.take_columns(sink)?;
        let mut at = 0;
        while at < chunk.len() {
            let records = self.records;
            let rest = &chunk[at..];
            let used = self.step(rest, sink)?;
            self.count_lines(&rest[..used]);
            at += used;
            self.offset += used as u64;
            if self.records > records && sink.is_full() {
                return Ok(PushProgress::SinkFull { consumed: at });
            }
        }
        Ok(PushProgress::ChunkTaken)
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        let ends_within_row = self.stage != Stage::Blank;
        if ends_within_row {
            // A line end completes the last row, unless it is inside quotes.
            if !self.fields.read(&mut self.reader, b"\n").1 {
                let message = "a quoted field in this row is never closed";
                let message = self.with_hint(message.to_owned());
                return Err(self.error(FramingErrorCode::TruncatedBody, &message));
            }
            if self.stage == Stage::Row {
                self.carried_row(sink)?;
            }
        }
        if self.skipped_lines > 0 {
            sink.skipped_lines(self.skipped_lines);
        }
        let Some(header) = &self.header else {
            return Err(empty_body(self.offset, Some(self.line)));
        };
        if self.records == 0 && self.is_headerless {
            return Err(empty_body(self.offset, Some(self.line)));
        }
        // A table without rows is a header that the stream knows, and a whole line.
        if self.records == 0 && (ends_within_row || !header.is_of_columns()) {
            let message = "there is a header line and no row; a client that leaves line ends out \
                           (curl -d) makes one line of all: use --data-binary";
            return Err(self.error(FramingErrorCode::NoRecords, message));
        }
        Ok(Finished { records: self.records, single: false })
    }

    /// Of a body without a header line the names are known from the beginning.
    fn take_columns<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), FramingError> {
        let Some(columns) = self.options.columns.take() else { return Ok(()) };
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let header = self.encoder.csv_header(&names, self.options.null.as_deref());
        let header = header.map_err(|error| {
            let message = format!("columns: {}", error.message);
            self.error(FramingErrorCode::InvalidHeader, &message)
        })?;
        sink.csv_header(&self.options.dialect.header_line(&columns), header.matched());
        self.use_header(header);
        Ok(())
    }

    /// Goes on in `rest`, which is not empty, by one row or to its end; gives how many bytes were used.
    fn step<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> Result<usize, FramingError> {
        match self.stage {
            Stage::Blank => self.between_rows(rest, sink),
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

    /// Goes over lines without anything, by one of them where each is a row, and to the beginning of a row.
    fn between_rows<S: RecordSink>(
        &mut self,
        rest: &[u8],
        sink: &mut S,
    ) -> Result<usize, FramingError> {
        let mut used = 0;
        let mut after_return = self.after_return;
        for &byte in rest {
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' if self.blank_is_row && used > 0 => return Ok(used),
                b'\r' | b'\n' if self.blank_is_row => {
                    self.begin_row();
                    self.fields.begin_blank();
                    self.whole_row(b"", sink)?;
                    return Ok(1);
                }
                b'\r' | b'\n' => self.skipped_lines += 1,
                _ => break,
            }
            after_return = byte == b'\r';
            used += 1;
        }
        if used == 0 {
            self.stage = Stage::Row;
            self.begin_row();
            self.fields.begin();
        }
        Ok(used)
    }

    fn begin_row(&mut self) {
        self.row_line = self.line;
        self.row_offset = self.offset;
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
            return self.read_header(raw, sink);
        };
        self.records += 1;
        let place = RecordPlace { record: self.records, line: Some(self.row_line) };
        let (count, expected) = (self.fields.count(), self.fields.room());
        if count != expected {
            let message = format!("expected {expected} fields, got {count}");
            let error = RecordError::new(RecordErrorCode::WrongFieldCount, message);
            sink.refused(place, error, raw, false);
            return Ok(());
        }
        self.fields.note_quotes(raw, self.options.dialect);
        let prefix = sink.prefix();
        let field = |index| self.fields.field(index);
        let is_quoted = |index| self.fields.is_quoted(index);
        match self.encoder.encode_csv(header, field, is_quoted, count, prefix, sink.buffer()) {
            Ok(()) => sink.encoded(self.encoder.members()),
            Err(error) => sink.refused(place, error, raw, false),
        }
        Ok(())
    }

    fn read_header<S: RecordSink>(&mut self, raw: &[u8], sink: &mut S) -> Result<(), FramingError> {
        let invalid = |framer: &CsvFramer, message: &str| {
            Err(framer.error(FramingErrorCode::InvalidHeader, message))
        };
        let count = self.fields.count();
        if count > CSV_FIELDS_MAX {
            return invalid(self, &format!("the header has more than {CSV_FIELDS_MAX} names"));
        }
        if raw.starts_with(b"\xff\xfe") || raw.starts_with(b"\xfe\xff") {
            return invalid(self, "the body is UTF-16; send UTF-8");
        }
        if let Some(message) = not_utf8(raw, "header") {
            return invalid(self, &message);
        }
        let names = (0..count).map(|index| str::from_utf8(self.fields.field(index)));
        let Ok(names) = names.collect::<Result<Vec<&str>, _>>() else {
            return invalid(self, "a quote in the header cuts a character of UTF-8 in two");
        };
        let foreign = foreign_header(raw, &names, self.options.dialect);
        let header = match (self.encoder.csv_header(&names, self.options.null.as_deref()), foreign)
        {
            (Ok(header), Some(_)) if header.is_of_columns() => header,
            (Ok(header), None) => header,
            (Ok(_), Some(foreign)) => {
                return invalid(self, &format!("the first line is no header: {foreign}"));
            }
            (Err(error), Some(foreign)) => {
                return invalid(self, &format!("{}; {foreign}", error.message));
            }
            (Err(error), None) => return invalid(self, &error.message),
        };
        sink.csv_header(raw, header.matched());
        self.use_header(header);
        Ok(())
    }

    /// Of a first line whose end was not found, the beginning may tell what it is instead.
    fn with_hint(&self, message: String) -> String {
        let foreign = foreign_header(&self.carry, &[], self.options.dialect);
        match foreign.filter(|_| self.header.is_none()) {
            Some(foreign) => format!("{message}; {foreign}"),
            None => message,
        }
    }

    fn use_header(&mut self, header: CsvHeader) {
        let count = header.names().len();
        self.blank_is_row = count == 1;
        self.fields = CsvFields::with_room_for(count);
        self.header = Some(header);
    }

    fn refuse_long_row<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), FramingError> {
        self.stage = Stage::Skip;
        self.fields.discard();
        if self.header.is_none() {
            let limit = self.limits.record_bytes_max;
            let message = self.with_hint(format!("the header is longer than {limit} bytes"));
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
