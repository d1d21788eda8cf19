//! What the encoder takes, refuses and gives back.

mod csv;
mod json;
mod keys;
mod properties;
mod renamed;
mod widened;

use serde_json::json;
use tidegate_record::StreamId;

use super::*;
use crate::columns::{Column, ColumnType};
use crate::decode::{decode_tuple, tuple_len};
use crate::json::DEPTH_MAX;
use crate::{Key, KeyField, OnDuplicate, PayloadType, UnknownKeys};

const LIMITS: EncodeLimits = EncodeLimits { record_bytes_max: 1 << 20, members_max: 100_000 };

fn prefix() -> TuplePrefix {
    TuplePrefix { id: Uuid::from_u128(0x0190_1234), received_at: UnixMicros(1_700_000_000_123_456) }
}

fn stream(shape: Shape, fields: Vec<KeyField>) -> Arc<Stream> {
    let key = Key { fields, on_duplicate: OnDuplicate::Ignore };
    Arc::new(Stream {
        id: StreamId(1),
        name: "s".parse().unwrap(),
        shape,
        key: if key.fields.is_empty() { None } else { Some(key) },
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    })
}

fn documents(pointers: &[&[&str]]) -> Arc<Stream> {
    let field = |segments: &&[&str]| {
        KeyField::Pointer(segments.iter().map(|&segment| segment.to_owned()).collect())
    };
    let shape = Shape::Document { payload: PayloadType::Jsonb };
    stream(shape, pointers.iter().map(field).collect())
}

fn typed(unknown: UnknownKeys) -> Arc<Stream> {
    let columns = vec![
        Column::new("id", ColumnType::Integer),
        Column::new("name", ColumnType::Text),
        Column { default: Some(json!(1.5)), ..Column::new("rate", ColumnType::Numeric) },
        Column::new("quo\"ted é", ColumnType::Jsonb),
    ];
    stream(Shape::typed(columns, unknown), Vec::new())
}

/// Columns that take keys of other names: one that is reserved, each other's, one that cannot be written plainly, none.
fn renamed(unknown: UnknownKeys, fields: Vec<KeyField>) -> Arc<Stream> {
    let from = |key: &str, column| Column { from: Some(key.into()), ..column };
    let columns = vec![
        from("id", Column::new("id_", ColumnType::Integer)),
        from("a", Column::new("name", ColumnType::Text)),
        from("name", Column::new("a", ColumnType::Text)),
        from("quo\"ted é", Column::new("quoted", ColumnType::Jsonb)),
        Column { default: Some(json!("1.50")), ..from("", Column::new("_", ColumnType::Numeric)) },
        Column::new("rate", ColumnType::Numeric),
    ];
    stream(Shape::typed(columns, unknown), fields)
}

fn encoder(stream: &Arc<Stream>) -> RecordEncoder {
    RecordEncoder::new(stream, LIMITS).unwrap()
}

/// Encodes a record that must be taken whole, and reads it back.
fn round_trip(stream: &Arc<Stream>, encoder: &mut RecordEncoder, json: &str) -> String {
    let mut out = b"before".to_vec();
    let step = encoder.encode_json(json.as_bytes(), true, prefix(), &mut out);
    assert_eq!(step, JsonStep::Encoded { consumed: json.len() }, "{json}");
    decoded(stream, &out["before".len()..])
}

fn decoded(stream: &Stream, tuple: &[u8]) -> String {
    let mut data = Vec::new();
    let decoded = decode_tuple(&stream.shape, stream.column_set(), tuple, &mut data).unwrap();
    assert_eq!(decoded.id, prefix().id);
    assert_eq!(decoded.received_at, prefix().received_at);
    assert_eq!(decoded.consumed, tuple.len());
    assert_eq!(tuple_len(tuple), Ok(tuple.len()));
    String::from_utf8(data).unwrap()
}

/// Encodes a record that must be refused, with its end found.
fn refused(encoder: &mut RecordEncoder, json: &[u8]) -> RecordError {
    let mut out = b"before".to_vec();
    let step = encoder.encode_json(json, true, prefix(), &mut out);
    assert_eq!(out, b"before");
    let JsonStep::Refused { consumed, error } = step else { panic!("{step:?}") };
    assert_eq!(consumed, json.len());
    error
}

#[test]
fn encoders_are_made_only_for_streams_that_make_sense() {
    let shape = |columns| Shape::typed(columns, UnknownKeys::Extra);
    let new = |stream: &Arc<Stream>| RecordEncoder::new(stream, LIMITS).map(drop);
    let twice = vec![Column::new("a", ColumnType::Text), Column::new("a", ColumnType::Date)];
    let duplicate = EncoderError::DuplicateColumn("a".into());
    assert_eq!(new(&stream(shape(twice), Vec::new())), Err(duplicate));
    let taken = Column { from: Some("a".into()), ..Column::new("b", ColumnType::Text) };
    let both = vec![Column::new("a", ColumnType::Text), taken];
    let duplicate = EncoderError::DuplicateMember("a".into());
    assert_eq!(new(&stream(shape(both), Vec::new())), Err(duplicate));
    let unfit = Column { default: Some(json!("x")), ..Column::new("a", ColumnType::Date) };
    let result = new(&stream(shape(vec![unfit]), Vec::new()));
    assert!(matches!(result, Err(EncoderError::Default { column, .. }) if column == "a"));
    for key in [KeyField::Column(0), KeyField::Pointer(vec!["a".into()])] {
        let result = new(&stream(shape(Vec::new()), vec![key]));
        assert_eq!(result, Err(EncoderError::KeyField));
    }
    assert_eq!(new(&documents(&[&[]])), Err(EncoderError::KeyField));
    let limits = EncodeLimits { record_bytes_max: RECORD_BYTES_MAX + 1, ..LIMITS };
    let result = RecordEncoder::new(&documents(&[]), limits).map(drop);
    assert_eq!(result, Err(EncoderError::RecordBytesMax));
}
