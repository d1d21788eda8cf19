//! A corpus of nasty records, each among good neighbours in every format and compression that can carry it: the
//! neighbours are in the table exactly once, the nasty ones in the quarantine exactly once, with their place and bytes.

use serde_json::{Value, json};

use crate::support::{Compression, Gateway, compressed};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
/// The columns of the stream, in the order of the rows below.
const HEADER: &str = "n,b,s,l,r,d,x,t,ts,day,u,j";
const TYPES: [&str; COLUMNS] = [
    "integer",
    "boolean",
    "smallint",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "text",
    "timestamptz",
    "date",
    "uuid",
    "jsonb",
];
const COLUMNS: usize = 12;

/// What a nasty record is in one format.
#[derive(Debug, Clone)]
struct Nasty {
    name: &'static str,
    raw: Vec<u8>,
    code: &'static str,
    column: Option<&'static str>,
    /// Not JSON at all: in an array it would break the array.
    breaks_arrays: bool,
}

fn object(
    name: &'static str,
    raw: impl Into<Vec<u8>>,
    code: &'static str,
    column: &'static str,
) -> Nasty {
    let column = (!column.is_empty()).then_some(column);
    Nasty { name, raw: raw.into(), code, column, breaks_arrays: false }
}

fn no_json(name: &'static str, raw: impl Into<Vec<u8>>) -> Nasty {
    Nasty { breaks_arrays: true, ..object(name, raw, "invalid_json", "") }
}

