//! The ways in for records: a request's body becomes records of a stream, and its sender is told what became of them.

pub mod body;
mod by_stream;
pub mod changes;
pub mod many_records;
mod not_kept;
mod precondition;
pub mod receipt;
pub mod records;
pub mod refusal;
