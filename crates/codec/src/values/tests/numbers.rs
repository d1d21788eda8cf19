//! Limits, spellings and exactness of numbers.

use super::*;

#[test]
fn integers_end_exactly_at_their_limits() {
    let cases = [
        (ColumnType::SmallInt, "-32768", "32767", "-32769", "32768"),
        (ColumnType::Integer, "-2147483648", "2147483647", "-2147483649", "2147483648"),
        (
            ColumnType::BigInt,
            "-9223372036854775808",
            "9223372036854775807",
            "-9223372036854775809",
            "9223372036854775808",
        ),
    ];
    for (kind, least, most, below, above) in cases {
        for text in [least, most] {
            assert_eq!(shown(kind, text), text);
            assert_eq!(from_json(kind, text), from_json(kind, &format!("{text}.000e0")), "{text}");
            assert_eq!(from_json(kind, text), from_json(kind, &format!("\" {text} \"")), "{text}");
        }
        for text in [below, above, "1000000000000000000000000000000"] {
            assert_eq!(field(kind, text), Err(ValueError::Range), "{text}");
            assert_eq!(from_json(kind, text), Err(ValueError::Range), "{text}");
            assert_eq!(from_json(kind, &format!("{text}.0")), Err(ValueError::Range), "{text}");
        }
        for text in ["", "-", "+", "5.0", "1e2", "0x10", "1_000", "noon", "5 5", "٣"] {
            assert_eq!(field(kind, text), Err(ValueError::Type), "{text}");
        }
    }
    assert_eq!(shown(ColumnType::Integer, "+007"), "7");
}

#[test]
fn a_json_number_is_an_integer_if_its_value_is_whole() {
    let whole = |json| from_json(ColumnType::Integer, json).map(|field| field[4..].to_vec());
    for (json, value) in [
        ("5", 5),
        ("5.0", 5),
        ("5e2", 500),
        ("1.5e1", 15),
        ("-0", 0),
        ("0.0e99", 0),
        ("0e-99", 0),
        ("12300e-2", 123),
        ("0.00012e5", 12),
        ("-2147483648.0", i32::MIN),
    ] {
        assert_eq!(whole(json), Ok(value.to_be_bytes().to_vec()), "{json}");
    }
    for json in ["5.5", "1e-1", "0.00012e4", "true", "[5]", "{}", "\"5.0\""] {
        assert_eq!(whole(json), Err(ValueError::Type), "{json}");
    }
    for json in
        ["1e10", "1e400", "-2147483649.0", "92233720368547758070.0", "9223372036854775808e0"]
    {
        assert_eq!(whole(json), Err(ValueError::Range), "{json}");
    }
}

#[test]
fn floats_keep_their_value_and_stop_before_infinity_and_zero() {
    for (text, json) in [
        ("39.02", "39.02"),
        ("39", "39"),
        ("-0", "-0"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e300", "1e+300"),
        ("5e-324", "5e-324"),
        ("nan", "\"NaN\""),
        ("-NaN", "\"NaN\""),
        ("inf", "\"Infinity\""),
        ("-INFINITY", "\"-Infinity\""),
        ("0e-999", "0"),
    ] {
        assert_eq!(shown(ColumnType::DoublePrecision, text), json);
    }
    assert_eq!(shown(ColumnType::Real, "16777217"), "16777216");
    assert_eq!(shown(ColumnType::Real, "0.1"), "0.1");
    for text in ["1e309", "-1e309", "1e-400"] {
        assert_eq!(field(ColumnType::DoublePrecision, text), Err(ValueError::Range), "{text}");
    }
    for text in ["3.5e38", "1e-46", "1e400"] {
        assert_eq!(field(ColumnType::Real, text), Err(ValueError::Range), "{text}");
    }
    for text in ["", ".", "e5", "1e", "0x1p3", "1,5", "infinit", "1 2"] {
        assert_eq!(field(ColumnType::DoublePrecision, text), Err(ValueError::Type), "{text}");
    }
}

#[test]
fn numerics_keep_every_digit_and_the_scale() {
    for (text, json) in [
        ("1.50", "1.50"),
        ("0.00", "0.00"),
        ("-0", "0"),
        ("10000", "10000"),
        ("00010001.0001", "10001.0001"),
        (
            "-12345678901234567890.12345678901234567890",
            "-12345678901234567890.12345678901234567890",
        ),
        ("1.5e3", "1500"),
        ("1.5e-3", "0.0015"),
        ("1e-5", "0.00001"),
        ("120e-1", "12.0"),
        ("0e5", "0"),
        ("5.", "5"),
        (".5", "0.5"),
        ("nan", "\"NaN\""),
        ("+inf", "\"Infinity\""),
        ("-Infinity", "\"-Infinity\""),
    ] {
        assert_eq!(shown(ColumnType::Numeric, text), json);
    }
    assert_eq!(
        field(ColumnType::Numeric, "1.50").unwrap(),
        [0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x13, 0x88]
    );
    assert_eq!(shown(ColumnType::Numeric, "1e131071").len(), 131_072);
    assert_eq!(shown(ColumnType::Numeric, "1e-16383").len(), 16_385);
    for text in ["1e131072", "1e-16384", "0e-16384", "1e999999999999999999999", "0e1073741823"] {
        assert_eq!(field(ColumnType::Numeric, text), Err(ValueError::Range), "{text}");
    }
    for text in ["", ".", "-", "1e", "1e+", "+nan", "1.2.3", "1 2", "inf inity"] {
        assert_eq!(field(ColumnType::Numeric, text), Err(ValueError::Type), "{text}");
    }
}

#[test]
fn the_length_of_a_numbers_text_is_known_beforehand() {
    for text in
        ["0", "-1", "1.50", "-0.001", "1e5", "1.5e-3", "120e-1", "1.25e1", "1e131071", "-1e-16383"]
    {
        let length = numeric::text_length(text.as_bytes());
        assert_eq!(length, shown(ColumnType::Numeric, text).len(), "{text}");
    }
}

#[test]
fn damaged_numerics_are_told_and_never_panic() {
    let good = field(ColumnType::Numeric, "-1234567.89").unwrap();
    for length in 0..good.len() {
        let mut out = Vec::new();
        assert_eq!(write_json(ColumnType::Numeric, &good[..length], &mut out), Err(InvalidBinary));
    }
    let extreme = [0, 1, 0x80, 0, 0, 0, 0, 1, 0, 1];
    write_json(ColumnType::Numeric, &extreme, &mut Vec::new()).unwrap();
}
