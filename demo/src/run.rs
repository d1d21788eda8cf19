//! One run of the demo, from the first look at the gateway to the verdict.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_record::clock::Clock;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::book::Book;
use crate::feed::{Dataset, Feed, PerDataset};
use crate::gateway::Gateway;
use crate::monitor::Monitor;
use crate::options::Options;
use crate::progress;
use crate::sender::{Lane, Sender, Start};
use crate::stream;
use crate::summary::{self, Durations};
use crate::verdict::{Evidence, faults};
use crate::verify::{Database, TableCheck, compare};

/// Pause between two looks at how far the gateway has come.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// Whether the gateway kept its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Broken,
}

/// Runs the demo. `stop` ends sending; the check follows all the same. An error means that there is no verdict.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<Verdict> {
    let prepared = stop.run_until_cancelled(Run::prepare(options, stop.clone())).await;
    let run = prepared.context("interrupted before anything was sent")??;
    run.execute().await
}

/// A run that is ready to send: everything that can be wrong beforehand has been looked at.
struct Run {
    options: Options,
    /// Tells this run's records from all others.
    id: String,
    gateway: Arc<Gateway>,
    book: Arc<Book>,
    feeds: Vec<(Dataset, Arc<Feed>)>,
    /// `None` when the tables are not to be checked.
    database: Option<Database>,
    stop: CancellationToken,
    /// The monitor and the progress.
    background: JoinSet<()>,
    /// Ends the background.
    done: CancellationToken,
}

impl Run {
    async fn prepare(options: Options, stop: CancellationToken) -> anyhow::Result<Run> {
        let gateway = Arc::new(Gateway::connect(&options).await?);
        let user = gateway.user_name().await?;
        let database = if options.no_table_check { None } else { Some(Database::find(&options)?) };
        if let Some(database) = &database {
            database.check_connection().await?;
        }
        let id = Uuid::new_v4().to_string();
        eprintln!("run {id} on {} as {user}", options.url);
        let book = Arc::new(Book::new()?);
        let mut run = Run {
            feeds: feeds(&options, &id)?,
            options,
            id,
            gateway,
            book,
            database,
            stop,
            background: JoinSet::new(),
            done: CancellationToken::new(),
        };
        for (_, feed) in &run.feeds {
            let created = stream::ensure(&run.gateway, feed).await?;
            let state = if created { "created" } else { "is there" };
            eprintln!("stream {} {state}", feed.stream());
        }
        run.start_counting().await?;
        run.start_monitor().await?;
        Ok(run)
    }

    /// The gateway's counts so far, from which the progress counts on.
    async fn start_counting(&self) -> anyhow::Result<()> {
        let status = self.gateway.status().await.context("cannot read the gateway's status")?;
        let mut sightings = self.book.sightings();
        for (dataset, feed) in &self.feeds {
            let committed = status.streams.get(feed.stream()).map_or(0, |stream| stream.committed);
            sightings.stream_mut(*dataset).committed.observe(committed);
        }
        Ok(())
    }

    async fn start_monitor(&mut self) -> anyhow::Result<()> {
        let (gateway, book) = (Arc::clone(&self.gateway), Arc::clone(&self.book));
        let monitor = Monitor::new(gateway, book, &self.feeds, &self.id, self.options.wait);
        let (watching, watched) = oneshot::channel();
        self.background.spawn(monitor.watch(watching, self.done.clone()));
        watched.await.context("the monitor ended")?
    }

    async fn execute(mut self) -> anyhow::Result<Verdict> {
        let planned = self.options.schedule().records_total();
        let progress = progress::show(Arc::clone(&self.book), planned, self.done.clone());
        self.background.spawn(progress);
        let start = Start { instant: Instant::now(), moment: Clock::System.now() };
        let sender = Arc::new(self.sender()?);
        let rejected = sender.run(start).await;
        let committed_at = self.settle().await;
        let tables = self.check_tables().await;
        // The monitor watches until here: a record that comes twice may come late.
        self.done.cancel();
        while self.background.join_next().await.is_some() {}
        let tables = tables?;
        let last = self.book.ledger().last_acknowledged_at.unwrap_or(start.instant);
        let period = self.planned_period();
        let since_start = |at: Instant| at.saturating_duration_since(start.instant).max(period);
        let durations =
            Durations { acknowledged: since_start(last), committed: committed_at.map(since_start) };
        let verdict = self.report(tables.as_ref(), durations)?;
        if verdict == Verdict::Kept {
            rejected?;
        }
        Ok(verdict)
    }

    /// The time that a plan with a rate is for, if it was not cut short. Its last burst falls due before the end, and
    /// counting only up to there would show a higher rate than was asked for.
    fn planned_period(&self) -> Duration {
        if self.options.rate == 0 || self.stop.is_cancelled() {
            return Duration::ZERO;
        }
        self.options.duration
    }

