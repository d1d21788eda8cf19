//! Nothing that was acknowledged is lost or doubled: not by `kill -9`, lost connections, or a shutdown.

use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Metrics, Oracle, Stall, eventually};

/// Exit codes of `tidegate serve`.
const DRAINED: i32 = 0;
const LEFT_IN_JOURNAL: i32 = 3;

#[tokio::test]
async fn kill_9_under_load_loses_nothing_and_doubles_nothing() {
    const ROUNDS: usize = 5;
    // Small batches and segments: many commits and rotations for a kill to fall into.
    let flags = [
        "--batch-rows=200",
        "--batch-interval-ms=20",
        "--journal-segment-bytes=1048576",
        "--writers=3",
    ];
    let mut gateway = Gateway::with(&flags).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    for round in 0..ROUNDS {
        let load = oracle.load(&gateway);
        load.acknowledges(1_500).await;
        gateway.kill9().await;
        load.finish(&mut oracle).await;
        gateway.restart().await;
        if round % 2 == 0 {
            gateway.wait_all_committed().await;
            oracle.verify(&gateway).await;
        }
    }
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
}

#[tokio::test]
async fn kill_9_before_anything_is_committed_loses_nothing() {
    let mut gateway = Gateway::start().await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let records: Vec<Value> = (0..1_000).map(|n| json!({"n": n})).collect();
    for _ in 0..3 {
        gateway.records("backlog").json(&json!(records)).send().await.expect(202);
    }
    gateway.kill9().await;
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let copies: Vec<i64> =
        gateway.column("select distinct count(*) from streams.backlog group by payload").await;
    assert_eq!(copies, [3]);
    assert_eq!(gateway.rows("backlog").await, 3_000);

    // And goes on as if nothing had been.
    let load = oracle.load(&gateway);
    load.acknowledges(500).await;
    load.finish(&mut oracle).await;
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
}

#[tokio::test]
async fn connections_that_break_under_load_cost_neither_rows_nor_counts() {
    const CUTS: usize = 6;
    let gateway =
        Gateway::with(&["--writers=3", "--batch-rows=100", "--batch-interval-ms=10"]).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let load = oracle.load(&gateway);
    for _ in 0..CUTS {
        load.acknowledges(150).await;
        // All but our own: writers in the middle of their work, with the commit perhaps under way.
        // Between two sessions there may be none for a moment.
        eventually("the gateway's connections bear its name", async || {
            let cut: i64 = gateway
                .scalar(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and application_name = 'tidegate'",
                )
                .await;
            (cut > 0).then_some(())
        })
        .await;
    }
    load.acknowledges(300).await;
    load.finish(&mut oracle).await;
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;

    let metrics = Metrics::read(&gateway).await;
    for stream in Oracle::streams() {
        let rows = u64::try_from(gateway.rows(stream).await).unwrap();
        let sent = oracle.accepted(stream);
        assert_eq!(gateway.total(stream, "accepted").await, sent, "{stream}");
        assert_eq!(
            gateway.total(stream, "committed").await,
            rows,
            "{stream}: every row is counted once"
        );
        assert_eq!(gateway.total(stream, "duplicates").await, sent - rows, "{stream}");
        let committed = metrics.sum("tidegate_records_committed_total", "stream", stream);
        assert!(
            (committed - f64::from(u32::try_from(rows).unwrap())).abs() < 0.5,
            "{stream}: {committed}"
        );
    }
}

#[tokio::test]
async fn a_shutdown_brings_everything_acknowledged_into_its_tables() {
    // Nothing would be committed for ten minutes.
    let mut gateway = Gateway::with(&["--batch-interval-ms=600000", "--batch-rows=1000000"]).await;
    let records: Vec<Value> = (0..2_000).map(|n| json!({"n": n})).collect();
    gateway.records("drained").json(&json!(records)).send().await.expect(202);
    gateway.records("drained").ndjson("broken\n").send().await.expect(202);
    assert_eq!(gateway.rows("drained").await, 0);
    assert_eq!(gateway.terminate().await, DRAINED);
    assert_eq!(gateway.rows("drained").await, 2_000);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 1);
    let distinct = "select count(distinct payload->>'n') from streams.drained";
    assert_eq!(gateway.scalar::<i64>(distinct).await, 2_000);
    gateway.restart().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("drained").await, 2_000, "a restart repeats nothing");
}

