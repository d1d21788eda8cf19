//! Whether the pages of a run ascend by the since-field, and up to where everything was read.
//!
//! Invariant: what lies at or below [`Ascent::read_up_to`] was read, even where no later page was: the values never went
//! back, over whole pages, and a higher one followed. The latest page does not count. It proves only that those before it
//! were in order.

use crate::polling::jobs::SinceValue;

/// What was seen of the order so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ascent {
    /// Pages with items.
    pages: u32,
    /// A value went back, or an item had none.
    is_broken: bool,
    highest: Option<SinceValue>,
    /// The highest value below that.
    second: Option<SinceValue>,
    /// The highest value of the pages before the latest.
    before: Option<SinceValue>,
}

impl Ascent {
    /// The values of the next page, in its order; None of an item without one.
    pub fn add_page(&mut self, values: impl Iterator<Item = Option<SinceValue>>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        self.pages += 1;
        self.before = self.highest;
        for value in values {
            if value.is_none() || value < self.highest {
                self.is_broken = true;
            } else if value > self.highest {
                self.second = self.highest;
                self.highest = value;
            }
        }
    }

    /// Does nothing speak against it that later pages have higher values?
    pub fn holds(&self) -> bool {
        !self.is_broken && self.pages > 1
    }

    pub fn read_up_to(&self) -> Option<SinceValue> {
        if !self.holds() {
            return None;
        }
        // Of equal values the next page may have more.
        if self.before < self.highest { self.before } else { self.second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_up_to(pages: &[&[i64]]) -> Option<i64> {
        let mut ascent = Ascent::default();
        for page in pages {
            // Less than nought: an item without a value.
            let value = |value: &i64| (*value >= 0).then_some(SinceValue::Integer(*value));
            ascent.add_page(page.iter().map(value));
        }
        ascent.read_up_to().map(|value| match value {
            SinceValue::Integer(value) | SinceValue::Micros(value) => value,
        })
    }

    #[test]
    fn pages_that_ascend_were_read_up_to_the_last_but_one() {
        assert_eq!(read_up_to(&[&[1, 2], &[3, 4], &[5, 6]]), Some(4));
        assert_eq!(read_up_to(&[&[1, 2], &[3, 4], &[]]), Some(2), "an empty page proves nothing");
        assert_eq!(read_up_to(&[&[1, 2], &[2, 2, 3]]), Some(2));
        assert_eq!(read_up_to(&[&[1, 2, 4], &[4, 4], &[4]]), Some(2), "of 4 there may be more");
        for unknown in [
            &[&[1, 2, 3][..]][..],
            &[&[4, 4], &[4, 4]],
            &[&[2, 1], &[3, 4]],
            &[&[1, 2], &[1, 3]],
            &[&[1, -1], &[3, 4]],
            &[&[9, 8], &[7, 6]],
            &[],
        ] {
            assert_eq!(read_up_to(unknown), None, "{unknown:?}");
        }
    }
}
