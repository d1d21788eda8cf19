//! What the encoder makes of a value is what PostgreSQL itself makes of it, byte for byte; what the encoder takes,
//! COPY takes; and what is read back from a tuple is still the same value.

use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::decode::decode_tuple;
use tidegate_codec::encode::{
    EncodeLimits, JsonStep, RecordEncoder, RecordError, RecordErrorCode, TuplePrefix,
};
use tidegate_codec::{PayloadType, Shape, Stream, UnknownKeys};
use tidegate_record::{StreamId, UnixMicros};
use uuid::Uuid;

/// Random texts a type.
const RANDOM_TEXTS: usize = 1_500;
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: &[u8] = &(-1_i16).to_be_bytes();
const RECEIVED_AT: UnixMicros = UnixMicros(1_700_000_000_123_456);
const LIMITS: EncodeLimits = EncodeLimits { record_bytes_max: 1 << 20, members_max: u64::MAX };

/// Texts of a type that the encoder must judge exactly as PostgreSQL does.
struct Case {
    kind: ColumnType,
    /// The type's output function in binary.
    send: &'static str,
    /// Texts at the limits and in all spellings, separated by `|`.
    listed: &'static str,
    /// A pattern of texts that are right or nearly so.
    pattern: &'static str,
}

const INTEGERS: &str = "-?[0-9]{1,20}|[+-]?(3276|214748364|922337203685477580)[0-9]| [0-9]{1,4}\t";
const FLOATS: &str =
    "[+-]?([0-9]{1,20})?(\\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?|\\+?nan|[+-]?(inf|infinity|INF)";
