//! The kinds of streams that a table can be of.

use super::cases::Case;

/// What becomes of equal keys, and whether the altered column is the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Plain,
    Retained,
    Ignored,
    Replaced,
    IgnoredByIt,
    ReplacedByIt,
}

impl Way {
    pub const ALL: [Way; 6] = [
        Way::Plain,
        Way::Retained,
        Way::Ignored,
        Way::Replaced,
        Way::IgnoredByIt,
        Way::ReplacedByIt,
    ];
    /// Those whose key, if they have one, is another column.
    pub const BY_ANOTHER: [Way; 4] = [Way::Plain, Way::Retained, Way::Ignored, Way::Replaced];

    pub fn name(self) -> &'static str {
        match self {
            Way::Plain => "plain",
            Way::Retained => "retained",
            Way::Ignored => "ignored",
            Way::Replaced => "replaced",
            Way::IgnoredByIt => "ignored_by_it",
            Way::ReplacedByIt => "replaced_by_it",
        }
    }

    /// Is the altered column the key?
    pub fn is_by_it(self) -> bool {
        matches!(self, Way::IgnoredByIt | Way::ReplacedByIt)
    }

    /// Makes a case's stream one of this kind; `it` is the altered column, `another` the one that is the key else.
    pub fn of(self, case: Case, it: &str, another: &str) -> Case {
        match self {
            Way::Plain => case,
            Way::Retained => case.retained(),
            Way::Ignored => case.keyed(another, "ignore"),
            Way::Replaced => case.keyed(another, "replace"),
            Way::IgnoredByIt => case.keyed(it, "ignore"),
            Way::ReplacedByIt => case.keyed(it, "replace"),
        }
    }

    /// Rows of generation 0 and 1 where one record came before, and then so many, the first of them with its key.
    pub fn rows(self, after: usize) -> [i64; 2] {
        let after = i64::try_from(after).expect("few");
        match self {
            // What was the key before is NULL since the column was altered.
            Way::Plain | Way::Retained | Way::IgnoredByIt | Way::ReplacedByIt => [1, after],
            // The first stays, or the last.
            Way::Ignored => [1, after - 1],
            Way::Replaced => [0, after],
        }
    }
}
