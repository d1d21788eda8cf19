use super::*;
use crate::streams::json::Scanner;

fn field(kind: ColumnType, text: &str) -> Result<Vec<u8>, ValueError> {
    let mut out = Vec::new();
    encode_text(kind, text.as_bytes(), &mut out)?;
    let length = i32::from_be_bytes(out[..4].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), out.len() - 4);
    Ok(out.split_off(4))
}

/// The JSON that a text comes back as.
fn shown(kind: ColumnType, text: &str) -> String {
    let bytes = field(kind, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let mut json = Vec::new();
    write_json(kind, &bytes, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

fn from_json(kind: ColumnType, json: &str) -> Result<Vec<u8>, ValueError> {
    let value = Scanner::new(json.as_bytes(), true).value(0).unwrap();
    let mut out = Vec::new();
    encode_json(kind, value.kind, json.as_bytes(), &mut Vec::new(), &mut out)?;
    Ok(out)
}

#[test]
fn booleans_are_read_as_postgresql_reads_them() {
    for text in [
        "t",
        "TRUE",
        "tr",
        " yes ",
        "y",
        "on",
        "ON",
        "1",
        "\u{b}true\n",
    ] {
        assert_eq!(shown(ColumnType::Boolean, text), "true", "{text:?}");
    }
    for text in ["f", "False", "n", "no", "of", "off", "0"] {
        assert_eq!(shown(ColumnType::Boolean, text), "false", "{text:?}");
    }
    for text in ["", "o", "truex", "2", "01", "yess", "on e"] {
        assert_eq!(
            field(ColumnType::Boolean, text),
            Err(ValueError::Type),
            "{text:?}"
        );
    }
    assert_eq!(from_json(ColumnType::Boolean, "1"), Err(ValueError::Type));
}

#[test]
fn integers_end_exactly_at_their_limits() {
    let cases = [
        (ColumnType::SmallInt, "-32768", "32767", "-32769", "32768"),
        (
            ColumnType::Integer,
            "-2147483648",
            "2147483647",
            "-2147483649",
            "2147483648",
        ),
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
            assert_eq!(
                from_json(kind, text),
                from_json(kind, &format!("{text}.000e0")),
                "{text}"
            );
            assert_eq!(
                from_json(kind, text),
                from_json(kind, &format!("\" {text} \"")),
                "{text}"
            );
        }
        for text in [below, above, "1000000000000000000000000000000"] {
            assert_eq!(field(kind, text), Err(ValueError::Range), "{text}");
            assert_eq!(from_json(kind, text), Err(ValueError::Range), "{text}");
            assert_eq!(
                from_json(kind, &format!("{text}.0")),
                Err(ValueError::Range),
                "{text}"
            );
        }
        for text in [
            "", "-", "+", "5.0", "1e2", "0x10", "1_000", "noon", "5 5", "٣",
        ] {
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
    for json in [
        "1e10",
        "1e400",
        "-2147483649.0",
        "92233720368547758070.0",
        "9223372036854775808e0",
    ] {
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
        assert_eq!(
            field(ColumnType::DoublePrecision, text),
            Err(ValueError::Range),
            "{text}"
        );
    }
    for text in ["3.5e38", "1e-46", "1e400"] {
        assert_eq!(
            field(ColumnType::Real, text),
            Err(ValueError::Range),
            "{text}"
        );
    }
    for text in ["", ".", "e5", "1e", "0x1p3", "1,5", "infinit", "1 2"] {
        assert_eq!(
            field(ColumnType::DoublePrecision, text),
            Err(ValueError::Type),
            "{text}"
        );
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
    for text in [
        "1e131072",
        "1e-16384",
        "0e-16384",
        "1e999999999999999999999",
        "0e1073741823",
    ] {
        assert_eq!(
            field(ColumnType::Numeric, text),
            Err(ValueError::Range),
            "{text}"
        );
    }
    for text in [
        "",
        ".",
        "-",
        "1e",
        "1e+",
        "+nan",
        "1.2.3",
        "1 2",
        "inf inity",
    ] {
        assert_eq!(
            field(ColumnType::Numeric, text),
            Err(ValueError::Type),
            "{text}"
        );
    }
}

#[test]
fn damaged_numerics_are_told_and_never_panic() {
    let good = field(ColumnType::Numeric, "-1234567.89").unwrap();
    for length in 0..good.len() {
        let mut out = Vec::new();
        assert_eq!(
            write_json(ColumnType::Numeric, &good[..length], &mut out),
            Err(InvalidBinary)
        );
    }
    let extreme = [0, 1, 0x80, 0, 0, 0, 0, 1, 0, 1];
    write_json(ColumnType::Numeric, &extreme, &mut Vec::new()).unwrap();
}

#[test]
fn timestamps_are_read_in_every_iso_spelling() {
    let expected = "\"2013-01-01T06:00:00.000000Z\"";
    for text in [
        "2013-01-01T06:00:00Z",
        "2013-01-01 06:00",
        " 2013-01-01t06:00:00.0z ",
        "2013-01-01 06:00:00 +00",
        "2013-01-01T11:30:00+05:30",
        "2013-01-01T11:30:00+0530",
        "2012-12-31T22:00:00-08",
        "2013-01-01T06:00:15+00:00:15",
        "2013-01-01T05:59:60Z",
        "002013-01-01T06:00Z",
    ] {
        assert_eq!(shown(ColumnType::TimestampTz, text), expected, "{text}");
    }
    for (text, json) in [
        ("2013-02-28T24:00:00", "2013-03-01T00:00:00.000000Z"),
        ("2013-01-01T08:18:60.5Z", "2013-01-01T08:19:00.500000Z"),
        ("2012-02-29", "2012-02-29T00:00:00.000000Z"),
        (
            "2013-01-01T23:59:59.9999999Z",
            "2013-01-02T00:00:00.000000Z",
        ),
        (
            "2013-01-01T00:00:00.1234565Z",
            "2013-01-01T00:00:00.123456Z",
        ),
        (
            "2013-01-01T00:00:00.123456789Z",
            "2013-01-01T00:00:00.123457Z",
        ),
        ("0001-01-01 BC", "0001-01-01T00:00:00.000000Z BC"),
        ("4714-11-24T00:00:00Z bc", "4714-11-24T00:00:00.000000Z BC"),
        (
            "294276-12-31T23:59:59.999999Z",
            "294276-12-31T23:59:59.999999Z",
        ),
        ("Infinity", "infinity"),
        ("-infinity", "-infinity"),
    ] {
        assert_eq!(
            shown(ColumnType::TimestampTz, text),
            format!("\"{json}\""),
            "{text}"
        );
    }
}

#[test]
fn timestamps_beyond_calendar_clock_and_range_are_refused() {
    for text in [
        "2013-02-29",
        "2013-13-01",
        "2013-00-01",
        "2013-01-32",
        "0000-01-01",
        "2013-01-01T24:00:01",
        "2013-01-01T25:00",
        "2013-01-01T06:60",
        "2013-01-01T06:00:61",
        "2013-01-01T23:59:60.5",
        "2013-01-01T24:00:60",
        "2013-01-01T06:00+16",
        "2013-01-01T06:00+15:60",
        "294277-01-01",
        "9999999-01-01",
        "4714-11-23 BC",
        "294276-12-31T23:59:59.9999999Z",
    ] {
        assert_eq!(
            field(ColumnType::TimestampTz, text),
            Err(ValueError::Range),
            "{text}"
        );
    }
    for text in [
        "",
        "noon",
        "2013",
        "213-01-01",
        "2013-1-1",
        "2013/01/01",
        "2013-01-01T",
        "2013-01-01T06",
        "2013-01-01x06:00",
        "2013-01-01T06:00:00.",
        "2013-01-01T06:00:00.1234567890Z",
        "2013-01-01T06:00:00Zx",
        "2013-01-01T06:00+5",
        "2013-01-01T06:00+05:",
        "1357020000",
        " BC",
        "+infinity",
    ] {
        assert_eq!(
            field(ColumnType::TimestampTz, text),
            Err(ValueError::Type),
            "{text}"
        );
    }
}

#[test]
fn dates_are_whole_days() {
    for (text, json) in [
        ("2000-01-01", "2000-01-01"),
        ("1999-12-31", "1999-12-31"),
        ("5874897-12-31", "5874897-12-31"),
        ("4714-11-24 BC", "4714-11-24 BC"),
        ("infinity", "infinity"),
        ("-INFINITY", "-infinity"),
    ] {
        assert_eq!(shown(ColumnType::Date, text), format!("\"{json}\""));
    }
    for text in ["5874898-01-01", "4714-11-23 BC", "1900-02-29"] {
        assert_eq!(
            field(ColumnType::Date, text),
            Err(ValueError::Range),
            "{text}"
        );
    }
    for text in ["2013-01-01T06:00:00Z", "2013-01-01Z", "20130101", ""] {
        assert_eq!(
            field(ColumnType::Date, text),
            Err(ValueError::Type),
            "{text}"
        );
    }
}

#[test]
fn every_day_of_the_calendar_comes_back() {
    // Four hundred years before and after the epoch, and both ends of the range.
    for days in (-146_097..=146_097)
        .chain(-2_451_545..-2_451_000)
        .chain(2_145_031_000..2_145_031_949)
    {
        let mut json = Vec::new();
        timestamps::write_date_json(days, &mut json);
        assert_eq!(timestamps::parse_date(unquoted(&json)), Ok(days));
    }
}

#[test]
fn damaged_timestamps_never_panic() {
    for micros in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX, 0, -1] {
        timestamps::write_timestamp_json(micros, &mut Vec::new());
        timestamps::write_rfc3339(crate::record::UnixMicros(micros), &mut Vec::new());
    }
    for days in [i32::MIN + 1, i32::MAX - 1] {
        timestamps::write_date_json(days, &mut Vec::new());
    }
}

#[test]
fn uuids_are_read_in_postgresqls_spellings() {
    let expected = "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"";
    for text in [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        " {a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11} ",
    ] {
        assert_eq!(shown(ColumnType::Uuid, text), expected, "{text}");
    }
    for text in [
        "",
        "{}",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11a",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
        "g0eebc999c0b4ef8bb6d6bb9bd380a11",
    ] {
        assert_eq!(
            field(ColumnType::Uuid, text),
            Err(ValueError::Type),
            "{text}"
        );
    }
}

#[test]
fn texts_are_kept_to_the_byte() {
    assert_eq!(
        field(ColumnType::Text, "  a \u{1F600}\n").unwrap(),
        "  a \u{1F600}\n".as_bytes()
    );
    assert_eq!(
        field(ColumnType::Text, "a\0b"),
        Err(ValueError::NulCharacter)
    );
    let mut out = Vec::new();
    assert_eq!(
        encode_text(ColumnType::Text, b"\xff", &mut out),
        Err(ValueError::InvalidUtf8)
    );
    for json in ["1", "true", "{}", "[]"] {
        assert_eq!(
            from_json(ColumnType::Text, json),
            Err(ValueError::Type),
            "{json}"
        );
    }
    let escaped = from_json(ColumnType::Text, r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#).unwrap();
    assert_eq!(&escaped[4..], "a\"\\/\u{8}\u{c}\n\r\té\u{1F600}".as_bytes());
}

#[test]
fn jsonb_takes_one_value() {
    assert_eq!(
        field(ColumnType::Jsonb, " {\"a\":[1]} ").unwrap(),
        b"\x01{\"a\":[1]}"
    );
    assert_eq!(
        from_json(ColumnType::Jsonb, "\"{}\"").unwrap()[4..],
        *b"\x01\"{}\""
    );
    assert_eq!(from_json(ColumnType::Jsonb, "null").unwrap(), NULL_FIELD);
    for text in ["", "{", "{} {}", "nul", "01"] {
        assert!(
            matches!(field(ColumnType::Jsonb, text), Err(ValueError::Json(_))),
            "{text}"
        );
    }
    let fault = ValueError::JsonFault(Fault::NulCharacter);
    assert_eq!(field(ColumnType::Jsonb, r#"["\u0000"]"#), Err(fault));
}

#[test]
fn null_is_null_for_every_type() {
    for kind in ColumnType::ALL {
        assert_eq!(from_json(kind, "null").unwrap(), NULL_FIELD);
    }
}
