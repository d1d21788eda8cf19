//! Reads a sample of JSON, record by record.

use super::observed::Columns;
use super::{BLANK_LINE, SAMPLE_RECORDS_MAX, SampleError};
use crate::encode::{RecordError, RecordErrorCode};
use crate::json::{Extent, Scanner, Stop, ValueKind, unescape};
use crate::values::unquoted;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads one object, or an array.
pub(super) fn json(body: &[u8], columns: &mut Columns) -> Result<(), SampleError> {
    let start = body.len() - without_mark(body).len();
    let (first, at) = next_byte(body, start).ok_or(SampleError::Empty)?;
    let end = match first {
        b'{' => at + record(&body[at..], None, columns).map_err(|stop| malformed(stop, at))?,
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
        at = element(body, at, columns)?;
        let (separator, place) = next_byte(body, at).ok_or_else(cut_off)?;
        match separator {
            b',' => at = place + 1,
            b']' => return Ok(Some(place + 1)),
            _ => return Err(broken(place, "expected a comma or the end of the array")),
        }
    }
    columns.has_more = true;
    Ok(None)
}

/// Reads an element, and skips one that is no JSON, as it is set aside where it is sent; gives where it ends.
fn element(body: &[u8], at: usize, columns: &mut Columns) -> Result<usize, SampleError> {
    let item = next_byte(body, at).filter(|(first, _)| !matches!(first, b',' | b']'));
    let extent = item.and_then(|(_, start)| {
        let length = Extent::default().end_in(&body[start..])?;
        Some(start..start + length)
    });
    let Some(extent) = extent else {
        let length = record(&body[at..], None, columns).map_err(|stop| malformed(stop, at))?;
        return Ok(at + length);
    };
    let end = extent.end;
    whole(&body[extent], None, columns)?;
    Ok(end)
}

/// Reads a record that must be all of `item`; skips what is no JSON.
fn whole(item: &[u8], line: Option<u64>, columns: &mut Columns) -> Result<(), SampleError> {
    let broken = match Scanner::new(item, true).value(0) {
        Ok(value) if value.end == item.len() => {
            return record(item, line, columns).map(drop).map_err(|stop| malformed(stop, 0));
        }
        Ok(_) => "something follows the value",
        Err(Stop::Malformed { message, .. }) => message,
        Err(Stop::Incomplete) => "it ends inside a value",
    };
    columns.skip(RecordErrorCode::InvalidJson.as_str(), line, broken);
    Ok(())
}

pub(super) fn without_mark(body: &[u8]) -> &[u8] {
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
    let body = without_mark(body);
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let mut lines = 0_u64;
    for (number, line) in (1..).zip(body.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            columns.skip(BLANK_LINE, Some(number), "there is nothing on this line");
            continue;
        }
        if columns.records >= SAMPLE_RECORDS_MAX {
            columns.has_more = true;
            break;
        }
        lines += 1;
        whole(line, Some(number), columns)?;
    }
    if lines == 0 { Err(SampleError::Empty) } else { Ok(()) }
}

/// Reads the value at the start of `input` and, if it can be a record, its members; gives where it ends.
fn record(input: &[u8], line: Option<u64>, columns: &mut Columns) -> Result<usize, Stop> {
    let mut scanner = Scanner::new(input, true);
    let record = scanner.value(0)?;
    if let Some(fault) = scanner.fault() {
        let error = RecordError::of_fault(fault);
        columns.skip(error.code.as_str(), line, &error.message);
        return Ok(record.end);
    }
    if record.kind != ValueKind::Object {
        let code = RecordErrorCode::NotAnObject.as_str();
        columns.skip(code, line, "a record is a JSON object");
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
            columns.index(raw_name, line)
        } else {
            let mut name = Vec::new();
            unescape(raw_name, &mut name);
            columns.index(&name, line)
        };
        let value = members.value(1)?;
        if let Some(index) = index {
            columns.observe_json(index, value, value.raw(object));
        }
        more = members.after_member()?;
    }
    Ok(record.end)
}
