//! Proposes columns for a stream from a sample of its records.
//!
//! It promises: every record of the sample can be encoded with the proposed columns, because a type is only proposed
//! if the encoder took each of the sample's values; and no value loses anything in its type: numbers with leading zeros stay
//! text, integers beyond 64 bits and decimals with more digits than a double holds become numeric, a time without an
//! offset stays text. Memory is bounded by the sample, [`SAMPLE_RECORDS_MAX`] and the limits on columns.
//! It skips what can be no record of any stream (a broken line, a ragged row, text that PostgreSQL cannot store) and
//! names that can be no column; values under such a name go to `extra`.

use std::collections::HashMap;

use csv_core::{ReadRecordResult, Reader};
use serde::Serialize;
use serde_json::Value as Json;

use crate::streams::COLUMNS_MAX;
use crate::streams::columns::{Column, ColumnType};
use crate::streams::definition::Definition;
use crate::streams::json::{Scanner, Stop, Value, ValueKind, unescape};
use crate::streams::values::numeric::Decimal;
use crate::streams::values::{self, text, unquoted};

/// Most records that are looked at; what follows them is not read.
pub const SAMPLE_RECORDS_MAX: u64 = 10_000;
/// Longest value that is shown as an example, in bytes of its JSON.
pub const EXAMPLE_BYTES_MAX: usize = 200;

/// Digits that a double always gives back as they were.
const DOUBLE_DIGITS_MAX: usize = 17;
/// Up to here a double holds every whole number.
const DOUBLE_INTEGER_MAX: u64 = 1 << 53;

/// The bytes of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// One object, or an array of records.
    Json(&'a [u8]),
    /// One object a line.
    Ndjson(&'a [u8]),
    /// A header line and rows; `null` is the text that means NULL beside the empty field.
    Csv {
        body: &'a [u8],
        null: Option<&'a str>,
    },
}

/// A column that would take every value of the sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProposedColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Records without a value: the key is missing, or its value is null.
    pub nulls: u64,
    /// The first value; none if there is none or it is long.
    pub example: Option<Json>,
}

/// What a sample suggests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inferred {
    /// In the order in which they appear first.
    pub columns: Vec<ProposedColumn>,
    /// Records that were looked at.
    pub records: u64,
}

/// A sample that tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("the sample is empty")]
    Empty,
    #[error("the sample is not valid JSON: {message} (byte {offset})")]
    Malformed {
        offset: usize,
        message: &'static str,
    },
    #[error("the CSV header is not usable: {message}")]
    Header { message: &'static str },
}

/// Proposes columns. Fails only where the sample as a whole cannot be read.
pub fn infer(sample: Sample<'_>) -> Result<Inferred, SampleError> {
    let mut columns = Columns::default();
    match sample {
        Sample::Json(body) => read_json(body, &mut columns)?,
        Sample::Ndjson(body) => read_ndjson(body, &mut columns)?,
        Sample::Csv { body, null } => read_csv(body, null.map(str::as_bytes), &mut columns)?,
    }
    Ok(columns.into_inferred())
}

/// The types in the order of preference: the first one that took every value is proposed.
const CANDIDATES: [ColumnType; 10] = [
    ColumnType::Boolean,
    ColumnType::Integer,
    ColumnType::BigInt,
    ColumnType::DoublePrecision,
    ColumnType::Numeric,
    ColumnType::TimestampTz,
    ColumnType::Date,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Jsonb,
];

/// What a value looks like, before the encoder is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Boolean,
    Integer,
    Decimal,
    Timestamp,
    Date,
    Uuid,
    /// Any other text.
    Text,
    /// An object or array.
    Nested,
}

