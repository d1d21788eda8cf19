//! What all framers promise: the outcome never depends on where a body is cut, memory is bounded, and a bad record harms
//! no other.

use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::record::{ColumnSet, StreamId, UnixMicros};
use crate::streams::columns::{Column, ColumnType};
use crate::streams::decode::decode_tuple;
use crate::streams::encode::EncodeLimits;
use crate::streams::{PayloadType, Shape, Stream, UnknownKeys};

const LIMITS: FramerLimits = FramerLimits { record_bytes_max: 1 << 20, raw_bytes_max: 64 << 10 };

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Encoded(Vec<u8>),
    Refused { place: RecordPlace, error: RecordError, raw: Vec<u8>, truncated: bool },
}

/// Keeps everything, and is full after every `room` records.
struct Sink {
    events: Vec<Event>,
    buffer: Vec<u8>,
    in_entry: usize,
    room: usize,
    encoded: u128,
}

impl RecordSink for Sink {
    fn prefix(&mut self) -> TuplePrefix {
        TuplePrefix { id: Uuid::from_u128(self.encoded), received_at: UnixMicros(0) }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn encoded(&mut self) {
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
    let encode_limits = EncodeLimits { record_bytes_max: limits.record_bytes_max };
    let encoder = RecordEncoder::new(stream, encode_limits).unwrap();
    Framer::new(format, encoder, limits, Some("NA".to_owned()))
}

fn frame<'a>(
    mut framer: Framer,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> Outcome {
    let mut sink = Sink { events: Vec::new(), buffer: Vec::new(), in_entry: 0, room, encoded: 0 };
    for mut chunk in chunks {
        loop {
            match framer.push(chunk, &mut sink) {
                Ok(Progress::ChunkTaken) => break,
                Ok(Progress::SinkFull { consumed }) => {
                    assert!(sink.is_full());
                    sink.in_entry = 0;
                    chunk = &chunk[consumed..];
                }
                Err(error) => return (sink.events, Err(error)),
            }
        }
    }
    let finished = framer.finish(&mut sink);
    (sink.events, finished)
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

fn pieces_of(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(words), 0..14).prop_map(|words| words.concat())
}

const JSON_WORDS: &[&[u8]] = &[
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\"",
    b"\\",
    b" ",
    b"\n",
    b"1",
    b"-",
    b"1.5e",
    b"tru",
    b"true",
    b"null",
    b"\"a\"",
    b"\"a\":",
    b"{\"a\":1}",
    b"{\"a\":1},",
    b"{\"a\":\"x\"},",
    b"{\"a\":2,\"b\":[{}]},",
    b"[1,[2]]",
    b"\"\\ud800\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\u0000\"",
    b"\xc3\xa9",
    b"\xff",
    BYTE_ORDER_MARK,
    b"{\"longer than the limit\":[\"is\",1]},",
];

const NDJSON_WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t\n",
    b"{\"a\":1}",
    b"{\"a\":1}\n",
    b"{\"a\":\"x\"}\r\n",
    b"{",
    b"}",
    b"[1]",
    b"12\n",
    b"tru",
    b"{\"b\":\"\\n\"}\n",
    b"\xff",
    BYTE_ORDER_MARK,
    b"\xef",
    b"\xef\xbb",
    b"{\"longer than the limit\":[\"is\",1]}\r\n",
];

const CSV_WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\r",
    b",",
    b"\"",
    b"\"\"",
    b"a",
    b"b,a\n",
    b"a,b\r\n",
    b"1,x\n",
    b"\"1\",\"x\ny\"\n",
    b"NA,",
    b"\"q\"\"q\"",
    b" ",
    b"\xff",
    BYTE_ORDER_MARK,
    b"\xef\xbb",
    b"1,2,3\n",
    b"\"longer\r\nthan the limit\",is it\r\n",
];

/// Bytes of no meaning, of which many are those that the formats look for.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let meant = prop::sample::select(&b"[]{}\",:\\\n\r 0a-"[..]);
    prop::collection::vec(prop_oneof![2 => any::<u8>(), 3 => meant], 0..80)
}

fn body_strategy() -> impl Strategy<Value = (Format, Vec<u8>)> {
    let array = pieces_of(JSON_WORDS).prop_map(|body| [b"[", &*body, b"]"].concat());
    let table = pieces_of(CSV_WORDS).prop_map(|body| [b"a,b\n", &*body].concat());
    prop_oneof![
        pieces_of(JSON_WORDS).prop_map(|body| (Format::Json, body)),
        array.prop_map(|body| (Format::Json, body)),
        records_strategy().prop_map(|(body, _)| (Format::Json, body)),
        pieces_of(NDJSON_WORDS).prop_map(|body| (Format::Ndjson, body)),
        pieces_of(CSV_WORDS).prop_map(|body| (Format::Csv, body)),
        (prop::sample::select(&[Format::Json, Format::Ndjson, Format::Csv][..]), any_bytes()),
        table.prop_map(|body| (Format::Csv, body)),
    ]
}

