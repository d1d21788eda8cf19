//! Changes: a line becomes a tuple of the stream, and behind it what is done with it (`crate::changes`).
//!
//! Its values are encoded as those of records are, so a change refuses what a record would be refused for.

use uuid::Uuid;

use super::document::DocumentEncoder;
use super::error::{RecordError, RecordErrorCode};
use super::members::key_text;
use super::typed::{ScannedPart, TypedEncoder};
use super::{RecordEncoder, ShapeEncoder, TuplePrefix, put_prefix};
use crate::changes::{
    CHANGE_FIELDS, ChangeLine, ChangeOp, MERGED_DEPTH_MAX, Precondition, invalid, put_bytes,
};
use crate::json::{Scanner, Stop, Value, ValueKind};
use crate::values::{NULL_FIELD, begin_field, end_field, json, put};

/// What a tuple has behind the stream's own fields.
struct ChangeFields<'a> {
    op: ChangeOp,
    target: Option<Uuid>,
    precondition: Option<Precondition>,
    assigned: Option<Vec<u8>>,
    /// A JSON object.
    merged: Option<&'a [u8]>,
}

impl RecordEncoder {
    /// Reads one change, and appends its tuple.
    pub(super) fn read_change(
        &mut self,
        scanner: &mut Scanner<'_>,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), RecordError>, Stop> {
        let line = scanner.value(0)?;
        self.members = 0;
        let bytes = line.end - line.start;
        let bytes_max = self.limits.record_bytes_max;
        Ok(if bytes > bytes_max {
            Err(RecordError::too_large(bytes, bytes_max))
        } else if line.kind != ValueKind::Object {
            Err(RecordError::new(RecordErrorCode::NotAnObject, "a change is a JSON object"))
        } else if let Some(fault) = scanner.fault() {
            Err(RecordError::of_fault(fault))
        } else {
            self.write_change(line.raw(scanner.input()), prefix, out)
        })
    }

    fn write_change(
        &mut self,
        line: &[u8],
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let line = ChangeLine::read(line)?;
        let precondition = line.precondition()?;
        let data = line.data.map(|data| data.get().as_bytes());
        let key = line.key.map(|key| key.get().as_bytes());
        if line.id.is_some() == key.is_some() {
            return Err(invalid("a change says which record it is about by id or by key"));
        }
        let mut fields = ChangeFields {
            op: line.op,
            target: line.id,
            precondition,
            assigned: None,
            merged: None,
        };
        let start = out.len();
        match (line.op, data) {
            (ChangeOp::Delete, Some(_)) => return Err(invalid("a delete has no data")),
            (ChangeOp::Put | ChangeOp::Patch, None) => {
                return Err(invalid(
                    "data is missing: the record of a put, the members of a patch",
                ));
            }
            (ChangeOp::Put, Some(record)) => self.put_whole(record, key, prefix, out)?,
            (ChangeOp::Patch, Some(members)) => {
                self.check_members(members)?;
                match &mut self.target {
                    ShapeEncoder::Document(document) => {
                        check_depth(members)?;
                        put_document_key(document, key, Some(members), prefix, out)?;
                        fields.merged = Some(members);
                    }
                    ShapeEncoder::Typed(typed) => {
                        let (assigned, merged) = put_columns(typed, key, members, prefix, out)?;
                        fields.assigned = Some(assigned);
                        // The field of `extra`: a version, then the object.
                        let merged = merged.get(NULL_FIELD.len() + 1..).map(<[u8]>::to_vec);
                        merged.as_deref().map_or(Ok(()), check_depth)?;
                        put_change(&ChangeFields { merged: merged.as_deref(), ..fields }, out);
                        add_fields(out, start);
                        return Ok(());
                    }
                }
            }
            (ChangeOp::Delete, None) => match &mut self.target {
                ShapeEncoder::Document(document) => {
                    put_document_key(document, key, None, prefix, out)?;
                }
                ShapeEncoder::Typed(typed) => {
                    put_columns(typed, key, b"{}", prefix, out)?;
                }
            },
        }
        put_change(&fields, out);
        add_fields(out, start);
        Ok(())
    }