const CASES: [Case; 12] = [
    Case {
        kind: ColumnType::Boolean,
        send: "boolsend",
        listed: "t|TRUE| yes|o|of|on|off|1|0|2|01|truex|N",
        pattern: "(t|tr|true|y|yes|on|1|f|fal|n|no|of|off|0|o|2| )[ \t]?",
    },
    Case {
        kind: ColumnType::SmallInt,
        send: "int2send",
        listed: "32767|32768|-32768|-32769|+7 |5.0|1e2|-|٣",
        pattern: INTEGERS,
    },
    Case {
        kind: ColumnType::Integer,
        send: "int4send",
        listed: "2147483647|2147483648|-2147483648|-2147483649|007|- 1",
        pattern: INTEGERS,
    },
    Case {
        kind: ColumnType::BigInt,
        send: "int8send",
        listed: "9223372036854775807|9223372036854775808|-9223372036854775808|-9223372036854775809",
        pattern: INTEGERS,
    },
    Case {
        kind: ColumnType::Real,
        send: "float4send",
        listed: "3.4028235e38|3.4028236e38|1e-45|1e-46|7e-46|16777217|0.1|-0|nan|-inf|1e400|.|8.5899973e9|\
            1.00000017881393432617187499",
        pattern: FLOATS,
    },
    Case {
        kind: ColumnType::DoublePrecision,
        send: "float8send",
        listed: "1.7976931348623157e308|1.8e308|-1e309|5e-324|2e-324|1e-400|0e-999|2.2250738585072014e-308|\
            9007199254740993|0.30000000000000004|Infinity|NaN|1e|5.|.5|1,5",
        pattern: FLOATS,
    },
    Case {
        kind: ColumnType::Numeric,
        send: "numeric_send",
        listed: "1.50|0.00|-0|-0.000|10000|9999.9999|1e131071|1e131072|1e-16383|1e-16384|0e-16384|0e1073741822|\
            0e1073741823|1e99999999999|12e-3|nan|+nan|inf|-Infinity|1e|.5|5.|.|\
            123456789012345678901234567890.123456789012345678901234567890",
        pattern: "[+-]?([0-9]{1,30})?(\\.[0-9]{0,30})?([eE][+-]?[0-9]{0,3})?",
    },
    Case {
        kind: ColumnType::Text,
        send: "textsend",
        listed: "a| padded |é\u{1F600}\n\"\\|\u{7f}",
        pattern: "\\PC{1,20}",
    },
    Case {
        kind: ColumnType::TimestampTz,
        send: "timestamptz_send",
        listed: "2013-01-01T06:00:00Z|2013-01-01 06:00|2013-01-01T06:00:00.123456789+05:30|2012-02-29|2013-02-29|\
            1900-02-29|2000-02-29|2013-01-01T24:00:00|2013-01-01T24:00:01|2013-01-01T23:59:60Z|2013-01-01T23:59:60.5Z|\
            2013-01-01T08:18:60.5Z|2013-01-01T24:00:60Z|2013-01-01T23:59:61Z|2013-01-01T23:59:59.9999999Z|\
            2013-01-01T24:00:00.0000001Z|4714-11-24 00:00:00Z BC|4714-11-24 00:00:00+00:00:01 BC|\
            4714-11-23 23:00:00-02 BC|294276-12-31T23:59:59.999999Z|294276-12-31T23:59:59.9999999Z|\
            294277-01-01T00:00:00+01|0001-01-01 BC|0000-01-01|2013-01-01T06:00:00+15:59:59|2013-01-01T06:00:00-16|\
            infinity|-Infinity|+infinity|noon|2016-12-31T23:59:60Z|2016-12-31T23:59:60.999999Z|\
            294276-12-31T23:59:60Z|294276-12-31T23:59:59.999999-15:59:59|294276-12-31T23:59:59.999999+15:59:59|\
            4714-11-24 00:00:00+15:59:59 BC|4714-11-24 00:00:00-15:59:59 BC|4714-11-24 00:00:00.0000001Z BC|\
            4714-11-23 23:59:59.9999999Z BC|1970-01-01T00:00:00.0000005Z|1969-12-31T23:59:59.9999995Z|\
            2013-01-01T06:00:00+1560|2013-01-01T06:00:00+00:60|2013-01-01 06:00:00 UTC|2013-01-01T06:00:00utc|\
            2013-01-01 06:00 GMT BC|2013-01-01 06:00:00.5gmt|2013-01-01T06:00+2|2013-01-01 6:00 -8:30:15|2013/1/1|\
            2013-1-1T6:00|2013/01-01|12345/1/1 6:00Z|2013-01-01T23:59:59.99999949999999999999999999999Z|\
            2013-01-01T23:59:59.99999950000000000000000000001Z|2013-01-01T06:00:00.12345650000000000000000000000UTC|\
            20130101T060000Z|20130101T060060.5+2|20130230T060000|00440315T060000 BC|20130101T240000.0000001",
        pattern: "(((00)?[0-9]{4}-[01]?[0-9]-[0-3]?[0-9]|[0-9]{4}/[01]?[0-9]/[0-3]?[0-9])\
            ([T ][0-2]?[0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,25})?)?\
            ( ?[+-]([01]?[0-9](:[0-5][0-9](:[0-5][0-9])?)?|[01][0-9][0-5][0-9])| ?(Z|UTC|gmt))?)?|\
            [0-9]{4}[01][0-9][0-3][0-9]T([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9](\\.[0-9]{1,12})?( ?([+-][01]?[0-9]|Z|Utc))?)( BC)?",
    },
    Case {
        kind: ColumnType::Date,
        send: "date_send",
        listed: "2013-01-01|5874897-12-31|5874898-01-01|4714-11-24 BC|4714-11-23 BC|0001-12-31 BC|2013-02-29|infinity|\
            -infinity|2013-13-01|2013-00-10|5874897-12-31 BC|0000-01-01|0001-01-01|0004-02-29 BC|0001-02-29 BC|\
            4714-12-31 BC|99999-12-31|2013/1/31|2013-1-1|2013/1-1",
        pattern: "([0-9]{4,7}-[01]?[0-9]-[0-3]?[0-9]|[0-9]{4}/[01]?[0-9]/[0-3]?[0-9])( BC)?",
    },
    Case {
        kind: ColumnType::Uuid,
        send: "uuid_send",
        listed: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{A0EEBC999C0B4EF8BB6D6BB9BD380A11}|\
            a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1|a0e-ebc999c0b4ef8bb6d6bb9bd380a11|{a0eebc999c0b4ef8bb6d6bb9bd380a11",
        pattern: "\\{?([0-9a-fA-F]{4}-?){7,8}\\}?",
    },
    Case {
        kind: ColumnType::Jsonb,
        send: "jsonb_send",
        listed: "null|1.50|\"\\ud83d\\ude00\"|\"\\u0000\"|\"\\ud800\"|[1e131071]|[1e131072]|[1e-16384]|[0e140000]|\
            {\"a\":1,\"a\":2}|{\"a\":1,}|01|NaN|[1] 2",
        pattern: "(\\[|\\{\"a\":)(\"[a-c\\\\nu0]{0,6}\"|-?[0-9.eE+-]{1,6}|true|null|\\{\\})(,1|,\"a\":2)?[\\]}]",
    },
];

impl Case {
    fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.listed.split('|').map(str::to_owned).collect();
        match self.kind {
            ColumnType::Numeric => texts.extend([
                "9".repeat(131_072),
                "9".repeat(131_073),
                format!("-0.{}", "5".repeat(16_383)),
                format!("{}.{}", "8".repeat(131_072), "7".repeat(16_383)),
            ]),
            ColumnType::Jsonb => {
                texts.push(format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)));
            }
            _ => {}
        }
        let random = proptest::string::string_regex(self.pattern).expect("a pattern");
        let mut runner = TestRunner::deterministic();
        let random =
            (0..RANDOM_TEXTS).map(|_| random.new_tree(&mut runner).expect("a text").current());
        texts.extend(random);
        // CSV's empty field is NULL before any type is asked.
        texts.retain(|text| !text.is_empty());
        texts
    }

    fn stream(&self) -> Arc<Stream> {
        let column = Column::new("v", self.kind);
        stream(Shape::typed(vec![column], UnknownKeys::Extra))
    }
}

