//! Many monitors, and more records than can be delivered to all of them: the gateway, whose monitors share coalesced
//! frames, against a bare broadcaster that sends each record as a frame of its own, as its peers do.
//!
//! The gateway has to be honest while it is overloaded: every watcher must have got every record, or a gap that counts
//! it. The broadcaster is not asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::bench::Bench;
use crate::figures::Unit;
use crate::gateway::Gateway;
use crate::limits::BareServer;
use crate::offer::Offer;
use crate::process;
use crate::records;
use crate::watchers::{Door, Total, Watchers};

pub const DELIVERED: &str = "fan-out, gateway: deliveries/s";
pub const ONE_A_FRAME: &str = "fan-out, one frame a record: deliveries/s";
pub const DELIVERED_TO_MANY: &str = "fan-out to more monitors, gateway: deliveries/s";
pub const ONE_A_FRAME_TO_MANY: &str = "fan-out to more monitors, one frame a record: deliveries/s";

/// Records offered a second, times monitors: more than can be delivered.
const OFFERED_DELIVERIES: f64 = 12_000_000.0;
/// Size of a record in bytes, as it is sent.
const RECORD_BYTES: usize = 100;
const BODY_RECORDS: usize = 100;
/// With only a few monitors the records would be what is measured.
const BODIES_PER_SECOND_MAX: f64 = 200.0;
/// Different bodies.
const BODIES: usize = 20;
/// Before it counts, as a share of the time that counts.
const WARM_UP: f64 = 0.25;

const STREAM: &str = "fanout";

/// What was seen in a window of time.
struct Seen {
    delivered: f64,
    omitted: f64,
    server_cores: f64,
    client_cores: f64,
    server_peak_bytes: u64,
}

/// What is measured.
struct Server<'a> {
    address: &'a str,
    pid: u32,
    token: &'a str,
    monitor_path: &'a str,
    records_path: &'a str,
    /// Gaps are announced, so that everything adds up.
    is_exact: bool,
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    process::raise_open_files()?;
    let bodies = bodies();
    let (some, many) = (bench.size.monitors, bench.size.monitors_many);
    for round in 0..bench.size.rounds {
        to(bench, round, some, [DELIVERED, ONE_A_FRAME], &bodies).await?;
        if many > 0 {
            to(bench, round, many, [DELIVERED_TO_MANY, ONE_A_FRAME_TO_MANY], &bodies).await?;
        }
    }
    Ok(())
}

async fn to(
    bench: &mut Bench,
    round: usize,
    monitors: usize,
    [coalesced, one_a_frame]: [&str; 2],
    bodies: &Arc<Vec<Bytes>>,
) -> anyhow::Result<()> {
    bench.say(&format!("round {}: {monitors} monitors", round + 1));
    let gateway = bench.site.start(&[]).await?;
    let seen = of_gateway(bench, &gateway, monitors, bodies).await?;
    gateway.wait_committed().await?;
    gateway.stop().await?;
    bench.postgres.clear(STREAM).await?;
    add(bench, round, coalesced, &seen);

    let bare = BareServer::start("bare-broadcast", &bench.dir).await?;
    let server = Server {
        address: &bare.address,
        pid: bare.pid()?,
        token: "none",
        monitor_path: "/monitor",
        records_path: "/",
        is_exact: false,
    };
    let seen = watch(&server, monitors, bodies, bench.size.seconds).await?;
    bare.stop().await?;
    add(bench, round, one_a_frame, &seen);
    Ok(())
}

async fn of_gateway(
    bench: &Bench,
    gateway: &Gateway,
    monitors: usize,
    bodies: &Arc<Vec<Bytes>>,
) -> anyhow::Result<Seen> {
    gateway.create_stream(&records::generated_definition(STREAM, None)).await?;
    let server = Server {
        address: &gateway.address,
        pid: gateway.pid()?,
        token: &gateway.token,
        monitor_path: "/v1/monitor",
        records_path: &format!("/v1/streams/{STREAM}/records"),
        is_exact: true,
    };
    watch(&server, monitors, bodies, bench.size.seconds).await
}

