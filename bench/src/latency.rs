//! How long a record takes to be acknowledged at half of what goes through, against a bare handler at the same rate and the
//! bare disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task;

use crate::arrival;
use crate::bench::Bench;
use crate::gateway::Gateway;
use crate::limits::{self, BareServer};
use crate::load;
use crate::single;

const CONNECTIONS: usize = 64;
/// The offered rate as a share of the greatest.
const LOAD: f64 = 0.5;

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub const ACKNOWLEDGED: &str = "acknowledgement at half load";
pub const L3: &str = "L3: bare handler at the same rate";
const DURABLE: &str = "L3 with L4: bare handler that syncs, at the same rate";
pub const L4: &str = "L4: fdatasync of one record";

/// What a quantile of it is called.
pub fn p99(of: &str) -> String {
    format!("{of}: p99")
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bare = BareServer::start("bare-http", &bench.dir).await?;
    let durable = BareServer::start("syncing-http", &bench.dir).await?;
    let gateway = bench.site.start(&[]).await?;
    let to_gateway = single::requests_to_gateway(&gateway, "latency").await?;
    let (to_bare, to_durable) =
        (single::requests_to_bare(&bare), single::requests_to_bare(&durable));
    let bare_servers = [(L3, &bare, &to_bare), (DURABLE, &durable, &to_durable)];
    for round in 0..bench.size.rounds {
        acknowledged(bench, round, (&gateway, &to_gateway), bare_servers).await?;
        arrival::measure(bench, round, &gateway).await?;
    }
    gateway.stop().await?;
    durable.stop().await?;
    bare.stop().await
}

async fn acknowledged(
    bench: &mut Bench,
    round: usize,
    (gateway, to_gateway): (&Gateway, &Arc<Vec<Bytes>>),
    bare_servers: [(&str, &BareServer, &Arc<Vec<Bytes>>); 2],
) -> anyhow::Result<()> {
    bench.say(&format!("round {}: acknowledgement at half load", round + 1));
    let length = Duration::from_secs_f64(bench.size.seconds);
    bench.postgres.clear("latency").await?;
    let address = &gateway.address;
    let greatest = load::rate(address, to_gateway, CONNECTIONS, length / 2).await?;
    gateway.wait_committed().await?;
    let rate = greatest * LOAD;
    let latencies = load::latencies(address, to_gateway, CONNECTIONS, rate, length).await?;
    add(bench, round, ACKNOWLEDGED, &latencies);
    gateway.wait_committed().await?;
    bench.postgres.clear("latency").await?;
    for (name, server, requests) in bare_servers {
        let address = &server.address;
        let latencies = load::latencies(address, requests, CONNECTIONS, rate, length).await?;
        add(bench, round, name, &latencies);
    }
    let dir = bench.dir.clone();
    let sync = move || limits::sync_latencies(&dir, single::RECORD_BYTES, length / 2);
    let latencies = task::spawn_blocking(sync).await??;
    add(bench, round, L4, &latencies);
    Ok(())
}

fn add(bench: &mut Bench, round: usize, what: &str, latencies: &hdrhistogram::Histogram<u64>) {
    for (name, quantile) in QUANTILES {
        let seconds = load::quantile_seconds(latencies, quantile);
        bench.seconds(round, format!("{what}: {name}"), seconds);
    }
}
