//! What is sent: the streams, and records whose content follows from the seed and their version.
//!
//! So a row can be compared with what was sent, value by value, without keeping what was sent.

use rand::Rng;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::seed::Seed;

/// What texts are made of: what formats quote and escape, and characters of one to four bytes.
const CHARACTERS: [char; 14] =
    ['a', 'Z', '0', ' ', ',', ';', '"', '\'', '\\', '\n', '\t', 'ü', '€', '😀'];
/// Longest text in characters; one in [`LONG_ONE_IN`] is [`LONG_FACTOR`] times as long.
const TEXT_CHARACTERS_MAX: usize = 30;
const LONG_ONE_IN: u32 = 50;
const LONG_FACTOR: usize = 100;
/// Moments lie in this many seconds from 1970 on, up to the year 2096.
const MOMENT_SECONDS_MAX: i64 = 4_000_000_000;
/// Separates the purposes of random numbers: contents from everything else.
const CONTENT_PURPOSE: u64 = 1 << 62;

/// The streams that are sent to: every way a record can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Documents,
    Typed,
    /// Typed and partitioned by day.
    Retained,
    /// Documents with a key, of which the first stays.
    Ignored,
    /// Typed records with a key, of which the last stays.
    Replaced,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Single,
    /// A JSON array.
    List,
    /// NDJSON.
    Lines,
    /// CSV.
    Rows,
}

/// A record by what it is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub target: Target,
    pub form: Form,
    pub key: i64,
    /// Never used twice, and growing with each sender.
    pub version: i64,
    /// Otherwise the gateway must refuse it.
    pub valid: bool,
}

/// The values of a record.
struct Content {
    note: String,
    amount: String,
    at: OffsetDateTime,
    flag: bool,
    ratio: f64,
    tag: Uuid,
}

impl Target {
    pub const ALL: [Target; 5] =
        [Target::Documents, Target::Typed, Target::Retained, Target::Ignored, Target::Replaced];

    pub fn stream(self) -> &'static str {
        match self {
            Target::Documents => "documents",
            Target::Typed => "typed",
            Target::Retained => "retained",
            Target::Ignored => "ignored",
            Target::Replaced => "replaced",
        }
    }

    pub fn definition(self) -> Value {
        let column = |(name, kind): (&str, &str)| json!({"name": name, "type": kind});
        let columns = [
            ("key", "bigint"),
            ("version", "bigint"),
            ("note", "text"),
            ("amount", "numeric"),
            ("at", "timestamptz"),
            ("flag", "boolean"),
            ("ratio", "double precision"),
            ("tag", "uuid"),
        ];
        let columns: Vec<Value> = columns.into_iter().map(column).collect();
        let name = self.stream();
        match self {
            Target::Documents => json!({"name": name}),
            Target::Typed => json!({"name": name, "columns": columns}),
            Target::Retained => json!({"name": name, "columns": columns, "retention_days": 7}),
            Target::Ignored => json!({"name": name, "key": ["/key"], "on_duplicate": "ignore"}),
            Target::Replaced => {
                json!({"name": name, "columns": columns, "key": ["key"], "on_duplicate": "replace"})
            }
        }
    }

    pub fn is_typed(self) -> bool {
        !matches!(self, Target::Documents | Target::Ignored)
    }

    /// Selects of every row its key, its version, its id, and then its values as texts, as
    /// [`Record::expected_values`] has them.
    pub fn query(self) -> String {
        let values = if self.is_typed() {
            "key::text, version::text, id::text, note, amount::text,
             to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), flag::text, ratio::text, tag::text,
             extra::text"
        } else {
            "payload->>'key', payload->>'version', id::text, payload::text"
        };
        format!("select array[{values}] from streams.{}", self.stream())
    }
}

impl Target {
    /// Asks whether a record is there that was just committed. No other sender writes its key.
    pub fn existence_query(self, key: i64, version: i64) -> String {
        let condition = match self {
            Target::Documents => format!("payload->>'version' = '{version}'"),
            Target::Typed | Target::Retained => format!("version = {version}"),
            Target::Ignored => format!("payload #>> array['key'] = '{key}'"),
            Target::Replaced => format!("key = {key} and version >= {version}"),
        };
        format!("select exists (select from streams.{} where {condition})", self.stream())
    }
}

impl Form {
    pub const ALL: [Form; 4] = [Form::Single, Form::List, Form::Lines, Form::Rows];

