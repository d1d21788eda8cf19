//! `tidegate stream`: streams from the command line, on the database itself.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use tidegate_codec::columns::Column;
use tidegate_codec::csv::CsvWords;
use tidegate_codec::definition::StreamDefinition;
use tidegate_codec::formats::Format;
use tidegate_codec::{Shape, Stream, StreamName, StreamView, infer};

use crate::cli::database;
use crate::cli::place::Place;
use crate::config::STREAMS_MAX_DEFAULT;
use crate::db::streams::{self, NewStream, StreamLimits};

/// What to do with streams.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Make a stream and its table.
    Create(CreateArgs),
    /// List all streams.
    List,
    /// Show one stream as JSON.
    Show {
        /// Name of the stream.
        name: StreamName,
    },
    /// Propose columns from a sample of records. Needs no database.
    Infer(InferArgs),
}

/// A new stream.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the stream, and of its table in the schema `streams`.
    name: StreamName,
    /// A declared column as `name:type` or `name:type=default`; once for each. Without any, the stream takes documents.
    #[arg(
        long = "column",
        env = "TIDEGATE_STREAM_COLUMNS",
        value_name = "NAME:TYPE[=DEFAULT]",
        value_delimiter = '\u{1f}'
    )]
    columns: Vec<String>,
    /// The record's key that a column takes, where it is not the column's name; once for each.
    #[arg(long, env = "TIDEGATE_STREAM_FROM", value_name = "NAME=KEY", value_delimiter = '\u{1f}')]
    from: Vec<String>,
    /// What numbers count in a column of times, from 1970 on; once for each.
    #[arg(
        long,
        env = "TIDEGATE_STREAM_EPOCH",
        value_name = "NAME=s|ms|us|ns",
        value_delimiter = '\u{1f}'
    )]
    epoch: Vec<String>,
    /// What to do with keys that no column declares.
    #[arg(long, env = "TIDEGATE_STREAM_UNKNOWN", value_name = "extra|drop|reject")]
    unknown: Option<String>,
    /// How a document is kept.
    #[arg(long, env = "TIDEGATE_STREAM_PAYLOAD", value_name = "jsonb|json")]
    payload: Option<String>,
    /// A column, or a JSON pointer into documents, that makes a record unique; once for each part of the key.
    #[arg(long = "key", env = "TIDEGATE_STREAM_KEY")]
    key: Vec<String>,
    /// What to do with a record whose key is there already.
    #[arg(long, env = "TIDEGATE_STREAM_ON_DUPLICATE", value_name = "ignore|replace")]
    on_duplicate: Option<String>,
    /// Days that a record is kept; for ever where not given.
    #[arg(long, env = "TIDEGATE_STREAM_RETENTION_DAYS")]
    retention_days: Option<u16>,
    /// Most streams there may be; what the gateway is given.
    #[arg(long, env = "TIDEGATE_STREAMS_MAX", default_value_t = STREAMS_MAX_DEFAULT)]
    streams_max: usize,
}

/// A sample to look at.
#[derive(Debug, Args)]
pub struct InferArgs {
    /// File with the sample: JSON, NDJSON or CSV.
    file: PathBuf,
    /// How to read the file; told from its ending where not given.
    #[arg(long, env = "TIDEGATE_INFER_FORMAT", value_enum)]
    format: Option<SampleFormat>,
    /// Text of a CSV field that means NULL, beside the empty field.
    #[arg(long, env = "TIDEGATE_INFER_NULL")]
    null: Option<String>,
    /// What separates the fields of CSV: one character, or tab.
    #[arg(long, env = "TIDEGATE_INFER_DELIMITER")]
    delimiter: Option<String>,
    /// What fields of CSV are quoted with: one character, or none.
    #[arg(long, env = "TIDEGATE_INFER_QUOTE")]
    quote: Option<String>,
    /// Names of the fields of CSV without a header line, with commas between.
    #[arg(long, env = "TIDEGATE_INFER_COLUMNS", value_name = "A,B,…")]
    columns: Option<String>,
}

/// Formats of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SampleFormat {
    Json,
    Ndjson,
    Csv,
}

pub(super) async fn run(command: StreamCommand, place: &Place) -> anyhow::Result<()> {
    if let StreamCommand::Infer(arguments) = command {
        return print_inferred(&arguments);
    }
    let reached = database::reach(place).await?;
    let result = on_database(command, &reached).await;
    reached.finish(result).await
}

async fn on_database(command: StreamCommand, reached: &database::Reached) -> anyhow::Result<()> {
    match command {
        StreamCommand::Create(arguments) => {
            let limits =
                StreamLimits { in_all_max: arguments.streams_max, per_user_max: usize::MAX };
            let new = arguments.into_new_stream()?;
            let Some(stream) = streams::create(reached.schema_pool(), &new, limits).await? else {
                bail!("there is a stream \"{}\" already", new.name);
            };
            println!("{}", serde_json::to_string_pretty(&StreamView::from(&stream))?);
        }
        StreamCommand::List => print_list(&streams::list(reached.pool()).await?),
        StreamCommand::Show { name } => {
            let all = streams::list(reached.pool()).await?;
            let stream = all.iter().find(|stream| stream.name == name);
            let stream = stream.with_context(|| format!("there is no stream \"{name}\""))?;
            println!("{}", serde_json::to_string_pretty(&StreamView::from(stream))?);
        }
        StreamCommand::Infer(_) => {}
    }
    Ok(())
}

