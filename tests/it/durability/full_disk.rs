//! The journal's disk fills up under load: records are refused, none is lost, and the gateway goes on by itself.

use serde_json::json;

use crate::support::{Gateway, Metrics, Oracle, SmallDisk, Stall, eventually};

const DISK_MEBIBYTES: u32 = 24;
/// Segments of 1 MiB; the journal may be far larger than its disk.
const FLAGS: [&str; 3] =
    ["--journal-segment-bytes=1048576", "--journal-bytes-max=1073741824", "--commit-wait-ms=200"];

/// A gateway whose journal lies on a small disk. The disk is dropped first, or its directory could not be removed.
async fn gateway_on_disk() -> Option<(Gateway, SmallDisk)> {
    let data_dir = tempfile::tempdir().unwrap();
    let journal = data_dir.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let disk = SmallDisk::mount_at(&journal, DISK_MEBIBYTES)?;
    Some((Gateway::in_directory(data_dir, &FLAGS).await, disk))
}

/// Everything that tells people of it is red, in words that help.
async fn says_what_helps(gateway: &Gateway) {
    let reply = gateway.get("/readyz").await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    let missing = reply.body["missing"].to_string();
    for words in ["journal", ".segment", "No space left", "make room"] {
        assert!(missing.contains(words), "{words}: {missing}");
    }
    let place = gateway.data_dir().to_str().unwrap();
    assert!(
        !missing.contains(place),
        "any caller may ask, and where it is is not for them: {missing}"
    );
    let status = gateway.get("/v1/status").await.expect(200);
    assert!(status["missing"].to_string().contains(place), "{status}");
    assert_eq!(status["journal"]["failed"], true);
    assert!(status["journal"]["failure"].as_str().unwrap().contains("No space left"), "{status}");
    let metrics = Metrics::read(gateway).await;
    assert!(metrics.sum("tidegate_intake_refused_total", "reason", "journal_failed") >= 1.0);
    assert_eq!(gateway.get("/healthz").await.status, 200, "it is alive");
}

async fn is_ready_by_itself(gateway: &Gateway) {
    eventually("the gateway is ready, without anything being done to it", async || {
        (gateway.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    assert!(gateway.log().contains("the journal can be written again"), "{}", gateway.log());
}

#[tokio::test]
async fn a_disk_that_another_program_fills_costs_no_acknowledged_record() {
    const ROUNDS: i64 = 3;
    let Some((mut gateway, disk)) = gateway_on_disk().await else { return };
    let mut oracle = Oracle::prepare(&gateway).await;
    for round in 0..ROUNDS {
        let load = oracle.load(&gateway);
        load.acknowledges(200).await;
        disk.fill();
        // Padding, so that the segment which has its room already is used up soon.
        let padding = json!({"text": "x".repeat(100_000)});
        let refused = eventually("records are refused", async || {
            disk.fill();
            let reply = gateway.records("padding").json(&padding).send().await;
            (reply.status != 202).then_some(reply)
        })
        .await;
        assert!((1..=10).contains(&refused.retry_after_seconds()));
        assert_eq!(refused.problem(503, "journal_failed")["accepted"], 0);
        load.is_refused(20, "journal_failed").await;
        says_what_helps(&gateway).await;
        if round == 1 {
            // Nor does a crash in this state.
            gateway.kill9().await;
            load.finish(&mut oracle).await;
            gateway.restart().await;
            gateway.records("padding").json(&padding).send().await.problem(503, "journal_failed");
            disk.free();
            is_ready_by_itself(&gateway).await;
            continue;
        }
        disk.free();
        is_ready_by_itself(&gateway).await;
        load.acknowledges(200).await;
        load.finish(&mut oracle).await;
    }
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
}

#[tokio::test]
async fn a_journal_that_fills_its_disk_goes_on_when_postgresql_has_caught_up() {
    let Some((gateway, _disk)) = gateway_on_disk().await else { return };
    let mut oracle = Oracle::prepare(&gateway).await;
    gateway.create_stream(&json!({"name": "padding"})).await;
    let load = oracle.load(&gateway);
    load.acknowledges(200).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let mut accepted = 0;
    loop {
        let padding = json!({"n": accepted, "text": "x".repeat(200_000)});
        let reply = gateway.records("padding").json(&padding).send().await;
        if reply.status != 202 {
            assert_eq!(reply.problem(503, "journal_failed")["accepted"], 0);
            break;
        }
        accepted += 1;
        assert!(accepted < 200, "the disk has an end");
    }
    assert!(accepted > 80, "the disk was used: {accepted}");
    load.is_refused(20, "journal_failed").await;
    says_what_helps(&gateway).await;

    // The retention would keep all of it for a quarter of an hour.
    stall.release().await;
    is_ready_by_itself(&gateway).await;
    load.acknowledges(200).await;
    load.finish(&mut oracle).await;
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
    assert_eq!(gateway.rows("padding").await, accepted);
    let distinct = "select count(distinct payload->>'n') from streams.padding";
    assert_eq!(gateway.scalar::<i64>(distinct).await, accepted);
    assert!((Metrics::read(&gateway).await.of("tidegate_journal_failed")).abs() < 0.5);
}

#[tokio::test]
async fn a_start_on_a_disk_that_its_own_journal_fills_brings_the_records_out() {
    let Some(disk) = SmallDisk::mount(DISK_MEBIBYTES) else { return };
    let data_dir = tempfile::tempdir_in(disk.path()).unwrap();
    let mut gateway = Gateway::in_directory(data_dir, &FLAGS).await;
    gateway.create_stream(&json!({"name": "waiting"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let mut accepted: i64 = 0;
    loop {
        let record = json!({"n": accepted, "text": "x".repeat(200_000)});
        let reply = gateway.records("waiting").json(&record).send().await;
        if reply.status != 202 {
            reply.problem(503, "journal_failed");
            break;
        }
        accepted += 1;
    }
    gateway.kill9().await;
    disk.fill();
    // Not even its small files can be written. Only the gateway itself makes room.
    gateway.restart().await;
    assert_eq!(gateway.get("/readyz").await.status, 503);
    stall.release().await;
    eventually("everything acknowledged is in its table", async || {
        (gateway.rows("waiting").await == accepted).then_some(())
    })
    .await;
    eventually("the gateway is ready", async || {
        (gateway.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    gateway.restart().await;
    gateway.commit("waiting", &json!({"n": accepted})).await;
    let distinct = "select count(distinct payload->>'n') from streams.waiting";
    assert_eq!(gateway.scalar::<i64>(distinct).await, accepted + 1);
}
