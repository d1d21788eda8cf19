//! Documents: the record as it is, in the column `payload`.

use super::csv::CsvRow;
use super::error::RecordError;
use super::pointers::KeyPointers;
use super::{EncoderError, TuplePrefix, put_prefix};
use crate::json::{Scanner, Stop};
use crate::values::{begin_field, end_field, json};
use crate::{KeyField, PayloadType};

/// id, `received_at`, payload.
pub(super) const FIELDS: u16 = 3;

#[derive(Debug)]
pub(super) struct DocumentEncoder {
    payload: PayloadType,
    key: Option<KeyPointers>,
}

impl DocumentEncoder {
    pub(super) fn new(
        payload: PayloadType,
        key: &[KeyField],
    ) -> Result<DocumentEncoder, EncoderError> {
        let mut pointers = Vec::with_capacity(key.len());
        for field in key {
            let KeyField::Pointer(segments) = field else {
                return Err(EncoderError::KeyField);
            };
            pointers.push(segments.as_slice());
        }
        let key = if pointers.is_empty() {
            None
        } else {
            Some(KeyPointers::new(pointers).ok_or(EncoderError::KeyField)?)
        };
        Ok(DocumentEncoder { payload, key })
    }

    pub(super) fn key(&self) -> Option<&KeyPointers> {
        self.key.as_ref()
    }

    /// Whether the document that was scanned last has a complete key.
    pub(super) fn check_key(&self, document: &[u8]) -> Result<(), RecordError> {
        self.key.as_ref().map_or(Ok(()), |key| key.check(document))
    }

    /// Whether PostgreSQL takes the document apart; `json` is kept as text.
    pub(super) fn is_taken_apart(&self) -> bool {
        self.payload == PayloadType::Jsonb
    }

    /// Reads an object, of which the scanner has peeked at the brace.
    pub(super) fn scan(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        match &mut self.key {
            None => scanner.value(0).map(drop),
            Some(key) => key.scan(scanner),
        }
    }

    /// Appends the tuple of the object that was scanned, from `start` to where the scanner is.
    pub(super) fn write(
        &mut self,
        scanner: &Scanner<'_>,
        start: usize,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if let Some(fault) = scanner.fault() {
            return Err(RecordError::of_fault(fault));
        }
        self.check_key(scanner.input())?;
        let field = self.begin(prefix, out);
        out.extend_from_slice(&scanner.input()[start..scanner.position()]);
        end_field(out, field);
        Ok(())
    }

    /// Appends the tuple of a CSV row: an object of strings and nulls. Gives how many keys and values it has.
    pub(super) fn write_row<'a, F: Fn(usize) -> &'a [u8], Q: Fn(usize) -> bool>(
        &mut self,
        row: &CsvRow<'_, F, Q>,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<u64, RecordError> {
        if let Some(key) = &self.key {
            key.check_fields(|name| row.value(row.header.field_named(name)?))?;
        }
        let field = self.begin(prefix, out);
        row.put_object(out)?;
        end_field(out, field);
        Ok(if self.is_taken_apart() { row.header.members() } else { 0 })
    }

    /// Appends all that comes before the payload's text; gives what [`end_field`] needs.
    pub(super) fn begin(&self, prefix: TuplePrefix, out: &mut Vec<u8>) -> usize {
        put_prefix(FIELDS, prefix, out);
        let start = begin_field(out);
        if self.payload == PayloadType::Jsonb {
            out.push(json::VERSION);
        }
        start
    }
}
