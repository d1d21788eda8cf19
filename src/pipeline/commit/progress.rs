//! How far the journal is committed: one low-water mark, and the ranges beyond it that other writers finished first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_record::Position;
use tokio::sync::watch;

use super::ranges::Ranges;
use crate::db::journals::CommittedRange;

/// Ranges below the low-water mark are folded into one row of PostgreSQL when there are this many.
const RANGES_BEFORE_FOLDING: usize = 64;

/// Shared by the writers, the status page and the journal's trimming; clones are the same progress.
#[derive(Debug, Clone)]
pub struct Progress {
    state: Arc<Mutex<State>>,
    low_water: watch::Sender<Position>,
}

/// Of what was committed when PostgreSQL was asked again: what this process, or one before it, had counted and told by then.
#[derive(Debug)]
pub struct Believed(Ranges);

#[derive(Debug, Default)]
struct State {
    /// PostgreSQL was asked at least once.
    asked: bool,
    /// Everything below is committed.
    low_water: Position,
    /// Committed ranges above the low-water mark, first → last, disjoint.
    beyond: BTreeMap<Position, Position>,
    /// Ranges below the mark that PostgreSQL has as rows of their own.
    unfolded: usize,
    /// What is committed, and counted and told. The rest is what a commit in doubt turned out to be, until the batcher has
    /// passed over it: a session that ends before that leaves it to the next.
    counted: Ranges,
}

impl Progress {
    /// Nothing is known to be committed of a journal that begins at `journal_first`.
    pub fn new(journal_first: Position) -> Progress {
        let state = State { low_water: journal_first, ..State::default() };
        Progress {
            state: Arc::new(Mutex::new(state)),
            low_water: watch::Sender::new(journal_first),
        }
    }

    /// Everything below this position is committed.
    pub fn low_water(&self) -> Position {
        self.lock().low_water
    }

    /// Was PostgreSQL asked what is committed, since this process began?
    pub fn is_known(&self) -> bool {
        self.lock().asked
    }

