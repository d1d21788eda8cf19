//! Where records come from. Every source parses with [`formats`], gathers entries with [`assembler`], and hands them to
//! the pipeline's intake; it knows nothing of what comes after.

mod assembler;
pub mod body;
pub mod encoders;
pub mod formats;
pub mod http;
#[cfg(test)]
mod http_tests;
mod keeping;
pub mod poll;

pub use assembler::{Assembler, PlacedError, RECORD_ERRORS_MAX};
pub use keeping::{Keeping, NotKept, WhyNotKept};

use tidegate_codec::csv::CsvOptions;
use tidegate_codec::infer::Sample;
use formats::Format;

/// A body as a sample for inference. `csv`: how a body of CSV is to be read.
pub fn sample<'a>(format: Format, body: &'a [u8], csv: &'a CsvOptions) -> Sample<'a> {
    match format {
        Format::Json => Sample::Json(body),
        Format::Ndjson => Sample::Ndjson(body),
        Format::Csv => Sample::Csv { body, options: csv },
    }
}
