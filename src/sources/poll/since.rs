//! Asking only for what is newer than the newest that was seen: a query parameter, filled from a field of the items.

use serde::{Deserialize, Serialize};

use super::members::{Invalid, invalid};
use super::pointer::Pointer;

/// Longest overlap: a year in seconds, or that many numbers.
pub const OVERLAP_MAX: u64 = 31_536_000;

/// What to send, and from which field of the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Name of the query parameter.
    pub parameter: String,
    /// The field of an item whose highest value counts.
    pub field: Pointer,
    /// How the value is written in the query, and read where an item has it as a number.
    #[serde(default)]
    pub format: SinceFormat,
    /// How far before the highest value is asked again, for items that appeared late: seconds, for `integer` numbers.
    #[serde(default)]
    pub overlap: u64,
}

/// How a value is written in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinceFormat {
    /// `2026-11-21T17:00:00Z`.
    #[default]
    Timestamp,
    /// `2026-11-21`.
    Date,
    UnixSeconds,
    UnixMs,
    /// A number that only grows, such as an id.
    Integer,
}

/// The highest value so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinceValue {
    /// Microseconds since 1970-01-01T00:00:00Z.
    Micros(i64),
    Integer(i64),
}

impl Since {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        super::definition::check_parameter("/since/parameter", &self.parameter)?;
        if self.field.is_whole() {
            return Err(invalid(
                "/since/field",
                "must point at a field of an item, as /updated_at",
            ));
        }
        if self.overlap > OVERLAP_MAX {
            return Err(invalid("/since/overlap", format!("must be 0 to {OVERLAP_MAX}")));
        }
        Ok(())
    }
}
