//! From a tuple of a change back to its line: for monitors, the quarantine and whoever reads the journal.

use serde_json::value::RawValue;
use tidegate_record::{ColumnSet, UnixMicros};
use uuid::Uuid;

use super::{CHANGE_FIELDS, ChangeLine, ChangeOp, Precondition};
use crate::decode::{DecodeError, decode_tuple, split_tuple};
use crate::json::write_string;
use crate::values::{self, json};
use crate::{KeyField, Shape, Stream};

/// A change, read from its tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedChange {
    pub id: Uuid,
    pub received_at: UnixMicros,
    /// How many bytes the tuple has; the next one begins there.
    pub consumed: usize,
    pub op: ChangeOp,
    /// The record that it is about; `None`: that of the key.
    pub target: Option<Uuid>,
    /// A JSON object with the key's members, where it is by key.
    pub key: Option<String>,
    pub precondition: Option<Precondition>,
    /// The record of a put, the members of a patch: a JSON object.
    pub data: Option<String>,
}

/// Reads the tuple of a change at the start of `tuple`. `column_set` is what the entry says.
pub fn decode_change(
    stream: &Stream,
    column_set: ColumnSet,
    tuple: &[u8],
) -> Result<DecodedChange, DecodeError> {
    let (fields, consumed) = split_tuple(tuple)?;
    let own = 3 + column_set.columns();
    let expected = own + CHANGE_FIELDS.len();
    if fields.len() != expected {
        return Err(DecodeError::FieldCount { expected, found: fields.len() });
    }
    let (record, change) = fields.split_at(own);
    let &[op, target, precondition, assigned, merged] = change else {
        return Err(DecodeError::FieldCount { expected, found: fields.len() });
    };
    let op = op.and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes);
    let op = op.and_then(ChangeOp::from_code).ok_or_else(|| invalid("op"))?;
    let target = target.map(|bytes| Uuid::from_slice(bytes).map_err(|_| invalid("target")));
    let target = target.transpose()?;
    let precondition = precondition
        .map(|bytes| Precondition::from_bytes(bytes).ok_or_else(|| invalid("precondition")));
    let precondition = precondition.transpose()?;
    let mut whole = Vec::new();
    let is_document = matches!(stream.shape, Shape::Document { .. });
    if op == ChangeOp::Put || (is_document && record[2].is_some()) {
        decode_tuple(&stream.shape, column_set, &tuple_of(record), &mut whole)?;
    }
    let id = record[0].and_then(|bytes| Uuid::from_slice(bytes).ok());
    let micros = record[1].and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    let reader = Reader { stream, column_set, record };
    let key = match target {
        Some(_) => None,
        None => Some(reader.key(&whole)?),
    };
    let data = match op {
        ChangeOp::Delete => None,
        ChangeOp::Put => Some(text(whole)?),
        ChangeOp::Patch => Some(reader.patch(assigned.unwrap_or_default(), merged)?),
    };
    Ok(DecodedChange {
        id: id.ok_or_else(|| invalid("id"))?,
        received_at: values::timestamps::to_unix(micros.ok_or_else(|| invalid("received_at"))?),
        consumed,
        op,
        target,
        key,
        precondition,
        data,
    })
}

impl DecodedChange {
    /// The line that it was sent as, or one that means the same.
    pub fn line(&self) -> String {
        let raw = |text: &Option<String>| {
            text.as_ref().and_then(|text| RawValue::from_string(text.clone()).ok())
        };
        let (key, data) = (raw(&self.key), raw(&self.data));
        let (mut if_match, mut if_none_match) = (None, None);
        match self.precondition {
            None => {}
            Some(Precondition::Is(hash)) => if_match = Some(hash.to_string().into()),
            Some(Precondition::IsThere) => if_match = Some("*".into()),
            Some(Precondition::IsNew) => if_none_match = Some("*".into()),
        }
        let line = ChangeLine {
            op: self.op,
            id: self.target,
            key: key.as_deref(),
            data: data.as_deref(),
            if_match,
            if_none_match,
        };
        serde_json::to_string(&line).expect("texts and JSON are JSON")
    }
}

struct Reader<'a> {
    stream: &'a Stream,
    column_set: ColumnSet,
    /// The stream's own fields.
    record: &'a [Option<&'a [u8]>],
}

impl Reader<'_> {
    /// The members of the key; `document`: what the tuple has as payload.
    fn key(&self, document: &[u8]) -> Result<String, DecodeError> {
        if let Shape::Document { .. } = self.stream.shape {
            return text(document.to_vec());
        }
        let fields = self.stream.key.as_ref().map_or(&[][..], |key| &key.fields);
        let is_in_key = |index: usize| fields.contains(&KeyField::Column(index));
        self.columns(is_in_key, None)
    }

    /// The members of a patch.
    fn patch(&self, assigned: &[u8], merged: Option<&[u8]>) -> Result<String, DecodeError> {
        let merged = merged.map(|bytes| bytes.strip_prefix(&[json::VERSION]));
        let merged = merged.map(|text| text.ok_or_else(|| invalid("merged"))).transpose()?;
        if let Shape::Document { .. } = self.stream.shape {
            return text(merged.ok_or_else(|| invalid("merged"))?.to_vec());
        }
        let is_assigned = |index: usize| {
            assigned.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
        };
        self.columns(is_assigned, merged)
    }

    /// An object of some columns, and of what is beside them.
    fn columns(
        &self,
        wanted: impl Fn(usize) -> bool,
        beside: Option<&[u8]>,
    ) -> Result<String, DecodeError> {
        let column_set = self.column_set;
        let columns = self.stream.shape.column_types(column_set);
        let columns = columns.ok_or(DecodeError::UnknownColumnSet { column_set })?;
        let mut out = b"{".to_vec();
        for (index, (column, kind)) in columns.enumerate().filter(|(index, _)| wanted(*index)) {
            if out.len() > 1 {
                out.push(b',');
            }
            write_string(column.member(), &mut out);
            out.push(b':');
            match self.record.get(3 + index).copied().flatten() {
                None => out.extend_from_slice(b"null"),
                Some(bytes) => {
                    let written = values::write_json(kind, bytes, &mut out);
                    written.map_err(|_| invalid(&column.name))?;
                }
            }
        }
        let beside = beside.map(|object| {
            let inside = object.strip_prefix(b"{").and_then(|inside| inside.strip_suffix(b"}"));
            inside.map(<[u8]>::trim_ascii).ok_or_else(|| invalid("merged"))
        });
        if let Some(members) = beside.transpose()?.filter(|members| !members.is_empty()) {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(members);
        }
        out.push(b'}');
        text(out)
    }
}

/// The stream's own fields as a tuple again.
fn tuple_of(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let count = u16::try_from(fields.len()).unwrap_or(u16::MAX);
    let mut tuple = count.to_be_bytes().to_vec();
    for field in fields {
        put_bytes(*field, &mut tuple);
    }
    tuple
}

/// Appends a field.
pub(crate) fn put_bytes(field: Option<&[u8]>, out: &mut Vec<u8>) {
    match field {
        None => out.extend_from_slice(&values::NULL_FIELD),
        Some(bytes) => {
            let start = values::begin_field(out);
            out.extend_from_slice(bytes);
            values::end_field(out, start);
        }
    }
}

fn text(json: Vec<u8>) -> Result<String, DecodeError> {
    String::from_utf8(json).map_err(|_| invalid("payload"))
}

fn invalid(field: &str) -> DecodeError {
    DecodeError::InvalidField { field: field.to_owned() }
}
