//! A run: everything that was asked for, one group after the other, and the report.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::figures::{Figures, Unit};
use crate::gateway::Site;
use crate::options::{Group, Measure, Size};
use crate::postgres::Postgres;
use crate::report::{Machine, Report};
use crate::{backlog, bulk, fanout, growth, keyed, latency, memory, plot, polling, single};

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
    async fn start(measure: &Measure) -> anyhow::Result<Bench> {
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
}

/// Measures, prints the table, writes the files.
pub async fn run(measure: &Measure) -> anyhow::Result<()> {
    let mut bench = Bench::start(measure).await?;
    let outcome = measure_groups(&mut bench, measure).await;
    let machine = Machine::read(&bench).await;
    let Bench { postgres, figures, size, .. } = bench;
    postgres.stop().await?;
    outcome?;
    let report = Report::new(machine?, size, &figures);
    print!("{}", report.table());
    let json = measure.out.join("bench.json");
    std::fs::write(&json, serde_json::to_vec_pretty(&report)?)?;
    let svg = measure.out.join("bench.svg");
    plot::draw(&report.targets, &svg)?;
    println!("\nwritten: {} and {}", json.display(), svg.display());
    Ok(())
}

async fn measure_groups(bench: &mut Bench, measure: &Measure) -> anyhow::Result<()> {
    // First, while nothing has used any memory.
    if measure.wants(Group::Memory) {
        memory::measure(bench).await?;
    }
    if measure.wants(Group::Bulk) {
        bulk::measure(bench).await?;
    }
    if measure.wants(Group::Backlog) {
        backlog::measure(bench).await?;
    }
    if measure.wants(Group::Keyed) {
        keyed::measure(bench).await?;
    }
    if measure.wants(Group::Single) {
        single::measure(bench).await?;
    }
    if measure.wants(Group::Latency) {
        latency::measure(bench).await?;
    }
    if measure.wants(Group::Fanout) {
        fanout::measure(bench).await?;
    }
    if measure.wants(Group::Growth) {
        growth::measure(bench).await?;
    }
    if measure.wants(Group::Polling) {
        polling::measure(bench).await?;
    }
    Ok(())
}
