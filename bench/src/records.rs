//! What is sent: the real weather data, and generated records of a given size.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::encode::{EncodeLimits, JsonStep, RecordEncoder, TuplePrefix};
use tidegate_codec::{PayloadType, Shape, Stream, UnknownKeys};
use tidegate_record::clock::Clock;
use tidegate_record::{StreamId, UnixMicros};
use time::OffsetDateTime;
use uuid::Uuid;

/// 26,115 hourly observations; where they come from: `demo/data/SOURCES.md`.
const WEATHER: &str = include_str!("../../demo/data/weather.csv");
const NULL_TEXT: &str = "NA";
/// Records of one bulk request.
pub const BATCH_RECORDS: usize = 1_000;

/// What a file of binary tuples begins and ends with (PostgreSQL's manual, COPY, "Binary Format").
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// Records as JSON objects, each on its line.
#[derive(Debug, Clone)]
pub struct Records {
    pub lines: Arc<Vec<String>>,
    /// Each line as CSV, and the header; where there is a form as CSV.
    csv: Option<(String, Arc<Vec<String>>)>,
}

/// How records are put into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Ndjson,
    Array,
    Csv,
}

impl Packing {
    pub fn name(self) -> &'static str {
        match self {
            Packing::Ndjson => "NDJSON",
            Packing::Array => "JSON array",
            Packing::Csv => "CSV",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Packing::Ndjson => "application/x-ndjson",
            Packing::Array => "application/json",
            Packing::Csv => "text/csv",
        }
    }
}

/// The weather data's columns.
pub fn weather_columns() -> Vec<Column> {
    let kind = |name: &str| match name {
        "origin" => ColumnType::Text,
        "year" | "month" | "day" | "hour" | "wind_dir" => ColumnType::Integer,
        "time_hour" => ColumnType::TimestampTz,
        _ => ColumnType::DoublePrecision,
    };
    let header = WEATHER.lines().next().unwrap_or_default();
    let column = |name: &str| Column::new(name, kind(name));
    header.split(',').map(column).collect()
}

/// The definition of a typed stream for the weather data.
pub fn weather_definition(name: &str) -> Value {
    definition(name, &weather_columns())
}

fn definition(name: &str, columns: &[Column]) -> Value {
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.kind.as_str()}))
        .collect();
    json!({"name": name, "columns": columns})
}

/// The weather data, over and over until there are so many.
pub fn weather(count: usize) -> anyhow::Result<Records> {
    let (header, rows) = WEATHER.split_once('\n').context("the weather data has a header")?;
    let columns = weather_columns();
    let mut lines = Vec::new();
    let mut csv = Vec::new();
    for row in rows.lines() {
        let mut object = String::from("{");
        for (index, (column, field)) in columns.iter().zip(row.split(',')).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let name = &column.name;
            match column.kind {
                _ if field == NULL_TEXT => write!(object, "{comma}\"{name}\":null")?,
                ColumnType::Text | ColumnType::TimestampTz => {
                    write!(object, "{comma}\"{name}\":\"{field}\"")?;
                }
                _ => write!(object, "{comma}\"{name}\":{field}")?,
            }
        }
        object.push('}');
        lines.push(object);
        csv.push(row.to_owned());
    }
    let lines: Vec<String> = lines.iter().cycle().take(count).cloned().collect();
    let csv: Vec<String> = csv.iter().cycle().take(count).cloned().collect();
    Ok(Records { lines: lines.into(), csv: Some((header.to_owned(), csv.into())) })
}

/// Generated records of about so many bytes; `seq` counts from 1 in an order that the caller gives.
pub fn generated(bytes: usize, sequence: impl Iterator<Item = usize>) -> Records {
    const WORDS: [&str; 8] =
        ["tide", "gate", "harbour", "lock", "quay", "current", "spring", "neap"];
    let line = |seq: usize| {
        let mut line = format!(
            r#"{{"seq":{seq},"name":"{}-{}","value":{}.{:03},"note":""#,
            WORDS[seq % 8],
            seq % 997,
            seq % 89,
            seq % 1_000
        );
        while line.len() + 2 < bytes {
            line.push_str(WORDS[(seq + line.len()) % 8]);
            line.push(' ');
        }
        line.truncate(bytes.saturating_sub(2).max(line.find("note").unwrap_or(0) + 7));
        line.push_str("\"}");
        line
    };
    Records { lines: Arc::new(sequence.map(line).collect()), csv: None }
}

