//! What the encoder makes of a value is what PostgreSQL itself makes of it, byte for byte; what the encoder takes,
//! COPY takes.

use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::{Executor, PgConnection, Row};
use tidegate::record::{StreamId, UnixMicros};
use tidegate::streams::columns::{Column, ColumnType};
use tidegate::streams::decode::decode_tuple;
use tidegate::streams::encode::{
    EncodeLimits, JsonStep, RecordEncoder, RecordError, RecordErrorCode, TuplePrefix,
};
use tidegate::streams::{PayloadType, Shape, Stream, UnknownKeys};
use uuid::Uuid;

/// Random texts a type.
const RANDOM_TEXTS: usize = 1_500;
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: &[u8] = &(-1_i16).to_be_bytes();
const RECEIVED_AT: UnixMicros = UnixMicros(1_700_000_000_123_456);

fn stream(shape: Shape) -> Arc<Stream> {
    Arc::new(Stream {
        id: StreamId(1),
        name: "s".parse().unwrap(),
        shape,
        key: None,
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    })
}

fn stream_of(kind: ColumnType) -> Arc<Stream> {
    let columns = vec![Column { name: "v".into(), kind, default: None }];
    stream(Shape::Typed { columns, unknown: UnknownKeys::Extra })
}

fn encoder(stream: &Arc<Stream>) -> RecordEncoder {
    RecordEncoder::new(stream, EncodeLimits { record_bytes_max: 1 << 20 }).unwrap()
}

/// The tuple of record number `index`, whose only CSV field is `text`.
fn encode(encoder: &mut RecordEncoder, index: usize, text: &str) -> Result<Vec<u8>, RecordError> {
    let header = encoder.csv_header(&["v"], None).unwrap();
    let mut tuple = Vec::new();
    encoder.encode_csv(&header, |_| text.as_bytes(), 1, prefix(index), &mut tuple)?;
    Ok(tuple)
}

fn prefix(index: usize) -> TuplePrefix {
    TuplePrefix { id: Uuid::from_u128(index as u128), received_at: RECEIVED_AT }
}