fn stream(shape: Shape) -> Arc<Stream> {
    Arc::new(Stream {
        id: StreamId(1),
        name: "s".parse().expect("a name"),
        shape,
        key: None,
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    })
}

fn prefix(index: usize) -> TuplePrefix {
    TuplePrefix { id: Uuid::from_u128(index as u128), received_at: RECEIVED_AT }
}

/// The tuple of record number `index`, whose only CSV field is `text`.
fn encode(encoder: &mut RecordEncoder, index: usize, text: &str) -> Result<Vec<u8>, RecordError> {
    let header = encoder.csv_header(&["v"], None)?;
    let mut tuple = Vec::new();
    encoder.encode_csv(&header, |_| text.as_bytes(), |_| false, 1, prefix(index), &mut tuple)?;
    Ok(tuple)
}

/// A text that both take: its number, the encoder's tuple, and PostgreSQL's own binary form of the value.
struct Accepted {
    index: usize,
    tuple: Vec<u8>,
    expected: Vec<u8>,
}

/// PostgreSQL's own binary form of each text, `None` where it refuses the text.
async fn judged_by_postgresql(
    connection: &mut PgConnection,
    kind: ColumnType,
    send: &str,
    texts: &[String],
) -> Vec<Option<Vec<u8>>> {
    let function = format!(
        "create or replace function pg_temp.binary_of(value text) returns bytea language plpgsql as $$ begin \
         return {send}(value::{}); exception when others then return null; end $$",
        kind.as_str()
    );
    let created = connection.execute(AssertSqlSafe(function)).await;
    created.expect("the function is made");
    let query = "select pg_temp.binary_of(text) from unnest($1::text[]) with ordinality as list (text, number) \
                 order by number";
    let judged = sqlx::query_scalar(query).bind(texts).fetch_all(connection).await;
    judged.expect("texts are judged")
}

async fn copy(connection: &mut PgConnection, table: &str, tuples: &[&[u8]]) {
    let statement = format!("copy {table} from stdin (format binary)");
    let mut copy = connection.copy_in_raw(&statement).await.expect("COPY begins");
    let body = [COPY_HEADER, &tuples.concat(), COPY_TRAILER].concat();
    copy.send(body).await.expect("COPY takes the tuples");
    let copied = copy.finish().await.expect("COPY ends");
    assert_eq!(copied, tuples.len() as u64);
}

