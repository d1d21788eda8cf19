//! NDJSON of many streams: each line names the stream of its records, as `{"stream":"flights","record":{…}}` or
//! `{"stream":"flights","records":[{…},{…}]}`.
//!
//! Every line is judged on its own, and in a list every record: a bad one is refused and the next goes on. A record is
//! encoded straight from its line, in one pass, where `stream` stands before it; otherwise the line is looked over for the
//! name first. Where the line names its stream, what is refused is that stream's; where it does not, no stream has it.
//!
//! A list may hold more records than the sinks have room for, so a line can be left and gone on with: only then, and where
//! it is cut between two chunks, is a copy of it held.

use super::lines::{Found, Line, Lines};
use super::no_json::invalid_json;
use super::stream_line::{Head, MEMBERS, read_head};
use super::{
    BYTE_ORDER_MARK, Finished, FramerLimits, FramingError, PushProgress, RecordPlace, RecordSink,
};
use super::{empty_body, is_blank, too_large};
use crate::encode::{JsonStep, RecordEncoder, RecordError, RecordErrorCode};
use crate::json::Extent;

/// Takes what the framer finds.
pub trait StreamsSink {
    /// Takes the records of one stream.
    type Records: RecordSink;

    /// Chooses the stream whose records come next. False: the line cannot be taken, and the sink has refused it.
    fn choose(&mut self, name: &str, place: RecordPlace) -> bool;
    /// What encodes and what takes the records of the chosen stream.
    fn chosen(&mut self) -> (&mut RecordEncoder, &mut Self::Records);
    /// A line that names no stream.
    fn refused(&mut self, place: RecordPlace, error: RecordError);
    /// At the end: so many lines without anything were skipped.
    fn skipped_lines(&mut self, lines: u64);
    /// The framer stops after this record, so that the caller can take what is there.
    fn is_full(&self) -> bool;
}

/// Splits one body into records of many streams. After an error it is of no further use.
pub struct StreamsFramer {
    limits: FramerLimits,
    lines: Lines,
    records: u64,
    has_lines: bool,
    /// A line whose list is to be gone on with.
    left: Option<LeftLine>,
}

struct LeftLine {
    line: Vec<u8>,
    number: u64,
    list: List,
}

/// How far a list of records was read.
#[derive(Clone, Copy)]
struct List {
    /// Where to go on in the line.
    at: usize,
    next: Next,
    /// Where the line goes on behind the list, if that was found out before.
    resume: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// An element or the end.
    First,
    Element,
    /// A comma or the end.
    Separator,
}

impl StreamsFramer {
    /// A line is limited as a record by itself is.
    pub fn new(limits: FramerLimits) -> StreamsFramer {
        let record_bytes_max = limits.record_bytes_max.max(BYTE_ORDER_MARK.len());
        let limits = FramerLimits { record_bytes_max, ..limits };
        let lines = Lines::new(record_bytes_max);
        StreamsFramer { limits, lines, records: 0, has_lines: false, left: None }
    }

