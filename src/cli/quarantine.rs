//! `tidegate quarantine`: what streams refused. Listing, showing and dropping work on the database itself; a replay goes
//! through a running gateway, because a record gets into a table no other way.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::{Client, StatusCode};
use tidegate_record::StreamId;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use url::Url;
use uuid::Uuid;

use crate::api::{GuessedText, KeptView};
use crate::cli::credential::credential;
use crate::cli::database;
use crate::cli::output::{aligned, print, printable};
use crate::cli::place::Place;
use crate::config::DataDir;
use crate::db::Pool;
use crate::db::kept_records::{self, Filter, KeptRecord};
use crate::db::streams;

/// Longest time for one replay.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a record a list as JSON has, in bytes.
const LIST_RAW_BYTES_MAX: i32 = 4 << 10;
/// How much of a message a table shows, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 72;

/// What to do with the quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List refused records, the newest first.
    List(ListArgs),
    /// Show one with all that is kept of it.
    Show(ShowArgs),
    /// Take records once more, as they are or corrected; needs a running gateway.
    Replay(ReplayArgs),
    /// Drop records for good.
    Drop(DropArgs),
}

/// Which records are meant.
#[derive(Debug, Args)]
pub struct Which {
    /// Only of this stream: its name, or the number of a deleted one.
    #[arg(long, env = "TIDEGATE_QUARANTINE_STREAM")]
    stream: Option<String>,
    /// Only with this code, such as `invalid_type`.
    #[arg(long, env = "TIDEGATE_QUARANTINE_CODE")]
    code: Option<String>,
    /// Only received at or after this time, such as 2026-11-21T08:00:00Z.
    #[arg(long, env = "TIDEGATE_QUARANTINE_FROM", value_parser = parse_time, value_name = "TIME")]
    from: Option<OffsetDateTime>,
    /// Only received before this time.
    #[arg(long, env = "TIDEGATE_QUARANTINE_UNTIL", value_parser = parse_time, value_name = "TIME")]
    until: Option<OffsetDateTime>,
}

/// Options of `quarantine list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// Most records to list.
    #[arg(long, env = "TIDEGATE_QUARANTINE_LIMIT", default_value_t = 50)]
    limit: u16,
    /// Begin behind this record, the last of an earlier list.
    #[arg(long, env = "TIDEGATE_QUARANTINE_AFTER", value_name = "ID")]
    after: Option<Uuid>,
    /// Print one JSON object a line.
    #[arg(long, env = "TIDEGATE_QUARANTINE_JSON")]
    json: bool,
}

/// Options of `quarantine show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The record, from the list.
    id: Uuid,
    /// Print it as JSON.
    #[arg(long, env = "TIDEGATE_QUARANTINE_JSON")]
    json: bool,
}

/// Options of `quarantine drop`.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// The records, from the list; or say which with the options.
    ids: Vec<Uuid>,
    #[command(flatten)]
    which: Which,
}

/// Options of `quarantine replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The records, from the list.
    #[arg(required = true)]
    ids: Vec<Uuid>,
    /// File with the corrected record as JSON, `-` for standard input; without it records are replayed as they are.
    #[arg(long, env = "TIDEGATE_QUARANTINE_RECORD", value_name = "FILE")]
    record: Option<PathBuf>,
    /// Address of the gateway.
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://127.0.0.1:8000")]
    url: Url,
    /// Token to come in with; without it the gateway's own in the data directory is taken, on the same machine.
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub(super) async fn run(command: QuarantineCommand, place: &Place) -> anyhow::Result<()> {
    if let QuarantineCommand::Replay(arguments) = command {
        return replay(arguments, &place.data).await;
    }
    let reached = database::reach(place).await?;
    let result = on_database(command, reached.pool()).await;
    reached.finish(result).await
}

async fn on_database(command: QuarantineCommand, pool: &Pool) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(arguments) => list(arguments, pool).await,
        QuarantineCommand::Show(ShowArgs { id, json }) => {
            let kept = kept_records::find(pool, id).await?;
            let kept =
                kept.with_context(|| format!("there is no record {id} in the quarantine"))?;
            if json {
                let view = KeptView::from(kept);
                return print(&format!("{}\n", serde_json::to_string_pretty(&view)?));
            }
            print(&shown(&kept)?)
        }
        QuarantineCommand::Drop(arguments) => drop_records(arguments, pool).await,
        QuarantineCommand::Replay(_) => Ok(()),
    }
}

async fn list(arguments: ListArgs, pool: &Pool) -> anyhow::Result<()> {
    let filter = arguments.which.filter(pool).await?;
    let limit = arguments.limit.into();
    let kept =
        kept_records::list(pool, &filter, arguments.after, limit, LIST_RAW_BYTES_MAX).await?;
    if arguments.json {
        let lines: Vec<String> = kept
            .into_iter()
            .map(|kept| Ok(serde_json::to_string(&KeptView::from(kept))? + "\n"))
            .collect::<serde_json::Result<_>>()?;
        return print(&lines.concat());
    }
    let rows = kept.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    let headings = ["ID", "RECEIVED", "STREAM", "PLACE", "COLUMN", "CODE", "MESSAGE"];
    print(&aligned(&headings, rows.into_iter()))
}

async fn drop_records(arguments: DropArgs, pool: &Pool) -> anyhow::Result<()> {
    let DropArgs { ids, which } = arguments;
    if ids.is_empty() && which.is_empty() {
        bail!(
            "say which records shall be dropped: their ids, or --stream, --code, --from, --until"
        );
    }
    if !ids.is_empty() && !which.is_empty() {
        bail!("give either ids or conditions");
    }
    let mut dropped = 0;
    for id in &ids {
        dropped += u64::from(kept_records::delete(pool, *id).await?);
    }
    if ids.is_empty() {
        dropped = kept_records::delete_all(pool, &which.filter(pool).await?).await?;
    }
    print(&format!("dropped {dropped}\n"))
}

