//! What the types read, refuse and show again.

mod numbers;
mod timestamps;

use super::*;
use crate::json::Scanner;

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
    for text in ["t", "TRUE", "tr", " yes ", "y", "on", "ON", "1", "\u{b}true\n"] {
        assert_eq!(shown(ColumnType::Boolean, text), "true", "{text:?}");
    }
    for text in ["f", "False", "n", "no", "of", "off", "0"] {
        assert_eq!(shown(ColumnType::Boolean, text), "false", "{text:?}");
    }
    for text in ["", "o", "truex", "2", "01", "yess", "on e"] {
        assert_eq!(field(ColumnType::Boolean, text), Err(ValueError::Type), "{text:?}");
    }
    assert_eq!(from_json(ColumnType::Boolean, "1"), Err(ValueError::Type));
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
        assert_eq!(field(ColumnType::Uuid, text), Err(ValueError::Type), "{text}");
    }
}

#[test]
fn texts_are_kept_to_the_byte() {
    assert_eq!(field(ColumnType::Text, "  a \u{1F600}\n").unwrap(), "  a \u{1F600}\n".as_bytes());
    assert_eq!(field(ColumnType::Text, "a\0b"), Err(ValueError::NulCharacter));
    let mut out = Vec::new();
    assert_eq!(encode_text(ColumnType::Text, b"\xff", &mut out), Err(ValueError::InvalidUtf8));
    for json in ["1", "true", "{}", "[]"] {
        assert_eq!(from_json(ColumnType::Text, json), Err(ValueError::Type), "{json}");
    }
    let escaped = from_json(ColumnType::Text, r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#).unwrap();
    assert_eq!(&escaped[4..], "a\"\\/\u{8}\u{c}\n\r\té\u{1F600}".as_bytes());
}

#[test]
fn jsonb_takes_one_value() {
    assert_eq!(field(ColumnType::Jsonb, " {\"a\":[1]} ").unwrap(), b"\x01{\"a\":[1]}");
    assert_eq!(from_json(ColumnType::Jsonb, "\"{}\"").unwrap()[4..], *b"\x01\"{}\"");
    assert_eq!(from_json(ColumnType::Jsonb, "null").unwrap(), NULL_FIELD);
    for text in ["", "{", "{} {}", "nul", "01"] {
        assert!(matches!(field(ColumnType::Jsonb, text), Err(ValueError::Json(_))), "{text}");
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
