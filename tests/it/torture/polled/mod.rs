//! Polling jobs under torture: an API that outlives the gateway, whose items change with every question, and a book of
//! all that it showed.
//!
//! At the end of a season the API becomes quiet. Once every job has had a run that began after that and went well,
//! each version of an item is in the table (or in the quarantine) at most once, the latest of each is there, everything
//! of an answer that was taken is there, nothing is there that was never shown, and the runs have counted what is there.
//! A version that was gone before a run was through with it need not be there.

mod job;
mod meddling;
mod shelf;
mod verdict;
mod wakes;

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use self::job::Job;
use self::shelf::{Shelf, ShelfCounts};
use self::verdict::{Brought, Counted, judge};
pub use self::wakes::Wakes;
use crate::support::{Api, Gateway, Seed, Verdict, eventually, soon};

/// What the API's items are drawn for; one for each job.
const SHELF_PURPOSE: u64 = 1 << 60;
/// Runs of a job that the gateway keeps.
const RUNS_KEPT: i64 = tidegate::db::polling_runs::RUNS_KEPT;

/// The API, and the jobs that ask it.
pub struct Polled {
    jobs: Vec<Polling>,
    /// How many questions came.
    asked: watch::Sender<u64>,
    runs: BTreeMap<String, u64>,
    rows: u64,
    refused: u64,
    /// Jobs that found something new where nothing was.
    restless: Vec<String>,
    _api: Api,
}

/// A job and what it asks for.
struct Polling {
    job: Job,
    id: Uuid,
    shelf: Arc<Mutex<Shelf>>,
    /// The number of the last run before this season.
    runs_before: i64,
    /// What that run had counted then: it may have been under way, and have asked when the season had begun.
    counted_before: Vec<i64>,
}

/// Sums over all seasons and jobs.
#[derive(Debug, Clone, Default)]
pub struct PolledCounts {
    /// Runs by how they ended.
    pub runs: BTreeMap<String, u64>,
    pub api: ShelfCounts,
    /// Rows that items became.
    pub rows: u64,
    /// Items in the quarantine.
    pub refused: u64,
}

impl Polled {
    /// Makes the jobs.
    pub async fn start(gateway: &Gateway, seed: Seed) -> Polled {
        let api = Api::start().await;
        let asked = watch::Sender::new(0);
        let mut jobs = Vec::new();
        for (job, purpose) in Job::ALL.into_iter().zip(SHELF_PURPOSE..) {
            let shelf = Arc::new(Mutex::new(Shelf::new(job, seed.numbers(purpose))));
            let (shown, told) = (Arc::clone(&shelf), asked.clone());
            api.on(&job.path(), move |question| {
                let answer = lock(&shown).answer(question);
                told.send_modify(|asked| *asked += 1);
                answer
            });
            if let Some(definition) = job.stream_definition() {
                gateway.create_stream(&definition).await;
            }
            let made = gateway.post("/v1/polling-jobs", &job.definition(&api)).await.expect(201);
            let id = made["id"].as_str().expect("a job has an id").parse().expect("a UUID");
            jobs.push(Polling { job, id, shelf, runs_before: 0, counted_before: vec![0; 4] });
        }
        Polled {
            jobs,
            asked,
            runs: BTreeMap::new(),
            rows: 0,
            refused: 0,
            restless: Vec::new(),
            _api: api,
        }
    }

    pub fn streams() -> [&'static str; 5] {
        Job::ALL.map(Job::stream)
    }

    /// Starts to order runs, and to change jobs while they run.
    pub fn wake(&self, gateways: &[&Gateway], seed: Seed, round: u64) -> Wakes {
        Wakes::start(gateways, seed, round, self.jobs.iter().map(|polling| polling.id).collect())
    }

    /// Waits until some job asks: so a run is under way.
    pub async fn is_asked(&self) {
        let mut asked = self.asked.subscribe();
        soon("a job asks", asked.changed()).await.expect("the API is there");
    }

    /// Makes the API quiet, and waits until each job has run to its end twice: the second time in vain.
    pub async fn settle(&mut self, gateway: &Gateway) {
        for polling in &self.jobs {
            lock(&polling.shelf).be_quiet();
        }
        let settled = self.jobs.iter().map(async |polling| {
            polling.runs_well(gateway).await;
            let second = polling.runs_well(gateway).await;
            let brought = format!(
                "select new + changed from tidegate.polling_runs where job_id = '{}' and fence = {second}",
                polling.id
            );
            let brought: i64 = gateway.scalar(brought).await;
            let case = format!("{:?}: {brought} new items though nothing had changed", polling.job);
            (brought > 0).then_some(case)
        });
        self.restless = join_all(settled).await.into_iter().flatten().collect();
    }