#[tokio::test]
async fn every_type_is_encoded_as_postgresql_itself_would() {
    let pool = crate::support::database().await;
    let mut connection = pool.acquire().await.unwrap();
    connection.execute("set timezone = 'UTC'").await.unwrap();
    for case in CASES {
        let kind = case.kind;
        let stream = case.stream();
        let mut encoder = RecordEncoder::new(&stream, LIMITS).unwrap();
        let texts = case.texts();
        let judged = judged_by_postgresql(&mut connection, kind, case.send, &texts).await;
        let mut accepted = Vec::new();
        for (index, (text, judged)) in texts.iter().zip(judged).enumerate() {
            match (encode(&mut encoder, index, text), judged) {
                (Ok(tuple), Some(expected)) => accepted.push(Accepted { index, tuple, expected }),
                (Ok(_), None) => panic!("{kind:?}: only the encoder takes {text:?}"),
                (Err(error), Some(_)) => {
                    panic!("{kind:?}: only PostgreSQL takes {text:?}: {error}")
                }
                (Err(_), None) => {}
            }
        }
        assert!(accepted.len() > 100, "{kind:?}: the pattern makes too few");
        check_copied(&mut connection, &case, &accepted).await;
        check_decoded(&mut connection, &case, &stream, &accepted).await;
    }
}

/// What COPY makes of the tuples must be what PostgreSQL makes of the texts.
async fn check_copied(connection: &mut PgConnection, case: &Case, accepted: &[Accepted]) {
    let (kind, send) = (case.kind, case.send);
    let create = format!(
        "drop table if exists pg_temp.copied; \
         create temp table copied (id uuid, received_at timestamptz, extra jsonb, v {})",
        kind.as_str()
    );
    let created = sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await;
    created.expect("the table is made");
    let tuples: Vec<&[u8]> = accepted.iter().map(|record| record.tuple.as_slice()).collect();
    copy(connection, "pg_temp.copied", &tuples).await;

    let query =
        format!("select id, received_at, extra is null, {send}(v) from pg_temp.copied order by id");
    let rows: Vec<PgRow> =
        connection.fetch_all(AssertSqlSafe(query)).await.expect("the rows are there");
    for (row, record) in rows.iter().zip(accepted) {
        assert_eq!(row.get::<Uuid, _>(0), prefix(record.index).id);
        let received_at = row.get::<time::OffsetDateTime, _>(1).unix_timestamp_nanos() / 1_000;
        assert_eq!(received_at, i128::from(RECEIVED_AT.0));
        assert!(row.get::<bool, _>(2));
        assert_eq!(row.get::<Vec<u8>, _>(3), record.expected, "{kind:?}");
    }
}

/// PostgreSQL must read the same value from the JSON that a tuple is decoded to.
async fn check_decoded(
    connection: &mut PgConnection,
    case: &Case,
    stream: &Stream,
    accepted: &[Accepted],
) {
    let (kind, send) = (case.kind, case.send);
    let mut shown = Vec::new();
    for record in accepted {
        let mut data = Vec::new();
        decode_tuple(&stream.shape, stream.column_set(), &record.tuple, &mut data)
            .expect("a tuple of the stream");
        shown.push(String::from_utf8(data).expect("JSON is UTF-8"));
    }
    let member = match kind {
        ColumnType::Jsonb => "data::jsonb -> 'v'",
        _ => "data::json ->> 'v'",
    };
    let query = format!(
        "select {send}(({member})::{}) from unnest($1::text[]) with ordinality as list (data, number) order by number",
        kind.as_str()
    );
    let decoded: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(&shown)
        .fetch_all(connection)
        .await
        .expect("PostgreSQL reads what is shown");
    for ((decoded, record), shown) in decoded.iter().zip(accepted).zip(&shown) {
        assert_eq!(*decoded, record.expected, "{kind:?}: {shown}");
    }
}

/// Numbers at the limits of every type, as JSON writes them.
const NUMBERS_AT_LIMITS: [&str; 24] = [
    "0",
    "32767",
    "32768",
    "32769",
    "2147483647",
    "2147483648",
    "2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775809",
    "16777217",
    "9007199254740993",
    "3.4028235e38",
    "3.4028236e38",
    "1e-45",
    "7e-46",
    "1.7976931348623157e308",
    "1.8e308",
    "5e-324",
    "2e-324",
    "1e131071",
    "1e131072",
    "1e-16383",
    "1e-16384",
];

