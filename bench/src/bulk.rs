//! Many records a request, against `psql \copy` of the same records into the same tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;

use crate::bench::Bench;
use crate::copies::Copies;
use crate::gateway::Gateway;
use crate::http;
use crate::limits;
use crate::load;
use crate::records::{self, Packing, Records};

/// Connections of the load generator.
pub const CONNECTIONS: usize = 8;
/// Bytes that are synced at once where the disk alone is measured.
const SYNC_BYTES: usize = 1 << 20;
/// Sizes of generated records in bytes, and how many times fewer of them are sent.
const SIZES: [(usize, usize); 3] = [(100, 1), (1_000, 4), (10_000, 40)];

pub const L1: &str = "L1: psql \\copy of the records as documents, records/s";
pub const L2: &str = "L2: psql \\copy of the records as binary tuples, typed, records/s";
pub const L4: &str = "L4: append and fdatasync of the records' bytes, records/s";
pub const TYPED: &str = "weather as NDJSON, typed";
pub const DOCUMENTS: &str = "weather as NDJSON, documents";

pub fn acknowledged(name: &str) -> String {
    format!("{name}: acknowledged records/s")
}

pub fn committed(name: &str) -> String {
    format!("{name}: committed records/s")
}

/// One way to send records.
struct Way {
    name: String,
    stream: String,
    requests: Arc<Vec<Bytes>>,
    records: usize,
}

/// Files for `\copy`, and the ways to send the same.
struct Prepared {
    weather: Records,
    copies: Copies,
    ways: Vec<Way>,
}

/// How long it took.
pub struct Took {
    pub acknowledged: Duration,
    pub committed: Duration,
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let gateway = bench.site.start(&[]).await?;
    let prepared = prepare(bench, &gateway).await?;
    for round in 0..bench.size.rounds {
        limits_of(bench, &prepared, round).await?;
        for way in &prepared.ways {
            bench.say(&format!("round {}: {}", round + 1, way.name));
            bench.postgres.clear(&way.stream).await?;
            let took = send(&gateway, &way.requests).await?;
            let rows = bench.postgres.rows(&way.stream).await?;
            ensure!(usize::try_from(rows)? == way.records, "{}: {rows} rows", way.name);
            bench.rate(round, acknowledged(&way.name), way.records, took.acknowledged);
            bench.rate(round, committed(&way.name), way.records, took.committed);
        }
    }
    for way in &prepared.ways {
        bench.postgres.clear(&way.stream).await?;
    }
    gateway.stop().await
}

/// Sends everything, and waits for the commit.
pub async fn send(gateway: &Gateway, requests: &Arc<Vec<Bytes>>) -> anyhow::Result<Took> {
    let started = Instant::now();
    let acknowledged = load::send_all(&gateway.address, requests, CONNECTIONS).await?;
    gateway.wait_committed().await?;
    Ok(Took { acknowledged, committed: started.elapsed() })
}

/// The requests that bring these bodies into a stream.
pub fn requests(
    gateway: &Gateway,
    stream: &str,
    packing: Packing,
    bodies: &[Bytes],
) -> Arc<Vec<Bytes>> {
    let path = format!("/v1/streams/{stream}/records");
    let query = if packing == Packing::Csv { "?null=NA" } else { "" };
    let request = |body: &Bytes| {
        let path = format!("{path}{query}");
        http::post(&gateway.address, &path, &gateway.token, packing.content_type(), body)
    };
    Arc::new(bodies.iter().map(request).collect())
}

async fn prepare(bench: &Bench, gateway: &Gateway) -> anyhow::Result<Prepared> {
    bench.say("preparing the records");
    let weather = records::weather(bench.size.records)?;
    let copies = Copies::write(bench, "bulk", &weather)?;
    gateway.create_stream(&records::weather_definition("bulk_typed")).await?;
    gateway.create_stream(&records::document_definition("bulk_documents")).await?;
    let mut ways = Vec::new();
    for (shape, stream) in [("typed", "bulk_typed"), ("documents", "bulk_documents")] {
        for packing in [Packing::Ndjson, Packing::Csv, Packing::Array] {
            ways.push(Way {
                name: format!("weather as {}, {shape}", packing.name()),
                stream: stream.to_owned(),
                requests: requests(gateway, stream, packing, &weather.bodies(packing)?),
                records: weather.len(),
            });
        }
    }
    for (bytes, fewer) in SIZES {
        let records = records::generated(bytes, 1..=(bench.size.records / fewer).max(1));
        let bodies = records.bodies(Packing::Ndjson)?;
        ways.push(Way {
            name: format!("{bytes}-byte records as NDJSON, documents"),
            stream: "bulk_documents".to_owned(),
            requests: requests(gateway, "bulk_documents", Packing::Ndjson, &bodies),
            records: records.len(),
        });
    }
    Ok(Prepared { weather, copies, ways })
}

async fn limits_of(bench: &mut Bench, prepared: &Prepared, round: usize) -> anyhow::Result<()> {
    let records = prepared.weather.len();
    bench.say(&format!("round {}: the limits", round + 1));
    let took = prepared.copies.as_documents(bench, "bulk_documents").await?;
    bench.rate(round, L1, records, took);
    let took = prepared.copies.as_typed(bench, "bulk_typed").await?;
    bench.rate(round, L2, records, took);
    let took = limits::sync_all(&bench.dir, prepared.weather.bytes(), SYNC_BYTES)?;
    bench.rate(round, L4, records, took);
    Ok(())
}
