//! The weather data: 26,115 hourly observations with declared columns.
//!
//! The embedded file is read strictly: a quoted field, a missing field or a value that is not of its column's type is
//! an error that names the line. So a mistake in the data cannot look like one of the gateway.

use std::fmt::Write;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

const CSV: &str = include_str!("../data/weather.csv");

/// The text that stands for "not measured" in the file.
pub const NULL_TEXT: &str = "NA";

/// The columns of the file, in its order, and what PostgreSQL shall keep them as.
const FILE_COLUMNS: [(&str, &str); 15] = [
    ("origin", "text"),
    ("year", "integer"),
    ("month", "integer"),
    ("day", "integer"),
    ("hour", "integer"),
    ("temp", "double precision"),
    ("dewp", "double precision"),
    ("humid", "double precision"),
    ("wind_dir", "integer"),
    ("wind_speed", "double precision"),
    ("wind_gust", "double precision"),
    ("precip", "double precision"),
    ("pressure", "double precision"),
    ("visib", "double precision"),
    ("time_hour", "timestamptz"),
];

/// The columns that the demo adds, in the order of [`crate::feed`]'s CSV: whose record it is, and which.
const RUN_COLUMNS: [(&str, &str); 3] =
    [("demo_run", "text"), ("demo_seq", "bigint"), ("sent_at", "timestamptz")];

/// The stream, as `POST /v1/streams` takes it.
pub fn definition(stream: &str) -> Value {
    let columns: Vec<Value> = FILE_COLUMNS
        .iter()
        .chain(&RUN_COLUMNS)
        .map(|(name, kind)| json!({ "name": name, "type": kind }))
        .collect();
    json!({ "name": stream, "columns": columns })
}

/// The header line of a CSV body, without the line feed.
pub fn csv_header() -> String {
    let names: Vec<&str> = FILE_COLUMNS.iter().chain(&RUN_COLUMNS).map(|(name, _)| *name).collect();
    names.join(",")
}

/// Every observation as its line in the file.
pub fn csv_records() -> anyhow::Result<Vec<String>> {
    read(CSV, |_, line| Ok(line.to_owned()))
}

/// Every observation as a JSON object without its closing brace.
pub fn json_records() -> anyhow::Result<Vec<String>> {
    read(CSV, |fields, _| json_object_open(fields))
}

/// Checks each line of `csv` and turns it into a record's text.
fn read(
    csv: &str,
    record: impl Fn(&[&str], &str) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<String>> {
    let mut lines = csv.lines();
    let header = lines.next().context("the weather data has no header line")?;
    let expected = FILE_COLUMNS.map(|(name, _)| name).join(",");
    ensure!(header == expected, "the weather data has the columns {header}, not {expected}");
    let numbered = lines.enumerate().map(|(index, line)| (index + 2, line));
    numbered
        .map(|(number, line)| {
            let text = fields(line).and_then(|fields| record(&fields, line));
            text.with_context(|| format!("weather data, line {number}"))
        })
        .collect()
}

fn fields(line: &str) -> anyhow::Result<Vec<&str>> {
    ensure!(!line.contains('"'), "a quoted field");
    let fields: Vec<&str> = line.split(',').collect();
    ensure!(fields.len() == FILE_COLUMNS.len(), "{} fields", fields.len());
    for (value, (name, kind)) in fields.iter().zip(FILE_COLUMNS) {
        ensure!(fits(value, kind), "{name} is {value:?}, expected {kind}");
    }
    Ok(fields)
}

fn fits(value: &str, kind: &str) -> bool {
    match kind {
        _ if value == NULL_TEXT => true,
        "integer" => value.parse::<i32>().is_ok(),
        // JSON's numbers are stricter than Rust's: no "inf", no ".5".
        "double precision" => serde_json::from_str::<f64>(value).is_ok(),
        _ => !value.is_empty() && !value.contains('\\'),
    }
}

fn json_object_open(fields: &[&str]) -> anyhow::Result<String> {
    let mut object = String::from("{");
    for (index, (value, (name, kind))) in fields.iter().zip(FILE_COLUMNS).enumerate() {
        if index > 0 {
            object.push(',');
        }
        write!(object, "\"{name}\":")?;
        match kind {
            _ if *value == NULL_TEXT => object.push_str("null"),
            "integer" | "double precision" => object.push_str(value),
            "text" | "timestamptz" => write!(object, "\"{value}\"")?,
            other => bail!("no JSON form for {other}"),
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,\
                          wind_gust,precip,pressure,visib,time_hour";

    fn read_line(line: &str) -> anyhow::Result<Vec<String>> {
        read(&format!("{HEADER}\n{line}\n"), |fields, _| json_object_open(fields))
    }

    #[test]
    fn the_embedded_file_is_whole_and_every_record_is_json() {
        let records = json_records().expect("the embedded file is valid");
        assert_eq!(records.len(), 26_115);
        assert_eq!(csv_records().expect("the embedded file is valid").len(), 26_115);
        for record in records {
            let object: Value = serde_json::from_str(&format!("{record}}}")).expect("JSON");
            assert_eq!(object.as_object().map(serde_json::Map::len), Some(FILE_COLUMNS.len()));
        }
    }

    #[test]
    fn na_is_null_and_numbers_keep_their_digits() {
        let line = "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.357019999999999,NA,0,1012,10,\
                    2013-01-01T06:00:00Z";
        let records = read_line(line).expect("valid");
        assert!(records[0].contains("\"wind_speed\":10.357019999999999,\"wind_gust\":null,"));
        assert!(records[0].ends_with("\"time_hour\":\"2013-01-01T06:00:00Z\""));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.3,NA,0,1012,10,2013-01-01T06:00:00Z";
        let wrong = [
            good.replace("2013,1,1,1", "2013,1,1"),
            good.replace("270", "north"),
            good.replace("39.02", "inf"),
            good.replace("39.02", ""),
            good.replace("EWR", "\"EWR\""),
            String::new(),
        ];
        for line in wrong {
            let error = read_line(&line).expect_err(&line);
            assert_eq!(error.to_string(), "weather data, line 2", "{line}");
        }
        assert!(read("origin\nEWR\n", |_, line| Ok(line.to_owned())).is_err());
    }

    #[test]
    fn the_csv_header_names_every_declared_column() {
        let definition = definition("weather");
        let columns = definition["columns"].as_array().expect("columns");
        let names: Vec<_> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
        assert_eq!(names.join(","), csv_header());
    }
}
