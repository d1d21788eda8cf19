//! Columns that got wider types: what was encoded before stays what it was, and what was taken is still taken.

use proptest::prelude::*;
use serde_json::Value;
use tidegate_record::ColumnSet;

use super::*;
use crate::definition::StreamChange;

/// The stream after a request for these columns.
fn changed(stream: &Arc<Stream>, columns: &[Column]) -> Arc<Stream> {
    let change = json!({"columns": columns});
    Arc::new(serde_json::from_value::<StreamChange>(change).unwrap().apply(stream).unwrap())
}

fn widened(stream: &Arc<Stream>, index: usize, kind: ColumnType) -> Arc<Stream> {
    let mut columns = stream.columns().to_vec();
    columns[index].kind = kind;
    changed(stream, &columns)
}

fn of_column(kind: ColumnType) -> Arc<Stream> {
    stream(Shape::typed(vec![Column::new("a", kind)], UnknownKeys::Extra), Vec::new())
}

/// Some that the type takes, as JSON.
fn values_of(kind: ColumnType) -> &'static [&'static str] {
    match kind {
        ColumnType::Boolean => &["true", "false", "\"yes\""],
        ColumnType::SmallInt => &["0", "-32768", "32767", "\" 7 \"", "5.0"],
        ColumnType::Integer => &["0", "-2147483648", "2147483647", "1e3"],
        ColumnType::BigInt => &["0", "-9223372036854775808", "9223372036854775807"],
        ColumnType::Real => &["0.1", "-3.4e38", "1e-40", "\"NaN\"", "\"-Infinity\""],
        ColumnType::DoublePrecision => &["0.1", "1e300", "5e-324", "\"Infinity\""],
        ColumnType::Numeric => &["1.50", "-0.000", "123456789012345678901234567890", "\"NaN\""],
        ColumnType::Text => &["\"\"", "\"a\\nb\"", "\"é😀\"", "\"42\""],
        ColumnType::TimestampTz => &["\"2013-01-01T06:00:00.25+01\"", "\"infinity\""],
        ColumnType::Date => &["\"0044-03-15 BC\"", "\"2026-11-30\""],
        ColumnType::Uuid => &["\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\""],
        ColumnType::Jsonb => &["{\"x\":[1,null]}", "\"text\"", "1e2", "true"],
    }
}

/// What becomes of a stream, step by step; each says more than it needs to know of the stream before.
#[derive(Debug, Clone)]
enum Step {
    Add(ColumnType),
    Widen(prop::sample::Index, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(ColumnType::ALL.to_vec());
    let index = any::<prop::sample::Index>;
    prop_oneof![
        1 => kind.prop_map(Step::Add),
        3 => (index(), index()).prop_map(|(column, kind)| Step::Widen(column, kind)),
    ]
}

fn take(step: &Step, stream: &Arc<Stream>) -> Arc<Stream> {
    match step {
        Step::Add(kind) => {
            let mut columns = stream.columns().to_vec();
            columns.push(Column::new(format!("c{}", columns.len()), *kind));
            changed(stream, &columns)
        }
        Step::Widen(column, kind) => {
            let index = column.index(stream.columns().len());
            match stream.columns()[index].kind.wider() {
                [] => Arc::clone(stream),
                wider => widened(stream, index, wider[kind.index(wider.len())]),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whenever a tuple was encoded, and whatever the stream became since, it says the same.
    #[test]
    fn a_tuple_of_any_older_definition_is_read_as_what_it_was(
        first in prop::sample::select(ColumnType::ALL.to_vec()),
        steps in prop::collection::vec(step(), 1..12),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 13),
    ) {
        let mut definitions = vec![of_column(first)];
        for step in &steps {
            definitions.push(take(step, &definitions[definitions.len() - 1]));
        }
        let newest = Arc::clone(&definitions[definitions.len() - 1]);
        for stream in &definitions {
            let member = |(column, pick): (&Column, &prop::sample::Index)| {
                let values = values_of(column.kind);
                format!("\"{}\":{}", column.name, values[pick.index(values.len())])
            };
            let members: Vec<String> = stream.columns().iter().zip(&picks).map(member).collect();
            let record = format!("{{{},\"x\":1}}", members.join(","));
            let mut tuple = Vec::new();
            let step = encoder(stream).encode_json(record.as_bytes(), true, prefix(), &mut tuple);
            prop_assert_eq!(step, JsonStep::Encoded { consumed: record.len() }, "{}", record);
            let mut data = Vec::new();
            let set = stream.column_set();
            decode_tuple(&newest.shape, set, &tuple, &mut data).expect("a tuple of the stream");
            prop_assert_eq!(String::from_utf8(data).unwrap(), decoded(stream, &tuple));
        }
    }
}

#[test]
fn a_set_that_the_stream_never_had_is_told_and_nothing_is_read() {
    let stream = of_column(ColumnType::Integer);
    let mut tuple = Vec::new();
    encoder(&stream).encode_json(b"{\"a\":1}", true, prefix(), &mut tuple);
    for set in [ColumnSet::new(1, 1), ColumnSet::new(2, 0), ColumnSet(u32::MAX)] {
        let error = decode_tuple(&stream.shape, set, &tuple, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("never had the column set"), "{error}");
    }
}

/// A sender that goes on as before must not be refused because the column holds more now.
#[test]
fn a_column_that_became_text_takes_what_it_took_before_as_its_text() {
    for (was, value, text) in [
        (ColumnType::Integer, "42", "42"),
        (ColumnType::Integer, "1e3", "1000"),
        (ColumnType::Numeric, "1.50", "1.50"),
        (ColumnType::DoublePrecision, "1e300", "1e+300"),
        (ColumnType::Boolean, "true", "true"),
        (ColumnType::Jsonb, "{\"x\": [1, \"y\"]}", "{\"x\": [1, \"y\"]}"),
        (ColumnType::Jsonb, "\"text\"", "text"),
        (ColumnType::Integer, "\" 42 \"", " 42 "),
        (ColumnType::Date, "\"noon\"", "noon"),
    ] {
        let stream = widened(&of_column(was), 0, ColumnType::Text);
        let mut encoder = encoder(&stream);
        let data = round_trip(&stream, &mut encoder, &format!("{{\"a\":{value}}}"));
        assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), json!({"a": text}), "{was:?}");
    }
    let after_two = widened(&of_column(ColumnType::SmallInt), 0, ColumnType::Integer);
    let after_two = widened(&after_two, 0, ColumnType::Text);
    let data = round_trip(&after_two, &mut encoder(&after_two), "{\"a\":70000}");
    assert_eq!(data, "{\"a\":\"70000\"}", "what it took last");
    for (was, value) in [
        (ColumnType::Integer, "1.5"),
        (ColumnType::Integer, "true"),
        (ColumnType::SmallInt, "70000"),
        (ColumnType::Date, "1"),
        (ColumnType::Numeric, "[1]"),
    ] {
        let stream = widened(&of_column(was), 0, ColumnType::Text);
        let error = refused(&mut encoder(&stream), format!("{{\"a\":{value}}}").as_bytes());
        assert_eq!(error.code, RecordErrorCode::InvalidType, "{was:?} {value}: {error:?}");
        assert_eq!(error.column.as_deref(), Some("a"));
    }
    let text = of_column(ColumnType::Text);
    refused(&mut encoder(&text), b"{\"a\":42}");
}
