//! When a table is altered: while entries wait for it, while the gateway is down, while a batch waits for it, over and over.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use tokio::task::JoinSet;

use super::ways::Way;
use crate::support::{Client, Gateway, Stall, eventually};

/// Batches of a moment, and long waits for a session that holds a table.
const FLAGS: [&str; 3] =
    ["--batch-interval-ms=20", "--lock-timeout-ms=30000", "--statement-timeout-seconds=60"];
/// The largest whole number that a `double precision` shares with all smaller ones.
const EXACT_MAX: i64 = 1 << 53;
/// Records that are sent to each stream while one is altered.
const AT_ONCE: i64 = 6;

/// A stream with the columns `k` and `b`, both bigint, of any kind.
async fn create(gateway: &Gateway, stream: &str, way: Way) {
    let columns = json!([{"name": "k", "type": "bigint"}, {"name": "b", "type": "bigint"}]);
    let mut definition = json!({"name": stream, "columns": columns});
    match way {
        Way::Plain => {}
        Way::Retained => definition["retention_days"] = json!(3),
        Way::Ignored => definition["key"] = json!(["k"]),
        Way::Replaced => {
            definition["key"] = json!(["k"]);
            definition["on_duplicate"] = json!("replace");
        }
        Way::IgnoredByIt | Way::ReplacedByIt => unreachable!("not asked for here"),
    }
    gateway.create_stream(&definition).await;
}

async fn send(gateway: &Gateway, stream: &str, records: &Value) {
    gateway.records(stream).json(records).send().await.expect(202);
}

/// Waits until the stream is parked with words that have all of these: the words.
pub async fn wait_parked_with(gateway: &Gateway, stream: &str, wanted: &[&str]) -> String {
    eventually(&format!("{stream} is parked with {wanted:?}"), async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let reason = status["parked"][stream]["reason"].as_str()?.to_owned();
        wanted.iter().all(|word| reason.contains(word)).then_some(reason)
    })
    .await
}

async fn rows(gateway: &Gateway, stream: &str) -> Vec<Value> {
    let sql = format!("select jsonb_build_array(k, b) from streams.{stream} order by k, b");
    gateway.column(sql).await
}

/// What waits for locks on a stream's table, or holds them, as a condition says.
async fn locks(gateway: &Gateway, stream: &str, condition: &str) -> i64 {
    // A session that asks for a locked table by its name waits, too.
    let sql = format!(
        "select count(*) from pg_locks join pg_class on pg_class.oid = relation
         where {condition} and relname = '{stream}' and relnamespace = 'streams'::regnamespace"
    );
    gateway.scalar(sql).await
}

