//! What the three formats have in common: any bytes, cut anywhere, have the same outcome as in one piece, and every
//! record ends as exactly one outcome.

use std::sync::Arc;

use tidegate_codec::Stream;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::decode::decode_tuple;
use tidegate_codec::encode::{EncodeLimits, RecordEncoder, RecordError, TuplePrefix};
use tidegate_codec::formats::{
    Format, Framer, FramerLimits, PushProgress, RecordPlace, RecordSink,
};
use tidegate_record::UnixMicros;
use uuid::Uuid;

const LIMITS: FramerLimits = FramerLimits { record_bytes_max: 4 << 10, raw_bytes_max: 64 };

#[derive(Debug, PartialEq)]
enum Outcome {
    Encoded(Vec<u8>),
    Refused(RecordPlace, RecordError, Vec<u8>, bool),
}

#[derive(Default)]
struct Sink {
    outcomes: Vec<Outcome>,
    buffer: Vec<u8>,
    full: bool,
    /// Full after each record.
    small: bool,
}

impl RecordSink for Sink {
    fn prefix(&mut self) -> TuplePrefix {
        TuplePrefix { id: Uuid::nil(), received_at: UnixMicros(0) }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn encoded(&mut self, _members: u64) {
        assert!(!self.full);
        self.full = self.small;
        self.outcomes.push(Outcome::Encoded(std::mem::take(&mut self.buffer)));
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError, raw: &[u8], truncated: bool) {
        assert!(!self.full && self.buffer.is_empty());
        self.full = self.small;
        self.outcomes.push(Outcome::Refused(place, error, raw.to_vec(), truncated));
    }

    fn is_full(&self) -> bool {
        self.full
    }
}

fn frame(
    format: Format,
    stream: &Arc<Stream>,
    chunks: &[&[u8]],
    small: bool,
) -> (Vec<Outcome>, String) {
    let limits = EncodeLimits { record_bytes_max: LIMITS.record_bytes_max, members_max: 1 << 10 };
    let encoder = RecordEncoder::new(stream, limits).expect("the stream makes sense");
    let mut framer =
        Framer::new(format, encoder, LIMITS, CsvOptions::of_null(Some("NA".to_owned())));
    let mut sink = Sink { small, ..Sink::default() };
    for mut chunk in chunks.iter().copied() {
        loop {
            match framer.push(chunk, &mut sink) {
                Ok(PushProgress::ChunkTaken) => break,
                Ok(PushProgress::SinkFull { consumed }) => {
                    sink.full = false;
                    chunk = &chunk[consumed..];
                }
                Err(error) => return (sink.outcomes, error.to_string()),
            }
        }
    }
    match framer.finish(&mut sink) {
        Ok(finished) => {
            assert_eq!(finished.records, sink.outcomes.len() as u64);
            (sink.outcomes, format!("{finished:?}"))
        }
        Err(error) => (sink.outcomes, error.to_string()),
    }
}

/// The first byte says how long the pieces are; the others are the body.
pub fn fuzz(format: Format, data: &[u8]) {
    let Some((&cut, body)) = data.split_first() else { return };
    for stream in crate::streams::streams() {
        let whole = frame(format, stream, &[body], false);
        let chunks: Vec<&[u8]> = body.chunks(usize::from(cut % 16) + 1).collect();
        let cut = frame(format, stream, &chunks, cut >= 128);
        assert_eq!(whole, cut);
        for outcome in &whole.0 {
            if let Outcome::Encoded(tuple) = outcome {
                let mut json = Vec::new();
                let column_set = stream.column_set();
                let decoded = decode_tuple(&stream.shape, column_set, tuple, &mut json);
                assert_eq!(decoded.expect("what was encoded decodes").consumed, tuple.len());
            }
        }
    }
}
