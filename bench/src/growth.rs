//! What more of everything costs: streams, rows in the table, writers.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;

use crate::bench::Bench;
use crate::bulk;
use crate::copies::Copies;
use crate::gateway::Gateway;
use crate::records::{self, BATCH_RECORDS, Packing, Records};

pub const ONE_STREAM: &str = "all records into one stream: committed records/s";
pub const MANY_STREAMS: &str = "the same spread over many streams: committed records/s";
pub const EMPTY_TABLE: &str = "typed, into an empty table: committed records/s";
pub const LARGE_TABLE: &str = "typed, into a table of many rows: committed records/s";

/// Requests to each of many streams, at least: the first into a table costs more than the next ones.
const REQUESTS_A_STREAM: usize = 2;
/// How many writers are compared.
const WRITERS: [&str; 2] = ["1", "4"];
const ONE: &str = "growth_one";
const LARGE: &str = "growth_large";
const DOCUMENTS: &str = "growth_documents";

fn writers_name(writers: &str, shape: &str) -> String {
    format!("{shape}, writers: {writers}: committed records/s")
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    streams(bench).await?;
    if bench.size.table_rows > 0 {
        rows(bench).await?;
    }
    writers(bench).await
}

/// One stream and many, with the same records.
async fn streams(bench: &mut Bench) -> anyhow::Result<()> {
    let names: Vec<String> = (0..bench.size.streams).map(|n| format!("growth_{n}")).collect();
    let records = bench.size.records.max(names.len() * REQUESTS_A_STREAM * BATCH_RECORDS);
    let bodies = records::weather(records)?.bodies(Packing::Ndjson)?;
    let gateway = bench.site.start(&[]).await?;
    bench.say("making the streams");
    for name in names.iter().map(String::as_str).chain([ONE]) {
        gateway.create_stream(&records::weather_definition(name)).await?;
    }
    let to_one = bulk::requests(&gateway, ONE, Packing::Ndjson, &bodies);
    let to_many = spread(&gateway, &names, &bodies);
    bench.postgres.clear(ONE).await?;
    for round in 0..bench.size.rounds {
        // No table is emptied between rounds: PostgreSQL would forget what it knows of a thousand tables, and to learn it
        // again costs more than the few rows that one round brings to each.
        for (name, requests) in in_turns(round, [(ONE_STREAM, &to_one), (MANY_STREAMS, &to_many)]) {
            bench.postgres.settle().await?;
            bench.say(&format!("round {}: {name}", round + 1));
            let took = bulk::send(&gateway, requests).await?;
            bench.rate(round, name, records, took.committed);
        }
    }
    let mut rows = bench.postgres.rows(ONE).await?;
    for name in &names {
        rows += bench.postgres.rows(name).await?;
    }
    let sent = 2 * bench.size.rounds * records;
    ensure!(usize::try_from(rows)? == sent, "{rows} rows of {sent} records");
    bench.postgres.clear(ONE).await?;
    gateway.stop().await
}

/// The one first in one round, the other in the next, so that no order has an advantage.
fn in_turns<T>(round: usize, mut both: [T; 2]) -> [T; 2] {
    if round % 2 == 1 {
        both.reverse();
    }
    both
}

/// The requests, one to each stream after the other.
fn spread(gateway: &Gateway, streams: &[String], bodies: &[Bytes]) -> Arc<Vec<Bytes>> {
    let mut requests = Vec::with_capacity(bodies.len());
    for (body, stream) in bodies.iter().zip(streams.iter().cycle()) {
        let body = std::slice::from_ref(body);
        requests.extend(bulk::requests(gateway, stream, Packing::Ndjson, body).iter().cloned());
    }
    Arc::new(requests)
}

/// An empty table and one with many rows.
async fn rows(bench: &mut Bench) -> anyhow::Result<()> {
    let gateway = bench.site.start(&[]).await?;
    for name in [ONE, LARGE] {
        gateway.create_stream(&records::weather_definition(name)).await?;
    }
    let weather = records::weather(bench.size.records)?;
    bench.say(&format!("filling a table with {} rows", bench.size.table_rows));
    fill_large(bench, &weather).await?;
    let bodies = weather.bodies(Packing::Ndjson)?;
    let to_empty = bulk::requests(&gateway, ONE, Packing::Ndjson, &bodies);
    let to_large = bulk::requests(&gateway, LARGE, Packing::Ndjson, &bodies);
    for round in 0..bench.size.rounds {
        bench.postgres.clear(ONE).await?;
        for (name, requests) in
            in_turns(round, [(EMPTY_TABLE, &to_empty), (LARGE_TABLE, &to_large)])
        {
            bench.postgres.settle().await?;
            bench.say(&format!("round {}: {name}", round + 1));
            let took = bulk::send(&gateway, requests).await?;
            bench.rate(round, name, weather.len(), took.committed);
        }
    }
    bench.postgres.clear(ONE).await?;
    bench.postgres.clear(LARGE).await?;
    gateway.stop().await
}

/// Fills the large table with the weather over and over, with ids in order as the gateway's are.
async fn fill_large(bench: &Bench, weather: &Records) -> anyhow::Result<()> {
    let copies = Copies::write(bench, "growth", weather)?;
    copies.as_typed(bench, ONE).await?;
    bench.postgres.clear(LARGE).await?;
    let (columns, rows) = (copies.columns_after_id(), bench.size.table_rows);
    let times = rows.div_ceil(weather.len());
    let sql = format!(
        "insert into streams.{LARGE} (id, {columns}) \
         select ('01980000-0000-7000-8000-' || lpad(to_hex(row_number() over ()), 12, '0'))::uuid, {columns} \
         from generate_series(1, {times}), streams.{ONE} limit {rows}"
    );
    bench.postgres.execute(&sql).await?;
    // Else PostgreSQL would do it by itself, in the middle of a measurement.
    bench.postgres.execute(&format!("vacuum (freeze, analyze) streams.{LARGE}")).await
}

/// One writer and several.
async fn writers(bench: &mut Bench) -> anyhow::Result<()> {
    let bodies = records::weather(bench.size.records)?.bodies(Packing::Ndjson)?;
    for round in 0..bench.size.rounds {
        for writers in WRITERS {
            let gateway = bench.site.start(&["--writers", writers]).await?;
            gateway.create_stream(&records::weather_definition(ONE)).await?;
            gateway.create_stream(&records::document_definition(DOCUMENTS)).await?;
            for (shape, stream) in [("typed", ONE), ("documents", DOCUMENTS)] {
                bench.say(&format!("round {}: {shape}, writers: {writers}", round + 1));
                bench.postgres.clear(stream).await?;
                let requests = bulk::requests(&gateway, stream, Packing::Ndjson, &bodies);
                let took = bulk::send(&gateway, &requests).await?;
                let name = writers_name(writers, shape);
                bench.rate(round, name, bench.size.records, took.committed);
                bench.postgres.clear(stream).await?;
            }
            gateway.stop().await?;
        }
    }
    Ok(())
}
