//! Reads a parameter's text from left to right.

use crate::error::{Problem, shortened};

/// What is left of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub rest: &'a str,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader { rest: text }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes this text off, if it comes next.
    pub fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes this text off, or says what is missing.
    pub fn expect(&mut self, text: &str) -> Result<(), Problem> {
        if self.eat(text) {
            return Ok(());
        }
        let found = match self.rest {
            "" => "the end".to_owned(),
            rest => format!("`{}`", shortened(rest)),
        };
        Err(Problem::new("invalid_syntax", format!("`{text}` is expected before {found}")))
    }

    /// Everything before the first place where `ends` is true of what follows.
    pub fn take_until(&mut self, ends: impl Fn(&str) -> bool) -> &'a str {
        let places = self.rest.char_indices().map(|(place, _)| place);
        let end = places.into_iter().find(|place| ends(&self.rest[*place..]));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The whole rest.
    pub fn take_rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// A text in double quotes, if one comes next. `\"` and `\\` are a quote and a backslash in it.
    pub fn quoted(&mut self) -> Result<Option<String>, Problem> {
        let Some(inside) = self.rest.strip_prefix('"') else { return Ok(None) };
        let mut text = String::new();
        let mut characters = inside.char_indices();
        while let Some((place, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &inside[place + 1..];
                    return Ok(Some(text));
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        let shown = shortened(self.rest);
        Err(Problem::new("invalid_syntax", format!("`{shown}` lacks its closing quote")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_what_would_end_a_text() {
        let mut reader = Reader::new(r#""a,\"b\\)",c"#);
        assert_eq!(reader.quoted(), Ok(Some(r#"a,"b\)"#.to_owned())));
        assert_eq!(reader.rest, ",c");
        assert_eq!(reader.quoted(), Ok(None));
        for open in [r#"""#, r#""a"#, r#""a\""#, r#""a\"#] {
            assert!(Reader::new(open).quoted().is_err(), "{open}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut reader = Reader::new("é.b");
        assert_eq!(reader.take_until(|rest| rest.starts_with('.')), "é");
        assert_eq!(reader.expect(",").unwrap_err().message, "`,` is expected before `.b`");
        assert_eq!(reader.expect("."), Ok(()));
        assert_eq!(reader.take_rest(), "b");
        assert_eq!(reader.expect(")").unwrap_err().message, "`)` is expected before the end");
    }
}
