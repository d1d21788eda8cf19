//! boolean: any unambiguous beginning of `true`, `false`, `yes`, `no`, `on`, `off`, or `1` or `0`, in any case.

use super::{InvalidBinary, ValueError};

/// Reads what PostgreSQL's `boolin` reads.
pub(super) fn parse(text: &[u8]) -> Result<bool, ValueError> {
    let begins = |word: &[u8], at_least: usize| {
        text.len() >= at_least
            && word.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
    };
    // A lone "o" could be on or off.
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || text == b"1" {
        Ok(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || text == b"0" {
        Ok(false)
    } else {
        Err(ValueError::Type)
    }
}

pub(super) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    match bytes {
        [0] => out.extend_from_slice(b"false"),
        [1] => out.extend_from_slice(b"true"),
        _ => return Err(InvalidBinary),
    }
    Ok(())
}
