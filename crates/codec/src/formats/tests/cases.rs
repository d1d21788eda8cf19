//! Bodies as people send them, and as they must not harm.

use super::*;

#[test]
fn one_object_is_told_from_an_array_of_one() {
    for (body, single) in
        [(&b" {\"a\":1}\n"[..], true), (b"[{\"a\":1}]", false), (b"\xef\xbb\xbf{\"a\":1}", true)]
    {
        let outcome = frame_all(Format::Json, body);
        assert_eq!(outcome.1, Ok(Finished { records: 1, single }));
        assert_eq!(shown(&outcome), [json!({"a": 1})]);
    }
    assert_eq!(frame_all(Format::Json, b"[ ]").1, Ok(Finished { records: 0, single: false }));
}

#[test]
fn a_body_without_anything_is_empty() {
    for format in [Format::Json, Format::Ndjson, Format::Csv] {
        for body in [&b""[..], b"\xef\xbb\xbf", b"\n", b"\r\n\r\n"] {
            assert_eq!(
                error(format, body).code,
                FramingErrorCode::EmptyBody,
                "{format:?} {body:?}"
            );
        }
    }
    for format in [Format::Json, Format::Ndjson] {
        let error = error(format, b"\xef\xbb\xbf \t\r\n \n");
        assert_eq!((error.code, error.offset), (FramingErrorCode::EmptyBody, 9));
    }
}

#[test]
fn half_a_byte_order_mark_belongs_to_the_body() {
    for body in [&b"\xef\xbb"[..], b"\xef", b"\xef\xbb{}", b"\xef\xbb\xbf\xef\xbb\xbf{}"] {
        assert_eq!(error(Format::Json, body).code, FramingErrorCode::MalformedBody, "{body:?}");
        let (events, finished) = frame_all(Format::Ndjson, body);
        let expected = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        assert!(matches!(&events[..], [Event::Refused { raw, .. }] if raw == expected), "{body:?}");
        assert_eq!(finished.unwrap().records, 1);
    }
    assert_eq!(error(Format::Csv, b"\xef\xbb\n1").code, FramingErrorCode::InvalidHeader);
}

#[test]
fn a_broken_array_says_where() {
    use FramingErrorCode::{MalformedBody, TruncatedBody};
    for (body, code, offset, record) in [
        (&b"x"[..], MalformedBody, 0, 0),
        (b" 12", MalformedBody, 1, 0),
        (b"\"text\"", MalformedBody, 0, 0),
        (b"[", TruncatedBody, 1, 0),
        (b"[{}", TruncatedBody, 3, 1),
        (b"[{},", TruncatedBody, 4, 1),
        (b"[{},]", MalformedBody, 4, 2),
        (b"[,{}]", MalformedBody, 1, 1),
        (b"[{} {}]", MalformedBody, 4, 1),
        (b"[{}}", MalformedBody, 3, 1),
        (b"[{} ,, {}]", MalformedBody, 5, 2),
        (b"[}]", MalformedBody, 1, 1),
        (b"[{\"a\":1]", TruncatedBody, 8, 1),
        (b"[{\"a\":nan", MalformedBody, 6, 1),
        (b"[{'a':1},{\"a\":[1},{}]", TruncatedBody, 21, 2),
        (b"[{'a':1},{\"a\":[1},{}", MalformedBody, 16, 2),
        (b"['it,{}]", MalformedBody, 1, 1),
        (b"[{},{\"a\"", TruncatedBody, 8, 2),
        (b"[{\"a\":\"", TruncatedBody, 7, 1),
        (b"[{'a':1}", TruncatedBody, 8, 1),
        (b"[nan nan]", MalformedBody, 5, 1),
        (b"[{}] x", MalformedBody, 5, 1),
        (b"{\"a\":1", TruncatedBody, 6, 1),
        (b"{\"a\":1}{\"a\":2}", MalformedBody, 7, 1),
        (b"{\"a\":1}\n[1]", MalformedBody, 8, 1),
        (b"{} ,", MalformedBody, 3, 1),
    ] {
        let text = String::from_utf8_lossy(body);
        let error = error(Format::Json, body);
        assert_eq!(
            (error.code, error.offset, error.record),
            (code, offset, record),
            "{text}: {error}"
        );
        assert_same_however_cut(Format::Json, body, LIMITS, &[], 1);
    }
    assert!(error(Format::Json, b"{}\n{}").message.contains("application/x-ndjson"));
}