    /// Appends the tuple of a whole record, whose key has to be this one.
    fn put_whole(
        &mut self,
        record: &[u8],
        key: Option<&[u8]>,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        self.read_json(&mut Scanner::new(record, true), prefix, out).map_err(|_| sound())??;
        let Some(key) = key else { return Ok(()) };
        match &mut self.target {
            ShapeEncoder::Document(document) => {
                let texts = document.key_texts(record)?;
                same_key(&document.whole_key(key)?, &texts)
            }
            ShapeEncoder::Typed(typed) => {
                let own = scan_part(typed, record)?;
                let wanted = key_part(typed, key)?;
                same_columns(typed, &wanted, &own)
            }
        }
    }

    /// Counts the keys and values of what a patch has, as those of a record are counted.
    fn check_members(&mut self, data: &[u8]) -> Result<(), RecordError> {
        let mut scanner = Scanner::new(data, true);
        let value = scanner.value(0).map_err(|_| sound())?;
        if value.kind != ValueKind::Object {
            return Err(invalid("data is a JSON object").in_column("data"));
        }
        self.members = scanner.members(value.start);
        if self.members > self.limits.members_max {
            return Err(RecordError::too_many_members(self.members, self.limits.members_max));
        }
        Ok(())
    }
}

/// Whether the objects of a patch, which is sound JSON, are not too deep inside each other. What is in a list is not merged.
fn check_depth(patch: &[u8]) -> Result<(), RecordError> {
    let (mut objects, mut lists) = (0, 0_usize);
    let mut bytes = patch.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'[' => lists += 1,
            b']' => lists -= 1,
            b'{' if lists == 0 => objects += 1,
            b'}' if lists == 0 => objects -= 1,
            _ => {}
        }
        if objects > MERGED_DEPTH_MAX {
            return Err(RecordError::merged_too_deep());
        }
    }
    Ok(())
}

/// The syntax was looked at before.
fn sound() -> RecordError {
    invalid("the change is not JSON")
}

impl DocumentEncoder {
    /// The texts of the key's fields in a document that has all of them, as PostgreSQL takes them out of it.
    fn whole_key(&mut self, document: &[u8]) -> Result<Vec<Option<Vec<u8>>>, RecordError> {
        let texts = self.key_texts(document)?;
        self.check_key(document)?;
        Ok(texts)
    }

    /// The texts of the key's fields in a document, as far as it has them.
    fn key_texts(&mut self, document: &[u8]) -> Result<Vec<Option<Vec<u8>>>, RecordError> {
        let mut scanner = Scanner::new(document, true);
        if scanner.peek().map_err(|_| sound())? != b'{' {
            return Err(invalid("key and data are JSON objects"));
        }
        self.scan(&mut scanner).map_err(|_| sound())?;
        let text = |value: Value| {
            let (raw, mut scratch) = (value.raw(document), Vec::new());
            match value.kind {
                ValueKind::Plain | ValueKind::Escaped => {
                    key_text(value, document, &mut scratch).to_vec()
                }
                _ => raw.to_vec(),
            }
        };
        let Some(key) = self.key() else { return Ok(Vec::new()) };
        Ok(key.found().map(|(_, value)| value.map(text)).collect())
    }
}

fn same_key(wanted: &[Option<Vec<u8>>], found: &[Option<Vec<u8>>]) -> Result<(), RecordError> {
    let differs =
        |(wanted, found): (&Option<Vec<u8>>, &Option<Vec<u8>>)| found.is_some() && found != wanted;
    if wanted.iter().zip(found).any(differs) {
        Err(RecordError::key_changed("key"))
    } else {
        Ok(())
    }
}

/// Appends the tuple of a document that has the key, or nothing. `patch`: what is merged into the record, which must keep the
/// key, or at least have one.
fn put_document_key(
    document: &mut DocumentEncoder,
    key: Option<&[u8]>,
    patch: Option<&[u8]>,
    prefix: TuplePrefix,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let wanted = key.map(|key| document.whole_key(key)).transpose()?;
    if let Some(patch) = patch {
        let found = document.key_texts(patch)?;
        if let Some(field) = document.key().and_then(|key| key.lost_when_merged(patch)) {
            return Err(RecordError::missing_key(field));
        }
        if let Some(wanted) = &wanted {
            same_key(wanted, &found)?;
        }
    }
    match key {
        Some(key) => {
            let field = document.begin(prefix, out);
            out.extend_from_slice(key);
            end_field(out, field);
        }
        None => {
            put_prefix(super::document::FIELDS, prefix, out);
            out.extend_from_slice(&NULL_FIELD);
        }
    }
    Ok(())
}

