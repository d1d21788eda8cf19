//! Resident memory: of a gateway that does nothing, and the most that it takes under full load.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;

use crate::bench::Bench;
use crate::bulk;
use crate::gateway::Gateway;
use crate::load;
use crate::process;
use crate::records::{self, Packing};

pub const IDLE: &str = "resident memory, idle";
pub const LOADED: &str = "resident memory at full load, the peak";

/// Connections of the load, so many that many bodies are read at the same time.
const CONNECTIONS: usize = 64;
/// Size of the large records among the others in bytes, and how many times fewer of them are sent.
const LARGE: (usize, usize) = (10_000, 40);
/// Longest time of nothing in seconds before an idle gateway is looked at.
const IDLE_SECONDS_MAX: f64 = 5.0;
const TYPED: &str = "memory_typed";
const DOCUMENTS: &str = "memory_documents";

/// What is sent, by stream.
struct Bodies {
    typed: Vec<Bytes>,
    documents: Vec<Bytes>,
    large: Vec<Bytes>,
    records: usize,
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let idle = Duration::from_secs_f64(bench.size.seconds.min(IDLE_SECONDS_MAX));
    let bodies = bodies(bench.size.records)?;
    for round in 0..bench.size.rounds {
        // Each round a new one, because a process keeps its peak.
        let gateway = bench.site.start(&[]).await?;
        gateway.create_stream(&records::weather_definition(TYPED)).await?;
        gateway.create_stream(&records::document_definition(DOCUMENTS)).await?;
        bench.say(&format!("round {}: memory of a gateway that does nothing", round + 1));
        tokio::time::sleep(idle).await;
        bench.bytes(round, IDLE, process::resident_bytes(gateway.pid()?)?);
        bench.say(&format!("round {}: memory under full load", round + 1));
        let requests = interleaved(&gateway, &bodies);
        load::send_all(&gateway.address, &requests, CONNECTIONS).await?;
        gateway.wait_committed().await?;
        bench.bytes(round, LOADED, process::peak_bytes(gateway.pid()?)?);
        let rows = bench.postgres.rows(TYPED).await? + bench.postgres.rows(DOCUMENTS).await?;
        ensure!(usize::try_from(rows)? == bodies.records, "{rows} rows");
        gateway.stop().await?;
        bench.postgres.clear(TYPED).await?;
        bench.postgres.clear(DOCUMENTS).await?;
    }
    Ok(())
}

fn bodies(records: usize) -> anyhow::Result<Bodies> {
    let (bytes, fewer) = LARGE;
    let weather = records::weather(records)?;
    let large = records::generated(bytes, 1..=(records / fewer).max(1));
    let small = weather.bodies(Packing::Ndjson)?;
    Ok(Bodies {
        typed: small.clone(),
        documents: small,
        large: large.bodies(Packing::Ndjson)?,
        records: 2 * weather.len() + large.len(),
    })
}

/// The requests, so that all kinds are under way at the same time from the first to the last.
fn interleaved(gateway: &Gateway, bodies: &Bodies) -> Arc<Vec<Bytes>> {
    let of = |stream, bodies: &[Bytes]| bulk::requests(gateway, stream, Packing::Ndjson, bodies);
    let typed = of(TYPED, &bodies.typed);
    let documents = of(DOCUMENTS, &bodies.documents);
    let large = of(DOCUMENTS, &bodies.large);
    let every = (typed.len() / large.len()).max(1);
    let mut requests = Vec::with_capacity(typed.len() + documents.len() + large.len());
    for (number, (typed, document)) in typed.iter().zip(documents.iter()).enumerate() {
        requests.extend([typed.clone(), document.clone()]);
        if number % every == 0 {
            requests.extend(large.get(number / every).cloned());
        }
    }
    Arc::new(requests)
}