async fn assert_quarantine_is_empty(gateway: &Gateway) {
    let kept: Vec<String> = gateway.column("select message from tidegate.quarantine").await;
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn entries_that_wait_while_the_type_changes_again_arrive_as_they_were_sent() {
    let gateway = Gateway::with(&FLAGS).await;
    let altered = |stream: &str, kind: &str, using: &str| {
        format!("alter table streams.{stream} alter b type {kind} using {using}")
    };
    for (stream, way) in [("plain", Way::Plain), ("replaced", Way::Replaced)] {
        create(&gateway, stream, way).await;
        gateway.commit(stream, &json!({"k": 1, "b": 10})).await;
        gateway.execute(&altered(stream, "double precision", "b")).await;
        send(&gateway, stream, &json!([{"k": 2, "b": i64::MAX}, {"k": 3, "b": 31}])).await;
        wait_parked_with(&gateway, stream, &["b", "double precision", "bigint"]).await;
        gateway.execute(&altered(stream, "money", "b::numeric::money")).await;
        send(&gateway, stream, &json!([{"k": 3, "b": i64::MIN}, {"k": 4, "b": 40}])).await;
        wait_parked_with(&gateway, stream, &["b", "money", "bigint"]).await;
        // Every number goes into a text.
        gateway.execute(&altered(stream, "text", "b::numeric::bigint::text")).await;
        gateway.wait_nothing_parked().await;
        gateway.commit(stream, &json!({"k": 5, "b": -50})).await;
        gateway.execute(&altered(stream, "bigint", "b::bigint")).await;
        gateway.commit(stream, &json!({"k": 6, "b": 60})).await;
        let mut expected = vec![
            json!([1, 10]),
            json!([2, i64::MAX]),
            json!([3, i64::MIN]),
            json!([3, 31]),
            json!([4, 40]),
            json!([5, -50]),
            json!([6, 60]),
        ];
        if way == Way::Replaced {
            expected.remove(3);
        }
        assert_eq!(rows(&gateway, stream).await, expected, "{stream}");
    }
    assert_quarantine_is_empty(&gateway).await;
}

#[tokio::test]
async fn a_table_that_was_altered_while_the_gateway_was_down_is_noticed() {
    let mut gateway = Gateway::with(&FLAGS).await;
    let streams = [
        ("plain", Way::Plain),
        ("retained", Way::Retained),
        ("ignored", Way::Ignored),
        ("replaced", Way::Replaced),
    ];
    for (stream, way) in streams {
        create(&gateway, stream, way).await;
        gateway.commit(stream, &json!({"k": 1, "b": 10})).await;
    }
    let stall = Stall::of_writers(gateway.pool()).await;
    for (stream, _) in streams {
        send(&gateway, stream, &json!({"k": 2, "b": 20})).await;
    }
    gateway.kill9().await;
    stall.release().await;
    for (stream, _) in streams {
        gateway
            .execute(&format!("alter table streams.{stream} alter b type timestamp using '2000-01-01'::timestamp + b * interval '1 us'"))
            .await;
    }
    gateway.restart().await;
    let words = ["b", "timestamp without time zone", "bigint"];
    for (stream, _) in streams {
        wait_parked_with(&gateway, stream, &words).await;
        send(&gateway, stream, &json!({"k": 3, "b": 30})).await;
    }
    // The next process finds them parked, and learns why.
    gateway.restart().await;
    for (stream, _) in streams {
        wait_parked_with(&gateway, stream, &words).await;
        assert_eq!(gateway.rows(stream).await, 1, "{stream}");
        gateway
            .execute(&format!("alter table streams.{stream} alter b type bigint using (extract(epoch from b - '2000-01-01') * 1000000)::bigint"))
            .await;
    }
    gateway.wait_nothing_parked().await;
    for (stream, _) in streams {
        let expected = [json!([1, 10]), json!([2, 20]), json!([3, 30])];
        assert_eq!(rows(&gateway, stream).await, expected, "{stream}");
    }
    assert_quarantine_is_empty(&gateway).await;
}

#[tokio::test]
async fn a_column_that_is_altered_while_a_batch_waits_for_its_table_is_noticed() {
    let mut gateway = Gateway::with(&FLAGS).await;
    // With a snapshot for a whole transaction the writer would not see what became of the table while it was waited
    // for.
    let database: String = gateway.scalar("select current_database()").await;
    let snapshots = "default_transaction_isolation = 'repeatable read'";
    gateway.execute(&format!("alter database {database} set {snapshots}")).await;
    gateway.restart().await;
    for way in Way::BY_ANOTHER {
        let stream = way.name();
        create(&gateway, stream, way).await;
        gateway.commit(stream, &json!({"k": 1, "b": 10})).await;
        let table = format!("streams.{stream}");
        let mut altering = gateway.pool().begin().await.unwrap();
        let alter = format!("alter table {table} alter b type double precision");
        altering.execute(sqlx::raw_sql(AssertSqlSafe(alter))).await.unwrap();
        // No other session sees the new type yet, and every session that wants to write waits for it.
        send(&gateway, stream, &json!([{"k": 1, "b": 11}, {"k": 2, "b": 20}])).await;
        eventually("the batch waits for the table", async || {
            (locks(&gateway, stream, "not granted").await > 0).then_some(())
        })
        .await;
        altering.commit().await.unwrap();
        wait_parked_with(&gateway, stream, &["b", "double precision", "bigint"]).await;
        assert_eq!(gateway.rows(stream).await, 1, "{stream}");
        gateway.execute(&format!("alter table {table} alter b type bigint")).await;
        gateway.wait_nothing_parked().await;
        let expected = match way {
            Way::Ignored => vec![json!([1, 10]), json!([2, 20])],
            Way::Replaced => vec![json!([1, 11]), json!([2, 20])],
            _ => vec![json!([1, 10]), json!([1, 11]), json!([2, 20])],
        };
        assert_eq!(rows(&gateway, stream).await, expected, "{stream}");
    }
    assert_quarantine_is_empty(&gateway).await;
}

/// Sends the next numbers to all streams, in requests of their own.
async fn count_on(client: &Client, streams: &[&str], sent: i64) {
    for k in sent..sent + AT_ONCE {
        for stream in streams {
            let record = json!({"k": k, "b": EXACT_MAX - k});
            client.records(stream).json(&record).send().await.expect(202);
        }
    }
}

#[tokio::test]
async fn values_stay_right_while_a_column_is_altered_over_and_over() {
    /// A type, a cast to it and back, and whether records wait meanwhile.
    const TYPES: [(&str, &str, &str); 4] = [
        ("double precision", "b", "b"),
        ("numeric", "b", "b"),
        (
            "timestamp",
            "timestamp '2000-01-01' + b * interval '1 us'",
            "(extract(epoch from b - timestamp '2000-01-01') * 1000000)::bigint",
        ),
        ("text", "b::text", "b::bigint"),
    ];
    // A batch that holds one table waits for its turn at another, while a session that alters that one waits for it.
    let gateway = Gateway::with(&[
        "--batch-interval-ms=5",
        "--batch-rows=10",
        "--writers=3",
        "--lock-timeout-ms=100",
    ])
    .await;
    let streams = Way::BY_ANOTHER.map(Way::name);
    for way in Way::BY_ANOTHER {
        create(&gateway, way.name(), way).await;
    }
    let mut sent = 0;
    for (kind, there, back) in TYPES {
        for (to, using) in [(kind, there), ("bigint", back)] {
            for stream in streams {
                // Batches are under way, before it and after it.
                let alter = format!("alter table streams.{stream} alter b type {to} using {using}");
                tokio::join!(count_on(&gateway, &streams, sent), gateway.execute(&alter));
                sent += AT_ONCE;
            }
        }
        gateway.wait_nothing_parked().await;
    }
    gateway.wait_all_committed().await;
    gateway.wait_nothing_parked().await;
    for stream in streams {
        let wrong = format!(
            "select format('%s: %s', k, b) from streams.{stream} where b <> {EXACT_MAX} - k"
        );
        let distinct = format!("select count(distinct k) from streams.{stream}");
        assert_eq!(gateway.column::<String>(wrong).await, [""; 0], "{stream}");
        assert_eq!(gateway.rows(stream).await, sent, "{stream}");
        assert_eq!(gateway.scalar::<i64>(distinct).await, sent, "{stream}");
    }
    assert_quarantine_is_empty(&gateway).await;
}

#[tokio::test]
async fn a_replace_overwrites_no_row_of_a_table_whose_key_was_altered() {
    let gateway = Gateway::with(&FLAGS).await;
    let columns = json!([{"name": "k", "type": "bigint"}, {"name": "v", "type": "text"}]);
    for on_duplicate in ["ignore", "replace"] {
        let stream = format!("by_{on_duplicate}");
        let definition =
            json!({"name": stream, "columns": columns, "key": ["k"], "on_duplicate": on_duplicate});
        gateway.create_stream(&definition).await;
        let good = json!([{"k": 42, "v": "good"}, {"k": 0, "v": "zero"}]);
        gateway.commit(&stream, &good).await;
        let values = async || -> Vec<Value> {
            gateway
                .column(format!(
                    "select jsonb_build_array(k::bigint, v) from streams.{stream} order by k"
                ))
                .await
        };
        gateway
            .execute(&format!("alter table streams.{stream} alter k type double precision"))
            .await;
        let request = gateway
            .records(&stream)
            .json(&json!([{"k": 42, "v": "new"}, {"k": 7, "v": "seven"}]))
            .query("ack", "commit");
        let mut waiting = JoinSet::new();
        waiting.spawn(request.send());
        let words = ["k", "double precision", "bigint"];
        let reason = wait_parked_with(&gateway, &stream, &words).await;
        assert!(gateway.log().contains(&reason), "the log has the words: {reason}");
        assert_eq!(values().await, [json!([0, "zero"]), json!([42, "good"])]);
        gateway.execute(&format!("alter table streams.{stream} alter k type bigint")).await;
        let reply = waiting.join_all().await.remove(0).expect(201);
        assert_eq!((&reply["committed"], &reply["duplicates"]), (&json!(1), &json!(1)), "{reply}");
        let kept = if on_duplicate == "replace" { "new" } else { "good" };
        assert_eq!(values().await, [json!([0, "zero"]), json!([7, "seven"]), json!([42, kept])]);
    }
    assert_quarantine_is_empty(&gateway).await;
}

#[tokio::test]
async fn what_a_writer_staged_while_a_column_was_altered_is_not_used_when_it_is_altered_back() {
    /// So many requests in a row that each writer has some of them.
    const IN_A_ROW: i64 = 12;
    let gateway = Gateway::with(&[&FLAGS[..], &["--writers=2"]].concat()).await;
    create(&gateway, "replaced", Way::Replaced).await;
    create(&gateway, "held", Way::Plain).await;
    for k in 0..IN_A_ROW {
        // Both writers know the table as it is now.
        gateway.commit("replaced", &json!({"k": k, "b": k})).await;
    }
    // One writer waits for the other stream's table before it comes to this one.
    let lock = Stall::of_table(gateway.pool(), "held").await;
    send(&gateway, "held", &json!({"k": 1, "b": 1})).await;
    send(&gateway, "replaced", &json!({"k": 100, "b": 100})).await;
    eventually("the first batch waits", async || {
        (locks(&gateway, "held", "not granted").await > 0).then_some(())
    })
    .await;
    gateway.execute("alter table streams.replaced alter b type double precision").await;
    // The other writer copies into the altered table, and waits for its turn.
    send(&gateway, "replaced", &json!({"k": 101, "b": 101})).await;
    eventually("the second batch is copied", async || {
        let copied = "granted and mode = 'RowExclusiveLock'";
        (locks(&gateway, "replaced", copied).await > 0).then_some(())
    })
    .await;
    // The first finds the table altered and parks the stream, so the second has to park what it has.
    lock.release().await;
    wait_parked_with(&gateway, "replaced", &["b", "double precision", "bigint"]).await;
    gateway.wait_all_committed().await;
    gateway.execute("alter table streams.replaced alter b type bigint").await;
    gateway.wait_nothing_parked().await;
    for k in 0..IN_A_ROW {
        // The key is taken, so it is staged.
        gateway.commit("replaced", &json!({"k": k, "b": EXACT_MAX + k})).await;
    }
    let mut expected: Vec<Value> = (0..IN_A_ROW).map(|k| json!([k, EXACT_MAX + k])).collect();
    expected.extend([json!([100, 100]), json!([101, 101])]);
    assert_eq!(rows(&gateway, "replaced").await, expected);
    assert_quarantine_is_empty(&gateway).await;
}
