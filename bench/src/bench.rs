//! The bench that everything is measured on: a PostgreSQL, the site of the gateways, and the figures so far.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::figures::{Figures, Unit};
use crate::gateway::Site;
use crate::options::{Measure, Size};
use crate::postgres::Postgres;

/// What every measurement uses.
pub struct Bench {
    pub size: Size,
    pub postgres: Postgres,
    pub site: Site,
    pub figures: Figures,
    /// For files of the run; gone with it.
    pub dir: PathBuf,
    _temporary: TempDir,
}

impl Bench {
    pub async fn start(measure: &Measure) -> anyhow::Result<Bench> {
        let binary = match &measure.gateway {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("tidegate"),
        };
        ensure!(binary.exists(), "{} is not there: `make build` makes it", binary.display());
        // Beside the report, because the usual place for temporary files may be memory, where syncing costs nothing.
        std::fs::create_dir_all(&measure.out)
            .with_context(|| format!("{} cannot be made", measure.out.display()))?;
        let temporary = tempfile::tempdir_in(&measure.out)?;
        let dir = temporary.path().canonicalize()?;
        let postgres = Postgres::start(&dir.join("postgres")).await?;
        let site = Site { binary, database_url: postgres.url(), dir: dir.clone() };
        let figures = Figures::default();
        let size = measure.size();
        Ok(Bench { size, postgres, site, figures, dir, _temporary: temporary })
    }

    /// Tells the one who waits what is going on.
    #[expect(clippy::unused_self, reason = "it belongs to the run")]
    pub fn say(&self, what: &str) {
        eprintln!("· {what}");
    }

    pub fn seconds(&mut self, round: usize, name: impl Into<String>, seconds: f64) {
        self.figures.add(round, name, Unit::Seconds, seconds);
    }

    /// Adds so many in such a time.
    pub fn rate(&mut self, round: usize, name: impl Into<String>, count: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "far fewer records than 2^52")]
        let rate = count as f64 / took.as_secs_f64();
        self.figures.add(round, name, Unit::PerSecond, rate);
    }

    pub fn bytes(&mut self, round: usize, name: &str, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
        let bytes = bytes as f64;
        self.figures.add(round, name, Unit::Bytes, bytes);
    }
}
