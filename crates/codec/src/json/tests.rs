use super::*;
use proptest::prelude::*;

/// Scans one value with whitespace around it, as a whole document.
fn scan(input: &[u8]) -> Result<(Value, Option<Fault>), Stop> {
    let mut scanner = Scanner::new(input, true);
    let value = scanner.value(0)?;
    let end = scanner.position();
    match scanner.peek() {
        Ok(_) => Err(Stop::Malformed { offset: end, message: "something follows" }),
        Err(_) => Ok((value, scanner.fault())),
    }
}

fn fault(input: &str) -> Option<Fault> {
    scan(input.as_bytes()).unwrap_or_else(|stop| panic!("{input}: {stop:?}")).1
}

#[test]
fn kinds_and_places_are_told() {
    for (json, kind) in [
        ("null", ValueKind::Null),
        ("true", ValueKind::True),
        ("false", ValueKind::False),
        ("-0", ValueKind::Integer),
        ("120", ValueKind::Integer),
        ("1.0", ValueKind::Number),
        ("1E+2", ValueKind::Number),
        ("\"\"", ValueKind::Plain),
        ("\"é\"", ValueKind::Plain),
        ("\"\\n\"", ValueKind::Escaped),
        ("{}", ValueKind::Object),
        ("[ { \"a\" : [ ] } , 1 ]", ValueKind::Array),
    ] {
        let padded = format!(" \n{json}\t\r");
        let value = Value { kind, start: 2, end: 2 + json.len() };
        assert_eq!(scan(padded.as_bytes()), Ok((value, None)), "{json}");
    }
}

#[test]
fn what_is_not_json_is_malformed() {
    for json in [
        "",
        " ",
        "+1",
        "01",
        "-",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "tru",
        "nulll",
        "'a'",
        "{",
        "}",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "[1]]",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\u{feff}{}",
        "[1\u{a0}]",
        "{\"a\":1]",
        "--1",
        "0x1",
    ] {
        assert!(matches!(scan(json.as_bytes()), Err(Stop::Malformed { .. })), "{json}");
    }
}

#[test]
fn a_fault_is_noted_and_the_end_still_found() {
    for (json, expected) in [
        ("\"a\nb\"", Fault::ControlCharacter),
        ("\"0123456789\u{1}\"", Fault::ControlCharacter),
        ("\"\\u0000\"", Fault::NulCharacter),
        ("{\"\\u0000\":1}", Fault::NulCharacter),
        ("\"\\ud800\"", Fault::LoneSurrogate),
        ("\"\\ud800\\n\"", Fault::LoneSurrogate),
        ("\"\\ud800\\ud800\\udc00\"", Fault::LoneSurrogate),
        ("\"\\uDC00\\uD800\"", Fault::LoneSurrogate),
        ("[1e131072]", Fault::NumberOutOfRange),
        ("1e-16384", Fault::NumberOutOfRange),
        ("[0e-20000]", Fault::NumberOutOfRange),
        ("-1e99999999999999999999", Fault::NumberOutOfRange),
    ] {
        assert_eq!(fault(json), Some(expected), "{json}");
    }
    assert_eq!(scan(b"\"abcdefgh\xff\"").unwrap().1, Some(Fault::InvalidUtf8));
    assert_eq!(scan(b"\"\xed\xa0\x80\"").unwrap().1, Some(Fault::InvalidUtf8));
    for json in ["\"\\ud83d\\ude00\"", "1e131071", "1e-16383", "0e140000", "\"\u{7f}\""] {
        assert_eq!(fault(json), None, "{json}");
    }
    assert_eq!(fault("[\"\\u0000\",1e140000]"), Some(Fault::NulCharacter), "the first one counts");
}

#[test]
fn long_numbers_are_measured() {
    assert_eq!(fault(&"9".repeat(131_072)), None);
    assert_eq!(fault(&"9".repeat(131_073)), Some(Fault::NumberOutOfRange));
    assert_eq!(fault(&format!("0.{}", "1".repeat(16_383))), None);
    assert_eq!(fault(&format!("0.{}", "1".repeat(16_384))), Some(Fault::NumberOutOfRange));
}

