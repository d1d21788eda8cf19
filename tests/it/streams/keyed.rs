//! Keys: one row for each, the first or the last record as the stream wants, and every duplicate counted.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, Metrics};

/// Every kind of keyed stream: its name, and what makes it.
const KINDS: [&str; 5] =
    ["typed_ignore", "typed_replace", "document_ignore", "document_replace", "text_replace"];

fn definition(kind: &str) -> Value {
    let on_duplicate = kind.rsplit_once('_').map(|(_, word)| word);
    let mut stream = json!({"name": kind, "on_duplicate": on_duplicate, "key": ["/k"]});
    if kind.starts_with("typed") {
        stream["columns"] =
            json!([{"name": "k", "type": "text"}, {"name": "v", "type": "integer"}]);
        stream["key"] = json!(["k"]);
    } else if kind.starts_with("text") {
        stream["payload"] = json!("json");
    }
    stream
}

fn replaces(kind: &str) -> bool {
    kind.ends_with("replace")
}

/// Keys and values of a table, in the order of the keys.
async fn pairs(gateway: &Gateway, kind: &str) -> Vec<(String, i32)> {
    let columns = if kind.starts_with("typed") {
        "k, v"
    } else {
        "payload->>'k' as k, (payload->>'v')::int as v"
    };
    let sql = format!(
        "select jsonb_build_array(k, v) from (select {columns} from streams.{kind}) rows order by k"
    );
    let rows: Vec<Value> = gateway.column(sql).await;
    rows.into_iter().map(|row| serde_json::from_value(row).unwrap()).collect()
}

fn pair(key: &str, value: i32) -> (String, i32) {
    (key.to_owned(), value)
}

fn record(key: &str, value: i32) -> Value {
    json!({"k": key, "v": value})
}

/// What `ack=commit` counted.
fn counted(reply: &Value) -> (u64, u64) {
    (reply["committed"].as_u64().unwrap(), reply["duplicates"].as_u64().unwrap())
}

#[tokio::test]
async fn the_right_record_stays_within_a_request_across_requests_and_across_restarts() {
    let mut gateway = Gateway::start().await;
    for kind in KINDS {
        gateway.create_stream(&definition(kind)).await;
        let reply = gateway
            .commit(
                kind,
                &json!([
                    record("a", 1),
                    record("b", 2),
                    record("a", 3),
                    record("a", 4),
                    record("c'\"", 5)
                ]),
            )
            .await;
        assert_eq!(counted(&reply), (3, 2), "{kind}");
        let a = if replaces(kind) { 4 } else { 1 };
        assert_eq!(
            pairs(&gateway, kind).await,
            [pair("a", a), pair("b", 2), pair("c'\"", 5)],
            "{kind}"
        );

        let reply =
            gateway.commit(kind, &json!([record("b", 6), record("d", 7), record("b", 8)])).await;
        assert_eq!(counted(&reply), (1, 2), "{kind}");
        let b = if replaces(kind) { 8 } else { 2 };
        assert_eq!(
            pairs(&gateway, kind).await,
            [pair("a", a), pair("b", b), pair("c'\"", 5), pair("d", 7)],
            "{kind}"
        );
        let reply = gateway.commit(kind, &record("d", 9)).await;
        assert_eq!(counted(&reply), (0, 1), "{kind}");
        assert_eq!(gateway.total(kind, "committed").await, 4, "{kind}");
        assert_eq!(gateway.total(kind, "duplicates").await, 5, "{kind}");
        assert_eq!(gateway.total(kind, "accepted").await, 9, "{kind}");
        let metrics = Metrics::read(&gateway).await;
        let total = |name: &str| metrics.sum(name, "stream", kind);
        assert!((total("tidegate_records_committed_total") - 4.0).abs() < 0.5, "{metrics:?}");
        assert!((total("tidegate_records_duplicate_total") - 5.0).abs() < 0.5, "{metrics:?}");
        assert!((total("tidegate_records_accepted_total") - 9.0).abs() < 0.5, "{metrics:?}");
    }
    gateway.restart().await;
    for kind in KINDS {
        let reply = gateway.commit(kind, &json!([record("a", 10), record("e", 11)])).await;
        assert_eq!(counted(&reply), (1, 1), "{kind}");
        let [a, b, d] = if replaces(kind) { [10, 8, 9] } else { [1, 2, 7] };
        let expected = [pair("a", a), pair("b", b), pair("c'\"", 5), pair("d", d), pair("e", 11)];
        assert_eq!(pairs(&gateway, kind).await, expected, "{kind}");
    }
}

