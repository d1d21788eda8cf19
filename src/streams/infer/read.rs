//! Reads a sample, record by record.

use std::collections::HashSet;

use csv_core::{ReadRecordResult, Reader};

use super::observed::Columns;
use super::{SAMPLE_RECORDS_MAX, SampleError};
use crate::streams::COLUMNS_MAX;
use crate::streams::json::{Scanner, Stop, ValueKind, unescape};
use crate::streams::values::{text, unquoted};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads one object, or an array.
pub(super) fn json(body: &[u8], columns: &mut Columns) -> Result<(), SampleError> {
    let start = body.len() - without_mark(body).len();
    let (first, at) = next_byte(body, start).ok_or(SampleError::Empty)?;
    let end = match first {
        b'{' => at + record(&body[at..], columns).map_err(|stop| malformed(stop, at))?,
        b'[' => match elements(body, at + 1, columns)? {
            Some(end) => end,
            // There are enough records; the rest is not looked at.
            None => return Ok(()),
        },
        _ => return Err(broken(at, "expected an object or an array")),
    };
    match next_byte(body, end) {
        None => Ok(()),
        Some((_, at)) => Err(broken(at, "something follows the end of the JSON text")),
    }
}

/// Reads the elements of an array from behind its opening bracket; gives where the array ends if it comes so far.
fn elements(
    body: &[u8],
    start: usize,
    columns: &mut Columns,
) -> Result<Option<usize>, SampleError> {
    let cut_off = || broken(body.len(), "the array has no end");
    let (first, mut at) = next_byte(body, start).ok_or_else(cut_off)?;
    if first == b']' {
        return Ok(Some(at + 1));
    }
    while columns.records < SAMPLE_RECORDS_MAX {
        at += record(&body[at..], columns).map_err(|stop| malformed(stop, at))?;
        let (separator, place) = next_byte(body, at).ok_or_else(cut_off)?;
        match separator {
            b',' => at = place + 1,
            b']' => return Ok(Some(place + 1)),
            _ => return Err(broken(place, "expected a comma or the end of the array")),
        }
    }
    Ok(None)
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// The first byte from `start` on that is not blank, and its place.
fn next_byte(body: &[u8], start: usize) -> Option<(u8, usize)> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let blanks = body[start..].iter().take_while(|byte| blank(byte)).count();
    let at = start + blanks;
    body.get(at).map(|&byte| (byte, at))
}

fn broken(offset: usize, message: &'static str) -> SampleError {
    SampleError::Malformed { offset, message }
}

/// `start`: where the input that stopped begins in the body.
fn malformed(stop: Stop, start: usize) -> SampleError {
    match stop {
        Stop::Malformed { offset, message } => broken(start + offset, message),
        Stop::Incomplete => broken(start, "the sample ends inside a value"),
    }
}

/// Reads one object a line; skips lines that are none.
pub(super) fn ndjson(body: &[u8], columns: &mut Columns) -> Result<(), SampleError> {
    let mut lines = 0_u64;
    for line in without_mark(body).split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        lines += 1;
        let whole = Scanner::new(line, true).value(0);
        if whole.is_ok_and(|value| value.end == line.len()) {
            record(line, columns).map_err(|stop| malformed(stop, 0))?;
        }
        if columns.records >= SAMPLE_RECORDS_MAX {
            break;
        }
    }
    if lines == 0 { Err(SampleError::Empty) } else { Ok(()) }
}

/// Reads the value at the start of `input` and, if it can be a record, its members; gives where it ends.
fn record(input: &[u8], columns: &mut Columns) -> Result<usize, Stop> {
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

/// Reads rows under a header; skips those that do not fit it.
pub(super) fn csv(
    body: &[u8],
    null: Option<&[u8]>,
    columns: &mut Columns,
) -> Result<(), SampleError> {
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
    let unique = header.iter().collect::<HashSet<_>>().len();
    if unique < header.len() {
        return Err(SampleError::Header { message: "a name is there twice" });
    }
    let indices = header.iter().map(|name| columns.index(name)).collect::<Vec<_>>();
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
        Rows { reader: Reader::new(), rest: body, bytes, ends: vec![0; COLUMNS_MAX], fields: 0 }
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
