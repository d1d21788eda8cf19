//! What a header line says: the names of the fields, and signs that it is none, or none of this dialect.

use std::borrow::Cow;
use std::collections::HashSet;

use super::CsvDialect;

/// What separates fields in files whose fields are not separated by what was said.
const OTHER_DELIMITERS: [char; 4] = [';', '\t', '|', ','];

/// The keys that a row's fields have. A field without a name has its number: `column_3`.
#[derive(Debug, Clone)]
pub struct FieldNames<'a> {
    keys: Vec<Cow<'a, str>>,
    is_nameless: Vec<bool>,
}

impl<'a> FieldNames<'a> {
    /// Fails with a name that is there twice.
    pub fn new(names: &[&'a str]) -> Result<FieldNames<'a>, &'a str> {
        let is_nameless: Vec<bool> = names.iter().map(|name| name.trim().is_empty()).collect();
        let mut taken = HashSet::new();
        for (name, is_nameless) in names.iter().zip(&is_nameless) {
            if !is_nameless && !taken.insert(*name) {
                return Err(name);
            }
        }
        let key = |(index, name): (usize, &&'a str)| {
            if !is_nameless[index] {
                return Cow::Borrowed(*name);
            }
            let mut key = format!("column_{}", index + 1);
            while taken.contains(key.as_str()) {
                key.push('_');
            }
            Cow::Owned(key)
        };
        let keys = names.iter().enumerate().map(key).collect();
        Ok(FieldNames { keys, is_nameless })
    }

    /// The keys in the header's order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| &**key)
    }

    pub fn key(&self, field: usize) -> &str {
        &self.keys[field]
    }

    pub fn is_nameless(&self, field: usize) -> bool {
        self.is_nameless[field]
    }
}

/// Why a first line is probably no header, or one of another dialect, and what helps. `raw`: the line as sent.
pub fn foreign_header(raw: &[u8], names: &[&str], dialect: CsvDialect) -> Option<String> {
    let line = raw.trim_ascii();
    if is_json(line) {
        let help =
            "send Content-Type: application/json, or application/x-ndjson with an object a line";
        return Some(format!("it is JSON: {help}"));
    }
    if let [b'<', next, ..] = line
        && (next.is_ascii_alphabetic() || matches!(next, b'!' | b'?' | b'/'))
    {
        return Some("it is HTML or XML".to_owned());
    }
    if let Some(delimiter) = spreadsheet_hint(line) {
        return Some(format!(
            "it is a hint for spreadsheet programs: leave that line out and send the query {}",
            delimiter_query(delimiter)
        ));
    }
    if let [name] = names
        && dialect.delimiter.is_none()
        && !is_quoted(line, dialect)
        && let Some(other) = OTHER_DELIMITERS.into_iter().find(|other| name.contains(*other))
    {
        return Some(format!(
            "it contains {}: send the query {}",
            shown_delimiter(other),
            delimiter_query(other)
        ));
    }
    let in_single_quotes = |name: &&str| {
        let name = name.trim();
        name.len() > 2 && name.starts_with('\'') && name.ends_with('\'')
    };
    if dialect.quote.is_none() && !names.is_empty() && names.iter().all(in_single_quotes) {
        return Some("its names stand in single quotes: send the query quote='".to_owned());
    }
    None
}

/// The line begins as JSON does, and as a name hardly does.
fn is_json(line: &[u8]) -> bool {
    let [first @ (b'{' | b'['), rest @ ..] = line else { return false };
    match rest.trim_ascii_start().first() {
        None | Some(b'"' | b'{' | b'[') => true,
        Some(b'}') => *first == b'{',
        Some(b']') => *first == b'[',
        Some(_) => false,
    }
}

/// The delimiter of a line such as `sep=;`.
fn spreadsheet_hint(line: &[u8]) -> Option<char> {
    let line = line.strip_prefix(b"\"").unwrap_or(line);
    let line = line.strip_suffix(b"\"").unwrap_or(line);
    let (name, delimiter) = line.split_at_checked(4)?;
    match (name.eq_ignore_ascii_case(b"sep="), delimiter) {
        (true, [delimiter]) => Some(char::from(*delimiter)),
        // The tab went with the blanks around the line.
        (true, []) => Some('\t'),
        _ => None,
    }
}

fn is_quoted(line: &[u8], dialect: CsvDialect) -> bool {
    dialect.quote().is_some_and(|quote| line.first() == Some(&quote))
}

fn shown_delimiter(delimiter: char) -> String {
    if delimiter == '\t' { "a tab".to_owned() } else { format!("'{delimiter}'") }
}

fn delimiter_query(delimiter: char) -> String {
    match delimiter {
        '\t' => "delimiter=tab".to_owned(),
        '|' | ',' => format!("delimiter={delimiter}"),
        _ => format!("delimiter=%{:02X}", u32::from(delimiter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        FieldNames::new(names).unwrap().keys().map(str::to_owned).collect()
    }

    #[test]
    fn fields_without_a_name_have_their_number() {
        assert_eq!(keys(&["", "a", " "]), ["column_1", "a", "column_3"]);
        assert_eq!(keys(&["column_2", "", "column_2_"]), ["column_2", "column_2__", "column_2_"]);
        assert_eq!(FieldNames::new(&["", "a", "", "a"]).unwrap_err(), "a");
    }

    #[test]
    fn headers_of_other_formats_and_dialects_are_told() {
        let told = |line: &str, delimiter: Option<&str>| {
            let dialect = CsvDialect::from_words(delimiter, None).unwrap();
            let names: Vec<&str> = line.split(char::from(dialect.delimiter())).collect();
            foreign_header(line.as_bytes(), &names, dialect)
        };
        for (line, word) in [
            ("ort;wert", "delimiter=%3B"),
            ("ort\twert", "delimiter=tab"),
            ("ort|wert", "delimiter=|"),
            ("sep=;", "delimiter=%3B"),
            ("SEP=\t", "delimiter=tab"),
            ("\"sep=;\"", "delimiter=%3B"),
            ("'ort','wert'", "quote='"),
            ("{\"ort\":\"Ulm\",\"wert\":1}", "JSON"),
            ("[", "JSON"),
            ("{}", "JSON"),
            ("[[1,2]]", "JSON"),
            ("<!DOCTYPE html><html>", "HTML"),
            ("<rows>", "HTML"),
        ] {
            let told = told(line, None).unwrap_or_else(|| panic!("{line}"));
            assert!(told.contains(word), "{line}: {told}");
        }
        for line in [
            "ort",
            "ort,wert",
            "ort;x,wert",
            "\"a;b\"",
            "'ort',wert",
            "[m/s],x",
            "{x}",
            "<5,>5",
            "sep=yes",
            "",
        ] {
            assert_eq!(told(line, None), None, "{line}");
        }
        assert_eq!(told("ort;wert", Some(",")), None, "the request said that it is so");
        assert!(told("sep=;", Some(";")).is_some());
    }
}