    pub fn content_type(self) -> &'static str {
        match self {
            Form::Single | Form::List => "application/json",
            Form::Lines => "application/x-ndjson",
            Form::Rows => "text/csv",
        }
    }

    /// A body of these records, which all have this form and target.
    pub fn body(self, seed: Seed, records: &[Record]) -> String {
        let texts: Vec<String> = records.iter().map(|record| record.text(seed)).collect();
        match self {
            Form::Single => texts.concat(),
            Form::List => format!("[{}]", texts.join(",")),
            Form::Lines => texts.join("\n"),
            Form::Rows => {
                let typed = records.first().is_some_and(|record| record.target.is_typed());
                let header = if typed {
                    "key,version,note,amount,at,flag,ratio,tag,more"
                } else {
                    "key,version,note"
                };
                format!("{header}\n{}\n", texts.join("\n"))
            }
        }
    }
}

impl Record {
    /// The record as it is sent, and as the quarantine must keep it.
    pub fn text(&self, seed: Seed) -> String {
        let Content { note, amount, at, flag, ratio, tag } = self.content(seed);
        let (key, version, at) = (self.key, self.version, moment(at));
        let amount = if self.valid { amount.as_str() } else { "\"noon\"" };
        match (self.form, self.target.is_typed()) {
            (Form::Rows, true) => {
                let amount = amount.trim_matches('"');
                format!(
                    "{key},{version},{},{amount},{at},{flag},{ratio},{tag},m{version}",
                    quoted(&note)
                )
            }
            (Form::Rows, false) => {
                let one_too_many = if self.valid { "" } else { ",more" };
                format!("{key},{version},{}{one_too_many}", quoted(&note))
            }
            (_, true) => format!(
                "{{\"key\":{key},\"version\":{version},\"note\":{},\"amount\":{amount},\"at\":\"{at}\",\
                 \"flag\":{flag},\"ratio\":{ratio},\"more\":\"m{version}\",\"tag\":\"{tag}\"}}",
                json!(note)
            ),
            (_, false) => {
                let amount = if self.valid { amount } else { "\"\\u0000\"" };
                format!(
                    "{{\"key\":{key},\"note\":{},\"amount\":{amount},\"list\":[{flag},null,{{\"at\":\"{at}\"}}],\
                     \"ratio\":{ratio},\"version\":{version}}}",
                    json!(note)
                )
            }
        }
    }

    /// Whether a row's values, as [`Target::query`] selects them, are those that were sent.
    pub fn matches(&self, seed: Seed, values: &[Option<String>]) -> bool {
        if self.target.is_typed() {
            let expected = self.expected_values(seed);
            return values.iter().map(Option::as_deref).eq(expected.iter().map(|it| Some(&**it)));
        }
        let [Some(payload)] = values else { return false };
        let expected = match self.form {
            Form::Rows => {
                let note = self.content(seed).note;
                json!({"key": self.key.to_string(), "version": self.version.to_string(), "note": note})
            }
            _ => serde_json::from_str(&self.text(seed)).expect("a valid record is JSON"),
        };
        serde_json::from_str::<Value>(payload).is_ok_and(|payload| payload == expected)
    }

    fn expected_values(&self, seed: Seed) -> [String; 7] {
        let Content { note, amount, at, flag, ratio, tag } = self.content(seed);
        let extra = format!("{{\"more\": \"m{}\"}}", self.version);
        [note, amount, moment(at), flag.to_string(), ratio.to_string(), tag.to_string(), extra]
    }

    fn content(&self, seed: Seed) -> Content {
        let mut numbers = seed.numbers(CONTENT_PURPOSE | self.version.unsigned_abs());
        let mut length = numbers.random_range(1..=TEXT_CHARACTERS_MAX);
        if numbers.random_ratio(1, LONG_ONE_IN) {
            length *= LONG_FACTOR;
        }
        let note =
            (0..length).map(|_| CHARACTERS[numbers.random_range(0..CHARACTERS.len())]).collect();
        let (whole, ten_thousandths): (i64, u32) =
            (numbers.random_range(-1_000_000_000..1_000_000_000), numbers.random_range(0..10_000));
        let amount = format!("{whole}.{ten_thousandths:04}");
        let seconds = numbers.random_range(0..MOMENT_SECONDS_MAX);
        let micros: i64 = numbers.random_range(0..1_000_000);
        let at = OffsetDateTime::from_unix_timestamp(seconds).expect("a year before 9999")
            + time::Duration::microseconds(micros);
        // Eighths are exact, and short as text.
        let ratio = f64::from(numbers.random_range(-1_000_000..1_000_000)) / 8.0;
        let tag = Uuid::from_u128(numbers.random());
        Content { note, amount, at, flag: numbers.random(), ratio, tag }
    }
}

fn moment(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micros) = at.to_hms_micro();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
