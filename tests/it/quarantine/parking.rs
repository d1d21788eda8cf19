//! A table that cannot be written holds up its own stream only: its entries are parked, and follow by themselves, in
//! order, exactly once.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Client, Gateway, Metrics, Records, Reply, Stall, eventually};

/// A short wait for locks, so that a stuck table is noticed at once.
const FLAGS: [&str; 3] = ["--lock-timeout-ms=100", "--batch-interval-ms=20", "--writers=3"];

async fn parked_records(gateway: &Gateway, stream: &str) -> Option<u64> {
    let status = gateway.get("/v1/status").await.expect(200);
    status["parked"][stream]["records"].as_u64()
}

async fn wait_parked(gateway: &Gateway, stream: &str, records: u64) {
    eventually("the records are parked", async || {
        (parked_records(gateway, stream).await == Some(records)).then_some(())
    })
    .await;
}

async fn wait_drained(gateway: &Gateway, stream: &str) {
    eventually("the stream's table is written again", async || {
        parked_records(gateway, stream).await.is_none().then_some(())
    })
    .await;
    let left = "select count(*) from tidegate.parked";
    assert_eq!(gateway.scalar::<i64>(left).await, 0);
}

#[tokio::test]
async fn a_locked_table_holds_up_no_other_stream() {
    let gateway = Gateway::with(&FLAGS).await;
    for stream in ["locked", "free"] {
        gateway.create_stream(&json!({"name": stream})).await;
    }
    let lock = Stall::of_all_of_table(gateway.pool(), "locked").await;
    for n in 0..20 {
        gateway.records("locked").json(&json!([{"n": n}, {"n": n}])).send().await.expect(202);
        let free = gateway.commit("free", &json!({"n": n})).await;
        assert_eq!(free["committed"], 1);
    }
    wait_parked(&gateway, "locked", 40).await;
    let status = gateway.get("/v1/status").await.expect(200);
    let reason = status["parked"]["locked"]["reason"].as_str().unwrap();
    assert!(reason.contains("lock timeout"), "{reason}");
    // A caller who may not use a stream is not told of it either.
    let foreign =
        json!({"name": "foreign", "user": "admin", "scopes": ["read"], "streams": ["free"]});
    let foreign = gateway.post("/v1/tokens", &foreign).await.expect(201);
    let foreign = gateway.with_token(foreign["token"].as_str().unwrap());
    assert_eq!(foreign.get("/v1/status").await.expect(200)["parked"], json!({}));
    assert_eq!(gateway.get("/readyz").await.status, 200, "the others go on");
    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.sum("tidegate_parked_records", "stream", "locked").to_string(), "40");
    assert!(gateway.log().contains("parked until it can"), "{}", gateway.log());
    // Everything acknowledged is durable in PostgreSQL: the journal is free again.
    gateway.wait_all_committed().await;

    lock.release().await;
    wait_drained(&gateway, "locked").await;
    let numbers: Vec<i64> =
        gateway.column("select (payload->>'n')::bigint from streams.locked order by id").await;
    assert_eq!(numbers, (0..20).flat_map(|n| [n, n]).collect::<Vec<i64>>());
    assert_eq!(gateway.total("locked", "committed").await, 40);
    gateway.commit("locked", &json!({"n": 20})).await;
}

#[tokio::test]
async fn who_waits_for_the_commit_of_a_parked_record_is_told_when_it_is_there() {
    let gateway = Gateway::with(&FLAGS).await;
    gateway.create_stream(&json!({"name": "locked", "key": ["/k"]})).await;
    gateway.commit("locked", &json!({"k": 1})).await;
    let lock = Stall::of_all_of_table(gateway.pool(), "locked").await;
    let request =
        gateway.records("locked").json(&json!([{"k": 1}, {"k": 2}])).query("ack", "commit");
    let mut waiting = JoinSet::new();
    waiting.spawn(request.send());
    wait_parked(&gateway, "locked", 2).await;
    assert!(waiting.try_join_next().is_none(), "it is not in its table");
    lock.release().await;
    let reply = waiting.join_all().await.remove(0).expect(201);
    assert_eq!((&reply["committed"], &reply["duplicates"]), (&json!(1), &json!(1)), "{reply}");
}

