//! PostgreSQL is away for long: the backlog waits in the journal and not in memory, and comes into its table exactly
//! once afterwards.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{Client, Gateway, OwnCluster};

/// The variable that says how many records shall wait.
const VARIABLE: &str = "TIDEGATE_BACKLOG_RECORDS";
/// How many wait otherwise.
const RECORDS_DEFAULT: u64 = 200_000;
/// Records of a body.
const BODY_RECORDS: u64 = 5_000;
/// Bodies that are sent at the same time.
const SENDERS: u64 = 4;
/// What the gateway may ever use, in bytes.
const MEMORY_BYTES_MAX: u64 = 150 << 20;
/// Time to catch up, for each record: a tenth of what the slowest machine was seen to do.
const CATCH_UP_MAX_PER_RECORD: Duration = Duration::from_millis(1);
/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Sends every `SENDERS`th body from `first` on.
async fn send(client: Client, first: u64, bodies: u64) {
    let filling = "x".repeat(120);
    for body in (first..bodies).step_by(usize::try_from(SENDERS).unwrap()) {
        let lines: String = (body * BODY_RECORDS..(body + 1) * BODY_RECORDS)
            .map(|n| format!("{{\"n\":{n},\"name\":\"record {n}\",\"filling\":\"{filling}\"}}\n"))
            .collect();
        let reply = client.records("backlog").ndjson(lines).send().await.expect(202);
        assert_eq!(reply["accepted"], BODY_RECORDS);
    }
}

/// Waits, as long as it takes, until nothing waits any more.
async fn caught_up(gateway: &Gateway, within: Duration) {
    let looking = async {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let status = gateway.get("/v1/status").await.expect(200);
            if status["journal"]["committed"] == status["journal"]["synced"] {
                return;
            }
        }
    };
    let caught_up = tokio::time::timeout(within, looking).await;
    caught_up.unwrap_or_else(|_| panic!("the backlog is not gone within {within:?}"));
}

fn assert_memory_is_bounded(gateway: &Gateway, after: &str) {
    if let Some(peak) = gateway.memory_peak_bytes() {
        eprintln!("{} MiB at most {after}", peak >> 20);
        assert!(peak < MEMORY_BYTES_MAX, "{} MiB {after}", peak >> 20);
    }
}

#[tokio::test]
async fn a_long_backlog_is_kept_in_little_memory_and_comes_exactly_once() {
    let records = std::env::var(VARIABLE).map_or(RECORDS_DEFAULT, |text| {
        text.parse().expect("TIDEGATE_BACKLOG_RECORDS is a whole number")
    });
    let bodies = records.div_ceil(BODY_RECORDS);
    let records = bodies * BODY_RECORDS;
    let mut cluster = OwnCluster::start().await;
    let mut gateway = Gateway::on(cluster.url(), &[]).await;
    let columns =
        serde_json::json!([{"name": "n", "type": "bigint"}, {"name": "name", "type": "text"}]);
    gateway.create_stream(&serde_json::json!({"name": "backlog", "columns": columns})).await;
    cluster.stop().await;

    let began = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(Client::clone(&gateway), sender, bodies));
    }
    senders.join_all().await;
    eprintln!("{records} records acknowledged in {:.1?}", began.elapsed());
    assert_memory_is_bounded(&gateway, "with the whole backlog waiting");

    // A start with a backlog needs no more than one that builds it up.
    gateway.restart().await;
    cluster.start_again().await;
    let began = Instant::now();
    let within = CATCH_UP_MAX_PER_RECORD * u32::try_from(records).unwrap();
    caught_up(&gateway, within).await;
    eprintln!("{records} records caught up in {:.1?}", began.elapsed());
    assert_memory_is_bounded(&gateway, "after catching up");
    let (rows, distinct, sum): (i64, i64, i64) = (
        gateway.rows("backlog").await,
        gateway.scalar("select count(distinct n) from streams.backlog").await,
        gateway.scalar("select sum(n)::bigint from streams.backlog").await,
    );
    let records = i64::try_from(records).unwrap();
    assert_eq!((rows, distinct, sum), (records, records, records * (records - 1) / 2));
    let wrong: i64 = gateway
        .scalar(
            "select count(*) from streams.backlog
             where name <> 'record ' || n or length(extra->>'filling') <> 120",
        )
        .await;
    assert_eq!(wrong, 0, "every value is as it was sent");
}
