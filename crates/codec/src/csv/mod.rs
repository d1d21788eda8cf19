//! How a CSV text is written, and what its header says. Ingest and inference read alike, with the same options.

mod fields;
mod header;

use csv_core::{Reader, ReaderBuilder};

pub(crate) use fields::CsvFields;
pub(crate) use header::{FieldNames, foreign_header};

/// Most names in a header.
pub(crate) const CSV_FIELDS_MAX: usize = 10_000;

/// What separates fields, and what they are quoted with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CsvDialect {
    /// `None`: the request does not say, and it is a comma.
    delimiter: Option<u8>,
    /// `None`: the request does not say, and it is a double quote.
    quote: Option<Quote>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    Character(u8),
    /// Quotes are characters like any other.
    Nothing,
}

/// How a body is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvOptions {
    pub dialect: CsvDialect,
    /// Text of a field that means NULL, beside the empty one. In quotes it is data.
    pub null: Option<String>,
    /// The names of a body that has no header line.
    pub columns: Option<Vec<String>>,
}

/// Whether a body begins with a header line, as the content type says it (RFC 4180).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderLine {
    Present,
    Absent,
}

/// The options in words, as a query has them.
#[derive(Debug, Clone, Default)]
pub struct CsvWords {
    pub null: Option<String>,
    pub delimiter: Option<String>,
    pub quote: Option<String>,
    pub header: Option<String>,
    pub columns: Option<String>,
}

/// Options that say nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCsvOptions {
    #[error(
        "delimiter is one ASCII character that is no letter, digit or line end, or tab; in an address ; is %3B and a tab %09"
    )]
    Delimiter,
    #[error("quote is one ASCII character that is no letter, digit or line end, or none")]
    Quote,
    #[error("delimiter and quote are two characters")]
    Same,
    #[error("header is present or absent")]
    Header,
    #[error("the content type and the query disagree on whether there is a header line")]
    HeaderContradiction,
    #[error("without a header line the fields have no names: send header=absent&columns=a,b,…")]
    ColumnsMissing,
    #[error("columns goes with header=absent; a body with a header line has its names there")]
    ColumnsSuperfluous,
    #[error(
        "columns is a list of at most {CSV_FIELDS_MAX} names with commas between; a name with a comma stands in double quotes"
    )]
    Columns,
}

impl CsvOptions {
    /// With nothing said but the text that means NULL.
    pub fn of_null(null: Option<String>) -> CsvOptions {
        CsvOptions { null, ..CsvOptions::default() }
    }
}

impl HeaderLine {
    /// Reads `present` or `absent`.
    pub(crate) fn from_word(word: &str) -> Option<HeaderLine> {
        match word {
            "present" => Some(HeaderLine::Present),
            "absent" => Some(HeaderLine::Absent),
            _ => None,
        }
    }
}

impl CsvWords {
    /// `header`: what the content type says of the header line.
    pub fn check(self, header: Option<HeaderLine>) -> Result<CsvOptions, InvalidCsvOptions> {
        let dialect = CsvDialect::from_words(self.delimiter.as_deref(), self.quote.as_deref())?;
        let asked = match self.header.as_deref() {
            None => None,
            Some(word) => Some(HeaderLine::from_word(word).ok_or(InvalidCsvOptions::Header)?),
        };
        if let (Some(asked), Some(header)) = (asked, header)
            && asked != header
        {
            return Err(InvalidCsvOptions::HeaderContradiction);
        }
        let columns = match (asked.or(header), self.columns) {
            (Some(HeaderLine::Absent), None) => return Err(InvalidCsvOptions::ColumnsMissing),
            (Some(HeaderLine::Absent), Some(list)) => Some(column_names(&list)?),
            (_, Some(_)) => return Err(InvalidCsvOptions::ColumnsSuperfluous),
            (_, None) => None,
        };
        Ok(CsvOptions { dialect, null: self.null, columns })
    }
}

