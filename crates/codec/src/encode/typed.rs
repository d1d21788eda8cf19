//! Declared columns: each value in its column's binary form.

use std::collections::HashSet;
use std::ops::Range;

use super::csv::CsvRow;
use super::error::RecordError;
use super::members::{ColumnLookup, NextMember, key_text};
use super::pointers::{check_length, check_total};
use super::{EncoderError, TuplePrefix, put_prefix};
use crate::columns::{Column, ColumnType, EpochUnit};
use crate::defaults::encode_default;
use crate::definition::growth::last_widening;
use crate::json::{Scanner, Stop, Value, ValueKind};
use crate::values::{self, NULL_FIELD, ValueError, begin_field, end_field, json};
use crate::{COLUMNS_MAX, KeyField, UnknownKeys, Widening};

/// id, `received_at`, extra.
const FIELDS_BEFORE_COLUMNS: u16 = 3;

#[derive(Debug)]
pub(super) struct TypedEncoder {
    pub(super) lookup: ColumnLookup,
    pub(super) unknown: UnknownKeys,
    columns: Vec<TargetColumn>,
    fields: u16,
    /// Of the record that was scanned last: each column's value,
    values: Vec<Option<Value>>,
    /// the members that belong to no column, those side by side in one piece,
    extra: Vec<Range<usize>>,
    /// and the first thing that was wrong.
    error: Option<RecordError>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct TargetColumn {
    /// The key that it takes: senders know it, and perhaps not the column's name.
    member: Box<str>,
    kind: ColumnType,
    /// Its type before it became text.
    was: Option<ColumnType>,
    epoch: Option<EpochUnit>,
    /// The encoded field for records without the key.
    default: Box<[u8]>,
    in_key: bool,
}

impl TypedEncoder {
    pub(super) fn new(
        columns: &[Column],
        widened: &[Widening],
        unknown: UnknownKeys,
        key: &[KeyField],
    ) -> Result<TypedEncoder, EncoderError> {
        if columns.len() > COLUMNS_MAX {
            return Err(EncoderError::TooManyColumns);
        }
        let fields = u16::try_from(columns.len()).map_err(|_| EncoderError::TooManyColumns)?;
        let (mut names, mut members) = (HashSet::new(), HashSet::new());
        let mut targets = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            if !names.insert(&column.name) {
                return Err(EncoderError::DuplicateColumn(column.name.clone()));
            }
            if !members.insert(column.member()) {
                return Err(EncoderError::DuplicateMember(column.member().to_owned()));
            }
            let default = encode_default(column)
                .map_err(|error| EncoderError::Default { column: column.name.clone(), error })?;
            targets.push(TargetColumn {
                member: column.member().into(),
                kind: column.kind,
                was: last_widening(widened, index).filter(|_| column.kind == ColumnType::Text),
                epoch: column.epoch,
                default: default.into(),
                in_key: false,
            });
        }
        for field in key {
            let KeyField::Column(index) = field else {
                return Err(EncoderError::KeyField);
            };
            targets.get_mut(*index).ok_or(EncoderError::KeyField)?.in_key = true;
        }
        Ok(TypedEncoder {
            lookup: ColumnLookup::new(columns),
            unknown,
            values: vec![None; targets.len()],
            columns: targets,
            fields: FIELDS_BEFORE_COLUMNS + fields,
            extra: Vec::new(),
            error: None,
            scratch: Vec::new(),
        })
    }

    pub(super) fn columns_count(&self) -> usize {
        self.columns.len()
    }