#[tokio::test]
async fn a_shutdown_under_load_keeps_every_promise() {
    let mut gateway = Gateway::with(&["--batch-rows=300"]).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let load = oracle.load(&gateway);
    load.acknowledges(1_000).await;
    gateway.ask_to_end();
    load.finish(&mut oracle).await;
    assert_eq!(gateway.ended().await, DRAINED);
    oracle.verify(&gateway).await;
}

#[tokio::test]
async fn a_shutdown_that_cannot_drain_says_so_and_the_next_start_goes_on() {
    let mut gateway = Gateway::with(&["--shutdown-seconds=1"]).await;
    gateway.create_stream(&json!({"name": "left"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    gateway.records("left").json(&json!([{"n": 1}, {"n": 2}])).send().await.expect(202);
    assert_eq!(gateway.terminate().await, LEFT_IN_JOURNAL);
    assert_eq!(gateway.rows("left").await, 0);
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("left").await, 2);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "late"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let request = gateway.records("late").json(&json!([{"n": 1}, {"n": 2}])).query("ack", "commit");
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(request.send());
    eventually("the records are durable", async || {
        (gateway.total("late", "accepted").await == 2).then_some(())
    })
    .await;
    gateway.ask_to_end();
    stall.release().await;
    let replies = waiting.join_all().await;
    assert_eq!(gateway.ended().await, DRAINED);
    assert_eq!(replies.into_iter().next().unwrap().expect(201)["committed"], 2);
    assert_eq!(gateway.rows("late").await, 2);
}

#[tokio::test]
async fn two_gateways_never_share_a_journal() {
    let mut gateway = Gateway::start().await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(gateway.data_dir())
        .env("DATABASE_URL", gateway.database_url())
        .current_dir(gateway.data_dir())
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("another gateway"), "{told}");
    gateway.commit("still", &json!({"n": 1})).await;
    assert_eq!(gateway.terminate().await, DRAINED);
}

#[tokio::test]
async fn the_local_token_is_new_at_each_start() {
    let mut gateway = Gateway::start().await;
    let old = gateway.token().to_owned();
    gateway.restart().await;
    assert_ne!(gateway.token(), old);
    let stranger: Client = gateway.with_token(&old);
    stranger.records("any").json(&json!({"n": 1})).send().await.problem(401, "invalid_token");
    gateway.commit("any", &json!({"n": 1})).await;
}

#[tokio::test]
async fn a_damaged_journal_never_blocks_the_start() {
    let mut gateway = Gateway::start().await;
    for n in 0..50 {
        gateway.commit("kept", &json!({"n": n, "text": "x".repeat(1_000)})).await;
    }
    assert_eq!(gateway.terminate().await, DRAINED);
    // The first one; the shutdown may have begun another.
    let segment = gateway.data_dir().join("journal/0000000000000000.segment");
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    file.write_all_at(&[0xA5; 64], 20_000).unwrap();
    gateway.restart().await;
    gateway.commit("kept", &json!({"n": 50})).await;
    assert_eq!(gateway.rows("kept").await, 51);
    assert!(gateway.log().contains("damaged"), "the damage is named in the log");
}

#[tokio::test]
async fn a_deleted_stream_takes_its_backlog_along_and_stops_no_other_stream() {
    let gateway = Gateway::start().await;
    for name in ["gone", "kept"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let stall = Stall::of_writers(gateway.pool()).await;
    for name in ["gone", "kept", "gone"] {
        gateway.records(name).json(&json!([{"n": 1}, {"n": 2}])).send().await.expect(202);
    }
    let deleted = gateway.delete("/v1/streams/gone").await;
    assert_eq!(deleted.status, 204);
    stall.release().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("kept").await, 2);
    gateway.get("/v1/streams/gone").await.problem(404, "no_such_stream");
    assert!(gateway.scalar::<bool>("select to_regclass('streams.gone') is null").await);

    // A new one of the same name begins empty.
    gateway.commit("gone", &json!({"n": 3})).await;
    assert_eq!(gateway.payloads("gone").await, [json!({"n": 3})]);
}