/// Appends the tuple of the columns that the key and the data name. Gives which of them are assigned, and the field of what
/// is beside the columns.
fn put_columns(
    typed: &mut TypedEncoder,
    key: Option<&[u8]>,
    data: &[u8],
    prefix: TuplePrefix,
    out: &mut Vec<u8>,
) -> Result<(Vec<u8>, Vec<u8>), RecordError> {
    let wanted = key.map(|key| key_part(typed, key)).transpose()?;
    let ScannedPart { mut fields, extra } = scan_part(typed, data)?;
    let mut assigned = vec![0; fields.len().div_ceil(8)];
    for (index, _) in fields.iter().enumerate().filter(|(_, field)| field.is_some()) {
        assigned[index / 8] |= 1 << (index % 8);
    }
    if let Some(wanted) = wanted {
        let own = ScannedPart { fields, extra: Vec::new() };
        same_columns(typed, &wanted, &own)?;
        fields = own.fields;
        for (field, wanted) in fields.iter_mut().zip(wanted.fields) {
            if wanted.is_some() {
                *field = wanted;
            }
        }
    }
    put_prefix(typed.fields_count(), prefix, out);
    out.extend_from_slice(&NULL_FIELD);
    for field in fields {
        out.extend_from_slice(&field.unwrap_or_else(|| NULL_FIELD.to_vec()));
    }
    Ok((assigned, extra))
}

/// The object as part of a record.
fn scan_part(typed: &mut TypedEncoder, object: &[u8]) -> Result<ScannedPart, RecordError> {
    let mut scanner = Scanner::new(object, true);
    if scanner.peek().map_err(|_| sound())? != b'{' {
        return Err(invalid("key and data are JSON objects"));
    }
    typed.scan(&mut scanner).map_err(|_| sound())?;
    typed.write_part(object)
}

/// The object as a whole key, and nothing else.
fn key_part(typed: &mut TypedEncoder, key: &[u8]) -> Result<ScannedPart, RecordError> {
    let part = scan_part(typed, key)?;
    let mut columns = typed.key_columns().zip(&part.fields);
    if let Some(((member, in_key), _)) =
        columns.find(|((_, in_key), field)| *in_key != field.is_some())
    {
        return Err(if in_key {
            RecordError::missing_key(member)
        } else {
            invalid("this is no part of the stream's key").in_column(member)
        });
    }
    if part.extra != NULL_FIELD {
        return Err(invalid("a key has the members of the stream's key alone").in_column("key"));
    }
    Ok(part)
}

fn same_columns(
    typed: &TypedEncoder,
    wanted: &ScannedPart,
    found: &ScannedPart,
) -> Result<(), RecordError> {
    for (((member, _), wanted), found) in typed.key_columns().zip(&wanted.fields).zip(&found.fields)
    {
        if wanted.is_some() && found.is_some() && wanted != found {
            return Err(RecordError::key_changed(member));
        }
    }
    Ok(())
}

fn put_change(fields: &ChangeFields<'_>, out: &mut Vec<u8>) {
    put(out, fields.op.code().to_be_bytes());
    put_bytes(fields.target.as_ref().map(|id| &id.as_bytes()[..]), out);
    put_bytes(fields.precondition.as_ref().map(Precondition::as_bytes), out);
    put_bytes(fields.assigned.as_deref(), out);
    match fields.merged {
        None => out.extend_from_slice(&NULL_FIELD),
        Some(object) => {
            let start = begin_field(out);
            out.push(json::VERSION);
            out.extend_from_slice(object);
            end_field(out, start);
        }
    }
}

/// Counts the change's fields to those of the tuple that begins at `start`.
fn add_fields(out: &mut [u8], start: usize) {
    if let Some(count) = out[start..].first_chunk_mut() {
        let fields = usize::from(u16::from_be_bytes(*count)) + CHANGE_FIELDS.len();
        *count = u16::try_from(fields).unwrap_or(u16::MAX).to_be_bytes();
    }
}
