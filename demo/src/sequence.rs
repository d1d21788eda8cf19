//! Sets of sequence numbers.
//!
//! Every record of a run carries a number, counted from 0 for each stream. What became of each one (acknowledged,
//! unknown, seen, in the table) is a set of such numbers: one bit a record, so that a run of millions is checked
//! record by record and not by sums that could hide one loss behind one double.
//!
//! Refused: a number of [`SEQUENCES_MAX`] or more. A damaged message must not make the demo reserve gigabytes.

use std::ops::Range;

/// Most records of one stream in one run. A full set takes 125 MB.
pub const SEQUENCES_MAX: u64 = 1_000_000_000;

const WORD_BITS: u64 = u64::BITS as u64;

/// What [`SequenceSet::insert`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// It was not in the set.
    New,
    /// It was in the set already.
    Again,
    /// It is too large to be the number of a record.
    OutOfRange,
}

/// A set of sequence numbers below [`SEQUENCES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceSet {
    words: Vec<u64>,
    count: u64,
}

impl SequenceSet {
    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    #[cfg(test)]
    pub fn contains(&self, sequence: u64) -> bool {
        let (word, bit) = place(sequence);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds one number and says whether it was new.
    pub fn insert(&mut self, sequence: u64) -> Insertion {
        if sequence >= SEQUENCES_MAX {
            return Insertion::OutOfRange;
        }
        let (word, bit) = place(sequence);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit != 0 {
            return Insertion::Again;
        }
        self.words[word] |= bit;
        self.count += 1;
        Insertion::New
    }

    /// Adds all numbers of a range. What lies beyond [`SEQUENCES_MAX`] is left out.
    pub fn insert_range(&mut self, range: Range<u64>) {
        for sequence in range.start..range.end.min(SEQUENCES_MAX) {
            self.insert(sequence);
        }
    }

    /// Takes one number out.
    pub fn remove(&mut self, sequence: u64) {
        let (word, bit) = place(sequence);
        if let Some(bits) = self.words.get_mut(word)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.count -= 1;
        }
    }

    /// The numbers that are in this set and in none of `others`.
    pub fn without(&self, others: &[&SequenceSet]) -> Listed {
        let mut listed = Listed::default();
        for (index, bits) in self.words.iter().enumerate() {
            let known = others
                .iter()
                .filter_map(|other| other.words.get(index))
                .fold(0, |all, bits| all | bits);
            listed.add_word(index as u64 * WORD_BITS, bits & !known);
        }
        listed
    }

    /// How many numbers are in both sets.
    pub fn count_shared(&self, other: &SequenceSet) -> u64 {
        let pairs = self.words.iter().zip(&other.words);
        pairs.map(|(left, right)| u64::from((left & right).count_ones())).sum()
    }
}

fn place(sequence: u64) -> (usize, u64) {
    // A number that does not fit names a word that no set has.
    let word = usize::try_from(sequence / WORD_BITS).unwrap_or(usize::MAX);
    (word, 1 << (sequence % WORD_BITS))
}

/// Most numbers that a report names.
pub const LISTED_MAX: usize = 10;

/// How many numbers something is true of, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub count: u64,
    /// At most [`LISTED_MAX`].
    pub first: Vec<u64>,
}

impl Listed {
    /// Counts one number more.
    pub fn add(&mut self, sequence: u64) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(sequence);
        }
    }

    fn add_word(&mut self, base: u64, mut bits: u64) {
        self.count += u64::from(bits.count_ones());
        while bits != 0 && self.first.len() < LISTED_MAX {
            self.first.push(base + u64::from(bits.trailing_zeros()));
            bits &= bits - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_number_is_new_only_once() {
        let mut set = SequenceSet::default();
        assert_eq!(set.insert(64), Insertion::New);
        assert_eq!(set.insert(64), Insertion::Again);
        assert_eq!(set.count(), 1);
        set.remove(64);
        set.remove(64);
        set.remove(1_000);
        assert_eq!(set.count(), 0);
        assert_eq!(set.insert(64), Insertion::New);
    }

    #[test]
    fn a_damaged_number_reserves_nothing() {
        let mut set = SequenceSet::default();
        assert_eq!(set.insert(SEQUENCES_MAX), Insertion::OutOfRange);
        assert_eq!(set.insert(u64::MAX), Insertion::OutOfRange);
        assert!(!set.contains(u64::MAX));
        assert_eq!(set, SequenceSet::default());
    }

    #[test]
    fn the_first_ten_are_named_and_all_are_counted() {
        let mut sent = SequenceSet::default();
        sent.insert_range(0..1_000);
        let mut seen = SequenceSet::default();
        seen.insert_range(0..60);
        seen.insert_range(62..100);
        let lost = sent.without(&[&seen]);
        assert_eq!(lost.count, 902);
        assert_eq!(lost.first, [60, 61, 100, 101, 102, 103, 104, 105, 106, 107]);
        assert_eq!(seen.without(&[&sent]), Listed::default());
    }

    proptest! {
            #[test]
            fn behaves_as_a_plain_set(left: BTreeSet<u16>, right: BTreeSet<u16>, extra: BTreeSet<u16>) {
                let bits = |set: &BTreeSet<u16>| {
                    let mut bits = SequenceSet::default();
                    for &number in set {
     bits.insert(u64::from(number));
    }
                    bits
                };
                let (a, b, c) = (bits(&left), bits(&right), bits(&extra));
                prop_assert_eq!(a.count(), left.len() as u64);
                prop_assert_eq!(a.count_shared(&b), left.intersection(&right).count() as u64);
                let rest: Vec<u64> = left
                    .iter()
                    .filter(|number| !right.contains(number) && !extra.contains(number))
                    .map(|&number| u64::from(number))
                    .collect();
                let listed = a.without(&[&b, &c]);
                prop_assert_eq!(listed.count, rest.len() as u64);
                prop_assert_eq!(&listed.first[..], &rest[..rest.len().min(LISTED_MAX)]);
            }
        }
}
