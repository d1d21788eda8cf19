//! A proposal is a promise: every record of the sample can be encoded with the proposed columns.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::record::{StreamId, UnixMicros};
use crate::streams::columns::Column;
use crate::streams::decode::decode_tuple;
use crate::streams::encode::{EncodeLimits, JsonStep, RecordEncoder, TuplePrefix};
use crate::streams::{Shape, Stream, UnknownKeys};

const PREFIX: TuplePrefix = TuplePrefix { id: Uuid::nil(), received_at: UnixMicros(0) };

fn stream(inferred: &Inferred) -> Arc<Stream> {
    let column = |proposed: &ProposedColumn| Column {
        from: proposed.from.clone(),
        ..Column::new(proposed.name.clone(), proposed.kind)
    };
    Arc::new(Stream {
        id: StreamId(1),
        name: "sample".parse().unwrap(),
        shape: Shape::typed(inferred.columns.iter().map(column).collect(), UnknownKeys::Extra),
        key: None,
        retention_days: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    })
}

fn encoder(stream: &Arc<Stream>) -> RecordEncoder {
    let limits = EncodeLimits { record_bytes_max: 1 << 20 };
    RecordEncoder::new(stream, limits).unwrap()
}

/// Encodes and decodes a record with the proposed columns.
fn kept(inferred: &Inferred, record: &Value) -> BTreeMap<String, Box<RawValue>> {
    let stream = stream(inferred);
    let mut tuple = Vec::new();
    let text = record.to_string();
    let step = encoder(&stream).encode_json(text.as_bytes(), true, PREFIX, &mut tuple);
    assert!(
        matches!(step, JsonStep::Encoded { .. }),
        "{text} with {:?}: {step:?}",
        types(inferred)
    );
    let mut out = Vec::new();
    decode_tuple(&stream.shape, stream.column_set(), &tuple, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn types(inferred: &Inferred) -> Vec<(&str, &str)> {
    let columns = inferred.columns.iter();
    columns.map(|column| (&*column.name, column.kind.as_str())).collect()
}

/// The type proposed for a column of these JSON values.
fn type_of(values: &[Value]) -> &'static str {
    let records: Vec<Value> = values.iter().map(|value| json!({ "c": value })).collect();
    let body = serde_json::to_vec(&records).unwrap();
    let inferred = infer(Sample::Json(&body)).unwrap();
    for record in &records {
        kept(&inferred, record);
    }
    inferred.columns[0].kind.as_str()
}

/// The type proposed for a column of these CSV fields.
fn type_of_fields(fields: &[&str]) -> &'static str {
    let mut body = "c,d\n".to_owned();
    for field in fields {
        writeln!(body, "\"{}\",", field.replace('"', "\"\"")).unwrap();
    }
    let sample = Sample::Csv { body: body.as_bytes(), null: Some("NA") };
    let inferred = infer(sample).unwrap();
    let stream = stream(&inferred);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["c", "d"], Some("NA")).unwrap();
    for field in fields {
        let row = [field.as_bytes(), b""];
        encoder.encode_csv(&header, |index| row[index], 2, PREFIX, &mut Vec::new()).unwrap();
    }
    inferred.columns[0].kind.as_str()
}