    /// The columns' keys.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| &*column.member)
    }

    /// Reads an object, of which the scanner has peeked at the brace.
    pub(super) fn scan(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        self.values.fill(None);
        self.extra.clear();
        self.error = None;
        self.lookup.begin();
        let mut follows_unknown = false;
        let mut more = scanner.open_object()?;
        while more {
            let member = self.lookup.next(scanner)?;
            let value = scanner.value(1)?;
            match member {
                // The last of equal keys counts.
                NextMember::Column(index) => {
                    self.values[index] = Some(value);
                    follows_unknown = false;
                }
                NextMember::Unknown(key) => {
                    self.take_unknown(key, value, follows_unknown, scanner);
                    follows_unknown = true;
                }
            }
            if scanner.fault().is_some() && self.error.is_none() {
                self.blame(member, scanner);
            }
            more = scanner.after_member()?;
        }
        Ok(())
    }

    fn take_unknown(
        &mut self,
        key: Value,
        value: Value,
        follows_unknown: bool,
        scanner: &mut Scanner<'_>,
    ) {
        match self.unknown {
            UnknownKeys::Extra => {
                scanner.count_member();
                match self.extra.last_mut() {
                    Some(piece) if follows_unknown => piece.end = value.end,
                    _ => self.extra.push(key.start..value.end),
                }
            }
            UnknownKeys::Drop => {}
            UnknownKeys::Reject => {
                let name = key_text(key, scanner.input(), &mut self.scratch);
                self.error.get_or_insert_with(|| RecordError::unknown_key(name));
            }
        }
    }

    #[cold]
    fn blame(&mut self, member: NextMember, scanner: &Scanner<'_>) {
        let error = scanner.fault().map(RecordError::of_fault);
        self.error = match member {
            NextMember::Column(index) => {
                error.map(|error| error.in_column(&*self.columns[index].member))
            }
            NextMember::Unknown(_) => error,
        };
    }

    /// Appends the tuple of the object that was scanned.
    pub(super) fn write(
        &mut self,
        input: &[u8],
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        put_prefix(self.fields, prefix, out);
        put_extra(&self.extra, input, out);
        let mut key_bytes = 0;
        for (column, value) in self.columns.iter().zip(&self.values) {
            let start = out.len();
            match value {
                None => out.extend_from_slice(&column.default),
                Some(value) => column.encode(*value, input, &mut self.scratch, out)?,
            }
            if column.in_key {
                key_bytes += column.check_key(&out[start..])?;
                check_total(key_bytes, &column.member)?;
            }
        }
        Ok(())
    }

    /// The object that was scanned, as part of a record: the encoded fields of the columns that it names, and what is beside
    /// them, as the field `extra` would be.
    pub(super) fn write_part(&mut self, input: &[u8]) -> Result<ScannedPart, RecordError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut extra = Vec::new();
        put_extra(&self.extra, input, &mut extra);
        let (mut fields, mut key_bytes) = (Vec::with_capacity(self.columns.len()), 0);
        for (column, value) in self.columns.iter().zip(&self.values) {
            let Some(value) = value else {
                fields.push(None);
                continue;
            };
            let mut field = Vec::new();
            column.encode(*value, input, &mut self.scratch, &mut field)?;
            if column.in_key {
                key_bytes += column.check_key(&field)?;
                check_total(key_bytes, &column.member)?;
            }
            fields.push(Some(field));
        }
        Ok(ScannedPart { fields, extra })
    }

    /// How many fields a tuple has.
    pub(super) fn fields_count(&self) -> u16 {
        self.fields
    }

    /// Each column's member, and whether it is in the key.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = (&str, bool)> {
        self.columns.iter().map(|column| (&*column.member, column.in_key))
    }

    /// Appends the tuple of a CSV row; gives how many keys and values its documents have.
    pub(super) fn write_row<'a, F: Fn(usize) -> &'a [u8], Q: Fn(usize) -> bool>(
        &mut self,
        row: &CsvRow<'_, F, Q>,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<u64, RecordError> {
        let fields = row.header.fields_of_columns();
        assert_eq!(fields.len(), self.columns.len(), "the header was bound by another encoder");
        put_prefix(self.fields, prefix, out);
        row.put_extra(out)?;
        let mut members = row.header.members();
        let mut key_bytes = 0;
        for (column, field) in self.columns.iter().zip(fields) {
            let start = out.len();
            match field.map(|field| row.value(field)) {
                None => out.extend_from_slice(&column.default),
                Some(None) => out.extend_from_slice(&NULL_FIELD),
                Some(Some(text)) => {
                    encode_text(column.kind, text, out)
                        .map(|counted| members = members.saturating_add(counted))
                        .or_else(|error| values::encode_epoch(column.epoch, error, text, out))
                        .map_err(|error| {
                            RecordError::of_field(error, column.kind, text)
                                .in_column(&*column.member)
                        })?;
                }
            }
            if column.in_key {
                key_bytes += column.check_key(&out[start..])?;
                check_total(key_bytes, &column.member)?;
            }
        }
        Ok(members)
    }
}

/// See [`TypedEncoder::write_part`].
#[derive(Debug)]
pub(super) struct ScannedPart {
    /// One for each column.
    pub fields: Vec<Option<Vec<u8>>>,
    pub extra: Vec<u8>,
}

impl TargetColumn {
    /// Appends the field of a value that was read from `input`.
    #[inline]
    fn encode(
        &self,
        value: Value,
        input: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let raw = value.raw(input);
        values::encode_json(self.kind, value.kind, raw, scratch, out)
            .or_else(|error| self.encode_as_before(error, value.kind, raw, out))
            .or_else(|error| values::encode_epoch(self.epoch, error, raw, out))
            .map_err(|error| {
                RecordError::of_json_value(error, self.kind, raw).in_column(&*self.member)
            })
    }

    /// A column that became text still takes what it took before, such as a JSON number: as the text of it.
    #[cold]
    fn encode_as_before(
        &self,
        error: ValueError,
        kind: ValueKind,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let (ValueError::Type, Some(was)) = (error, self.was) else {
            return Err(error);
        };
        let mut field = Vec::new();
        values::encode_json(was, kind, raw, &mut Vec::new(), &mut field).map_err(|_| error)?;
        let text = values::text_of(was, &field[NULL_FIELD.len()..]).map_err(|_| error)?;
        values::encode_text(self.kind, &text, out)
    }

    /// How many bytes an encoded field adds to the key, which it must be fit for.
    fn check_key(&self, field: &[u8]) -> Result<usize, RecordError> {
        if *field == NULL_FIELD {
            return Err(RecordError::missing_key(&self.member));
        }
        let bytes = &field[NULL_FIELD.len()..];
        check_length(bytes.len(), bytes, &self.member)
    }
}

/// Appends the field for a text; gives how many keys and values it has as a document.
fn encode_text(kind: ColumnType, text: &[u8], out: &mut Vec<u8>) -> Result<u64, ValueError> {
    if kind == ColumnType::Jsonb {
        return values::encode_document(text, out);
    }
    values::encode_text(kind, text, out).map(|()| 0)
}

/// Appends the column `extra`: an object of raw members, or NULL without any.
fn put_extra(pieces: &[Range<usize>], input: &[u8], out: &mut Vec<u8>) {
    if pieces.is_empty() {
        out.extend_from_slice(&NULL_FIELD);
        return;
    }
    let start = begin_field(out);
    out.push(json::VERSION);
    for (index, piece) in pieces.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        out.extend_from_slice(&input[piece.clone()]);
    }
    out.push(b'}');
    end_field(out, start);
}