/// Every type with its send function, texts that the encoder must judge as PostgreSQL does, and a pattern of texts that
/// are nearly right.
fn cases() -> Vec<(ColumnType, &'static str, Vec<String>, &'static str)> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let numbers = |digits: &str| {
        texts(&[
            digits,
            &format!("-{digits}"),
            &format!(" +{digits}\t"),
            "5.0",
            "1e2",
            "-",
            "",
            "٣",
        ])
    };
    let float = "[+-]?([0-9]{1,20})?(\\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?|[+]?nan|[+-]?(inf|infinity|INF)";
    let moment = "(00)?[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,9})?)?( ?[+-][01][0-9](:[0-5][0-9](:[0-5][0-9])?|[0-5][0-9])?|Z)?)?( BC)?";
    let date = "[0-9]{4,7}-[01][0-9]-[0-3][0-9]( BC)?";
    vec![
        (
            ColumnType::Boolean,
            "boolsend",
            texts(&[
                "t", "TRUE", " yes", "o", "of", "on", "off", "1", "0", "2", "01", "truex", "N",
            ]),
            "(t|tr|true|y|yes|on|1|f|fal|n|no|of|off|0|o|2| )[ \t]?",
        ),
        (
            ColumnType::SmallInt,
            "int2send",
            [numbers("32767"), numbers("32768"), numbers("32769")].concat(),
            "[+-]?[0-9]{1,6}",
        ),
        (
            ColumnType::Integer,
            "int4send",
            [numbers("2147483647"), numbers("2147483648")].concat(),
            "[+-]?[0-9]{1,11}",
        ),
        (
            ColumnType::BigInt,
            "int8send",
            [numbers("9223372036854775807"), numbers("9223372036854775808")].concat(),
            "[+-]?[0-9]{15,20}",
        ),
        (
            ColumnType::Real,
            "float4send",
            texts(&[
                "3.4028235e38",
                "3.4028236e38",
                "1e-45",
                "1e-46",
                "7e-46",
                "16777217",
                "0.1",
                "-0",
                "nan",
                "-inf",
                "1e400",
                ".",
                "8.5899973e9",
                "1.00000017881393432617187499",
            ]),
            float,
        ),
        (
            ColumnType::DoublePrecision,
            "float8send",
            texts(&[
                "1.7976931348623157e308",
                "1.8e308",
                "-1e309",
                "5e-324",
                "2e-324",
                "1e-400",
                "0e-999",
                "2.2250738585072014e-308",
                "9007199254740993",
                "0.30000000000000004",
                "Infinity",
                "NaN",
                "1e",
                "5.",
                ".5",
                "1,5",
            ]),
            float,
        ),
        (
            ColumnType::Numeric,
            "numeric_send",
            [
                texts(&[
                    "1.50",
                    "0.00",
                    "-0",
                    "-0.000",
                    "10000",
                    "9999.9999",
                    "1e131071",
                    "1e131072",
                    "1e-16383",
                    "1e-16384",
                    "0e-16384",
                    "0e1073741822",
                    "0e1073741823",
                    "1e99999999999",
                    "12e-3",
                    "nan",
                    "+nan",
                    "inf",
                    "-Infinity",
                    "1e",
                    ".5",
                    "5.",
                    ".",
                    "123456789012345678901234567890.123456789012345678901234567890",
                ]),
                vec![
                    "9".repeat(131_072),
                    "9".repeat(131_073),
                    format!("-0.{}", "5".repeat(16_383)),
                ],
                vec![format!("{}.{}", "8".repeat(131_072), "7".repeat(16_383))],
            ]
            .concat(),
            "[+-]?([0-9]{1,30})?(\\.[0-9]{0,30})?([eE][+-]?[0-9]{0,3})?",
        ),
        (
            ColumnType::Text,
            "textsend",
            texts(&["a", " padded ", "é\u{1F600}\n\"\\", "\u{7f}"]),
            "\\PC{1,20}",
        ),
        (
            ColumnType::TimestampTz,
            "timestamptz_send",
            texts(&[
                "2013-01-01T06:00:00Z",
                "2013-01-01 06:00",
                "2013-01-01T06:00:00.123456789+05:30",
                "2012-02-29",
                "2013-02-29",
                "1900-02-29",
                "2000-02-29",
                "2013-01-01T24:00:00",
                "2013-01-01T24:00:01",
                "2013-01-01T23:59:60Z",
                "2013-01-01T23:59:60.5Z",
                "2013-01-01T08:18:60.5Z",
                "2013-01-01T24:00:60Z",
                "2013-01-01T23:59:61Z",
                "2013-01-01T23:59:59.9999999Z",
                "4714-11-24 00:00:00Z BC",
                "4714-11-24 00:00:00+00:00:01 BC",
                "4714-11-23 23:00:00-02 BC",
                "294276-12-31T23:59:59.999999Z",
                "294276-12-31T23:59:59.9999999Z",
                "294277-01-01T00:00:00+01",
                "0001-01-01 BC",
                "0000-01-01",
                "2013-01-01T06:00:00+15:59:59",
                "2013-01-01T06:00:00-16",
                "infinity",
                "-Infinity",
                "+infinity",
                "noon",
            ]),
            moment,
        ),
        (
            ColumnType::Date,
            "date_send",
            texts(&[
                "2013-01-01",
                "5874897-12-31",
                "5874898-01-01",
                "4714-11-24 BC",
                "4714-11-23 BC",
                "0001-12-31 BC",
                "2013-02-29",
                "infinity",
                "-infinity",
                "2013-13-01",
                "2013-00-10",
            ]),
            date,
        ),
        (
            ColumnType::Uuid,
            "uuid_send",
            texts(&[
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
                "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
                "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            ]),
            "\\{?([0-9a-fA-F]{4}-?){7,8}\\}?",
        ),
        (
            ColumnType::Jsonb,
            "jsonb_send",
            [
                texts(&[
                    "null",
                    "1.50",
                    "\"\\ud83d\\ude00\"",
                    "\"\\u0000\"",
                    "\"\\ud800\"",
                    "[1e131071]",
                    "[1e131072]",
                    "[1e-16384]",
                    "[0e140000]",
                    "{\"a\":1,\"a\":2}",
                    "{\"a\":1,}",
                    "01",
                    "NaN",
                    "[1] 2",
                ]),
                vec![format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))],
            ]
            .concat(),
            "(\\[|\\{\"a\":)(\"[a-c\\\\nu0]{0,6}\"|-?[0-9.eE+-]{1,6}|true|null|\\{\\})(,1|,\"a\":2)?[\\]}]",
        ),
    ]
}

