//! JSON: one object, or an array of records. The first byte that is not blank decides.
//!
//! A record is encoded straight from the chunk if it lies there whole and is JSON. Otherwise its bytes are carried, and
//! an [`Extent`] finds its end as they arrive, so that it is parsed again only once it is complete. The same extent finds
//! the end of a record that is too long to be carried, and of one that is no JSON: it is refused, and its neighbours are
//! taken.

use super::no_json::invalid_json;
use super::{Finished, FramerLimits, FramingError, FramingErrorCode, PushProgress, RecordPlace};
use super::{RecordSink, empty_body, is_blank, too_large};
use crate::encode::{JsonStep, RecordEncoder};
use crate::json::Extent;

pub(super) struct JsonFramer {
    encoder: RecordEncoder,
    limits: FramerLimits,
    stage: Stage,
    /// The body is an array; known after [`Stage::Begin`].
    array: bool,
    /// The record's bytes so far; empty but in [`Stage::Record`].
    carry: Vec<u8>,
    extent: Extent,
    /// Offset in the body of the next byte to come.
    offset: u64,
    records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first byte that is not blank.
    Begin,
    /// Behind the array's opening bracket: an element or the end.
    First,
    /// Behind a comma: an element.
    Next,
    /// Inside a record whose beginning is in the carry.
    Record,
    /// Inside a record that was too long.
    Skip,
    /// Behind an element: a comma or the end.
    After,
    /// Behind the object or array: only blanks.
    End,
}

impl JsonFramer {
    pub(super) fn new(encoder: RecordEncoder, limits: FramerLimits) -> JsonFramer {
        JsonFramer {
            encoder,
            limits,
            stage: Stage::Begin,
            array: false,
            carry: Vec::new(),
            extent: Extent::default(),
            offset: 0,
            records: 0,
        }
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

    pub(super) fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<PushProgress, FramingError> {
        let mut at = 0;
        while at < chunk.len() {
            let records = self.records;
            let used = self.step(&chunk[at..], sink)?;
            at += used;
            self.offset += used as u64;
            if self.records > records && sink.is_full() {
                return Ok(PushProgress::SinkFull { consumed: at });
            }
        }
        Ok(PushProgress::ChunkTaken)
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if self.stage == Stage::Record {
            self.end_inside_record(sink)?;
        }
        match self.stage {
            Stage::End => Ok(Finished { records: self.records, single: !self.array }),
            Stage::Begin => Err(empty_body(self.offset, None)),
            Stage::Record => Err(self.truncated("the body ends inside a record", self.records + 1)),
            Stage::Skip => Err(self.truncated("the body ends inside a record", self.records)),
            _ => Err(self.truncated("the body ends before the end of the array", self.records)),
        }
    }

    /// Goes on in `rest`, which is not empty, by one record or less; gives how many bytes were used.
    fn step<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> Result<usize, FramingError> {
        match self.stage {
            Stage::Record => return Ok(self.continue_record(rest, sink)),
            Stage::Skip => {
                let Some(length) = self.extent.end_in(rest) else {
                    return Ok(rest.len());
                };
                self.end_record();
                return Ok(length);
            }
            _ => {}
        }
        let blanks = rest.iter().take_while(|&&byte| is_blank(byte)).count();
        let Some(&first) = rest.get(blanks) else {
            return Ok(blanks);
        };
        let broken = |message| self.broken(blanks, message);
        match (self.stage, first) {
            (Stage::Begin, b'[') => {
                self.array = true;
                self.stage = Stage::First;
            }
            (Stage::Begin, b'{') => return Ok(self.begin_record(rest, blanks, sink)),
            (Stage::Begin, _) => {
                return Err(broken("expected a JSON object or an array of objects"));
            }
            (Stage::First | Stage::After, b']') => self.stage = Stage::End,
            (Stage::First | Stage::Next, b',' | b']' | b'}') => {
                return Err(self.malformed(blanks, "expected a record"));
            }
            (Stage::First | Stage::Next, _) => return Ok(self.begin_record(rest, blanks, sink)),
            (Stage::After, b',') => self.stage = Stage::Next,
            (Stage::After, _) => return Err(broken(AFTER_ELEMENT)),
            (_, b'{') if !self.array => {
                return Err(broken(
                    "a second object follows; send application/x-ndjson or an array",
                ));
            }
            _ => return Err(broken("something follows the end of the JSON text")),
        }
        Ok(blanks + 1)
    }

    /// A record begins in `rest` at `start`. If all of it is there, it is encoded without a copy.
    fn begin_record<S: RecordSink>(&mut self, rest: &[u8], start: usize, sink: &mut S) -> usize {
        let record = &rest[start..];
        let window = &record[..record.len().min(self.window_bytes_max())];
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        match self.encoder.encode_json(window, false, prefix, buffer) {
            JsonStep::Encoded { consumed } if consumed <= self.limits.record_bytes_max => {
                sink.encoded(self.encoder.members());
                self.records += 1;
                self.end_record();
                return start + consumed;
            }
            JsonStep::Refused { consumed, error }
                if consumed <= self.limits.record_bytes_max && ends_by_itself(window) =>
            {
                self.records += 1;
                sink.refused(self.place(), error, &window[..consumed], false);
                self.end_record();
                return start + consumed;
            }
            _ => {}
        }
        sink.buffer().truncate(tuple_start);
        self.stage = Stage::Record;
        self.extent = Extent::default();
        start
    }

    /// More of the record in the carry arrives.
    fn continue_record<S: RecordSink>(&mut self, rest: &[u8], sink: &mut S) -> usize {
        let room = self.window_bytes_max() - self.carry.len();
        let window = &rest[..rest.len().min(room)];
        let end = self.extent.end_in(window);
        let taken = end.unwrap_or(window.len());
        self.carry.extend_from_slice(&window[..taken]);
        let is_too_long = self.carry.len() > self.limits.record_bytes_max;
        if is_too_long || end.is_some() {
            self.settle(is_too_long, sink);
            if end.is_none() {
                self.stage = Stage::Skip;
            }
        }
        taken
    }

    /// Encodes or refuses the carried record: all of it, or, if it is too long, its beginning.
    fn settle<S: RecordSink>(&mut self, is_too_long: bool, sink: &mut S) {
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        let step = self.encoder.encode_json(&self.carry, !is_too_long, prefix, buffer);
        self.records += 1;
        let error = match step {
            JsonStep::Malformed { offset, message } => {
                invalid_json(message, &self.carry, offset, "record")
            }
            _ if is_too_long => too_large(self.limits),
            JsonStep::Encoded { .. } => {
                sink.encoded(self.encoder.members());
                self.end_record();
                return;
            }
            JsonStep::Refused { consumed, error } if consumed == self.carry.len() => error,
            JsonStep::Incomplete => {
                let length = self.carry.len();
                invalid_json("the record ends inside a value", &self.carry, length, "record")
            }
            // Such as 01 or 12x.
            JsonStep::Refused { consumed: offset, .. } => {
                invalid_json("expected the end of the value", &self.carry, offset, "record")
            }
        };
        sink.buffer().truncate(tuple_start);
        let raw = if is_too_long { self.limits.kept(&self.carry) } else { &self.carry };
        sink.refused(self.place(), error, raw, is_too_long);
        self.end_record();
    }

    /// The body ends inside the carried record. Where that is broken already, more of it would not have made it whole: an
    /// object by itself is all there then, and in an array its end is unknown.
    fn end_inside_record<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), FramingError> {
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        let step = self.encoder.encode_json(&self.carry, false, prefix, buffer);
        buffer.truncate(tuple_start);
        let JsonStep::Malformed { offset, message } = step else {
            return Ok(());
        };
        self.records += 1;
        if self.array {
            let offset = self.offset - (self.carry.len() - offset) as u64;
            let message = format!("{message}, in a record that has no end");
            return Err(malformed(offset, self.records, &message));
        }
        let error = invalid_json(message, &self.carry, offset, "record");
        sink.refused(self.place(), error, self.carry.trim_ascii_end(), false);
        self.end_record();
        Ok(())
    }