/// Numbers around these, whole or not, in every spelling, and random ones.
fn numbers() -> Vec<String> {
    let mut numbers = Vec::new();
    for number in NUMBERS_AT_LIMITS {
        let (digits, exponent) = number.split_once('e').unwrap_or((number, "0"));
        for end in ["", ".0", ".5", ".9999999999999999999", "0e-1", "00000000000000000001e-20"] {
            let is_number = digits != "0" || !end.starts_with('0');
            if is_number && number == digits {
                numbers.extend([format!("{digits}{end}"), format!("-{digits}{end}")]);
            }
        }
        numbers.extend([format!("{digits}E{exponent}"), format!("-{digits}e{exponent}")]);
    }
    numbers.push("9".repeat(131_072));
    numbers.push("9".repeat(131_073));
    numbers.push(format!("-0.{}", "5".repeat(16_383)));
    numbers.push(format!("0.{}", "5".repeat(16_384)));
    let pattern = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?";
    let random = proptest::string::string_regex(pattern).expect("a pattern");
    let mut runner = TestRunner::deterministic();
    let random =
        (0..RANDOM_TEXTS).map(|_| random.new_tree(&mut runner).expect("a number").current());
    numbers.extend(random);
    numbers
}

/// Values of every kind for a column: its texts as strings, numbers, and what is neither.
fn json_values(case: &Case) -> Vec<String> {
    let strings = case.texts().into_iter().map(|text| serde_json::to_string(&text).expect("JSON"));
    let others = ["true", "false", "null", "\"\"", "[]", "{}", "[1,{\"a\":null}]"];
    let mut values: Vec<String> = strings.chain(numbers()).collect();
    values.extend(others.map(str::to_owned));
    values.push(format!("\"{}\"", "x".repeat(1 << 20)));
    values.push(format!("{{\"{}\":1}}", "k".repeat(100_000)));
    values
}

/// How the exact value of a JSON number is told in SQL, and the column's value in the same terms.
fn in_terms_of(kind: ColumnType) -> Option<&'static str> {
    match kind {
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt | ColumnType::Numeric => {
            Some("numeric")
        }
        ColumnType::Real => Some("real"),
        ColumnType::DoublePrecision => Some("double precision"),
        _ => None,
    }
}

