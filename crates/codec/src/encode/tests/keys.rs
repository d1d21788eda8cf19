//! Keys of documents and of typed records.

use super::super::pointers::KEY_BYTES_MAX;
use super::csv::encode_row;
use super::*;

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
    let long = format!(r#"{{"id":"{}","a":{{"b":1,"b/c":1}}}}"#, "x".repeat(KEY_BYTES_MAX));
    let expanded = r#"{"id":1e1000,"a":{"b":1,"b/c":1}}"#;
    for (json, code, column) in [
        ("{}", "missing_key", "/a/b"),
        (r#"{"id":1,"a":{"b":1}}"#, "missing_key", "/a/b~1c"),
        (r#"{"a":{"b":1,"b/c":1}}"#, "missing_key", "/id"),
        (r#"{"a":{"b":1,"b/c":1},"id":null}"#, "missing_key", "/id"),
        (r#"{"a":{"b":{},"b/c":1},"id":1}"#, "missing_key", "/a/b"),
        (r#"{"a":[{"b":1,"b/c":1}],"id":1}"#, "missing_key", "/a/b"),
        (r#"{"a":{"b":1,"b/c":1},"id":1,"a":{"b":1}}"#, "missing_key", "/a/b~1c"),
        (r#"{"a":{"b":1,"b/c":1},"id":1,"a":5}"#, "missing_key", "/a/b"),
        (&long, "out_of_range", "/id"),
        (expanded, "out_of_range", "/id"),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!((error.code.as_str(), error.column.as_deref()), (code, Some(column)), "{json}");
    }
    let part = "x".repeat(KEY_BYTES_MAX - 2);
    let all = format!(r#"{{"id":"{part}","a":{{"b":"{part}","b/c":"{part}"}}}}"#);
    assert_eq!(refused(&mut encoder, all.as_bytes()).code, RecordErrorCode::OutOfRange);
}

#[test]
fn a_pointer_into_another_pointers_value_can_never_be_met() {
    let mut encoder = encoder(&documents(&[&["a"], &["a", "b"]]));
    assert_eq!(refused(&mut encoder, br#"{"a":{"b":1}}"#).column.as_deref(), Some("/a"));
    assert_eq!(refused(&mut encoder, br#"{"a":1}"#).column.as_deref(), Some("/a/b"));
}

#[test]
fn key_columns_must_have_values() {
    let columns = vec![Column::new("a", ColumnType::Text), Column::new("b", ColumnType::Integer)];
    let shape = Shape::typed(columns, UnknownKeys::Extra);
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
        assert_eq!((error.code.as_str(), error.column.as_deref()), (code, Some(column)));
    }
    let header = encoder.csv_header(&["b", "a"], None).unwrap();
    let error = encode_row(&mut encoder, &header, &["", "x"]).unwrap_err();
    assert_eq!(error.code, RecordErrorCode::MissingKey);
}