#[test]
fn an_item_of_an_array_that_is_no_json_harms_no_other() {
    for (item, offset) in NO_JSON {
        for blanks in ["", " ", "\r\n\t"] {
            let body = format!("[{{\"a\":1}},{blanks}{item}{blanks},{{\"a\":2}},{item}{blanks}]");
            let outcome = frame_all(Format::Json, body.as_bytes());
            assert_eq!(outcome.1, Ok(Finished { records: 4, single: false }), "{body}");
            let refused = |record: u64| json!(format!("{record} None invalid_json"));
            let expected = [json!({"a": 1}), refused(2), json!({"a": 2}), refused(4)];
            assert_eq!(shown(&outcome), expected, "{body}");
            for event in [&outcome.0[1], &outcome.0[3]] {
                let Event::Refused { raw, error, truncated: false, .. } = event else { panic!() };
                assert_eq!(raw, item.as_bytes());
                let place = format!(" at byte {offset} of the record");
                assert!(error.message.contains(&place), "{item}: {}", error.message);
            }
            assert_same_however_cut(Format::Json, body.as_bytes(), LIMITS, &[], 1);
        }
    }
}

#[test]
fn an_object_by_itself_that_is_no_json_is_refused_and_kept() {
    for body in ["{'s':2}", "{\"s\":2,}", "{\"s\":-Infinity}", "{\"s\":01", "{\"s\":['a}"] {
        for blanks in ["", "\n", " \r\n "] {
            let sent = format!("{blanks}{body}{blanks}");
            let (events, finished) = frame_all(Format::Json, sent.as_bytes());
            assert_eq!(finished, Ok(Finished { records: 1, single: true }), "{sent}");
            let [Event::Refused { raw, error, truncated: false, .. }] = &events[..] else {
                panic!("{sent}: {events:?}");
            };
            assert_eq!((&raw[..], error.code), (body.as_bytes(), RecordErrorCode::InvalidJson));
            assert_same_however_cut(Format::Json, sent.as_bytes(), LIMITS, &[], 1);
        }
    }
}

#[test]
fn a_bad_line_harms_no_other() {
    let body = b"{\"a\":1}\n{\"a\":\n\n[1]\r\n{\"a\":2} {\"a\":3}\n{\"a\":2}x\nnull\n\xff\n{\"a\":\"\xff\"}\n {\"a\":4} ";
    let outcome = frame_all(Format::Ndjson, body);
    assert_eq!(outcome.1, Ok(Finished { records: 9, single: false }));
    assert_eq!(
        shown(&outcome),
        [
            json!({"a": 1}),
            json!("2 Some(2) invalid_json"),
            json!("3 Some(4) not_an_object"),
            json!("4 Some(5) invalid_json"),
            json!("5 Some(6) invalid_json"),
            json!("6 Some(7) not_an_object"),
            json!("7 Some(8) invalid_json"),
            json!("8 Some(9) invalid_utf8"),
            json!({"a": 4}),
        ]
    );
    let Event::Refused { raw, truncated: false, .. } = &outcome.0[2] else { panic!() };
    assert_eq!(raw, b"[1]", "the line end is no part of the record");
}

#[test]
fn ragged_rows_and_blank_lines_keep_the_lines_right() {
    let body = b"\r\nx,y\r\n1,2\r\n\r\n3\n4,\"a\r\nb\nc\"\r5,6,7,8,9\n\n\xff,8\n\"9\n\",10";
    let outcome = frame_all(Format::Csv, body);
    assert_eq!(
        shown(&outcome),
        [
            json!({"x": "1", "y": "2"}),
            json!("2 Some(5) wrong_field_count"),
            json!({"x": "4", "y": "a\r\nb\nc"}),
            json!("4 Some(9) wrong_field_count"),
            json!("5 Some(11) invalid_utf8"),
            json!({"x": "9\n", "y": "10"}),
        ]
    );
    let Event::Refused { raw, error, .. } = &outcome.0[3] else { panic!() };
    assert_eq!(raw, b"5,6,7,8,9");
    assert_eq!(error.message, "expected 2 fields, got 5");
    assert_same_however_cut(Format::Csv, body, LIMITS, &[], 1);
}

