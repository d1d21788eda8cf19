//! What all framers promise: the outcome never depends on where a body is cut, memory is bounded, and a bad record harms
//! no other.

mod cases;
mod csv;
mod properties;

use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_record::{ColumnSet, StreamId, UnixMicros};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::columns::{Column, ColumnType};
use crate::csv::{CSV_FIELDS_MAX, CsvWords};
use crate::decode::decode_tuple;
use crate::encode::EncodeLimits;
use crate::{PayloadType, Shape, Stream, UnknownKeys};

const LIMITS: FramerLimits = FramerLimits { record_bytes_max: 1 << 20, raw_bytes_max: 64 << 10 };

/// What stands between records in an array and is no JSON, with the byte at which it stops being that.
const NO_JSON: &[(&str, usize)] = &[
    ("nan", 0),
    ("NaN", 0),
    ("-Infinity", 1),
    ("tru", 3),
    ("None", 0),
    ("01", 1),
    ("12x", 2),
    ("1.", 2),
    ("+1", 0),
    ("\u{1F600}", 0),
    ("'text, }'", 0),
    ("\"\\x\"", 1),
    ("\"\\u12\"", 6),
    ("{'s':2}", 1),
    ("{\"s\":2,}", 7),
    ("{\"s\":[1,{\"t\":nan}]}", 13),
    ("{\"s\":'},{'}", 5),
    ("{\"s\":it's}", 5),
    ("{\"s\":5\"}", 6),
    ("{\"s\":\"\\x]\"}", 6),
    ("{\"s\" 2}", 5),
    ("{\"s\":2]", 6),
    ("[1,]", 3),
    ("{s}", 1),
];

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Encoded(Vec<u8>),
    Refused { place: RecordPlace, error: RecordError, raw: Vec<u8>, truncated: bool },
}

/// Keeps everything, and is full after every `room` records.
struct Sink {
    events: Vec<Event>,
    skipped_lines: u64,
    buffer: Vec<u8>,
    in_entry: usize,
    room: usize,
    encoded: u128,
}

impl Sink {
    fn of(room: usize) -> Sink {
        let (events, buffer) = (Vec::new(), Vec::new());
        Sink { events, skipped_lines: 0, buffer, in_entry: 0, room, encoded: 0 }
    }
}

impl RecordSink for Sink {
    fn prefix(&mut self) -> TuplePrefix {
        TuplePrefix { id: Uuid::from_u128(self.encoded), received_at: UnixMicros(0) }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn encoded(&mut self, _members: u64) {
        assert!(!self.is_full(), "the framer went on although the sink was full");
        self.events.push(Event::Encoded(std::mem::take(&mut self.buffer)));
        self.encoded += 1;
        self.in_entry += 1;
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError, raw: &[u8], truncated: bool) {
        assert!(!self.is_full(), "the framer went on although the sink was full");
        assert!(self.buffer.is_empty(), "half a tuple is left");
        self.events.push(Event::Refused { place, error, raw: raw.to_vec(), truncated });
        self.in_entry += 1;
    }

    fn skipped_lines(&mut self, lines: u64) {
        self.skipped_lines = lines;
    }

    fn is_full(&self) -> bool {
        self.in_entry >= self.room
    }
}

type Outcome = (Vec<Event>, Result<Finished, FramingError>);

fn stream(shape: Shape) -> Arc<Stream> {
    Arc::new(Stream {
        id: StreamId(1),
        name: "tests".parse().unwrap(),
        shape,
        key: None,
        retention_days: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    })
}

fn documents() -> Arc<Stream> {
    stream(Shape::Document { payload: PayloadType::Json })
}

/// A column `a` of integers; the rest goes to `extra`.
fn typed() -> Arc<Stream> {
    let column = Column::new("a", ColumnType::Integer);
    stream(Shape::typed(vec![column], UnknownKeys::Extra))
}

fn framer(format: Format, stream: &Arc<Stream>, limits: FramerLimits) -> Framer {
    let encode_limits =
        EncodeLimits { record_bytes_max: limits.record_bytes_max, members_max: u64::MAX };
    let encoder = RecordEncoder::new(stream, encode_limits).unwrap();
    Framer::new(format, encoder, limits, CsvOptions::of_null(Some("NA".to_owned())))
}

/// Of CSV with these options in a query's words: null, delimiter, quote, columns.
fn framer_with(stream: &Arc<Stream>, words: [Option<&str>; 4]) -> Framer {
    let [null, delimiter, quote, columns] = words.map(|word| word.map(str::to_owned));
    let header = columns.as_ref().map(|_| "absent".to_owned());
    let options = CsvWords { null, delimiter, quote, header, columns }.check(None).unwrap();
    let encode_limits =
        EncodeLimits { record_bytes_max: LIMITS.record_bytes_max, members_max: u64::MAX };
    Framer::new(Format::Csv, RecordEncoder::new(stream, encode_limits).unwrap(), LIMITS, options)
}

fn frame<'a>(framer: Framer, chunks: impl IntoIterator<Item = &'a [u8]>, room: usize) -> Outcome {
    let (sink, finished) = framed(framer, chunks, room);
    (sink.events, finished)
}

fn framed<'a>(
    mut framer: Framer,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> (Sink, Result<Finished, FramingError>) {
    let mut sink = Sink::of(room);
    for mut chunk in chunks {
        loop {
            match framer.push(chunk, &mut sink) {
                Ok(PushProgress::ChunkTaken) => break,
                Ok(PushProgress::SinkFull { consumed }) => {
                    assert!(sink.is_full());
                    sink.in_entry = 0;
                    chunk = &chunk[consumed..];
                }
                Err(error) => return (sink, Err(error)),
            }
        }
    }
    let finished = framer.finish(&mut sink);
    (sink, finished)
}

fn frame_all(format: Format, body: &[u8]) -> Outcome {
    frame(framer(format, &documents(), LIMITS), [body], usize::MAX)
}

/// The records as JSON, or the code of what was wrong with them.
fn shown(outcome: &Outcome) -> Vec<Value> {
    let stream = documents();
    let show = |event: &Event| match event {
        Event::Encoded(tuple) => {
            let mut json = Vec::new();
            decode_tuple(&stream.shape, ColumnSet(0), tuple, &mut json).unwrap();
            serde_json::from_slice(&json).unwrap()
        }
        Event::Refused { place, error, .. } => {
            json!(format!("{} {:?} {}", place.record, place.line, error.code))
        }
    };
    outcome.0.iter().map(show).collect()
}

fn error(format: Format, body: &[u8]) -> FramingError {
    frame_all(format, body).1.unwrap_err()
}

fn cut<'a>(body: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

/// Invariant under test: cuts and full sinks change nothing.
fn assert_same_however_cut(
    format: Format,
    body: &[u8],
    limits: FramerLimits,
    cuts: &[usize],
    room: usize,
) {
    for stream in [documents(), typed()] {
        let whole = frame(framer(format, &stream, limits), [body], usize::MAX);
        let pieces = frame(framer(format, &stream, limits), cut(body, cuts), room);
        assert_eq!(whole, pieces, "{:?}", String::from_utf8_lossy(body));
        let bytes = frame(framer(format, &stream, limits), body.chunks(1), room);
        assert_eq!(whole, bytes, "{:?}", String::from_utf8_lossy(body));
    }
}
