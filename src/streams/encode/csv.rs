//! CSV rows: a header bound to a stream once, then fields of raw bytes.

use std::collections::HashSet;

use super::error::{RecordError, RecordErrorCode, shown_quoted};
use super::typed::TypedEncoder;
use crate::streams::UnknownKeys;
use crate::streams::json::write_string;
use crate::streams::values::{NULL_FIELD, begin_field, end_field, json, text};

/// Where each field of a file's rows goes.
#[derive(Debug, Clone)]
pub struct CsvHeader {
    names: Vec<Box<str>>,
    null: Option<Box<[u8]>>,
    /// Of a typed stream: the field of each declared column.
    of_columns: Vec<Option<usize>>,
    /// The fields that become members of an object (all of them in a document, the unknown ones in `extra`), with their
    /// keys as JSON and the colon.
    members: Vec<(usize, Box<[u8]>)>,
}

impl CsvHeader {
    pub(super) fn of_document(
        names: &[&str],
        null: Option<&str>,
    ) -> Result<CsvHeader, RecordError> {
        let mut header = CsvHeader::checked(names, null)?;
        header.members = (0..names.len()).map(|field| (field, member_key(names[field]))).collect();
        Ok(header)
    }

    pub(super) fn of_columns(
        names: &[&str],
        null: Option<&str>,
        typed: &TypedEncoder,
    ) -> Result<CsvHeader, RecordError> {
        let mut header = CsvHeader::checked(names, null)?;
        header.of_columns = vec![None; typed.columns_count()];
        for (field, name) in names.iter().enumerate() {
            match (typed.lookup.index(name.as_bytes()), typed.unknown) {
                (Some(column), _) => header.of_columns[column] = Some(field),
                (None, UnknownKeys::Extra) => header.members.push((field, member_key(name))),
                (None, UnknownKeys::Drop) => {}
                (None, UnknownKeys::Reject) => {
                    return Err(RecordError::unknown_key(name.as_bytes()));
                }
            }
        }
        Ok(header)
    }

    fn checked(names: &[&str], null: Option<&str>) -> Result<CsvHeader, RecordError> {
        let mut seen = HashSet::new();
        for name in names {
            text::check(name.as_bytes()).map_err(RecordError::of_text)?;
            if !seen.insert(name) {
                let shown = shown_quoted(name.as_bytes());
                let message = format!("the header names {shown} twice");
                return Err(RecordError::new(RecordErrorCode::InvalidCsv, message));
            }
        }
        Ok(CsvHeader {
            names: names.iter().map(|&name| name.into()).collect(),
            null: null.map(|null| null.as_bytes().into()),
            of_columns: Vec::new(),
            members: Vec::new(),
        })
    }

    /// The names in the header's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    pub(super) fn field_named(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|field| field.as_bytes() == name)
    }

    pub(super) fn fields_of_columns(&self) -> &[Option<usize>] {
        &self.of_columns
    }
}

fn member_key(name: &str) -> Box<[u8]> {
    let mut key = Vec::new();
    write_string(name, &mut key);
    key.push(b':');
    key.into()
}

/// A row and the header it belongs to.
pub(super) struct Row<'h, F> {
    pub(super) header: &'h CsvHeader,
    pub(super) fields: F,
    pub(super) count: usize,
}

impl<'a, F: Fn(usize) -> &'a [u8]> Row<'_, F> {
    /// Whether the row has the header's number of fields and is not too long.
    pub(super) fn check(&self, bytes_max: usize) -> Result<(), RecordError> {
        let expected = self.header.names.len();
        if self.count != expected {
            return Err(RecordError::new(
                RecordErrorCode::WrongFieldCount,
                format!("expected {expected} fields, got {}", self.count),
            ));
        }
        let commas = self.count.saturating_sub(1);
        let bytes = commas + (0..self.count).map(|field| (self.fields)(field).len()).sum::<usize>();
        if bytes > bytes_max {
            return Err(RecordError::too_large(bytes, bytes_max));
        }
        Ok(())
    }

    /// The text of a field, `None` for NULL.
    pub(super) fn value(&self, field: usize) -> Option<&'a [u8]> {
        let bytes = (self.fields)(field);
        let null = bytes.is_empty() || self.header.null.as_deref() == Some(bytes);
        (!null).then_some(bytes)
    }

    /// Appends the column `extra`; NULL if every field has a column.
    pub(super) fn put_extra(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.header.members.is_empty() {
            out.extend_from_slice(&NULL_FIELD);
            return Ok(());
        }
        let start = begin_field(out);
        out.push(json::VERSION);
        self.put_object(out)?;
        end_field(out, start);
        Ok(())
    }

    /// Appends the fields that become members as an object of strings and nulls.
    pub(super) fn put_object(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        out.push(b'{');
        for (index, (field, key)) in self.header.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            match self.value(*field) {
                None => out.extend_from_slice(b"null"),
                Some(bytes) => {
                    let text = text::check(bytes).map_err(|error| {
                        RecordError::of_text(error).in_column(&*self.header.names[*field])
                    })?;
                    write_string(text, out);
                }
            }
        }
        out.push(b'}');
        Ok(())
    }
}
