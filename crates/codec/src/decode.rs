//! From a tuple in the journal back to the record: for monitors that resume, the quarantine and exports.
//!
//! The journal's checksums say that the bytes are as they were written; a tuple that still makes no sense is an error,
//! never a panic.

use tidegate_record::{ColumnSet, UnixMicros};
use uuid::Uuid;

use crate::json::write_string;
pub use crate::values::timestamps::write_rfc3339;
use crate::values::{self, InvalidBinary, json, timestamps};
use crate::{PayloadType, Shape};

/// What a tuple says beside the record's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedTuple {
    pub id: Uuid,
    pub received_at: UnixMicros,
    /// How many bytes the tuple has; the next one begins there.
    pub consumed: usize,
}

/// Why bytes are not a tuple of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the tuple ends before its last field")]
    Truncated,
    #[error("the tuple has {found} fields instead of {expected}")]
    FieldCount { expected: usize, found: usize },
    #[error("the stream never had the column set of the tuple: {column_set}")]
    UnknownColumnSet { column_set: ColumnSet },
    #[error("field {field} does not have the form of its type")]
    InvalidField { field: String },
}

/// Reads the tuple at the start of `tuple` and appends the record's data as one JSON object to `out`. `column_set` is
/// what the entry says. After an error `out` is as it was.
///
/// A document is given as it was sent, line breaks between its members included. A typed record has its declared
/// columns in their order, each under the key that it takes, NULL as null, then what was in `extra`: encoded again, it is
/// the same record.
pub fn decode_tuple(
    shape: &Shape,
    column_set: ColumnSet,
    tuple: &[u8],
    out: &mut Vec<u8>,
) -> Result<DecodedTuple, DecodeError> {
    let before = out.len();
    let decoded = read_tuple(shape, column_set, tuple, out);
    if decoded.is_err() {
        out.truncate(before);
    }
    decoded
}

/// The length of the tuple at the start of `tuple`, found without looking into its fields.
pub fn tuple_len(tuple: &[u8]) -> Result<usize, DecodeError> {
    let mut fields = TupleReader::new(tuple)?;
    for _ in 0..fields.count {
        fields.next()?;
    }
    Ok(tuple.len() - fields.rest.len())
}

/// A tuple's fields, `None` for NULL.
pub type TupleFields<'a> = Vec<Option<&'a [u8]>>;

/// The fields of the tuple at the start of `tuple`, whatever they mean, and its length.
pub fn split_tuple(tuple: &[u8]) -> Result<(TupleFields<'_>, usize), DecodeError> {
    let mut fields = TupleReader::new(tuple)?;
    let split = (0..fields.count).map(|_| fields.next()).collect::<Result<Vec<_>, _>>()?;
    Ok((split, tuple.len() - fields.rest.len()))
}

fn read_tuple(
    shape: &Shape,
    column_set: ColumnSet,
    tuple: &[u8],
    out: &mut Vec<u8>,
) -> Result<DecodedTuple, DecodeError> {
    let mut fields = TupleReader::new(tuple)?;
    let columns =
        shape.column_types(column_set).ok_or(DecodeError::UnknownColumnSet { column_set })?;
    let expected = 3 + column_set.columns();
    if fields.count != expected {
        return Err(DecodeError::FieldCount { expected, found: fields.count });
    }
    let id = fields.next()?.and_then(|bytes| Uuid::from_slice(bytes).ok());
    let id = id.ok_or_else(|| invalid("id"))?;
    let micros = fields.next()?.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    let received_at = timestamps::to_unix(micros.ok_or_else(|| invalid("received_at"))?);
    match shape {
        Shape::Document { payload } => {
            let text = fields.next()?.and_then(|bytes| match payload {
                PayloadType::Json => Some(bytes),
                PayloadType::Jsonb => jsonb_text(bytes),
            });
            out.extend_from_slice(text.ok_or_else(|| invalid("payload"))?);
        }
        Shape::Typed { .. } => {
            let extra = fields.next()?;
            out.push(b'{');
            for (index, (column, kind)) in columns.enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(column.member(), out);
                out.push(b':');
                match fields.next()? {
                    None => out.extend_from_slice(b"null"),
                    Some(bytes) => values::write_json(kind, bytes, out)
                        .map_err(|InvalidBinary| invalid(&column.name))?,
                }
            }
            if let Some(extra) = extra {
                let members =
                    jsonb_text(extra).and_then(members).ok_or_else(|| invalid("extra"))?;
                if column_set.columns() > 0 && !members.is_empty() {
                    out.push(b',');
                }
                out.extend_from_slice(members);
            }
            out.push(b'}');
        }
    }
    Ok(DecodedTuple { id, received_at, consumed: tuple.len() - fields.rest.len() })
}

fn invalid(field: &str) -> DecodeError {
    DecodeError::InvalidField { field: field.to_owned() }
}

fn jsonb_text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(&[json::VERSION])
}

/// What is between an object's braces.
fn members(object: &[u8]) -> Option<&[u8]> {
    Some(object.strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii())
}

