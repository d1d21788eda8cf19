//! Numbers, as RFC 8259 writes them and as a PostgreSQL numeric can hold them.

use super::{Fault, Scanner, Stop, ValueKind};
use crate::values::numeric;

impl Scanner<'_> {
    /// Reads a number from its first byte, a minus or a digit.
    #[inline]
    pub(super) fn number(&mut self) -> Result<ValueKind, Stop> {
        let start = self.position;
        let mut at = start;
        if self.input[at] == b'-' {
            at += 1;
        }
        at = match self.input.get(at) {
            // Nothing may follow a leading zero but a point or an exponent; a digit is refused where the next token is read.
            Some(b'0') => at + 1,
            _ => self.digits(at)?,
        };
        let mut kind = ValueKind::Integer;
        if self.input.get(at) == Some(&b'.') {
            kind = ValueKind::Number;
            at = self.digits(at + 1)?;
        }
        let mut exponent = false;
        if let Some(b'e' | b'E') = self.input.get(at) {
            kind = ValueKind::Number;
            exponent = true;
            at += 1;
            if let Some(b'+' | b'-') = self.input.get(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        if at == self.input.len() && !self.at_end {
            return Err(Stop::Incomplete);
        }
        // Without an exponent, only a number of that many digits can be too large or too fine.
        let suspect = exponent || at - start > numeric::SCALE_MAX;
        if suspect && !numeric::can_hold(&self.input[start..at]) {
            self.note(Fault::NumberOutOfRange);
        }
        self.position = at;
        Ok(kind)
    }

    /// Steps over at least one digit.
    #[inline]
    fn digits(&self, start: usize) -> Result<usize, Stop> {
        let mut at = start;
        while self.input.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at > start {
            return Ok(at);
        }
        match self.input.get(at) {
            Some(_) => Err(Stop::Malformed { offset: at, message: "expected a digit" }),
            None => Err(self.ended()),
        }
    }
}