#[tokio::test]
async fn equal_keys_of_different_requests_in_one_batch_are_counted_where_they_belong() {
    // A batch is cut for a sender that waits for it, and for no other reason.
    let gateway = Gateway::with(&["--batch-interval-ms=600000"]).await;
    for kind in KINDS {
        gateway.create_stream(&definition(kind)).await;
        let first = json!([record("a", 1), record("b", 2)]);
        gateway.records(kind).json(&first).send().await.expect(202);
        let second = gateway.commit(kind, &json!([record("b", 3), record("c", 4)])).await;
        let transactions: i64 =
            gateway.scalar(format!("select count(distinct xmin::text) from streams.{kind}")).await;
        assert_eq!(transactions, 1, "{kind}");
        // A record that stands in the table is counted as its row, the other as its duplicate.
        assert_eq!(counted(&second), if replaces(kind) { (2, 0) } else { (1, 1) }, "{kind}");
        assert_eq!(gateway.total(kind, "committed").await, 3, "{kind}");
        assert_eq!(gateway.total(kind, "duplicates").await, 1, "{kind}");
        let b = if replaces(kind) { 3 } else { 2 };
        assert_eq!(
            pairs(&gateway, kind).await,
            [pair("a", 1), pair("b", b), pair("c", 4)],
            "{kind}"
        );
    }
}

/// One sender's versions of some keys, one request after the other; returns the totals of the replies.
async fn send_versions(
    client: Client,
    stream: &'static str,
    sender: usize,
    requests: i32,
) -> (u64, u64) {
    let mut total = (0, 0);
    for version in 0..requests {
        let records: Vec<Value> = (0..5)
            .map(|key| record(&format!("{sender}/{}", (key * version) % 7), version))
            .collect();
        let ack = if version % 10 == 9 { "commit" } else { "journal" };
        let reply =
            client.records(stream).json(&Value::Array(records)).query("ack", ack).send().await;
        if ack == "commit" {
            let (committed, duplicates) = counted(&reply.expect(201));
            assert_eq!(committed + duplicates, 5);
            total = (total.0 + committed, total.1 + duplicates);
        } else {
            reply.expect(202);
        }
    }
    total
}

/// The version of each key that the senders of [`send_versions`] sent first and last.
fn first_and_last(senders: usize, requests: i32) -> Vec<(String, i32, i32)> {
    let mut keys = Vec::new();
    for sender in 0..senders {
        for key in 0..7 {
            let versions: Vec<i32> =
                (0..requests).filter(|version| (0..5).any(|n| (n * version) % 7 == key)).collect();
            keys.push((format!("{sender}/{key}"), versions[0], versions[versions.len() - 1]));
        }
    }
    keys
}

