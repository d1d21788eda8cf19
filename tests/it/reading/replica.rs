//! A replica takes the reads while it is near enough, and a reader who waits sees their own records all the same.

use serde_json::{Value, json};

use crate::support::{Gateway, Metrics, OwnCluster, connect, eventually};

struct Pair {
    gateway: Gateway,
    replica: OwnCluster,
    _primary: OwnCluster,
}

impl Pair {
    async fn start() -> Pair {
        let primary = OwnCluster::start().await;
        let gateway = Gateway::on(primary.url(), &[]).await;
        gateway.commit("events", &json!({"n": 0})).await;
        gateway.wait_all_committed().await;
        drop(gateway);
        let replica = primary.replica().await;
        let replica_url = format!("--database-replica-url={}", replica.url());
        let flags =
            [&*replica_url, "--database-replica-lag-seconds-max=5", "--read-cache-seconds=0"];
        let gateway = Gateway::on(primary.url(), &flags).await;
        Pair { gateway, replica, _primary: primary }
    }

    /// Reads until this place answers with so many records; a replica may be a moment behind.
    async fn is_read_from(&self, place: &str, records: u64) {
        eventually(&format!("the {place} tells of {records}"), async || {
            let before = reads(&self.gateway, place).await;
            let count = count(&self.gateway, "").await;
            let is_from_there = reads(&self.gateway, place).await > before;
            (is_from_there && count == records).then_some(())
        })
        .await;
    }
}

async fn reads(gateway: &Gateway, place: &str) -> f64 {
    Metrics::read(gateway).await.sum("tidegate_reads_total", "place", place)
}

async fn count(gateway: &Gateway, more: &str) -> u64 {
    let path = format!("/v1/streams/events/records?count=exact&limit=1{more}");
    gateway.get(&path).await.expect(200)["count"].as_u64().unwrap()
}

async fn send(gateway: &Gateway, n: u32) -> String {
    let reply: Value = gateway.commit("events", &json!({"n": n})).await;
    reply["position"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn reads_go_to_the_replica_and_back_where_it_is_behind_or_away() {
    let mut here = Pair::start().await;
    here.is_read_from("replica", 1).await;

    // Its replay stands still: who waits for their record gets it, from the primary.
    let inside = connect(here.replica.url()).await;
    sqlx::query("select pg_wal_replay_pause()").execute(&inside).await.unwrap();
    let position = send(&here.gateway, 1).await;
    let before = reads(&here.gateway, "primary").await;
    assert_eq!(count(&here.gateway, &format!("&wait={position}")).await, 2);
    assert!(reads(&here.gateway, "primary").await > before);
    // And when it is too far behind, all reads go there.
    send(&here.gateway, 2).await;
    here.is_read_from("primary", 3).await;
    sqlx::query("select pg_wal_replay_resume()").execute(&inside).await.unwrap();
    here.is_read_from("replica", 3).await;
    let position = send(&here.gateway, 3).await;
    let before = reads(&here.gateway, "replica").await;
    assert_eq!(count(&here.gateway, &format!("&wait={position}")).await, 4);
    assert!(reads(&here.gateway, "replica").await > before, "it waits for the replica");

    // It goes, and comes back.
    drop(inside);
    here.replica.stop().await;
    here.is_read_from("primary", 4).await;
    here.replica.start_again().await;
    here.is_read_from("replica", 4).await;
    let fallbacks = Metrics::read(&here.gateway).await;
    for reason in ["behind", "unreachable"] {
        assert!(
            fallbacks.sum("tidegate_replica_fallbacks_total", "reason", reason) > 0.0,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_no_replica_of_the_database_is_not_asked() {
    let other = OwnCluster::start().await;
    let elsewhere = Gateway::on(other.url(), &[]).await;
    elsewhere.commit("events", &json!([{"n": 1}, {"n": 2}])).await;
    let replica_url = format!("--database-replica-url={}", other.url());
    let gateway = Gateway::with(&[&replica_url]).await;
    gateway.commit("events", &json!({"n": 1})).await;
    eventually("it is seen to be another", async || {
        assert_eq!(count(&gateway, "").await, 1);
        let metrics = Metrics::read(&gateway).await;
        (metrics.sum("tidegate_replica_fallbacks_total", "reason", "foreign") > 0.0).then_some(())
    })
    .await;
}
