//! `tidegate journal`: looking into the journal, checking it, and getting records out of it.
//!
//! Nothing is written, repaired or locked, so all of it may be used while the gateway runs. No PostgreSQL is needed:
//! the names and columns of streams come from the mirror in the data directory.

mod export;
mod inspect;
mod lines;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use tidegate_journal::{Survey, SurveyError};

use crate::config::{DataDir, JOURNAL_DIR};

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Show what the journal holds: positions, segments, streams, damage.
    Inspect {
        #[command(flatten)]
        what: What,
        /// As JSON.
        #[arg(long, env = "TIDEGATE_JOURNAL_JSON")]
        json: bool,
    },
    /// Read everything and check every checksum. Exit code 0: sound; 1: damaged; 2: it could not be read.
    Verify {
        #[command(flatten)]
        what: What,
    },
    /// Print records as NDJSON, one a line; what cannot be decoded as bytes in base64.
    Export(export::ExportArgs),
}

/// What is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// One file, also one that was set aside, in place of the data directory's journal.
    #[arg(long, env = "TIDEGATE_JOURNAL_FILE", value_name = "PATH")]
    file: Option<PathBuf>,
}

impl What {
    fn survey(&self, data: &DataDir) -> Result<Survey, SurveyError> {
        let dir = data.data_dir.join(JOURNAL_DIR);
        match &self.file {
            Some(file) => Survey::of_file(file, &dir),
            None => Survey::of_dir(&dir),
        }
    }

    /// Where it is, for people.
    fn place(&self, data: &DataDir) -> PathBuf {
        self.file.clone().unwrap_or_else(|| data.data_dir.join(JOURNAL_DIR))
    }
}

pub(super) fn run(command: JournalCommand, data: &DataDir) -> anyhow::Result<ExitCode> {
    match command {
        JournalCommand::Inspect { what, json } => inspect::run(&what, data, json)?,
        JournalCommand::Verify { what } => return Ok(verify::run(&what, data)),
        JournalCommand::Export(args) => export::run(&args, data)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A path as it is shown in a table: its last part.
fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