#[derive(Default)]
struct Columns {
    by_name: HashMap<Vec<u8>, usize>,
    columns: Vec<Observed>,
    records: u64,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

/// What is known of one column.
struct Observed {
    name: String,
    /// The candidates that took every value so far.
    live: Vec<ColumnType>,
    values: u64,
    /// The record in which the column was seen last, and whether it counts as a value there.
    last_seen: (u64, bool),
    example: Option<Json>,
}

impl Columns {
    /// The column of a name; `None` if there can be none.
    fn index(&mut self, name: &[u8]) -> Option<usize> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        if self.columns.len() >= COLUMNS_MAX {
            return None;
        }
        let name = String::from_utf8(name.to_vec()).ok()?;
        let column = Column {
            name: name.clone(),
            kind: ColumnType::Text,
            default: None,
        };
        let definition = Definition {
            columns: Some(vec![column]),
            ..Definition::default()
        };
        definition.check().ok()?;
        self.by_name
            .insert(name.clone().into_bytes(), self.columns.len());
        self.columns.push(Observed {
            name,
            live: CANDIDATES.to_vec(),
            values: 0,
            last_seen: (0, false),
            example: None,
        });
        Some(self.columns.len() - 1)
    }

    /// Takes the value of a JSON member.
    fn observe_json(&mut self, index: usize, value: Value, raw: &[u8]) {
        let look = match value.kind {
            ValueKind::Null => {
                self.columns[index].count(self.records, false);
                return;
            }
            ValueKind::False | ValueKind::True => Look::Boolean,
            ValueKind::Integer => Look::Integer,
            ValueKind::Number => Look::Decimal,
            ValueKind::Plain => look_of_string(unquoted(raw)),
            ValueKind::Escaped => {
                self.scratch.clear();
                unescape(unquoted(raw), &mut self.scratch);
                look_of_string(&self.scratch)
            }
            ValueKind::Object | ValueKind::Array => Look::Nested,
        };
        let text = matches!(value.kind, ValueKind::Plain | ValueKind::Escaped);
        let column = &mut self.columns[index];
        let (scratch, encoded) = (&mut self.scratch, &mut self.encoded);
        column.count(self.records, true);
        column.live.retain(|&kind| {
            encoded.clear();
            let allowed = match kind {
                ColumnType::Text => text,
                ColumnType::Jsonb => true,
                _ => look.allows(kind, raw),
            };
            allowed && values::encode_json(kind, value.kind, raw, scratch, encoded).is_ok()
        });
        if column.example.is_none() && raw.len() <= EXAMPLE_BYTES_MAX {
            column.example = serde_json::from_slice(raw).ok();
        }
    }

    /// Takes a CSV field that is not NULL.
    fn observe_text(&mut self, index: usize, field: &[u8]) {
        let look = look_of_field(field);
        let column = &mut self.columns[index];
        let encoded = &mut self.encoded;
        column.count(self.records, true);
        column.live.retain(|&kind| {
            encoded.clear();
            let allowed = match kind {
                ColumnType::Text => true,
                ColumnType::Jsonb => false,
                _ => look.allows(kind, field),
            };
            allowed && values::encode_text(kind, field, encoded).is_ok()
        });
        if column.example.is_none() && field.len() <= EXAMPLE_BYTES_MAX {
            column.example = std::str::from_utf8(field).ok().map(Json::from);
        }
    }

    fn into_inferred(self) -> Inferred {
        let records = self.records;
        let propose = |column: Observed| ProposedColumn {
            kind: column.proposed(),
            nulls: records - column.values,
            name: column.name,
            example: column.example,
        };
        Inferred {
            columns: self.columns.into_iter().map(propose).collect(),
            records,
        }
    }
}

impl Observed {
    /// Counts the column's value in a record. Of a key that is given twice the last one counts.
    fn count(&mut self, record: u64, value: bool) {
        if self.last_seen == (record, true) {
            self.values -= 1;
        }
        self.values += u64::from(value);
        self.last_seen = (record, value);
    }

    fn proposed(&self) -> ColumnType {
        let nothing_seen = self.live.len() == CANDIDATES.len();
        let first = self.live.first().copied().filter(|_| !nothing_seen);
        first.unwrap_or(ColumnType::Text)
    }
}

