//! The unquoted fields of one row, and which of them stood in quotes.

use csv_core::{ReadRecordResult, Reader};
use memchr::memchr;

use super::CsvDialect;

/// First size of the room for a row's unquoted fields, in bytes.
const FIELDS_BYTES_MIN: usize = 4 * 1024;

/// The fields of the row that was read last.
pub struct CsvFields {
    bytes: Vec<u8>,
    bytes_used: usize,
    /// Where each field ends in `bytes`.
    ends: Vec<usize>,
    ends_used: usize,
    /// As many fields are wanted; of a row with more they are only counted.
    room: usize,
    /// Fields that were counted and dropped.
    dropped: usize,
    /// Nothing of this row is wanted any more.
    discarding: bool,
    /// Which fields stood in quotes; empty if none did.
    quoted: Vec<bool>,
}

impl CsvFields {
    /// For rows of at most so many fields.
    pub fn with_room_for(room: usize) -> CsvFields {
        CsvFields {
            bytes: vec![0; FIELDS_BYTES_MIN],
            bytes_used: 0,
            // One more tells that there are too many.
            ends: vec![0; room + 1],
            ends_used: 0,
            room,
            dropped: 0,
            discarding: false,
            quoted: Vec::new(),
        }
    }

    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>() + self.quoted.capacity()
    }

    /// How many fields are wanted.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Makes ready for the first byte of a row.
    pub fn begin(&mut self) {
        self.bytes_used = 0;
        self.ends_used = 0;
        self.dropped = 0;
        self.discarding = false;
        self.quoted.clear();
    }

    /// Takes a line without anything as a row of one empty field.
    pub fn begin_blank(&mut self) {
        self.begin();
        self.ends[0] = 0;
        self.ends_used = 1;
    }

    /// Wants nothing more of this row.
    pub fn discard(&mut self) {
        self.discarding = true;
    }

    /// How many fields the row has, also those that were only counted.
    pub fn count(&self) -> usize {
        self.dropped + self.ends_used
    }

    /// Reads on in the row; gives how many bytes were used and whether the row ended.
    pub fn read(&mut self, reader: &mut Reader, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while used < input.len() {
            let (result, input_bytes, output_bytes, ends) = reader.read_record(
                &input[used..],
                &mut self.bytes[self.bytes_used..],
                &mut self.ends[self.ends_used..],
            );
            used += input_bytes;
            self.bytes_used += output_bytes;
            self.ends_used += ends;
            match result {
                ReadRecordResult::Record => return (used, true),
                ReadRecordResult::OutputFull if self.discarding => self.bytes_used = 0,
                // Never larger than twice the row, whose length is limited.
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                ReadRecordResult::OutputEndsFull => {
                    self.discarding = true;
                    self.dropped += std::mem::take(&mut self.ends_used);
                    self.bytes_used = 0;
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        (used, false)
    }

    /// A field's bytes without its quotes.
    pub fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// Notes which fields of the whole row stood in quotes. `raw`: the row without its line end.
    pub fn note_quotes(&mut self, raw: &[u8], dialect: CsvDialect) {
        self.quoted.clear();
        let delimiters = self.ends_used.saturating_sub(1);
        // Unquoting is all that makes the fields shorter than the row, so most rows are not looked at again.
        if self.bytes_used + delimiters < raw.len()
            && let Some(quote) = dialect.quote()
        {
            quoted_fields(raw, dialect.delimiter(), quote, &mut self.quoted);
        }
    }

    /// Whether a field stood in quotes, as far as [`CsvFields::note_quotes`] was told.
    pub fn is_quoted(&self, index: usize) -> bool {
        self.quoted.get(index).copied().unwrap_or_default()
    }
}

/// Which fields begin with a quote. Splits the row as `csv-core` does: in a quoted field a doubled quote is one, and what
/// stands behind the closing quote is text up to the delimiter.
fn quoted_fields(raw: &[u8], delimiter: u8, quote: u8, out: &mut Vec<bool>) {
    let mut rest = raw;
    loop {
        let is_quoted = rest.first() == Some(&quote);
        out.push(is_quoted);
        if is_quoted {
            rest = behind_quotes(&rest[1..], quote);
        }
        let Some(end) = memchr(delimiter, rest) else { return };
        rest = &rest[end + 1..];
    }
}

fn behind_quotes(mut rest: &[u8], quote: u8) -> &[u8] {
    loop {
        let Some(end) = memchr(quote, rest) else { return &[] };
        rest = &rest[end + 1..];
        if rest.first() != Some(&quote) {
            return rest;
        }
        rest = &rest[1..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(row: &[u8], dialect: CsvDialect) -> Option<CsvFields> {
        let mut fields = CsvFields::with_room_for(100);
        let mut reader = dialect.reader();
        fields.begin();
        let (used, ended) = fields.read(&mut reader, row);
        if ended || used < row.len() || !fields.read(&mut reader, b"\n").1 {
            return None;
        }
        fields.note_quotes(row, dialect);
        Some(fields)
    }

    fn quoted(row: &str) -> Vec<bool> {
        let fields = read(row.as_bytes(), CsvDialect::default()).unwrap();
        (0..fields.count()).map(|index| fields.is_quoted(index)).collect()
    }

    #[test]
    fn quotes_are_told_from_the_text_they_hold() {
        assert_eq!(quoted("a,b"), [false, false]);
        assert_eq!(quoted("\"\",,\"\"\"\",x"), [true, false, true, false]);
        assert_eq!(quoted("a\"b,\"c,\"\",d\",e"), [false, true, false]);
        assert_eq!(quoted(",\"a\"x\"y,\"\n\""), [false, true, true]);
        let single = CsvDialect::from_words(Some(";"), Some("'")).unwrap();
        let fields = read(b"'';\"\";a", single).unwrap();
        assert_eq!((fields.is_quoted(0), fields.is_quoted(1)), (true, false));
        let none = CsvDialect::from_words(None, Some("none")).unwrap();
        let fields = read(b"\"\",a", none).unwrap();
        assert_eq!((fields.field(0), fields.is_quoted(0)), (&b"\"\""[..], false));
    }

    proptest! {
        /// What is written with quotes is told from what is not, whatever the fields hold.
        #[test]
        fn each_field_s_quotes_are_found(fields in prop::collection::vec(("[a\",\n ]{0,6}", any::<bool>()), 1..6)) {
            let fields: Vec<(String, bool)> = fields.into_iter()
                .map(|(text, quoted)| {
                    let quoted = quoted || text.contains([',', '"', '\n']);
                    (text, quoted)
                })
                .collect();
            let write = |(text, quoted): &(String, bool)| {
                if *quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
            };
            let row = fields.iter().map(write).collect::<Vec<_>>().join(",");
            // A line without anything is no row to the reader.
            if !row.is_empty() {
                let found = read(row.as_bytes(), CsvDialect::default()).unwrap();
                prop_assert_eq!(found.count(), fields.len());
                for (index, (text, quoted)) in fields.iter().enumerate() {
                    prop_assert_eq!(found.field(index), text.as_bytes());
                    prop_assert_eq!(found.is_quoted(index), *quoted, "{} of {}", index, row);
                }
            }
        }
    }
}
