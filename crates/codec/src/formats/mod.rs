//! From the bytes of a body to records: JSON (one object, or an array), NDJSON and CSV of one stream, and NDJSON of many.
//!
//! The framers are push parsers: bytes come in chunks of any size, cut anywhere. They promise: the outcome does not
//! depend on where the cuts are; a record that lies whole in a chunk is encoded straight from it, and only the
//! unfinished rest of a chunk is copied; never more than one record, and never more than
//! [`FramerLimits::record_bytes_max`] of it, is kept; every byte is looked at a fixed number of times. A bad record is
//! refused and the next one goes on.
//! They refuse a body whose structure is broken ([`FramingError`]), because then the beginning of the next record is
//! unknown.

mod csv;
mod json;
mod lines;
mod many_streams;
mod ndjson;
mod no_json;
mod stream_line;
#[cfg(test)]
mod tests;

use crate::changes::CHANGES_MEDIA_TYPE;
use crate::csv::{CsvOptions, HeaderLine};
use crate::encode::{MatchedName, RecordEncoder, RecordError, RecordErrorCode, TuplePrefix};

use csv::CsvFramer;
use json::JsonFramer;
use ndjson::NdjsonFramer;

pub use many_streams::{StreamsFramer, StreamsSink};

/// The UTF-8 byte order mark, which may stand at the very beginning of a body.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How the records of a body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object, or an array of them.
    Json,
    /// One object a line.
    Ndjson,
    /// A header line, then one record a row.
    Csv,
    /// One change.
    Change,
    /// One change a line.
    Changes,
}

impl Format {
    /// Whether a body has changes of records, and not records.
    pub fn is_of_changes(self) -> bool {
        matches!(self, Format::Change | Format::Changes)
    }
}

/// What a content type says of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType {
    pub format: Format,
    /// Of CSV, where it is said.
    pub header: Option<HeaderLine>,
}

/// A content type that no framer reads: 415.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedContentType {
    #[error(
        "content type {0:?} is not supported; send application/json, application/x-ndjson or text/csv"
    )]
    Unknown(String),
    #[error("charset {0:?} is not supported; send utf-8")]
    Charset(String),
    #[error(
        "the content type's parameter {0:?} is not supported; charset=utf-8 is, and header=present or absent with text/csv; delimiter, quote, null and columns belong into the query"
    )]
    Parameter(String),
}

impl MediaType {
    /// Reads the value of the header `Content-Type`.
    pub fn read(value: &str) -> Result<MediaType, UnsupportedContentType> {
        let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
        let format = match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" => Format::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Ndjson,
            "text/csv" => Format::Csv,
            CHANGES_MEDIA_TYPE => Format::Changes,
            _ => return Err(UnsupportedContentType::Unknown(value.to_owned())),
        };
        let mut header = None;
        let parameters = parameters.split(';').map(str::trim);
        for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
            // Some say only the charset's name.
            let (name, value) = parameter.split_once('=').unwrap_or(("charset", parameter));
            let value = value.trim().trim_matches('"');
            let unsupported = || UnsupportedContentType::Parameter(parameter.to_owned());
            if name.trim().eq_ignore_ascii_case("charset") {
                if !is_utf8(value) && parameter.contains('=') {
                    return Err(UnsupportedContentType::Charset(value.to_owned()));
                }
                if !is_utf8(value) {
                    return Err(unsupported());
                }
            } else if name.trim().eq_ignore_ascii_case("header") && format == Format::Csv {
                let word = value.to_ascii_lowercase();
                header = Some(HeaderLine::from_word(&word).ok_or_else(unsupported)?);
            } else {
                return Err(unsupported());
            }
        }
        Ok(MediaType { format, header })
    }
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

/// How much of a record is kept.
#[derive(Debug, Clone, Copy)]
pub struct FramerLimits {
    /// Longest record, in bytes as sent; a longer one is refused. Taken as at least 3.
    pub record_bytes_max: usize,
    /// How much of the beginning of such a record is kept as its raw bytes; never more than `record_bytes_max`.
    pub raw_bytes_max: usize,
}

impl FramerLimits {
    /// What is kept of a record that is too long, of which this is the beginning.
    fn kept<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        &record[..self.raw_bytes_max.min(self.record_bytes_max).min(record.len())]
    }
}

/// Where a record stands in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Counts from 1.
    pub record: u64,
    /// The line that it begins on, from 1; only NDJSON and CSV have lines.
    pub line: Option<u64>,
}