    /// Takes the next bytes of the body.
    pub fn push<S: StreamsSink>(&mut self, chunk: &[u8], sink: &mut S) -> PushProgress {
        if !self.go_on(sink) {
            return PushProgress::SinkFull { consumed: 0 };
        }
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            let (used, line) = self.lines.step(rest);
            at += used;
            let Some(line) = line else { continue };
            self.read(&line, rest, sink);
            if self.left.is_some() || sink.is_full() {
                return PushProgress::SinkFull { consumed: at };
            }
        }
        PushProgress::ChunkTaken
    }

    /// Takes the end of the body. To be called again as long as the sink is full.
    pub fn end<S: StreamsSink>(&mut self, sink: &mut S) -> PushProgress {
        let mut is_read = self.go_on(sink);
        if is_read && let Some(line) = self.lines.last() {
            self.read(&line, &[], sink);
            is_read = self.left.is_none();
        }
        if is_read { PushProgress::ChunkTaken } else { PushProgress::SinkFull { consumed: 0 } }
    }

    /// What the whole body was; after [`StreamsFramer::end`].
    pub fn finish<S: StreamsSink>(&mut self, sink: &mut S) -> Result<Finished, FramingError> {
        sink.skipped_lines(self.lines.skipped());
        if !self.has_lines {
            return Err(empty_body(self.lines.offset(), Some(self.lines.number())));
        }
        Ok(Finished { records: self.records, single: false })
    }

    /// Bytes of unfinished lines that are held.
    pub fn carry_bytes(&self) -> usize {
        self.lines.carry_bytes() + self.left.as_ref().map_or(0, |left| left.line.len())
    }

    /// Goes on with the line that was left; true if all of it is read, and there is room for more.
    fn go_on<S: StreamsSink>(&mut self, sink: &mut S) -> bool {
        let Some(left) = self.left.take() else { return true };
        if let Some(list) = self.read_list(&left.line, left.number, left.list, sink) {
            self.left = Some(LeftLine { list, ..left });
        }
        self.left.is_none() && !sink.is_full()
    }

    fn read<S: StreamsSink>(&mut self, line: &Line, chunk: &[u8], sink: &mut S) {
        let number = line.number;
        match &line.found {
            Found::InChunk(range) => {
                let line = &chunk[range.clone()];
                if let Some(list) = self.read_line(line, number, sink) {
                    self.left = Some(LeftLine { line: line.to_vec(), number, list });
                }
            }
            Found::InCarry => {
                let line = self.lines.take_carry();
                match self.read_line(&line, number, sink) {
                    Some(list) => self.left = Some(LeftLine { line, number, list }),
                    None => self.lines.give_back(line),
                }
            }
        }
    }

    /// Reads one line; gives how far, if the sink is full before its end.
    fn read_line<S: StreamsSink>(
        &mut self,
        line: &[u8],
        number: u64,
        sink: &mut S,
    ) -> Option<List> {
        let has_mark = number == 1 && line.starts_with(BYTE_ORDER_MARK);
        let mark = if has_mark { BYTE_ORDER_MARK.len() } else { 0 };
        if has_mark && line[mark..].trim_ascii().is_empty() {
            return None;
        }
        self.has_lines = true;
        let is_too_long =
            line.len() - usize::from(line.ends_with(b"\r")) > self.limits.record_bytes_max;
        // However it came, no more of it is looked at.
        let line = if is_too_long { &line[..=self.limits.record_bytes_max] } else { line };
        let head = match read_head(line, mark) {
            Ok(head) => head,
            Err(no_head) => {
                let (place, error) = (self.place(number), no_head.error);
                let error = if is_too_long { too_large(self.limits) } else { error };
                match no_head.stream {
                    None => sink.refused(place, error),
                    Some(stream) if sink.choose(&stream, place) => {
                        self.refuse(place, error, line, is_too_long, sink);
                    }
                    Some(_) => {}
                }
                return None;
            }
        };
        let place = RecordPlace { record: self.records + 1, line: Some(number) };
        if !sink.choose(&head.stream, place) {
            self.records += 1;
            return None;
        }
        if is_too_long {
            let place = self.place(number);
            self.refuse(place, too_large(self.limits), &line[head.value..], true, sink);
            return None;
        }
        if head.is_list {
            let list = List { at: head.value + 1, next: Next::First, resume: head.resume };
            return self.read_list(line, number, list, sink);
        }
        self.read_record(line, number, &head, sink);
        None
    }

    fn read_record<S: StreamsSink>(
        &mut self,
        line: &[u8],
        number: u64,
        head: &Head<'_>,
        sink: &mut S,
    ) {
        let place = self.place(number);
        let tuple_start = sink.chosen().1.buffer().len();
        match encode(line, head.value, sink) {
            Ok(end) => match broken_tail(line, head.resume.unwrap_or(end)) {
                None => note_encoded(sink),
                Some(error) => {
                    sink.chosen().1.buffer().truncate(tuple_start);
                    self.refuse(place, error, &line[head.value..end], false, sink);
                }
            },
            Err((end, error)) => {
                let end = end.unwrap_or(line.len());
                self.refuse(place, error, &line[head.value..end], false, sink);
            }
        }
    }

    /// Reads a list of records, or goes on with it; gives how far, if the sink is full before the end of the line.
    fn read_list<S: StreamsSink>(
        &mut self,
        line: &[u8],
        number: u64,
        mut list: List,
        sink: &mut S,
    ) -> Option<List> {
        loop {
            list.at += line[list.at..].iter().take_while(|&&byte| is_blank(byte)).count();
            let byte = line.get(list.at).copied();
            match (list.next, byte) {
                (Next::First | Next::Separator, Some(b']')) => {
                    if let Some(error) = broken_tail(line, list.resume.unwrap_or(list.at + 1)) {
                        let place = self.place(number);
                        self.refuse(place, error, &line[list.at..], false, sink);
                    }
                    return None;
                }
                (Next::Separator, Some(b',')) => {
                    list.at += 1;
                    list.next = Next::Element;
                }
                (Next::First | Next::Element, Some(byte))
                    if !matches!(byte, b',' | b']' | b'}') =>
                {
                    let place = self.place(number);
                    let start = list.at;
                    let end = match encode(line, start, sink) {
                        Ok(end) => {
                            note_encoded(sink);
                            Some(end)
                        }
                        Err((end, error)) => {
                            let raw = &line[start..end.unwrap_or(line.len())];
                            self.refuse(place, error, raw, false, sink);
                            end
                        }
                    };
                    list.at = end?;
                    list.next = Next::Separator;
                    // At its end nothing is left of the list, and a line that is held for nothing may cost its sender a 503.
                    if sink.is_full() && !is_over(line, &list) {
                        return Some(list);
                    }
                }
                (next, _) => {
                    let message = match next {
                        Next::Separator => "expected a comma or the end of the list",
                        Next::First | Next::Element => "expected a record",
                    };
                    let error = invalid_json(message, line, list.at, "line");
                    let place = self.place(number);
                    self.refuse(place, error, &line[list.at..], false, sink);
                    return None;
                }
            }
        }
    }

    fn refuse<S: StreamsSink>(
        &self,
        place: RecordPlace,
        error: RecordError,
        raw: &[u8],
        truncated: bool,
        sink: &mut S,
    ) {
        let raw = if truncated { self.limits.kept(raw) } else { raw.trim_ascii_end() };
        sink.chosen().1.refused(place, error, raw, truncated);
    }

    /// The place of the next record, which it counts.
    fn place(&mut self, line: u64) -> RecordPlace {
        self.records += 1;
        RecordPlace { record: self.records, line: Some(line) }
    }
}