#[test]
fn json_values_get_the_narrowest_type_that_keeps_them() {
    for (values, expected) in [
        (json!([true, null, false]), "boolean"),
        (json!([1, -2_147_483_648_i64]), "integer"),
        (json!([1, 2_147_483_648_i64]), "bigint"),
        (json!([1, u64::MAX]), "numeric"),
        (json!([1, 2.5]), "double precision"),
        (json!([1.0]), "double precision"),
        (json!([9_007_199_254_740_993_i64, 0.5]), "numeric"),
        (json!(["2013-01-01T06:00:00Z", "2013-01-01 06:00:00.5+05:30"]), "timestamptz"),
        (json!(["2013-01-01T06:00:00"]), "text"),
        (json!(["2013-02-29T06:00:00Z"]), "text"),
        (json!(["2013-01-01", null]), "date"),
        (json!(["2013-01-01", "2013-01-01T06:00:00Z"]), "text"),
        (json!(["2013-02-30"]), "text"),
        (json!(["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]), "uuid"),
        (json!(["6ba7b8109dad11d180b400c04fd430c8"]), "text"),
        (json!(["1", "2"]), "text"),
        (json!(["true"]), "text"),
        (json!(["infinity", ""]), "text"),
        (json!([1, "1"]), "jsonb"),
        (json!([true, 1]), "jsonb"),
        (json!([[1], {"a": 1}]), "jsonb"),
        (json!(["2013-01-01", 1]), "jsonb"),
        (json!([null, null]), "text"),
    ] {
        assert_eq!(type_of(values.as_array().unwrap()), expected, "{values}");
    }
}

#[test]
fn numbers_that_serde_cannot_hold_are_kept_all_the_same() {
    for (number, expected) in [
        ("123456789012345678901234567890", "numeric"),
        ("0.1234567890123456789", "numeric"),
        ("0.12345678901234567", "double precision"),
        ("1e400", "numeric"),
        ("1e308", "double precision"),
    ] {
        let body = format!("{{\"c\":{number}}}");
        let inferred = infer(Sample::Json(body.as_bytes())).unwrap();
        assert_eq!(types(&inferred), [("c", expected)], "{number}");
        let stream = stream(&inferred);
        let step = encoder(&stream).encode_json(body.as_bytes(), true, PREFIX, &mut Vec::new());
        assert!(matches!(step, JsonStep::Encoded { .. }), "{number}");
    }
}

#[test]
fn fields_are_read_by_their_form() {
    for (fields, expected) in [
        (&["TRUE", "", "false"][..], "boolean"),
        (&["1", "0"], "integer"),
        (&["t", "f"], "text"),
        (&["1", "NA", "-5"], "integer"),
        (&["1", "3000000000"], "bigint"),
        (&["1", "10.357019999999999"], "double precision"),
        (&["12345678901234567890"], "numeric"),
        (&["007", "123"], "text"),
        (&["01234", "00501"], "text"),
        (&["-01"], "text"),
        (&["0", "0.5", "-0.5"], "double precision"),
        (&["+5"], "text"),
        (&[" 5"], "text"),
        (&["NaN", "1"], "text"),
        (&["0x10"], "text"),
        (&["1e400"], "numeric"),
        (&["2013-01-01T06:00:00Z"], "timestamptz"),
        (&["2013-01-01"], "date"),
        (&["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], "uuid"),
        (&["{\"a\":1}", "[1]"], "text"),
        (&["\"quoted\"", "null"], "text"),
        (&["NA", ""], "text"),
    ] {
        assert_eq!(type_of_fields(fields), expected, "{fields:?}");
    }
}

#[test]
fn columns_come_in_order_of_appearance_with_their_nulls_and_examples() {
    let body = br#" [{"b":1,"a":"x"}, {"a":null,"c":[1]}, 12, {"a":"y","b":2,"b":null,"d":null}] "#;
    let inferred = infer(Sample::Json(body)).unwrap();
    assert_eq!(
        serde_json::to_value(&inferred).unwrap(),
        json!({"columns": [
            {"name": "b", "type": "integer", "nulls": 2, "example": 1},
            {"name": "a", "type": "text", "nulls": 1, "example": "x"},
            {"name": "c", "type": "jsonb", "nulls": 2, "example": [1]},
            {"name": "d", "type": "text", "nulls": 3, "example": null},
        ], "records": 3})
    );
}

#[test]
fn examples_of_fields_have_their_columns_type() {
    let body = b"a,b,c,d\nTRUE,5,1.50,2013-01-01\n";
    let inferred = infer(Sample::Csv { body, null: None }).unwrap();
    let examples: Vec<_> = inferred.columns.into_iter().map(|column| column.example).collect();
    let expected = [json!(true), json!(5), json!(1.5), json!("2013-01-01")];
    assert_eq!(examples, expected.map(Some));
}

#[test]
fn what_can_be_no_column_or_record_is_left_out() {
    let long = "x".repeat(1_001);
    let lines = format!(
        "{{\"{long}\":1,\"caf\\u00e9\":\"\\ud83c\\udf0a\"}}\r\n\r\n{{\"half\":\n[1]\n\
         {{\"nul\":\"\\u0000\"}}\n{{\"half\":\"\\ud800\"}}\n{{}} {{}}\n"
    );
    let inferred = infer(Sample::Ndjson(lines.as_bytes())).unwrap();
    assert_eq!((types(&inferred), inferred.records), (vec![("café", "text")], 1));
    assert_eq!(inferred.columns[0].example, Some(json!("🌊")));

    let body = b"\xef\xbb\xbfid,b\r\n1,2\r\n3\r\n\r\n4,5,6\r\n7,\xff\r\n8,\0\r\n9,\"1\r\n\"\r\n";
    let inferred = infer(Sample::Csv { body, null: None }).unwrap();
    assert_eq!(types(&inferred), [("id_", "integer"), ("b", "text")]);
    assert_eq!(inferred.records, 2);
}

#[test]
fn a_key_that_can_be_no_name_is_taken_by_a_column_of_another() {
    let long = "x".repeat(64);
    let record = json!({"id": 7, "id_": true, "": "", long.as_str(): 1.5, "a\nb": [1], "a_b_": 2, "fine": null});
    let body = record.to_string();
    let inferred = infer(Sample::Json(body.as_bytes())).unwrap();
    let from: BTreeMap<&str, Option<&str>> = inferred
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.from.as_deref()))
        .collect();
    let cut = format!("{}_", &long[..62]);
    let expected = [
        ("id_2", Some("id")),
        ("id_", None),
        ("_", Some("")),
        (&cut, Some(&long)),
        ("a_b_2", Some("a\nb")),
        ("a_b_", None),
        ("fine", None),
    ];
    assert_eq!(from, BTreeMap::from(expected));
    let kept = serde_json::to_value(kept(&inferred, &record)).unwrap();
    assert_eq!(kept, record, "every value comes back under its own key, and none is in `extra`");

    let body = b"id,extra\n1,x\n2,y\n";
    let inferred = infer(Sample::Csv { body, null: None }).unwrap();
    assert_eq!(types(&inferred), [("id_", "integer"), ("extra_", "text")]);
}

#[test]
fn a_long_sample_is_read_in_part_and_memory_is_bounded() {
    let mut lines = String::new();
    for number in 0..=SAMPLE_RECORDS_MAX {
        writeln!(lines, "{{\"k{number}\":{number}}}").unwrap();
    }
    let inferred = infer(Sample::Ndjson(lines.as_bytes())).unwrap();
    assert_eq!(inferred.records, SAMPLE_RECORDS_MAX);
    assert_eq!(inferred.columns.len(), crate::streams::COLUMNS_MAX);
    let array = format!("[{} broken", lines.trim_end().replace('\n', ","));
    assert_eq!(infer(Sample::Json(array.as_bytes())).unwrap(), inferred);
    let long = json!({"a": "x".repeat(EXAMPLE_BYTES_MAX)}).to_string();
    assert_eq!(infer(Sample::Json(long.as_bytes())).unwrap().columns[0].example, None);
}

#[test]
fn a_sample_that_cannot_be_read_says_why() {
    let csv = |body| Sample::Csv { body, null: None };
    for sample in [
        Sample::Json(b" \n"),
        Sample::Json(b"\xef\xbb\xbf"),
        Sample::Ndjson(b"\r\n\n"),
        csv(b""),
        csv(b"\n\n"),
    ] {
        assert_eq!(infer(sample), Err(SampleError::Empty), "{sample:?}");
    }
    for (body, expected) in [
        (&b"12"[..], 0),
        (b"[{}", 3),
        (b"[{},]", 4),
        (b"[{} {}]", 4),
        (b"[{}] x", 5),
        (b"{} {}", 3),
        (b"\xef\xbb\xbf[{\"a\":}]", 9),
    ] {
        let Err(SampleError::Malformed { offset, .. }) = infer(Sample::Json(body)) else {
            panic!("{body:?}");
        };
        assert_eq!(offset, expected, "{:?}", String::from_utf8_lossy(body));
    }
    for body in [&b"a,a\n"[..], b"\xff\n1"] {
        assert!(matches!(infer(csv(body)), Err(SampleError::Header { .. })));
    }
}

fn value_strategy() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-3..3_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(Value::from),
    ];
    let text = prop_oneof![
        "[^\0]{0,5}".prop_map(Value::from),
        "-?[0-9.e]{1,7}".prop_map(Value::from),
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]".prop_map(Value::from),
        "(19|20)[0-9]{2}-0[1-9]-[0-2][1-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,12})?(Z|[+-][01][0-9]:[0-6]0)?"
            .prop_map(Value::from),
        "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(Value::from),
        prop::sample::select(&["true", "no", "infinity", "NaN", "null", "{}", "\"x\""][..]).prop_map(Value::from),
    ];
    prop_oneof![
        2 => Just(Value::Null),
        4 => number,
        4 => text,
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(json!([1, {"a": null}])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_record_of_a_sample_can_be_encoded(
        records in prop::collection::vec(prop::collection::btree_map("id|id_|\n?|[ab]", value_strategy(), 0..4), 1..5),
    ) {
        let records: Vec<Value> = records.into_iter()
            .map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>()))
            .collect();
        let inferred = infer(Sample::Json(&serde_json::to_vec(&records).unwrap())).unwrap();
        prop_assert_eq!(inferred.records, records.len() as u64);
        for record in records.iter().filter(|_| !inferred.columns.is_empty()) {
            let kept = kept(&inferred, record);
            for column in &inferred.columns {
                let member = column.from.as_ref().unwrap_or(&column.name);
                let (sent, stored) = (&record[member], kept[member].get());
                // Where a type changes how a value is written, the value is still the same.
                let same = match column.kind {
                    ColumnType::TimestampTz | ColumnType::Uuid => sent.is_string() == stored.starts_with('"'),
                    // serde's reading of a double is not exact, Rust's is.
                    _ if sent.is_f64() => sent.to_string().parse::<f64>() == stored.parse(),
                    _ => *sent == serde_json::from_str::<Value>(stored).unwrap(),
                };
                prop_assert!(same, "{}: {} became {}", column.kind.as_str(), sent, stored);
            }
        }
        for column in &inferred.columns {
            let member = column.from.as_ref().unwrap_or(&column.name);
            let nulls = records.iter().filter(|record| record[member].is_null()).count();
            prop_assert_eq!(column.nulls, nulls as u64);
        }
    }

    #[test]
    fn every_row_of_a_sample_can_be_encoded(values in prop::collection::vec(value_strategy(), 1..5)) {
        let fields: Vec<String> = values.iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect();
        type_of_fields(&fields.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(body in prop::collection::vec(prop::sample::select(&b"[]{}\",:\\ 1ea\n\r\xff"[..]), 0..40)) {
        let csv = Sample::Csv { body: &body, null: None };
        for sample in [Sample::Json(&body), Sample::Ndjson(&body), csv] {
            if let Ok(inferred) = infer(sample) {
                prop_assert!(inferred.records <= body.len() as u64);
            }
        }
    }
}
