//! A set of positions of the journal, as ranges that neither overlap nor touch.

use std::collections::BTreeMap;

use tidegate_record::Position;

/// First → last of each range, up to, not including, `last`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<Position, Position>);

impl Ranges {
    /// Those of the ranges, which may overlap.
    pub fn of(ranges: impl IntoIterator<Item = (Position, Position)>) -> Ranges {
        let mut all = Ranges::default();
        for (first, last) in ranges {
            all.add(first, last);
        }
        all
    }

    pub fn add(&mut self, first: Position, last: Position) {
        if first >= last {
            return;
        }
        let (mut first, mut last) = (first, last);
        while let Some((from, to)) =
            self.0.range(..=last).next_back().map(|(from, to)| (*from, *to))
            && to >= first
        {
            self.0.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(first, last);
    }

    pub fn contains(&self, position: Position) -> bool {
        self.0.range(..=position).next_back().is_some_and(|(_, last)| position < *last)
    }

    /// The first position from the journal's beginning on that is not in it.
    pub fn first_gap(&self) -> Position {
        self.0.get(&Position(0)).copied().unwrap_or_default()
    }

    /// What is in both.
    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let both = self.iter().flat_map(|(first, last)| {
            let begun_before = other.0.range(..first).next_back();
            let meets = begun_before.into_iter().chain(other.0.range(first..last));
            meets.map(move |(from, to)| (first.max(*from), last.min(*to)))
        });
        Ranges::of(both)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (Position, Position)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(parts: &[(u64, u64)]) -> Ranges {
        Ranges::of(parts.iter().map(|(first, last)| (Position(*first), Position(*last))))
    }

    fn positions(parts: &[(u64, u64)]) -> BTreeSet<u64> {
        parts.iter().flat_map(|(first, last)| *first..*last).collect()
    }

    proptest! {
        /// It is what a plain set of positions is.
        #[test]
        fn it_is_what_a_plain_set_is(
            one in proptest::collection::vec((0_u64..60, 0_u64..60), 0..12),
            other in proptest::collection::vec((0_u64..60, 0_u64..60), 0..12),
        ) {
            let (first, second) = (ranges(&one), ranges(&other));
            let (plain, plain_second) = (positions(&one), positions(&other));
            let both = first.intersection(&second);
            for position in 0..61 {
                let at = Position(position);
                prop_assert_eq!(first.contains(at), plain.contains(&position));
                let is_in_both = plain.contains(&position) && plain_second.contains(&position);
                prop_assert_eq!(both.contains(at), is_in_both);
            }
            let gap = (0..61).find(|position| !plain.contains(position));
            prop_assert_eq!(Some(first.first_gap().0), gap);
            let edges: Vec<(Position, Position)> = first.iter().collect();
            prop_assert!(edges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", edges);
        }
    }
}
