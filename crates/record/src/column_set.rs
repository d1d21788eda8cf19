//! Which columns a tuple has, and with which types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits of the number of columns; the number of widenings lies above them.
const COLUMNS_BITS: u32 = 16;

/// The declared columns of a tuple: its stream's first ones, with the types that they had when it was encoded.
///
/// Columns only grow at the end, and types only get wider, so two numbers name a set for ever: how many columns there
/// were, in the low 16 bits, and how many widenings the stream had had, above them. As one number it is in the journal
/// and in the table `parked`; of a stream that was never widened it is the number of its columns.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ColumnSet(pub u32);

impl ColumnSet {
    /// Most widenings that it can tell, so that the number is positive for PostgreSQL as well.
    pub const WIDENINGS_MAX: u16 = u16::MAX >> 1;

    pub const fn new(columns: u16, widenings: u16) -> ColumnSet {
        assert!(widenings <= ColumnSet::WIDENINGS_MAX, "streams are widened less often");
        // `From` is not for constants.
        ColumnSet((widenings as u32) << COLUMNS_BITS | columns as u32)
    }

    /// How many columns.
    pub const fn columns(self) -> usize {
        (self.0 & ((1 << COLUMNS_BITS) - 1)) as usize
    }

    /// How many of its stream's widenings came before the tuple.
    pub const fn widenings(self) -> usize {
        (self.0 >> COLUMNS_BITS) as usize
    }
}

impl fmt::Display for ColumnSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} columns", self.columns())?;
        match self.widenings() {
            0 => Ok(()),
            widenings => write!(f, " after {widenings} widenings"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_one_positive_number_and_without_widenings_the_number_of_columns() {
        for columns in [0, 1, 500, u16::MAX] {
            assert_eq!(ColumnSet::new(columns, 0).0, u32::from(columns));
            for widenings in [0, 1, 1_000, ColumnSet::WIDENINGS_MAX] {
                let set = ColumnSet::new(columns, widenings);
                assert_eq!(set.columns(), usize::from(columns));
                assert_eq!(set.widenings(), usize::from(widenings));
                assert!(set.0.cast_signed() >= 0, "{set:?}");
            }
        }
    }

    /// Whatever bytes there are, reading them is no panic.
    #[test]
    fn every_number_is_a_set() {
        let set = ColumnSet(u32::MAX);
        assert_eq!((set.columns(), set.widenings()), (0xffff, 0xffff));
    }
}