#[test]
fn nesting_needs_no_stack() {
    let nested =
        |depth: usize| format!("{}1{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2));
    assert_eq!(fault(&nested(DEPTH_MAX)), None);
    assert_eq!(fault(&nested(DEPTH_MAX + 2)), Some(Fault::TooDeep));
    assert_eq!(fault(&nested(1_000_000)), Some(Fault::TooDeep));
    let wrong = nested(10_000).replace("1}", "1]");
    assert!(matches!(scan(wrong.as_bytes()), Err(Stop::Malformed { .. })));
}

#[test]
fn escapes_are_read_and_written() {
    for text in ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\u{1f}é\u{1F600}\u{7f}", &"x\n".repeat(100)] {
        let mut json = Vec::new();
        write_string(text, &mut json);
        assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        let mut back = Vec::new();
        unescape(&json[1..json.len() - 1], &mut back);
        assert_eq!(back, text.as_bytes());
    }
}

/// JSON as senders make it, and some that they should not.
fn json_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
        Just("1e131072".to_owned())
    ];
    let string = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"([a-z]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\u[dD][89abAB][0-9]{2}\\\\u[dD][c-fC-F][0-9]{2}){0,12}\"",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number,
        string.clone()
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let space = prop_oneof![Just(""), Just(" "), Just("\n\t\r ")];
        let member = (string.clone(), space.clone(), inner.clone())
            .prop_map(|(key, space, value)| format!("{space}{key}{space}:{space}{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..6), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (prop::collection::vec(member, 0..6), space)
                .prop_map(|(items, space)| format!("{{{}{space}}}", items.join(","))),
        ]
    })
}

/// Replaces, inserts or removes a byte: most results are nearly JSON.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        prop::sample::select(b"\"\\{}[]:,0123456789.-+eEtrufalsn \n\x00\x1f\x80\xff".to_vec()),
        any::<u8>()
    ];
    let change = (any::<prop::sample::Index>(), 0..3, byte);
    (json_text(), prop::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (index, action, byte) in changes {
            let at = index.index(bytes.len() + 1);
            match action {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// What `serde_json` takes when it skips values: it lets invalid UTF-8 and surrogates pass.
fn valid_syntax(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// What `serde_json` takes with every string decoded; numbers only have to be finite for it.
fn valid_strings(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn agrees_with_serde_json(bytes in mutated()) {
        match scan(&bytes) {
            Ok((value, None)) => {
                prop_assert!(valid_syntax(&bytes));
                prop_assert_eq!(value.raw(&bytes), bytes.trim_ascii());
            }
            // JSON can say these, only PostgreSQL cannot hold them; another fault may follow.
            Ok((_, Some(Fault::NulCharacter | Fault::NumberOutOfRange))) => {}
            Ok((_, Some(fault))) => {
                prop_assert!(!valid_strings(&bytes), "{fault:?} in what serde_json takes");
            }
            Err(_) => prop_assert!(!valid_syntax(&bytes)),
        }
    }

    #[test]
    fn a_beginning_is_incomplete_or_tells_the_same(bytes in mutated()) {
        let mut whole = Scanner::new(&bytes, true);
        let expected = whole.value(0).map(|value| (value, whole.fault()));
        for length in 0..bytes.len() {
            let mut scanner = Scanner::new(&bytes[..length], false);
            match scanner.value(0) {
                Err(Stop::Incomplete) => {}
                told => prop_assert_eq!(told.map(|value| (value, scanner.fault())), expected),
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = scan(&bytes);
        unescape(&bytes, &mut Vec::new());
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_does(text in "\"(\\PC|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-cA-C][0-9a-fA-F]{3}|\\\\ud83d\\\\ude0[0-9]){0,20}\"") {
        prop_assume!(valid_strings(text.as_bytes()));
        let mut back = Vec::new();
        unescape(&text.as_bytes()[1..text.len() - 1], &mut back);
        let expected: String = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back, expected.as_bytes());
    }
}
