//! Keyed streams whose keys are mostly new are copied straight into their tables; whatever comes in between, every
//! record ends as if it had been merged in its turn.

use serde_json::{Value, json};

use crate::support::{Gateway, Metrics, eventually};

/// A batch for each request of two records, as many of them at once as there are writers; a wait for a lock that would
/// show in a test.
const FLAGS: [&str; 4] =
    ["--writers=4", "--batch-rows=2", "--batch-interval-ms=1000", "--lock-timeout-ms=20000"];

async fn stream(gateway: &Gateway, name: &str, on_duplicate: &str) {
    let columns = json!([{"name": "k", "type": "text"}, {"name": "v", "type": "integer"}]);
    let definition =
        json!({"name": name, "columns": columns, "key": ["k"], "on_duplicate": on_duplicate});
    gateway.create_stream(&definition).await;
}

/// Each row takes its time on its way into the table, so that batches are written side by side.
async fn slow_down(gateway: &Gateway, stream: &str) {
    gateway
        .execute(&format!(
            "create or replace function slow() returns trigger language plpgsql as $$
             begin perform pg_sleep(0.05); return new; end $$;
             create trigger slow before insert on streams.{stream} for each row execute function slow()"
        ))
        .await;
}

fn record(key: &str, value: i32) -> Value {
    json!({"k": key, "v": value})
}

fn records(keys: std::ops::Range<i32>) -> Value {
    Value::Array(keys.map(|key| record(&key.to_string(), key)).collect())
}

fn counted(reply: &Value) -> (u64, u64) {
    (reply["committed"].as_u64().unwrap(), reply["duplicates"].as_u64().unwrap())
}

/// Keys and values of a table.
async fn pairs(gateway: &Gateway, stream: &str) -> Vec<String> {
    gateway.column(format!("select k || v from streams.{stream} order by k")).await
}

/// Parts that went directly into their tables, and parts that were staged.
async fn parts(gateway: &Gateway) -> (String, String) {
    let metrics = Metrics::read(gateway).await;
    let of = |way: &str| metrics.sum("tidegate_keyed_parts_total", "way", way).to_string();
    (of("direct"), of("staged"))
}

/// How many parts went which way.
fn ways(direct: u64, staged: u64) -> (String, String) {
    (direct.to_string(), staged.to_string())
}

/// Nothing that can happen to keys is a reason to begin a session anew, or to park.
async fn nothing_failed(gateway: &Gateway) {
    let sessions = Metrics::read(gateway).await.total("tidegate_writer_sessions_total");
    assert_eq!(sessions.to_string(), "1", "{}", gateway.log());
    assert!(!gateway.log().contains("parked until it can"), "{}", gateway.log());
}

#[tokio::test]
async fn new_keys_go_straight_into_the_table_and_taken_ones_are_counted_exactly() {
    let gateway = Gateway::start().await;
    for on_duplicate in ["ignore", "replace"] {
        stream(&gateway, on_duplicate, on_duplicate).await;
    }
    assert_eq!(counted(&gateway.commit("ignore", &records(0..100)).await), (100, 0));
    assert_eq!(counted(&gateway.commit("replace", &records(0..100)).await), (100, 0));
    assert_eq!(parts(&gateway).await, ways(2, 0));
    // Some are taken.
    assert_eq!(counted(&gateway.commit("ignore", &records(70..150)).await), (50, 30));
    assert_eq!(counted(&gateway.commit("replace", &records(70..150)).await), (50, 30));
    assert_eq!(parts(&gateway).await, ways(2, 2));
    // A merge looks whether keys are new again, and then they are copied.
    assert_eq!(counted(&gateway.commit("ignore", &records(150..160)).await), (10, 0));
    assert_eq!(parts(&gateway).await, ways(2, 3));
    assert_eq!(counted(&gateway.commit("ignore", &records(160..170)).await), (10, 0));
    assert_eq!(parts(&gateway).await, ways(3, 3));
    // Equal keys in one batch.
    let equal = json!([record("new", 1), record("new", 2), record("newer", 3)]);
    assert_eq!(counted(&gateway.commit("ignore", &equal).await), (2, 1));
    assert_eq!(parts(&gateway).await, ways(3, 4));
    let news = "select k || v from streams.ignore where k like 'new%' order by k";
    assert_eq!(gateway.column::<String>(news).await, ["new1", "newer3"]);
    assert_eq!(gateway.rows("ignore").await, 172);
    assert_eq!(gateway.rows("replace").await, 150);
    nothing_failed(&gateway).await;
}

#[tokio::test]
async fn keys_that_cross_in_batches_side_by_side_stop_no_batch_and_keep_their_order() {
    for (on_duplicate, expected) in [("ignore", ["a1", "b2"]), ("replace", ["a6", "b5"])] {
        let gateway = Gateway::with(&FLAGS).await;
        for round in 0..3 {
            let name = format!("crossing{round}");
            stream(&gateway, &name, on_duplicate).await;
            slow_down(&gateway, &name).await;
            let requests = [
                json!([record("a", 1), record("b", 2)]),
                json!([record("b", 3), record("a", 4)]),
                json!([record("b", 5), record("a", 6)]),
            ];
            for request in requests {
                gateway.records(&name).json(&request).send().await.expect(202);
            }
            gateway.wait_all_committed().await;
            assert_eq!(pairs(&gateway, &name).await, expected, "{on_duplicate}");
            assert_eq!(gateway.total(&name, "committed").await, 2);
            assert_eq!(gateway.total(&name, "duplicates").await, 4);
        }
        nothing_failed(&gateway).await;
    }
}