#[tokio::test]
async fn the_order_of_a_replace_stream_survives_parking() {
    const VERSIONS: i64 = 60;
    const KEYS: i64 = 3;
    let gateway = Gateway::with(&[&FLAGS[..], &["--batch-rows=7"]].concat()).await;
    let columns = json!([{"name": "k", "type": "bigint"}, {"name": "v", "type": "bigint"}]);
    let stream =
        json!({"name": "replaced", "columns": columns, "key": ["k"], "on_duplicate": "replace"});
    gateway.create_stream(&stream).await;
    let mut version = 0;
    for _ in 0..3 {
        // Locked and free again and again, while versions arrive.
        let lock = Stall::of_all_of_table(gateway.pool(), "replaced").await;
        for _ in 0..VERSIONS {
            let records: Vec<Value> = (0..KEYS).map(|k| json!({"k": k, "v": version})).collect();
            gateway.records("replaced").json(&Value::Array(records)).send().await.expect(202);
            version += 1;
        }
        eventually("some is parked", async || parked_records(&gateway, "replaced").await).await;
        lock.release().await;
        for _ in 0..VERSIONS {
            let records: Vec<Value> = (0..KEYS).map(|k| json!({"k": k, "v": version})).collect();
            gateway.records("replaced").json(&Value::Array(records)).send().await.expect(202);
            version += 1;
        }
    }
    gateway.wait_all_committed().await;
    wait_drained(&gateway, "replaced").await;
    let versions: Vec<i64> = gateway.column("select v from streams.replaced").await;
    assert_eq!(versions, [version - 1; 3]);
    let sent = u64::try_from(version * KEYS).unwrap();
    let (committed, duplicates) = (
        gateway.total("replaced", "committed").await,
        gateway.total("replaced", "duplicates").await,
    );
    assert_eq!((committed, duplicates), (3, sent - 3));
}