fn json_strategy() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        "[^\0]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A well-formed array, pretty or not, and its elements.
fn records_strategy() -> impl Strategy<Value = (Vec<u8>, Vec<Value>)> {
    (prop::collection::vec(json_strategy(), 0..6), any::<bool>()).prop_map(|(records, pretty)| {
        let body =
            if pretty { serde_json::to_vec_pretty(&records) } else { serde_json::to_vec(&records) };
        (body.unwrap(), records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn where_a_body_is_cut_changes_nothing(
        (format, mut body) in body_strategy(),
        flip in prop::option::weighted(0.3, (any::<usize>(), 0..8_u8)),
        record_bytes_max in 1..40_usize,
        raw_bytes_max in 1..20_usize,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        room in 1..4_usize,
    ) {
        if let Some((at, bit)) = flip && !body.is_empty() {
            let at = at % body.len();
            body[at] ^= 1 << bit;
        }
        let tight = FramerLimits { record_bytes_max, raw_bytes_max };
        for limits in [tight, LIMITS] {
            assert_same_however_cut(format, &body, limits, &cuts, room);
        }
    }

    #[test]
    fn every_record_ends_as_exactly_one_outcome(
        (format, body) in body_strategy(),
        record_bytes_max in 1..40_usize,
        room in 1..4_usize,
    ) {
        for limits in [FramerLimits { record_bytes_max, raw_bytes_max: 5 }, LIMITS] {
            let (events, finished) = frame(framer(format, &typed(), limits), [&body[..]], room);
            if let Ok(finished) = finished {
                prop_assert_eq!(finished.records, events.len() as u64);
            }
            let mut lines = 0;
            for (number, event) in (1..).zip(&events) {
                let Event::Refused { place, raw, truncated, .. } = event else { continue };
                prop_assert_eq!(place.record, number, "records are counted from 1, without a gap");
                prop_assert_eq!(place.line.is_some(), format != Format::Json);
                prop_assert!(place.line.is_none_or(|line| line > lines), "lines only grow");
                lines = place.line.unwrap_or_default();
                prop_assert!(!truncated || raw.len() <= limits.raw_bytes_max);
                let found = body.windows(raw.len().max(1)).any(|part| part == &raw[..]);
                prop_assert!(found || raw.is_empty(), "what is kept was sent: {:?}", raw);
            }
        }
    }

    #[test]
    fn an_array_gives_its_objects_and_refuses_the_rest((body, records) in records_strategy()) {
        let (events, finished) = frame_all(Format::Json, &body);
        prop_assert_eq!(finished, Ok(Finished { records: records.len() as u64, single: false }));
        for (event, record) in events.iter().zip(&records) {
            prop_assert_eq!(matches!(event, Event::Encoded(_)), record.is_object(), "{}", record);
        }
    }

    #[test]
    fn lines_give_what_an_array_of_them_gives(records in prop::collection::vec(json_strategy(), 1..6), crlf in any::<bool>()) {
        let mut lines = Vec::new();
        for record in &records {
            serde_json::to_writer(&mut lines, record).unwrap();
            lines.extend_from_slice(if crlf { b"\r\n\r\n" } else { b"\n" });
        }
        let line_of = |index: usize| if crlf { 2 * index + 1 } else { index + 1 };
        let as_lines = shown(&frame_all(Format::Ndjson, &lines));
        let expected: Vec<Value> = records.iter().enumerate().map(|(index, record)| match record {
            Value::Object(_) => record.clone(),
            _ => json!(format!("{} Some({}) not_an_object", index + 1, line_of(index))),
        }).collect();
        prop_assert_eq!(as_lines, expected);
    }

    #[test]
    fn rows_give_back_their_fields(
        rows in prop::collection::vec(prop::collection::vec("[^\0]{0,8}", 3), 0..5),
        quote_all in any::<bool>(),
        line_end in prop::sample::select(&["\n", "\r\n", "\r"][..]),
        last_line_end in any::<bool>(),
    ) {
        let mut body = format!("x,\"y\",z{line_end}");
        for (index, row) in rows.iter().enumerate() {
            for (column, field) in row.iter().enumerate() {
                body.push_str(if column > 0 { "," } else { "" });
                if quote_all || field.contains([',', '"', '\r', '\n']) {
                    write!(body, "\"{}\"", field.replace('"', "\"\"")).unwrap();
                } else {
                    body.push_str(field);
                }
            }
            body.push_str(if last_line_end || index + 1 < rows.len() { line_end } else { "" });
        }
        let value = |field: &str| if field.is_empty() || field == "NA" { Value::Null } else { json!(field) };
        let expected: Vec<Value> = rows.iter()
            .map(|row| json!({"x": value(&row[0]), "y": value(&row[1]), "z": value(&row[2])}))
            .collect();
        let outcome = frame_all(Format::Csv, body.as_bytes());
        prop_assert_eq!(shown(&outcome), expected);
        prop_assert_eq!(outcome.1.unwrap().records, rows.len() as u64);
    }
}

#[test]
fn one_object_is_told_from_an_array_of_one() {
    for (body, single) in
        [(&b" {\"a\":1}\n"[..], true), (b"[{\"a\":1}]", false), (b"\xef\xbb\xbf{\"a\":1}", true)]
    {
        let outcome = frame_all(Format::Json, body);
        assert_eq!(outcome.1, Ok(Finished { records: 1, single }));
        assert_eq!(shown(&outcome), [json!({"a": 1})]);
    }
    assert_eq!(frame_all(Format::Json, b"[ ]").1, Ok(Finished { records: 0, single: false }));
}

#[test]
fn a_body_without_anything_is_empty() {
    for format in [Format::Json, Format::Ndjson, Format::Csv] {
        for body in [&b""[..], b"\xef\xbb\xbf", b"\n", b"\r\n\r\n"] {
            assert_eq!(
                error(format, body).code,
                FramingErrorCode::EmptyBody,
                "{format:?} {body:?}"
            );
        }
    }
    for format in [Format::Json, Format::Ndjson] {
        let error = error(format, b"\xef\xbb\xbf \t\r\n \n");
        assert_eq!((error.code, error.offset), (FramingErrorCode::EmptyBody, 9));
    }
}

#[test]
fn half_a_byte_order_mark_belongs_to_the_body() {
    for body in [&b"\xef\xbb"[..], b"\xef", b"\xef\xbb{}", b"\xef\xbb\xbf\xef\xbb\xbf{}"] {
        assert_eq!(error(Format::Json, body).code, FramingErrorCode::MalformedBody, "{body:?}");
        let (events, finished) = frame_all(Format::Ndjson, body);
        let expected = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        assert!(matches!(&events[..], [Event::Refused { raw, .. }] if raw == expected), "{body:?}");
        assert_eq!(finished.unwrap().records, 1);
    }
    assert_eq!(error(Format::Csv, b"\xef\xbb\n1").code, FramingErrorCode::InvalidHeader);
}

#[test]
fn a_broken_array_says_where() {
    use FramingErrorCode::{MalformedBody, TruncatedBody};
    for (body, code, offset, record) in [
        (&b"x"[..], MalformedBody, 0, 0),
        (b" 12", MalformedBody, 1, 0),
        (b"\"text\"", MalformedBody, 0, 0),
        (b"[", TruncatedBody, 1, 0),
        (b"[{}", TruncatedBody, 3, 1),
        (b"[{},", TruncatedBody, 4, 1),
        (b"[{},]", MalformedBody, 4, 2),
        (b"[,{}]", MalformedBody, 1, 1),
        (b"[{} {}]", MalformedBody, 4, 1),
        (b"[{}}", MalformedBody, 3, 1),
        (b"[{\"a\":}]", MalformedBody, 6, 1),
        (b"[{\"a\":1]", MalformedBody, 7, 1),
        (b"[{},{\"a\"", TruncatedBody, 8, 2),
        (b"[{\"a\":\"", TruncatedBody, 7, 1),
        (b"[tru,{}]", MalformedBody, 1, 1),
        (b"[12x]", MalformedBody, 3, 1),
        (b"[{}] x", MalformedBody, 5, 1),
        (b"{\"a\":1", TruncatedBody, 6, 1),
        (b"{\"a\":1}{\"a\":2}", MalformedBody, 7, 1),
        (b"{\"a\":1}\n[1]", MalformedBody, 8, 1),
        (b"{} ,", MalformedBody, 3, 1),
    ] {
        let text = String::from_utf8_lossy(body);
        let error = error(Format::Json, body);
        assert_eq!(
            (error.code, error.offset, error.record),
            (code, offset, record),
            "{text}: {error}"
        );
        assert_same_however_cut(Format::Json, body, LIMITS, &[], 1);
    }
    assert!(error(Format::Json, b"{}\n{}").message.contains("application/x-ndjson"));
}

#[test]
fn a_bad_line_harms_no_other() {
    let body = b"{\"a\":1}\n{\"a\":\n\n[1]\r\n{\"a\":2} {\"a\":3}\n{\"a\":2}x\nnull\n\xff\n{\"a\":\"\xff\"}\n {\"a\":4} ";
    let outcome = frame_all(Format::Ndjson, body);
    assert_eq!(outcome.1, Ok(Finished { records: 9, single: false }));
    assert_eq!(
        shown(&outcome),
        [
            json!({"a": 1}),
            json!("2 Some(2) invalid_json"),
            json!("3 Some(4) not_an_object"),
            json!("4 Some(5) invalid_json"),
            json!("5 Some(6) invalid_json"),
            json!("6 Some(7) not_an_object"),
            json!("7 Some(8) invalid_json"),
            json!("8 Some(9) invalid_utf8"),
            json!({"a": 4}),
        ]
    );
    let Event::Refused { raw, truncated: false, .. } = &outcome.0[2] else { panic!() };
    assert_eq!(raw, b"[1]", "the line end is no part of the record");
}

#[test]
fn ragged_rows_and_blank_lines_keep_the_lines_right() {
    let body = b"\r\nx,y\r\n1,2\r\n\r\n3\n4,\"a\r\nb\nc\"\r5,6,7,8,9\n\n\xff,8\n\"9\n\",10";
    let outcome = frame_all(Format::Csv, body);
    assert_eq!(
        shown(&outcome),
        [
            json!({"x": "1", "y": "2"}),
            json!("2 Some(5) wrong_field_count"),
            json!({"x": "4", "y": "a\r\nb\nc"}),
            json!("4 Some(9) wrong_field_count"),
            json!("5 Some(11) invalid_utf8"),
            json!({"x": "9\n", "y": "10"}),
        ]
    );
    let Event::Refused { raw, error, .. } = &outcome.0[3] else { panic!() };
    assert_eq!(raw, b"5,6,7,8,9");
    assert_eq!(error.message, "expected 2 fields, got 5");
    assert_same_however_cut(Format::Csv, body, LIMITS, &[], 1);
}

#[test]
fn a_header_is_needed_and_checked() {
    for body in [&b"a,a\n1,2"[..], b"a,\xff\n1,2"] {
        let error = error(Format::Csv, body);
        assert_eq!(
            (error.code, error.line),
            (FramingErrorCode::InvalidHeader, Some(1)),
            "{body:?}"
        );
    }
    let wide = vec![b','; CSV_FIELDS_MAX];
    assert_eq!(error(Format::Csv, &wide).code, FramingErrorCode::InvalidHeader);
    let long = [b"a,".as_slice(), &vec![b'x'; LIMITS.record_bytes_max]].concat();
    assert_eq!(error(Format::Csv, &long).code, FramingErrorCode::InvalidHeader);
    let only_header = frame_all(Format::Csv, b"\xef\xbb\xbfa,b");
    assert_eq!(only_header.1, Ok(Finished { records: 0, single: false }));
    // The mark is no part of the first name.
    assert_eq!(shown(&frame_all(Format::Csv, b"\xef\xbb\xbfa\n1")), [json!({"a": "1"})]);
}

#[test]
fn a_quote_that_is_never_closed_swallows_nothing_silently() {
    let broken = error(Format::Csv, b"a,b\n1,2\n3,\"4\n5,6\n");
    assert_eq!(
        (broken.code, broken.record, broken.line),
        (FramingErrorCode::TruncatedBody, 2, Some(3))
    );
    let long = [b"a,b\n1,\"".as_slice(), &vec![b'\n'; LIMITS.record_bytes_max * 2]].concat();
    let broken = error(Format::Csv, &long);
    assert_eq!((broken.code, broken.line), (FramingErrorCode::TruncatedBody, Some(2)));
}

#[test]
fn the_limit_is_exact() {
    let limits = FramerLimits { record_bytes_max: 10, raw_bytes_max: 4 };
    for (format, before, fits, after) in [
        (Format::Json, &b"["[..], &b"{\"a\":\"12\"}"[..], &b"]"[..]),
        (Format::Json, b"[ ", b"1234567890", b" ]"),
        (Format::Ndjson, b" ", b"{\"a\":\"12\"}", b"\r\n"),
        (Format::Ndjson, b"", b"{\"a\":\"12\"}", b""),
        (Format::Csv, b"a,b\n", b"1234,67890", b"\r\n"),
        (Format::Csv, b"a,b\n", b"1234,\"789\"", b""),
    ] {
        for extra in 0..3 {
            let mut record = fits.to_vec();
            for _ in 0..extra {
                record.insert(6, b'7');
            }
            let body = [before, &record, after].concat();
            let (events, _) = frame(framer(format, &documents(), limits), [&*body], usize::MAX);
            let [event] = &events[..] else { panic!("{events:?}") };
            let too_large = matches!(event, Event::Refused { error, truncated: true, raw, .. }
                if error.code == RecordErrorCode::TooLarge && *raw == record[..4]);
            assert_eq!(
                too_large,
                extra > 0,
                "{format:?} {}: {event:?}",
                String::from_utf8_lossy(&body)
            );
            assert_same_however_cut(format, &body, limits, &[], 1);
        }
    }
}

#[test]
fn a_line_of_100_megabytes_is_refused_in_bounded_memory() {
    const CHUNKS: usize = 1_600;
    let filler = vec![b'x'; 64 << 10];
    for (format, before, after) in [
        (Format::Ndjson, &b"{\"a\":1}\n{\"a\":\""[..], &b"\"}\n{\"a\":2}\n"[..]),
        (Format::Json, b"[{\"a\":1},{\"a\":\"", b"\"},{\"a\":2}]"),
        (Format::Csv, b"a\n1\n\"\n", b"\n\"\n2\n"),
    ] {
        let mut framer = framer(format, &documents(), LIMITS);
        let mut sink =
            Sink { events: Vec::new(), buffer: Vec::new(), in_entry: 0, room: 10, encoded: 0 };
        framer.push(before, &mut sink).unwrap();
        for _ in 0..CHUNKS {
            framer.push(&filler, &mut sink).unwrap();
            let bound = 4 * LIMITS.record_bytes_max + CSV_FIELDS_MAX * size_of::<usize>();
            assert!(framer.carry_capacity_bytes() <= bound, "{}", framer.carry_capacity_bytes());
        }
        framer.push(after, &mut sink).unwrap();
        assert_eq!(framer.finish(&mut sink).unwrap().records, 3);
        let [
            Event::Encoded(_),
            Event::Refused { raw, truncated: true, error, .. },
            Event::Encoded(_),
        ] = &sink.events[..]
        else {
            panic!("{format:?}: {} events", sink.events.len());
        };
        assert_eq!(raw.len(), LIMITS.raw_bytes_max);
        assert_eq!(error.code, RecordErrorCode::TooLarge);
    }
}

#[test]
fn nesting_of_20_000_is_refused_and_the_next_record_goes_on() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    for (format, body) in [
        (Format::Json, format!("[{{\"a\":1}},{deep},{{\"a\":2}}]")),
        (Format::Ndjson, format!("{{\"a\":1}}\n{deep}\n{{\"a\":2}}")),
    ] {
        for chunk in [100, usize::MAX] {
            let outcome =
                frame(framer(format, &documents(), LIMITS), body.as_bytes().chunks(chunk), 1);
            let shown = shown(&outcome);
            assert_eq!((&shown[0], &shown[2]), (&json!({"a": 1}), &json!({"a": 2})));
            assert!(shown[1].as_str().unwrap().ends_with("too_deep"), "{}", shown[1]);
        }
    }
}

#[test]
fn a_truncated_body_gives_the_records_before_the_cut() {
    let body = br#"[{"a":1},{"a":"x,]}\""},{"a":[{"b":2}]}]"#;
    let whole = frame_all(Format::Json, body);
    for length in 1..body.len() {
        let (events, finished) = frame_all(Format::Json, &body[..length]);
        assert!(whole.0.starts_with(&events), "cut at {length}");
        assert_eq!(finished.unwrap_err().code, FramingErrorCode::TruncatedBody, "cut at {length}");
    }
}

#[test]
fn content_types_are_read_as_senders_write_them() {
    for (text, format) in [
        ("application/json", Format::Json),
        ("Application/JSON; charset=UTF-8", Format::Json),
        ("application/x-ndjson", Format::Ndjson),
        ("application/ndjson;charset=\"utf-8\"", Format::Ndjson),
        ("application/jsonl", Format::Ndjson),
        ("text/csv; header=present", Format::Csv),
    ] {
        assert_eq!(Format::from_content_type(text), Ok(format), "{text}");
    }
    for text in ["text/csv; charset=iso-8859-1", "application/json;charset=utf-16"] {
        assert!(matches!(Format::from_content_type(text), Err(UnsupportedContentType::Charset(_))));
    }
    for text in ["", "json", "text/plain", "application/jsonx", "multipart/form-data; boundary=x"] {
        assert!(matches!(Format::from_content_type(text), Err(UnsupportedContentType::Unknown(_))));
    }
}
