//! Lines that name their streams.

use std::collections::BTreeMap;

use super::*;
use crate::formats::{StreamsFramer, StreamsSink};

/// Streams that take records; any other name is refused.
const NAMES: [&str; 3] = ["documents", "typed", "more"];

struct Streams {
    by_name: BTreeMap<&'static str, (RecordEncoder, Sink)>,
    chosen: &'static str,
    /// Lines that no stream takes: the record's number, the line, and why.
    refused: Vec<(u64, u64, String)>,
    skipped_lines: u64,
    room: usize,
}

impl Streams {
    fn new(limits: FramerLimits, room: usize) -> Streams {
        let encode_limits =
            EncodeLimits { record_bytes_max: limits.record_bytes_max, members_max: u64::MAX };
        let of = |name: &'static str| {
            let stream = if name == "typed" { typed() } else { documents() };
            let encoder = RecordEncoder::new(&stream, encode_limits).unwrap();
            (name, (encoder, Sink::of(usize::MAX)))
        };
        let by_name = NAMES.into_iter().map(of).collect();
        Streams { by_name, chosen: NAMES[0], refused: Vec::new(), skipped_lines: 0, room }
    }

    fn in_entry(&self) -> usize {
        self.by_name.values().map(|(_, sink)| sink.in_entry).sum()
    }

    fn events(&self, name: &str) -> &[Event] {
        &self.by_name[name].1.events
    }

    /// Of each stream what it has, as JSON or as the code of what is wrong with it.
    fn shown(&self, name: &str) -> Vec<Value> {
        let shape = if name == "typed" { typed() } else { documents() };
        let show = |event: &Event| match event {
            Event::Encoded(tuple) => {
                let mut json = Vec::new();
                let set = shape.column_set();
                decode_tuple(&shape.shape, set, tuple, &mut json).unwrap();
                serde_json::from_slice(&json).unwrap()
            }
            Event::Refused { place, error, raw, .. } => {
                let raw = String::from_utf8_lossy(raw);
                json!([place.record, place.line, error.code.as_str(), raw])
            }
        };
        self.events(name).iter().map(show).collect()
    }
}

impl StreamsSink for Streams {
    type Records = Sink;

    fn choose(&mut self, name: &str, place: RecordPlace) -> bool {
        match NAMES.into_iter().find(|known| *known == name) {
            Some(known) => self.chosen = known,
            None => {
                self.refused.push((place.record, place.line.unwrap(), format!("no {name}")));
                return false;
            }
        }
        true
    }

    fn chosen(&mut self) -> (&mut RecordEncoder, &mut Sink) {
        let (encoder, sink) = self.by_name.get_mut(self.chosen).unwrap();
        (encoder, sink)
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError) {
        self.refused.push((place.record, place.line.unwrap(), error.code.to_string()));
    }

    fn skipped_lines(&mut self, lines: u64) {
        self.skipped_lines = lines;
    }

    fn is_full(&self) -> bool {
        self.in_entry() >= self.room
    }
}

fn read<'a>(
    limits: FramerLimits,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> (Streams, Result<Finished, FramingError>) {
    let (mut framer, mut sink) = (StreamsFramer::new(limits), Streams::new(limits, room));
    let empty = |sink: &mut Streams| {
        assert!(sink.is_full(), "it stops only for a full sink");
        assert!(sink.in_entry() <= sink.room, "it stops as soon as the sink is full");
        sink.by_name.values_mut().for_each(|(_, sink)| sink.in_entry = 0);
    };
    for mut chunk in chunks {
        while let PushProgress::SinkFull { consumed } = framer.push(chunk, &mut sink) {
            empty(&mut sink);
            chunk = &chunk[consumed..];
        }
    }
    while let PushProgress::SinkFull { .. } = framer.end(&mut sink) {
        empty(&mut sink);
    }
    assert_eq!(framer.carry_bytes(), 0);
    let finished = framer.finish(&mut sink);
    (sink, finished)
}

/// What is wrong behind a list is a record more, for which there may be no room any more.
#[test]
fn a_list_with_something_behind_it_stops_at_a_full_sink() {
    let body = "{\"stream\":\"documents\",\"records\":[{\"n\":1} ] x}\n";
    let (streams, finished) = read(LIMITS, [body.as_bytes()], 1);
    assert_eq!((finished.unwrap().records, streams.events("documents").len()), (2, 2));
}

fn read_all(body: &str) -> Streams {
    let (streams, finished) = read(LIMITS, [body.as_bytes()], usize::MAX);
    finished.unwrap();
    streams
}