fn bodies() -> Arc<Vec<Bytes>> {
    let lines = records::generated(RECORD_BYTES, 1..=BODIES * BODY_RECORDS).lines;
    Arc::new(lines.chunks(BODY_RECORDS).map(|lines| lines.join("\n").into()).collect())
}

async fn watch(
    server: &Server<'_>,
    monitors: usize,
    bodies: &Arc<Vec<Bytes>>,
    seconds: f64,
) -> anyhow::Result<Seen> {
    let door = Door { address: server.address, path: server.monitor_path, token: server.token };
    let mut watchers = Watchers::connect(&door, monitors, 0).await?;
    if server.is_exact {
        watchers.wait_greeted().await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let bodies_per_second = OFFERED_DELIVERIES / (monitors * BODY_RECORDS) as f64;
    let bodies_per_second = bodies_per_second.min(BODIES_PER_SECOND_MAX);
    let offer = Offer {
        address: server.address.to_owned(),
        path: server.records_path.to_owned(),
        token: server.token.to_owned(),
        bodies_per_second,
        length: Duration::from_secs_f64(seconds * (1.0 + WARM_UP)),
    };
    let started = Instant::now();
    let of = Arc::clone(bodies);
    let offering = offer.run(started, move |number, _| of[number % of.len()].clone());
    let window = window(server, &watchers, started, seconds);
    let seen = if server.is_exact {
        let (offered, seen) = tokio::join!(offering, window);
        offered?;
        watchers.wait_given((offer.bodies() * BODY_RECORDS) as u64).await?;
        seen?
    } else {
        // It takes requests more slowly than they are due, and the last are not waited for.
        tokio::pin!(window);
        tokio::select! {
            seen = &mut window => seen?,
            offered = offering => {
                offered?;
                window.await?
            }
        }
    };
    ensure!(seen.delivered > 0.0, "nothing was delivered");
    Ok(seen)
}

/// Looks at what is delivered after the warm-up.
async fn window(
    server: &Server<'_>,
    watchers: &Watchers,
    started: Instant,
    seconds: f64,
) -> anyhow::Result<Seen> {
    let look = || {
        let cores = (process::cpu_time(server.pid)?, process::cpu_time(std::process::id())?);
        anyhow::Ok((Instant::now(), watchers.total(), cores))
    };
    sleep_until(started + Duration::from_secs_f64(seconds * WARM_UP)).await;
    let (from, before, cores_before) = look()?;
    sleep_until(started + Duration::from_secs_f64(seconds * (1.0 + WARM_UP))).await;
    let (to, after, cores_after) = look()?;
    let took = (to - from).as_secs_f64();
    let Total { records, omitted } = after;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = |count: u64| count as f64 / took;
    let cores = |after: Duration, before| after.saturating_sub(before).as_secs_f64() / took;
    Ok(Seen {
        delivered: rate(records - before.records),
        omitted: rate(omitted - before.omitted),
        server_cores: cores(cores_after.0, cores_before.0),
        client_cores: cores(cores_after.1, cores_before.1),
        server_peak_bytes: process::peak_bytes(server.pid)?,
    })
}

fn add(bench: &mut Bench, round: usize, name: &str, seen: &Seen) {
    let what = name.trim_end_matches(": deliveries/s");
    let figures = &mut bench.figures;
    figures.add(round, name, Unit::PerSecond, seen.delivered);
    figures.add(round, format!("{what}: told of in gaps/s"), Unit::PerSecond, seen.omitted);
    figures.add(round, format!("{what}: server"), Unit::Cores, seen.server_cores);
    let peak = f64::from(u32::try_from(seen.server_peak_bytes >> 10).unwrap_or(u32::MAX)) * 1024.0;
    figures.add(round, format!("{what}: server's peak memory"), Unit::Bytes, peak);
    figures.add(round, format!("{what}: load generator"), Unit::Cores, seen.client_cores);
}
