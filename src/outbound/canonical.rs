//! What an item says, apart from how it is written: a hash that does not see the order of keys, spaces and escapes.

use std::ops::Range;

use sha2::{Digest, Sha256};
use tidegate_codec::json::{Scanner, Stop, Value, ValueKind, unescape};

/// Deeper than this, values are compared by their text: the recursion ends here.
const DEPTH_MAX: usize = 128;
/// Most members of an object and of those that it lies in, together: they are held to be sorted.
const MEMBERS_MAX: usize = 100_000;

/// Why a value has no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unhashable {
    #[error("no JSON")]
    Stop(Stop),
    #[error("an object with more than {MEMBERS_MAX} members")]
    TooManyMembers,
}

impl From<Stop> for Unhashable {
    fn from(stop: Stop) -> Unhashable {
        Unhashable::Stop(stop)
    }
}

/// The hash of one complete JSON value. The last of equal keys counts. Numbers are the same if their texts are.
pub fn hash(json: &[u8]) -> Result<[u8; 16], Unhashable> {
    let mut form = Vec::new();
    Form { scanner: Scanner::new(json, true), members: 0 }.append(0, &mut form)?;
    Ok(digest(&form))
}

/// The hash of bytes, cut to 128 bits.
pub fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut cut = [0; 16];
    cut.copy_from_slice(&Sha256::digest(bytes)[..16]);
    cut
}

/// Makes the form that is hashed.
struct Form<'a> {
    scanner: Scanner<'a>,
    /// Members that are held, of all objects that are open.
    members: usize,
}

impl Form<'_> {
    /// Appends a scalar as it is, an array or object as the hash of its own form: so each byte is hashed once.
    fn append(&mut self, depth: usize, form: &mut Vec<u8>) -> Result<(), Unhashable> {
        match self.scanner.peek()? {
            b'{' if depth < DEPTH_MAX => self.object(depth, form),
            b'[' if depth < DEPTH_MAX => self.array(depth, form),
            _ => {
                let value = self.scanner.value(depth)?;
                scalar(value, self.scanner.input(), form);
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize, form: &mut Vec<u8>) -> Result<(), Unhashable> {
        let mut inner = Vec::new();
        let mut members: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut more = self.scanner.open_object()?;
        while more {
            if self.members == MEMBERS_MAX {
                return Err(Unhashable::TooManyMembers);
            }
            self.members += 1;
            let key = self.scanner.key()?;
            let key_start = inner.len();
            scalar(key, self.scanner.input(), &mut inner);
            let value_start = inner.len();
            self.append(depth + 1, &mut inner)?;
            members.push((key_start..value_start, value_start..inner.len()));
            more = self.scanner.after_member()?;
        }
        self.members -= members.len();
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

    /// An array's order counts, so nothing of it needs to be held.
    fn array(&mut self, depth: usize, form: &mut Vec<u8>) -> Result<(), Unhashable> {
        let mut hasher = Sha256::new();
        let mut element = Vec::new();
        let mut more = self.scanner.open_array()?;
        while more {
            self.append(depth + 1, &mut element)?;
            hasher.update(&element);
            element.clear();
            more = self.scanner.after_element()?;
        }
        form.push(b'[');
        form.extend_from_slice(&hasher.finalize());
        Ok(())
    }
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
    fn what_is_held_of_an_object_has_its_limit() {
        let wide = |members: usize| format!("{{{}}}", vec![r#""":0"#; members].join(","));
        assert!(hash(wide(MEMBERS_MAX).as_bytes()).is_ok());
        let nested = format!(r#"{{"a":{}}}"#, wide(MEMBERS_MAX));
        for json in [wide(MEMBERS_MAX + 1), nested] {
            assert_eq!(hash(json.as_bytes()), Err(Unhashable::TooManyMembers));
        }
        // Those that are done with are not held.
        let rows = format!("[{}]", vec![wide(100); MEMBERS_MAX / 50].join(","));
        assert!(hash(rows.as_bytes()).is_ok());
        let scalars = format!("[{}]", vec!["0"; MEMBERS_MAX * 2].join(","));
        assert!(hash(scalars.as_bytes()).is_ok());
    }

    #[test]
    fn broken_json_is_an_error() {
        for json in ["", "{", "[1", r#"{"a" 1}"#, "nul", "\"a"] {
            assert!(hash(json.as_bytes()).is_err(), "{json}");
        }
    }
}
