//! A batch is cut by rows, by bytes, by time or because a sender waits, and the committed ranges tell of each.
//!
//! The ranges are the evidence: one row of `committed_ranges` a transaction, so that a batch that was cut too early
//! shows, without any waiting for what shall not happen.

use serde_json::{Value, json};
use tidegate_record::Position;
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, Stall, parse_position};

/// Neither rows nor bytes nor time: the one that a test wants is given after these and wins.
const NEVER: [&str; 3] =
    ["--batch-rows=1000000000", "--batch-bytes=1000000000", "--batch-interval-ms=600000"];

/// A gateway that cuts batches for one reason only.
async fn gateway_with(limit: &str, name: &str) -> Gateway {
    let mut flags: Vec<&str> = NEVER.into_iter().filter(|flag| !flag.starts_with(name)).collect();
    flags.push(limit);
    let gateway = Gateway::with(&flags).await;
    gateway.create_stream(&json!({"name": "batched"})).await;
    gateway
}

/// First and last position of each committed range, in order.
async fn ranges(gateway: &Gateway) -> Vec<(Position, Position)> {
    let rows: Vec<Vec<i64>> = gateway
        .column("select array[first, last] from tidegate.committed_ranges order by first")
        .await;
    let position = |value: i64| Position(u64::try_from(value).unwrap());
    rows.into_iter().map(|row| (position(row[0]), position(row[1]))).collect()
}

/// Sends `count` records in one request; the position of their end.
async fn send(client: &Client, count: usize) -> Value {
    let records: Vec<Value> =
        (0..count).map(|n| json!({"n": n, "text": "x".repeat(100)})).collect();
    let reply = client.records("batched").json(&Value::Array(records)).send().await.expect(202);
    reply["position"].clone()
}

#[tokio::test]
async fn a_batch_is_cut_by_rows() {
    let gateway = gateway_with("--batch-rows=100", "--batch-rows").await;
    let mut ends = Vec::new();
    for _ in 0..25 {
        ends.push(send(&gateway, 10).await);
    }
    // 250 rows: two batches of a hundred; half a batch waits for ever.
    gateway.wait_committed(&ends[19]).await;
    let ranges = ranges(&gateway).await;
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    let lasts: Vec<Position> = ranges.iter().map(|(_, last)| *last).collect();
    assert_eq!(lasts, [parse_position(&ends[9]), parse_position(&ends[19])]);
    assert_eq!(gateway.rows("batched").await, 200);
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(status["journal"]["committed"], ends[19]);

    // An entry is never torn: it goes whole with the batch that it fills.
    let end = send(&gateway, 1_000).await;
    gateway.wait_committed(&end).await;
    assert_eq!(gateway.rows("batched").await, 1_250);
}

#[tokio::test]
async fn a_batch_is_cut_by_bytes() {
    const BATCH_BYTES: u64 = 20_000;
    let gateway = gateway_with("--batch-bytes=20000", "--batch-bytes").await;
    let mut end = Value::Null;
    for _ in 0..60 {
        end = send(&gateway, 10).await;
    }
    // What is left is less than a batch; filling it up makes the rest go.
    let filled = send(&gateway, 150).await;
    gateway.wait_committed(&end).await;
    gateway.wait_committed(&filled).await;
    let ranges = ranges(&gateway).await;
    for (first, last) in &ranges {
        let bytes = last.0 - first.0;
        assert!(bytes >= BATCH_BYTES, "cut too early: {ranges:?}");
        // One entry more than the limit, and what the journal adds to each.
        assert!(bytes < 2 * BATCH_BYTES + 150 * 250, "cut too late: {ranges:?}");
    }
    assert!(ranges.len() >= 4, "{ranges:?}");
    assert_eq!(gateway.rows("batched").await, 750);
}