/// Nothing but the end of the list is left, and nothing is wrong behind it.
fn is_over(line: &[u8], list: &List) -> bool {
    let blank = line[list.at..].iter().take_while(|&&byte| is_blank(byte)).count();
    let end = list.at + blank;
    line.get(end) == Some(&b']') && broken_tail(line, list.resume.unwrap_or(end + 1)).is_none()
}

/// Encodes the value that begins at `start`; gives where it ends, where that is certain.
fn encode<S: StreamsSink>(
    line: &[u8],
    start: usize,
    sink: &mut S,
) -> Result<usize, (Option<usize>, RecordError)> {
    let (encoder, records) = sink.chosen();
    let prefix = records.prefix();
    let step = encoder.encode_json(&line[start..], true, prefix, records.buffer());
    if let JsonStep::Encoded { consumed } = step {
        return Ok(start + consumed);
    }
    let end = Extent::default().end_in(&line[start..]).map(|length| start + length);
    let error = match step {
        JsonStep::Refused { consumed, error } if end.unwrap_or(line.len()) == start + consumed => {
            error
        }
        // Such as 01 or 12x.
        JsonStep::Refused { consumed, .. } => {
            invalid_json("expected the end of the value", line, start + consumed, "line")
        }
        JsonStep::Malformed { offset, message } => {
            invalid_json(message, line, start + offset, "line")
        }
        JsonStep::Encoded { .. } | JsonStep::Incomplete => {
            invalid_json("the line ends inside a value", line, line.len(), "line")
        }
    };
    Err((end, error))
}

fn note_encoded<S: StreamsSink>(sink: &mut S) {
    let (encoder, records) = sink.chosen();
    records.encoded(encoder.members());
}

/// What is wrong behind a line's records, from `at` on, if anything is.
fn broken_tail(line: &[u8], at: usize) -> Option<RecordError> {
    let mut rest = line[at..].iter().enumerate().filter(|&(_, &byte)| !is_blank(byte));
    let offset = |index: usize| at + index;
    match rest.next() {
        Some((_, b'}')) => {
            let (index, _) = rest.next()?;
            let message = "something follows the object on the same line";
            Some(invalid_json(message, line, offset(index), "line"))
        }
        Some((index, b',')) => {
            let message =
                format!("{MEMBERS}, and nothing else, but has more at byte {}", offset(index));
            Some(RecordError::new(RecordErrorCode::InvalidLine, message))
        }
        Some((index, _)) => {
            let message = "expected a comma or the end of the object";
            Some(invalid_json(message, line, offset(index), "line"))
        }
        None => Some(invalid_json("the line ends inside an object", line, line.len(), "line")),
    }
}