#[test]
fn a_header_is_needed_and_checked() {
    for body in [&b"a,a\n1,2"[..], b"a,\xff\n1,2"] {
        let error = error(Format::Csv, body);
        assert_eq!(
            (error.code, error.line),
            (FramingErrorCode::InvalidHeader, Some(1)),
            "{body:?}"
        );
    }
    let wide = vec![b','; CSV_FIELDS_MAX];
    assert_eq!(error(Format::Csv, &wide).code, FramingErrorCode::InvalidHeader);
    let long = [b"a,".as_slice(), &vec![b'x'; LIMITS.record_bytes_max]].concat();
    assert_eq!(error(Format::Csv, &long).code, FramingErrorCode::InvalidHeader);
    // A header alone is a table without rows if the stream knows it and its line is whole.
    let alone = |stream: &Arc<Stream>, body: &[u8]| {
        frame(framer(Format::Csv, stream, LIMITS), [body], 1).1.map_err(|error| error.code)
    };
    let none = Ok(Finished { records: 0, single: false });
    assert_eq!(alone(&typed(), b"\xef\xbb\xbfa,b\n"), none);
    for (stream, body) in [
        (typed(), &b"a,b"[..]),
        (documents(), b"a,b"),
        (documents(), b"a,b\n"),
        (documents(), b"Hello\n"),
    ] {
        assert_eq!(alone(&stream, body), Err(FramingErrorCode::NoRecords), "{body:?}");
    }
    // The mark is no part of the first name.
    assert_eq!(shown(&frame_all(Format::Csv, b"\xef\xbb\xbfa\n1")), [json!({"a": "1"})]);
}

#[test]
fn a_quote_that_is_never_closed_swallows_nothing_silently() {
    let broken = error(Format::Csv, b"a,b\n1,2\n3,\"4\n5,6\n");
    assert_eq!(
        (broken.code, broken.record, broken.line),
        (FramingErrorCode::TruncatedBody, 2, Some(3))
    );
    let long = [b"a,b\n1,\"".as_slice(), &vec![b'\n'; LIMITS.record_bytes_max * 2]].concat();
    let broken = error(Format::Csv, &long);
    assert_eq!((broken.code, broken.line), (FramingErrorCode::TruncatedBody, Some(2)));
}

#[test]
fn the_limit_is_exact() {
    let limits = FramerLimits { record_bytes_max: 10, raw_bytes_max: 4 };
    for (format, before, fits, after) in [
        (Format::Json, &b"["[..], &b"{\"a\":\"12\"}"[..], &b"]"[..]),
        (Format::Json, b"[ ", b"1234567890", b" ]"),
        (Format::Ndjson, b" ", b"{\"a\":\"12\"}", b"\r\n"),
        (Format::Ndjson, b"", b"{\"a\":\"12\"}", b""),
        (Format::Csv, b"a,b\n", b"1234,67890", b"\r\n"),
        (Format::Csv, b"a,b\n", b"1234,\"789\"", b""),
    ] {
        for extra in 0..3 {
            let mut record = fits.to_vec();
            for _ in 0..extra {
                record.insert(6, b'7');
            }
            let body = [before, &record, after].concat();
            let (events, _) = frame(framer(format, &documents(), limits), [&*body], usize::MAX);
            let [event] = &events[..] else { panic!("{events:?}") };
            let too_large = matches!(event, Event::Refused { error, truncated: true, raw, .. }
                if error.code == RecordErrorCode::TooLarge && *raw == record[..4]);
            assert_eq!(
                too_large,
                extra > 0,
                "{format:?} {}: {event:?}",
                String::from_utf8_lossy(&body)
            );
            assert_same_however_cut(format, &body, limits, &[], 1);
        }
    }
}

#[test]
fn a_line_of_100_megabytes_is_refused_in_bounded_memory() {
    const CHUNKS: usize = 1_600;
    let filler = vec![b'x'; 64 << 10];
    for (format, before, after) in [
        (Format::Ndjson, &b"{\"a\":1}\n{\"a\":\""[..], &b"\"}\n{\"a\":2}\n"[..]),
        (Format::Json, b"[{\"a\":1},{\"a\":\"", b"\"},{\"a\":2}]"),
        (Format::Csv, b"a\n1\n\"\n", b"\n\"\n2\n"),
    ] {
        let mut framer = framer(format, &documents(), LIMITS);
        let mut sink = Sink::of(10);
        framer.push(before, &mut sink).unwrap();
        for _ in 0..CHUNKS {
            framer.push(&filler, &mut sink).unwrap();
            let bound = 4 * LIMITS.record_bytes_max + CSV_FIELDS_MAX * size_of::<usize>();
            assert!(framer.carry_capacity_bytes() <= bound, "{}", framer.carry_capacity_bytes());
        }
        framer.push(after, &mut sink).unwrap();
        assert_eq!(framer.finish(&mut sink).unwrap().records, 3);
        let [
            Event::Encoded(_),
            Event::Refused { raw, truncated: true, error, .. },
            Event::Encoded(_),
        ] = &sink.events[..]
        else {
            panic!("{format:?}: {} events", sink.events.len());
        };
        assert_eq!(raw.len(), LIMITS.raw_bytes_max);
        assert_eq!(error.code, RecordErrorCode::TooLarge);
    }
}

