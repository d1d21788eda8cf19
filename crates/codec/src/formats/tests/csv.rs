//! CSV: NULL, lines that are no records, and what was written for another reader.

use super::*;

#[test]
fn a_line_without_anything_is_null_where_there_is_one_column() {
    // What PostgreSQL's own `copy … to stdout csv header` writes of 5, NULL, 6, NULL.
    for (body, expected) in [
        (&b"x\n5\n\n6\n\n"[..], &[json!("5"), Value::Null, json!("6"), Value::Null][..]),
        (b"x\r\n5\r\n\r\n6\r\n\r\n", &[json!("5"), Value::Null, json!("6"), Value::Null]),
        (b"x\r\r5", &[Value::Null, json!("5")]),
        (
            b"\n\nx\n\n\n\"\"\n\"NA\"\nNA",
            &[Value::Null, Value::Null, json!(""), json!("NA"), Value::Null],
        ),
    ] {
        let outcome = frame_all(Format::Csv, body);
        let expected: Vec<Value> = expected.iter().map(|value| json!({ "x": value })).collect();
        assert_eq!(shown(&outcome), expected, "{body:?}");
        assert_eq!(outcome.1.unwrap().records, expected.len() as u64);
        assert_same_however_cut(Format::Csv, body, LIMITS, &[], 1);
    }
    let (events, _) = frame(framer(Format::Csv, &typed(), LIMITS), [&b"a\n1\n\nx\n\nx\n"[..]], 1);
    let lines: Vec<Option<u64>> = events
        .iter()
        .filter_map(|event| match event {
            Event::Refused { place, .. } => Some(place.line),
            Event::Encoded(_) => None,
        })
        .collect();
    assert_eq!(lines, [Some(4), Some(6)]);
}

#[test]
fn lines_that_are_no_records_are_counted() {
    for (format, body, skipped) in [
        (Format::Csv, &b"\r\n\r\na,b\r\n\r\n1,2\r\n\n3,4\n"[..], 4),
        (Format::Csv, b"a,b\n1,2\n", 0),
        (Format::Csv, b"a\n1\n\n2\n", 0),
        (Format::Ndjson, b"\n{}\n  \r\n{}\n", 2),
        (Format::Ndjson, b"{}\r\n{}\r\n", 0),
    ] {
        for size in [1, 2, 3, usize::MAX] {
            let (sink, finished) =
                framed(framer(format, &documents(), LIMITS), body.chunks(size), 1);
            finished.unwrap();
            assert_eq!(sink.skipped_lines, skipped, "{format:?} {body:?} by {size}");
        }
    }
}

#[test]
fn what_was_meant_for_another_reader_is_refused_with_what_helps() {
    for (body, words) in [
        (&b"a;b\n1;2\n"[..], &["contains ';'", "delimiter=%3B"][..]),
        (b"a\tb\n1\t2\n", &["a tab", "delimiter=tab"]),
        (b"sep=;\na;b\n1;2\n", &["spreadsheet", "delimiter=%3B"]),
        (b"'a','b'\n'1','2'\n", &["single quotes", "quote='"]),
        (b"{\"a\":1,\"b\":2}\n{\"a\":2,\"b\":3}\n", &["JSON", "application/x-ndjson"]),
        (b"[{\"a\":1}]", &["JSON"]),
        (b"<!DOCTYPE html>\n<html></html>", &["HTML"]),
        (b"{\"a\":1,\"b", &["JSON"]),
        (b"\xff\xfea\0,\0b\0\n\0", &["UTF-16", "UTF-8"]),
        (b"a,gr\xfc\xdfe\n1,2\n", &["byte 4 of the header, 0xFC", "send UTF-8"]),
    ] {
        for stream in [documents(), typed()] {
            for size in [1, 7, usize::MAX] {
                let outcome =
                    frame(framer(Format::Csv, &stream, LIMITS), body.chunks(size), usize::MAX);
                let error = outcome.1.unwrap_err();
                assert!(outcome.0.is_empty(), "nothing is taken of {body:?}");
                for word in words {
                    assert!(error.message.contains(word), "{word}: {error}");
                }
            }
        }
    }
    // With the names of a stream's columns it is what it says it is.
    assert_eq!(error(Format::Csv, b"x;y\n1;2").code, FramingErrorCode::InvalidHeader);
    let error =
        frame(framer(Format::Csv, &typed(), LIMITS), [&b"x,y\n1,2\n"[..]], 1).1.unwrap_err();
    assert_eq!(error.code, FramingErrorCode::InvalidHeader);
    let expected = "no column of the stream is in the header \"x, y\"; the stream takes a";
    assert!(error.message.starts_with(expected), "{error}");
}

#[test]
fn another_dialect_is_read_as_it_was_said() {
    let rows = [json!({"a": "1;x", "b": "y"}), json!({"a": null, "b": "\"z"})];
    for (words, body) in [
        ([None, Some(";"), None, None], &b"a;b\n\"1;x\";y\n;\"\"\"z\"\n"[..]),
        ([None, Some("tab"), None, None], b"a\tb\n1;x\ty\n\t\"\"\"z\"\n"),
        ([None, None, Some("'"), None], b"a,b\n'1;x','y'\n,\"z\n"),
        ([None, Some("|"), Some("none"), None], b"a|b\n1;x|y\n|\"z\n"),
        ([Some("-"), None, None, Some("a,b")], b"1;x,y\n-,\"\"\"z\"\n"),
    ] {
        for size in [1, usize::MAX] {
            let outcome = frame(framer_with(&documents(), words), body.chunks(size), usize::MAX);
            assert_eq!(shown(&outcome), rows, "{words:?}");
        }
    }
    let absent = |body: &'static [u8]| {
        frame(framer_with(&typed(), [None, None, None, Some("a,")]), [body], usize::MAX)
    };
    assert_eq!(absent(b"").1.unwrap_err().code, FramingErrorCode::EmptyBody);
    assert_eq!(absent(BYTE_ORDER_MARK).1.unwrap_err().code, FramingErrorCode::EmptyBody);
    let events = absent(b"1,\nx,\n").0;
    let [Event::Encoded(_), Event::Refused { place, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((place.record, place.line), (2, Some(2)));
    let foreign = frame(framer_with(&typed(), [None, None, None, Some("b,c")]), [&b"1,2"[..]], 1);
    assert_eq!(foreign.1.unwrap_err().code, FramingErrorCode::InvalidHeader);
}