#[tokio::test]
async fn writers_side_by_side_keep_each_key_s_order() {
    const SENDERS: usize = 4;
    const REQUESTS: i32 = 70;
    // Small batches of many streams: every writer has something of the same keys at the same time.
    let gateway = Gateway::with(&["--writers=4", "--batch-rows=8", "--batch-interval-ms=5"]).await;
    let streams = ["typed_replace", "document_replace", "typed_ignore", "document_ignore"];
    for kind in streams {
        gateway.create_stream(&definition(kind)).await;
    }
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        for stream in streams {
            senders.spawn(send_versions(Client::clone(&gateway), stream, sender, REQUESTS));
        }
    }
    senders.join_all().await;
    gateway.wait_all_committed().await;
    for kind in streams {
        let last = replaces(kind);
        let mut expected: Vec<(String, i32)> = first_and_last(SENDERS, REQUESTS)
            .into_iter()
            .map(|(key, first_version, last_version)| {
                (key, if last { last_version } else { first_version })
            })
            .collect();
        expected.sort();
        let mut found = pairs(&gateway, kind).await;
        found.sort();
        assert_eq!(found, expected, "{kind}");
        let keys = expected.len() as u64;
        let sent = (SENDERS * 5) as u64 * u64::try_from(REQUESTS).unwrap();
        assert_eq!(gateway.total(kind, "committed").await, keys, "{kind}");
        assert_eq!(gateway.total(kind, "duplicates").await, sent - keys, "{kind}");
    }
}

#[tokio::test]
async fn keys_of_several_fields_of_any_type_are_compared_by_value() {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "a", "type": "numeric"}, {"name": "b", "type": "timestamptz"}, {"name": "order", "type": "jsonb"},
        {"name": "v", "type": "integer"},
    ]);
    gateway
        .create_stream(&json!({"name": "values", "columns": columns, "key": ["b", "a", "order"], "on_duplicate": "ignore"}))
        .await;
    let reply = gateway
        .commit(
            "values",
            &json!([
                {"a": 1, "b": "2013-01-01T05:00:00Z", "order": {"x": 1, "y": 2}, "v": 1},
                {"a": 1.00, "b": "2013-01-01T06:00:00+01", "order": {"y": 2, "x": 1.0}, "v": 2},
                {"a": 1, "b": "2013-01-01T05:00:00.000001Z", "order": {"x": 1, "y": 2}, "v": 3},
                {"a": 1.01, "b": "2013-01-01T05:00:00Z", "order": {"x": 1, "y": 2}, "v": 4},
                {"a": 1, "b": "2013-01-01T05:00:00Z", "order": {"x": 1, "y": 3}, "v": 5},
            ]),
        )
        .await;
    assert_eq!(counted(&reply), (4, 1));
    assert_eq!(
        gateway.column::<i32>("select v from streams.values order by v").await,
        [1, 3, 4, 5]
    );

    // Pointers lead through objects, with the escapes of RFC 6901.
    let key = json!(["/order/id", "/a~1b/~0'"]);
    gateway.create_stream(&json!({"name": "pointed", "key": key, "on_duplicate": "replace"})).await;
    let reply = gateway
        .commit(
            "pointed",
            &json!([
                {"order": {"id": 1}, "a/b": {"~'": "x"}, "v": 1},
                {"order": {"id": "1"}, "a/b": {"~'": "x"}, "v": 2},
                {"order": {"id": 1}, "a/b": {"~'": "y"}, "v": 3},
                {"order": {"id": true}, "a/b": {"~'": "y"}, "v": 4},
            ]),
        )
        .await;
    assert_eq!(counted(&reply), (3, 1), "a pointer's value is compared as text");
    let values: Vec<i32> =
        gateway.column("select (payload->>'v')::int as v from streams.pointed order by v").await;
    assert_eq!(values, [2, 3, 4]);
}

