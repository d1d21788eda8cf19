//! One record a request, durable before the answer, against a bare handler that answers at once, and one that only syncs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bench::Bench;
use crate::figures::Unit;
use crate::gateway::Gateway;
use crate::http;
use crate::limits::BareServer;
use crate::load;
use crate::records;

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// Different records, so that no branch is learnt by heart.
const RECORDS: usize = 1_000;
/// Size of each, in bytes.
pub const RECORD_BYTES: usize = 100;

pub fn gateway_name(connections: usize) -> String {
    format!("single records, {connections} connections: durable requests/s")
}

pub fn bare_name(connections: usize) -> String {
    format!("L3: bare handler, {connections} connections: requests/s")
}

fn durable_name(connections: usize) -> String {
    format!("L3 with L4: bare handler that syncs, {connections} connections: requests/s")
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bare = BareServer::start("bare-http", &bench.dir).await?;
    let durable = BareServer::start("syncing-http", &bench.dir).await?;
    let gateway = bench.site.start(&[]).await?;
    let to_gateway = requests_to_gateway(&gateway, "single").await?;
    let (to_bare, to_durable) = (requests_to_bare(&bare), requests_to_bare(&durable));
    let length = Duration::from_secs_f64(bench.size.seconds);
    for round in 0..bench.size.rounds {
        for connections in CONNECTIONS {
            bench.say(&format!("round {}: single records, {connections} connections", round + 1));
            let rate = load::rate(&bare.address, &to_bare, connections, length).await?;
            bench.figures.add(round, bare_name(connections), Unit::PerSecond, rate);
            let rate = load::rate(&durable.address, &to_durable, connections, length).await?;
            bench.figures.add(round, durable_name(connections), Unit::PerSecond, rate);
            bench.postgres.clear("single").await?;
            let rate = load::rate(&gateway.address, &to_gateway, connections, length).await?;
            bench.figures.add(round, gateway_name(connections), Unit::PerSecond, rate);
            gateway.wait_committed().await?;
        }
    }
    bench.postgres.clear("single").await?;
    gateway.stop().await?;
    durable.stop().await?;
    bare.stop().await
}

/// Makes the stream, and requests of one record each.
pub async fn requests_to_gateway(
    gateway: &Gateway,
    stream: &str,
) -> anyhow::Result<Arc<Vec<Bytes>>> {
    gateway.create_stream(&records::generated_definition(stream, None)).await?;
    let path = format!("/v1/streams/{stream}/records");
    let request = |line: &String| {
        http::post(&gateway.address, &path, &gateway.token, "application/json", line.as_bytes())
    };
    Ok(Arc::new(records::generated(RECORD_BYTES, 1..=RECORDS).lines.iter().map(request).collect()))
}

pub fn requests_to_bare(bare: &BareServer) -> Arc<Vec<Bytes>> {
    let request =
        |line: &String| http::post(&bare.address, "/", "none", "application/json", line.as_bytes());
    Arc::new(records::generated(RECORD_BYTES, 1..=RECORDS).lines.iter().map(request).collect())
}
