//! Random bodies.

use super::*;

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
    b"{'a':1},",
    b"{\"a\":1,},",
    b"nan,",
    b"-Infinity",
    b"01",
    b"'",
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
    fn what_is_no_json_harms_no_neighbour_however_it_is_cut(
        items in prop::collection::vec(
            prop_oneof![json_strategy().prop_map(Ok), prop::sample::select(NO_JSON).prop_map(Err)],
            1..8,
        ),
        record_bytes_max in 1..40_usize,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        room in 1..4_usize,
    ) {
        let written: Vec<String> = items.iter()
            .map(|item| item.as_ref().map_or_else(|(text, _)| (*text).to_owned(), Value::to_string))
            .collect();
        let body = format!("[{}]", written.join(","));
        let (events, finished) = frame_all(Format::Json, body.as_bytes());
        prop_assert_eq!(finished, Ok(Finished { records: items.len() as u64, single: false }));
        for ((event, item), written) in events.iter().zip(&items).zip(&written) {
            match (event, item) {
                (Event::Encoded(_), Ok(Value::Object(_))) => {}
                (Event::Refused { raw, error, .. }, item) => {
                    prop_assert_eq!(raw, written.as_bytes());
                    prop_assert_eq!(error.code == RecordErrorCode::InvalidJson, item.is_err());
                }
                (Event::Encoded(_), _) => prop_assert!(false, "{} was taken", written),
            }
        }
        for limits in [FramerLimits { record_bytes_max, raw_bytes_max: 5 }, LIMITS] {
            assert_same_however_cut(Format::Json, body.as_bytes(), limits, &cuts, room);
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
        rows in prop::collection::vec(prop::collection::vec("[^\0]{0,8}", 3), 1..5),
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
        let value = |field: &str| {
            let null = !quote_all && (field.is_empty() || field == "NA");
            if null { Value::Null } else { json!(field) }
        };
        let expected: Vec<Value> = rows.iter()
            .map(|row| json!({"x": value(&row[0]), "y": value(&row[1]), "z": value(&row[2])}))
            .collect();
        let outcome = frame_all(Format::Csv, body.as_bytes());
        prop_assert_eq!(shown(&outcome), expected);
        prop_assert_eq!(outcome.1.unwrap().records, rows.len() as u64);
    }
}
