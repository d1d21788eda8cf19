//! Values of the declared columns: from JSON or text into the field of a COPY BINARY tuple, and back to JSON.
//!
//! One file a family of types. Each reads the text form as PostgreSQL's own input function does (where it takes
//! several spellings: the ISO one), and gives the bytes of PostgreSQL's binary form. A field is its length (4 bytes,
//! big endian, -1 for NULL) and those bytes. Nothing here knows streams or records.

mod boolean;
mod calendar;
mod epoch;
pub mod json;
pub mod numbers;
pub mod numeric;
pub mod text;
pub mod timestamps;
pub mod uuid;

use crate::columns::{ColumnType, EpochUnit};
use crate::json::{Fault, Stop, ValueKind, unescape};

/// The length that stands for NULL.
pub const NULL_FIELD: [u8; 4] = (-1_i32).to_be_bytes();

/// Why a value does not fit a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// It is not a text or value of this type at all.
    Type,
    /// It is one, but PostgreSQL's type cannot hold it.
    Range,
    InvalidUtf8,
    /// A text with a NUL character.
    NulCharacter,
    /// A JSON text that is not well formed.
    Json(Stop),
    /// A JSON text that `jsonb` would refuse.
    JsonFault(Fault),
}

/// A field's bytes are not those of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidBinary;

/// Appends the field for a text, as CSV or a JSON string gives it. Around anything but text itself, whitespace is
/// ignored.
pub fn encode_text(kind: ColumnType, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let trimmed = || trim(text);
    match kind {
        ColumnType::Boolean => put(out, [u8::from(boolean::parse(trimmed())?)]),
        ColumnType::SmallInt => put(out, numbers::parse_integer::<i16>(trimmed())?.to_be_bytes()),
        ColumnType::Integer => put(out, numbers::parse_integer::<i32>(trimmed())?.to_be_bytes()),
        ColumnType::BigInt => put(out, numbers::parse_integer::<i64>(trimmed())?.to_be_bytes()),
        ColumnType::Real => put(out, numbers::parse_real(trimmed())?.to_be_bytes()),
        ColumnType::DoublePrecision => put(out, numbers::parse_double(trimmed())?.to_be_bytes()),
        ColumnType::Numeric => put_sized(out, |out| numeric::encode(trimmed(), out))?,
        ColumnType::Text => put_sized(out, |out| text::encode(text, out))?,
        ColumnType::TimestampTz => put(out, timestamps::parse_timestamp(trimmed())?.to_be_bytes()),
        ColumnType::Date => put(out, timestamps::parse_date(trimmed())?.to_be_bytes()),
        ColumnType::Uuid => put(out, uuid::parse(trimmed())?),
        ColumnType::Jsonb => drop(encode_document(text, out)?),
    }
    Ok(())
}

/// Appends the field of a document for its text; gives how many keys and values it has.
pub fn encode_document(text: &[u8], out: &mut Vec<u8>) -> Result<u64, ValueError> {
    let start = begin_field(out);
    let members = json::encode_text(trim(text), out)?;
    end_field(out, start);
    Ok(members)
}

/// Appends the field for a JSON value whose raw text is `raw`; `scratch` is overwritten.
pub fn encode_json(
    kind: ColumnType,
    value: ValueKind,
    raw: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match (kind, value) {
        (_, ValueKind::Null) => out.extend_from_slice(&NULL_FIELD),
        (ColumnType::Jsonb, _) => {
            let start = begin_field(out);
            json::encode_raw(raw, out);
            end_field(out, start);
        }
        (ColumnType::Text, ValueKind::Plain) => {
            let start = begin_field(out);
            out.extend_from_slice(unquoted(raw));
            end_field(out, start);
        }
        (ColumnType::Text, ValueKind::Escaped) => {
            let start = begin_field(out);
            unescape(unquoted(raw), out);
            end_field(out, start);
        }
        (_, ValueKind::Plain) => encode_text(kind, unquoted(raw), out)?,
        (_, ValueKind::Escaped) => {
            scratch.clear();
            unescape(unquoted(raw), scratch);
            encode_text(kind, scratch, out)?;
        }
        (ColumnType::Boolean, ValueKind::True) => put(out, [1]),
        (ColumnType::Boolean, ValueKind::False) => put(out, [0]),
        (_, ValueKind::Integer) => encode_number(kind, raw, true, out)?,
        (_, ValueKind::Number) => encode_number(kind, raw, false, out)?,
        _ => return Err(ValueError::Type),
    }
    Ok(())
}

