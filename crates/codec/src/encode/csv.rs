//! CSV rows: a header bound to a stream once, then fields of raw bytes.

use serde::{Deserialize, Serialize};

use super::error::{RecordError, RecordErrorCode, SHOWN_CHARS_MAX, shown, shown_quoted};
use super::typed::TypedEncoder;
use crate::UnknownKeys;
use crate::csv::FieldNames;
use crate::json::{excess_of, write_string};
use crate::values::{NULL_FIELD, begin_field, end_field, json, text};

/// Most columns that a message lists.
const LISTED_COLUMNS_MAX: usize = 20;
/// Most matched names that are told; a sender can write any number of them.
const MATCHED_NAMES_MAX: usize = 100;

/// Where each field of a file's rows goes.
#[derive(Debug, Clone)]
pub struct CsvHeader {
    names: Vec<Box<str>>,
    null: Option<Box<[u8]>>,
    /// Of a typed stream: the field of each declared column.
    of_columns: Vec<Option<usize>>,
    /// The fields that become members of an object (all of them in a document, the unknown ones in `extra`).
    members: Vec<MemberField>,
    /// Fields without a name that must be empty, because the stream takes no unknown keys.
    empty_fields: Vec<usize>,
    /// The first [`MATCHED_NAMES_MAX`] names that are those of columns but for their case and the spaces around them.
    matched: Vec<MatchedName>,
}

/// A name of a header that is not written as the key that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedName {
    /// As sent, at most [`SHOWN_CHARS_MAX`] characters of it.
    pub header: String,
    pub key: String,
}

#[derive(Debug, Clone)]
struct MemberField {
    field: usize,
    /// The key as JSON, and the colon.
    key: Box<[u8]>,
    /// Where it is NULL it is not there.
    is_nameless: bool,
}

impl CsvHeader {
    pub(super) fn of_document(
        names: &[&str],
        null: Option<&str>,
    ) -> Result<CsvHeader, RecordError> {
        let fields = checked(names)?;
        let mut header = CsvHeader::new(&fields, null);
        let member = |field| MemberField::new(field, &fields);
        header.members = (0..names.len()).map(member).collect();
        Ok(header)
    }

    /// Fails unless a column of the stream is in the header, whatever the rule for unknown keys is.
    pub(super) fn of_columns(
        names: &[&str],
        null: Option<&str>,
        typed: &TypedEncoder,
    ) -> Result<CsvHeader, RecordError> {
        let fields = checked(names)?;
        let mut header = CsvHeader::new(&fields, null);
        header.of_columns = vec![None; typed.columns_count()];
        let columns = header.columns_of(names, &fields, typed);
        if !columns.is_empty() && columns.iter().all(Option::is_none) && typed.columns_count() > 0 {
            return Err(no_column(names, typed));
        }
        for (field, column) in columns.into_iter().enumerate() {
            match (column, typed.unknown) {
                (Some(column), _) => header.of_columns[column] = Some(field),
                (None, UnknownKeys::Extra) => {
                    header.members.push(MemberField::new(field, &fields));
                }
                (None, UnknownKeys::Drop) => {}
                (None, UnknownKeys::Reject) if fields.is_nameless(field) => {
                    header.empty_fields.push(field);
                }
                (None, UnknownKeys::Reject) => {
                    return Err(RecordError::unknown_key(names[field].as_bytes()));
                }
            }
        }
        Ok(header)
    }

    fn new(fields: &FieldNames<'_>, null: Option<&str>) -> CsvHeader {
        CsvHeader {
            names: fields.keys().map(Into::into).collect(),
            null: null.map(|null| null.as_bytes().into()),
            of_columns: Vec::new(),
            members: Vec::new(),
            empty_fields: Vec::new(),
            matched: Vec::new(),
        }
    }

    /// The column of each field: the one whose key is the name; else the one whose key is the name but for case and the
    /// spaces around it, where no other name and no other key is so alike.
    fn columns_of(
        &mut self,
        names: &[&str],
        fields: &FieldNames<'_>,
        typed: &TypedEncoder,
    ) -> Vec<Option<usize>> {
        let key = |field: usize| {
            // A name of nothing but spaces is one only to a stream that has it.
            let blank = fields.is_nameless(field)
                && names.iter().filter(|name| **name == names[field]).count() == 1;
            let blank = typed.lookup.index(names[field].as_bytes()).filter(|_| blank);
            blank.or_else(|| typed.lookup.index(fields.key(field).as_bytes()))
        };
        let mut columns: Vec<Option<usize>> = (0..names.len()).map(key).collect();
        let plain = |name: &str| name.trim().to_lowercase();
        let free: Vec<(usize, String)> = (typed.members().enumerate())
            .filter(|(column, _)| !columns.contains(&Some(*column)))
            .map(|(column, member)| (column, plain(member)))
            .collect();
        let left: Vec<(usize, String)> = (0..names.len())
            .filter(|field| columns[*field].is_none() && !fields.is_nameless(*field))
            .map(|field| (field, plain(names[field])))
            .collect();
        for (field, name) in &left {
            let mut alike = free.iter().filter(|(_, member)| member == name);
            let (Some((column, _)), None) = (alike.next(), alike.next()) else { continue };
            if left.iter().filter(|(_, other)| other == name).count() == 1 {
                columns[*field] = Some(*column);
                self.note_matched(names[*field], typed.members().nth(*column).unwrap_or_default());
            }
        }
        columns
    }

