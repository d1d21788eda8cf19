//! Commits in doubt: the reply that never came, and the transaction that is still under way while the writers are
//! back already. The epoch fence and the committed ranges make every row come once all the same.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tidegate::db::Database;
use tidegate::db::batch::{BatchConnection, BatchError, BatchTimeouts};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{ChaosProxy, Cut, Gateway, Metrics, Oracle, Stall, TestDatabase, eventually};

/// Small batches, so that there are many commits; timeouts short enough for a test.
const FLAGS: [&str; 5] = [
    "--writers=3",
    "--batch-rows=100",
    "--batch-interval-ms=10",
    "--statement-timeout-seconds=30",
    "--commit-wait-ms=60000",
];

/// The same with short waits.
const SHORT_FLAGS: [&str; 5] = [
    "--writers=3",
    "--batch-rows=100",
    "--batch-interval-ms=10",
    "--statement-timeout-seconds=1",
    "--commit-wait-ms=500",
];

const TIMEOUTS: BatchTimeouts =
    BatchTimeouts { statement: Duration::from_secs(30), lock: Duration::from_secs(30) };

struct Rig {
    // The gateway ends before its line and its database do.
    gateway: Gateway,
    proxy: ChaosProxy,
    _database: TestDatabase,
}

impl Rig {
    async fn start(flags: &[&str]) -> Rig {
        let database = TestDatabase::create().await;
        let proxy = ChaosProxy::before(database.url()).await;
        let gateway = Gateway::through(proxy.url(database.url()), database.url(), flags).await;
        Rig { gateway, proxy, _database: database }
    }

    /// Waits until a session waits for the journal's row, as a new session does whose predecessor is still committing.
    async fn wait_for_fence(&self) {
        eventually("the new session waits for the old one", async || {
            let waiting: i64 = self
                .gateway
                .scalar(
                    "select count(*) from pg_stat_activity where datname = current_database()
                     and wait_event_type = 'Lock' and query like '%tidegate.journals%'",
                )
                .await;
            (waiting > 0).then_some(())
        })
        .await;
    }
}

/// Every row of a keyed or unkeyed stream was counted exactly once, however often its commit was in doubt.
async fn assert_counts(gateway: &Gateway, oracle: &Oracle) {
    for stream in Oracle::streams() {
        let rows = u64::try_from(gateway.rows(stream).await).unwrap();
        let accepted = oracle.accepted(stream);
        assert_eq!(gateway.total(stream, "committed").await, rows, "{stream}");
        assert_eq!(gateway.total(stream, "duplicates").await, accepted - rows, "{stream}");
    }
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_neither_repeated_nor_forgotten() {
    const CUTS: usize = 8;
    let rig = Rig::start(&FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    for _ in 0..CUTS {
        let happened = rig.proxy.cut_before_reply_to_commit().await;
        assert!(happened, "the server committed, the gateway does not know");
        load.acknowledges(50).await;
    }
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
    assert_counts(&rig.gateway, &oracle).await;
}

#[tokio::test]
async fn a_session_that_was_followed_begins_no_transaction() {
    let kept = TestDatabase::create().await;
    let database = Database::new(kept.url()).unwrap();
    database.migrate().await.unwrap();
    let journal = Uuid::new_v4();
    let mut first = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let before = first.fence(journal, "first").await.unwrap().session;
    let mut second = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let after = second.fence(journal, "second").await.unwrap().session;
    assert_eq!(after.epoch, before.epoch + 1);
    let late = first.begin(journal, before.epoch).await;
    assert!(matches!(late, Err(BatchError::Fenced)), "{late:?}");
    let late = first.check(journal, before).await;
    assert!(matches!(late, Err(BatchError::Fenced)), "{late:?}");
    second.check(journal, after).await.unwrap();
    second.begin(journal, after.epoch).await.unwrap();
    // A journal that PostgreSQL has forgotten has no epoch at all.
    let mut third = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let forgotten = third.begin(Uuid::new_v4(), after.epoch).await;
    assert!(matches!(forgotten, Err(BatchError::Fenced)), "{forgotten:?}");
}

/// What became of each record, as its sender is told and as the counters have it, over a reply to a COMMIT that
/// is lost: rows, duplicates, records that PostgreSQL refused, and records that are parked and make no row yet.
#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_told_as_it_was() {
    let rig = Rig::start(&["--lock-timeout-ms=100", "--batch-interval-ms=10"]).await;
    let gateway = &rig.gateway;
    let columns = json!([{"name": "k", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "keyed", "columns": columns, "key": ["k"]})).await;
    gateway.execute("alter table streams.keyed add check (k < 10)").await;
    gateway.commit("keyed", &json!({"k": 1})).await;
    let totals = async || {
        let mut totals = Vec::new();
        for of in ["committed", "duplicates", "refused"] {
            totals.push(gateway.total("keyed", of).await);
        }
        totals
    };
    let request = |records| gateway.records("keyed").json(&records).query("ack", "commit").key("k");

    let happened = rig.proxy.cut_before_reply_to_commit();
    let mixed = json!([{"k": 1}, {"k": 1}, {"k": 2}, {"k": 3}, {"k": 4}, {"k": 10}]);
    let reply = request(mixed.clone()).send().await.expect(201);
    assert!(happened.await, "the server committed, the gateway does not know");
    let told = (&reply["committed"], &reply["duplicates"], &reply["quarantined"]);
    assert_eq!(told, (&json!(3), &json!(2), &json!(1)));
    assert_eq!(totals().await, [4, 2, 1]);
    let again = request(mixed).send().await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(201), reply);

    let lock = Stall::of_all_of_table(gateway.pool(), "keyed").await;
    let happened = rig.proxy.cut_before_reply_to_commit();
    let parked = json!([{"k": 1}, {"k": 5}, {"k": 11}]);
    let mut waiting = JoinSet::new();
    waiting.spawn(gateway.records("keyed").json(&parked).query("ack", "commit").send());
    assert!(happened.await, "the server committed, the gateway does not know");
    eventually("the next session has read what is parked", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["parked"]["keyed"]["records"] == 3).then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    assert_eq!(totals().await, [4, 2, 1], "none of it is in the table");
    assert!(waiting.try_join_next().is_none(), "no sender is told that it is");
    lock.release().await;
    let reply = waiting.join_all().await.remove(0).expect(201);
    let told = (&reply["committed"], &reply["duplicates"], &reply["quarantined"]);
    assert_eq!(told, (&json!(1), &json!(1), &json!(1)));
    assert_eq!(totals().await, [5, 3, 2]);
}

