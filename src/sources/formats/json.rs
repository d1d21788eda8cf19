//! JSON: one object, or an array of records. The first byte that is not blank decides.
//!
//! A record is encoded straight from the chunk if it lies there whole. Otherwise its bytes are carried, and an
//! [`Extent`] finds its end as they arrive, so that it is parsed again only once it is complete. The same extent finds
//! the end of a record that is too long to be carried.

use memchr::memchr2;

use super::{Finished, FramerLimits, FramingError, FramingErrorCode, Progress, RecordPlace};
use super::{RecordSink, empty_body, is_blank, too_large};
use crate::streams::encode::{JsonStep, RecordEncoder};

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

    pub(super) fn carry_capacity_bytes(&self) -> usize {
        self.carry.capacity()
    }

    pub(super) fn push<S: RecordSink>(
        &mut self,
        chunk: &[u8],
        sink: &mut S,
    ) -> Result<Progress, FramingError> {
        let mut at = 0;
        while at < chunk.len() {
            let records = self.records;
            let used = self.step(&chunk[at..], sink)?;
            at += used;
            self.offset += used as u64;
            if self.records > records && sink.is_full() {
                return Ok(Progress::SinkFull { consumed: at });
            }
        }
        Ok(Progress::ChunkTaken)
    }

    pub(super) fn into_encoder(self) -> RecordEncoder {
        self.encoder
    }

    pub(super) fn finish<S: RecordSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        if self.stage == Stage::Record {
            // What is carried may be broken already, or be a scalar and complete; say that first.
            self.settle(None, sink)?;
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
            Stage::Record => return self.continue_record(rest, sink),
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
            (Stage::Begin, b'{') => return self.begin_record(rest, blanks, sink),
            (Stage::Begin, _) => {
                return Err(broken("expected a JSON object or an array of objects"));
            }
            (Stage::First | Stage::After, b']') => self.stage = Stage::End,
            (Stage::First | Stage::Next, _) => return self.begin_record(rest, blanks, sink),
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
    fn begin_record<S: RecordSink>(
        &mut self,
        rest: &[u8],
        start: usize,
        sink: &mut S,
    ) -> Result<usize, FramingError> {
        let record = &rest[start..];
        let window = &record[..record.len().min(self.window_bytes_max())];
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        match self.encoder.encode_json(window, false, prefix, buffer) {
            JsonStep::Encoded { consumed } if consumed <= self.limits.record_bytes_max => {
                sink.encoded();
                self.records += 1;
                self.end_record();
                return Ok(start + consumed);
            }
            JsonStep::Refused { consumed, error } if consumed <= self.limits.record_bytes_max => {
                self.records += 1;
                sink.refused(self.place(), error, &window[..consumed], false);
                self.end_record();
                return Ok(start + consumed);
            }
            JsonStep::Malformed { offset, message } => {
                return Err(self.malformed(start + offset, message));
            }
            JsonStep::Incomplete | JsonStep::Encoded { .. } | JsonStep::Refused { .. } => {}
        }
        sink.buffer().truncate(tuple_start);
        self.stage = Stage::Record;
        self.extent = Extent::default();
        Ok(start)
    }

    /// More of the record in the carry arrives.
    fn continue_record<S: RecordSink>(
        &mut self,
        rest: &[u8],
        sink: &mut S,
    ) -> Result<usize, FramingError> {
        let room = self.window_bytes_max() - self.carry.len();
        let window = &rest[..rest.len().min(room)];
        let end = self.extent.end_in(window);
        let taken = end.unwrap_or(window.len());
        self.carry.extend_from_slice(&window[..taken]);
        // Offsets of errors are counted back from the end of the carry.
        self.offset += taken as u64;
        if end.is_some() || self.carry.len() > self.limits.record_bytes_max {
            self.settle(window.get(taken).copied(), sink)?;
            if end.is_none() {
                self.stage = Stage::Skip;
            }
        }
        self.offset -= taken as u64;
        Ok(taken)
    }

    /// Encodes or refuses what is carried; it stays as it is if more must come. `following` is the byte behind it, if
    /// it has arrived: it ends a number, and it makes a broken literal look as it would in one piece.
    fn settle<S: RecordSink>(
        &mut self,
        following: Option<u8>,
        sink: &mut S,
    ) -> Result<(), FramingError> {
        let record_bytes = self.carry.len();
        let start = self.offset - record_bytes as u64;
        // A record that is too long is parsed only to learn whether its beginning is broken, as it would be were it
        // read from a chunk that ends right there.
        let too_long = record_bytes > self.limits.record_bytes_max;
        self.carry.extend(following.filter(|_| !too_long));
        let prefix = sink.prefix();
        let buffer = sink.buffer();
        let tuple_start = buffer.len();
        let step = self.encoder.encode_json(&self.carry, false, prefix, buffer);
        self.carry.truncate(record_bytes);
        let record = self.records + 1;
        let consumed = match step {
            JsonStep::Malformed { offset, message } => {
                return Err(malformed(start + offset as u64, record, message));
            }
            JsonStep::Encoded { consumed } if consumed <= self.limits.record_bytes_max => {
                sink.encoded();
                consumed
            }
            JsonStep::Refused { consumed, error } if consumed <= self.limits.record_bytes_max => {
                let place = RecordPlace { record, line: None };
                sink.refused(place, error, &self.carry[..consumed], false);
                consumed
            }
            _ if too_long => {
                sink.buffer().truncate(tuple_start);
                self.records = record;
                let raw = self.limits.kept(&self.carry);
                sink.refused(self.place(), too_large(self.limits), raw, true);
                self.end_record();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.records = record;
        if consumed < record_bytes {
            // Such as 12x: the extent of a scalar reaches to the next comma, bracket or blank.
            return Err(malformed(start + consumed as u64, record, AFTER_ELEMENT));
        }
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

const AFTER_ELEMENT: &str = "expected a comma or the end of the array";

fn malformed(offset: u64, record: u64, message: &str) -> FramingError {
    let code = FramingErrorCode::MalformedBody;
    FramingError { code, message: message.to_owned(), offset, record, line: None }
}

/// Finds where a JSON value ends, over any number of chunks, by counting brackets outside strings. For a value that is
/// well formed this is exact; in any other value the first error lies before it.
#[derive(Debug, Default)]
struct Extent {
    depth: u64,
    inside: Inside,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Nothing of the value was seen.
    #[default]
    Nothing,
    /// Between the tokens of an array or object.
    Container,
    /// A number or a literal that is not in a container.
    Scalar,
    String,
    /// Behind a backslash in a string.
    Escape,
}

impl Extent {
    /// The length of the value's rest if it ends in `bytes`.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.inside {
                Inside::Escape => self.inside = Inside::String,
                Inside::String => {
                    at += memchr2(b'"', b'\\', &bytes[at..])?;
                    if bytes[at] == b'\\' {
                        self.inside = Inside::Escape;
                    } else if self.depth == 0 {
                        return Some(at + 1);
                    } else {
                        self.inside = Inside::Container;
                    }
                }
                Inside::Scalar
                    if is_blank(bytes[at]) || matches!(bytes[at], b',' | b']' | b'}') =>
                {
                    return Some(at);
                }
                Inside::Scalar => {}
                Inside::Nothing | Inside::Container => match bytes[at] {
                    b'"' => self.inside = Inside::String,
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.inside = Inside::Container;
                    }
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ if self.inside == Inside::Nothing => self.inside = Inside::Scalar,
                    _ => {}
                },
            }
            at += 1;
        }
        None
    }
}
