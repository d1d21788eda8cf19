use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::StreamId;
use crate::streams::columns::{Column, ColumnType};
use crate::streams::decode::{decode_tuple, tuple_len};
use crate::streams::json::DEPTH_MAX;
use crate::streams::{Key, KeyField, OnDuplicate, PayloadType, UnknownKeys};

const LIMITS: EncodeLimits = EncodeLimits {
    record_bytes_max: 1 << 20,
};

fn prefix() -> TuplePrefix {
    TuplePrefix {
        id: Uuid::from_u128(0x0190_1234),
        received_at: UnixMicros(1_700_000_000_123_456),
    }
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column {
        name: name.into(),
        kind,
        default: None,
    }
}

fn stream(shape: Shape, fields: Vec<KeyField>) -> Arc<Stream> {
    let key = Key {
        fields,
        on_duplicate: OnDuplicate::Ignore,
    };
    Arc::new(Stream {
        id: StreamId(1),
        name: "s".parse().unwrap(),
        shape,
        key: if key.fields.is_empty() {
            None
        } else {
            Some(key)
        },
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    })
}

fn documents(pointers: &[&[&str]]) -> Arc<Stream> {
    let field = |segments: &&[&str]| {
        KeyField::Pointer(segments.iter().map(|&segment| segment.to_owned()).collect())
    };
    let shape = Shape::Document {
        payload: PayloadType::Jsonb,
    };
    stream(shape, pointers.iter().map(field).collect())
}

fn typed(unknown: UnknownKeys) -> Arc<Stream> {
    let columns = vec![
        column("id", ColumnType::Integer),
        column("name", ColumnType::Text),
        Column {
            default: Some(json!(1.5)),
            ..column("rate", ColumnType::Numeric)
        },
        column("quo\"ted é", ColumnType::Jsonb),
    ];
    stream(Shape::Typed { columns, unknown }, Vec::new())
}

fn encoder(stream: &Arc<Stream>) -> RecordEncoder {
    RecordEncoder::new(stream, LIMITS).unwrap()
}

/// Encodes a record that must be taken whole, and reads it back.
fn round_trip(stream: &Arc<Stream>, encoder: &mut RecordEncoder, json: &str) -> String {
    let mut out = b"before".to_vec();
    let step = encoder.encode_json(json.as_bytes(), true, prefix(), &mut out);
    assert_eq!(
        step,
        JsonStep::Encoded {
            consumed: json.len()
        },
        "{json}"
    );
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
    let JsonStep::Refused { consumed, error } = step else {
        panic!("{step:?}")
    };
    assert_eq!(consumed, json.len());
    error
}

#[test]
fn documents_are_kept_to_the_byte() {
    for payload in [PayloadType::Json, PayloadType::Jsonb] {
        let stream = stream(Shape::Document { payload }, Vec::new());
        let mut encoder = encoder(&stream);
        for json in [
            "{}",
            r#"{ "a": [1, {"b":"\u00e9"}],"a":1.50}"#,
            "{\n\"é\":null}",
        ] {
            assert_eq!(round_trip(&stream, &mut encoder, json), json);
        }
    }
}

#[test]
fn a_value_ends_where_the_next_one_begins() {
    let mut encoder = encoder(&documents(&[]));
    let input = b" \n{\"a\":1}{\"b\":2}";
    let mut out = Vec::new();
    let step = encoder.encode_json(input, false, prefix(), &mut out);
    assert_eq!(step, JsonStep::Encoded { consumed: 9 });
    let step = encoder.encode_json(&input[9..], false, prefix(), &mut out);
    assert_eq!(step, JsonStep::Encoded { consumed: 7 });
}