#[test]
fn a_line_s_records_are_its_stream_s() {
    let body = "\u{feff}{\"stream\":\"documents\",\"record\":{\"n\":1}}\r\n\
        \n\
        { \"stream\" : \"typed\" , \"records\" : [ {\"a\":2} , {\"a\":\"x\"}, {\"a\":3} ] } \n\
        {\"record\":{\"n\":4},\"stream\":\"\\u0064ocuments\"}\n\
        {\"records\":[{\"n\":5},{\"n\":6}],\"stream\":\"more\"}\n\
        {\"stream\":\"more\",\"records\":[]}\n\
        {\"stream\":\"more\",\"record\":{\"n\":7}}";
    let streams = read_all(body);
    assert_eq!(streams.shown("documents"), [json!({"n": 1}), json!({"n": 4})]);
    let typed = [json!({"a": 2}), json!([3, 3, "invalid_type", "{\"a\":\"x\"}"]), json!({"a": 3})];
    assert_eq!(streams.shown("typed"), typed);
    assert_eq!(streams.shown("more"), [json!({"n": 5}), json!({"n": 6}), json!({"n": 7})]);
    assert_eq!((streams.refused, streams.skipped_lines), (vec![], 1));
}

#[test]
fn what_names_no_stream_is_taken_by_none() {
    for (line, code) in [
        ("{\"record\":{}}", "invalid_line"),
        ("{}", "invalid_line"),
        ("5", "invalid_line"),
        ("[]", "invalid_line"),
        ("{\"stream\":5,\"record\":{}}", "invalid_line"),
        ("{\"stream\":null}", "invalid_line"),
        ("{\"records\":{},\"stream\":\"more\"}", "invalid_line"),
        ("{\"record\":{},\"record\":{},\"stream\":\"more\"}", "invalid_line"),
        ("{\"flights\":{},\"stream\":\"more\"}", "invalid_line"),
        ("{\"record\":{\"n\":nan},\"stream\":\"more\"}", "invalid_json"),
        ("{\"record\":{}", "invalid_json"),
        ("{\"stream\":\"more", "invalid_json"),
        ("{\"record\"", "invalid_json"),
        ("nan", "invalid_line"),
        ("{\"stream\":\"other\",\"records\":[{},{}]}", "no other"),
        ("{\"stream\":\"\",\"record\":{}}", "no "),
    ] {
        let body = format!("{line}\n{{\"stream\":\"more\",\"record\":{{}}}}\n");
        let streams = read_all(&body);
        assert_eq!(streams.refused, [(1, 1, code.to_owned())], "{line}");
        assert_eq!(streams.shown("more"), [json!({})], "{line} harms no other");
    }
}

/// What is kept of it, and with which code.
#[test]
fn what_is_wrong_behind_the_stream_s_name_is_kept_for_the_stream() {
    for (rest, code, raw) in [
        ("\"record\":5}", "not_an_object", "5"),
        ("\"record\":nan}", "invalid_json", "nan"),
        ("\"record\":01}", "invalid_json", "01"),
        ("\"record\":{'a':1}}", "invalid_json", "{'a':1}"),
        ("\"record\":{\"a\":[}", "invalid_json", "{\"a\":[}"),
        ("\"record\":{}", "invalid_json", "{}"),
        ("\"record\":{}} x", "invalid_json", "{}"),
        ("\"record\":{},\"more\":1}", "invalid_line", "{}"),
        ("\"record\":{},\"records\":[]}", "invalid_line", "{}"),
        ("\"records\":[{}", "invalid_json", ""),
        ("\"records\":[{},]}", "invalid_json", "]}"),
        ("\"records\":[{} {}]}", "invalid_json", "{}]}"),
        ("\"records\":[{}],\"x\":1}", "invalid_line", "],\"x\":1}"),
        ("\"records\":[{},nan]}", "invalid_json", "nan"),
        ("\"records\":[{},\"", "invalid_json", "\""),
    ] {
        let body = format!("{{\"stream\":\"documents\",{rest}");
        let streams = read_all(&body);
        assert!(streams.refused.is_empty(), "{rest}");
        let is_list = rest.starts_with("\"records");
        let number = if is_list { 2 } else { 1 };
        let expected = json!([number, 1, code, raw]);
        assert_eq!(streams.shown("documents").last(), Some(&expected), "{rest}");
    }
    // Where no record can be found the whole line is kept.
    for rest in
        ["}", ",\"recrod\":{}}", ",\"stream\":\"more\"}", ",\"records\":5}", ",\"record\" {}}", ""]
    {
        let body = format!("{{\"stream\":\"documents\"{rest}");
        let streams = read_all(&body);
        let Event::Refused { raw, .. } = &streams.events("documents")[0] else { panic!("{rest}") };
        assert_eq!(raw, body.as_bytes());
    }
}

