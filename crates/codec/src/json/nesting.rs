//! Which of the open containers are objects: one bit a level, so that any nesting costs little and needs no recursion.

/// A stack of bits. The innermost 64 levels are in a register; only deeper nesting allocates.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    /// The innermost levels, the last one in the lowest bit.
    inner: u64,
    /// The outer levels, 64 a word.
    outer: Vec<u64>,
}

impl Nesting {
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    #[inline]
    pub(super) fn open(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = (self.inner << 1) | u64::from(object);
        self.depth += 1;
    }

    #[inline]
    pub(super) fn close(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    /// Whether the innermost container is an object.
    #[inline]
    pub(super) fn in_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_every_level() {
        let object = |level: usize| (level * 7919) % 3 == 1;
        let mut nesting = Nesting::default();
        for level in 0..1_000 {
            nesting.open(object(level));
            // Going back and forth over every boundary must not lose a bit.
            nesting.open(true);
            nesting.close();
        }
        for level in (0..1_000).rev() {
            assert_eq!(nesting.depth(), level + 1);
            assert_eq!(nesting.in_object(), object(level), "{level}");
            nesting.close();
        }
        assert_eq!(nesting.depth(), 0);
    }
}