impl CsvDialect {
    /// Reads what [`CsvDialect::delimiter_word`] and [`CsvDialect::quote_word`] give.
    pub fn from_words(
        delimiter: Option<&str>,
        quote: Option<&str>,
    ) -> Result<CsvDialect, InvalidCsvOptions> {
        let delimiter = match delimiter {
            None => None,
            Some(word) => Some(character(word).ok_or(InvalidCsvOptions::Delimiter)?),
        };
        let quote = match quote {
            None => None,
            Some("none") => Some(Quote::Nothing),
            Some(word) => Some(Quote::Character(character(word).ok_or(InvalidCsvOptions::Quote)?)),
        };
        let dialect = CsvDialect { delimiter, quote };
        if dialect.quote() == Some(dialect.delimiter()) {
            return Err(InvalidCsvOptions::Same);
        }
        Ok(dialect)
    }

    pub fn delimiter(self) -> u8 {
        self.delimiter.unwrap_or(b',')
    }

    /// `None`: fields are never quoted.
    pub fn quote(self) -> Option<u8> {
        match self.quote {
            None => Some(b'"'),
            Some(Quote::Character(byte)) => Some(byte),
            Some(Quote::Nothing) => None,
        }
    }

    /// `None` where the request does not say.
    pub fn delimiter_word(self) -> Option<String> {
        self.delimiter.map(|byte| char::from(byte).to_string())
    }

    /// `None` where the request does not say.
    pub fn quote_word(self) -> Option<String> {
        self.quote.map(|quote| match quote {
            Quote::Character(byte) => char::from(byte).to_string(),
            Quote::Nothing => "none".to_owned(),
        })
    }

    /// Splits and unquotes rows that are written so.
    pub(crate) fn reader(self) -> Reader {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(self.delimiter());
        match self.quote() {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        let mut reader = builder.build();
        // The reader drops a byte order mark at its beginning, but only if it comes in one piece, which its caller sees
        // to; a blank line takes the reader beyond its beginning.
        reader.read_record(b"\n", &mut [0], &mut [0]);
        reader
    }

    /// A header line of these names.
    pub fn header_line(self, names: &[String]) -> Vec<u8> {
        let mut line = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                line.push(self.delimiter());
            }
            let Some(quote) = self.quote() else {
                line.extend_from_slice(name.as_bytes());
                continue;
            };
            line.push(quote);
            for &byte in name.as_bytes() {
                line.push(byte);
                if byte == quote {
                    line.push(quote);
                }
            }
            line.push(quote);
        }
        line
    }
}

fn character(word: &str) -> Option<u8> {
    match word.as_bytes() {
        b"tab" | b"\\t" => Some(b'\t'),
        [byte] => {
            let usable = byte.is_ascii()
                && !byte.is_ascii_alphanumeric()
                && !matches!(byte, b'\r' | b'\n' | 0);
            usable.then_some(*byte)
        }
        _ => None,
    }
}

