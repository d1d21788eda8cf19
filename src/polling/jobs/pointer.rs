//! JSON pointers (RFC 6901) into answers, followed in the bytes where they lie.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_codec::json::{Scanner, Stop, Value, ValueKind, unescape};

/// Longest pointer, in bytes.
const POINTER_BYTES_MAX: usize = 1_000;

/// A place in a JSON text: names of members and indexes of elements. Empty: the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer {
    segments: Vec<String>,
}

/// The text is no JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no JSON pointer of at most {POINTER_BYTES_MAX} bytes, such as /data/items (~1 for /, ~0 for ~)"
)]
pub struct InvalidPointer(String);

impl TryFrom<String> for Pointer {
    type Error = InvalidPointer;

    fn try_from(text: String) -> Result<Pointer, InvalidPointer> {
        if text.is_empty() {
            return Ok(Pointer::default());
        }
        let segments = text.strip_prefix('/').filter(|_| text.len() <= POINTER_BYTES_MAX);
        let segments = segments.and_then(|rest| rest.split('/').map(unescaped).collect());
        match segments {
            Some(segments) => Ok(Pointer { segments }),
            None => Err(InvalidPointer(text.chars().take(100).collect())),
        }
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.to_string()
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

impl Pointer {
    /// The pointer to the member `name` of an object.
    pub fn member(name: &str) -> Pointer {
        Pointer { segments: vec![name.to_owned()] }
    }

    /// Whether it points at the whole text.
    pub fn is_whole(&self) -> bool {
        self.segments.is_empty()
    }

    /// The value that it points at, if there is one; the last of equal keys counts. `json` is one complete value.
    pub fn find(&self, json: &[u8]) -> Result<Option<Value>, Stop> {
        let (mut start, mut end) = (0, json.len());
        let mut segments = self.segments.iter();
        loop {
            let mut scanner = Scanner::new(&json[start..end], true);
            let found = match segments.next() {
                None => Some(scanner.value(0)?),
                Some(segment) => match scanner.peek()? {
                    b'{' => member(&mut scanner, segment)?,
                    b'[' => element(&mut scanner, segment)?,
                    _ => None,
                },
            };
            let Some(found) = found else { return Ok(None) };
            (start, end) = (start + found.start, start + found.end);
            if segments.as_slice().is_empty() {
                return Ok(Some(Value { kind: found.kind, start, end }));
            }
        }
    }
}

/// The text of a JSON string that a [`Scanner`] has read, without its quotes and escapes.
pub fn text_of(value: Value, json: &[u8]) -> String {
    let raw = value.raw(json);
    let raw = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let mut text = Vec::with_capacity(raw.len());
    if value.kind == ValueKind::Escaped {
        unescape(raw, &mut text);
    } else {
        text.extend_from_slice(raw);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn unescaped(segment: &str) -> Option<String> {
    let valid = segment.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    valid.then(|| segment.replace("~1", "/").replace("~0", "~"))
}

fn member(scanner: &mut Scanner<'_>, name: &str) -> Result<Option<Value>, Stop> {
    let mut found = None;
    let mut more = scanner.open_object()?;
    while more {
        let key = scanner.key()?;
        let value = scanner.value(1)?;
        if text_of(key, scanner.input()) == name {
            found = Some(value);
        }
        more = scanner.after_member()?;
    }
    Ok(found)
}

fn element(scanner: &mut Scanner<'_>, index: &str) -> Result<Option<Value>, Stop> {
    let canonical = index == "0" || !index.starts_with(['0', '+']);
    let Some(index) = index.parse::<usize>().ok().filter(|_| canonical) else { return Ok(None) };
    let mut at = 0;
    let mut more = scanner.open_array()?;
    while more {
        let value = scanner.value(1)?;
        if at == index {
            return Ok(Some(value));
        }
        at += 1;
        more = scanner.after_element()?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(pointer: &str, json: &'a str) -> Option<&'a str> {
        let pointer = Pointer::try_from(pointer.to_owned()).unwrap();
        assert_eq!(Pointer::try_from(pointer.to_string()), Ok(pointer.clone()));
        pointer.find(json.as_bytes()).unwrap().map(|value| &json[value.start..value.end])
    }

    #[test]
    fn follows_members_and_elements() {
        let json =
            r#" {"a/b": {"~x": [10, {"y": "z"}]}, "": 7, "twice": 1, "twice": [2], "\u0061": 9} "#;
        assert_eq!(find("/a~1b/~0x/0", json), Some("10"));
        assert_eq!(find("/a~1b/~0x/1/y", json), Some(r#""z""#));
        assert_eq!(find("/", json), Some("7"));
        assert_eq!(find("/a", json), Some("9"));
        assert_eq!(find("/twice/0", json), Some("2"), "the last of equal keys counts");
        assert_eq!(find("", "[1]"), Some("[1]"));
        for nowhere in ["/b", "/a~1b/~0x/2", "/a~1b/~0x/00", "/a~1b/~0x/-", "/twice/0/0"] {
            assert_eq!(find(nowhere, json), None, "{nowhere}");
        }
    }

    #[test]
    fn refuses_what_is_no_pointer() {
        let long = format!("/{}", "x".repeat(POINTER_BYTES_MAX));
        for text in ["a", "#/a", "/~", "/~2", &long] {
            assert!(Pointer::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_json_is_an_error_and_no_panic() {
        let pointer = Pointer::member("a");
        for json in ["", "{", r#"{"a""#, r#"{"a":"#, r#"{"a":1"#] {
            assert!(pointer.find(json.as_bytes()).is_err(), "{json}");
        }
    }
}