fn objects() -> Vec<Nasty> {
    let deep = format!("{{\"j\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let digits = format!("{{\"x\":{}}}", "9".repeat(131_073));
    let long = format!("{{\"n\":1,\"t\":7,\"j\":\"{}\"}}", "x".repeat(100_000));
    let many = format!("{{\"n\":1,{}\"s\":\"\"}}", "\"k\":[{}],".repeat(5_000));
    vec![
        object("a smallint too large", r#"{"n":1,"s":32768}"#, "out_of_range", "s"),
        object("an integer too small", r#"{"n":-2147483649}"#, "out_of_range", "n"),
        object("a bigint too large", r#"{"n":1,"l":9223372036854775808}"#, "out_of_range", "l"),
        object("half a number", r#"{"n":1.5}"#, "invalid_type", "n"),
        object("a real too large", r#"{"n":1,"r":3.5e38}"#, "out_of_range", "r"),
        object("a real too small", r#"{"n":1,"r":"1e-60"}"#, "out_of_range", "r"),
        object("a double too large", r#"{"n":1,"d":-1e309}"#, "out_of_range", "d"),
        object("a numeric with too many digits", digits, "number_out_of_range", "x"),
        object("a zero character", r#"{"n":1,"t":"\u0000"}"#, "invalid_unicode", "t"),
        object("half a pair", r#"{"n":1,"t":"\ud800"}"#, "invalid_unicode", "t"),
        object("half a pair in an unknown key", r#"{"n":1,"\udfff":1}"#, "invalid_unicode", ""),
        object("no UTF-8", b"{\"n\":1,\"t\":\"\xc0\xaf\"}", "invalid_utf8", "t"),
        object("a surrogate in UTF-8", b"{\"n\":1,\"j\":\"\xed\xa0\x80\"}", "invalid_utf8", "j"),
        object("a day that is none", r#"{"n":1,"day":"2013-02-29"}"#, "out_of_range", "day"),
        object("a time after the last", r#"{"n":1,"ts":"294277-01-01"}"#, "out_of_range", "ts"),
        object("no time", r#"{"n":1,"ts":"noon"}"#, "invalid_type", "ts"),
        object("no truth", r#"{"n":1,"b":"maybe"}"#, "invalid_type", "b"),
        object("no uuid", r#"{"n":1,"u":"a0eebc99-9c0b-4ef8"}"#, "invalid_type", "u"),
        object("too deep", deep, "too_deep", "j"),
        object(
            "a number that jsonb has not",
            r#"{"n":1,"j":1e999999}"#,
            "number_out_of_range",
            "j",
        ),
        object("100,000 characters", long, "invalid_type", "t"),
        object("the same unknown key 5,000 times", many, "invalid_type", "s"),
        object("an array", r#"[{"n":1}]"#, "not_an_object", ""),
        object("a number", "7", "not_an_object", ""),
        object("null", "null", "not_an_object", ""),
        no_json("an object that does not end", r#"{"n":1"#),
        no_json("an object that ends twice", r#"{"n":1}}"#),
        no_json("two objects", r#"{"n":1}{"n":2}"#),
        no_json("a number that begins with 0", r#"{"n":01}"#),
        no_json("a comma too many", r#"{"n":1,}"#),
        no_json("other quotes", "{'n':1}"),
        no_json("no JSON", "\u{1f4a3}"),
        no_json("an unknown escape", r#"{"t":"\x41"}"#),
        no_json("nothing but brackets", "[".repeat(100_000)),
    ]
}

/// A row with this text in one column.
fn row(name: &'static str, column: &'static str, text: &[u8], code: &'static str) -> Nasty {
    let place = HEADER.split(',').position(|name| name == column).unwrap();
    let before = if place == 0 { Vec::new() } else { [b"1", &b",".repeat(place)[..]].concat() };
    let raw = [&before[..], text, &b",".repeat(COLUMNS - 1 - place)[..]].concat();
    object(name, raw, code, column)
}

fn rows() -> Vec<Nasty> {
    let digits = "9".repeat(131_073);
    let deep = format!("\"{}{}\"", "[".repeat(20_000), "]".repeat(20_000));
    vec![
        row("a smallint too large", "s", b"32768", "out_of_range"),
        row("no integer", "n", b"1e2", "invalid_type"),
        row("a bigint too large", "l", b"9223372036854775808", "out_of_range"),
        row("a real too large", "r", b"3.5e38", "out_of_range"),
        row("a double too small", "d", b"1e-400", "out_of_range"),
        row("a numeric with too many digits", "x", digits.as_bytes(), "out_of_range"),
        row("a zero character", "t", b"a\0b", "invalid_unicode"),
        row("no UTF-8", "t", b"\xff\xfe", "invalid_utf8"),
        row("a day that is none", "day", b"2013-02-29", "out_of_range"),
        row("no time", "ts", b"noon", "invalid_type"),
        row("no truth", "b", b"maybe", "invalid_type"),
        row("no uuid", "u", b"a0eebc99", "invalid_type"),
        row("no JSON", "j", b"{'n':1}", "invalid_type"),
        row("too deep", "j", deep.as_bytes(), "too_deep"),
        object("too few fields", "1,2,3", "wrong_field_count", ""),
        object("too many fields", ",".repeat(COLUMNS), "wrong_field_count", ""),
    ]
}

/// A body of good records and nasty ones between them, and what the quarantine must say of each nasty one.
struct Body {
    bytes: Vec<u8>,
    good: i64,
    kept: Vec<Value>,
}

fn body(format: &str, first: i64) -> Body {
    let mut nasties = if format == CSV { rows() } else { objects() };
    nasties.retain(|nasty| format != JSON || !nasty.breaks_arrays);
    let (open, between, close) = match format {
        JSON => ("[", ",", "]"),
        NDJSON => ("", "\n", ""),
        _ => (HEADER, "\n", "\n"),
    };
    let good = |n: i64| match format {
        CSV => format!("{n}{}", ",".repeat(COLUMNS - 1)).into_bytes(),
        _ => format!("{{\"n\":{n},\"t\":\"good\"}}").into_bytes(),
    };
    let mut records: Vec<Vec<u8>> = vec![good(first)];
    let mut kept = Vec::new();
    for (n, nasty) in (first + 1..).zip(&nasties) {
        records.extend([nasty.raw.clone(), good(n)]);
        let record = records.len() - 1;
        // CSV has its header on line 1.
        let line = match format {
            JSON => Value::Null,
            NDJSON => json!(record),
            _ => json!(record + 1),
        };
        kept.push(json!({
            "name": nasty.name, "record": record, "line": line, "code": nasty.code, "column": nasty.column,
            "bytes": nasty.raw.len(),
        }));
    }
    let good = i64::try_from(nasties.len() + 1).unwrap();
    let mut bytes = open.as_bytes().to_vec();
    if format == CSV {
        bytes.push(b'\n');
    }
    bytes.extend(records.join(between.as_bytes()));
    bytes.extend(close.as_bytes());
    Body { bytes, good, kept }
}

#[tokio::test]
async fn every_nasty_record_is_kept_and_harms_no_neighbour() {
    let gateway = Gateway::start().await;
    let columns: Vec<Value> = HEADER
        .split(',')
        .zip(TYPES)
        .map(|(name, kind)| json!({"name": name, "type": kind}))
        .collect();
    gateway.create_stream(&json!({"name": "corpus", "columns": columns})).await;
    let mut first = 1;
    for format in [JSON, NDJSON, CSV] {
        for compression in std::iter::once(None).chain(Compression::ALL.map(Some)) {
            let context = format!("{format} {compression:?}");
            let body = body(format, first);
            let request = match compression {
                None => gateway.records("corpus").body(format, body.bytes.clone()),
                Some(compression) => {
                    let small = compressed(compression, &body.bytes).await;
                    gateway.records("corpus").body(format, small).encoding(compression.name())
                }
            };
            let reply = request.query("ack", "commit").send().await.expect(201);
            assert_eq!(reply["committed"], body.good, "{context}");
            assert_eq!(reply["quarantined"], body.kept.len(), "{context}");
            // What the reply says,
            for (error, kept) in reply["errors"].as_array().unwrap().iter().zip(&body.kept) {
                for member in ["record", "line", "code", "column"] {
                    assert_eq!(error[member], kept[member], "{context}: {kept} {error}");
                }
            }
            // what is in the quarantine,
            let found: Vec<Value> = gateway
                .column(
                    "select jsonb_build_object('record', record, 'line', line, 'code', code, 'column', column_name,
                         'bytes', length(raw)) from tidegate.quarantine where not truncated order by record",
                )
                .await;
            let expected: Vec<Value> = body
                .kept
                .iter()
                .cloned()
                .map(|mut kept| {
                    kept.as_object_mut().unwrap().remove("name");
                    kept
                })
                .collect();
            assert_eq!(found, expected, "{context}");
            let raw: Vec<Vec<u8>> =
                gateway.column("select raw from tidegate.quarantine order by record").await;
            for (raw, kept) in raw.iter().zip(&body.kept) {
                let sent = body.bytes.windows(raw.len()).any(|part| part == &raw[..]);
                assert!(sent, "{context}: {kept} is kept as it was sent");
            }
            // and what is in the table.
            let rows: Vec<i64> = gateway
                .column(format!(
                    "select n::bigint from streams.corpus where n >= {first} order by n"
                ))
                .await;
            assert_eq!(rows, (first..first + body.good).collect::<Vec<i64>>(), "{context}");
            first += body.good;
            gateway.execute("delete from tidegate.quarantine").await;
        }
    }
    assert_eq!(gateway.rows("corpus").await, first - 1);
}

/// More bytes than a row can have, in fields that are too short to be stored elsewhere: only PostgreSQL can tell.
#[tokio::test]
async fn a_row_too_wide_for_a_page_is_kept_and_harms_no_neighbour() {
    const WIDE: usize = 500;
    let gateway = Gateway::start().await;
    let columns: Vec<Value> =
        (0..WIDE).map(|n| json!({"name": format!("c{n}"), "type": "text"})).collect();
    gateway.create_stream(&json!({"name": "wide", "columns": columns})).await;
    let record = |text: &str| -> Value {
        (0..WIDE).map(|n| (format!("c{n}"), json!(text))).collect::<serde_json::Map<_, _>>().into()
    };
    let (narrow, wide) = (record("0123456789"), record("0123456789abcdefghi"));
    let reply = gateway.commit("wide", &json!([narrow, wide, narrow])).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)), "{reply}");
    assert_eq!(gateway.rows("wide").await, 2);
    let kept: Vec<String> =
        gateway.column("select sqlstate || ' ' || code from tidegate.quarantine").await;
    assert_eq!(kept, ["54000 refused_by_postgresql"]);
}