#[tokio::test]
async fn what_the_encoder_takes_of_json_copy_takes_and_keeps() {
    let pool = crate::support::database().await;
    let mut connection = pool.acquire().await.unwrap();
    connection.execute("set timezone = 'UTC'").await.unwrap();
    for case in CASES {
        let (kind, stream) = (case.kind, case.stream());
        let limits = EncodeLimits { record_bytes_max: 4 << 20, members_max: u64::MAX };
        let mut encoder = RecordEncoder::new(&stream, limits).unwrap();
        let (mut tuples, mut values) = (Vec::new(), Vec::new());
        for value in json_values(&case) {
            let record = format!("{{\"v\":{value}}}");
            let mut tuple = Vec::new();
            let step =
                encoder.encode_json(record.as_bytes(), true, prefix(tuples.len()), &mut tuple);
            match step {
                JsonStep::Encoded { consumed } => {
                    assert_eq!(consumed, record.len());
                    tuples.push(tuple);
                    values.push(value);
                }
                JsonStep::Refused { consumed, .. } => {
                    assert_eq!((consumed, tuple.len()), (record.len(), 0));
                }
                step => panic!("{kind:?}: {value} is JSON: {step:?}"),
            }
        }
        assert!(tuples.len() > 20, "{kind:?}: {} are taken", tuples.len());
        let create = format!(
            "drop table if exists pg_temp.copied; \
             create temp table copied (id uuid, received_at timestamptz, extra jsonb, v {})",
            kind.as_str()
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await.unwrap();
        let all: Vec<&[u8]> = tuples.iter().map(Vec::as_slice).collect();
        copy(&mut connection, "pg_temp.copied", &all).await;
        check_numbers(&mut connection, kind, &values).await;
        check_shown(&mut connection, &case, &stream, &tuples).await;
    }
}

/// A number is in the table with its exact value, or the nearest that the type has.
async fn check_numbers(connection: &mut PgConnection, kind: ColumnType, values: &[String]) {
    let Some(terms) = in_terms_of(kind) else { return };
    let is_number = |value: &&String| {
        value.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    };
    let (ids, numbers): (Vec<Uuid>, Vec<&String>) = values
        .iter()
        .enumerate()
        .filter(|(_, value)| is_number(value))
        .map(|(index, value)| (prefix(index).id, value))
        .unzip();
    assert!(numbers.len() > 20, "{kind:?}");
    let query = format!(
        "select number from unnest($1::uuid[], $2::text[]) as sent (id, number) \
         join pg_temp.copied using (id) where v::{terms} is distinct from number::{terms}"
    );
    let changed: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(&ids)
        .bind(&numbers)
        .fetch_all(connection)
        .await
        .expect("they are compared");
    assert!(changed.is_empty(), "{kind:?}: {changed:?}");
}

/// What a tuple is shown as is what the table holds.
async fn check_shown(
    connection: &mut PgConnection,
    case: &Case,
    stream: &Stream,
    tuples: &[Vec<u8>],
) {
    let shown: Vec<String> = tuples
        .iter()
        .map(|tuple| {
            let mut data = Vec::new();
            decode_tuple(&stream.shape, stream.column_set(), tuple, &mut data)
                .expect("a tuple of the stream");
            String::from_utf8(data).expect("JSON is UTF-8")
        })
        .collect();
    let ids: Vec<Uuid> = (0..tuples.len()).map(|index| prefix(index).id).collect();
    let member = match case.kind {
        // An explicit null is NULL in every column.
        ColumnType::Jsonb => "nullif(data::jsonb -> 'v', 'null')",
        _ => "data::json ->> 'v'",
    };
    let (kind, send) = (case.kind.as_str(), case.send);
    let query = format!(
        "select left(data, 200) from unnest($1::uuid[], $2::text[]) as shown (id, data) \
         join pg_temp.copied using (id) where {send}(v) is distinct from {send}(({member})::{kind})"
    );
    let changed: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(&ids)
        .bind(&shown)
        .fetch_all(connection)
        .await
        .expect("they are compared");
    assert!(changed.is_empty(), "{kind}: {changed:?}");
}

/// An object nested that deep.
fn nested(depth: usize) -> String {
    format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

#[tokio::test]
async fn documents_are_taken_exactly_when_jsonb_takes_them() {
    let pool = crate::support::database().await;
    let mut connection = pool.acquire().await.unwrap();
    let texts = [
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
        &nested(1_000),
    ]
    .map(str::to_owned);
    let judged =
        judged_by_postgresql(&mut connection, ColumnType::Jsonb, "jsonb_send", &texts).await;
    let stream = stream(Shape::Document { payload: PayloadType::Jsonb });
    let mut encoder = RecordEncoder::new(&stream, LIMITS).unwrap();
    let (mut tuples, mut expected) = (Vec::new(), Vec::new());
    for (index, (text, judged)) in texts.iter().zip(judged).enumerate() {
        let mut tuple = Vec::new();
        let step = encoder.encode_json(text.as_bytes(), true, prefix(index), &mut tuple);
        match (step, judged) {
            (JsonStep::Encoded { .. }, Some(binary)) => {
                tuples.push(tuple);
                expected.push(binary);
            }
            (JsonStep::Refused { consumed, .. }, None) => assert_eq!(consumed, text.len()),
            (step, judged) => {
                panic!("{text:?}: {step:?}, PostgreSQL takes it: {}", judged.is_some())
            }
        }
    }
    let step = encoder.encode_json(nested(1_001).as_bytes(), true, prefix(0), &mut Vec::new());
    let too_deep = RecordErrorCode::TooDeep;
    assert!(matches!(step, JsonStep::Refused { error, .. } if error.code == too_deep));

    let create = "create temp table documents (id uuid, received_at timestamptz, payload jsonb)";
    connection.execute(create).await.unwrap();
    let tuples: Vec<&[u8]> = tuples.iter().map(Vec::as_slice).collect();
    copy(&mut connection, "pg_temp.documents", &tuples).await;
    let query = "select jsonb_send(payload) from pg_temp.documents order by id";
    let stored: Vec<Vec<u8>> = sqlx::query_scalar(query).fetch_all(&mut *connection).await.unwrap();
    assert_eq!(stored, expected);
}