#[tokio::test]
async fn who_came_too_early_steps_back_for_a_merge() {
    for (on_duplicate, expected) in
        [("ignore", ["x1", "y2", "z5"]), ("replace", ["x3", "y4", "z5"])]
    {
        let gateway = Gateway::with(&FLAGS).await;
        for round in 0..3 {
            let (name, other) = (format!("early{round}"), format!("other{round}"));
            for name in [&name, &other] {
                stream(&gateway, name, on_duplicate).await;
                slow_down(&gateway, name).await;
            }
            // The first one has to be merged; by then the second has the key that it needs, and waits for its turn.
            let first = json!([record("x", 1), record("y", 2), record("x", 3)]);
            gateway.records(&name).json(&first).send().await.expect(202);
            gateway.records(&other).json(&record("x", 1)).send().await.expect(202);
            gateway.records(&name).json(&record("y", 4)).send().await.expect(202);
            let last = gateway.commit(&name, &json!([record("z", 5), record("zz", 6)])).await;
            assert_eq!(counted(&last), (2, 0));
            gateway.wait_all_committed().await;
            assert_eq!(pairs(&gateway, &name).await[..3], expected, "{on_duplicate}");
            assert_eq!(pairs(&gateway, &other).await, ["x1"]);
            assert_eq!(gateway.total(&name, "committed").await, 4);
            assert_eq!(gateway.total(&name, "duplicates").await, 2);
        }
        nothing_failed(&gateway).await;
    }
}

/// A batch that copies directly gives up on a lock early, because it can still merge; one that merges waits for as long
/// as is set.
#[tokio::test]
async fn a_merge_beside_a_direct_copy_waits_for_a_lock_as_long_as_any_other() {
    let gateway = Gateway::with(&FLAGS).await;
    for name in ["fresh", "taken"] {
        stream(&gateway, name, "replace").await;
    }
    gateway.commit("taken", &record("a", 1)).await;
    // In vain, so that the next part of this stream is not copied directly, and the other's is.
    gateway.commit("taken", &record("a", 2)).await;
    let mut lock = gateway.pool().begin().await.unwrap();
    sqlx::query("select from streams.taken for update").execute(&mut *lock).await.unwrap();
    gateway.records("fresh").json(&record("b", 1)).send().await.expect(202);
    let request = gateway.records("taken").json(&record("a", 3)).query("ack", "commit");
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(request.send());
    let merges = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '500 milliseconds'";
    eventually("the merge waits for longer than a direct copy would", async || {
        (gateway.scalar::<i64>(merges).await == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/v1/status").await.expect(200)["parked"], json!({}));
    lock.rollback().await.unwrap();
    let reply = waiting.join_all().await.remove(0).expect(201);
    assert_eq!(counted(&reply), (0, 1));
    assert_eq!(pairs(&gateway, "taken").await, ["a3"]);
    assert_eq!(pairs(&gateway, "fresh").await, ["b1"]);
    nothing_failed(&gateway).await;
}

#[tokio::test]
async fn a_table_without_the_key_s_index_gets_no_key_twice() {
    let gateway = Gateway::with(&["--lock-timeout-ms=100"]).await;
    stream(&gateway, "bare", "ignore").await;
    gateway.commit("bare", &record("a", 1)).await;
    gateway.execute("drop index streams.bare_k_idx").await;
    gateway.records("bare").json(&json!([record("a", 2), record("b", 3)])).send().await.expect(202);
    eventually("the records are parked", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["parked"]["bare"]["records"] == 2).then_some(())
    })
    .await;
    gateway.execute("create unique index on streams.bare (k)").await;
    gateway.wait_nothing_parked().await;
    assert_eq!(pairs(&gateway, "bare").await, ["a1", "b3"]);
    assert_eq!(gateway.total("bare", "duplicates").await, 1);
}

#[tokio::test]
async fn records_that_a_trigger_leaves_out_are_not_counted_as_committed() {
    let gateway = Gateway::start().await;
    stream(&gateway, "thinned", "ignore").await;
    gateway
        .execute(
            "create function thin() returns trigger language plpgsql as $$
             begin if new.v % 2 = 0 then return null; end if; return new; end $$;
             create trigger thin before insert on streams.thinned for each row execute function thin()",
        )
        .await;
    for _ in 0..3 {
        let before = gateway.rows("thinned").await;
        let from = i32::try_from(before).unwrap() * 2;
        let reply = gateway.commit("thinned", &records(from..from + 10)).await;
        assert_eq!(counted(&reply), (5, 5), "{reply}");
    }
    assert_eq!(gateway.rows("thinned").await, 15);
}

#[tokio::test]
async fn a_trigger_that_all_batches_wait_for_makes_no_difference() {
    let gateway = Gateway::with(&FLAGS).await;
    stream(&gateway, "counted", "ignore").await;
    gateway
        .execute(
            "create table public.counts (n bigint);
             insert into public.counts values (0);
             create function count_one() returns trigger language plpgsql as $$
             begin update public.counts set n = n + 1; return null; end $$;
             create trigger count_one after insert on streams.counted
                 for each row execute function count_one()",
        )
        .await;
    for from in (0..60).step_by(2) {
        gateway.records("counted").json(&records(from..from + 2)).send().await.expect(202);
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.scalar::<i64>("select n from public.counts").await, 60);
    assert_eq!(gateway.rows("counted").await, 60);
    nothing_failed(&gateway).await;
}
