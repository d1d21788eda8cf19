//! `tidegate-demo --jobs`: an API that pushes nothing becomes streams, and exactly what changes there arrives.
//!
//! The demo serves an API of its own, makes a polling job for each of its collections, changes some items round by round,
//! and compares the tables with every content that the items had: each must be there exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::collections::{Changes, Collections, Difference, Kind, compare};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::placeholder::PlaceholderApi;
use crate::run::Verdict;
use crate::verify::Database;

/// How often each job asks: as often as a job may.
const INTERVAL_MS: u64 = 1_000;
/// Rounds of changes.
const ROUNDS: usize = 3;
/// At the end each job must have asked so often again and found nothing.
const QUIET_RUNS: usize = 2;
/// Most runs that are looked at.
const RUNS_SHOWN_MAX: usize = 1_000;
/// Pause between two looks at the tables.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Runs it. `stop` ends it before its time, without a verdict.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<Verdict> {
    let gateway = Gateway::connect(&options).await?;
    let database = Database::find(&options)?;
    database.check_connection().await?;
    let id = Uuid::new_v4().to_string();
    let collections = Arc::new(Collections::new(&id)?);
    let api = PlaceholderApi::start(Arc::clone(&collections)).await?;
    let mut demo = Demo { options, id, gateway, database, collections, jobs: BTreeMap::new() };
    let outcome = stop.run_until_cancelled(demo.execute(&api)).await;
    // Without their API the jobs would only fail from now on.
    let removed = demo.remove_jobs().await;
    let verdict = outcome.context("interrupted before the check was done")??;
    removed.map(|()| verdict)
}

struct Demo {
    options: Options,
    /// Tells this run's items from all others.
    id: String,
    gateway: Gateway,
    database: Database,
    collections: Arc<Collections>,
    /// The jobs' ids.
    jobs: BTreeMap<Kind, String>,
}

/// A job that was made.
#[derive(Debug, Deserialize)]
struct Job {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

/// A run of a job.
#[derive(Debug, Deserialize)]
struct Run {
    number: i64,
    status: String,
    items: u64,
    new: u64,
    changed: u64,
    duplicates: u64,
    error: Option<String>,
}

impl Demo {
    async fn execute(&mut self, api: &PlaceholderApi) -> anyhow::Result<Verdict> {
        eprintln!("run {} on {}", self.id, self.options.url);
        for kind in Kind::ALL {
            let url = api.url(kind);
            let job = self.make_job(kind, &url).await;
            let job = job.with_context(|| format!("no polling job for {url}"))?;
            eprintln!("job {job}: {url} every {INTERVAL_MS} ms into {}", self.stream(kind));
            self.jobs.insert(kind, job);
        }
        let mut arrived = self.wait_for_all("at first").await?;
        for round in 1..=ROUNDS {
            if !arrived {
                break;
            }
            let Changes { changed, added, removed } = self.collections.change();
            let what =
                format!("round {round}: {changed} changed, {added} added, {removed} removed");
            arrived = self.wait_for_all(&what).await?;
        }
        let mut faults = Vec::new();
        if !arrived {
            faults.push(format!("not all arrived within {} s", self.options.settle.as_secs()));
        }
        println!(
            "\n{:<10} {:>5} {:>9} {:>7} {:>8} {:>11} {:>7}",
            "stream", "runs", "items", "new", "changed", "duplicates", "rows"
        );
        for kind in Kind::ALL {
            let runs = self.quiet_runs(kind).await?;
            faults.extend(self.check(kind, &runs).await?);
        }
        println!();
        for fault in &faults {
            println!("WRONG: {fault}");
        }
        if !faults.is_empty() {
            return Ok(Verdict::Broken);
        }
        println!("OK: exactly the items that changed arrived, each content once");
        Ok(Verdict::Kept)
    }