#[test]
fn a_body_without_lines_is_empty() {
    for body in ["", "\n \r\n", "\u{feff}", "\u{feff}\n"] {
        let (_, finished) = read(LIMITS, [body.as_bytes()], usize::MAX);
        assert_eq!(finished.unwrap_err().code, FramingErrorCode::EmptyBody, "{body:?}");
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_for_its_stream_if_it_names_it_soon() {
    let limits = FramerLimits { record_bytes_max: 60, raw_bytes_max: 8 };
    let long = "x".repeat(100);
    let body = format!(
        "{{\"stream\":\"more\",\"record\":{{\"n\":\"{long}\"}}}}\n\
         {{\"record\":{{\"n\":\"{long}\"}},\"stream\":\"more\"}}\n\
         {{\"stream\":\"more\",\"record\":{{\"n\":1}}}}\n"
    );
    for size in [1, 7, 61, 1_000] {
        let (streams, _) = read(limits, body.as_bytes().chunks(size), 1);
        let kept = json!([1, 1, "too_large", "{\"n\":\"xx"]);
        assert_eq!(streams.shown("more"), [kept, json!({"n": 1})]);
        assert_eq!(streams.refused, [(2, 2, "too_large".to_owned())]);
    }
}

/// Records as they are written, some of them no JSON.
const RECORDS: &[&str] = &[
    "{}",
    "{\"a\":1}",
    "{\"a\":\"x\"}",
    "{\"b\":[1,{\"c\":\"]}\"}]}",
    "{\"a\":null,\"b\":\"\\\"\"}",
    "5",
    "[1]",
    "nan",
    "01",
    "{'s':2}",
    "{\"s\":2,}",
    "{\"longer\":\"than the limit of a record is\"}",
];

fn record_strategy() -> impl Strategy<Value = String> {
    prop::sample::select(RECORDS).prop_map(str::to_owned)
}

#[derive(Debug, Clone)]
struct Written {
    stream: &'static str,
    records: Vec<String>,
    is_list: bool,
    stream_is_last: bool,
}

impl Written {
    fn line(&self) -> String {
        let Written { stream, records, .. } = self;
        let records = if self.is_list {
            format!("\"records\":[{}]", records.join(","))
        } else {
            format!("\"record\":{}", records[0])
        };
        if self.stream_is_last {
            format!("{{{records},\"stream\":\"{stream}\"}}\n")
        } else {
            format!("{{\"stream\":\"{stream}\",{records}}}\n")
        }
    }
}

fn written_strategy() -> impl Strategy<Value = Vec<Written>> {
    let records = prop::collection::vec(record_strategy(), 1..5);
    let line = (prop::sample::select(&NAMES[..]), records, any::<bool>()).prop_map(
        |(stream, mut records, is_list)| {
            if !is_list {
                records.truncate(1);
            }
            Written { stream, records, is_list, stream_is_last: false }
        },
    );
    prop::collection::vec(line, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn many_streams_in_one_body_are_what_each_is_by_itself(
        lines in written_strategy(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        room in 1..4_usize,
    ) {
        let body: String = lines.iter().map(Written::line).collect();
        let (streams, finished) = read(LIMITS, cut(body.as_bytes(), &cuts), room);
        let records: usize = lines.iter().map(|line| line.records.len()).sum();
        prop_assert_eq!(finished, Ok(Finished { records: records as u64, single: false }));
        for name in NAMES {
            let own = lines.iter().filter(|line| line.stream == name);
            let own: Vec<&str> = own.flat_map(|line| &line.records).map(String::as_str).collect();
            let alone = format!("[{}]", own.join(","));
            let stream = if name == "typed" { typed() } else { documents() };
            let (events, _) = frame(framer(Format::Json, &stream, LIMITS), [alone.as_bytes()], usize::MAX);
            let of = |event: &Event| match event {
                Event::Encoded(tuple) => Ok(tuple.clone()),
                Event::Refused { error, raw, .. } => Err((error.code, raw.clone())),
            };
            let (events, alone) = (streams.events(name).iter().map(of), events.iter().map(of));
            prop_assert_eq!(events.collect::<Vec<_>>(), alone.collect::<Vec<_>>());
        }
    }

    #[test]
    fn where_a_body_of_many_streams_is_cut_changes_nothing(
        mut lines in written_strategy(),
        last in any::<bool>(),
        flip in prop::option::weighted(0.5, (any::<usize>(), 0..8_u8)),
        record_bytes_max in 1..80_usize,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        room in 1..4_usize,
    ) {
        for line in &mut lines {
            line.stream_is_last = last;
        }
        let mut body: Vec<u8> = lines.iter().map(Written::line).collect::<String>().into();
        if let Some((at, bit)) = flip {
            let at = at % body.len();
            body[at] ^= 1 << bit;
        }
        for limits in [FramerLimits { record_bytes_max, raw_bytes_max: 5 }, LIMITS] {
            let (whole, finished) = read(limits, [&body[..]], usize::MAX);
            for chunks in [cut(&body, &cuts), body.chunks(1).collect()] {
                let (pieces, finished_too) = read(limits, chunks, room);
                prop_assert_eq!(&finished, &finished_too);
                prop_assert_eq!(&whole.refused, &pieces.refused);
                for name in NAMES {
                    prop_assert_eq!(whole.events(name), pieces.events(name));
                }
            }
            if let Ok(finished) = finished {
                let events: usize = NAMES.iter().map(|name| whole.events(name).len()).sum();
                prop_assert_eq!(finished.records, (events + whole.refused.len()) as u64);
            }
        }
    }
}