    fn note_matched(&mut self, name: &str, key: &str) {
        if self.matched.len() < MATCHED_NAMES_MAX {
            let mut header: String = name.chars().take(SHOWN_CHARS_MAX).collect();
            if header.len() < name.len() {
                header.push('…');
            }
            self.matched.push(MatchedName { header, key: key.to_owned() });
        }
    }

    /// The names in the header's order; a field without one has its number.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The first names that are not written as the keys that they were taken for.
    pub fn matched(&self) -> &[MatchedName] {
        &self.matched
    }

    /// The names were compared with a stream's columns, and one at least is there.
    pub fn is_of_columns(&self) -> bool {
        !self.of_columns.is_empty()
    }

    /// How many keys and values the object has that a row's fields without a column become.
    pub(super) fn members(&self) -> u64 {
        let keys = self.members.len() as u64;
        (2 * keys).saturating_add(excess_of(keys))
    }

    pub(super) fn field_named(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|field| field.as_bytes() == name)
    }

    pub(super) fn fields_of_columns(&self) -> &[Option<usize>] {
        &self.of_columns
    }
}

impl MemberField {
    fn new(field: usize, fields: &FieldNames<'_>) -> MemberField {
        MemberField {
            field,
            key: member_key(fields.key(field)),
            is_nameless: fields.is_nameless(field),
        }
    }
}

fn checked<'a>(names: &[&'a str]) -> Result<FieldNames<'a>, RecordError> {
    for name in names {
        text::check(name.as_bytes()).map_err(RecordError::of_text)?;
    }
    FieldNames::new(names).map_err(|name| {
        let message = format!("the header names {} twice", shown_quoted(name.as_bytes()));
        RecordError::new(RecordErrorCode::InvalidCsv, message)
    })
}

fn no_column(names: &[&str], typed: &TypedEncoder) -> RecordError {
    let header = shown_quoted(names.join(", ").as_bytes());
    let mut columns: Vec<String> =
        typed.members().take(LISTED_COLUMNS_MAX).map(|member| shown(member.as_bytes())).collect();
    if typed.columns_count() > LISTED_COLUMNS_MAX {
        columns.push("…".to_owned());
    }
    let message = format!(
        "no column of the stream is in the header {header}; the stream takes {}",
        columns.join(", ")
    );
    RecordError::new(RecordErrorCode::InvalidCsv, message)
}

fn member_key(name: &str) -> Box<[u8]> {
    let mut key = Vec::new();
    write_string(name, &mut key);
    key.push(b':');
    key.into()
}

/// A row and the header it belongs to.
pub(super) struct CsvRow<'h, F, Q> {
    pub(super) header: &'h CsvHeader,
    pub(super) fields: F,
    /// Whether a field stood in quotes.
    pub(super) is_quoted: Q,
    pub(super) count: usize,
}

impl<'a, F: Fn(usize) -> &'a [u8], Q: Fn(usize) -> bool> CsvRow<'_, F, Q> {
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
        let filled = |field: &&usize| self.value(**field).is_some();
        match self.header.empty_fields.iter().find(filled) {
            Some(field) => Err(RecordError::unnamed_value(*field, &self.header.names[*field])),
            None => Ok(()),
        }
    }

    /// The text of a field, `None` for NULL. What stands in quotes is never NULL, as in PostgreSQL's CSV.
    pub(super) fn value(&self, field: usize) -> Option<&'a [u8]> {
        let bytes = (self.fields)(field);
        let null = bytes.is_empty() || self.header.null.as_deref() == Some(bytes);
        (!null || (self.is_quoted)(field)).then_some(bytes)
    }

    /// Appends the column `extra`; NULL if every field has a column.
    pub(super) fn put_extra(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.header.members.iter().all(|member| self.is_left_out(member)) {
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
        let start = out.len();
        for member in &self.header.members {
            if self.is_left_out(member) {
                continue;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(&member.key);
            match self.value(member.field) {
                None => out.extend_from_slice(b"null"),
                Some(bytes) => {
                    let text = text::check(bytes).map_err(|error| {
                        RecordError::of_text(error).in_column(&*self.header.names[member.field])
                    })?;
                    write_string(text, out);
                }
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn is_left_out(&self, member: &MemberField) -> bool {
        member.is_nameless && self.value(member.field).is_none()
    }
}
