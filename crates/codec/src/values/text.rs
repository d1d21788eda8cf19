//! text: valid UTF-8 without NUL, which PostgreSQL cannot store.

use memchr::memchr;

use super::{InvalidBinary, ValueError};
use crate::json::write_string;

/// The text, if PostgreSQL can store it.
pub fn check(text: &[u8]) -> Result<&str, ValueError> {
    if memchr(0, text).is_some() {
        return Err(ValueError::NulCharacter);
    }
    std::str::from_utf8(text).map_err(|_| ValueError::InvalidUtf8)
}

pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(check(text)?.as_bytes());
    Ok(())
}

pub(super) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    write_string(std::str::from_utf8(bytes).map_err(|_| InvalidBinary)?, out);
    Ok(())
}