fn random_texts(pattern: &str) -> Vec<String> {
    let strategy = proptest::string::string_regex(pattern).unwrap();
    let mut runner = TestRunner::deterministic();
    (0..RANDOM_TEXTS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// PostgreSQL's own binary form of each text, `None` where it refuses the text.
async fn judged_by_postgresql(
    connection: &mut PgConnection,
    kind: ColumnType,
    send: &str,
    texts: &[String],
) -> Vec<Option<Vec<u8>>> {
    let name = kind.as_str();
    let function = format!(
        "create or replace function pg_temp.binary_of(value text) returns bytea language plpgsql as $$ begin \
         return {send}(value::{name}); exception when others then return null; end $$"
    );
    connection.execute(sqlx::AssertSqlSafe(function)).await.unwrap();
    sqlx::query_scalar(
        "select pg_temp.binary_of(text) from unnest($1::text[]) with ordinality as list (text, number) order by number",
    )
    .bind(texts)
    .fetch_all(connection)
    .await
    .unwrap()
}

async fn copy(connection: &mut PgConnection, table: &str, tuples: &[Vec<u8>]) {
    let statement = format!("copy {table} from stdin (format binary)");
    let mut copy = connection.copy_in_raw(&statement).await.unwrap();
    let body = [COPY_HEADER, &tuples.concat(), COPY_TRAILER].concat();
    copy.send(body).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), tuples.len() as u64);
}

#[tokio::test]
async fn every_type_is_encoded_as_postgresql_itself_would() {
    let pool = crate::support::database().await;
    let mut connection = pool.acquire().await.unwrap();
    connection.execute("set timezone = 'UTC'").await.unwrap();
    for (kind, send, listed, pattern) in cases() {
        let stream = stream_of(kind);
        let mut encoder = encoder(&stream);
        let texts = [listed, random_texts(pattern)].concat();
        let judged = judged_by_postgresql(&mut connection, kind, send, &texts).await;
        let mut accepted = Vec::new();
        for (index, (text, judged)) in texts.iter().zip(judged).enumerate() {
            // CSV's empty field is NULL before any type is asked.
            if text.is_empty() {
                continue;
            }
            match (encode(&mut encoder, index, text), judged) {
                (Ok(tuple), Some(expected)) => accepted.push((index, tuple, expected)),
                (Ok(_), None) => panic!("{kind:?}: only the encoder takes {text:?}"),
                (Err(error), Some(_)) => {
                    panic!("{kind:?}: only PostgreSQL takes {text:?}: {error}");
                }
                (Err(_), None) => {}
            }
        }
        assert!(accepted.len() > 3, "{kind:?}");
        check_copied(&mut connection, &stream, kind, send, &accepted).await;
    }
}