#[test]
fn what_jsonb_would_refuse_is_refused_with_its_end() {
    use RecordErrorCode as Code;
    let deep = format!(
        "{{\"a\":{}{}}}",
        "[".repeat(DEPTH_MAX),
        "]".repeat(DEPTH_MAX)
    );
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LIMITS.record_bytes_max));
    let cases: [(&[u8], Code); 11] = [
        (b"[{}]", Code::NotAnObject),
        (b"12", Code::NotAnObject),
        (b"\"{}\"", Code::NotAnObject),
        (b"null", Code::NotAnObject),
        (b"{\"id\":\"\\u0000\"}", Code::InvalidUnicode),
        (b"{\"id\":\"\\udc00\"}", Code::InvalidUnicode),
        (b"{\"x\":\"\xff\"}", Code::InvalidUtf8),
        (b"{\"x\":\"a\nb\"}", Code::InvalidJson),
        (b"{\"x\":1e140000}", Code::NumberOutOfRange),
        (deep.as_bytes(), Code::TooDeep),
        (large.as_bytes(), Code::TooLarge),
    ];
    let kinds = [UnknownKeys::Extra, UnknownKeys::Drop].map(typed);
    for stream in kinds
        .iter()
        .chain([&documents(&[]), &documents(&[&["a", "b"]])])
    {
        let mut encoder = encoder(stream);
        for (json, code) in cases {
            assert_eq!(
                refused(&mut encoder, json).code,
                code,
                "{}",
                json.escape_ascii()
            );
        }
    }
    let mut encoder = encoder(&typed(UnknownKeys::Extra));
    let error = refused(&mut encoder, b"{\"id\":1,\"name\":\"\\u0000\"}");
    assert_eq!(error.column.as_deref(), Some("name"));
    assert_eq!(
        refused(&mut encoder, b"{\"id\":1,\"x\":\"\\u0000\"}").column,
        None
    );
}

#[test]
fn broken_syntax_leaves_nothing() {
    for stream in [
        typed(UnknownKeys::Extra),
        documents(&[]),
        documents(&[&["a"]]),
    ] {
        let mut encoder = encoder(&stream);
        for (json, offset) in [
            ("{\"a\":1,}", 7),
            ("{\"a\" 1}", 5),
            ("{a:1}", 1),
            ("{\"a\":NaN}", 5),
            ("{\"a\":1", 6),
        ] {
            let mut out = vec![1];
            let step = encoder.encode_json(json.as_bytes(), true, prefix(), &mut out);
            assert!(
                matches!(step, JsonStep::Malformed { offset: at, .. } if at == offset),
                "{json}: {step:?}"
            );
            assert_eq!(out, [1]);
        }
    }
}

#[test]
fn members_find_their_columns_in_any_order() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let expected = r#"{"id":7,"name":"a","rate":1.5,"quo\"ted é":[1, 2]}"#;
    for _ in 0..2 {
        for json in [
            r#"{"id":7,"name":"a","quo\"ted é":[1, 2]}"#,
            r#"{"quo\"ted \u00e9":[1, 2],"name":"a","id":7}"#,
            r#"{"\u0069d":7,"quo\"ted é":[1, 2],"na\u006de":"a"}"#,
            r#"{"id":"noon","name":5,"name":"a","quo\"ted é":[1, 2],"id":7.0}"#,
            r#"{ "name" : "\u0061" , "id" : " 7 " , "quo\"ted é" : [1, 2] , "rate" : 1.5 }"#,
        ] {
            assert_eq!(round_trip(&stream, &mut encoder, json), expected, "{json}");
        }
    }
    // A key that another begins with, and that begins another.
    let json = r#"{"i":1,"idx":2,"id":3}"#;
    let data = round_trip(&stream, &mut encoder, json);
    assert_eq!(
        data,
        r#"{"id":3,"name":null,"rate":1.5,"quo\"ted é":null,"i":1,"idx":2}"#
    );
}

#[test]
fn missing_takes_the_default_and_null_stays_null() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let nulls = r#"{"id":null,"name":null,"rate":null,"quo\"ted é":null}"#;
    assert_eq!(round_trip(&stream, &mut encoder, nulls), nulls);
    let defaults = r#"{"id":null,"name":null,"rate":1.5,"quo\"ted é":null}"#;
    assert_eq!(round_trip(&stream, &mut encoder, "{}"), defaults);
}

