//! Where records come from. Every source parses with [`formats`], gathers entries with [`assembler`], and hands them to
//! the pipeline's intake; it knows nothing of what comes after.

mod assembler;
pub mod body;
pub mod formats;
pub mod http;

pub use assembler::{Assembler, PlacedError, RECORD_ERRORS_MAX};
