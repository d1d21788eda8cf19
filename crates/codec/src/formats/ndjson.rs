//! NDJSON: one JSON object a line.
//!
//! A line end ends a record whatever stands before it, so every line is judged on its own: a bad one is refused and
//! the next goes on. Blank lines are skipped and counted. A line that is too long is refused as soon as that is certain, and the
//! rest of it is skipped as it arrives.

use memchr::memchr;

use super::no_json::invalid_json;
use super::{Finished, FramerLimits, FramingError, PushProgress, RecordPlace, RecordSink};
use super::{empty_body, is_blank, too_large};
use crate::encode::{JsonStep, RecordEncoder};

pub(super) struct NdjsonFramer {
    encoder: RecordEncoder,
    limits: FramerLimits,
    stage: Stage,
    /// The beginning of a line whose end has not arrived; empty but in [`Stage::Line`].
    carry: Vec<u8>,
    offset: u64,
    line: u64,
    records: u64,
    skipped_lines: u64,
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

impl NdjsonFramer {
    pub(super) fn new(encoder: RecordEncoder, limits: FramerLimits) -> NdjsonFramer {
        let carry = Vec::new();
        let stage = Stage::Blank;
        let (offset, line, records, skipped_lines) = (0, 1, 0, 0);
        NdjsonFramer { encoder, limits, stage, carry, offset, line, records, skipped_lines }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    pub(super) fn carry_bytes(&self) -> usize {
        self.carry.len()
    }

    #[cfg(test)]
    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.carry.capacity()
    }

    pub(super) fn push<S: RecordSink>(&mut self, chunk: &[u8], sink: &mut S) -> PushProgress {
        let mut at = 0;
        while at < chunk.len() {
            let records = self.records;
            let used = self.step(&chunk[at..], sink);
            at += used;
            self.offset += used as u64;
            if self.records > records && sink.is_full() {
                return PushProgress::SinkFull { consumed: at };
            }
        }
        PushProgress::ChunkTaken
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if !self.carry.is_empty() {
            self.carried_line(sink);
        }
        if self.skipped_lines > 0 {
            sink.skipped_lines(self.skipped_lines);
        }
        if self.records == 0 {
            return Err(empty_body(self.offset, Some(self.line)));
        }
        Ok(Finished { records: self.records, single: false })
    }

    /// Goes on in `rest`, which is not empty, by one line or to its end; gives how many bytes were used.
    fn step<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> usize {
        match self.stage {
            Stage::Blank => self.begin_line(rest, sink),
            Stage::Line => self.continue_line(rest, sink),
            Stage::Skip => match memchr(b'\n', rest) {
                Some(end) => self.end_line(end),
                None => rest.len(),
            },
        }
    }

    fn begin_line<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> usize {
        let blanks = rest.iter().take_while(|&&byte| is_blank(byte) && byte != b'\n').count();
        let rest = &rest[blanks..];
        match rest.first() {
            None => return blanks,
            Some(b'\n') => {
                self.skipped_lines += 1;
                return blanks + self.end_line(0);
            }
            Some(_) => {}
        }
        if let Some(end) = memchr(b'\n', rest) {
            self.whole_line(&rest[..end], sink);
            blanks + self.end_line(end)
        } else {
            self.stage = Stage::Line;
            blanks + self.continue_line(rest, sink)
        }
    }

    fn continue_line<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> usize {
        let end = memchr(b'\n', rest);
        // Two bytes over the limit are enough to be sure: one of them could be the carriage return before a line end.
        let room = self.limits.record_bytes_max + 2 - self.carry.len();
        let taken = end.unwrap_or(rest.len()).min(room);
        self.carry.extend_from_slice(&rest[..taken]);
        if let Some(end) = end
            && end == taken
        {
            self.carried_line(sink);
            return self.end_line(end);
        }
        let returns = usize::from(self.carry.ends_with(b"\r"));
        if self.carry.len() - returns > self.limits.record_bytes_max {
            self.carried_line(sink);
            self.stage = Stage::Skip;
        }
        taken
    }

    /// Steps behind the line end at `end`.
    fn end_line(&mut self, end: usize) -> usize {
        self.stage = Stage::Blank;
        self.line += 1;
        end + 1
    }

    fn carried_line<S: RecordSink>(&mut self, sink: &mut S) {
        let mut carry = std::mem::take(&mut self.carry);
        self.whole_line(&carry, sink);
        carry.clear();
        self.carry = carry;
    }

    /// Encodes or refuses one line, given without its line end. Its first byte is not blank.
    fn whole_line<S: RecordSink>(&mut self, line: &[u8], sink: &mut S) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.records += 1;
        let place = RecordPlace { record: self.records, line: Some(self.line) };
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
