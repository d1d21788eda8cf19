//! From a record as it was sent to the tuple that PostgreSQL's COPY BINARY reads.
//!
//! It promises: one pass over the bytes, no tree of values, no allocation per record (what it needs, it keeps from
//! record to record), and that `out` is untouched unless the record is encoded. What is encoded, PostgreSQL takes.
//! What it would refuse is refused here, with the column and the reason, and the end of the refused value is known, so
//! that its neighbours are not harmed.

mod change;
mod csv;
mod document;
mod error;
mod members;
mod pointers;
#[cfg(test)]
mod tests;
mod typed;

use std::sync::Arc;

use uuid::Uuid;

pub use csv::{CsvHeader, MatchedName};
use document::DocumentEncoder;
pub(crate) use error::not_utf8;
pub use error::{RecordError, RecordErrorCode, UnknownRecordErrorCode};
use tidegate_record::{ColumnSet, UnixMicros};
use typed::TypedEncoder;

use crate::columns::ColumnType;
use crate::json::{Scanner, Stop};
use crate::values::{encode_text, put, timestamps};
use crate::{COLUMNS_MAX, Shape, Stream};

/// Largest value of [`EncodeLimits::record_bytes_max`]. `jsonb` holds at most 256 MiB in its own form, and text that is
/// nothing but `1,1,1,…` grows sixfold on the way there.
pub const RECORD_BYTES_MAX: usize = 32 << 20;

/// Whether PostgreSQL reads the text as a value of this type, as a field of CSV is read.
pub fn check_value(kind: ColumnType, text: &str) -> Result<(), RecordError> {
    let encoded = encode_text(kind, text.as_bytes(), &mut Vec::new());
    encoded.map_err(|error| RecordError::of_field(error, kind, text.as_bytes()))
}

/// What every tuple begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuplePrefix {
    pub id: Uuid,
    pub received_at: UnixMicros,
}

/// Limits of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeLimits {
    /// Longest record, in bytes of the text that was sent; at most [`RECORD_BYTES_MAX`].
    pub record_bytes_max: usize,
    /// Most keys and values in a record's documents, where PostgreSQL takes them apart (`jsonb`); see
    /// [`Scanner::members`] for how they are counted.
    pub members_max: u64,
}

/// What became of the value at the start of the input. `consumed` counts from the start of the input to the value's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonStep {
    /// The tuple was appended.
    Encoded { consumed: usize },
    /// The value is whole, but no record of this stream.
    Refused { consumed: usize, error: RecordError },
    /// The value goes on behind the input.
    Incomplete,
    /// The syntax is broken; nothing behind `offset` can be trusted.
    Malformed { offset: usize, message: &'static str },
}

/// Why no encoder can be made for a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    #[error("a record can be limited to at most {RECORD_BYTES_MAX} bytes")]
    RecordBytesMax,
    #[error("a stream has at most {COLUMNS_MAX} columns")]
    TooManyColumns,
    #[error("two columns are named {0:?}")]
    DuplicateColumn(String),
    #[error("two columns take the key {0:?}")]
    DuplicateMember(String),
    #[error("the default of column {column:?} does not fit: {error}")]
    Default { column: String, error: RecordError },
    #[error("the key has a field that this stream cannot have")]
    KeyField,
}

/// Encodes the records of one stream. Not shared: every reader of a body has its own.
#[derive(Debug)]
pub struct RecordEncoder {
    column_set: ColumnSet,
    limits: EncodeLimits,
    target: ShapeEncoder,
    members: u64,
    /// What it reads as JSON are changes.
    reads_changes: bool,
}

#[derive(Debug)]
enum ShapeEncoder {
    Document(DocumentEncoder),
    Typed(TypedEncoder),
}

impl RecordEncoder {
    pub fn new(stream: &Arc<Stream>, limits: EncodeLimits) -> Result<RecordEncoder, EncoderError> {
        if limits.record_bytes_max > RECORD_BYTES_MAX {
            return Err(EncoderError::RecordBytesMax);
        }
        let key = stream.key.as_ref().map_or(&[][..], |key| &key.fields);
        let target = match &stream.shape {
            Shape::Document { payload } => {
                ShapeEncoder::Document(DocumentEncoder::new(*payload, key)?)
            }
            Shape::Typed { columns, unknown, widened } => {
                ShapeEncoder::Typed(TypedEncoder::new(columns, widened, *unknown, key)?)
            }
        };
        Ok(RecordEncoder {
            column_set: stream.column_set(),
            limits,
            target,
            members: 0,
            reads_changes: false,
        })
    }

