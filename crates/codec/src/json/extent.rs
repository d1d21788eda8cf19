//! Where a value ends, also one that is no JSON.

use memchr::memchr2;

/// Finds where an item of an array ends, over any number of chunks, by counting brackets outside strings. For a value
/// that is well formed this is exact. In any other value its first error lies before it, and it is the end that a person
/// would most likely see: strings may be in single quotes, and a quote in the middle of a word opens none, so that a stray
/// one does not take the next item along. Which bracket closes which does not matter.
#[derive(Debug, Default)]
pub struct Extent {
    depth: u64,
    inside: Inside,
    /// Of the string that is open.
    quote: u8,
    /// The last byte of the chunk before.
    before: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Nothing of the value was seen.
    #[default]
    Nothing,
    /// Between the tokens of an array or object.
    Container,
    /// A number or a word that is not in a container.
    Scalar,
    String,
    /// Behind a backslash in a string.
    Escape,
}

impl Extent {
    /// The length of the value's rest if it ends in `bytes`. A number or a word ends where a blank, a comma or a closing
    /// bracket follows.
    pub fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.inside {
                Inside::Escape => self.inside = Inside::String,
                Inside::String => {
                    at += memchr2(self.quote, b'\\', &bytes[at..])?;
                    if bytes[at] == b'\\' {
                        self.inside = Inside::Escape;
                    } else if self.depth == 0 {
                        return Some(at + 1);
                    } else {
                        self.inside = Inside::Container;
                    }
                }
                Inside::Scalar
                    if is_blank(bytes[at]) || matches!(bytes[at], b',' | b']' | b'}') =>
                {
                    return Some(at);
                }
                Inside::Scalar => {}
                Inside::Nothing | Inside::Container => match bytes[at] {
                    quote @ (b'"' | b'\'') => {
                        let before = if at > 0 { bytes[at - 1] } else { self.before };
                        if self.inside == Inside::Nothing || opens_string(before) {
                            self.quote = quote;
                            self.inside = Inside::String;
                        }
                    }
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.inside = Inside::Container;
                    }
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ if self.inside == Inside::Nothing => self.inside = Inside::Scalar,
                    _ => {}
                },
            }
            at += 1;
        }
        self.before = bytes.last().copied().unwrap_or(self.before);
        None
    }
}

/// Whether a quote behind this byte begins a string.
fn opens_string(before: u8) -> bool {
    is_blank(before) || matches!(before, b'{' | b'[' | b'(' | b',' | b':')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_ends_where_a_person_would_see_its_end() {
        for (item, rest) in [
            ("{\"a\":[1,{}]}", ",{}]"),
            ("\"a,]\\\"}\"", ",{}]"),
            ("nan", ",{}]"),
            ("-Infinity", "]"),
            ("01", " ,"),
            ("{'s':2}", ",{}]"),
            ("{'s':'a \"quoted\" word}, {'}", ",{}]"),
            ("{'s':'it\\'s}'}", ",{}]"),
            ("{\"s\":2,}", ",{}]"),
            ("{s: it's}", ",{\"s\":\"it's\"}]"),
            ("{\"a\":5\"}", ",{\"a\":\"5\"}]"),
            ("{\"a\":\"say \"hi\" to\"}", ",{\"a\":\"x\"}]"),
            ("{\"a\":\"x\"\"}", ",{\"a\":\"x\"}]"),
            ("{\"_id\":ObjectId('}')}", ",{}]"),
            ("{\"n\":1]", ",{}]"),
            ("'it, {}'", ",{}]"),
        ] {
            let text = format!("{item}{rest}");
            for cut in 0..text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                let mut extent = Extent::default();
                let end = match extent.end_in(first) {
                    Some(end) => Some(end),
                    None => extent.end_in(second).map(|end| cut + end),
                };
                assert_eq!(end, Some(item.len()), "{text} cut at {cut}");
            }
        }
    }
}