#[tokio::test]
async fn a_session_waits_for_a_commit_of_the_one_before_that_is_still_under_way() {
    let rig = Rig::start(&FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    for deliver in [true, false, true] {
        let held = rig.proxy.hold_commit().await;
        // The line of the one that was held is cut; the others are not yet. What they commit now is in order.
        rig.wait_for_fence().await;
        let before = Metrics::read(&rig.gateway).await.total("tidegate_writer_sessions_total");
        if deliver {
            assert!(held.deliver().await, "the epoch is not raised yet, so it is carried out");
        } else {
            // The server notices that its client is gone, and rolls back.
            drop(held);
        }
        eventually("the next session goes on", async || {
            let now = Metrics::read(&rig.gateway).await.total("tidegate_writer_sessions_total");
            (now > before).then_some(())
        })
        .await;
        load.acknowledges(100).await;
    }
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
    assert_counts(&rig.gateway, &oracle).await;
}

#[tokio::test]
async fn a_commit_outlives_the_gateway_that_sent_it() {
    let mut rig = Rig::start(&FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    for deliver in [true, false] {
        let load = oracle.load(&rig.gateway);
        let held = rig.proxy.hold_commit().await;
        rig.gateway.kill9().await;
        load.finish(&mut oracle).await;
        rig.gateway.restart().await;
        rig.wait_for_fence().await;
        if deliver {
            assert!(held.deliver().await);
        } else {
            drop(held);
        }
        rig.gateway.wait_all_committed().await;
        oracle.verify(&rig.gateway).await;
    }
}

#[tokio::test]
async fn a_line_that_breaks_in_every_way_costs_nothing() {
    let rig = Rig::start(&SHORT_FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    for how in [Cut::Reset, Cut::Close, Cut::HalfOpen, Cut::Reset, Cut::HalfOpen] {
        load.acknowledges(200).await;
        rig.proxy.cut(how);
        load.acknowledges(200).await;
    }
    rig.proxy.delay(Duration::from_millis(20));
    load.acknowledges(200).await;
    rig.proxy.stall();
    load.acknowledges(200).await;
    rig.proxy.pass();
    load.acknowledges(200).await;
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
    assert_counts(&rig.gateway, &oracle).await;
}

#[tokio::test]
async fn a_line_that_goes_silent_while_a_session_begins_is_given_up() {
    let rig = Rig::start(&SHORT_FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    load.acknowledges(200).await;
    rig.proxy.stall();
    rig.proxy.cut(Cut::HalfOpen);
    eventually("the writers give their connections up", async || {
        let status = rig.gateway.get("/v1/status").await.expect(200);
        (status["database"]["reachable"] == false).then_some(())
    })
    .await;
    // The next session dials, and never hears anything.
    for _ in 0..2 {
        let before = rig.proxy.connections();
        eventually("a new connection", async || (rig.proxy.connections() > before).then_some(()))
            .await;
    }
    rig.proxy.cut(Cut::HalfOpen);
    rig.proxy.pass();
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
}

#[tokio::test]
async fn a_fence_that_is_never_answered_is_given_up() {
    let rig = Rig::start(&SHORT_FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    load.acknowledges(100).await;
    let asked = rig.proxy.silence_fence();
    rig.proxy.cut(Cut::Reset);
    asked.await;
    load.acknowledges(100).await;
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
}

#[tokio::test]
async fn many_commits_in_doubt_at_once_are_all_settled() {
    let rig = Rig::start(&FLAGS).await;
    let mut oracle = Oracle::prepare(&rig.gateway).await;
    let load = oracle.load(&rig.gateway);
    load.acknowledges(100).await;
    let mut held = Vec::new();
    // A second one can be held only while the first session's other writers still commit.
    let first = rig.proxy.hold_commit();
    let second = rig.proxy.hold_commit();
    held.push(first.await);
    if let Ok(second) = tokio::time::timeout(Duration::from_secs(1), second).await {
        held.push(second);
    }
    rig.wait_for_fence().await;
    let delivered = join_all(held.into_iter().map(crate::support::HeldCommit::deliver)).await;
    assert!(delivered.iter().all(|carried_out| *carried_out));
    load.acknowledges(300).await;
    load.finish(&mut oracle).await;
    rig.gateway.wait_all_committed().await;
    oracle.verify(&rig.gateway).await;
    assert_counts(&rig.gateway, &oracle).await;
}
