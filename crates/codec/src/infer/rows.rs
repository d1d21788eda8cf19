//! Reads a sample of CSV, row by row, as ingest does.

use csv_core::Reader;

use super::observed::Columns;
use super::read::without_mark;
use super::{BLANK_LINE, SAMPLE_RECORDS_MAX, SampleError};
use crate::csv::foreign_header;
use crate::csv::{CSV_FIELDS_MAX, CsvDialect, CsvFields, CsvOptions, FieldNames};
use crate::encode::{RecordError, RecordErrorCode, not_utf8};
use crate::values::text;

/// Reads rows under a header; skips those that do not fit it.
pub(super) fn csv(
    body: &[u8],
    options: &CsvOptions,
    columns: &mut Columns,
) -> Result<(), SampleError> {
    let mut rows = Rows::new(without_mark(body), options.dialect);
    let names = match &options.columns {
        Some(names) => names.clone(),
        None => header(&mut rows, options.dialect, columns)?,
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let names = FieldNames::new(&names).map_err(|name| SampleError::Header {
        message: format!("the name {name:?} is there twice"),
    })?;
    let count = names.keys().len();
    rows.fields = CsvFields::with_room_for(count);
    rows.blank_is_row = count == 1;
    // A field without a name is a column only if there is a value in it.
    let mut indices: Vec<Option<usize>> = (0..count)
        .map(|field| {
            let is_named = !names.is_nameless(field);
            is_named.then(|| columns.index(names.key(field).as_bytes(), Some(1))).flatten()
        })
        .collect();
    while let Some(row) = rows.next() {
        if columns.records >= SAMPLE_RECORDS_MAX {
            columns.has_more = true;
            break;
        }
        if let Some((code, message)) = unusable(&row, &rows.fields, count) {
            columns.skip(code, Some(row.line), &message);
            continue;
        }
        columns.records += 1;
        for (field, index) in indices.iter_mut().enumerate() {
            let bytes = rows.fields.field(field);
            let is_null = bytes.is_empty()
                || options.null.as_ref().is_some_and(|null| null.as_bytes() == bytes);
            if is_null && !rows.fields.is_quoted(field) {
                continue;
            }
            if index.is_none() && names.is_nameless(field) {
                *index = columns.index(names.key(field).as_bytes(), Some(row.line));
            }
            if let Some(index) = *index {
                columns.observe_text(index, bytes);
            }
        }
    }
    if columns.records == 0 && options.columns.is_some() {
        return Err(SampleError::Empty);
    }
    Ok(())
}

/// Why a row is no record.
fn unusable(
    row: &SampleRow<'_>,
    fields: &CsvFields,
    expected: usize,
) -> Option<(&'static str, String)> {
    if row.is_blank {
        return Some((BLANK_LINE, "there is nothing on this line".to_owned()));
    }
    if row.is_unclosed {
        let message = "a quoted field in this row is never closed";
        return Some((RecordErrorCode::InvalidCsv.as_str(), message.to_owned()));
    }
    let count = fields.count();
    if count != expected {
        let message = format!("expected {expected} fields, got {count}");
        return Some((RecordErrorCode::WrongFieldCount.as_str(), message));
    }
    let unstorable = (0..count).find_map(|field| text::check(fields.field(field)).err());
    let error = RecordError::of_text(unstorable?).with_bytes(row.raw);
    Some((error.code.as_str(), error.message))
}

/// The names in the first row.
fn header(
    rows: &mut Rows<'_>,
    dialect: CsvDialect,
    columns: &mut Columns,
) -> Result<Vec<String>, SampleError> {
    let row = loop {
        match rows.next() {
            None => return Err(SampleError::Empty),
            Some(row) if row.is_blank => {
                columns.skip(BLANK_LINE, Some(row.line), "there is nothing on this line");
            }
            Some(row) => break row,
        }
    };
    let invalid = |message: String| SampleError::Header { message };
    if let Some(message) = not_utf8(row.raw, "header") {
        return Err(invalid(message));
    }
    let count = rows.fields.count();
    if count > CSV_FIELDS_MAX {
        return Err(invalid(format!("it has more than {CSV_FIELDS_MAX} names")));
    }
    let fields = (0..count).map(|field| text::check(rows.fields.field(field)));
    let names = fields
        .collect::<Result<Vec<&str>, _>>()
        .map_err(|_| invalid("a name is not a text that PostgreSQL can store".to_owned()))?;
    if let Some(foreign) = foreign_header(row.raw, &names, dialect) {
        return Err(invalid(foreign));
    }
    if row.is_unclosed {
        return Err(invalid("a quote in it is never closed".to_owned()));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The rows of a CSV text that is there as a whole.
struct Rows<'a> {
    dialect: CsvDialect,
    reader: Reader,
    rest: &'a [u8],
    /// Of the row that was read last.
    fields: CsvFields,
    /// The line on which `rest` begins.
    line: u64,
    blank_is_row: bool,
}

struct SampleRow<'a> {
    /// Without its line end.
    raw: &'a [u8],
    line: u64,
    /// It has nothing and is no row.
    is_blank: bool,
    /// The text ended inside quotes.
    is_unclosed: bool,
}

impl<'a> Rows<'a> {
    fn new(body: &'a [u8], dialect: CsvDialect) -> Rows<'a> {
        Rows {
            dialect,
            reader: dialect.reader(),
            rest: body,
            fields: CsvFields::with_room_for(CSV_FIELDS_MAX),
            line: 1,
            blank_is_row: false,
        }
    }

    /// Reads the next row, if there is one.
    fn next(&mut self) -> Option<SampleRow<'a>> {
        let (line, rest) = (self.line, self.rest);
        let first = *rest.first()?;
        if matches!(first, b'\r' | b'\n') {
            self.go_on_behind(0);
            self.fields.begin_blank();
            let is_blank = !self.blank_is_row;
            return Some(SampleRow { raw: b"", line, is_blank, is_unclosed: false });
        }
        self.fields.begin();
        let (used, ended) = self.fields.read(&mut self.reader, rest);
        let end = if ended { used - 1 } else { used };
        let is_unclosed = !ended && !self.fields.read(&mut self.reader, b"\n").1;
        let raw = &rest[..end];
        self.fields.note_quotes(raw, self.dialect);
        self.go_on_behind(end);
        Some(SampleRow { raw, line, is_blank: false, is_unclosed })
    }

    /// Goes on behind the line end at `end`.
    fn go_on_behind(&mut self, end: usize) {
        let (row, rest) = self.rest.split_at(end);
        let line_end = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        self.line += line_ends(row) + 1;
        self.rest = &rest[line_end..];
    }
}

/// How many lines end in a text.
fn line_ends(text: &[u8]) -> u64 {
    let ends = text.iter().enumerate().filter(|(at, byte)| match byte {
        b'\r' => true,
        b'\n' => at.checked_sub(1).is_none_or(|before| text[before] != b'\r'),
        _ => false,
    });
    ends.count() as u64
}