impl Which {
    fn is_empty(&self) -> bool {
        self.stream.is_none() && self.code.is_none() && self.from.is_none() && self.until.is_none()
    }

    async fn filter(self, pool: &Pool) -> anyhow::Result<Filter> {
        let Which { stream, code, from, until } = self;
        let stream = match stream {
            Some(stream) => Some(stream_id(&stream, pool).await?),
            None => None,
        };
        Ok(Filter { visible: None, stream, code, from, until })
    }
}

async fn stream_id(stream: &str, pool: &Pool) -> anyhow::Result<StreamId> {
    if let Ok(number) = stream.parse() {
        return Ok(StreamId(number));
    }
    let all = streams::list(pool).await?;
    let found = all.iter().find(|known| known.name.as_str() == stream);
    Ok(found.with_context(|| format!("there is no stream \"{stream}\""))?.id)
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    // In UTC, as PostgreSQL gets it; there is none beyond the year 9999.
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(|time| time.checked_to_offset(UtcOffset::UTC))
        .ok_or_else(|| "a time is written as 2026-11-21T08:00:00Z".to_owned())
}

fn row(kept: &KeptRecord) -> anyhow::Result<Vec<String>> {
    let mut message: String = kept.message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
    if message.len() < kept.message.len() {
        message.push('…');
    }
    let column = kept.column_name.as_deref().map_or_else(|| "-".to_owned(), printable);
    Ok(vec![
        kept.id.to_string(),
        received(kept)?,
        stream_name(kept),
        place(kept),
        column,
        kept.code.clone(),
        printable(&message),
    ])
}

/// A record for people: what is known of it, an empty line, what was sent.
fn shown(kept: &KeptRecord) -> anyhow::Result<String> {
    let mut lines = vec![
        ("id", kept.id.to_string()),
        ("received", received(kept)?),
        ("stream", stream_name(kept)),
        ("from", format!("{} by {}", kept.source, kept.user_name)),
        ("place", place(kept)),
    ];
    lines.extend(kept.column_name.as_deref().map(|column| ("column", printable(column))));
    lines.push(("reason", format!("{}: {}", kept.code, printable(&kept.message))));
    lines.extend(kept.sqlstate.clone().map(|sqlstate| ("sqlstate", sqlstate)));
    if let Some(header) = &kept.csv_header {
        lines.push(("header", printable(&String::from_utf8_lossy(header))));
    }
    if kept.truncated {
        lines.push(("kept", format!("the first {} bytes", kept.raw_bytes)));
    }
    // Half a character at a cut is no reason to guess.
    let is_text = std::str::from_utf8(&kept.raw)
        .map_or_else(|error| kept.truncated && error.error_len().is_none(), |_| true);
    if !is_text {
        lines.push(("encoding", "not UTF-8; shown as Windows-1252, which is a guess".to_owned()));
    }
    let lines: Vec<String> =
        lines.into_iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
    let raw = if is_text {
        String::from_utf8_lossy(&kept.raw)
    } else {
        GuessedText::of(&kept.raw).text.into()
    };
    let raw: Vec<String> = raw.split('\n').map(printable).collect();
    Ok(format!("{}\n{}\n", lines.concat(), raw.join("\n")))
}

fn received(kept: &KeptRecord) -> anyhow::Result<String> {
    let whole_seconds = kept.received_at.replace_nanosecond(0)?;
    Ok(whole_seconds.format(&Rfc3339)?)
}

fn stream_name(kept: &KeptRecord) -> String {
    let deleted = || format!("{} (deleted)", kept.stream_id.0);
    kept.stream.clone().unwrap_or_else(deleted)
}

fn place(kept: &KeptRecord) -> String {
    match (kept.line, kept.record) {
        (Some(line), _) => format!("line {line}"),
        (None, Some(record)) => format!("record {record}"),
        (None, None) => "-".to_owned(),
    }
}

async fn replay(arguments: ReplayArgs, data: &DataDir) -> anyhow::Result<()> {
    if arguments.record.is_some() && arguments.ids.len() > 1 {
        bail!("--record corrects one record");
    }
    let record = arguments.record.as_deref().map(read_record).transpose()?.unwrap_or_default();
    let token = credential(arguments.token.as_deref(), data)?;
    let client = Client::builder().timeout(REPLAY_TIMEOUT).no_proxy().build()?;
    let mut refused = 0;
    for id in &arguments.ids {
        let mut url = arguments.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/v1/quarantine/{id}/replay"));
        let request = client.post(url).bearer_auth(&token).body(record.clone());
        let response = request.send().await.context("the gateway cannot be reached")?;
        let status = response.status();
        let body: serde_json::Value =
            serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        if status == StatusCode::ACCEPTED {
            print(&format!("{id} is replayed as {}\n", body["id"].as_str().unwrap_or("?")))?;
        } else {
            let detail = body["detail"].as_str().unwrap_or("this is no gateway's answer");
            eprintln!("{id}: {} ({status})", printable(detail));
            refused += 1;
        }
    }
    if refused > 0 {
        bail!("{refused} of {} records were not replayed", arguments.ids.len());
    }
    Ok(())
}

fn read_record(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == std::path::Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprintln!("The corrected record, as JSON; end with Ctrl-D:");
        }
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    }
    if bytes.trim_ascii().is_empty() {
        bail!("the corrected record is empty");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_in_utc_is_refused() {
        assert!(parse_time("9999-12-31T23:59:59Z").is_ok());
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00", "now", ""] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