impl CreateArgs {
    fn into_new_stream(self) -> anyhow::Result<NewStream> {
        let mut columns: Vec<Column> =
            self.columns.iter().map(|text| parse_column(text)).collect::<anyhow::Result<_>>()?;
        for text in &self.from {
            let (column, key) = setting(&mut columns, "--from", "KEY", text)?;
            column.from = Some(key.to_owned());
        }
        for text in &self.epoch {
            let (column, unit) = setting(&mut columns, "--epoch", "s|ms|us|ns", text)?;
            column.epoch = parse_word("epoch", Some(unit.to_owned()))?;
        }
        let definition = StreamDefinition {
            columns: (!columns.is_empty()).then_some(columns),
            payload: parse_word("payload", self.payload)?,
            unknown: parse_word("unknown", self.unknown)?,
            key: (!self.key.is_empty()).then_some(self.key),
            on_duplicate: parse_word("on-duplicate", self.on_duplicate)?,
            retention_days: self.retention_days,
        };
        let defined = definition.check()?;
        Ok(NewStream {
            name: self.name,
            shape: defined.shape,
            key: defined.key,
            retention_days: defined.retention_days,
            created_by: None,
        })
    }
}

/// A word of the API, such as `extra`.
fn parse_word<T: serde::de::DeserializeOwned>(
    flag: &str,
    word: Option<String>,
) -> anyhow::Result<Option<T>> {
    word.map(|word| serde_json::from_value(word.into()).with_context(|| format!("--{flag}")))
        .transpose()
}

fn parse_column(text: &str) -> anyhow::Result<Column> {
    let (name, rest) =
        text.rsplit_once(':').with_context(|| format!("--column {text}: expected NAME:TYPE"))?;
    let (kind, default) = match rest.split_once('=') {
        Some((kind, default)) => (kind, Some(default)),
        None => (rest, None),
    };
    let kind = serde_json::from_value(kind.into()).with_context(|| format!("--column {text}"))?;
    // A default that is no JSON is taken as the text that it is.
    let default = default.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    Ok(Column { default, ..Column::new(name, kind) })
}

/// The column that a flag is about, and what it says of it.
fn setting<'a, 'b>(
    columns: &'a mut [Column],
    flag: &str,
    value: &str,
    text: &'b str,
) -> anyhow::Result<(&'a mut Column, &'b str)> {
    let (name, said) =
        text.split_once('=').with_context(|| format!("{flag} {text}: expected NAME={value}"))?;
    let column = columns.iter_mut().find(|column| column.name == name);
    let column = column.with_context(|| format!("{flag} {text}: there is no --column {name}"))?;
    Ok((column, said))
}

fn print_list(streams: &[Stream]) {
    println!("{:<32} {:<10} {:>8} {:<8} {:>9}", "NAME", "KIND", "COLUMNS", "KEY", "RETENTION");
    for stream in streams {
        let kind = match stream.shape {
            Shape::Document { .. } => "document",
            Shape::Typed { .. } => "typed",
        };
        let key = stream.key.as_ref().map_or("-", |key| match key.on_duplicate {
            tidegate_codec::OnDuplicate::Ignore => "ignore",
            tidegate_codec::OnDuplicate::Replace => "replace",
        });
        let retention =
            stream.retention_days.map_or_else(|| "-".to_owned(), |days| format!("{days} days"));
        println!(
            "{:<32} {kind:<10} {:>8} {key:<8} {retention:>9}",
            stream.name,
            stream.columns().len()
        );
    }
}

fn print_inferred(arguments: &InferArgs) -> anyhow::Result<()> {
    let path = &arguments.file;
    let format = match arguments.format {
        Some(SampleFormat::Json) => Format::Json,
        Some(SampleFormat::Ndjson) => Format::Ndjson,
        Some(SampleFormat::Csv) => Format::Csv,
        None => match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Format::Json,
            Some("ndjson" | "jsonl") => Format::Ndjson,
            Some("csv") => Format::Csv,
            _ => bail!("{}: give --format json, ndjson or csv", path.display()),
        },
    };
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let words = CsvWords {
        null: arguments.null.clone(),
        delimiter: arguments.delimiter.clone(),
        quote: arguments.quote.clone(),
        header: arguments.columns.as_ref().map(|_| "absent".to_owned()),
        columns: arguments.columns.clone(),
    };
    let csv = words.check(None)?;
    let inferred = infer::infer(infer::Sample::of(format, &bytes, &csv))
        .with_context(|| path.display().to_string())?;
    println!("{}", serde_json::to_string_pretty(&inferred)?);
    Ok(())
}