impl Look {
    /// Whether a type is meant, and keeps all of the value; `number` is its text if it is a number.
    fn allows(self, kind: ColumnType, number: &[u8]) -> bool {
        match self {
            Look::Boolean => kind == ColumnType::Boolean,
            Look::Integer => match kind {
                ColumnType::Integer | ColumnType::BigInt | ColumnType::Numeric => true,
                ColumnType::DoublePrecision => values::numbers::parse_integer::<i64>(number)
                    .is_ok_and(|value| value.unsigned_abs() <= DOUBLE_INTEGER_MAX),
                _ => false,
            },
            Look::Decimal => match kind {
                ColumnType::Numeric => true,
                ColumnType::DoublePrecision => Decimal::parse(number).is_some_and(|decimal| {
                    let digits = |(first, last)| last - first + 1;
                    decimal.significant().map_or(0, digits) <= DOUBLE_DIGITS_MAX
                }),
                _ => false,
            },
            Look::Timestamp => kind == ColumnType::TimestampTz,
            Look::Date => kind == ColumnType::Date,
            Look::Uuid => kind == ColumnType::Uuid,
            Look::Text | Look::Nested => false,
        }
    }
}

/// A CSV field has no type of its own: it is a number if JSON would write it so, a boolean if it says true or false.
fn look_of_field(field: &[u8]) -> Look {
    if field.eq_ignore_ascii_case(b"true") || field.eq_ignore_ascii_case(b"false") {
        return Look::Boolean;
    }
    match Scanner::new(field, true).value(0) {
        Ok(value) if value.start == 0 && value.end == field.len() => match value.kind {
            ValueKind::Integer => Look::Integer,
            ValueKind::Number => Look::Decimal,
            _ => look_of_string(field),
        },
        _ => look_of_string(field),
    }
}

/// Looks at the form only; whether there is such a day is the encoder's to say.
fn look_of_string(text: &[u8]) -> Look {
    if text.len() == 36 && has_form(text, b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
        return Look::Uuid;
    }
    let Some((date, time)) = text.split_at_checked(10) else {
        return Look::Text;
    };
    if !has_form(date, b"0000-00-00") {
        return Look::Text;
    }
    if time.is_empty() {
        return Look::Date;
    }
    if is_time_with_offset(time) {
        Look::Timestamp
    } else {
        Look::Text
    }
}

/// RFC 3339 behind the date: a separator, hours to seconds, perhaps a fraction, and always an offset.
fn is_time_with_offset(text: &[u8]) -> bool {
    let Some((time, mut rest)) = text.split_at_checked(9) else {
        return false;
    };
    if !matches!(time[0], b'T' | b't' | b' ') || !has_form(&time[1..], b"00:00:00") {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return false;
        }
        rest = &fraction[digits..];
    }
    match rest {
        b"Z" | b"z" => true,
        [b'+' | b'-', offset @ ..] => has_form(offset, b"00:00"),
        _ => false,
    }
}

/// In `form`, 0 stands for a digit, x for a hexadecimal one, anything else for itself.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    text.len() == form.len()
        && text.iter().zip(form).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit(),
            form => byte == form,
        })
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

fn malformed(stop: Stop) -> SampleError {
    match stop {
        Stop::Malformed { offset, message } => SampleError::Malformed { offset, message },
        Stop::Incomplete => SampleError::Empty,
    }
}

fn read_json(body: &[u8], columns: &mut Columns) -> Result<(), SampleError> {
    let body = without_mark(body);
    let Some(start) = body.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Err(SampleError::Empty);
    };
    let Some(mut elements) = body[start..].strip_prefix(b"[") else {
        let end = read_record(body, columns).map_err(malformed)?;
        return match body[end..]
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
        {
            None => Ok(()),
            Some(more) => {
                let message = "something follows the object";
                Err(SampleError::Malformed {
                    offset: end + more,
                    message,
                })
            }
        };
    };
    let mut expected = b']';
    while columns.records < SAMPLE_RECORDS_MAX {
        let offset = body.len() - elements.len();
        let next = Scanner::new(elements, true)
            .peek()
            .map_err(|stop| shifted(stop, offset))?;
        let blanks = elements
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        if next == b']' && expected != b'v' {
            return Ok(());
        }
        if next == b',' && expected == b',' {
            elements = &elements[blanks + 1..];
            expected = b'v';
            continue;
        }
        if expected == b',' {
            let message = "expected a comma or the end of the array";
            return Err(SampleError::Malformed {
                offset: offset + blanks,
                message,
            });
        }
        let end = read_record(elements, columns).map_err(|stop| shifted(stop, offset))?;
        elements = &elements[end..];
        expected = b',';
    }
    Ok(())
}

