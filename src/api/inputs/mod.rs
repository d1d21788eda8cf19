//! The ways in for records.

mod not_kept;
pub mod records;
