//! What an item says, apart from how it is written: a hash that does not see the order of keys, spaces and escapes.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::streams::json::{Scanner, Stop, Value, ValueKind, unescape};

/// Deeper than this, values are compared by their text: the recursion ends here.
const DEPTH_MAX: usize = 128;

/// The hash of one complete JSON value. The last of equal keys counts. Numbers are the same if their texts are.
pub fn hash(json: &[u8]) -> Result<[u8; 16], Stop> {
    let mut scanner = Scanner::new(json, true);
    let mut form = Vec::new();
    append(&mut scanner, 0, &mut form)?;
    Ok(digest(&form))
}

/// The hash of bytes, cut to 128 bits.
pub fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut cut = [0; 16];
    cut.copy_from_slice(&Sha256::digest(bytes)[..16]);
    cut
}

/// Appends a scalar as it is, an array or object as the hash of its own form: so each byte is hashed once.
fn append(scanner: &mut Scanner<'_>, depth: usize, form: &mut Vec<u8>) -> Result<(), Stop> {
    match scanner.peek()? {
        b'{' if depth < DEPTH_MAX => object(scanner, depth, form),
        b'[' if depth < DEPTH_MAX => array(scanner, depth, form),
        _ => {
            let value = scanner.value(depth)?;
            scalar(value, scanner.input(), form);
            Ok(())
        }
    }
}

fn object(scanner: &mut Scanner<'_>, depth: usize, form: &mut Vec<u8>) -> Result<(), Stop> {
    let mut inner = Vec::new();
    let mut members: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut more = scanner.open_object()?;
    while more {
        let key = scanner.key()?;
        let key_start = inner.len();
        scalar(key, scanner.input(), &mut inner);
        let value_start = inner.len();
        append(scanner, depth + 1, &mut inner)?;
        members.push((key_start..value_start, value_start..inner.len()));
        more = scanner.after_member()?;
    }
    // The sort keeps the order of equal keys.
    members.sort_by(|left, right| inner[left.0.clone()].cmp(&inner[right.0.clone()]));
    let mut hasher = Sha256::new();
    for (index, (key, value)) in members.iter().enumerate() {
        let next = members.get(index + 1);
        if next.is_none_or(|(next, _)| inner[next.clone()] != inner[key.clone()]) {
            hasher.update(&inner[key.clone()]);
            hasher.update(&inner[value.clone()]);
        }
    }
    form.push(b'{');
    form.extend_from_slice(&hasher.finalize());
    Ok(())
}

fn array(scanner: &mut Scanner<'_>, depth: usize, form: &mut Vec<u8>) -> Result<(), Stop> {
    let mut inner = Vec::new();
    let mut more = scanner.open_array()?;
    while more {
        append(scanner, depth + 1, &mut inner)?;
        more = scanner.after_element()?;
    }
    form.push(b'[');
    form.extend_from_slice(&Sha256::digest(&inner));
    Ok(())
}

/// Kind, length and text, so that no two values run into each other.
fn scalar(value: Value, input: &[u8], form: &mut Vec<u8>) {
    let raw = value.raw(input);
    let (kind, text) = match value.kind {
        ValueKind::Plain | ValueKind::Escaped => (b's', &raw[1..raw.len() - 1]),
        ValueKind::Integer | ValueKind::Number => (b'n', raw),
        ValueKind::Null | ValueKind::False | ValueKind::True => (b'l', raw),
        ValueKind::Object | ValueKind::Array => (b'd', raw),
    };
    form.push(kind);
    let length_at = form.len();
    form.extend_from_slice(&[0; 8]);
    let text_at = form.len();
    if value.kind == ValueKind::Escaped {
        unescape(text, form);
    } else {
        form.extend_from_slice(text);
    }
    let length = (form.len() - text_at) as u64;
    form[length_at..text_at].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(json: &str) -> [u8; 16] {
        hash(json.as_bytes()).unwrap()
    }

    #[test]
    fn writing_does_not_matter() {
        let one = hashed(r#"{"a":1,"b":[true,null,"é/\n"],"c":{"x":"y","z":{}}}"#);
        for same in [
            r#" { "b" : [ true , null , "\u00e9\/\u000a" ] , "c":{"z":{},"x":"y"}, "a" : 1 } "#,
            r#"{"a":2,"c":{"z":{},"x":"y"},"b":[true,null,"é/\n"],"\u0061":1}"#,
        ] {
            assert_eq!(hashed(same), one, "{same}");
        }
    }

    #[test]
    fn whatever_says_something_else_differs() {
        let texts = [
            "1",
            "1.0",
            "\"1\"",
            "[1]",
            "[[1]]",
            "[1,1]",
            "[11]",
            "null",
            "\"null\"",
            "{}",
            "[]",
            "\"\"",
            "[\"\",\"\"]",
            "[\"\"]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"ab":"c"}"#,
            r#"{"a":"bc"}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            "12345678901234567890123456789",
            "12345678901234567890123456780",
        ];
        for (index, left) in texts.iter().enumerate() {
            for right in &texts[index + 1..] {
                assert_ne!(hashed(left), hashed(right), "{left} and {right}");
            }
        }
    }

    #[test]
    fn depth_ends_the_recursion_and_not_the_comparison() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_ne!(hashed(&deep("1")), hashed(&deep("2")));
        assert_eq!(hashed(&deep("1")), hashed(&deep("1")));
    }

    #[test]
    fn broken_json_is_an_error() {
        for json in ["", "{", "[1", r#"{"a" 1}"#, "nul", "\"a"] {
            assert!(hash(json.as_bytes()).is_err(), "{json}");
        }
    }
}
