//! From the rows of a result, as `COPY (select …) to stdout (format binary)` gives them, to JSON, NDJSON and CSV.
//!
//! It promises that a row is one line of NDJSON, and that CSV which was written here and is sent again makes the same
//! values: NULL is an empty field without quotes, an empty text one with them; a line without anything is one NULL.

use crate::columns::ColumnType;
use crate::decode::{DecodeError, TupleReader};
use crate::json::write_string;
use crate::values::{self, json};

/// What a binary COPY begins with: signature, flags, the length of an extension.
const HEADER_BYTES: usize = 19;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The number of fields that stands for the end.
const END: [u8; 2] = (-1_i16).to_be_bytes();

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// Objects with commas between them: what stands in an array.
    Json,
    /// An object a line.
    NdJson,
    /// A line of names, then a line of fields each.
    Csv,
}

/// The type of a result's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowType {
    Declared(ColumnType),
    /// PostgreSQL's `json`: the text as it was sent.
    Json,
}

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowColumn {
    pub name: String,
    pub kind: RowType,
    /// Whose object it is in JSON.
    pub place: RowPlace,
}

/// Where a column's value stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowPlace {
    /// A member of the row itself.
    Row,
    /// A member of the row's `"data"`. These columns are consecutive.
    Data,
    /// The members of this object are members of `"data"`; the last of its columns.
    DataMembers,
    /// It is `"data"`.
    WholeData,
    /// Not shown: what the next page begins behind.
    Hidden,
}

/// Writes rows; see the module.
#[derive(Debug)]
pub struct RowWriter {
    format: RowFormat,
    columns: Vec<Written>,
    rows: u64,
    /// Of the last row that was written, the hidden columns' texts.
    hidden: Vec<Option<String>>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Written {
    column: RowColumn,
    /// What stands before the value in JSON, but for a comma.
    before: Vec<u8>,
    /// Whether a comma stands before that.
    comma: bool,
    /// The object `"data"` ends behind it.
    ends_data: bool,
}

impl RowWriter {
    /// Rows of these columns.
    pub fn new(format: RowFormat, columns: Vec<RowColumn>) -> RowWriter {
        let is_data = |place| matches!(place, RowPlace::Data | RowPlace::DataMembers);
        let places: Vec<RowPlace> = columns.iter().map(|column| column.place).collect();
        let mut written = Vec::with_capacity(columns.len());
        let mut is_first = true;
        for (index, column) in columns.into_iter().enumerate() {
            let begins_data = is_data(column.place) && !(index > 0 && is_data(places[index - 1]));
            let is_last = !places.get(index + 1).is_some_and(|next| is_data(*next));
            let mut before = Vec::new();
            match column.place {
                RowPlace::Hidden => {}
                RowPlace::WholeData => before.extend_from_slice(b"\"data\":"),
                RowPlace::Row => name_in_json(&column.name, &mut before),
                RowPlace::Data | RowPlace::DataMembers => {
                    if begins_data {
                        before.extend_from_slice(b"\"data\":{");
                    }
                    if column.place == RowPlace::Data {
                        name_in_json(&column.name, &mut before);
                    }
                }
            }
            let comma = match column.place {
                RowPlace::Hidden | RowPlace::DataMembers => begins_data && !is_first,
                _ => !is_first,
            };
            if column.place != RowPlace::Hidden {
                is_first = false;
            }
            let ends_data = is_data(column.place) && is_last;
            written.push(Written { column, before, comma, ends_data });
        }
        RowWriter { format, columns: written, rows: 0, hidden: Vec::new(), scratch: Vec::new() }
    }

    /// How many rows were written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Of the last row that was written, the texts of the hidden columns; None is NULL.
    pub fn hidden(&self) -> &[Option<String>] {
        &self.hidden
    }