    /// The users' job in the short form, the others in the full one.
    async fn make_job(&self, kind: Kind, url: &str) -> anyhow::Result<String> {
        let stream = self.stream(kind);
        let (path, asked) = match kind {
            Kind::Users => (
                "polling-jobs",
                json!({"userId": "demo", "apiEndpoint": url, "pollingInterval": INTERVAL_MS, "stream": stream}),
            ),
            Kind::Posts => (
                "v1/polling-jobs",
                json!({"url": url, "stream": stream, "interval_ms": INTERVAL_MS, "key": ["/id"]}),
            ),
            Kind::Comments => (
                "v1/polling-jobs",
                json!({
                    "url": url, "stream": stream, "interval_ms": INTERVAL_MS, "key": ["/id"],
                    "items": "/comments", "pagination": {"by": "link"},
                }),
            ),
            Kind::Photos => (
                "v1/polling-jobs",
                json!({
                    "url": url, "stream": stream, "interval_ms": INTERVAL_MS, "key": ["/id"],
                    "pagination": {"by": "offset", "limit": 1_000},
                }),
            ),
        };
        let job: Job = self.gateway.post(path, &asked).await?;
        Ok(job.id)
    }

    /// Waits until the tables have as many rows as there were contents; false if they have not in time.
    async fn wait_for_all(&self, what: &str) -> anyhow::Result<bool> {
        let begun = Instant::now();
        for kind in Kind::ALL {
            let expected = self.collections.get(kind).contents.len();
            while self.rows(kind).await? < expected {
                if begun.elapsed() > self.options.settle {
                    return Ok(false);
                }
                sleep(LOOK_PAUSE).await;
            }
        }
        eprintln!("{what}: all arrived within {:.1} s", begun.elapsed().as_secs_f64());
        Ok(true)
    }

    async fn rows(&self, kind: Kind) -> anyhow::Result<usize> {
        let rows = self.database.count(&self.stream(kind), &self.id).await?;
        Ok(usize::try_from(rows)?)
    }

    /// The job's runs, after some more than there were.
    async fn quiet_runs(&self, kind: Kind) -> anyhow::Result<Vec<Run>> {
        let path = format!("v1/polling-jobs/{}/runs?limit={RUNS_SHOWN_MAX}", self.job(kind)?);
        let begun = Instant::now();
        let last = |runs: &Runs| runs.runs.iter().map(|run| run.number).max().unwrap_or_default();
        let before = last(&self.gateway.get(&path).await?);
        loop {
            let runs: Runs = self.gateway.get(&path).await?;
            let ended = |run: &&Run| run.number > before && run.status != "running";
            if runs.runs.iter().filter(ended).count() >= QUIET_RUNS {
                return Ok(runs.runs);
            }
            if begun.elapsed() > self.options.settle {
                bail!("the job of the {} did not run any more", kind.name());
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Compares the table and the job's runs with what was served, prints a line, and tells what is wrong.
    async fn check(&self, kind: Kind, runs: &[Run]) -> anyhow::Result<Vec<String>> {
        let name = kind.name();
        let documents = self.database.documents(&self.stream(kind), &self.id).await?;
        let contents = self.collections.get(kind).contents;
        let sum = |count: fn(&Run) -> u64| runs.iter().map(count).sum::<u64>();
        let (new, changed) = (sum(|run| run.new), sum(|run| run.changed));
        println!(
            "{:<10} {:>5} {:>9} {new:>7} {changed:>8} {:>11} {:>7}",
            self.stream(kind),
            runs.len(),
            sum(|run| run.items),
            sum(|run| run.duplicates),
            documents.len(),
        );
        let mut faults = Vec::new();
        let Difference { missing, double, unexpected } = compare(&contents, &documents);
        for (count, what) in [
            (missing, "missing in the table"),
            (double, "in the table more than once"),
            (unexpected, "in the table, though the API never had them"),
        ] {
            if count > 0 {
                faults.push(format!("{name}: {count} contents {what}"));
            }
        }
        if new + changed != contents.len() as u64 {
            let told = new + changed;
            faults.push(format!(
                "{name}: the runs tell of {told} records instead of {}",
                contents.len()
            ));
        }
        let failed = runs.iter().filter_map(|run| run.error.as_deref().map(|error| (run, error)));
        faults.extend(
            failed.map(|(run, error)| format!("{name}: run {} failed: {error}", run.number)),
        );
        Ok(faults)
    }

    async fn remove_jobs(&self) -> anyhow::Result<()> {
        for job in self.jobs.values() {
            self.gateway.delete(&format!("v1/polling-jobs/{job}")).await?;
        }
        Ok(())
    }

    fn stream(&self, kind: Kind) -> String {
        format!("{}{}", self.options.prefix, kind.name())
    }

    fn job(&self, kind: Kind) -> anyhow::Result<&str> {
        self.jobs.get(&kind).map(String::as_str).context("every collection has a job")
    }
}
