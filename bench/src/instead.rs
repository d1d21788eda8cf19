//! What people write instead of Tidegate: a small service with `FastAPI` and `asyncpg` (`bench/instead/service.py`), beside the
//! gateway. The same records from the same client over as many connections into tables with the same columns of the same
//! PostgreSQL; the service commits before it answers, the gateway does what `ack` says.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tidegate_codec::columns::Column;

use crate::bench::Bench;
use crate::bulk;
use crate::figures::Unit;
use crate::gateway::Gateway;
use crate::http;
use crate::load;
use crate::records::{self, Packing, Records};
use crate::service::Service;

/// Connections of the load generator where a request has one record; where it has many, as in [`bulk`].
const CONNECTIONS: usize = 64;
/// Different requests of one record.
const ONE_REQUESTS: usize = 1_000;
/// Before it counts, as a share of the time that counts.
const WARM_UP: f64 = 0.25;
/// Longest time for all answers to one measurement's requests, beyond its own length.
const ANSWERS_MAX: Duration = Duration::from_secs(600);

const TABLE: &str = "observations";
const STREAM: &str = "instead";

pub const SERVICE: &str = "FastAPI + asyncpg";
pub const JOURNAL: &str = "ack=journal";
pub const COMMIT: &str = "ack=commit";
const COMMITTED: &str = "ack=journal, until committed";

/// Requests with one record, by way.
pub fn one(way: &str) -> String {
    format!("instead: a record a request, {way}: requests/s")
}

/// How long each waits for its reply.
fn one_p50(way: &str) -> String {
    format!("instead: a record a request, {way}: p50")
}

pub fn one_p99(way: &str) -> String {
    format!("instead: a record a request, {way}: p99")
}

/// Records in requests with many, by way.
pub fn many(way: &str) -> String {
    format!("instead: many records a request, {way}: records/s")
}

/// One way to bring records into a table.
struct Way {
    name: &'static str,
    address: String,
    table: &'static str,
    /// A reply says that the records are in the table.
    commits: bool,
    one: Arc<Vec<Bytes>>,
    many: Arc<Vec<Bytes>>,
}

/// Leaves itself out where there is no service to measure, and says so.
pub async fn measure(bench: &mut Bench, python: Option<&Path>) -> anyhow::Result<()> {
    let Some(python) = python else {
        bench.say("`instead` is left out: it needs --python");
        return Ok(());
    };
    let gateway = bench.site.start(&[]).await?;
    gateway.create_stream(&records::weather_definition(STREAM)).await?;
    bench.postgres.execute(&create_table()).await?;
    match Service::start(bench, python).await {
        Ok(service) => {
            compare(bench, &gateway, &service).await?;
            service.stop().await?;
        }
        Err(error) => bench.say(&format!("`instead` is left out: {error:#}")),
    }
    gateway.stop().await
}

async fn compare(bench: &mut Bench, gateway: &Gateway, service: &Service) -> anyhow::Result<()> {
    bench.say("preparing the records");
    let weather = records::weather(bench.size.records)?;
    let ways = ways(gateway, service, &weather)?;
    for way in &ways {
        // Connections of the pools prepare their statement when it is first used.
        let length = Duration::from_secs_f64(bench.size.seconds * WARM_UP);
        in_time(load::rate(&way.address, &way.one, CONNECTIONS, length)).await?;
    }
    gateway.wait_committed().await?;
    for round in 0..bench.size.rounds {
        for way in &ways {
            one_by_one(bench, round, gateway, way).await?;
        }
        for way in &ways {
            many_at_once(bench, round, gateway, way, weather.len()).await?;
        }
    }
    for way in &ways {
        bench.postgres.clear(way.table).await?;
    }
    Ok(())
}

/// The table that such a service has, with the columns of the stream.
fn create_table() -> String {
    let column = |column: &Column| format!("{} {}", column.name, column.kind.as_str());
    let columns: Vec<String> = records::weather_columns().iter().map(column).collect();
    format!(
        "create table streams.{TABLE} (
            id bigint generated always as identity primary key,
            received_at timestamptz not null default now(),
            {})",
        columns.join(", ")
    )
}

fn ways(gateway: &Gateway, service: &Service, weather: &Records) -> anyhow::Result<[Way; 3]> {
    let one: Vec<&[u8]> = weather.lines.iter().take(ONE_REQUESTS).map(String::as_bytes).collect();
    let arrays = weather.bodies(Packing::Array)?;
    let many: Vec<&[u8]> = arrays.iter().map(AsRef::as_ref).collect();
    let requests = |address: &str, path: &str, bodies: &[&[u8]]| {
        let content_type = Packing::Array.content_type();
        let post = |body: &&[u8]| http::post(address, path, &gateway.token, content_type, body);
        Arc::new(bodies.iter().map(post).collect())
    };
    let way = |name, address: &String, table, commits, [path_one, path_many]: [&str; 2]| Way {
        name,
        address: address.clone(),
        table,
        commits,
        one: requests(address, path_one, &one),
        many: requests(address, path_many, &many),
    };
    let journal = format!("/v1/streams/{STREAM}/records");
    let commit = format!("{journal}?ack=commit");
    let paths = ["/observations", "/observations/bulk"];
    Ok([
        way(SERVICE, &service.address, TABLE, true, paths),
        way(JOURNAL, &gateway.address, STREAM, false, [&journal; 2]),
        way(COMMIT, &gateway.address, STREAM, true, [&commit; 2]),
    ])
}

async fn one_by_one(
    bench: &mut Bench,
    round: usize,
    gateway: &Gateway,
    way: &Way,
) -> anyhow::Result<()> {
    bench.say(&format!("round {}: a record a request, {}", round + 1, way.name));
    bench.postgres.clear(way.table).await?;
    let length = Duration::from_secs_f64(bench.size.seconds);
    let found = in_time(load::closed_loop(&way.address, &way.one, CONNECTIONS, length)).await?;
    if !way.commits {
        gateway.wait_committed().await?;
    }
    let rows = bench.postgres.rows(way.table).await?;
    ensure!(u64::try_from(rows)? == found.replies, "{}: {rows} rows", way.name);
    bench.figures.add(round, one(way.name), Unit::PerSecond, found.per_second);
    let [p50, p99] = [0.5, 0.99].map(|at| load::quantile_seconds(&found.latencies, at));
    bench.seconds(round, one_p50(way.name), p50);
    bench.seconds(round, one_p99(way.name), p99);
    Ok(())
}

async fn many_at_once(
    bench: &mut Bench,
    round: usize,
    gateway: &Gateway,
    way: &Way,
    records: usize,
) -> anyhow::Result<()> {
    bench.say(&format!("round {}: many records a request, {}", round + 1, way.name));
    bench.postgres.clear(way.table).await?;
    let started = Instant::now();
    let took = in_time(load::send_all(&way.address, &way.many, bulk::CONNECTIONS)).await?;
    if !way.commits {
        gateway.wait_committed().await?;
        bench.rate(round, many(COMMITTED), records, started.elapsed());
    }
    let rows = bench.postgres.rows(way.table).await?;
    ensure!(usize::try_from(rows)? == records, "{}: {rows} rows", way.name);
    bench.rate(round, many(way.name), records, took);
    Ok(())
}

async fn in_time<T>(answers: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let answers = tokio::time::timeout(ANSWERS_MAX, answers).await;
    answers.with_context(|| format!("no answer within {ANSWERS_MAX:?}"))?
}
