//! Catching up: a journal full of records that PostgreSQL does not have yet, as after an outage.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;

use crate::bench::Bench;
use crate::bulk;
use crate::copies::Copies;
use crate::load;
use crate::records::{self, Packing};

pub const TYPED: &str = "backlog, typed: drained records/s";
pub const DOCUMENTS: &str = "backlog, documents: drained records/s";
pub const L1: &str = "L1 beside the backlog: psql \\copy of the records as documents, records/s";
pub const L2: &str =
    "L2 beside the backlog: psql \\copy of the records as binary tuples, records/s";

/// A gateway with these cuts no batch as long as it lives here: an hour, and more than a journal holds.
const GATHERING: [&str; 6] = [
    "--batch-interval-ms",
    "3600000",
    "--batch-rows",
    "1000000000000",
    "--batch-bytes",
    "1000000000000",
];
const TYPED_STREAM: &str = "backlog_typed";
const DOCUMENTS_STREAM: &str = "backlog_documents";

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.say("preparing the backlog's records");
    let weather = records::weather(bench.size.backlog_records)?;
    let copies = Copies::write(bench, "backlog", &weather)?;
    let bodies = weather.bodies(Packing::Ndjson)?;
    drop(weather);
    let gateway = bench.site.start(&[]).await?;
    gateway.create_stream(&records::weather_definition(TYPED_STREAM)).await?;
    gateway.create_stream(&records::document_definition(DOCUMENTS_STREAM)).await?;
    gateway.stop().await?;
    for round in 0..bench.size.rounds {
        bench.say(&format!("round {}: the limits beside the backlog", round + 1));
        let took = copies.as_typed(bench, TYPED_STREAM).await?;
        bench.rate(round, L2, copies.records, took);
        let took = copies.as_documents(bench, DOCUMENTS_STREAM).await?;
        bench.rate(round, L1, copies.records, took);
        for (name, stream) in [(TYPED, TYPED_STREAM), (DOCUMENTS, DOCUMENTS_STREAM)] {
            bench.say(&format!("round {}: {name}", round + 1));
            bench.postgres.clear(stream).await?;
            let (records, took) = drain(bench, stream, &bodies).await?;
            bench.rate(round, name, records, took);
            let rows = bench.postgres.rows(stream).await?;
            ensure!(usize::try_from(rows)? == copies.records, "{stream}: {rows} rows");
            bench.postgres.clear(stream).await?;
        }
    }
    Ok(())
}

/// Fills a journal without a commit, then lets another gateway drain it: how many records waited when it was ready, and
/// how long it took from then on.
async fn drain(bench: &Bench, stream: &str, bodies: &[Bytes]) -> anyhow::Result<(usize, Duration)> {
    let gathering = bench.site.start(&GATHERING).await?;
    let requests = bulk::requests(&gathering, stream, Packing::Ndjson, bodies);
    load::send_all(&gathering.address, &requests, bulk::CONNECTIONS).await?;
    drop(requests);
    ensure!(gathering.committed_records(stream).await? == 0, "nothing waits in the journal");
    // Asked to stop, it would drain.
    let draining = gathering.kill_and_restart(&bench.site, &[]).await?;
    let started = Instant::now();
    let before = draining.committed_records(stream).await?;
    draining.wait_committed().await?;
    let took = started.elapsed();
    let drained = draining.committed_records(stream).await?.saturating_sub(before);
    draining.stop().await?;
    Ok((usize::try_from(drained)?, took))
}
