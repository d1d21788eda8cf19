//! What must hold for every record.

use proptest::prelude::*;

use super::*;

/// Streams of every kind of encoding.
fn streams() -> Vec<Arc<Stream>> {
    vec![
        documents(&[]),
        documents(&[&["id"], &["a", "b"]]),
        typed(UnknownKeys::Extra),
        typed(UnknownKeys::Drop),
        typed(UnknownKeys::Reject),
        renamed(UnknownKeys::Extra, vec![KeyField::Column(0)]),
        renamed(UnknownKeys::Drop, Vec::new()),
        renamed(UnknownKeys::Reject, Vec::new()),
    ]
}

/// Objects with keys that the streams know and others, sound and broken.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "\"id\"",
        "\"name\"",
        "\"rate\"",
        "\"a\"",
        "\"b\"",
        "\"x\"",
        "\"\"",
        "\"id_\"",
        "\"n\\u0061me\"",
        "\"quo\\\"ted é\"",
    ]);
    let leaf = prop::sample::select(vec![
        "1",
        "-2.50",
        "3e0",
        "\"4\"",
        "\"text\"",
        "\"\\u00e9\"",
        "\"\\u0000\"",
        "null",
        "true",
        "[]",
        "1e140000",
        "\"long enough for words of eight\"",
        "{\"b\":1}",
        "{\"c\":[1,{}],\"b\":\"é\"}",
        "\"\\ud83d\\ude00\"",
        "nul",
        "01",
    ]);
    let member = (key, leaf).prop_map(|(key, value)| format!("{key}: {value}"));
    let object = prop::collection::vec(member, 0..8)
        .prop_map(|members| format!(" {{{}}} ", members.join(", ")).into_bytes());
    let cut = (object.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut json, at, byte)| {
            let at = at.index(json.len());
            json[at] = byte;
            json
        },
    );
    prop_oneof![3 => object, 1 => cut]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn where_the_input_is_split_makes_no_difference(json in record()) {
        for stream in streams() {
            let mut encoder = encoder(&stream);
            let mut expected = Vec::new();
            let whole = encoder.encode_json(&json, true, prefix(), &mut expected);
            for length in 0..=json.len() {
                let mut out = Vec::new();
                match encoder.encode_json(&json[..length], false, prefix(), &mut out) {
                    JsonStep::Incomplete => prop_assert!(out.is_empty()),
                    step => {
                        prop_assert_eq!(&step, &whole);
                        prop_assert_eq!(&out, &expected);
                    }
                }
            }
        }
    }

    #[test]
    fn encoded_records_decode_to_what_was_sent(records in prop::collection::vec(record(), 1..5)) {
        for stream in streams() {
            // One encoder for all: what it remembers of one record must not show in another.
            let mut encoder = encoder(&stream);
            for json in &records {
                let mut tuple = Vec::new();
                let step = encoder.encode_json(json, true, prefix(), &mut tuple);
                let JsonStep::Encoded { consumed } = step else {
                    prop_assert!(tuple.is_empty());
                    continue;
                };
                let sent = &json[..consumed];
                serde_json::from_slice::<serde::de::IgnoredAny>(sent).expect("sound JSON");
                let data = decoded(&stream, &tuple);
                // Fails for a number beyond a double, which documents may have.
                let Ok(sent) = serde_json::from_slice::<serde_json::Value>(sent) else { continue };
                let data: serde_json::Value = serde_json::from_str(&data).unwrap();
                let text = |value: &serde_json::Value| match value {
                    // A column of numbers takes them in any spelling.
                    serde_json::Value::Number(number) => number.as_f64().unwrap().to_string(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let typed = !stream.columns().is_empty();
                for (key, value) in sent.as_object().unwrap() {
                    if stream.columns().iter().any(|column| column.member() == key) || !typed {
                        prop_assert_eq!(text(&data[key]), text(value));
                    } else if keeps_unknown_keys(&stream) {
                        prop_assert_eq!(&data[key], value);
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_decoded_encodes_to_the_same_tuple(records in prop::collection::vec(record(), 1..5)) {
        for stream in streams() {
            let mut encoder = encoder(&stream);
            for json in &records {
                let (mut first, mut again) = (Vec::new(), Vec::new());
                let step = encoder.encode_json(json, true, prefix(), &mut first);
                if !matches!(step, JsonStep::Encoded { .. }) {
                    continue;
                }
                let data = decoded(&stream, &first);
                let step = encoder.encode_json(data.as_bytes(), true, prefix(), &mut again);
                prop_assert_eq!(step, JsonStep::Encoded { consumed: data.len() });
                prop_assert_eq!(first, again);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for stream in streams() {
            let mut encoder = encoder(&stream);
            let mut out = Vec::new();
            encoder.encode_json(&bytes, true, prefix(), &mut out);
            let header = encoder.csv_header(&["a"], None);
            if let Ok(header) = header {
                let _ = encoder.encode_csv(&header, |_| &bytes, |_| false, 1, prefix(), &mut out);
            }
            let _ = decode_tuple(&stream.shape, stream.column_set(), &bytes, &mut Vec::new());
            for kind in ColumnType::ALL {
                let _ = crate::values::encode_text(kind, &bytes, &mut Vec::new());
                let _ = crate::values::write_json(kind, &bytes, &mut Vec::new());
            }
        }
    }
}

fn keeps_unknown_keys(stream: &Stream) -> bool {
    matches!(stream.shape, Shape::Typed { unknown: UnknownKeys::Extra, .. })
}
