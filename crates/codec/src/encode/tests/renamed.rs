//! Columns that take a key of another name: the record and what is said of it have the sender's key.

use super::csv::encode_row;
use super::*;

const NULLS: &str = r#""rate":null"#;

#[test]
fn a_column_takes_the_key_that_it_names_in_any_order() {
    let stream = renamed(UnknownKeys::Extra, Vec::new());
    let mut encoder = encoder(&stream);
    let expected = format!(r#"{{"id":7,"a":"x","name":"y","quo\"ted é":[1],"":2.0,{NULLS}}}"#);
    for _ in 0..2 {
        for json in [
            r#"{"id":7,"a":"x","name":"y","quo\"ted é":[1],"":2.0}"#,
            r#"{"":2.0,"quo\"ted \u00e9":[1],"name":"y","\u0061":"x","id":7}"#,
            &expected,
        ] {
            assert_eq!(round_trip(&stream, &mut encoder, json), expected, "{json}");
        }
    }
}

#[test]
fn the_name_of_such_a_column_is_a_key_like_any_unknown_one() {
    let json = r#"{"id_":1,"id":2,"quoted":3}"#;
    let known = format!(r#"{{"id":2,"a":null,"name":null,"quo\"ted é":null,"":1.50,{NULLS}"#);
    for (unknown, rest) in
        [(UnknownKeys::Extra, r#","id_":1,"quoted":3}"#), (UnknownKeys::Drop, "}")]
    {
        let stream = renamed(unknown, Vec::new());
        let data = round_trip(&stream, &mut encoder(&stream), json);
        assert_eq!(data, format!("{known}{rest}"));
    }
    let mut rejecting = encoder(&renamed(UnknownKeys::Reject, Vec::new()));
    let error = refused(&mut rejecting, json.as_bytes());
    assert_eq!((error.code, error.column.as_deref()), (RecordErrorCode::UnknownKey, Some("id_")));
    assert!(error.message.starts_with("no column takes the key \"id_\""), "{error}");
    assert!(rejecting.csv_header(&["id", "a", "name", ""], None).is_ok());
    assert!(rejecting.csv_header(&["id_"], None).is_err());
}

#[test]
fn errors_name_the_key_that_was_sent() {
    let stream = renamed(UnknownKeys::Extra, vec![KeyField::Column(0)]);
    let mut encoder = encoder(&stream);
    for (json, code, column) in [
        (r#"{"id":"noon"}"#, "invalid_type", "id"),
        (r#"{"id":3000000000}"#, "out_of_range", "id"),
        (r#"{"id":1,"":"x"}"#, "invalid_type", ""),
        (r#"{"id":1,"a":"\u0000"}"#, "invalid_unicode", "a"),
        (r#"{"id_":1}"#, "missing_key", "id"),
        (r#"{"id":null}"#, "missing_key", "id"),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!((error.code.as_str(), error.column.as_deref()), (code, Some(column)), "{json}");
    }
    let header = encoder.csv_header(&["id", "a"], None).unwrap();
    for (row, code, column) in
        [(["noon", "x"], "invalid_type", "id"), (["", "x"], "missing_key", "id")]
    {
        let error = encode_row(&mut encoder, &header, &row).unwrap_err();
        assert_eq!((error.code.as_str(), error.column.as_deref()), (code, Some(column)));
    }
}

#[test]
fn csv_fields_go_by_the_key() {
    let stream = renamed(UnknownKeys::Extra, Vec::new());
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["name", "id_", "id", ""], None).unwrap();
    let row = encode_row(&mut encoder, &header, &["y", "z", "7", "2.50"]).unwrap();
    let expected =
        r#"{"id":7,"a":null,"name":"y","quo\"ted é":null,"":2.50,"rate":null,"id_":"z"}"#;
    assert_eq!(decoded(&stream, &row), expected);
}
