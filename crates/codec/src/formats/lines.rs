//! The lines of a body that comes in chunks, cut anywhere.
//!
//! A line that lies whole in a chunk is not copied. Blank lines are skipped and counted. A line that is too long is given
//! as soon as that is certain, as its beginning, and the rest of it is skipped as it arrives.

use std::ops::Range;

use memchr::memchr;

use super::is_blank;

/// See the module.
pub(super) struct Lines {
    line_bytes_max: usize,
    stage: Stage,
    /// The beginning of a line whose end has not arrived; empty but in [`Stage::Line`].
    carry: Vec<u8>,
    offset: u64,
    number: u64,
    skipped: u64,
}

/// A line without its end; its first byte is not blank.
pub(super) struct Line {
    /// From 1.
    pub number: u64,
    pub found: Found,
}

/// Where a line lies.
pub(super) enum Found {
    InChunk(Range<usize>),
    /// [`Lines::take_carry`] has it.
    InCarry,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Before the first byte of a line that is not blank.
    Blank,
    /// Inside a line, whose beginning is in the carry.
    Line,
    /// Inside a line that was too long.
    Skip,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Lines {
        let (stage, carry) = (Stage::Blank, Vec::new());
        Lines { line_bytes_max, stage, carry, offset: 0, number: 1, skipped: 0 }
    }

    /// Goes on in `rest`, which is not empty, by one line or to its end; gives how many bytes were used.
    pub(super) fn step(&mut self, rest: &[u8]) -> (usize, Option<Line>) {
        let (used, line) = match self.stage {
            Stage::Blank => self.begin_line(rest),
            Stage::Line => self.continue_line(rest),
            Stage::Skip => match memchr(b'\n', rest) {
                Some(end) => {
                    self.end_line();
                    (end + 1, None)
                }
                None => (rest.len(), None),
            },
        };
        self.offset += used as u64;
        (used, line)
    }

    /// The last line, where the body ends without a line end.
    pub(super) fn last(&self) -> Option<Line> {
        let line = Line { number: self.number, found: Found::InCarry };
        (!self.carry.is_empty()).then_some(line)
    }

    /// The line that was carried. Its memory is used again where [`Lines::give_back`] gets it.
    pub(super) fn take_carry(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }

    pub(super) fn give_back(&mut self, mut carry: Vec<u8>) {
        carry.clear();
        self.carry = carry;
    }

    /// Counts bytes that are no part of the text.
    pub(super) fn skip_bytes(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    pub(super) fn carry_bytes(&self) -> usize {
        self.carry.len()
    }

    #[cfg(test)]
    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.carry.capacity()
    }

    /// Bytes of the body so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of the line that comes next, or that has begun.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// How many blank lines there were.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn begin_line(&mut self, rest: &[u8]) -> (usize, Option<Line>) {
        let blanks = rest.iter().take_while(|&&byte| is_blank(byte) && byte != b'\n').count();
        let rest = &rest[blanks..];
        match rest.first() {
            None => return (blanks, None),
            Some(b'\n') => {
                self.skipped += 1;
                self.end_line();
                return (blanks + 1, None);
            }
            Some(_) => {}
        }
        if let Some(end) = memchr(b'\n', rest) {
            let found = Found::InChunk(blanks..blanks + end);
            let line = Line { number: self.number, found };
            self.end_line();
            return (blanks + end + 1, Some(line));
        }
        self.stage = Stage::Line;
        let (used, line) = self.continue_line(rest);
        (blanks + used, line)
    }

    fn continue_line(&mut self, rest: &[u8]) -> (usize, Option<Line>) {
        let end = memchr(b'\n', rest);
        // Two bytes over the limit are enough to be sure: one of them could be the carriage return before a line end.
        let room = self.line_bytes_max + 2 - self.carry.len();
        let taken = end.unwrap_or(rest.len()).min(room);
        self.carry.extend_from_slice(&rest[..taken]);
        let line = Line { number: self.number, found: Found::InCarry };
        if end == Some(taken) {
            self.end_line();
            return (taken + 1, Some(line));
        }
        let returns = usize::from(self.carry.ends_with(b"\r"));
        if self.carry.len() - returns > self.line_bytes_max {
            self.stage = Stage::Skip;
            return (taken, Some(line));
        }
        (taken, None)
    }

    fn end_line(&mut self) {
        self.stage = Stage::Blank;
        self.number += 1;
    }
}