/// The columns of [`generated`] records.
pub fn generated_columns() -> Vec<Column> {
    let columns = [
        ("seq", ColumnType::BigInt),
        ("name", ColumnType::Text),
        ("value", ColumnType::DoublePrecision),
        ("note", ColumnType::Text),
    ];
    let column = |(name, kind): (&str, ColumnType)| Column::new(name, kind);
    columns.map(column).into()
}

/// The definition of a typed stream for [`generated`] records, with these keys.
pub fn generated_definition(name: &str, key: Option<&[&str]>) -> Value {
    let mut definition = definition(name, &generated_columns());
    if let Some(key) = key {
        definition["key"] = json!(key);
    }
    definition
}

impl Records {
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of all records as JSON.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }

    /// Bodies of at most [`BATCH_RECORDS`] records.
    pub fn bodies(&self, packing: Packing) -> anyhow::Result<Vec<Bytes>> {
        let joined = |lines: &[String]| lines.join("\n");
        Ok(match packing {
            Packing::Ndjson => {
                self.lines.chunks(BATCH_RECORDS).map(|lines| joined(lines).into()).collect()
            }
            Packing::Array => {
                let array = |lines: &[String]| format!("[{}]", lines.join(",")).into();
                self.lines.chunks(BATCH_RECORDS).map(array).collect()
            }
            Packing::Csv => {
                let (header, rows) = self.csv.as_ref().context("these records have no CSV form")?;
                let body = |rows: &[String]| format!("{header}\n{}", joined(rows)).into();
                rows.chunks(BATCH_RECORDS).map(body).collect()
            }
        })
    }

    /// Writes the records as text for `\copy t (id, received_at, payload)`.
    pub fn write_copy_text(&self, file: &Path) -> anyhow::Result<()> {
        let now = Clock::System.now().date_time();
        let mut text = String::with_capacity(self.bytes() + self.len() * 80);
        for (number, line) in self.lines.iter().enumerate() {
            ensure!(!line.contains(['\t', '\\']), "the record needs no escaping");
            writeln!(text, "{}\t{now}\t{line}", id(number))?;
        }
        Ok(std::fs::write(file, text)?)
    }

    /// Writes the records as binary tuples for `\copy t (…) with (format binary)`; returns the columns.
    pub fn write_copy_binary(&self, file: &Path, columns: Vec<Column>) -> anyhow::Result<String> {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let names = format!("id, received_at, extra, {}", names.join(", "));
        let stream = Arc::new(Stream {
            id: StreamId(1),
            name: "records".parse()?,
            shape: Shape::typed(columns, UnknownKeys::Extra),
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        });
        let limits = EncodeLimits { record_bytes_max: 1 << 20, members_max: u64::MAX };
        let mut encoder = RecordEncoder::new(&stream, limits)?;
        let mut tuples = COPY_HEADER.to_vec();
        for (number, line) in self.lines.iter().enumerate() {
            let prefix = TuplePrefix { id: id(number), received_at: UnixMicros(0) };
            let step = encoder.encode_json(line.as_bytes(), true, prefix, &mut tuples);
            if !matches!(step, JsonStep::Encoded { .. }) {
                bail!("{line}: {step:?}");
            }
        }
        tuples.extend_from_slice(COPY_TRAILER);
        std::fs::write(file, tuples)?;
        Ok(names)
    }
}

/// Ids in order, as the gateway's are.
fn id(number: usize) -> Uuid {
    Uuid::from_u128((0x0199_0000_0000_7000_8000 << 48) + number as u128)
}

/// The definition of a stream of documents.
pub fn document_definition(name: &str) -> Value {
    json!({"name": name, "payload": PayloadType::Jsonb})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weather_is_json_and_csv() {
        let records = weather(30_000).expect("the data");
        assert_eq!(records.len(), 30_000);
        let first: Value = serde_json::from_str(&records.lines[0]).expect("JSON");
        assert_eq!(first["origin"], "EWR");
        assert_eq!(first["wind_gust"], Value::Null);
        assert_eq!(records.lines[0], records.lines[26_115]);
        for packing in [Packing::Ndjson, Packing::Array, Packing::Csv] {
            assert_eq!(records.bodies(packing).expect("bodies").len(), 30);
        }
    }

    #[test]
    fn generated_records_have_their_size() {
        for bytes in [100, 1_000, 10_000] {
            let records = generated(bytes, 1..=20);
            for (line, seq) in records.lines.iter().zip(1..) {
                assert_eq!(line.len(), bytes);
                let record: Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(record["seq"], seq);
            }
        }
    }
}
