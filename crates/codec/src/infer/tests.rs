//! A proposal is a promise: every record of the sample can be encoded with the proposed columns.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tidegate_record::{StreamId, UnixMicros};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::columns::Column;
use crate::csv::CsvWords;
use crate::decode::decode_tuple;
use crate::encode::{EncodeLimits, JsonStep, RecordEncoder, TuplePrefix};
use crate::{Shape, Stream, UnknownKeys};

const PREFIX: TuplePrefix = TuplePrefix { id: Uuid::nil(), received_at: UnixMicros(0) };

/// A sample of CSV with no options.
fn csv(body: &[u8]) -> Result<Inferred, SampleError> {
    infer(Sample::Csv { body, options: &CsvOptions::default() })
}

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
    let limits = EncodeLimits { record_bytes_max: 1 << 20, members_max: u64::MAX };
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
        let plain = field.is_empty() || *field == "NA";
        let quote = if plain { "" } else { "\"" };
        writeln!(body, "{quote}{}{quote},", field.replace('"', "\"\"")).unwrap();
    }
    let options = CsvOptions::of_null(Some("NA".to_owned()));
    let sample = Sample::Csv { body: body.as_bytes(), options: &options };
    let inferred = infer(sample).unwrap();
    let stream = stream(&inferred);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["c", "d"], Some("NA")).unwrap();
    for field in fields {
        let row = [field.as_bytes(), b""];
        encoder
            .encode_csv(&header, |index| row[index], |_| false, 2, PREFIX, &mut Vec::new())
            .unwrap();
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
        (json!(["2013-01-01T06:00:00", "2013-01-01 06:00"]), "timestamptz"),
        (json!(["2013-01-01 06:00:00 UTC", "2013/1/1 6:00 GMT"]), "timestamptz"),
        (json!(["2013-01-01T06:00:00+2", "2013-01-01T06:00:00-0530"]), "timestamptz"),
        (json!(["20130101T060000Z", "2013-01-01T06:00:00.123456789012Z"]), "timestamptz"),
        (json!(["1234-5-6", "2013/01/01"]), "text"),
        (json!(["2013-02-29T06:00:00Z"]), "text"),
        (json!(["2013-01-01", null]), "date"),
        (json!(["2013-01-01", "2013-01-01T06:00:00Z"]), "timestamptz"),
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
        ], "records": 3, "skipped": [
            {"code": "not_an_object", "count": 1, "message": "a record is a JSON object"},
        ]})
    );
}

#[test]
fn examples_of_fields_have_their_columns_type() {
    let body = b"a,b,c,d\nTRUE,5,1.50,2013-01-01\n";
    let inferred = csv(body).unwrap();
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
    let skipped = |inferred: &Inferred| -> Vec<(&'static str, u64, Option<u64>)> {
        inferred.skipped.iter().map(|skipped| (skipped.code, skipped.count, skipped.line)).collect()
    };
    assert_eq!(
        skipped(&inferred),
        [
            (UNUSABLE_KEY, 1, Some(1)),
            (BLANK_LINE, 1, Some(2)),
            ("invalid_json", 2, Some(3)),
            ("not_an_object", 1, Some(4)),
            ("invalid_unicode", 2, Some(5)),
        ]
    );

    let body = b"\xef\xbb\xbfid,b\r\n1,2\r\n3\r\n\r\n4,5,6\r\n7,\xff\r\n8,\0\r\n9,\"1\r\n\"\r\n";
    let inferred = csv(body).unwrap();
    assert_eq!(types(&inferred), [("id_", "integer"), ("b", "text")]);
    assert_eq!(inferred.records, 2);
    assert_eq!(
        skipped(&inferred),
        [
            ("wrong_field_count", 2, Some(3)),
            (BLANK_LINE, 1, Some(4)),
            ("invalid_utf8", 1, Some(6)),
            ("invalid_unicode", 1, Some(7)),
        ]
    );
    assert!(inferred.skipped[2].message.contains("byte 2 of the record, 0xFF"));

    let inferred = infer(Sample::Json(b"[1,{\"a\":1},\"x\"]")).unwrap();
    assert_eq!(skipped(&inferred), [("not_an_object", 2, None)]);

    let body = br#"[{"a":nan}, {"a":1}, {"a":2,}, 01, {'a':"]"}, {"a":3}]"#;
    let inferred = infer(Sample::Json(body)).unwrap();
    assert_eq!((types(&inferred), inferred.records), (vec![("a", "integer")], 2));
    assert_eq!(skipped(&inferred), [("invalid_json", 4, None)]);
}