#[tokio::test]
async fn a_dropped_table_is_waited_for_over_a_kill() {
    let mut gateway = Gateway::with(&FLAGS).await;
    gateway.create_stream(&json!({"name": "dropped"})).await;
    gateway.create_stream(&json!({"name": "others"})).await;
    gateway.commit("dropped", &json!({"n": 0})).await;
    gateway.execute("alter table streams.dropped rename to elsewhere").await;
    gateway.records("dropped").json(&json!([{"n": 1}, {"n": 2}])).send().await.expect(202);
    gateway.commit("others", &json!({"n": 1})).await;
    wait_parked(&gateway, "dropped", 2).await;

    gateway.kill9().await;
    gateway.restart().await;
    gateway.records("dropped").json(&json!({"n": 3})).send().await.expect(202);
    gateway.commit("others", &json!({"n": 2})).await;
    wait_parked(&gateway, "dropped", 3).await;

    // Made again by hand, with a rule of its own: of what was parked the bad is kept aside.
    gateway
        .execute(
            "create table streams.dropped
                 (id uuid primary key, received_at timestamptz not null, payload jsonb not null,
                  check (payload->>'n' <> '2'))",
        )
        .await;
    wait_drained(&gateway, "dropped").await;
    let payloads = gateway.payloads("dropped").await;
    assert_eq!(payloads, [json!({"n": 1}), json!({"n": 3})]);
    let kept: Vec<String> = gateway
        .column("select sqlstate || convert_from(raw, 'UTF8') from tidegate.quarantine")
        .await;
    assert_eq!(kept, [r#"23514{"n":2}"#]);
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn parked_records_of_a_stream_that_is_deleted_go_with_it() {
    let gateway = Gateway::with(&FLAGS).await;
    gateway.create_stream(&json!({"name": "deleted"})).await;
    gateway.execute("alter table streams.deleted rename to elsewhere").await;
    gateway.records("deleted").json(&json!({"n": 1})).send().await.expect(202);
    wait_parked(&gateway, "deleted", 1).await;
    assert_eq!(gateway.delete("/v1/streams/deleted").await.status, 204);
    eventually("nothing waits for it", async || {
        let left: i64 = gateway.scalar("select count(*) from tidegate.parked").await;
        (left == 0).then_some(())
    })
    .await;
    gateway.commit("deleted", &json!({"n": 2})).await;
    assert_eq!(gateway.payloads("deleted").await, [json!({"n": 2})]);
}

#[tokio::test]
async fn a_busy_stream_goes_its_normal_way_again() {
    const SENDERS: usize = 6;
    let gateway = Gateway::with(&[&FLAGS[..], &["--batch-rows=20"]].concat()).await;
    gateway.create_stream(&json!({"name": "busy"})).await;
    let lock = Stall::of_all_of_table(gateway.pool(), "busy").await;
    let stop = CancellationToken::new();
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (client, stop) = (Client::clone(&gateway), stop.clone());
        senders.spawn(async move {
            let mut sent = 0;
            while !stop.is_cancelled() {
                let records: Vec<Value> = (0..10).map(|n| json!({"n": n})).collect();
                client.records("busy").json(&Value::Array(records)).send().await.expect(202);
                sent += 10;
            }
            sent
        });
    }
    eventually("some is parked", async || parked_records(&gateway, "busy").await).await;
    lock.release().await;
    // While records keep coming.
    eventually("the stream's table is written again", async || {
        parked_records(&gateway, "busy").await.is_none().then_some(())
    })
    .await;
    stop.cancel();
    let sent: i64 = senders.join_all().await.into_iter().sum();
    gateway.wait_all_committed().await;
    wait_drained(&gateway, "busy").await;
    assert_eq!(gateway.rows("busy").await, sent);
}

#[tokio::test]
async fn a_batch_that_is_refused_for_too_long_is_parked_and_follows_piece_by_piece() {
    const RECORDS: i64 = 6_000;
    // A third of three seconds for all the halving of a batch.
    let gateway = Gateway::with(&["--statement-timeout-seconds=1", "--batch-interval-ms=20"]).await;
    gateway.create_stream(&json!({"name": "hopeless"})).await;
    gateway.execute("alter table streams.hopeless add check (payload->>'n' like '%7')").await;
    // One entry, so that pieces end in the middle of it.
    let records: Vec<Value> = (0..RECORDS).map(|n| json!({"n": n})).collect();
    gateway.records("hopeless").json(&Value::Array(records)).send().await.expect(202);
    eventually("it takes too long", async || parked_records(&gateway, "hopeless").await).await;
    // The others do not wait for it.
    gateway.commit("others", &json!({"n": 1})).await;
    wait_drained(&gateway, "hopeless").await;
    assert_eq!(gateway.rows("hopeless").await, RECORDS / 10);
    let kept: Vec<i64> = gateway
        .column(
            "select (convert_from(raw, 'UTF8')::jsonb->>'n')::bigint from tidegate.quarantine order by 1",
        )
        .await;
    assert_eq!(kept, (0..RECORDS).filter(|n| n % 10 != 7).collect::<Vec<i64>>());
    let of = async |what: &str| i64::try_from(gateway.total("hopeless", what).await).unwrap();
    assert_eq!((of("committed").await, of("refused").await), (RECORDS / 10, RECORDS / 10 * 9));
    let shortened = gateway.log().matches("takes too long").count();
    assert!(shortened >= 1, "{}", gateway.log());
}

/// Records of one entry that PostgreSQL refuses so slowly that they leave the table `parked` piece by piece.
const SLOW_RECORDS: i64 = 600;

/// A gateway that has such an entry parked: its stream, and the request that waits for its commit.
async fn slow_entry() -> (Gateway, JoinSet<Reply>) {
    // A third of three seconds for all the halving of a batch.
    let flags = ["--statement-timeout-seconds=1", "--commit-wait-ms=120000"];
    let gateway = Gateway::with(&[&FLAGS[..], &flags].concat()).await;
    gateway.create_stream(&json!({"name": "slow"})).await;
    gateway
        .execute(
            "create function refuse() returns trigger language plpgsql as $$
             begin
                 if new.payload->>'n' like '%7' then return new; end if;
                 perform pg_sleep(0.003);
                 raise exception 'sevens alone are taken';
             end $$;
             create trigger refuse before insert on streams.slow for each row execute function refuse()",
        )
        .await;
    let mut waiting = JoinSet::new();
    waiting.spawn(slow_request(&gateway).send());
    (gateway, waiting)
}

fn slow_request(gateway: &Gateway) -> Records {
    let records: Vec<Value> = (0..SLOW_RECORDS).map(|n| json!({"n": n})).collect();
    gateway.records("slow").json(&Value::Array(records)).query("ack", "commit").key("k")
}

/// Waits until some of its records have left.
async fn wait_partly_drained(gateway: &Gateway) {
    eventually("some of its records have left", async || {
        (1..SLOW_RECORDS).contains(&parked_in_table(gateway).await).then_some(())
    })
    .await;
}

async fn parked_in_table(gateway: &Gateway) -> i64 {
    gateway.scalar("select coalesce(sum(rows), 0)::bigint from tidegate.parked").await
}

#[tokio::test]
async fn a_request_whose_records_follow_piece_by_piece_is_told_of_all_of_them() {
    let (gateway, mut waiting) = slow_entry().await;
    wait_partly_drained(&gateway).await;
    assert!(waiting.try_join_next().is_none(), "not all of it is there");
    wait_drained(&gateway, "slow").await;
    let reply = waiting.join_all().await.remove(0).expect(201);
    let told = (&reply["committed"], &reply["quarantined"]);
    let expected = (&json!(SLOW_RECORDS / 10), &json!(SLOW_RECORDS / 10 * 9));
    assert_eq!(told, expected, "{reply}");
    let again = slow_request(&gateway).send().await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(201), reply);
}

/// What became of the first pieces is not known any more, and what became of the rest is not told for all of it.
#[tokio::test]
async fn a_request_whose_records_followed_over_a_kill_is_told_no_wrong_counts() {
    let (mut gateway, waiting) = slow_entry().await;
    wait_partly_drained(&gateway).await;
    let lock = Stall::of_all_of_table(gateway.pool(), "slow").await;
    drop(waiting);
    gateway.kill9().await;
    assert!(parked_in_table(&gateway).await > 0, "the rest is left to the next process");
    gateway.restart().await;
    lock.release().await;
    gateway.wait_nothing_parked().await;
    let again = slow_request(&gateway).send().await;
    assert!(again.is_replayed());
    let reply = again.expect(202);
    assert_eq!(reply.get("committed"), None, "{reply}");
    assert_eq!(gateway.rows("slow").await, SLOW_RECORDS / 10);
}
