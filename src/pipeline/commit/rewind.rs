//! What PostgreSQL has of the journal, held against what the journal has: either may have been set back.

use tidegate_journal::SEGMENT_HEADER_BYTES;
use tidegate_record::Position;

use super::error::SessionError;
use super::ranges::Ranges;
use crate::db::journals::CommittedRange;

/// Parts of the journal below `first`, which it does not keep any more, that PostgreSQL does not have. Where a segment
/// ends there are a few bytes without an entry; they are not told apart from a part of their own.
pub(super) fn holes(ranges: &[CommittedRange], first: Position) -> Vec<(Position, Position)> {
    let mut holes = Vec::new();
    let mut covered = Position(0);
    for range in ranges {
        if range.first >= first {
            break;
        }
        holes.push((covered, range.first));
        covered = covered.max(range.last);
    }
    holes.push((covered, first));
    holes.retain(|(from, to)| to.0.saturating_sub(from.0) > SEGMENT_HEADER_BYTES);
    holes
}

/// The holes with those that earlier sessions of this process found: PostgreSQL shows a hole until the ranges around it are
/// folded into one.
pub(super) fn with_earlier(
    holes: &[(Position, Position)],
    earlier: &[(Position, Position)],
) -> Vec<(Position, Position)> {
    Ranges::of(earlier.iter().chain(holes).copied()).iter().collect()
}

/// Positions of a journal that was put back are used a second time, and the ranges of the first time would swallow them.
pub(super) fn check_age(ranges: &[CommittedRange], end: Position) -> Result<(), SessionError> {
    match ranges.iter().map(|range| range.last).max() {
        Some(committed) if committed > end => Err(SessionError::JournalIsOlder { committed, end }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_journal_that_ends_before_what_is_committed_is_older() {
        let range = |first, last| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let ranges = [range(0, 100), range(200, 300), range(100, 150)];
        assert!(check_age(&[], Position(0)).is_ok(), "a new journal");
        assert!(check_age(&ranges, Position(300)).is_ok(), "all of it is committed");
        let (committed, end) = (Position(300), Position(299));
        let refused = check_age(&ranges, end).unwrap_err();
        assert!(refused.needs_operator());
        let expected = SessionError::JournalIsOlder { committed, end };
        assert_eq!(refused.to_string(), expected.to_string());
    }

    #[test]
    fn what_neither_the_journal_nor_postgresql_has_is_told_exactly() {
        let range = |first, last| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let hole = |from, to| (Position(from), Position(to));
        assert_eq!(holes(&[], Position(0)), []);
        assert_eq!(holes(&[], Position(SEGMENT_HEADER_BYTES)), [], "a journal that just began");
        assert_eq!(holes(&[], Position(5_000)), [hole(0, 5_000)]);
        assert_eq!(holes(&[range(0, 6_000)], Position(5_000)), []);
        assert_eq!(holes(&[range(0, 3_000)], Position(5_000)), [hole(3_000, 5_000)]);
        let ranges = [range(0, 1_000), range(2_000, 3_000), range(4_000, 9_000)];
        assert_eq!(holes(&ranges, Position(5_000)), [hole(1_000, 2_000), hole(3_000, 4_000)]);
        assert_eq!(holes(&ranges[..2], Position(2_500)), [hole(1_000, 2_000)]);
    }

    #[test]
    fn what_was_lost_once_is_told_by_later_sessions_too() {
        let hole = |from, to| (Position(from), Position(to));
        let earlier = [hole(1_000, 2_000), hole(3_000, 4_000)];
        assert_eq!(with_earlier(&[], &[]), []);
        assert_eq!(with_earlier(&earlier, &[]), earlier);
        assert_eq!(with_earlier(&[], &earlier), earlier, "folded meanwhile");
        assert_eq!(with_earlier(&earlier[1..], &earlier), earlier);
        let more = [hole(500, 2_500), hole(6_000, 7_000)];
        let all = [hole(500, 2_500), hole(3_000, 4_000), hole(6_000, 7_000)];
        assert_eq!(with_earlier(&more, &earlier), all, "set back once more");
    }
}
