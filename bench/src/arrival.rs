//! How long a record takes from when it was due to be sent until a monitor has it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::bench::Bench;
use crate::gateway::Gateway;
use crate::load;
use crate::offer::Offer;
use crate::process;
use crate::watchers::{Door, Watchers};

pub const ARRIVAL_P50: &str = "arrival → monitor at 10,000 records/s, 100 monitors: p50";
pub const ARRIVAL_P99: &str = "arrival → monitor at 10,000 records/s, 100 monitors: p99";

const BODIES_PER_SECOND: f64 = 100.0;
const BODY_RECORDS: usize = 100;
const MONITORS: usize = 100;
/// Of them so many read the time of every record; the others only count.
const TIMED: usize = 4;
/// Before it counts, as a share of the time that counts.
const WARM_UP: f64 = 0.2;

const STREAM: &str = "arrival";

/// One round on a gateway that does nothing else.
pub async fn measure(bench: &mut Bench, round: usize, gateway: &Gateway) -> anyhow::Result<()> {
    bench.say(&format!("round {}: arrival → monitor", round + 1));
    process::raise_open_files()?;
    gateway.create_stream(&definition()).await?;
    let path = format!("/v1/monitor?streams={STREAM}");
    let door = Door { address: &gateway.address, path: &path, token: &gateway.token };
    let mut watchers = Watchers::connect(&door, MONITORS, TIMED).await?;
    watchers.wait_greeted().await?;
    let seconds = bench.size.seconds;
    let offer = Offer {
        address: gateway.address.clone(),
        path: format!("/v1/streams/{STREAM}/records"),
        token: gateway.token.clone(),
        bodies_per_second: BODIES_PER_SECOND,
        length: Duration::from_secs_f64(seconds * (1.0 + WARM_UP)),
    };
    let (since, started) = (watchers.since(), Instant::now());
    let offering = offer.run(started, move |number, due| body(number, due - since));
    let warm_up = async {
        sleep_until(started + Duration::from_secs_f64(seconds * WARM_UP)).await;
        watchers.take_latencies();
    };
    tokio::join!(offering, warm_up).0?;
    watchers.wait_given((offer.bodies() * BODY_RECORDS) as u64).await?;
    let omitted = watchers.total().omitted;
    ensure!(omitted == 0, "{omitted} records were left out, whose times are unknown");
    let latencies = watchers.take_latencies();
    ensure!(!latencies.is_empty(), "no record was timed");
    bench.seconds(round, ARRIVAL_P50, load::quantile_seconds(&latencies, 0.5));
    bench.seconds(round, ARRIVAL_P99, load::quantile_seconds(&latencies, 0.99));
    drop(watchers);
    gateway.wait_committed().await?;
    bench.postgres.clear(STREAM).await
}

/// Records that tell when they were due, in microseconds.
fn body(number: usize, due: Duration) -> Bytes {
    let mut body = String::new();
    for seq in (number * BODY_RECORDS..).take(BODY_RECORDS) {
        let _ = writeln!(
            body,
            r#"{{"seq":{seq},"sent":{},"value":{}.{:03}}}"#,
            due.as_micros(),
            seq % 89,
            seq % 1_000
        );
    }
    body.into()
}

fn definition() -> serde_json::Value {
    json!({"name": STREAM, "columns": [
        {"name": "seq", "type": "bigint"},
        {"name": "sent", "type": "bigint"},
        {"name": "value", "type": "double precision"},
    ]})
}
