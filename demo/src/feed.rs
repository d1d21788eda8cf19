//! What is sent: one feed for each stream, which turns sequence numbers into request bodies.
//!
//! The data is prepared once; a body is then little more than copying text, so that the demo measures the gateway and
//! not itself. The data loops, and each record carries the run, its number in it, and when it was due to be sent.

use std::fmt::Write;
use std::ops::Range;

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use serde_json::Value;
use tidegate_record::UnixMicros;

use crate::{moment, movies, weather};

/// One of the two sets of data, each with a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dataset {
    Weather,
    Movies,
}

impl Dataset {
    /// Both, in the order of the report.
    pub const ALL: [Dataset; 2] = [Dataset::Weather, Dataset::Movies];

    /// The name of its stream, when no prefix is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Dataset::Weather => "weather",
            Dataset::Movies => "movies",
        }
    }
}

/// One value for each dataset.
#[derive(Debug, Clone, Default)]
pub struct PerDataset<T> {
    pub weather: T,
    pub movies: T,
}

impl<T> PerDataset<T> {
    pub fn get(&self, dataset: Dataset) -> &T {
        match dataset {
            Dataset::Weather => &self.weather,
            Dataset::Movies => &self.movies,
        }
    }

    pub fn get_mut(&mut self, dataset: Dataset) -> &mut T {
        match dataset {
            Dataset::Weather => &mut self.weather,
            Dataset::Movies => &mut self.movies,
        }
    }

    /// The sum of a number over both.
    pub fn sum(&self, number: impl Fn(&T) -> u64) -> u64 {
        number(&self.weather) + number(&self.movies)
    }
}

/// How records are written in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// An array of JSON objects.
    Json,
    /// A header line and one line a record.
    Csv,
}

/// How many records a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As many as planned.
    Batch,
    /// One: a JSON body is then the object itself and not an array.
    Single,
}

/// The data of one stream, ready to be sent.
#[derive(Debug)]
pub struct Feed {
    dataset: Dataset,
    stream: String,
    format: Format,
    packing: Packing,
    run: String,
    /// JSON objects without their closing brace, or lines of CSV.
    records: Vec<String>,
}

impl Feed {
    /// Prepares the data. Documents are always sent as JSON: CSV has no form for them.
    pub fn new(
        dataset: Dataset,
        prefix: &str,
        format: Format,
        packing: Packing,
        run: &str,
    ) -> anyhow::Result<Feed> {
        let (format, records) = match (dataset, format) {
            (Dataset::Weather, Format::Csv) => (format, weather::csv_records()?),
            (Dataset::Weather, Format::Json | Format::Ndjson) => (format, weather::json_records()?),
            (Dataset::Movies, _) => (Format::Json, movies::json_records()?),
        };
        let stream = format!("{prefix}{}", dataset.name());
        Ok(Feed { dataset, stream, format, packing, run: run.to_owned(), records })
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream, as `POST /v1/streams` takes it.
    pub fn definition(&self) -> Value {
        match self.dataset {
            Dataset::Weather => weather::definition(&self.stream),
            Dataset::Movies => movies::definition(&self.stream),
        }
    }

    pub fn content_type(&self) -> &'static str {
        match self.format {
            Format::Ndjson => "application/x-ndjson",
            Format::Json => "application/json",
            Format::Csv => "text/csv",
        }
    }

    /// The text in a CSV body that means NULL.
    pub fn null_text(&self) -> Option<&'static str> {
        (self.format == Format::Csv).then_some(weather::NULL_TEXT)
    }

    /// The body with the records of these numbers.
    pub fn body(&self, sequences: Range<u64>, sent_at: UnixMicros) -> anyhow::Result<Bytes> {
        let sent_at = moment::to_text(sent_at)?;
        let array = self.format == Format::Json && self.packing == Packing::Batch;
        let mut body = String::new();
        match self.format {
            Format::Csv => {
                body.push_str(&weather::csv_header());
                body.push('\n');
            }
            Format::Json if array => body.push('['),
            Format::Json | Format::Ndjson => {}
        }
        for sequence in sequences.clone() {
            if array && sequence > sequences.start {
                body.push(',');
            }
            self.write_record(&mut body, sequence, &sent_at)?;
        }
        if array {
            body.push(']');
        }
        Ok(Bytes::from(body))
    }

    fn write_record(&self, body: &mut String, sequence: u64, sent_at: &str) -> anyhow::Result<()> {
        let index = usize::try_from(sequence % self.records.len() as u64)?;
        let record = self.records.get(index).context("the data is not empty")?;
        let run = &self.run;
        body.push_str(record);
        match self.format {
            Format::Csv => writeln!(body, ",{run},{sequence},{sent_at}")?,
            Format::Json | Format::Ndjson => write!(
                body,
                r#","demo_run":"{run}","demo_seq":{sequence},"sent_at":"{sent_at}"}}"#
            )?,
        }
        if self.format == Format::Ndjson {
            body.push('\n');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_AT: UnixMicros = UnixMicros(1_795_237_200_123_456);

    fn body(dataset: Dataset, format: Format, packing: Packing, range: Range<u64>) -> String {
        let feed = Feed::new(dataset, "", format, packing, "run-1").expect("valid data");
        let body = feed.body(range, SENT_AT).expect("a body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[test]
    fn every_json_record_carries_run_number_and_moment() {
        let ndjson = body(Dataset::Weather, Format::Ndjson, Packing::Batch, 5..8);
        let lines: Vec<Value> =
            ndjson.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let array = body(Dataset::Weather, Format::Json, Packing::Batch, 5..8);
        assert_eq!(serde_json::from_str::<Vec<Value>>(&array).expect("JSON"), lines);
        let numbers: Vec<_> = lines.iter().filter_map(|line| line["demo_seq"].as_u64()).collect();
        assert_eq!(numbers, [5, 6, 7]);
        assert_eq!(lines[0]["demo_run"], "run-1");
        let mut reader = moment::MomentReader::default();
        assert_eq!(lines[2]["sent_at"].as_str().and_then(|text| reader.read(text)), Some(SENT_AT));
    }

    #[test]
    fn csv_lines_have_as_many_fields_as_their_header() {
        let csv = body(Dataset::Weather, Format::Csv, Packing::Batch, 0..3);
        let fields: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [18; 4]);
        assert!(csv.lines().nth(3).expect("a line").contains(",run-1,2,"));
    }

    #[test]
    fn a_single_document_is_an_object_and_the_data_loops() {
        let single = |sequence| {
            let text = body(Dataset::Movies, Format::Csv, Packing::Single, sequence..sequence + 1);
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let (first, again) = (single(0), single(3_201));
        assert!(first.is_object());
        assert_eq!(first["Title"], again["Title"]);
        assert_eq!(again["demo_seq"], 3_201);
    }
}