#[tokio::test]
async fn a_record_without_its_key_is_refused() {
    let gateway = Gateway::start().await;
    for kind in ["typed_ignore", "document_replace"] {
        gateway.create_stream(&definition(kind)).await;
        let column = if kind.starts_with("typed") { "k" } else { "/k" };
        let lines = "{\"k\":\"a\",\"v\":1}\n{\"v\":2}\n{\"k\":null,\"v\":3}\n";
        let reply =
            gateway.records(kind).ndjson(lines).query("ack", "commit").send().await.expect(201);
        assert_eq!((counted(&reply), &reply["quarantined"]), ((1, 0), &json!(2)), "{kind}");
        for error in reply["errors"].as_array().unwrap() {
            assert_eq!(
                (&error["code"], &error["column"]),
                (&json!("missing_key"), &json!(column)),
                "{kind}"
            );
        }
        let reply = gateway
            .records(kind)
            .csv("k,v\n,4\nb,5\n")
            .query("ack", "commit")
            .send()
            .await
            .expect(201);
        assert_eq!((counted(&reply), &reply["quarantined"]), ((1, 0), &json!(1)), "{kind}");
        let long = json!([{"k": "x".repeat(3_000), "v": 6}, {"k": "y".repeat(900), "v": 7}]);
        let reply = gateway.commit(kind, &long).await;
        assert_eq!(
            (counted(&reply), &reply["quarantined"]),
            ((1, 0), &json!(1)),
            "{kind}: {reply}"
        );
        assert_eq!(reply["errors"][0]["code"], "out_of_range", "{kind}");
        assert_eq!(gateway.rows(kind).await, 3, "{kind}");
    }
    let list = json!({"k": ["a list"], "v": 1});
    gateway.records("document_replace").json(&list).send().await.problem(422, "invalid_record");
}

#[tokio::test]
async fn what_happens_to_duplicates_can_be_changed() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&definition("typed_ignore")).await;
    gateway.commit("typed_ignore", &record("a", 1)).await;
    gateway.commit("typed_ignore", &record("a", 2)).await;
    assert_eq!(pairs(&gateway, "typed_ignore").await, [pair("a", 1)]);
    let changed =
        gateway.patch("/v1/streams/typed_ignore", &json!({"on_duplicate": "replace"})).await;
    assert_eq!(changed.expect(200)["on_duplicate"], "replace");
    let reply = gateway.commit("typed_ignore", &record("a", 3)).await;
    assert_eq!(counted(&reply), (0, 1));
    assert_eq!(pairs(&gateway, "typed_ignore").await, [pair("a", 3)]);
}

#[tokio::test]
async fn a_replaced_row_takes_the_new_record_whole() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&definition("typed_replace")).await;
    let first = gateway.commit("typed_replace", &json!({"k": "a", "v": 1, "more": "old"})).await;
    let second = gateway.commit("typed_replace", &json!({"k": "a"})).await;
    assert_ne!(first["id"], second["id"]);
    let row: Value =
        gateway.scalar("select to_jsonb(t) - 'received_at' from streams.typed_replace t").await;
    assert_eq!(row, json!({"id": second["id"], "k": "a", "v": null, "extra": null}));
}

#[tokio::test]
async fn which_of_equal_keys_came_last_does_not_depend_on_their_sizes() {
    const RECORDS: usize = 4_000;
    const KEYS: usize = 50;
    let gateway = Gateway::start().await;
    for on_duplicate in ["ignore", "replace"] {
        let columns = json!([{"name": "key", "type": "integer"}, {"name": "n", "type": "integer"}, {"name": "text", "type": "text"}]);
        let stream = json!({"name": on_duplicate, "columns": columns, "key": ["key"], "on_duplicate": on_duplicate});
        gateway.create_stream(&stream).await;
        // Long rows leave room behind in PostgreSQL's pages, which later short ones may take.
        let record = |n: usize| {
            let text = "x".repeat(if n % 7 < 3 { 1_900 - n % 300 } else { n % 90 });
            json!({"key": n % KEYS, "n": n, "text": text})
        };
        let records: Vec<Value> = (0..RECORDS).map(record).collect();
        let reply = gateway.commit(on_duplicate, &Value::Array(records)).await;
        assert_eq!(reply["committed"], KEYS, "{reply}");
        let mut stayed: Vec<i32> =
            gateway.column(format!("select n from streams.{on_duplicate}")).await;
        stayed.sort_unstable();
        let first = if on_duplicate == "ignore" { 0 } else { RECORDS - KEYS };
        let expected: Vec<i32> = (first..first + KEYS).map(|n| i32::try_from(n).unwrap()).collect();
        assert_eq!(stayed, expected, "{on_duplicate}");
    }
}