    /// Holds what is there against the book; everything must be committed.
    pub async fn verdict(&mut self, gateway: &Gateway) -> Verdict {
        let mut verdict =
            Verdict { wrong: std::mem::take(&mut self.restless), ..Verdict::default() };
        for polling in &self.jobs {
            let brought = polling.brought(gateway).await;
            judge(&mut verdict, polling.job, &lock(&polling.shelf), &brought);
            self.rows += brought.rows.len() as u64;
            self.refused += brought.refused.len() as u64;
            for (status, runs) in polling.outcomes(gateway).await {
                *self.runs.entry(status).or_default() += runs;
            }
        }
        verdict
    }

    pub fn counts(&self) -> PolledCounts {
        let mut counts = PolledCounts {
            runs: self.runs.clone(),
            rows: self.rows,
            refused: self.refused,
            ..PolledCounts::default()
        };
        for polling in &self.jobs {
            counts.api += lock(&polling.shelf).counts();
        }
        counts
    }

    /// Ends the season: empties the tables after they were verified, and has the API begin with other items.
    pub async fn new_season(&mut self, gateway: &Gateway) {
        let tables = Polled::streams().map(|stream| format!("streams.{stream}"));
        gateway.execute(&format!("truncate {}", tables.join(", "))).await;
        for polling in &mut self.jobs {
            let fence =
                format!("select fence from tidegate.polling_jobs where id = '{}'", polling.id);
            polling.runs_before = gateway.scalar(fence).await;
            polling.counted_before = polling.sums(gateway, "=").await;
            lock(&polling.shelf).new_season();
        }
    }
}

impl Polling {
    /// Orders a run that begins from now on, until one has gone well; returns its number.
    async fn runs_well(&self, gateway: &Gateway) -> i64 {
        let Polling { job, id, .. } = self;
        let latest = format!(
            "select array[fence::text, case when finished_at is null then 'running' else status end]
             from tidegate.polling_runs where job_id = '{id}' order by fence desc limit 1"
        );
        let latest = async || {
            let found: Vec<Vec<String>> = gateway.column(&latest).await;
            let found: Option<[String; 2]> =
                found.into_iter().next().and_then(|run| run.try_into().ok());
            found.map(|[number, status]| (number.parse::<i64>().expect("a number"), status))
        };
        let before = latest().await.map_or(0, |(number, _)| number);
        eventually(&format!("{job:?} has a run that goes well"), async || {
            if let Some((number, status)) = latest().await {
                match status.as_str() {
                    "success" | "not_modified" if number > before => return Some(number),
                    "running" => return None,
                    _ => {}
                }
            }
            let path = format!("/v1/polling-jobs/{id}/run");
            let reply = gateway.post(&path, &json!({})).await;
            assert!(matches!(reply.status, 202 | 409), "{}", reply.body);
            None
        })
        .await
    }

    async fn brought(&self, gateway: &Gateway) -> Brought {
        let Polling { job, id, runs_before, .. } = self;
        let refused = format!(
            "select convert_from(raw, 'UTF8')::jsonb from tidegate.quarantine
             where source = 'poll'
                 and stream_id = (select id from tidegate.streams where name = '{}' and deleted_at is null)",
            job.stream()
        );
        let sums = self.sums(gateway, ">=").await;
        let counted: Vec<i64> =
            sums.iter().zip(&self.counted_before).map(|(now, before)| now - before).collect();
        let [new, changed, refused_of_runs, parked] = counted[..] else {
            panic!("four sums");
        };
        let latest = format!(
            "select coalesce(max(fence), 0) from tidegate.polling_runs where job_id = '{id}'"
        );
        let latest: i64 = gateway.scalar(latest).await;
        let all_kept = latest - runs_before < RUNS_KEPT;
        let counted = Counted { new, changed, refused: refused_of_runs, parked };
        Brought {
            rows: gateway.column(job.rows()).await,
            refused: gateway.column(refused).await,
            counted: all_kept.then_some(counted),
        }
    }

    /// What runs counted, from the last of the season before on, or that one alone.
    async fn sums(&self, gateway: &Gateway, which: &str) -> Vec<i64> {
        let Polling { id, runs_before, .. } = self;
        let sums = format!(
            "select array[coalesce(sum(new), 0)::bigint, coalesce(sum(changed), 0)::bigint,
                 coalesce(sum(refused), 0)::bigint, coalesce(sum(parked), 0)::bigint]
             from tidegate.polling_runs where job_id = '{id}' and fence {which} {runs_before}"
        );
        gateway.scalar(sums).await
    }

    /// How many runs of this season ended how.
    async fn outcomes(&self, gateway: &Gateway) -> BTreeMap<String, u64> {
        let Polling { id, runs_before, .. } = self;
        let sql = format!(
            "select status from tidegate.polling_runs where job_id = '{id}' and fence > {runs_before}"
        );
        let mut outcomes = BTreeMap::new();
        for status in gateway.column::<String>(sql).await {
            *outcomes.entry(status).or_default() += 1;
        }
        outcomes
    }
}

impl AddAssign for ShelfCounts {
    fn add_assign(&mut self, other: ShelfCounts) {
        self.questions += other.questions;
        self.unchanged += other.unchanged;
        self.refused += other.refused;
        self.shown += other.shown;
        self.items += other.items;
        self.changes += other.changes;
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("no holder panics")
}