/// Takes what a framer finds.
pub trait RecordSink {
    /// The id and time for the next tuple. The same until [`RecordSink::encoded`] is called.
    fn prefix(&mut self) -> TuplePrefix;
    /// Where the next tuple is appended. A framer leaves no half tuple there.
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// The buffer has one more tuple, whose documents have so many keys and values.
    fn encoded(&mut self, members: u64);
    /// A record that is not for the table. `raw` is the whole record as sent, or, if `truncated`, its beginning.
    fn refused(&mut self, place: RecordPlace, error: RecordError, raw: &[u8], truncated: bool);
    /// The header line of a CSV body as sent, before its first row, and the names in it that were taken for others.
    fn csv_header(&mut self, _raw: &[u8], _matched: &[MatchedName]) {}
    /// At the end: so many lines without anything were skipped.
    fn skipped_lines(&mut self, _lines: u64) {}
    /// The framer stops after this record, so that the caller can take what is there.
    fn is_full(&self) -> bool;
}

/// How far [`Framer::push`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushProgress {
    /// The whole chunk is taken.
    ChunkTaken,
    /// The sink is full. Empty it, then push the rest of the chunk, from `consumed` on (it may be empty).
    SinkFull { consumed: usize },
}

/// What the whole body was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Encoded and refused records.
    pub records: u64,
    /// The body was one JSON object, not a list.
    pub single: bool,
}

/// The body's structure is broken: 400. What was framed before stays valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (byte {offset}, record {record}{})", line.map_or(String::new(), |line| format!(", line {line}")))]
pub struct FramingError {
    pub code: FramingErrorCode,
    pub message: String,
    /// Byte offset in the decompressed body, from 0.
    pub offset: u64,
    /// The record in which, or behind which, it is broken; 0 before the first.
    pub record: u64,
    /// Only NDJSON and CSV have lines; counts from 1.
    pub line: Option<u64>,
}

/// The kinds of [`FramingError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingErrorCode {
    /// There is nothing but whitespace.
    EmptyBody,
    /// The JSON text is broken.
    MalformedBody,
    /// The body ends inside a record, an array or a quoted field.
    TruncatedBody,
    /// The CSV header is not usable.
    InvalidHeader,
    /// There are bytes, and no record in them.
    NoRecords,
}

impl FramingErrorCode {
    /// The word in replies.
    pub fn as_str(self) -> &'static str {
        match self {
            FramingErrorCode::EmptyBody => "empty_body",
            FramingErrorCode::MalformedBody => "malformed_body",
            FramingErrorCode::TruncatedBody => "truncated_body",
            FramingErrorCode::InvalidHeader => "invalid_header",
            FramingErrorCode::NoRecords => "no_records",
        }
    }
}

/// Splits one body into records and encodes them. After an error it is of no further use.
pub struct Framer {
    kind: FramerKind,
    /// How much of a byte order mark the body began with; `None` once that is decided.
    mark_bytes: Option<usize>,
}

enum FramerKind {
    Json(JsonFramer),
    Ndjson(NdjsonFramer),
    Csv(Box<CsvFramer>),
}

impl Framer {
    /// `csv`: how a body of CSV is to be read.
    pub fn new(
        format: Format,
        mut encoder: RecordEncoder,
        limits: FramerLimits,
        csv: CsvOptions,
    ) -> Framer {
        encoder.read_changes(format.is_of_changes());
        // What looked like the beginning of a byte order mark must not be too long for a record by itself.
        let record_bytes_max = limits.record_bytes_max.max(BYTE_ORDER_MARK.len());
        let limits = FramerLimits { record_bytes_max, ..limits };
        let kind = match format {
            Format::Json | Format::Change => FramerKind::Json(JsonFramer::new(encoder, limits)),
            Format::Ndjson | Format::Changes => {
                FramerKind::Ndjson(NdjsonFramer::new(encoder, limits))
            }
            Format::Csv => FramerKind::Csv(Box::new(CsvFramer::new(encoder, limits, csv))),
        };
        Framer { kind, mark_bytes: Some(0) }
    }

    /// Takes the next bytes of the body.
    pub fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<PushProgress, FramingError> {
        let skipped = self.skip_mark(chunk, sink)?;
        match self.kind.push(&chunk[skipped..], sink)? {
            PushProgress::SinkFull { consumed } => {
                Ok(PushProgress::SinkFull { consumed: skipped + consumed })
            }
            PushProgress::ChunkTaken => Ok(PushProgress::ChunkTaken),
        }
    }

