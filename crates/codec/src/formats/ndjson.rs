//! NDJSON: one JSON object a line.
//!
//! A line end ends a record whatever stands before it, so every line is judged on its own: a bad one is refused and
//! the next goes on.

use super::lines::{Found, Line, Lines};
use super::no_json::invalid_json;
use super::{Finished, FramerLimits, FramingError, PushProgress, RecordPlace, RecordSink};
use super::{empty_body, is_blank, too_large};
use crate::encode::{JsonStep, RecordEncoder};

pub(super) struct NdjsonFramer {
    encoder: RecordEncoder,
    limits: FramerLimits,
    lines: Lines,
    records: u64,
}

impl NdjsonFramer {
    pub(super) fn new(encoder: RecordEncoder, limits: FramerLimits) -> NdjsonFramer {
        let lines = Lines::new(limits.record_bytes_max);
        NdjsonFramer { encoder, limits, lines, records: 0 }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.lines.skip_bytes(bytes);
    }

    pub(super) fn carry_bytes(&self) -> usize {
        self.lines.carry_bytes()
    }

    #[cfg(test)]
    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.lines.carry_capacity_bytes()
    }

    pub(super) fn push<S: RecordSink>(&mut self, chunk: &[u8], sink: &mut S) -> PushProgress {
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            let (used, line) = self.lines.step(rest);
            at += used;
            let Some(line) = line else { continue };
            self.read(&line, rest, sink);
            if sink.is_full() {
                return PushProgress::SinkFull { consumed: at };
            }
        }
        PushProgress::ChunkTaken
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if let Some(line) = self.lines.last() {
            self.read(&line, &[], sink);
        }
        if self.lines.skipped() > 0 {
            sink.skipped_lines(self.lines.skipped());
        }
        if self.records == 0 {
            return Err(empty_body(self.lines.offset(), Some(self.lines.number())));
        }
        Ok(Finished { records: self.records, single: false })
    }

    fn read<S: RecordSink>(&mut self, line: &Line, chunk: &[u8], sink: &mut S) {
        match &line.found {
            Found::InChunk(range) => self.whole_line(&chunk[range.clone()], line.number, sink),
            Found::InCarry => {
                let carry = self.lines.take_carry();
                self.whole_line(&carry, line.number, sink);
                self.lines.give_back(carry);
            }
        }
    }

    /// Encodes or refuses one line, given without its line end. Its first byte is not blank.
    fn whole_line<S: RecordSink>(&mut self, line: &[u8], number: u64, sink: &mut S) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.records += 1;
        let place = RecordPlace { record: self.records, line: Some(number) };
        if line.len() > self.limits.record_bytes_max {
            let raw = self.limits.kept(line);
            sink.refused(place, too_large(self.limits), raw, true);
            return;
        }
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        match self.encoder.encode_json(line, true, prefix, buffer) {
            JsonStep::Encoded { consumed } => match position_of_more(line, consumed) {
                None => sink.encoded(self.encoder.members()),
                Some(offset) => {
                    sink.buffer().truncate(tuple_start);
                    let message = "something follows the object on the same line";
                    let error = invalid_json(message, line, offset, "line");
                    sink.refused(place, error, line, false);
                }
            },
            JsonStep::Refused { error, .. } => sink.refused(place, error, line, false),
            JsonStep::Malformed { offset, message } => {
                sink.refused(place, invalid_json(message, line, offset, "line"), line, false);
            }
            JsonStep::Incomplete => {
                let message = "the line ends inside a value";
                let error = invalid_json(message, line, line.len(), "line");
                sink.refused(place, error, line, false);
            }
        }
    }
}

/// The first byte from `start` on that is not blank.
fn position_of_more(line: &[u8], start: usize) -> Option<usize> {
    line[start..].iter().position(|&byte| !is_blank(byte)).map(|offset| start + offset)
}
