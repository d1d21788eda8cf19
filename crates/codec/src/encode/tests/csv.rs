//! CSV headers and rows.

use super::*;

pub(super) fn encode_row(
    encoder: &mut RecordEncoder,
    header: &CsvHeader,
    row: &[&str],
) -> Result<Vec<u8>, RecordError> {
    encode_quoted(encoder, header, row, |_| false)
}

fn encode_quoted(
    encoder: &mut RecordEncoder,
    header: &CsvHeader,
    row: &[&str],
    is_quoted: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, RecordError> {
    let mut out = vec![1];
    let field = |field: usize| row[field].as_bytes();
    let result = encoder.encode_csv(header, field, is_quoted, row.len(), prefix(), &mut out);
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
    let error =
        encoder.encode_csv(&header, invalid, |_| false, 4, prefix(), &mut Vec::new()).unwrap_err();
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

#[test]
fn what_stands_in_quotes_is_data() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&["name", "x", "id"], Some("NA")).unwrap();
    let row = ["NA", "", "1"];
    let quoted = encode_quoted(&mut encoder, &header, &row, |field| field < 2).unwrap();
    let expected = r#"{"id":1,"name":"NA","rate":1.5,"quo\"ted é":null,"x":""}"#;
    assert_eq!(decoded(&stream, &quoted), expected);
    let plain = encode_row(&mut encoder, &header, &row).unwrap();
    let expected = r#"{"id":1,"name":null,"rate":1.5,"quo\"ted é":null,"x":null}"#;
    assert_eq!(decoded(&stream, &plain), expected);
    let error = encode_quoted(&mut encoder, &header, &["", "", ""], |_| true).unwrap_err();
    assert_eq!((error.code.as_str(), error.column.as_deref()), ("invalid_type", Some("id")));
    assert!(error.message.contains("NULL only without quotes"), "{error}");
}

#[test]
fn a_header_without_a_column_of_the_stream_is_refused_whatever_unknown_says() {
    for unknown in [UnknownKeys::Extra, UnknownKeys::Drop, UnknownKeys::Reject] {
        let encoder = encoder(&typed(unknown));
        for names in [&["x", "y"][..], &["id;name"], &["", ""], &["ID ", " id"]] {
            let error = encoder.csv_header(names, None).unwrap_err();
            assert_eq!(error.code, RecordErrorCode::InvalidCsv, "{names:?}");
            assert!(
                error.message.starts_with("no column of the stream is in the header"),
                "{error}"
            );
            assert!(error.message.contains("id, name"), "{error}");
        }
    }
}

#[test]
fn names_are_taken_for_columns_without_case_and_spaces_where_that_is_unambiguous() {
    let stream = typed(UnknownKeys::Extra);
    let mut encoder = encoder(&stream);
    let header = encoder.csv_header(&[" ID", "name", "Name", "RATE\t"], None).unwrap();
    let matched: Vec<_> =
        header.matched().iter().map(|name| (name.header.as_str(), name.key.as_str())).collect();
    assert_eq!(matched, [(" ID", "id"), ("RATE\t", "rate")]);
    let row = encode_row(&mut encoder, &header, &["1", "a", "b", "2.5"]).unwrap();
    let expected = r#"{"id":1,"name":"a","rate":2.5,"quo\"ted é":null,"Name":"b"}"#;
    assert_eq!(decoded(&stream, &row), expected);
    // Two that are alike: which one is meant is unknown.
    let header = encoder.csv_header(&["id", "NAME", "Name"], None).unwrap();
    assert!(header.matched().is_empty());
    let row = encode_row(&mut encoder, &header, &["1", "a", "b"]).unwrap();
    let expected = r#"{"id":1,"name":null,"rate":1.5,"quo\"ted é":null,"NAME":"a","Name":"b"}"#;
    assert_eq!(decoded(&stream, &row), expected);
}

#[test]
fn fields_without_a_name_are_no_column_unless_they_have_a_value() {
    let columns = r#""name":null,"rate":1.5,"quo\"ted é":null"#;
    for names in [&["id", ""][..], &["id", "", " "]] {
        let blank = vec![""; names.len() - 1];
        let empty = [&["1"][..], &blank].concat();
        let mut filled = empty.clone();
        filled[1] = "x";
        let stream = typed(UnknownKeys::Extra);
        let mut keeping = encoder(&stream);
        let header = keeping.csv_header(names, None).unwrap();
        let row = encode_row(&mut keeping, &header, &empty).unwrap();
        assert_eq!(decoded(&stream, &row), format!("{{\"id\":1,{columns}}}"));
        let row = encode_row(&mut keeping, &header, &filled).unwrap();
        assert_eq!(decoded(&stream, &row), format!("{{\"id\":1,{columns},\"column_2\":\"x\"}}"));

        let document = documents(&[]);
        let mut writing = RecordEncoder::new(&document, LIMITS).unwrap();
        let header = writing.csv_header(names, None).unwrap();
        let row = encode_row(&mut writing, &header, &empty).unwrap();
        assert_eq!(decoded(&document, &row), r#"{"id":"1"}"#);
        let row = encode_row(&mut writing, &header, &filled).unwrap();
        assert_eq!(decoded(&document, &row), r#"{"id":"1","column_2":"x"}"#);

        let mut rejecting = encoder(&typed(UnknownKeys::Reject));
        let header = rejecting.csv_header(names, None).unwrap();
        encode_row(&mut rejecting, &header, &empty).unwrap();
        let error = encode_row(&mut rejecting, &header, &filled).unwrap_err();
        let told = (error.code.as_str(), error.column.as_deref());
        assert_eq!(told, ("unknown_key", Some("column_2")));
        assert!(error.message.contains("field 2"), "{error}");
    }
}
