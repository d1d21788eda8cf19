//! `tidegate query`: ask a running gateway for records.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use reqwest::{Client, Response};
use serde_json::{Map, Value};
use tidegate_codec::StreamName;
use url::Url;

use crate::cli::credential::credential;
use crate::cli::output::{aligned, print, printable};
use crate::config::DataDir;

/// Longest wait for a part of a reply.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of a table, unless a limit is given.
const TABLE_ROWS_DEFAULT: u32 = 50;
/// Widest cell of a table, in characters.
const CELL_CHARS_MAX: usize = 60;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people, of one page.
    Table,
    /// A line of names, then a line for each record.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// Ask for records of a stream: filters as in `dep_delay=gt.60`, `carrier=in.(UA,AA)`, `or=(a.is.null,b.eq.5)`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The stream.
    #[arg(value_name = "STREAM")]
    stream: StreamName,

    /// Filters, each of which has to be true; docs/reading.md has all operators.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,

    /// What is shown: `carrier,delay:dep_delay`. All of it where not given.
    #[arg(long, env = "TIDEGATE_QUERY_SELECT")]
    select: Option<String>,

    /// In which order: `dep_delay.desc,carrier`. The newest first where not given.
    #[arg(long, env = "TIDEGATE_QUERY_ORDER")]
    order: Option<String>,

    /// Most records; of a table 50 where not given, else all.
    #[arg(long, env = "TIDEGATE_QUERY_LIMIT")]
    limit: Option<u32>,

    /// How they are written.
    #[arg(long, env = "TIDEGATE_QUERY_FORMAT", value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Address of the gateway.
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://127.0.0.1:8000")]
    url: Url,

    /// Token to come in with; without it the gateway's own in the data directory is taken, on the same machine.
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    #[command(flatten)]
    data: DataDir,
}

/// Asks, and writes what comes to standard output.
pub async fn run(args: QueryArgs) -> anyhow::Result<()> {
    let response = ask(&args).await?;
    let written = match args.format {
        Format::Table => show_table(response).await,
        Format::Csv | Format::Ndjson => copy(response).await,
    };
    match written {
        // The reader of the output, `head` for example, has enough.
        Err(error) if is_closed_output(&error) => Ok(()),
        other => other,
    }
}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn ask(args: &QueryArgs) -> anyhow::Result<Response> {
    let token = credential(args.token.as_deref(), &args.data)?;
    let path = format!("v1/streams/{}/records", args.stream);
    let mut address =
        args.url.join(&path).with_context(|| format!("{} is no address", args.url))?;
    {
        let mut query = address.query_pairs_mut();
        for filter in &args.filters {
            let (name, value) = filter
                .split_once('=')
                .ok_or_else(|| anyhow!("{filter:?} is no filter such as dep_delay=gt.60"))?;
            query.append_pair(name, value);
        }
        let limit = match args.format {
            Format::Table => Some(args.limit.unwrap_or(TABLE_ROWS_DEFAULT)),
            Format::Csv | Format::Ndjson => args.limit,
        };
        let format = match args.format {
            Format::Table => "json",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        };
        let given = [
            ("select", args.select.clone()),
            ("order", args.order.clone()),
            ("limit", limit.map(|limit| limit.to_string())),
            ("format", Some(format.to_owned())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
    }
    let client = Client::builder().read_timeout(READ_TIMEOUT).no_proxy().build()?;
    let asking = client.get(address).bearer_auth(token).send();
    let response =
        asking.await.with_context(|| format!("the gateway at {} does not answer", args.url))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let problem: Value = response.json().await.unwrap_or_default();
    match problem["detail"].as_str() {
        Some(detail) => bail!("{}", printable(detail)),
        None => bail!("the gateway answered {status}"),
    }
}

async fn copy(response: Response) -> anyhow::Result<()> {
    let mut pieces = response.bytes_stream();
    let mut stdout = io::stdout().lock();
    while let Some(piece) = pieces.next().await {
        stdout.write_all(&piece.context("the reply ended early; what was written is not all")?)?;
    }
    Ok(stdout.flush()?)
}

async fn show_table(response: Response) -> anyhow::Result<()> {
    let page: Value = response.json().await.context("the reply is no page of records")?;
    let records: Vec<&Map<String, Value>> = page["records"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|record| record["data"].as_object())
        .collect();
    let mut headings: Vec<&str> = Vec::new();
    for name in records.iter().flat_map(|record| record.keys()) {
        if !headings.contains(&name.as_str()) {
            headings.push(name);
        }
    }
    let row = |record: &&Map<String, Value>| {
        headings.iter().map(|name| cell(record.get(*name).unwrap_or(&Value::Null))).collect()
    };
    print(&aligned(&headings, records.iter().map(row)))?;
    if !page["next"].is_null() {
        eprintln!("there are more; --limit shows more of them, --format csv or ndjson all");
    }
    Ok(())
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    };
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_short_and_harms_no_terminal() {
        assert_eq!(cell(&serde_json::json!(null)), "");
        assert_eq!(cell(&serde_json::json!("a\u{1b}[31mb")), "a [31mb");
        assert_eq!(cell(&serde_json::json!({"a": [1]})), "{\"a\":[1]}");
        let long = cell(&serde_json::json!("x".repeat(100)));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CELL_CHARS_MAX, true));
    }
}