    /// Reads changes from now on, or records.
    pub fn read_changes(&mut self, reads_changes: bool) {
        self.reads_changes = reads_changes;
    }

    /// The column set of the tuples.
    pub fn column_set(&self) -> ColumnSet {
        self.column_set
    }

    /// How many keys and values the documents have in the record that was encoded last.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Reads one JSON value at the start of `input`, behind whitespace if there is any, and appends its tuple.
    /// `at_end`: nothing follows `input`.
    pub fn encode_json(
        &mut self,
        input: &[u8],
        at_end: bool,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> JsonStep {
        let mut scanner = Scanner::new(input, at_end);
        let before = out.len();
        let result = if self.reads_changes {
            self.read_change(&mut scanner, prefix, out)
        } else {
            self.read_json(&mut scanner, prefix, out)
        };
        let consumed = scanner.position();
        match result {
            Ok(Ok(())) => JsonStep::Encoded { consumed },
            Ok(Err(error)) => {
                out.truncate(before);
                JsonStep::Refused { consumed, error }
            }
            Err(Stop::Incomplete) => JsonStep::Incomplete,
            Err(Stop::Malformed { offset, message }) => JsonStep::Malformed { offset, message },
        }
    }

    fn read_json(
        &mut self,
        scanner: &mut Scanner<'_>,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), RecordError>, Stop> {
        let first = scanner.peek()?;
        let start = scanner.position();
        if first == b'{' {
            match &mut self.target {
                ShapeEncoder::Document(document) => document.scan(scanner)?,
                ShapeEncoder::Typed(typed) => typed.scan(scanner)?,
            }
        } else {
            scanner.value(0)?;
        }
        let bytes = scanner.position() - start;
        if bytes > self.limits.record_bytes_max {
            return Ok(Err(RecordError::too_large(bytes, self.limits.record_bytes_max)));
        }
        if first != b'{' {
            return Ok(Err(RecordError::new(
                RecordErrorCode::NotAnObject,
                "a record is a JSON object",
            )));
        }
        self.members = match &self.target {
            ShapeEncoder::Document(document) if !document.is_taken_apart() => 0,
            _ => scanner.members(start),
        };
        if self.members > self.limits.members_max {
            return Ok(Err(RecordError::too_many_members(self.members, self.limits.members_max)));
        }
        Ok(match &mut self.target {
            ShapeEncoder::Document(document) => document.write(scanner, start, prefix, out),
            ShapeEncoder::Typed(typed) => typed.write(scanner.input(), prefix, out),
        })
    }

    /// Binds the header of a CSV file to the stream. `null`: a field with exactly this text is NULL, as the empty field
    /// is; in quotes neither is.
    pub fn csv_header(&self, names: &[&str], null: Option<&str>) -> Result<CsvHeader, RecordError> {
        match &self.target {
            ShapeEncoder::Document(_) => CsvHeader::of_document(names, null),
            ShapeEncoder::Typed(typed) => CsvHeader::of_columns(names, null, typed),
        }
    }

    /// Appends the tuple of a CSV row: `count` fields, of which `fields` gives the bytes without their quotes, and
    /// `is_quoted` whether there were any. The header must be one that this encoder has bound.
    pub fn encode_csv<'a>(
        &mut self,
        header: &CsvHeader,
        fields: impl Fn(usize) -> &'a [u8],
        is_quoted: impl Fn(usize) -> bool,
        count: usize,
        prefix: TuplePrefix,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let before = out.len();
        let row = csv::CsvRow { header, fields, is_quoted, count };
        let result =
            row.check(self.limits.record_bytes_max).and_then(|()| match &mut self.target {
                ShapeEncoder::Document(document) => document.write_row(&row, prefix, out),
                ShapeEncoder::Typed(typed) => typed.write_row(&row, prefix, out),
            });
        let members_max = self.limits.members_max;
        let result = match result {
            Ok(members) if members > members_max => {
                Err(RecordError::too_many_members(members, members_max))
            }
            other => other,
        };
        if result.is_err() {
            out.truncate(before);
        }
        self.members = result?;
        Ok(())
    }
}

/// The beginning of a tuple: how many fields it has, the id and the time of receipt.
fn put_prefix(fields: u16, prefix: TuplePrefix, out: &mut Vec<u8>) {
    out.extend_from_slice(&fields.to_be_bytes());
    put(out, *prefix.id.as_bytes());
    put(out, timestamps::from_unix(prefix.received_at).to_be_bytes());
}