fn shifted(stop: Stop, by: usize) -> SampleError {
    match malformed(stop) {
        SampleError::Malformed { offset, message } => SampleError::Malformed {
            offset: offset + by,
            message,
        },
        error => error,
    }
}

fn read_ndjson(body: &[u8], columns: &mut Columns) -> Result<(), SampleError> {
    let mut lines = 0_u64;
    for line in without_mark(body).split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        lines += 1;
        let mut whole = Scanner::new(line, true);
        if whole.value(0).is_ok_and(|value| value.end == line.len()) {
            read_record(line, columns).map_err(malformed)?;
        }
        if columns.records >= SAMPLE_RECORDS_MAX {
            break;
        }
    }
    if lines == 0 {
        Err(SampleError::Empty)
    } else {
        Ok(())
    }
}

/// Reads the value at the start of `input` and, if it can be a record, its members; gives where it ends.
fn read_record(input: &[u8], columns: &mut Columns) -> Result<usize, Stop> {
    let mut scanner = Scanner::new(input, true);
    let record = scanner.value(0)?;
    if record.kind != ValueKind::Object || scanner.fault().is_some() {
        return Ok(record.end);
    }
    columns.records += 1;
    let object = record.raw(input);
    let mut members = Scanner::new(object, true);
    members.peek()?;
    let mut more = members.open_object()?;
    while more {
        let key = members.key()?;
        let raw_name = unquoted(key.raw(object));
        let index = if key.kind == ValueKind::Plain {
            columns.index(raw_name)
        } else {
            let mut name = Vec::new();
            unescape(raw_name, &mut name);
            columns.index(&name)
        };
        let value = members.value(1)?;
        if let Some(index) = index {
            columns.observe_json(index, value, value.raw(object));
        }
        more = members.after_member()?;
    }
    Ok(record.end)
}

fn read_csv(body: &[u8], null: Option<&[u8]>, columns: &mut Columns) -> Result<(), SampleError> {
    let mut rows = Rows::new(without_mark(body));
    if !rows.next() {
        return Err(SampleError::Empty);
    }
    let header = rows.fields().map(<[u8]>::to_vec).collect::<Vec<_>>();
    if header.iter().any(|name| text::check(name).is_err()) {
        return Err(SampleError::Header {
            message: "a name is not a text that PostgreSQL can store",
        });
    }
    let unique = header
        .iter()
        .collect::<std::collections::HashSet<_>>()
        .len();
    if unique < header.len() {
        return Err(SampleError::Header {
            message: "a name is there twice",
        });
    }
    let indices = header
        .iter()
        .map(|name| columns.index(name))
        .collect::<Vec<_>>();
    while columns.records < SAMPLE_RECORDS_MAX && rows.next() {
        let storable = rows.fields().all(|field| text::check(field).is_ok());
        if rows.fields().count() != header.len() || !storable {
            continue;
        }
        columns.records += 1;
        for (field, index) in rows.fields().zip(&indices) {
            if let Some(index) = *index
                && !field.is_empty()
                && null != Some(field)
            {
                columns.observe_text(index, field);
            }
        }
    }
    Ok(())
}

/// The rows of a CSV text that is there as a whole.
struct Rows<'a> {
    reader: Reader,
    rest: &'a [u8],
    bytes: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
}

impl<'a> Rows<'a> {
    fn new(body: &'a [u8]) -> Rows<'a> {
        // Fields are never longer than the text they are read from, and an empty room would stop the reader.
        let bytes = vec![0; body.len() + 1];
        Rows {
            reader: Reader::new(),
            rest: body,
            bytes,
            ends: vec![0; COLUMNS_MAX],
            fields: 0,
        }
    }

    /// Reads the next row, if there is one.
    fn next(&mut self) -> bool {
        self.fields = 0;
        let mut bytes_used = 0;
        loop {
            let (result, input, output, ends) = self.reader.read_record(
                self.rest,
                &mut self.bytes[bytes_used..],
                &mut self.ends[self.fields..],
            );
            self.rest = &self.rest[input..];
            bytes_used += output;
            self.fields += ends;
            match result {
                ReadRecordResult::Record => return true,
                ReadRecordResult::End => return false,
                // With nothing left, the reader is told so by the next call.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.push(0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
            }
        }
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.fields).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[index]]
        })
    }
}
