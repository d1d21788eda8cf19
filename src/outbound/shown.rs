//! What of an address and of an API's words stands in a message for people.

use super::endpoint::Endpoint;

/// Longest address in a message, in characters.
const ADDRESS_CHARACTERS_MAX: usize = 200;

/// An address without its query, which may hold secrets.
pub fn address(endpoint: &Endpoint) -> String {
    let mut url = endpoint.url().clone();
    url.set_query(None);
    cut(url.as_str(), ADDRESS_CHARACTERS_MAX)
}

/// A text on one line, without control characters, cut to so many characters.
pub fn one_line(text: &str, characters_max: usize) -> String {
    let is_gap = |letter: char| letter.is_whitespace() || letter.is_control();
    let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
    cut(&words.join(" "), characters_max)
}

fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_words_only_and_an_end() {
        assert_eq!(one_line("\r\n {\n\t\"a\":\u{0}1 }\n", 100), "{ \"a\": 1 }");
        assert_eq!(one_line("größer als", 6), "größer…");
        assert_eq!(one_line("größer als", 7), "größer…");
        assert_eq!(one_line("größer", 6), "größer");
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let shown = |text: &str| address(&Endpoint::parse(text).unwrap().0);
        assert_eq!(shown("http://a.test/x?token=hidden"), "http://a.test/x");
        assert_eq!(shown(&format!("http://a.test/{}", "x".repeat(500))).chars().count(), 201);
    }
}
