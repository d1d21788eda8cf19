//! Strings: finding their end eight bytes at a time, checking them, reading and writing their escapes.

use memchr::memchr;

use super::{Fault, Scanner, Stop, ValueKind};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);

impl Scanner<'_> {
    /// Reads a string from its opening quote to behind its closing one.
    #[inline]
    pub(super) fn string(&mut self) -> Result<ValueKind, Stop> {
        let start = self.position + 1;
        let mut at = start;
        let mut escaped = false;
        let mut not_ascii = false;
        loop {
            at += plain_length(&self.input[at..], &mut not_ascii);
            match self.input.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                Some(_) => {
                    self.note(Fault::ControlCharacter);
                    at += 1;
                }
                None => return Err(self.ended()),
            }
        }
        if not_ascii && std::str::from_utf8(&self.input[start..at]).is_err() {
            self.note(Fault::InvalidUtf8);
        }
        self.position = at + 1;
        Ok(if escaped { ValueKind::Escaped } else { ValueKind::Plain })
    }

    /// Checks the escape whose backslash is at `at`; gives the place behind it.
    fn escape(&mut self, at: usize) -> Result<usize, Stop> {
        match self.input.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => {
                let unit = self.hex_unit(at + 2)?;
                let next = at + 6;
                match unit {
                    0 => self.note(Fault::NulCharacter),
                    0xD800..=0xDBFF => {
                        // If the input ends inside the second half, so does the string: the end will be noticed.
                        if self.input[next..].starts_with(b"\\u") {
                            let second = self.hex_unit(next + 2)?;
                            if (0xDC00..=0xDFFF).contains(&second) {
                                return Ok(next + 6);
                            }
                        }
                        self.note(Fault::LoneSurrogate);
                    }
                    0xDC00..=0xDFFF => self.note(Fault::LoneSurrogate),
                    _ => {}
                }
                Ok(next)
            }
            Some(_) => Err(Stop::Malformed { offset: at, message: "unknown escape in a string" }),
            None => Err(self.ended()),
        }
    }

    fn hex_unit(&self, at: usize) -> Result<u32, Stop> {
        let digits = self.input.get(at..at + 4).ok_or_else(|| self.ended())?;
        hex_value(digits).ok_or(Stop::Malformed {
            offset: at,
            message: "expected four hexadecimal digits after \\u",
        })
    }
}

/// How many bytes come before the first quote, backslash or control character. Sets `not_ascii` if any of them is
/// not ASCII.
#[inline]
fn plain_length(text: &[u8], not_ascii: &mut bool) -> usize {
    let mut length = 0;
    while let Some(chunk) = text[length..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let special = special_bytes(word);
        if special != 0 {
            // Only the bytes below the first special one belong to this stretch.
            *not_ascii |= word & HIGH_BITS & (special - 1) != 0;
            return length + special.trailing_zeros() as usize / 8;
        }
        *not_ascii |= word & HIGH_BITS != 0;
        length += 8;
    }
    for &byte in &text[length..] {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        *not_ascii |= byte >= 0x80;
        length += 1;
    }
    length
}

/// The lowest set bit is the high bit of the first byte that is a quote, a backslash or a control character; bits
/// above it may be wrong, because a subtraction borrows from its neighbour.
#[inline]
fn special_bytes(word: u64) -> u64 {
    let quote = word ^ QUOTES;
    let backslash = word ^ BACKSLASHES;
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    let special = (is_quote | is_backslash | is_control) & HIGH_BITS;
    special & special.wrapping_neg()
}

fn hex_value(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &byte| Some(value * 16 + char::from(byte).to_digit(16)?))
}

/// Appends the text of a raw string (without its quotes) that a [`Scanner`] has read. What has no text, half a
/// surrogate pair, becomes U+FFFD; the scanner has noted it as a fault.
pub fn unescape(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr(b'\\', raw) {
        out.extend_from_slice(&raw[..at]);
        let Some((&letter, rest)) = raw[at + 1..].split_first() else {
            return;
        };
        raw = rest;
        match letter {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (character, length) = unicode_escape(raw);
                raw = &raw[length.min(raw.len())..];
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(raw);
}

/// The character that the text behind `\u` stands for, and how long that text is.
fn unicode_escape(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(hex_value);
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, 4);
    };
    if (0xD800..=0xDBFF).contains(&first)
        && text[4..].starts_with(b"\\u")
        && let Some(second @ 0xDC00..=0xDFFF) = unit(6)
        && let Some(pair) = char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    {
        return (pair, 10);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let length = plain_length(rest, &mut false);
        out.extend_from_slice(&rest[..length]);
        let Some(&byte) = rest.get(length) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
        rest = &rest[length + 1..];
    }
    out.push(b'"');
}