#[tokio::test]
async fn a_batch_is_cut_by_time() {
    let gateway = gateway_with("--batch-interval-ms=700", "--batch-interval").await;
    let end = send(&gateway, 1).await;
    gateway.wait_committed(&end).await;
    // A range's time is that of its transaction's beginning.
    let waited: f64 = gateway
        .scalar(
            "select extract(epoch from committed_at - received_at)::float8
             from tidegate.committed_ranges, streams.batched",
        )
        .await;
    assert!((0.65..10.0).contains(&waited), "the first record waited {waited} s");

    // What comes while the first one waits goes with it.
    for _ in 0..5 {
        send(&gateway, 2).await;
    }
    gateway.wait_all_committed().await;
    let transactions: i64 =
        gateway.scalar("select count(distinct xmin::text) from streams.batched").await;
    assert!((2..=3).contains(&transactions), "{transactions} transactions");
}

#[tokio::test]
async fn a_batch_is_cut_when_a_sender_waits_for_it() {
    let gateway = gateway_with("--batch-rows=1000000000", "--batch-rows").await;
    let early = send(&gateway, 7).await;
    assert_eq!(gateway.rows("batched").await, 0);
    let reply = gateway.commit("batched", &json!([{"n": 1}])).await;
    // The records before come along: ranges have no holes.
    gateway.wait_committed(&early).await;
    assert_eq!(gateway.rows("batched").await, 8);
    let ranges = ranges(&gateway).await;
    assert_eq!(
        ranges.last().map(|(_, last)| *last),
        Some(parse_position(&reply["position"])),
        "{ranges:?}"
    );
}

#[tokio::test]
async fn rows_and_their_range_are_one_transaction() {
    let gateway = Gateway::with(&["--writers=2", "--batch-rows=40"]).await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    for n in 0..30 {
        let name = if n % 3 == 0 { "one" } else { "two" };
        let lines = format!("{{\"n\":{n}}}\n").repeat(10) + "broken\n";
        gateway.records(name).ndjson(lines).send().await.expect(202);
    }
    gateway.wait_all_committed().await;
    // Fewer batches than are folded into one range.
    let batches = ranges(&gateway).await.len();
    assert!((2..60).contains(&batches), "{batches}");
    for table in ["streams.one", "streams.two", "tidegate.quarantine"] {
        let strangers: i64 = gateway
            .scalar(format!(
                "select count(*) from {table} where xmin::text not in
                 (select xmin::text from tidegate.committed_ranges)"
            ))
            .await;
        assert_eq!(strangers, 0, "{table}");
    }
    assert_eq!(gateway.rows("one").await + gateway.rows("two").await, 300);
}

#[tokio::test]
async fn ranges_cover_the_journal_without_a_hole_however_many_writers_there_are() {
    let gateway = Gateway::with(&["--writers=4", "--batch-rows=20", "--batch-interval-ms=5"]).await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "text", "type": "text"}]);
    gateway.create_stream(&json!({"name": "batched", "columns": columns})).await;
    let begin = parse_position(&gateway.get("/v1/status").await.expect(200)["journal"]["first"]);
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let client = Client::clone(&gateway);
        senders.spawn(async move {
            for count in 1..=60 {
                send(&client, count % 9 + 1).await;
            }
        });
    }
    senders.join_all().await;
    let end = gateway.wait_all_committed().await;
    let ranges = ranges(&gateway).await;
    assert_eq!(ranges.first().map(|(first, _)| *first), Some(begin));
    assert_eq!(ranges.last().map(|(_, last)| *last), Some(end));
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "a hole or an overlap: {ranges:?}");
    }
    assert!(ranges.len() < 150, "ranges are folded: {}", ranges.len());
    let expected: i64 = 8 * (1..=60).map(|count| count % 9 + 1).sum::<i64>();
    assert_eq!(gateway.rows("batched").await, expected);
    assert_eq!(gateway.total("batched", "committed").await, u64::try_from(expected).unwrap());
}

#[tokio::test]
async fn a_backlog_is_worked_off_in_full_batches() {
    let gateway = Gateway::with(&["--writers=1", "--batch-rows=500"]).await;
    gateway.create_stream(&json!({"name": "batched"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    for _ in 0..200 {
        send(&gateway, 25).await;
    }
    stall.release().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("batched").await, 5_000);
    let transactions: i64 =
        gateway.scalar("select count(distinct xmin::text) from streams.batched").await;
    // The first batches were cut by time before the stall was felt.
    assert!((10..=14).contains(&transactions), "{transactions} transactions for 10 batches");
}
