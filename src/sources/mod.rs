//! Where records come from. Every source parses with [`tidegate_codec::formats`], gathers entries with [`assembler`], and
//! hands them to the pipeline's intake; it knows nothing of what comes after.

mod assembler;
pub mod body;
pub mod encoders;
pub mod http;
#[cfg(test)]
mod http_tests;
mod keeping;

pub use assembler::{Assembler, Origin, PlacedError, RECORD_ERRORS_MAX};
pub use keeping::{Keeping, NotKept, WhyNotKept};
