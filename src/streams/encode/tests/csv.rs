//! CSV headers and rows.

use super::*;

pub(super) fn encode_row(
    encoder: &mut RecordEncoder,
    header: &CsvHeader,
    row: &[&str],
) -> Result<Vec<u8>, RecordError> {
    let mut out = vec![1];
    let result =
        encoder.encode_csv(header, |field| row[field].as_bytes(), row.len(), prefix(), &mut out);
    if result.is_err() {
        assert_eq!(out, [1]);
    }
    result.map(|()| out.split_off(1))
}

#[test]
fn csv_rows_fill_columns_by_the_header() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["name", "x", "id", "y\""], Some("NA")).unwrap();
    let row = encode_row(&mut encoder, &header, &[" a\"b ", "NA", " 7 ", "é\n"]).unwrap();
    let expected = r#"{"id":7,"name":" a\"b ","rate":1.5,"quo\"ted é":null,"x":null,"y\"":"é\n"}"#;
    assert_eq!(decoded(&stream, &row), expected);
    let row = encode_row(&mut encoder, &header, &["NA", "", "", "NAN"]).unwrap();
    let expected = r#"{"id":null,"name":null,"rate":1.5,"quo\"ted é":null,"x":null,"y\"":"NAN"}"#;
    assert_eq!(decoded(&stream, &row), expected);
    for (row, code, message) in [
        (&["a", "", "noon", ""][..], "invalid_type", r#"expected integer, got "noon""#),
        (&["a", "", "1"], "wrong_field_count", "expected 4 fields, got 3"),
        (&["a\0", "", "1", ""], "invalid_unicode", "PostgreSQL cannot store the character U+0000"),
    ] {
        let error = encode_row(&mut encoder, &header, row).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message));
    }
    let invalid = |_| &b"\xff"[..];
    let error = encoder.encode_csv(&header, invalid, 4, prefix(), &mut Vec::new()).unwrap_err();
    assert_eq!((error.code, error.column.as_deref()), (RecordErrorCode::InvalidUtf8, Some("x")));
}

#[test]
fn csv_headers_are_checked() {
    let encoder = |unknown| encoder(&typed(unknown));
    let twice = encoder(UnknownKeys::Drop).csv_header(&["x", "x"], None).unwrap_err();
    assert_eq!(twice.code, RecordErrorCode::InvalidCsv);
    let unknown = encoder(UnknownKeys::Reject).csv_header(&["id", "x"], None).unwrap_err();
    assert_eq!((unknown.code, unknown.column.as_deref()), (RecordErrorCode::UnknownKey, Some("x")));
    let nul = encoder(UnknownKeys::Extra).csv_header(&["a\0"], None).unwrap_err();
    assert_eq!(nul.code, RecordErrorCode::InvalidUnicode);
    let stream = typed(UnknownKeys::Drop);
    let mut dropping = encoder(UnknownKeys::Drop);
    let header = dropping.csv_header(&["x", "id"], None).unwrap();
    let row = encode_row(&mut dropping, &header, &["1", "2"]).unwrap();
    assert_eq!(decoded(&stream, &row), r#"{"id":2,"name":null,"rate":1.5,"quo\"ted é":null}"#);
}

#[test]
fn csv_rows_become_documents_of_strings() {
    let stream = documents(&[&["a"]]);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["a", "b c"], Some("-")).unwrap();
    let row = encode_row(&mut encoder, &header, &["1", "-"]).unwrap();
    assert_eq!(decoded(&stream, &row), r#"{"a":"1","b c":null}"#);
    let error = encode_row(&mut encoder, &header, &["-", "1"]).unwrap_err();
    assert_eq!((error.code.as_str(), error.column.as_deref()), ("missing_key", Some("/a")));
    let long = "x".repeat(LIMITS.record_bytes_max);
    let error = encode_row(&mut encoder, &header, &["1", &long]).unwrap_err();
    assert_eq!(error.code, RecordErrorCode::TooLarge);
    let nested = documents(&[&["a", "b"]]);
    let mut nested = RecordEncoder::new(&nested, LIMITS).unwrap();
    let header = nested.csv_header(&["a"], None).unwrap();
    let error = encode_row(&mut nested, &header, &["1"]).unwrap_err();
    assert_eq!((error.code.as_str(), error.column.as_deref()), ("missing_key", Some("/a/b")));
}

#[test]
#[should_panic(expected = "the header was bound by another encoder")]
fn a_header_is_not_lent_to_another_column_set() {
    let header = encoder(&documents(&[])).csv_header(&["id"], None).unwrap();
    let _ = encode_row(&mut encoder(&typed(UnknownKeys::Drop)), &header, &["1"]);
}