/// The fields of a tuple, one after the other.
pub(crate) struct TupleReader<'a> {
    count: usize,
    rest: &'a [u8],
}

impl<'a> TupleReader<'a> {
    pub fn new(tuple: &'a [u8]) -> Result<TupleReader<'a>, DecodeError> {
        let (count, rest) = tuple.split_first_chunk().ok_or(DecodeError::Truncated)?;
        Ok(TupleReader { count: usize::from(u16::from_be_bytes(*count)), rest })
    }

    /// How many fields the tuple has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What is behind the fields that were taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field's bytes, `None` for NULL.
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let (length, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        if *length == values::NULL_FIELD {
            self.rest = rest;
            return Ok(None);
        }
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (bytes, rest) = length
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnknownKeys;
    use crate::columns::{Column, ColumnType};

    fn typed(kinds: &[ColumnType]) -> Shape {
        let column =
            |(index, &kind): (usize, &ColumnType)| Column::new(format!("c{}", index + 1), kind);
        let columns = kinds.iter().enumerate().map(column).collect();
        Shape::typed(columns, UnknownKeys::Extra)
    }

    fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            match field {
                None => out.extend_from_slice(&values::NULL_FIELD),
                Some(bytes) => {
                    let start = values::begin_field(&mut out);
                    out.extend_from_slice(bytes);
                    values::end_field(&mut out, start);
                }
            }
        }
        out
    }

    fn decode(shape: &Shape, column_set: u16, tuple: &[u8]) -> Result<String, DecodeError> {
        let mut out = b"before".to_vec();
        let decoded = decode_tuple(shape, ColumnSet::new(column_set, 0), tuple, &mut out);
        let data = String::from_utf8(out).unwrap();
        match decoded {
            Err(error) => {
                assert_eq!(data, "before", "an error leaves nothing behind");
                Err(error)
            }
            Ok(decoded) => {
                assert_eq!(Ok(decoded.consumed), tuple_len(tuple));
                Ok(data["before".len()..].to_owned())
            }
        }
    }

    const ID: Option<&[u8]> = Some(&[7; 16]);
    const AT: Option<&[u8]> = Some(&[0; 8]);

    #[test]
    fn typed_records_show_columns_then_extra() {
        let shape = typed(&[ColumnType::Integer, ColumnType::Text]);
        let full = tuple(&[ID, AT, Some(b"\x01{\"x\":[1]}"), Some(&[0, 0, 0, 5]), None]);
        let json = decode(&shape, 2, &full).unwrap();
        assert_eq!(json, r#"{"c1":5,"c2":null,"x":[1]}"#);
        let older = tuple(&[ID, AT, None, Some(&[0, 0, 0, 5])]);
        assert_eq!(decode(&shape, 1, &older).unwrap(), r#"{"c1":5}"#);
        let oldest = tuple(&[ID, AT, Some(b"\x01{\"x\":1}")]);
        assert_eq!(decode(&shape, 0, &oldest).unwrap(), r#"{"x":1}"#);
        assert_eq!(decode(&shape, 0, &tuple(&[ID, AT, None])).unwrap(), "{}");
    }

    #[test]
    fn received_at_counts_from_1970_again() {
        let shape = Shape::Document { payload: PayloadType::Json };
        let bytes = tuple(&[ID, Some(&1_i64.to_be_bytes()), Some(b"{}")]);
        let decoded = decode_tuple(&shape, ColumnSet(0), &bytes, &mut Vec::new()).unwrap();
        assert_eq!(decoded.id.as_bytes(), &[7; 16]);
        let mut text = Vec::new();
        write_rfc3339(decoded.received_at, &mut text);
        assert_eq!(text, b"2000-01-01T00:00:00.000001Z");
    }

    #[test]
    fn what_is_no_tuple_of_the_stream_is_told() {
        let shape = typed(&[ColumnType::Integer]);
        let good = tuple(&[ID, AT, None, Some(&[0, 0, 0, 5])]);
        for length in 0..good.len() {
            assert_eq!(decode(&shape, 1, &good[..length]), Err(DecodeError::Truncated));
            assert_eq!(tuple_len(&good[..length]), Err(DecodeError::Truncated));
        }
        let found = DecodeError::FieldCount { expected: 3, found: 4 };
        assert_eq!(decode(&shape, 0, &good), Err(found));
        let unknown = DecodeError::UnknownColumnSet { column_set: ColumnSet(2) };
        assert_eq!(decode(&shape, 2, &good), Err(unknown));
        for (fields, name) in [
            ([None, AT, None, None], "id"),
            ([ID, Some(&[0; 7][..]), None, None], "received_at"),
            ([ID, AT, Some(b"{}"), None], "extra"),
            ([ID, AT, None, Some(b"abc")], "c1"),
        ] {
            assert_eq!(decode(&shape, 1, &tuple(&fields)), Err(invalid(name)));
        }
        let document = Shape::Document { payload: PayloadType::Jsonb };
        assert_eq!(decode(&document, 0, &tuple(&[ID, AT, Some(b"{}")])), Err(invalid("payload")));
    }
}
