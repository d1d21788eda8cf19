//! Hides secrets in what an API said, before people see it: APIs tell their callers what they were sent.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::{Url, form_urlencoded};

use super::secrets::{Secrets, is_secret};

/// What stands for a secret.
const MASK: &str = "•••";
/// So many bytes in common with a secret are hidden wherever they stand, because APIs repeat parts of a key as well.
const PART_BYTES: usize = 8;
/// What is shorter is no secret: hiding it would hide letters of every word.
const SECRET_BYTES_MIN: usize = 4;
/// Of a secret that is cut off at the end of a text, so many bytes tell that it is one.
const CUT_BYTES_MIN: usize = 3;

/// The secrets of one request, in every form in which an API may repeat them.
pub struct Mask {
    forms: Vec<String>,
}

impl Mask {
    /// The secret headers, and what the address has under a name that tells a secret.
    pub fn of(secrets: &Secrets, url: &Url) -> Mask {
        let mut parts: Vec<String> =
            secrets.iter().flat_map(|(_, value)| parts_of(value)).collect();
        for (name, value) in url.query_pairs() {
            if is_secret(&name.to_lowercase()) {
                parts.extend(parts_of(&value));
            }
        }
        let mut forms: Vec<String> = parts.iter().flat_map(|part| forms_of(part)).collect();
        forms.retain(|form| form.len() >= SECRET_BYTES_MIN);
        forms.sort_unstable();
        forms.dedup();
        Mask { forms }
    }

    /// The text without the secrets. `is_cut`: it goes on where it came from, so a secret may have only begun.
    pub fn hide(&self, text: &str, is_cut: bool) -> String {
        let mut hidden = vec![false; text.len()];
        let mut parts: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, part) in text.as_bytes().windows(PART_BYTES).enumerate() {
            parts.entry(part).or_default().push(at);
        }
        for form in &self.forms {
            let places: Vec<usize> = if form.len() < PART_BYTES {
                text.match_indices(form).map(|(at, _)| at).collect()
            } else {
                let found = form.as_bytes().windows(PART_BYTES).filter_map(|part| parts.get(part));
                found.flatten().copied().collect()
            };
            for at in places {
                hidden[at..at + form.len().min(PART_BYTES)].fill(true);
            }
            if is_cut {
                hide_beginning(text.as_bytes(), form.as_bytes(), &mut hidden);
            }
        }
        let (mut shown, mut was_hidden) = (String::with_capacity(text.len()), false);
        for (at, letter) in text.char_indices() {
            let is_hidden = hidden[at..at + letter.len_utf8()].contains(&true);
            match (is_hidden, was_hidden) {
                (false, _) => shown.push(letter),
                (true, false) => shown.push_str(MASK),
                (true, true) => {}
            }
            was_hidden = is_hidden;
        }
        shown
    }
}

/// Hides the beginning of a secret at the end of the text.
fn hide_beginning(text: &[u8], form: &[u8], hidden: &mut [bool]) {
    let lengths = CUT_BYTES_MIN..=form.len().min(PART_BYTES);
    if let Some(length) = lengths.rev().find(|length| text.ends_with(&form[..*length])) {
        let from = text.len() - length;
        hidden[from..].fill(true);
    }
}

/// The secret parts of a header's value: its words, but for the name of the scheme that they follow; what follows `=` in
/// them; and the password that `Basic` has.
fn parts_of(value: &str) -> Vec<String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let is_scheme =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let named = usize::from(words.len() > 1 && is_scheme(words[0]));
    let mut parts = Vec::new();
    for word in &words[named..] {
        let word = word.trim_matches(['"', ',', ';']);
        parts.push(word.to_owned());
        if let Some((_, after)) = word.split_once('=') {
            parts.push(after.trim_matches('"').to_owned());
        }
        let decoded = STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            parts.push(password.to_owned());
        }
    }
    parts
}

/// The part as it is, and as JSON, HTML and addresses write it.
fn forms_of(part: &str) -> [String; 5] {
    let json = serde_json::to_string(part).unwrap_or_default().trim_matches('"').to_owned();
    let slashes = json.replace('/', "\\/");
    let address = form_urlencoded::byte_serialize(part.as_bytes()).collect();
    let mut html = String::with_capacity(part.len());
    for letter in part.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => drop(write!(html, "&#{};", u32::from(letter))),
            letter => html.push(letter),
        }
    }
    [part.to_owned(), json, slashes, address, html]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(header: &str, url: &str) -> Mask {
        let headers = [("authorization".to_owned(), header.to_owned())];
        Mask::of(&Secrets::new(headers.into()), &url.parse().unwrap())
    }

    fn hidden(header: &str, text: &str) -> String {
        mask(header, "http://a.test/").hide(text, false)
    }

    #[test]
    fn a_secret_is_hidden_in_every_form_in_which_it_comes_back() {
        for (header, text, shown) in [
            ("Bearer abc-0123456789", "no Bearer abc-0123456789, ada", "no Bearer •••, ada"),
            ("Bearer abc-0123456789", "key abc-01234…6789 is wrong", "key •••…6789 is wrong"),
            ("Bearer abc-0123456789", "Bearer tokens are needed", "Bearer tokens are needed"),
            ("Basic YWRhOmh1bnRlcjI=", "hunter2 and YWRhOmh1bnRlcjI=", "••• and •••"),
            ("sid=a1b2c3d4; theme=dark", "a1b2c3d4 is over", "••• is over"),
            ("a/b+c<d>&e", r"a\/b+c<d>&e a%2Fb%2Bc%3Cd%3E%26e a/b+c&lt;d&gt;&amp;e", "••• ••• •••"),
            ("hunter2", "hunter2hunter2!", "•••!"),
            (
                "k",
                "kkk is too short to be told from words",
                "kkk is too short to be told from words",
            ),
            ("größer-als-nichts", "größer-als-nichts", "•••"),
        ] {
            assert_eq!(hidden(header, text), shown, "{header}");
        }
    }

    #[test]
    fn a_secret_that_is_cut_off_is_hidden_as_well() {
        let mask = mask("Bearer abcdefghijklm", "http://a.test/");
        assert_eq!(mask.hide("you sent abcd", true), "you sent •••");
        assert_eq!(mask.hide("you sent abcd", false), "you sent abcd");
    }

    #[test]
    fn what_the_address_has_under_a_telling_name_is_a_secret_too() {
        let mask = mask("x", "http://a.test/?API_KEY=s3cret-a&page=2222");
        assert_eq!(mask.hide("s3cret-a on 2222", false), "••• on 2222");
    }
}