    /// What stands before the first row: of CSV the names.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.format != RowFormat::Csv {
            return;
        }
        let names = self.columns.iter().filter(|written| written.column.place != RowPlace::Hidden);
        for (index, written) in names.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_csv(written.column.name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    /// Appends the row that the tuple at the start of `tuple` is; gives the tuple's length. After an error `out` is as it
    /// was.
    ///
    /// # Errors
    /// The tuple is none of these columns.
    pub fn row(&mut self, tuple: &[u8], out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        let before = out.len();
        let written = match self.format {
            RowFormat::Csv => self.csv_row(tuple, out),
            RowFormat::Json | RowFormat::NdJson => self.json_row(tuple, out),
        };
        match written {
            Ok(_) => self.rows += 1,
            Err(_) => out.truncate(before),
        }
        written
    }

    fn json_row(&mut self, tuple: &[u8], out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        let mut fields = self.fields(tuple)?;
        if self.format == RowFormat::Json && self.rows > 0 {
            out.push(b',');
        }
        out.push(b'{');
        self.hidden.clear();
        for written in &self.columns {
            let field = fields.next()?;
            let RowColumn { name, kind, place } = &written.column;
            let invalid = || DecodeError::InvalidField { field: name.clone() };
            if *place == RowPlace::Hidden {
                let text = field.map(|bytes| text_of(*kind, bytes).ok_or_else(invalid));
                self.hidden.push(text.transpose()?);
                continue;
            }
            if written.comma {
                out.push(b',');
            }
            out.extend_from_slice(&written.before);
            if *place == RowPlace::DataMembers {
                let is_alone = out.last() == Some(&b'{');
                write_members(field, is_alone, out).ok_or_else(invalid)?;
            } else {
                let start = out.len();
                write_json(*kind, field, out).ok_or_else(invalid)?;
                if *kind == RowType::Json && self.format == RowFormat::NdJson {
                    on_one_line(&mut out[start..]);
                }
            }
            if written.ends_data {
                out.push(b'}');
            }
        }
        out.push(b'}');
        if self.format == RowFormat::NdJson {
            out.push(b'\n');
        }
        Ok(tuple.len() - fields.rest().len())
    }

    fn csv_row(&mut self, tuple: &[u8], out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        let mut fields = self.fields(tuple)?;
        self.hidden.clear();
        let mut is_first = true;
        for written in &self.columns {
            let field = fields.next()?;
            let RowColumn { name, kind, place } = &written.column;
            let invalid = || DecodeError::InvalidField { field: name.clone() };
            if *place == RowPlace::Hidden {
                let text = field.map(|bytes| text_of(*kind, bytes).ok_or_else(invalid));
                self.hidden.push(text.transpose()?);
                continue;
            }
            if !std::mem::replace(&mut is_first, false) {
                out.push(b',');
            }
            let Some(bytes) = field else { continue };
            match kind {
                RowType::Declared(ColumnType::Text) | RowType::Json => write_csv(bytes, out),
                RowType::Declared(ColumnType::Jsonb) => {
                    write_csv(bytes.strip_prefix(&[json::VERSION]).ok_or_else(invalid)?, out);
                }
                RowType::Declared(kind) => {
                    self.scratch.clear();
                    values::write_json(*kind, bytes, &mut self.scratch).map_err(|_| invalid())?;
                    // No value of these types has a character that JSON escapes or CSV quotes.
                    out.extend_from_slice(plain(&self.scratch));
                }
            }
        }
        out.push(b'\n');
        Ok(tuple.len() - fields.rest().len())
    }

    fn fields<'a>(&self, tuple: &'a [u8]) -> Result<TupleReader<'a>, DecodeError> {
        let fields = TupleReader::new(tuple)?;
        let (expected, found) = (self.columns.len(), fields.count());
        if found == expected {
            Ok(fields)
        } else {
            Err(DecodeError::FieldCount { expected, found })
        }
    }
}

/// Takes the tuples off a binary COPY, as it comes in pieces.
#[derive(Debug, Default)]
pub struct CopiedTuples {
    /// What came of the header.
    header: usize,
    is_over: bool,
}

impl CopiedTuples {
    /// The tuples of a piece; pieces end where tuples end, as PostgreSQL's messages do. None where the piece is nothing that
    /// a binary COPY is made of.
    pub fn tuples<'a>(&mut self, mut piece: &'a [u8]) -> Option<&'a [u8]> {
        if self.header < HEADER_BYTES {
            let header = piece.get(..HEADER_BYTES)?;
            if !header.starts_with(SIGNATURE) {
                return None;
            }
            self.header = HEADER_BYTES;
            piece = &piece[HEADER_BYTES..];
        }
        if piece.starts_with(&END) {
            self.is_over = true;
            piece = &piece[END.len()..];
        }
        Some(piece)
    }

    /// Has the end come?
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

fn name_in_json(name: &str, out: &mut Vec<u8>) {
    write_string(name, out);
    out.push(b':');
}

fn write_json(kind: RowType, field: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    match (kind, field) {
        (_, None) => out.extend_from_slice(b"null"),
        (RowType::Json, Some(bytes)) => out.extend_from_slice(bytes),
        (RowType::Declared(kind), Some(bytes)) => values::write_json(kind, bytes, out).ok()?,
    }
    Some(())
}

/// The members of an object as members of the one that is open.
fn write_members(field: Option<&[u8]>, is_alone: bool, out: &mut Vec<u8>) -> Option<()> {
    let Some(bytes) = field else { return Some(()) };
    let text = bytes.strip_prefix(&[json::VERSION])?;
    let members = text.strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    if !members.is_empty() {
        if !is_alone {
            out.push(b',');
        }
        out.extend_from_slice(members);
    }
    Some(())
}

/// Line breaks stand only between the values of JSON, where a space says the same.
fn on_one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn text_of(kind: RowType, bytes: &[u8]) -> Option<String> {
    let text = match kind {
        RowType::Json => bytes.to_vec(),
        RowType::Declared(kind) => values::text_of(kind, bytes).ok()?,
    };
    String::from_utf8(text).ok()
}

/// A JSON value without its quotes.
fn plain(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(json)
}

fn write_csv(text: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    // Blanks at the ends would be taken off, and an empty text would be NULL.
    let needs_quotes = text.first().is_none_or(u8::is_ascii_whitespace)
        || text.last().is_none_or(u8::is_ascii_whitespace)
        || text.iter().any(is_special);
    if !needs_quotes {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for part in text.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