#[test]
fn unknown_keys_are_kept_dropped_or_refused() {
    let json = r#"{"x\n": {"y" :1}, "id":1 ,"z":1.50,"x\n":2}"#;
    let known = r#"{"id":1,"name":null,"rate":1.5,"quo\"ted é":null"#;
    let stream = typed(UnknownKeys::Extra);
    let data = round_trip(&stream, &mut encoder(&stream), json);
    assert_eq!(
        data,
        format!(r#"{known},"x\n": {{"y" :1}},"z":1.50,"x\n":2}}"#)
    );
    let stream = typed(UnknownKeys::Drop);
    assert_eq!(
        round_trip(&stream, &mut encoder(&stream), json),
        format!("{known}}}")
    );
    let error = refused(&mut encoder(&typed(UnknownKeys::Reject)), json.as_bytes());
    assert_eq!(error.code, RecordErrorCode::UnknownKey);
    assert!(
        error.message.starts_with("no column is named \"x \""),
        "{error}"
    );
}

#[test]
fn errors_name_column_expectation_and_value() {
    let mut encoder = encoder(&typed(UnknownKeys::Extra));
    for (json, code, column, message) in [
        (
            r#"{"id":"noon"}"#,
            "invalid_type",
            "id",
            r#"expected integer, got "noon""#,
        ),
        (
            r#"{"id":5.5}"#,
            "invalid_type",
            "id",
            "expected integer, got 5.5",
        ),
        (
            r#"{"id":3000000000}"#,
            "out_of_range",
            "id",
            "3000000000 is out of range for integer",
        ),
        (
            r#"{"name":{"a":1}}"#,
            "invalid_type",
            "name",
            r#"expected text, got {"a":1}"#,
        ),
        (
            r#"{"rate":true}"#,
            "invalid_type",
            "rate",
            "expected numeric, got true",
        ),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!(
            (error.code.as_str(), error.column.as_deref()),
            (code, Some(column))
        );
        assert_eq!(error.message, message);
    }
    let long = format!("{{\"id\":\"{}\"}}", "é".repeat(10_000));
    assert!(
        refused(&mut encoder, long.as_bytes())
            .message
            .chars()
            .count()
            < 120
    );
}

#[test]
fn a_documents_key_is_found_where_the_pointers_lead() {
    let stream = documents(&[&["a", "b"], &["a", "b/c"], &["id"]]);
    let mut encoder = encoder(&stream);
    for json in [
        r#"{"id":1,"a":{"b":"x","b/c":true}}"#,
        r#"{"a":{"x":{"b":[]},"b/c":1.5,"b":""},"y":[{}],"id":false}"#,
        r#"{"\u0061":{"\u0062":1,"b\/c":1},"id":1}"#,
        r#"{"a":1,"a":{"b":null,"b":1,"b/c":1},"id":null,"id":0}"#,
    ] {
        assert_eq!(round_trip(&stream, &mut encoder, json), json);
    }
    let long = format!(
        r#"{{"id":"{}","a":{{"b":1,"b/c":1}}}}"#,
        "x".repeat(KEY_BYTES_MAX)
    );
    let expanded = r#"{"id":1e1000,"a":{"b":1,"b/c":1}}"#;
    for (json, code, column) in [
        ("{}", "missing_key", "/a/b"),
        (r#"{"id":1,"a":{"b":1}}"#, "missing_key", "/a/b~1c"),
        (r#"{"a":{"b":1,"b/c":1}}"#, "missing_key", "/id"),
        (r#"{"a":{"b":1,"b/c":1},"id":null}"#, "missing_key", "/id"),
        (r#"{"a":{"b":{},"b/c":1},"id":1}"#, "missing_key", "/a/b"),
        (r#"{"a":[{"b":1,"b/c":1}],"id":1}"#, "missing_key", "/a/b"),
        (
            r#"{"a":{"b":1,"b/c":1},"id":1,"a":{"b":1}}"#,
            "missing_key",
            "/a/b~1c",
        ),
        (
            r#"{"a":{"b":1,"b/c":1},"id":1,"a":5}"#,
            "missing_key",
            "/a/b",
        ),
        (&long, "out_of_range", "/id"),
        (expanded, "out_of_range", "/id"),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!(
            (error.code.as_str(), error.column.as_deref()),
            (code, Some(column)),
            "{json}"
        );
    }
    let part = "x".repeat(KEY_BYTES_MAX - 2);
    let all = format!(r#"{{"id":"{part}","a":{{"b":"{part}","b/c":"{part}"}}}}"#);
    assert_eq!(
        refused(&mut encoder, all.as_bytes()).code,
        RecordErrorCode::OutOfRange
    );
}

#[test]
fn a_pointer_into_another_pointers_value_can_never_be_met() {
    let mut encoder = encoder(&documents(&[&["a"], &["a", "b"]]));
    assert_eq!(
        refused(&mut encoder, br#"{"a":{"b":1}}"#).column.as_deref(),
        Some("/a")
    );
    assert_eq!(
        refused(&mut encoder, br#"{"a":1}"#).column.as_deref(),
        Some("/a/b")
    );
}

#[test]
fn key_columns_must_have_values() {
    let columns = vec![
        column("a", ColumnType::Text),
        column("b", ColumnType::Integer),
    ];
    let shape = Shape::Typed {
        columns,
        unknown: UnknownKeys::Extra,
    };
    let stream = stream(shape, vec![KeyField::Column(1), KeyField::Column(0)]);
    let mut encoder = encoder(&stream);
    round_trip(&stream, &mut encoder, r#"{"a":"","b":0}"#);
    let long = format!(r#"{{"a":"{}","b":0}}"#, "x".repeat(KEY_BYTES_MAX + 1));
    for (json, code, column) in [
        (r#"{"a":"","b":null}"#, "missing_key", "b"),
        (r#"{"b":0}"#, "missing_key", "a"),
        (&long, "out_of_range", "a"),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!(
            (error.code.as_str(), error.column.as_deref()),
            (code, Some(column))
        );
    }
    let header = encoder.csv_header(&["b", "a"], None).unwrap();
    let error = encode_row(&mut encoder, &header, &["", "x"]).unwrap_err();
    assert_eq!(error.code, RecordErrorCode::MissingKey);
}

fn encode_row(
    encoder: &mut RecordEncoder,
    header: &CsvHeader,
    row: &[&str],
) -> Result<Vec<u8>, RecordError> {
    let mut out = vec![1];
    let result = encoder.encode_csv(
        header,
        |field| row[field].as_bytes(),
        row.len(),
        prefix(),
        &mut out,
    );
    if result.is_err() {
        assert_eq!(out, [1]);
    }
    result.map(|()| out.split_off(1))
}

#[test]
fn csv_rows_fill_columns_by_the_header() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let header = encoder
        .csv_header(&["name", "x", "id", "y\""], Some("NA"))
        .unwrap();
    let row = encode_row(&mut encoder, &header, &[" a\"b ", "NA", " 7 ", "é\n"]).unwrap();
    let expected = r#"{"id":7,"name":" a\"b ","rate":1.5,"quo\"ted é":null,"x":null,"y\"":"é\n"}"#;
    assert_eq!(decoded(&stream, &row), expected);
    let row = encode_row(&mut encoder, &header, &["NA", "", "", "NAN"]).unwrap();
    let expected = r#"{"id":null,"name":null,"rate":1.5,"quo\"ted é":null,"x":null,"y\"":"NAN"}"#;
    assert_eq!(decoded(&stream, &row), expected);
    for (row, code, message) in [
        (
            &["a", "", "noon", ""][..],
            "invalid_type",
            r#"expected integer, got "noon""#,
        ),
        (
            &["a", "", "1"],
            "wrong_field_count",
            "expected 4 fields, got 3",
        ),
        (
            &["a\0", "", "1", ""],
            "invalid_unicode",
            "PostgreSQL cannot store the character U+0000",
        ),
    ] {
        let error = encode_row(&mut encoder, &header, row).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            (code, message)
        );
    }
    let invalid = |_| &b"\xff"[..];
    let error = encoder
        .encode_csv(&header, invalid, 4, prefix(), &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        (error.code, error.column.as_deref()),
        (RecordErrorCode::InvalidUtf8, Some("x"))
    );
}

#[test]
fn csv_headers_are_checked() {
    let encoder = |unknown| encoder(&typed(unknown));
    let twice = encoder(UnknownKeys::Drop)
        .csv_header(&["x", "x"], None)
        .unwrap_err();
    assert_eq!(twice.code, RecordErrorCode::InvalidCsv);
    let unknown = encoder(UnknownKeys::Reject)
        .csv_header(&["id", "x"], None)
        .unwrap_err();
    assert_eq!(
        (unknown.code, unknown.column.as_deref()),
        (RecordErrorCode::UnknownKey, Some("x"))
    );
    let nul = encoder(UnknownKeys::Extra)
        .csv_header(&["a\0"], None)
        .unwrap_err();
    assert_eq!(nul.code, RecordErrorCode::InvalidUnicode);
    let stream = typed(UnknownKeys::Drop);
    let mut dropping = encoder(UnknownKeys::Drop);
    let header = dropping.csv_header(&["x", "id"], None).unwrap();
    let row = encode_row(&mut dropping, &header, &["1", "2"]).unwrap();
    assert_eq!(
        decoded(&stream, &row),
        r#"{"id":2,"name":null,"rate":1.5,"quo\"ted é":null}"#
    );
}

#[test]
fn csv_rows_become_documents_of_strings() {
    let stream = documents(&[&["a"]]);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["a", "b c"], Some("-")).unwrap();
    let row = encode_row(&mut encoder, &header, &["1", "-"]).unwrap();
    assert_eq!(decoded(&stream, &row), r#"{"a":"1","b c":null}"#);
    let error = encode_row(&mut encoder, &header, &["-", "1"]).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.column.as_deref()),
        ("missing_key", Some("/a"))
    );
    let long = "x".repeat(LIMITS.record_bytes_max);
    let error = encode_row(&mut encoder, &header, &["1", &long]).unwrap_err();
    assert_eq!(error.code, RecordErrorCode::TooLarge);
    let nested = documents(&[&["a", "b"]]);
    let mut nested = RecordEncoder::new(&nested, LIMITS).unwrap();
    let header = nested.csv_header(&["a"], None).unwrap();
    let error = encode_row(&mut nested, &header, &["1"]).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.column.as_deref()),
        ("missing_key", Some("/a/b"))
    );
}

#[test]
fn encoders_are_made_only_for_streams_that_make_sense() {
    let shape = |columns| Shape::Typed {
        columns,
        unknown: UnknownKeys::Extra,
    };
    let new = |stream: &Arc<Stream>| RecordEncoder::new(stream, LIMITS).map(drop);
    let twice = vec![column("a", ColumnType::Text), column("a", ColumnType::Date)];
    let duplicate = EncoderError::DuplicateColumn("a".into());
    assert_eq!(new(&stream(shape(twice), Vec::new())), Err(duplicate));
    let unfit = Column {
        default: Some(json!("x")),
        ..column("a", ColumnType::Date)
    };
    let result = new(&stream(shape(vec![unfit]), Vec::new()));
    assert!(matches!(result, Err(EncoderError::Default { column, .. }) if column == "a"));
    for key in [KeyField::Column(0), KeyField::Pointer(vec!["a".into()])] {
        let result = new(&stream(shape(Vec::new()), vec![key]));
        assert_eq!(result, Err(EncoderError::KeyField));
    }
    assert_eq!(new(&documents(&[&[]])), Err(EncoderError::KeyField));
    let limits = EncodeLimits {
        record_bytes_max: RECORD_BYTES_MAX + 1,
    };
    let result = RecordEncoder::new(&documents(&[]), limits).map(drop);
    assert_eq!(result, Err(EncoderError::RecordBytesMax));
}

/// Streams of every kind of encoding.
fn streams() -> Vec<Arc<Stream>> {
    vec![
        documents(&[]),
        documents(&[&["id"], &["a", "b"]]),
        typed(UnknownKeys::Extra),
        typed(UnknownKeys::Drop),
        typed(UnknownKeys::Reject),
    ]
}

/// Objects with keys that the streams know and others, sound and broken.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "\"id\"",
        "\"name\"",
        "\"rate\"",
        "\"a\"",
        "\"b\"",
        "\"x\"",
        "\"n\\u0061me\"",
        "\"quo\\\"ted é\"",
    ]);
    let leaf = prop::sample::select(vec![
        "1",
        "-2.50",
        "3e0",
        "\"4\"",
        "\"text\"",
        "\"\\u00e9\"",
        "\"\\u0000\"",
        "null",
        "true",
        "[]",
        "1e140000",
        "\"long enough for words of eight\"",
        "{\"b\":1}",
        "{\"c\":[1,{}],\"b\":\"é\"}",
        "\"\\ud83d\\ude00\"",
        "nul",
        "01",
    ]);
    let member = (key, leaf).prop_map(|(key, value)| format!("{key}: {value}"));
    let object = prop::collection::vec(member, 0..8)
        .prop_map(|members| format!(" {{{}}} ", members.join(", ")).into_bytes());
    let cut = (object.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut json, at, byte)| {
            let at = at.index(json.len());
            json[at] = byte;
            json
        },
    );
    prop_oneof![3 => object, 1 => cut]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn where_the_input_is_split_makes_no_difference(json in record()) {
        for stream in streams() {
            let mut encoder = encoder(&stream);
            let mut expected = Vec::new();
            let whole = encoder.encode_json(&json, true, prefix(), &mut expected);
            for length in 0..=json.len() {
                let mut out = Vec::new();
                match encoder.encode_json(&json[..length], false, prefix(), &mut out) {
                    JsonStep::Incomplete => prop_assert!(out.is_empty()),
                    step => {
                        prop_assert_eq!(&step, &whole);
                        prop_assert_eq!(&out, &expected);
                    }
                }
            }
        }
    }

    #[test]
    fn encoded_records_decode_to_what_was_sent(records in prop::collection::vec(record(), 1..5)) {
        for stream in streams() {
            // One encoder for all: what it remembers of one record must not show in another.
            let mut encoder = encoder(&stream);
            for json in &records {
                let mut tuple = Vec::new();
                let step = encoder.encode_json(json, true, prefix(), &mut tuple);
                let JsonStep::Encoded { consumed } = step else {
                    prop_assert!(tuple.is_empty());
                    continue;
                };
                let data = decoded(&stream, &tuple);
                let sent: serde_json::Value = serde_json::from_slice(&json[..consumed]).unwrap();
                let data: serde_json::Value = serde_json::from_str(&data).unwrap();
                let text = |value: &serde_json::Value| match value {
                    // A column of numbers takes them in any spelling.
                    serde_json::Value::Number(number) => number.as_f64().unwrap().to_string(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let typed = !stream.columns().is_empty();
                for (key, value) in sent.as_object().unwrap() {
                    if stream.columns().iter().any(|column| column.name == *key) || !typed {
                        prop_assert_eq!(text(&data[key]), text(value));
                    } else if stream.shape == typed_shape(UnknownKeys::Extra) {
                        prop_assert_eq!(&data[key], value);
                    }
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for stream in streams() {
            let mut encoder = encoder(&stream);
            let mut out = Vec::new();
            encoder.encode_json(&bytes, true, prefix(), &mut out);
            let header = encoder.csv_header(&["a"], None);
            if let Ok(header) = header {
                let _ = encoder.encode_csv(&header, |_| &bytes, 1, prefix(), &mut out);
            }
            let _ = decode_tuple(&stream.shape, stream.column_set(), &bytes, &mut Vec::new());
            for kind in ColumnType::ALL {
                let _ = crate::streams::values::encode_text(kind, &bytes, &mut Vec::new());
                let _ = crate::streams::values::write_json(kind, &bytes, &mut Vec::new());
            }
        }
    }
}

fn typed_shape(unknown: UnknownKeys) -> Shape {
    typed(unknown).shape.clone()
}