/// Appends the field of a column that may take times as numbers, for a value that was refused with `error`: a number, or
/// the text of one.
pub fn encode_epoch(
    unit: Option<EpochUnit>,
    error: ValueError,
    raw: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let unit = unit.ok_or(error)?;
    let quoted = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match epoch::parse(unit, trim(quoted.unwrap_or(raw))) {
        Ok(micros) => put(out, micros.to_be_bytes()),
        Err(ValueError::Type) => return Err(error),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// `integer`: the number has neither fraction nor exponent.
fn encode_number(
    kind: ColumnType,
    raw: &[u8],
    integer: bool,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let whole = |raw| {
        if integer { numbers::parse_integer(raw) } else { numbers::parse_integral(raw) }
    };
    match kind {
        ColumnType::SmallInt => put(out, numbers::narrow::<i16>(whole(raw)?)?.to_be_bytes()),
        ColumnType::Integer => put(out, numbers::narrow::<i32>(whole(raw)?)?.to_be_bytes()),
        ColumnType::BigInt => put(out, whole(raw)?.to_be_bytes()),
        ColumnType::Real | ColumnType::DoublePrecision | ColumnType::Numeric => {
            encode_text(kind, raw, out)?;
        }
        _ => return Err(ValueError::Type),
    }
    Ok(())
}

/// Appends the JSON form of a field's bytes (without the length).
pub fn write_json(kind: ColumnType, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    match kind {
        ColumnType::Boolean => boolean::write_json(bytes, out),
        ColumnType::SmallInt => numbers::write_integer(i16::from_be_bytes(exact(bytes)?), out),
        ColumnType::Integer => numbers::write_integer(i32::from_be_bytes(exact(bytes)?), out),
        ColumnType::BigInt => numbers::write_integer(i64::from_be_bytes(exact(bytes)?), out),
        ColumnType::Real => numbers::write_real(f32::from_be_bytes(exact(bytes)?), out),
        ColumnType::DoublePrecision => {
            numbers::write_double(f64::from_be_bytes(exact(bytes)?), out)
        }
        ColumnType::Numeric => numeric::write_json(bytes, out),
        ColumnType::Text => text::write_json(bytes, out),
        ColumnType::TimestampTz => {
            timestamps::write_timestamp_json(i64::from_be_bytes(exact(bytes)?), out);
            Ok(())
        }
        ColumnType::Date => {
            timestamps::write_date_json(i32::from_be_bytes(exact(bytes)?), out);
            Ok(())
        }
        ColumnType::Uuid => {
            uuid::write_json(exact(bytes)?, out);
            Ok(())
        }
        ColumnType::Jsonb => json::write_json(bytes, out),
    }
}

/// A field's bytes (without the length) as text: what PostgreSQL reads as this type, and what it would give as text.
pub fn text_of(kind: ColumnType, bytes: &[u8]) -> Result<Vec<u8>, InvalidBinary> {
    let mut json = Vec::new();
    write_json(kind, bytes, &mut json)?;
    if kind == ColumnType::Jsonb || json.first() != Some(&b'"') {
        return Ok(json);
    }
    let mut text = Vec::new();
    unescape(unquoted(&json), &mut text);
    Ok(text)
}

/// Appends a field of a fixed length.
#[inline]
pub fn put<const LENGTH: usize>(out: &mut Vec<u8>, bytes: [u8; LENGTH]) {
    let length = u32::try_from(LENGTH).expect("fixed fields are at most 16 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Leaves room for the length of a field whose bytes are appended next; [`end_field`] needs what it gives.
#[inline]
pub fn begin_field(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&NULL_FIELD);
    out.len()
}

/// Writes the length of the field whose bytes begin at `start` and end with `out`.
#[inline]
pub fn end_field(out: &mut [u8], start: usize) {
    let length = i32::try_from(out.len() - start)
        .expect("a field is at most a few times RECORD_BYTES_MAX, far below 2 GiB");
    out[start - NULL_FIELD.len()..start].copy_from_slice(&length.to_be_bytes());
}

/// Appends a field whose bytes `write` appends.
#[inline]
fn put_sized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let start = begin_field(out);
    write(out)?;
    end_field(out, start);
    Ok(())
}

/// The text between the quotes of a raw JSON string.
pub fn unquoted(raw: &[u8]) -> &[u8] {
    &raw[1..raw.len() - 1]
}

/// What PostgreSQL's `isspace` takes off the ends; it knows the vertical tab, which Rust's method does not.
pub fn trim(mut text: &[u8]) -> &[u8] {
    let space = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    while let [first, rest @ ..] = text
        && space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && space(*last)
    {
        text = rest;
    }
    text
}

fn exact<const LENGTH: usize>(bytes: &[u8]) -> Result<[u8; LENGTH], InvalidBinary> {
    bytes.try_into().map_err(|_| InvalidBinary)
}

#[cfg(test)]
mod tests;