    /// Takes the end of the body. At most one record comes out.
    pub fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if let Some(matched) = self.mark_bytes {
            self.give_back_mark(matched, sink)?;
        }
        match &mut self.kind {
            FramerKind::Json(framer) => framer.finish(sink),
            FramerKind::Ndjson(framer) => framer.finish(sink),
            FramerKind::Csv(framer) => framer.finish(sink),
        }
    }

    /// Its encoder, for another body.
    pub fn into_encoder(self) -> RecordEncoder {
        match self.kind {
            FramerKind::Json(framer) => framer.into_encoder(),
            FramerKind::Ndjson(framer) => framer.into_encoder(),
            FramerKind::Csv(framer) => framer.into_encoder(),
        }
    }

    /// Bytes of the unfinished record that are kept, and of what is kept for the next one.
    pub fn carry_bytes(&self) -> usize {
        match &self.kind {
            FramerKind::Json(framer) => framer.carry_bytes(),
            FramerKind::Ndjson(framer) => framer.carry_bytes(),
            FramerKind::Csv(framer) => framer.carry_bytes(),
        }
    }

    /// No record has begun of which the end has not arrived.
    pub fn is_between_records(&self) -> bool {
        match &self.kind {
            FramerKind::Json(framer) => framer.carry_bytes() == 0,
            FramerKind::Ndjson(framer) => framer.carry_bytes() == 0,
            FramerKind::Csv(framer) => framer.is_between_rows(),
        }
    }

    /// Bytes of memory set aside for the unfinished record.
    #[cfg(test)]
    fn carry_capacity_bytes(&self) -> usize {
        match &self.kind {
            FramerKind::Json(framer) => framer.carry_capacity_bytes(),
            FramerKind::Ndjson(framer) => framer.carry_capacity_bytes(),
            FramerKind::Csv(framer) => framer.carry_capacity_bytes(),
        }
    }

    /// Steps over the byte order mark at the beginning; gives how much of the chunk is used up.
    fn skip_mark<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<usize, FramingError> {
        let Some(matched) = self.mark_bytes else {
            return Ok(0);
        };
        let expected = &BYTE_ORDER_MARK[matched..];
        let same = chunk.iter().zip(expected).take_while(|(byte, mark)| byte == mark).count();
        if same == expected.len() {
            self.mark_bytes = None;
            self.kind.skip(BYTE_ORDER_MARK.len());
            return Ok(same);
        }
        if same == chunk.len() {
            self.mark_bytes = Some(matched + same);
            return Ok(same);
        }
        self.give_back_mark(matched, sink)?;
        Ok(0)
    }

    /// What looked like a byte order mark in the chunks before was none, so it belongs to the body.
    fn give_back_mark<S: RecordSink>(
        &mut self,
        matched: usize,
        sink: &mut S,
    ) -> Result<(), FramingError> {
        self.mark_bytes = None;
        // At most two bytes without a line end, quote or bracket: no record ends in them and none is too long, so that
        // the sink cannot fill up here.
        self.kind.push(&BYTE_ORDER_MARK[..matched], sink).map(|_| ())
    }
}

impl FramerKind {
    fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<PushProgress, FramingError> {
        match self {
            FramerKind::Json(framer) => framer.push(chunk, sink),
            FramerKind::Ndjson(framer) => Ok(framer.push(chunk, sink)),
            FramerKind::Csv(framer) => framer.push(chunk, sink),
        }
    }

    /// Counts bytes that are no part of the text.
    fn skip(&mut self, bytes: usize) {
        match self {
            FramerKind::Json(framer) => framer.skip(bytes),
            FramerKind::Ndjson(framer) => framer.skip(bytes),
            FramerKind::Csv(framer) => framer.skip(bytes),
        }
    }
}

fn empty_body(offset: u64, line: Option<u64>) -> FramingError {
    let message = "the body is empty".to_owned();
    FramingError { code: FramingErrorCode::EmptyBody, message, offset, record: 0, line }
}

fn too_large(limits: FramerLimits) -> RecordError {
    let message = format!("the record is longer than {} bytes", limits.record_bytes_max);
    RecordError::new(RecordErrorCode::TooLarge, message)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