    fn sender(&self) -> anyhow::Result<Sender> {
        let mut lanes = PerDataset::default();
        for (dataset, feed) in &self.feeds {
            let url = self.gateway.records_url(feed, self.options.ack)?;
            let lane = Lane { dataset: *dataset, feed: Arc::clone(feed), url };
            *lanes.get_mut(*dataset) = Some(lane);
        }
        Ok(Sender {
            gateway: Arc::clone(&self.gateway),
            book: Arc::clone(&self.book),
            lanes,
            schedule: self.options.schedule(),
            movies_percent: self.options.movies,
            connections: self.options.connections,
            wait: self.options.wait,
            stop: self.stop.clone(),
            next: AtomicU64::new(0),
        })
    }

    /// Waits until all is committed, then until all was seen, each only as long as the options allow. Returns when all
    /// was committed.
    async fn settle(&self) -> Option<Instant> {
        let deadline = Instant::now() + self.options.settle;
        let mut target = self.book.ledger().position;
        let mut synced_known = false;
        let mut committed_at = None;
        while committed_at.is_none() && Instant::now() < deadline {
            // A gateway that is just starting again answers later.
            if let Ok(status) = self.gateway.status().await {
                if !synced_known {
                    // A reply's position may be that of an entry's start; what was durable now covers its end.
                    target = target.max(status.journal.synced);
                    synced_known = true;
                }
                if status.journal.committed >= target {
                    committed_at = Some(Instant::now());
                    break;
                }
            }
            sleep(SETTLE_PAUSE).await;
        }
        while !self.all_seen() && Instant::now() < deadline {
            sleep(SETTLE_PAUSE).await;
        }
        committed_at
    }

    /// Whether the monitor has accounted for every acknowledged record, or has stopped watching.
    fn all_seen(&self) -> bool {
        let ledger = self.book.ledger();
        let sightings = self.book.sightings();
        let seen = |dataset: Dataset| {
            let expected = &ledger.streams.get(dataset).acknowledged;
            sightings.streams.get(dataset).accounts_for(expected)
        };
        sightings.failure.is_some() || Dataset::ALL.into_iter().all(seen)
    }

    async fn check_tables(&self) -> anyhow::Result<Option<PerDataset<TableCheck>>> {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let mut checks = PerDataset::default();
        for (dataset, feed) in &self.feeds {
            let wait = self.options.wait;
            let islands = database.islands(*dataset, feed.stream(), &self.id, wait).await?;
            let check = compare(self.book.ledger().streams.get(*dataset), &islands);
            // The gateway counts once a second; the progress shall end with what the table has told.
            self.book.sightings().stream_mut(*dataset).committed.settle(check.present);
            *checks.get_mut(*dataset) = check;
        }
        Ok(Some(checks))
    }

    /// Prints the summary and the verdict.
    fn report(
        &self,
        tables: Option<&PerDataset<TableCheck>>,
        durations: Durations,
    ) -> anyhow::Result<Verdict> {
        let ledger = self.book.ledger().clone();
        let sightings = self.book.sightings().clone();
        let streams = summary::stream_names(&self.options.prefix);
        let evidence = Evidence { ledger: &ledger, sightings: &sightings, tables, streams };
        println!("\n{}", summary::render(&evidence, durations));
        if let Some(reason) = &sightings.failure {
            println!("The monitor stopped watching: {reason}");
        }
        if let Some(reason) = &ledger.last_failure {
            println!("The last request that failed: {reason}");
        }
        if durations.committed.is_none() {
            println!("Not all was committed within {} s.", self.options.settle.as_secs());
        }
        let faults = faults(&evidence);
        for fault in &faults {
            println!("WRONG: {fault}");
        }
        if !faults.is_empty() {
            return Ok(Verdict::Broken);
        }
        if ledger.acknowledged_count() == 0 {
            let reason = ledger.last_failure.as_deref().unwrap_or("nothing was sent");
            bail!("nothing was acknowledged, so there is nothing to check: {reason}");
        }
        match tables {
            Some(_) => println!("OK: every acknowledged record is in its table exactly once"),
            None => println!("OK as far as the monitor shows; the tables were not checked"),
        }
        Ok(Verdict::Kept)
    }
}

/// The feeds that get a share of the requests.
fn feeds(options: &Options, run: &str) -> anyhow::Result<Vec<(Dataset, Arc<Feed>)>> {
    let wanted = Dataset::ALL.into_iter().filter(|dataset| match dataset {
        Dataset::Weather => options.movies < 100,
        Dataset::Movies => options.movies > 0,
    });
    wanted
        .map(|dataset| {
            let packing = options.packing();
            let feed = Feed::new(dataset, &options.prefix, options.format, packing, run)?;
            Ok((dataset, Arc::new(feed)))
        })
        .collect()
}