/// Copies the tuples; what then is in the table must be what PostgreSQL made of the texts, and of what they decode to.
async fn check_copied(
    connection: &mut PgConnection,
    stream: &Stream,
    kind: ColumnType,
    send: &str,
    accepted: &[(usize, Vec<u8>, Vec<u8>)],
) {
    let name = kind.as_str();
    let create = format!(
        "drop table if exists pg_temp.copied; \
         create temp table copied (id uuid, received_at timestamptz, extra jsonb, v {name})"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut *connection).await.unwrap();
    let tuples: Vec<Vec<u8>> = accepted.iter().map(|(_, tuple, _)| tuple.clone()).collect();
    copy(connection, "pg_temp.copied", &tuples).await;

    let query =
        format!("select id, received_at, extra is null, {send}(v) from pg_temp.copied order by id");
    let rows = connection.fetch_all(sqlx::AssertSqlSafe(query)).await.unwrap();
    let mut shown = Vec::new();
    for (row, (index, tuple, expected)) in rows.iter().zip(accepted) {
        assert_eq!(row.get::<Uuid, _>(0), prefix(*index).id);
        let received_at = row.get::<time::OffsetDateTime, _>(1).unix_timestamp_nanos() / 1_000;
        assert_eq!(received_at, i128::from(RECEIVED_AT.0));
        assert!(row.get::<bool, _>(2));
        assert_eq!(row.get::<Vec<u8>, _>(3), *expected, "{kind:?}");
        let mut data = Vec::new();
        decode_tuple(&stream.shape, 1, tuple, &mut data).unwrap();
        shown.push(String::from_utf8(data).unwrap());
    }
    let member =
        if kind == ColumnType::Jsonb { "data::jsonb -> 'v'" } else { "data::json ->> 'v'" };
    let query = format!(
        "select {send}(({member})::{name}) from unnest($1::text[]) with ordinality as list (data, number) order by number"
    );
    let decoded: Vec<Vec<u8>> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(&shown)
        .fetch_all(connection)
        .await
        .unwrap();
    for ((decoded, (_, _, expected)), shown) in decoded.iter().zip(accepted).zip(&shown) {
        assert_eq!(decoded, expected, "{kind:?}: {shown}");
    }
}

#[tokio::test]
async fn documents_are_taken_exactly_when_jsonb_takes_them() {
    let pool = crate::support::database().await;
    let mut connection = pool.acquire().await.unwrap();
    let deep =
        |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let texts: Vec<String> = [
        "{}",
        "{ \"a\" : [1, -0, 1.50, 1E+2, 1e-16383, 1e131071] }",
        "{\"a\":1,\"a\":{\"b\":2}}",
        "{\"\":\"\\ud83d\\ude00 \u{1F600} \\\" \\\\ \\/ \u{7f}\"}",
        "{\"a\":0e140000}",
        "{\"a\":1e131072}",
        "{\"a\":1e-16384}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"\\u0000\":1}",
        "{\"a\":\"\n\"}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([deep(1_000)])
    .collect();
    let judged =
        judged_by_postgresql(&mut connection, ColumnType::Jsonb, "jsonb_send", &texts).await;
    let stream = stream(Shape::Document { payload: PayloadType::Jsonb });
    let mut encoder = encoder(&stream);
    let mut accepted = Vec::new();
    for (index, (text, judged)) in texts.iter().zip(judged).enumerate() {
        let mut tuple = Vec::new();
        let step = encoder.encode_json(text.as_bytes(), true, prefix(index), &mut tuple);
        match (step, judged) {
            (JsonStep::Encoded { .. }, Some(expected)) => accepted.push((tuple, expected)),
            (JsonStep::Refused { consumed, .. }, None) => assert_eq!(consumed, text.len()),
            (step, judged) => {
                panic!("{text:?}: {step:?}, PostgreSQL takes it: {}", judged.is_some())
            }
        }
    }
    let step = encoder.encode_json(deep(1_001).as_bytes(), true, prefix(0), &mut Vec::new());
    assert!(
        matches!(step, JsonStep::Refused { error, .. } if error.code == RecordErrorCode::TooDeep)
    );

    connection
        .execute("create temp table documents (id uuid, received_at timestamptz, payload jsonb)")
        .await
        .unwrap();
    let tuples: Vec<Vec<u8>> = accepted.iter().map(|(tuple, _)| tuple.clone()).collect();
    copy(&mut connection, "pg_temp.documents", &tuples).await;
    let query = "select jsonb_send(payload) from pg_temp.documents order by id";
    let stored: Vec<Vec<u8>> = sqlx::query_scalar(query).fetch_all(&mut *connection).await.unwrap();
    let expected: Vec<Vec<u8>> = accepted.into_iter().map(|(_, expected)| expected).collect();
    assert_eq!(stored, expected);
}
