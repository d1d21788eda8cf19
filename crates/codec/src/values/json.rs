//! jsonb: a version byte and the JSON text, which PostgreSQL parses itself.

use super::{InvalidBinary, ValueError};
use crate::json::{Scanner, Stop};

/// The version that PostgreSQL's `jsonb_recv` knows.
pub const VERSION: u8 = 1;

/// Appends a JSON text that a scanner has read without a fault.
pub(super) fn encode_raw(raw: &[u8], out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend_from_slice(raw);
}

/// Appends a text that must be one JSON value; gives how many keys and values it has.
pub(super) fn encode_text(text: &[u8], out: &mut Vec<u8>) -> Result<u64, ValueError> {
    let mut scanner = Scanner::new(text, true);
    let value = scanner.value(0).map_err(ValueError::Json)?;
    if value.end != text.len() {
        let message = "something follows the JSON value";
        return Err(ValueError::Json(Stop::Malformed { offset: value.end, message }));
    }
    if let Some(fault) = scanner.fault() {
        return Err(ValueError::JsonFault(fault));
    }
    encode_raw(text, out);
    Ok(scanner.members(0))
}

pub(super) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    let (&version, text) = bytes.split_first().ok_or(InvalidBinary)?;
    if version != VERSION {
        return Err(InvalidBinary);
    }
    out.extend_from_slice(text);
    Ok(())
}
