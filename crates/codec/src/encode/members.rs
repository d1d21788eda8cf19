//! Which member of an object is which column: by its key, which is a column's name unless the column says `from`.
//!
//! Senders repeat themselves: the keys of one record come in the order of the record before. So the next key is first
//! compared with the one that followed last time, without even looking for its end; only then it is looked up.

use std::collections::HashMap;

use crate::columns::Column;
use crate::json::{Scanner, Stop, Value, ValueKind, unescape, write_string};
use crate::values::unquoted;

/// Finds columns by the keys that members have. Owns what it remembers between records.
#[derive(Debug)]
pub(super) struct ColumnLookup {
    by_key: HashMap<Box<[u8]>, usize>,
    /// Each key as raw JSON with its quotes; empty if it cannot be written without escapes.
    quoted: Vec<Box<[u8]>>,
    /// The column whose key came after a column's key last time; the last element is for an object's first key.
    following: Vec<usize>,
    previous: usize,
    scratch: Vec<u8>,
}

/// A key that was read: that of a column, or of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextMember {
    Column(usize),
    Unknown(Value),
}

impl ColumnLookup {
    pub(super) fn new(columns: &[Column]) -> ColumnLookup {
        let key = |(index, column): (usize, &Column)| (column.member().as_bytes().into(), index);
        let quoted = |column: &Column| {
            let mut quoted = Vec::new();
            write_string(column.member(), &mut quoted);
            if quoted.len() == column.member().len() + 2 { quoted.into() } else { Box::default() }
        };
        ColumnLookup {
            by_key: columns.iter().enumerate().map(key).collect(),
            quoted: columns.iter().map(quoted).collect(),
            // The first guess is the declared order.
            following: (1..=columns.len()).chain([0]).collect(),
            previous: columns.len(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn index(&self, key: &[u8]) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// Makes ready for the first key of an object.
    pub(super) fn begin(&mut self) {
        self.previous = self.quoted.len();
    }

    /// Reads a key and its colon.
    #[inline]
    pub(super) fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<NextMember, Stop> {
        let predicted = self.following[self.previous];
        if let Some(quoted) = self.quoted.get(predicted)
            && scanner.key_if(quoted)?
        {
            self.previous = predicted;
            return Ok(NextMember::Column(predicted));
        }
        let key = scanner.key()?;
        let name = key_text(key, scanner.input(), &mut self.scratch);
        let Some(&index) = self.by_key.get(name) else {
            return Ok(NextMember::Unknown(key));
        };
        self.following[self.previous] = index;
        self.previous = index;
        Ok(NextMember::Column(index))
    }
}

/// The text of a key that was read from `input`; `scratch` holds it if it has escapes.
pub(super) fn key_text<'a>(key: Value, input: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let raw = unquoted(key.raw(input));
    if key.kind == ValueKind::Plain {
        return raw;
    }
    scratch.clear();
    unescape(raw, scratch);
    scratch
}
