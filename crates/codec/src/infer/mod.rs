//! Proposes columns for a stream from a sample of its records.
//!
//! It promises: every record of the sample can be encoded with the proposed columns, because a type is only proposed
//! if the encoder took each of the sample's values; and no value loses anything in its type: numbers with leading zeros stay
//! text, integers beyond 64 bits and decimals with more digits than a double holds become numeric. A time without an
//! offset is one in UTC, as it is when it is taken. Memory is bounded by the sample, [`SAMPLE_RECORDS_MAX`] and the limits on
//! columns. A key that a person would not choose as a column's name gets a column of another name (`names.rs`), which takes
//! it with `from`.
//! It skips what can be no record of any stream (a broken line, a ragged row, text that PostgreSQL cannot store) and
//! keys that no column can take (their values go to `extra`), counts both and says why.

mod form;
mod names;
mod observed;
mod read;
mod rows;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value as Json;

use crate::columns::ColumnType;
use crate::csv::CsvOptions;
use crate::formats::Format;

use observed::Columns;

/// Most records that are looked at; what follows them is not read.
const SAMPLE_RECORDS_MAX: u64 = 10_000;
/// Longest value that is shown as an example, in bytes of its JSON.
const EXAMPLE_BYTES_MAX: usize = 200;

/// The bytes of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// One object, or an array of records.
    Json(&'a [u8]),
    /// One object a line.
    Ndjson(&'a [u8]),
    /// A header line and rows, or as the options say.
    Csv { body: &'a [u8], options: &'a CsvOptions },
}

impl<'a> Sample<'a> {
    /// A body of this format. `csv`: how a body of CSV is to be read.
    pub fn of(format: Format, body: &'a [u8], csv: &'a CsvOptions) -> Sample<'a> {
        match format {
            Format::Json => Sample::Json(body),
            Format::Ndjson | Format::Change | Format::Changes => Sample::Ndjson(body),
            Format::Csv => Sample::Csv { body, options: csv },
        }
    }
}

/// A column that would take every value of the sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProposedColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The sample's key, where it is not the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Records without a value: the key is missing, or its value is null.
    pub nulls: u64,
    /// The first value; none if there is none or it is long.
    pub example: Option<Json>,
}

/// What a sample suggests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inferred {
    /// In the order in which they appear first.
    pub columns: Vec<ProposedColumn>,
    /// Records that were looked at.
    pub records: u64,
    /// There are more, which were not looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_more: bool,
    /// What was left out, by the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// Parts of a sample that say nothing about columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// That of a record's error, or `blank_line`, `unusable_key` or `too_many_keys`.
    pub code: &'static str,
    pub count: u64,
    /// The line of the first, from 1, where the format has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong with the first.
    pub message: String,
}

/// A line without anything.
const BLANK_LINE: &str = "blank_line";
/// A value whose key no column can take.
const UNUSABLE_KEY: &str = "unusable_key";
/// A value whose key came when there were as many as a stream can have columns.
const TOO_MANY_KEYS: &str = "too_many_keys";

/// A sample that tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("the sample is empty")]
    Empty,
    #[error("the sample is not valid JSON: {message} (byte {offset})")]
    Malformed { offset: usize, message: &'static str },
    #[error("the CSV header is not usable: {message}")]
    Header { message: String },
}

/// Proposes columns. Fails only where the sample as a whole cannot be read.
pub fn infer(sample: Sample<'_>) -> Result<Inferred, SampleError> {
    let mut columns = Columns::default();
    match sample {
        Sample::Json(body) => read::json(body, &mut columns)?,
        Sample::Ndjson(body) => read::ndjson(body, &mut columns)?,
        Sample::Csv { body, options } => rows::csv(body, options, &mut columns)?,
    }
    Ok(columns.into_inferred())
}