#[test]
fn a_long_item_that_is_no_json_is_refused_in_bounded_memory() {
    let filler = vec![b'x'; 64 << 10];
    for (before, after) in [
        (&b"[{\"a\":1},{'a':'"[..], &b"'},{\"a\":2}]"[..]),
        (b"[{\"a\":1},nan", b",{\"a\":2}]"),
        (b"[{\"a\":1},{\"a\":[1,],\"b\":{", b"}},{\"a\":2}]"),
    ] {
        let mut framer = framer(Format::Json, &documents(), LIMITS);
        let mut sink = Sink::of(10);
        framer.push(before, &mut sink).unwrap();
        for _ in 0..10 * LIMITS.record_bytes_max / filler.len() {
            framer.push(&filler, &mut sink).unwrap();
            assert!(framer.carry_capacity_bytes() <= 4 * LIMITS.record_bytes_max);
        }
        let pushed = framer.push(after, &mut sink);
        let refused = &sink.events[1];
        let Event::Refused { raw, truncated: true, error, .. } = refused else {
            panic!("{} events", sink.events.len());
        };
        assert_eq!((raw.len(), error.code), (LIMITS.raw_bytes_max, RecordErrorCode::InvalidJson));
        assert_eq!(pushed, Ok(PushProgress::ChunkTaken));
        assert_eq!(framer.finish(&mut sink).unwrap().records, 3);
        assert!(matches!(sink.events[2], Event::Encoded(_)));
    }
}

#[test]
fn nesting_of_20_000_is_refused_and_the_next_record_goes_on() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    for (format, body) in [
        (Format::Json, format!("[{{\"a\":1}},{deep},{{\"a\":2}}]")),
        (Format::Ndjson, format!("{{\"a\":1}}\n{deep}\n{{\"a\":2}}")),
    ] {
        for chunk in [100, usize::MAX] {
            let outcome =
                frame(framer(format, &documents(), LIMITS), body.as_bytes().chunks(chunk), 1);
            let shown = shown(&outcome);
            assert_eq!((&shown[0], &shown[2]), (&json!({"a": 1}), &json!({"a": 2})));
            assert!(shown[1].as_str().unwrap().ends_with("too_deep"), "{}", shown[1]);
        }
    }
}

#[test]
fn a_truncated_body_gives_the_records_before_the_cut() {
    let body = br#"[{"a":1},{"a":"x,]}\""},{"a":[{"b":2}]}]"#;
    let whole = frame_all(Format::Json, body);
    for length in 1..body.len() {
        let (events, finished) = frame_all(Format::Json, &body[..length]);
        assert!(whole.0.starts_with(&events), "cut at {length}");
        assert_eq!(finished.unwrap_err().code, FramingErrorCode::TruncatedBody, "cut at {length}");
    }
}

#[test]
fn content_types_are_read_as_senders_write_them() {
    for (text, format, header) in [
        ("application/json", Format::Json, None),
        ("Application/JSON; charset=UTF-8", Format::Json, None),
        ("application/json; utf-8", Format::Json, None),
        ("application/json;", Format::Json, None),
        ("application/x-ndjson", Format::Ndjson, None),
        ("application/ndjson;charset=\"utf-8\"", Format::Ndjson, None),
        ("application/jsonl", Format::Ndjson, None),
        ("text/csv", Format::Csv, None),
        ("text/csv; header=present", Format::Csv, Some(HeaderLine::Present)),
        ("text/csv; charset=utf-8; Header=\"Absent\"", Format::Csv, Some(HeaderLine::Absent)),
    ] {
        assert_eq!(MediaType::read(text), Ok(MediaType { format, header }), "{text}");
    }
    for text in ["text/csv; charset=iso-8859-1", "application/json;charset=utf-16"] {
        assert!(matches!(MediaType::read(text), Err(UnsupportedContentType::Charset(_))));
    }
    for text in [
        "text/csv; header=none",
        "text/csv; delimiter=\";\"",
        "application/json; header=absent",
        "application/json; version=2",
        "application/x-ndjson; boundary",
        "application/json; iso-8859-1",
    ] {
        let read = MediaType::read(text);
        assert!(matches!(read, Err(UnsupportedContentType::Parameter(_))), "{text}: {read:?}");
    }
    for text in ["", "json", "text/plain", "application/jsonx", "multipart/form-data; boundary=x"] {
        assert!(matches!(MediaType::read(text), Err(UnsupportedContentType::Unknown(_))));
    }
}
