//! What bytes that are not UTF-8 most likely say, to repair a record from.

use serde::Serialize;

/// The encoding that is guessed: what most text is in that is not UTF-8.
const ENCODING: &str = "windows-1252";
/// The characters of the bytes 0x80 to 0x9f there; the five without one stay the control characters that they are.
const HIGH_CONTROLS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// `{"encoding":"windows-1252","text":"…"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuessedText {
    encoding: &'static str,
    pub text: String,
}

impl GuessedText {
    /// Reads what is UTF-8 as that, since texts of several origins get mixed, and every other byte as Windows-1252.
    pub fn of(bytes: &[u8]) -> GuessedText {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|&byte| character(byte)));
        }
        GuessedText { encoding: ENCODING, text }
    }
}

fn character(byte: u8) -> char {
    let control = byte.checked_sub(0x80).and_then(|index| HIGH_CONTROLS.get(usize::from(index)));
    control.copied().unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_windows_1252_where_they_are_not_utf_8() {
        for (bytes, text) in [
            (&b"M\xfcller"[..], "Müller"),
            (b"\x80 5,\x96 \x93ja\x94 \x85", "€ 5,– “ja” …"),
            (b"\xc0\xff\xa0\x9f\x81", "Àÿ\u{a0}Ÿ\u{81}"),
            (b"caf\xc3\xa9 M\xfcller", "café Müller"),
            (b"cut \xe2\x82", "cut â‚"),
        ] {
            assert_eq!(GuessedText::of(bytes).text, text);
        }
    }
}
