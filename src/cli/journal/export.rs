//! `tidegate journal export`: records as NDJSON, in the order of the journal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use tidegate_codec::StreamsSnapshot;
use tidegate_journal::{Finding, SurveyError};
use tidegate_record::Position;

use super::What;
use super::lines::Lines;
use crate::catalog;
use crate::config::DataDir;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    what: What,
    /// Only this stream, by its name, or `#` and its number where the name is not known.
    #[arg(long, env = "TIDEGATE_EXPORT_STREAM", value_name = "NAME")]
    stream: Option<String>,
    /// Only entries at or above this position.
    #[arg(long, env = "TIDEGATE_EXPORT_FROM", value_name = "POSITION")]
    from: Option<Position>,
    /// Only entries below this position.
    #[arg(long, env = "TIDEGATE_EXPORT_TO", value_name = "POSITION")]
    to: Option<Position>,
    /// Write to a new file (0600), not to standard output.
    #[arg(long, env = "TIDEGATE_EXPORT_OUTPUT", value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("the records cannot be written")]
    Write(#[from] io::Error),
}

pub(super) fn run(args: &ExportArgs, data: &DataDir) -> anyhow::Result<()> {
    let survey = args.what.survey(data)?;
    let streams = catalog::mirrored_streams(&data.data_dir);
    if streams.is_none() {
        let dir = data.data_dir.display();
        eprintln!("{dir} has no streams.json: records cannot be decoded and are written as bytes");
    }
    let streams = StreamsSnapshot::new(streams.unwrap_or_default());
    let out: Box<dyn Write> = match &args.output {
        None => Box::new(io::stdout().lock()),
        Some(path) => {
            // What is there is not overwritten: it may be the only copy of something.
            let file = File::options().write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.with_context(|| path.display().to_string())?)
        }
    };
    let mut lines = Lines::new(BufWriter::new(out), streams, args.stream.clone());
    let walked = survey.visit(|finding| export(args, &mut lines, finding));
    match walked.and_then(|()| Ok(lines.finish()?)) {
        // The reader has enough.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn export<W: Write>(
    args: &ExportArgs,
    lines: &mut Lines<W>,
    finding: Finding<'_>,
) -> Result<(), ExportError> {
    let (from, to) = (args.from.unwrap_or_default(), args.to.unwrap_or(Position(u64::MAX)));
    match finding {
        Finding::Entry(entry) => {
            if (from..to).contains(&entry.header.position) {
                lines.entry(&entry)?;
            }
        }
        Finding::Damage(part) | Finding::Tail { part, is_blank: false } => {
            if part.from < to && part.to > from {
                lines.part(&part)?;
            }
        }
        Finding::File { .. } | Finding::Tail { .. } => {}
    }
    Ok(())
}