/// A list of names is itself a row of CSV.
fn column_names(list: &str) -> Result<Vec<String>, InvalidCsvOptions> {
    let mut fields = CsvFields::with_room_for(CSV_FIELDS_MAX);
    let mut reader = CsvDialect::default().reader();
    fields.begin();
    let (used, ended) = fields.read(&mut reader, list.as_bytes());
    let whole = !list.is_empty() && !ended && used == list.len();
    if !whole || !fields.read(&mut reader, b"\n").1 || fields.count() > CSV_FIELDS_MAX {
        return Err(InvalidCsvOptions::Columns);
    }
    let name = |index| str::from_utf8(fields.field(index)).map(str::to_owned);
    let names: Result<Vec<String>, _> = (0..fields.count()).map(name).collect();
    names.map_err(|_| InvalidCsvOptions::Columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pairs: &[(&str, &str)]) -> CsvWords {
        let word = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        CsvWords {
            null: word("null"),
            delimiter: word("delimiter"),
            quote: word("quote"),
            header: word("header"),
            columns: word("columns"),
        }
    }

    #[test]
    fn options_are_read_from_words() {
        let read = |pairs: &[(&str, &str)]| words(pairs).check(None).unwrap();
        assert_eq!(read(&[]), CsvOptions::default());
        let dialect = |pairs: &[(&str, &str)]| read(pairs).dialect;
        assert_eq!((dialect(&[]).delimiter(), dialect(&[]).quote()), (b',', Some(b'"')));
        for word in ["\t", "tab", "\\t"] {
            assert_eq!(dialect(&[("delimiter", word)]).delimiter(), b'\t', "{word:?}");
        }
        assert_eq!(dialect(&[("delimiter", ";"), ("quote", "'")]).quote(), Some(b'\''));
        assert_eq!(dialect(&[("quote", "none")]).quote(), None);
        let columns = read(&[("header", "absent"), ("columns", "a,\"b,c\",, d ")]).columns.unwrap();
        assert_eq!(columns, ["a", "b,c", "", " d "]);
        assert_eq!(read(&[("header", "present"), ("null", "NA")]).null.as_deref(), Some("NA"));
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        use InvalidCsvOptions as Invalid;
        for (pairs, expected) in [
            (&[("delimiter", "")][..], Invalid::Delimiter),
            (&[("delimiter", ";;")], Invalid::Delimiter),
            (&[("delimiter", "é")], Invalid::Delimiter),
            (&[("delimiter", "\n")], Invalid::Delimiter),
            (&[("delimiter", "a")], Invalid::Delimiter),
            (&[("quote", "\"\"")], Invalid::Quote),
            (&[("delimiter", "\"")], Invalid::Same),
            (&[("delimiter", "'"), ("quote", "'")], Invalid::Same),
            (&[("header", "no")], Invalid::Header),
            (&[("header", "absent")], Invalid::ColumnsMissing),
            (&[("columns", "a")], Invalid::ColumnsSuperfluous),
            (&[("header", "present"), ("columns", "a")], Invalid::ColumnsSuperfluous),
            (&[("header", "absent"), ("columns", "")], Invalid::Columns),
            (&[("header", "absent"), ("columns", "a\nb")], Invalid::Columns),
            (&[("header", "absent"), ("columns", "a,\"b")], Invalid::Columns),
        ] {
            assert_eq!(words(pairs).check(None), Err(expected), "{pairs:?}");
        }
        let absent = words(&[("header", "absent"), ("columns", "a")]);
        let contradiction = absent.check(Some(HeaderLine::Present));
        assert_eq!(contradiction, Err(Invalid::HeaderContradiction));
        assert_eq!(words(&[]).check(Some(HeaderLine::Absent)), Err(Invalid::ColumnsMissing));
    }

    #[test]
    fn a_dialect_is_read_from_its_own_words_and_header_line() {
        let names: Vec<String> = ["a", "b;'\",c", ""].map(str::to_owned).to_vec();
        for (delimiter, quote) in
            [(None, None), (Some(";"), Some("'")), (Some("\t"), None), (Some("|"), Some("'"))]
        {
            let dialect = CsvDialect::from_words(delimiter, quote).unwrap();
            let words = (dialect.delimiter_word(), dialect.quote_word());
            let again = CsvDialect::from_words(words.0.as_deref(), words.1.as_deref()).unwrap();
            assert_eq!(again, dialect);
            let line = dialect.header_line(&names);
            let mut fields = CsvFields::with_room_for(names.len());
            let mut reader = dialect.reader();
            fields.begin();
            fields.read(&mut reader, &line);
            assert!(fields.read(&mut reader, b"\n").1);
            let read: Vec<&[u8]> = (0..fields.count()).map(|index| fields.field(index)).collect();
            assert_eq!(read, names.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
    }
}
