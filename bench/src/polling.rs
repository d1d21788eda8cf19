//! Polling jobs: how late they run, what a run costs, and what memory they take, with few of them and with many.
//!
//! The jobs ask an API in this process, which answers at once: ten items that stay the same and one that is new. They are
//! made one by one over their interval, so that they are due one by one as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::Bench;
use crate::figures::Unit;
use crate::gateway::Gateway;
use crate::process;

/// With many jobs.
pub const LATENESS_P99: &str = "polling, many jobs: from due to begun, p99";
pub const PEAK: &str = "polling, many jobs: resident memory, the peak";
/// Processor time of the gateway for a run; PostgreSQL's is not in it.
pub const COST_FEW: &str = "polling, a tenth of the jobs: processor time of a run";
pub const COST_MANY: &str = "polling, many jobs: processor time of a run";

const LATENESS_P50: &str = "polling, many jobs: from due to begun, p50";
const RUNS: &str = "polling, many jobs: runs/s";

/// The API's host is one for all jobs, and on this machine.
const FLAGS: [&str; 6] = [
    "--allow-networks",
    "127.0.0.0/8",
    "--polling-host-spacing-ms",
    "0",
    "--polling-host-requests-max",
    "64",
];
const STREAM: &str = "polled";
/// Items of an answer that never change.
const SAME_ITEMS: u64 = 10;
/// Jobs that are made at the same time.
const MAKING_MAX: usize = 16;

/// What jobs did within a measured time.
struct Measured {
    runs: usize,
    lateness_seconds: Vec<f64>,
    cpu: Duration,
    peak_bytes: u64,
    took: Duration,
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (address, _api) = serve().await?;
    let many = bench.size.jobs;
    for round in 0..bench.size.rounds {
        let few = measure_jobs(bench, &address, (many / 10).max(1), round).await?;
        bench.seconds(round, COST_FEW, cost_seconds(&few)?);
        let measured = measure_jobs(bench, &address, many, round).await?;
        bench.seconds(round, COST_MANY, cost_seconds(&measured)?);
        bench.seconds(round, LATENESS_P50, measured.lateness(0.5)?);
        bench.seconds(round, LATENESS_P99, measured.lateness(0.99)?);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let (runs, peak) = (measured.runs as f64, measured.peak_bytes as f64);
        bench.figures.add(round, RUNS, Unit::PerSecond, runs / measured.took.as_secs_f64());
        bench.figures.add(round, PEAK, Unit::Bytes, peak);
    }
    Ok(())
}

/// Makes the jobs over one interval, measures over the next, and takes them away.
async fn measure_jobs(
    bench: &Bench,
    address: &str,
    jobs: usize,
    round: usize,
) -> anyhow::Result<Measured> {
    let interval = Duration::from_millis(bench.size.jobs_interval_ms);
    let gateway = Arc::new(bench.site.start(&FLAGS).await?);
    let pid = gateway.pid()?;
    bench.say(&format!("round {}: making {jobs} polling jobs", round + 1));
    make(&gateway, address, jobs, interval).await?;
    bench.say(&format!("round {}: {jobs} polling jobs every {interval:?}", round + 1));
    let (cpu, begun) = (process::cpu_time(pid)?, Instant::now());
    let from = bench.postgres.now().await?;
    sleep(interval).await;
    let lateness_seconds = bench.postgres.polling_lateness_seconds(from).await?;
    let measured = Measured {
        runs: lateness_seconds.len(),
        lateness_seconds,
        cpu: process::cpu_time(pid)?.saturating_sub(cpu),
        peak_bytes: process::peak_bytes(pid)?,
        took: begun.elapsed(),
    };
    // Spread by 5 %: nearly all ran once, some not at all and some twice.
    ensure!(measured.runs * 2 >= jobs, "only {} runs of {jobs} jobs", measured.runs);
    let failed = bench.postgres.polling_failures().await?;
    ensure!(failed == 0, "{failed} runs failed");
    let gateway = Arc::into_inner(gateway).context("all jobs are made")?;
    gateway.stop().await?;
    bench.postgres.forget_polling_jobs().await?;
    bench.postgres.clear(STREAM).await?;
    Ok(measured)
}

async fn make(
    gateway: &Arc<Gateway>,
    address: &str,
    jobs: usize,
    interval: Duration,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(MAKING_MAX));
    let (begun, mut making) = (Instant::now(), JoinSet::new());
    for number in 0..jobs {
        let share = u32::try_from(number)?;
        sleep_until(begun + interval * share / u32::try_from(jobs)?).await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let gateway = Arc::clone(gateway);
        let job = json!({
            "url": format!("http://{address}/{number}"), "stream": STREAM, "key": ["/id"],
            "interval_ms": u64::try_from(interval.as_millis())?,
        });
        making.spawn(async move {
            let made = gateway.create_polling_job(&job).await;
            drop(place);
            made
        });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    Ok(())
}

impl Measured {
    fn lateness(&self, share: f64) -> anyhow::Result<f64> {
        let mut sorted = self.lateness_seconds.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of at most some ten thousand"
        )]
        let index = (share * sorted.len() as f64) as usize;
        let last = sorted.len().saturating_sub(1);
        sorted.get(index.min(last)).copied().context("no job has run")
    }
}

fn cost_seconds(measured: &Measured) -> anyhow::Result<f64> {
    Ok(measured.cpu.as_secs_f64() / f64::from(u32::try_from(measured.runs)?))
}

/// The API: its address, and what ends it when it is dropped.
async fn serve() -> anyhow::Result<(String, JoinSet<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?.to_string();
    let router =
        Router::new().route("/{job}", get(answer)).with_state(Arc::new(AtomicU64::new(SAME_ITEMS)));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("the API of the polling jobs ended: {error}");
        }
    });
    Ok((address, serving))
}

async fn answer(State(asked): State<Arc<AtomicU64>>, Path(job): Path<String>) -> Json<Vec<Value>> {
    static SAME: OnceLock<Vec<Value>> = OnceLock::new();
    let item = |id: u64| json!({"id": id, "title": "accusamus beatae ad facilis cum similique"});
    let mut items = SAME.get_or_init(|| (0..SAME_ITEMS).map(item).collect()).clone();
    let mut fresh = item(asked.fetch_add(1, Ordering::Relaxed));
    fresh["job"] = job.into();
    items.push(fresh);
    Json(items)
}
