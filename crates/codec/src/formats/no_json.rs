//! Records that are no JSON, and what their senders most likely meant.

use crate::encode::{RecordError, RecordErrorCode};

/// A record that stops being JSON at `offset`, which counts in `whole`: the record, or the line.
pub(super) fn invalid_json(
    message: &str,
    record: &[u8],
    offset: usize,
    whole: &str,
) -> RecordError {
    let mut message = format!("{message} at byte {offset} of the {whole}");
    if let Some(hint) = hint(record, offset) {
        message.push_str(": ");
        message.push_str(hint);
    }
    RecordError::new(RecordErrorCode::InvalidJson, message)
}

/// What helps where JSON's relatives differ from it.
fn hint(record: &[u8], offset: usize) -> Option<&'static str> {
    let before = record.get(..offset)?.trim_ascii_end().last();
    let rest = &record[offset..];
    let unsigned = rest.strip_prefix(b"+").unwrap_or(rest);
    let word = unsigned.split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
    let is = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    if is(&["nan", "infinity", "inf"]) {
        return Some(
            "JSON has no NaN and no Infinity; send null, or \"NaN\" in quotes, which real, double precision and numeric take",
        );
    }
    if is(&["none", "undefined", "nil", "true", "false"]) {
        return Some("JSON has null, true and false, in lower case");
    }
    match (rest.first()?, before) {
        (b'\'', _) => Some("JSON has strings and keys in double quotes"),
        (b'}' | b']', Some(b',')) => Some("JSON has no comma before a closing bracket"),
        (b'0'..=b'9', Some(b'0')) => Some("in JSON no number begins with a zero and more digits"),
        (b'/' | b'#', _) => Some("JSON has no comments"),
        (byte, Some(b'{' | b',')) if byte.is_ascii_alphabetic() => {
            Some("JSON has keys in double quotes")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Scanner, Stop};

    #[test]
    fn the_message_says_what_json_has_instead() {
        for (record, expected) in [
            (r#"{"a":NaN}"#, "NaN"),
            (r#"{"a":nan}"#, "NaN"),
            (r#"{"a":-Infinity}"#, "Infinity"),
            (r#"{"a":+inf}"#, "Infinity"),
            (r#"{"a":None}"#, "null, true and false"),
            (r#"{"a":True}"#, "null, true and false"),
            ("{'a':1}", "double quotes"),
            (r#"{"a":'x'}"#, "double quotes"),
            ("{a:1}", "keys in double quotes"),
            (r#"{"b":1, a:1}"#, "keys in double quotes"),
            (r#"{"a":1, }"#, "no comma before"),
            (r#"{"a":[1,]}"#, "no comma before"),
            (r#"{"a":01}"#, "begins with a zero"),
            (
                r#"{"a":1 // one
            }"#,
                "no comments",
            ),
        ] {
            let stop = Scanner::new(record.as_bytes(), true).value(0).unwrap_err();
            let Stop::Malformed { offset, message } = stop else { panic!("{record}") };
            let error = invalid_json(message, record.as_bytes(), offset, "record");
            assert_eq!(error.code, RecordErrorCode::InvalidJson);
            assert!(error.message.contains(expected), "{record}: {}", error.message);
            assert!(error.message.contains(&format!("byte {offset} of the record")), "{record}");
        }
        let plain = invalid_json("expected a colon", br#"{"a" 1}"#, 5, "line");
        assert_eq!(plain.message, "expected a colon at byte 5 of the line");
        assert_eq!(
            invalid_json("it ends", b"{", 1, "line").message,
            "it ends at byte 1 of the line"
        );
    }
}