#[test]
fn a_sample_of_csv_is_read_as_ingest_reads_it() {
    let read = |body: &str, words: [Option<&str>; 4]| {
        let [null, delimiter, quote, columns] = words.map(|word| word.map(str::to_owned));
        let header = columns.as_ref().map(|_| "absent".to_owned());
        let options = CsvWords { null, delimiter, quote, header, columns }.check(None).unwrap();
        infer(Sample::Csv { body: body.as_bytes(), options: &options }).unwrap()
    };
    let semicolons = read("ort;wert\nUlm;1.5\n", [None, Some(";"), None, None]);
    assert_eq!(types(&semicolons), [("ort", "text"), ("wert", "double precision")]);
    let single = read("'a,b',c\n'x,y',1\n", [None, None, Some("'"), None]);
    assert_eq!(types(&single), [("a_b", "text"), ("c", "integer")]);
    let headerless = read("1,x\n2,y\n", [None, None, None, Some("n,t")]);
    assert_eq!(
        (types(&headerless), headerless.records),
        (vec![("n", "integer"), ("t", "text")], 2)
    );
    // Quoted is data, and an empty line of one column is NULL.
    let one = read("n\n5\n\n6\n\n", [None; 4]);
    assert_eq!((types(&one), one.records, one.columns[0].nulls), (vec![("n", "integer")], 4, 2));
    let quoted = read("n,t\n1,NA\nNA,\"NA\"\n,\"\"\n", [Some("NA"), None, None, None]);
    let nulls: Vec<u64> = quoted.columns.iter().map(|column| column.nulls).collect();
    assert_eq!((types(&quoted), nulls), (vec![("n", "integer"), ("t", "text")], vec![2, 1]));
    // Without a name a field is a column only with a value in it.
    let nameless = read(",a,,\n0,x,,\n1,y,,z\n", [None; 4]);
    let expected = [("a", "text"), ("column_1", "integer"), ("column_4", "text")];
    assert_eq!(types(&nameless), expected);
    assert!(nameless.columns.iter().all(|column| column.from.is_none()));
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
    let cut = &long[..63];
    let expected = [
        ("id_2", Some("id")),
        ("id_", None),
        ("column_3", Some("")),
        (cut, Some(&long)),
        ("a_b", Some("a\nb")),
        ("a_b_", None),
        ("fine", None),
    ];
    assert_eq!(from, BTreeMap::from(expected));
    let kept = serde_json::to_value(kept(&inferred, &record)).unwrap();
    assert_eq!(kept, record, "every value comes back under its own key, and none is in `extra`");

    let body = b"id,extra\n1,x\n2,y\n";
    let inferred = csv(body).unwrap();
    assert_eq!(types(&inferred), [("id_", "integer"), ("extra_", "text")]);
}

#[test]
fn a_long_sample_is_read_in_part_and_memory_is_bounded() {
    let mut lines = String::new();
    for number in 0..=SAMPLE_RECORDS_MAX {
        writeln!(lines, "{{\"k{number}\":{number}}}").unwrap();
    }
    let inferred = infer(Sample::Ndjson(lines.as_bytes())).unwrap();
    assert_eq!((inferred.records, inferred.has_more), (SAMPLE_RECORDS_MAX, true));
    assert_eq!(inferred.columns.len(), crate::COLUMNS_MAX);
    let left_out = SAMPLE_RECORDS_MAX - crate::COLUMNS_MAX as u64;
    assert_eq!((inferred.skipped[0].code, inferred.skipped[0].count), (TOO_MANY_KEYS, left_out));
    let array = format!("[{} broken", lines.trim_end().replace('\n', ","));
    let from_array = infer(Sample::Json(array.as_bytes())).unwrap();
    assert_eq!((from_array.columns, from_array.has_more), (inferred.columns, true));
    let long = json!({"a": "x".repeat(EXAMPLE_BYTES_MAX)}).to_string();
    assert_eq!(infer(Sample::Json(long.as_bytes())).unwrap().columns[0].example, None);
}

#[test]
fn a_sample_that_cannot_be_read_says_why() {
    for sample in [Sample::Json(b" \n"), Sample::Json(b"\xef\xbb\xbf"), Sample::Ndjson(b"\r\n\n")] {
        assert_eq!(infer(sample), Err(SampleError::Empty), "{sample:?}");
    }
    for body in [&b""[..], b"\n\n", b"\xef\xbb\xbf"] {
        assert_eq!(csv(body), Err(SampleError::Empty), "{body:?}");
    }
    for (body, expected) in [
        (&b"12"[..], 0),
        (b"[{}", 3),
        (b"[{},]", 4),
        (b"[{} {}]", 4),
        (b"[{}] x", 5),
        (b"{} {}", 3),
        (b"\xef\xbb\xbf{\"a\":}", 8),
    ] {
        let Err(SampleError::Malformed { offset, .. }) = infer(Sample::Json(body)) else {
            panic!("{body:?}");
        };
        assert_eq!(offset, expected, "{:?}", String::from_utf8_lossy(body));
    }
    for (body, word) in [
        (&b"a,a\n"[..], "twice"),
        (b"a,\xff\n1", "byte 2 of the header, 0xFF"),
        (b"a;b\n1;2\n", "delimiter=%3B"),
        (b"{\"a\":1}\n", "JSON"),
        (b"a,\"b\n1,2\n", "closed"),
    ] {
        let Err(SampleError::Header { message }) = csv(body) else { panic!("{body:?}") };
        assert!(message.contains(word), "{message}");
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
        let options = CsvOptions::default();
        let csv = Sample::Csv { body: &body, options: &options };
        for sample in [Sample::Json(&body), Sample::Ndjson(&body), csv] {
            if let Ok(inferred) = infer(sample) {
                prop_assert!(inferred.records <= body.len() as u64);
            }
        }
    }
}