    fn end_record(&mut self) {
        self.carry.clear();
        self.stage = if self.array { Stage::After } else { Stage::End };
    }

    /// One byte over the limit tells that a record is too long.
    fn window_bytes_max(&self) -> usize {
        self.limits.record_bytes_max + 1
    }

    fn place(&self) -> RecordPlace {
        RecordPlace { record: self.records, line: None }
    }

    /// The structure around the records is broken, `ahead` bytes from here.
    fn broken(&self, ahead: usize, message: &str) -> FramingError {
        malformed(self.offset + ahead as u64, self.records, message)
    }

    /// The next record is broken.
    fn malformed(&self, ahead: usize, message: &str) -> FramingError {
        malformed(self.offset + ahead as u64, self.records + 1, message)
    }

    fn truncated(&self, message: &str, record: u64) -> FramingError {
        let code = FramingErrorCode::TruncatedBody;
        FramingError { code, message: message.to_owned(), offset: self.offset, record, line: None }
    }
}

/// Whether the value that begins here shows by itself where it ends. A number or a word goes on to the next blank, comma
/// or bracket, whatever it is made of: `01` is not 0 with something behind it.
fn ends_by_itself(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'{' | b'[' | b'"'))
}

const AFTER_ELEMENT: &str = "expected a comma or the end of the array";

fn malformed(offset: u64, record: u64, message: &str) -> FramingError {
    let code = FramingErrorCode::MalformedBody;
    FramingError { code, message: message.to_owned(), offset, record, line: None }
}