    /// Follows the low-water mark.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.low_water.subscribe()
    }

    /// Is the entry at this position known to be committed?
    pub fn is_committed(&self, position: Position) -> bool {
        self.lock().contains(position)
    }

    /// Are all entries known to be committed, from the one at the first position to the one at the last?
    pub fn are_committed(&self, first: Position, last: Position) -> bool {
        let committed = self.next_committed(first, last);
        committed.is_some_and(|(from, to)| from == first && to > last)
    }

    /// The first committed part of what lies from `from` up to `to`.
    pub fn next_committed(&self, from: Position, to: Position) -> Option<(Position, Position)> {
        let state = self.lock();
        if from < state.low_water {
            return Some((from, state.low_water));
        }
        let around = state.beyond.range(..=from).next_back().filter(|(_, last)| **last > from);
        if let Some((_, last)) = around {
            return Some((from, *last));
        }
        state.beyond.range(from..to).next().map(|(first, last)| (*first, *last))
    }

    /// Takes over what PostgreSQL says is committed, in a journal that begins at `journal_first`. What this process believed
    /// beyond that does not count: it is written, and counted, again.
    pub fn reset(&self, journal_first: Position, ranges: &[CommittedRange]) -> Believed {
        let mut state = self.lock();
        let committed = Ranges::of(ranges.iter().map(|range| (range.first, range.last)));
        // What was committed before this process began is counted.
        let mut counted =
            if state.asked { state.counted.intersection(&committed) } else { committed };
        // What the journal does not have any more cannot be.
        counted.add(Position(0), journal_first);
        let believed = Believed(counted.clone());
        *state = State { asked: true, low_water: journal_first, counted, ..State::default() };
        for range in ranges {
            state.add(range.first, range.last);
        }
        self.low_water.send_replace(state.low_water);
        believed
    }

    /// Of everything below the position the commit, where there was one, is counted and told.
    pub fn count_below(&self, position: Position) {
        let mut state = self.lock();
        let State { low_water, beyond, counted, .. } = &mut *state;
        counted.add(Position(0), position.min(*low_water));
        for (first, last) in beyond.range(..position) {
            counted.add(*first, position.min(*last));
        }
    }

    /// Adds a committed range, of which everything is counted and told, and publishes the low-water mark.
    pub fn commit(&self, first: Position, last: Position) {
        let mut state = self.lock();
        state.add(first, last);
        state.counted.add(first, last);
        let low_water = state.low_water;
        drop(state);
        self.low_water.send_if_modified(|published| {
            let grew = low_water > *published;
            if grew {
                *published = low_water;
            }
            grew
        });
    }

    /// The mark below which the committed ranges shall be folded into one, when there are enough of them. The caller
    /// that gets it does the folding.
    pub fn take_folding(&self) -> Option<Position> {
        let mut state = self.lock();
        if state.unfolded < RANGES_BEFORE_FOLDING {
            return None;
        }
        state.unfolded = 0;
        Some(state.low_water)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Believed {
    /// Was the entry committed, and counted, by this process or one before it?
    pub fn contains(&self, position: Position) -> bool {
        self.0.contains(position)
    }

    /// Where reading must begin so that every entry is met whose commit was not counted yet.
    pub fn first_uncounted(&self, low_water: Position) -> Position {
        self.0.first_gap().min(low_water)
    }
}

impl State {
    fn add(&mut self, first: Position, last: Position) {
        if last <= self.low_water {
            return;
        }
        if first > self.low_water {
            self.beyond.insert(first, last);
            return;
        }
        self.low_water = last;
        self.unfolded += 1;
        while let Some(next) = self.beyond.first_entry() {
            if *next.key() > self.low_water {
                break;
            }
            self.low_water = self.low_water.max(next.remove());
            self.unfolded += 1;
        }
    }

    fn contains(&self, position: Position) -> bool {
        position < self.low_water
            || self.beyond.range(..=position).next_back().is_some_and(|(_, last)| position < *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_postgresql_says_counts() {
        let progress = Progress::new(Position(0));
        progress.commit(Position(0), Position(500));
        let range = |first, last| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let ranges = [range(0, 100), range(100, 200), range(300, 400)];
        let believed = progress.reset(Position(50), &ranges);
        assert!(
            believed.contains(Position(150)) && believed.contains(Position(350)),
            "what was committed before this process is counted"
        );
        assert_eq!(believed.first_uncounted(Position(200)), Position(200));
        let believed = progress.reset(Position(50), &ranges);
        assert!(believed.contains(Position(300)) && !believed.contains(Position(250)));
        assert_eq!(believed.first_uncounted(Position(900)), Position(200));
        assert_eq!(progress.low_water(), Position(200));
        assert!(progress.is_committed(Position(300)) && !progress.is_committed(Position(200)));
        assert!(!progress.is_committed(Position(400)));
        assert_eq!(*progress.subscribe().borrow(), Position(200));
    }

    #[test]
    fn a_commit_in_doubt_is_left_to_the_session_that_passes_over_it() {
        let progress = Progress::new(Position(0));
        let range = |(first, last)| CommittedRange {
            first: Position(first),
            last: Position(last),
            outcomes: BTreeMap::new(),
        };
        let reset = |ranges: &[(u64, u64)]| {
            let ranges: Vec<CommittedRange> = ranges.iter().copied().map(range).collect();
            progress.reset(Position(0), &ranges)
        };
        reset(&[(0, 100)]);
        progress.commit(Position(100), Position(200));
        // Of two more the replies did not come; two sessions end before their batchers were there.
        let committed = [(0, 100), (100, 200), (200, 300), (400, 500)];
        for _ in 0..2 {
            let believed = reset(&committed);
            assert_eq!(believed.first_uncounted(progress.low_water()), Position(200));
            assert!(believed.contains(Position(199)));
            assert!(!believed.contains(Position(200)) && !believed.contains(Position(400)));
        }
        // The next one comes to the middle of the last of them.
        progress.commit(Position(300), Position(400));
        progress.count_below(Position(450));
        let committed = [(0, 100), (100, 200), (200, 300), (300, 400), (400, 500)];
        let believed = reset(&committed);
        assert!(believed.contains(Position(250)) && believed.contains(Position(449)));
        assert_eq!(believed.first_uncounted(progress.low_water()), Position(450));
        // What PostgreSQL forgot is counted once more, although the reply does not come.
        reset(&committed[..2]);
        let believed = reset(&committed);
        assert_eq!(believed.first_uncounted(progress.low_water()), Position(200));
    }

    proptest! {
        /// Ranges committed in any order give the same marks as a plain set of positions.
        #[test]
        fn any_order_of_commits_is_the_same(cuts in proptest::collection::btree_set(1_u64..500, 1..40), seed in any::<usize>()) {
            let mut edges: Vec<u64> = std::iter::once(0).chain(cuts).collect();
            let mut ranges: Vec<(u64, u64)> = edges.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let length = ranges.len();
            for index in 0..length {
                ranges.swap(index, seed.wrapping_mul(index + 7) % length);
            }
            let progress = Progress::new(Position(0));
            let mut committed = std::collections::HashSet::new();
            for (first, last) in ranges {
                progress.commit(Position(first), Position(last));
                committed.extend(first..last);
                let low = (0..=500).find(|position| !committed.contains(position)).unwrap();
                prop_assert_eq!(progress.low_water(), Position(low));
                for position in 0..500 {
                    let is_committed = committed.contains(&position);
                    prop_assert_eq!(progress.is_committed(Position(position)), is_committed);
                    prop_assert_eq!(progress.are_committed(Position(position), Position(position)), is_committed);
                    prop_assert_eq!(progress.are_committed(Position(0), Position(position)), position < low);
                }
            }
            prop_assert_eq!(progress.low_water(), Position(edges.pop().unwrap()));
        }
    }
}
