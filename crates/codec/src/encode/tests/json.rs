//! JSON records: kept, taken apart, refused.

use super::*;

#[test]
fn documents_are_kept_to_the_byte() {
    for payload in [PayloadType::Json, PayloadType::Jsonb] {
        let stream = stream(Shape::Document { payload }, Vec::new());
        let mut encoder = encoder(&stream);
        for json in ["{}", r#"{ "a": [1, {"b":"\u00e9"}],"a":1.50}"#, "{\n\"é\":null}"] {
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
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
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
    for stream in kinds.iter().chain([&documents(&[]), &documents(&[&["a", "b"]])]) {
        let mut encoder = encoder(stream);
        for (json, code) in cases {
            assert_eq!(refused(&mut encoder, json).code, code, "{}", json.escape_ascii());
        }
    }
    let mut encoder = encoder(&typed(UnknownKeys::Extra));
    let error = refused(&mut encoder, b"{\"id\":1,\"name\":\"\\u0000\"}");
    assert_eq!(error.column.as_deref(), Some("name"));
    assert_eq!(refused(&mut encoder, b"{\"id\":1,\"x\":\"\\u0000\"}").column, None);
}

#[test]
fn broken_syntax_leaves_nothing() {
    for stream in [typed(UnknownKeys::Extra), documents(&[]), documents(&[&["a"]])] {
        let mut encoder = encoder(&stream);
        for (json, offset) in
            [("{\"a\":1,}", 7), ("{\"a\" 1}", 5), ("{a:1}", 1), ("{\"a\":NaN}", 5), ("{\"a\":1", 6)]
        {
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
    assert_eq!(data, r#"{"id":3,"name":null,"rate":1.5,"quo\"ted é":null,"i":1,"idx":2}"#);
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
    assert_eq!(data, format!(r#"{known},"x\n": {{"y" :1}},"z":1.50,"x\n":2}}"#));
    let run = r#"{"id":1,"p":1 , "q":2,"name":null,"r":3}"#;
    let data = round_trip(&stream, &mut encoder(&stream), run);
    assert_eq!(data, format!(r#"{known},"p":1 , "q":2,"r":3}}"#));
    let stream = typed(UnknownKeys::Drop);
    assert_eq!(round_trip(&stream, &mut encoder(&stream), json), format!("{known}}}"));
    let error = refused(&mut encoder(&typed(UnknownKeys::Reject)), json.as_bytes());
    assert_eq!(error.code, RecordErrorCode::UnknownKey);
    assert!(error.message.starts_with("no column takes the key \"x \""), "{error}");
}

#[test]
fn errors_name_column_expectation_and_value() {
    let mut encoder = encoder(&typed(UnknownKeys::Extra));
    for (json, code, column, message) in [
        (r#"{"id":"noon"}"#, "invalid_type", "id", r#"expected integer, got "noon""#),
        (r#"{"id":5.5}"#, "invalid_type", "id", "expected integer, got 5.5"),
        (r#"{"id":3000000000}"#, "out_of_range", "id", "3000000000 is out of range for integer"),
        (r#"{"name":{"a":1}}"#, "invalid_type", "name", r#"expected text, got {"a":1}"#),
        (r#"{"rate":true}"#, "invalid_type", "rate", "expected numeric, got true"),
    ] {
        let error = refused(&mut encoder, json.as_bytes());
        assert_eq!((error.code.as_str(), error.column.as_deref()), (code, Some(column)));
        assert_eq!(error.message, message);
    }
    let long = format!("{{\"id\":\"{}\"}}", "é".repeat(10_000));
    assert!(refused(&mut encoder, long.as_bytes()).message.chars().count() < 120);
}
