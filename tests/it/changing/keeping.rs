//! Changes over crashes, tables that cannot be written, databases that were set back, and under the eyes of monitors.

use serde_json::{Value, json};

use super::{CHANGES, documents, flights, put};
use crate::support::Gateway;
use crate::support::watcher::Watcher;

#[tokio::test]
async fn changes_wait_for_their_table_in_their_order() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&documents("jsonb")).await;
    gateway.commit("docs", &json!([{"k": {"id": 1}, "n": 0}, {"k": {"id": 2}, "n": 0}])).await;
    gateway.execute("alter table streams.docs rename to away").await;
    let key = |id: u32| json!({"k": {"id": id}});
    let changes = [
        json!({"op": "patch", "key": key(1), "data": {"n": 1}}),
        json!({"op": "delete", "key": key(2)}),
    ];
    let body = |changes: &[Value]| changes.iter().map(|it| format!("{it}\n")).collect::<String>();
    let send = |changes: &[Value]| {
        gateway.records("docs").body(CHANGES, body(changes)).query("ack", "journal").send()
    };
    send(&changes).await.expect(202);
    gateway.records("docs").json(&json!({"k": {"id": 2}, "n": 5})).send().await.expect(202);
    send(&[json!({"op": "patch", "key": key(2), "data": {"m": 6}})]).await.expect(202);
    gateway.wait_all_committed().await;
    let kinds = gateway.column::<i16>("select kind from tidegate.parked order by position").await;
    assert_eq!(kinds, [3, 1, 3]);
    gateway.execute("alter table streams.away rename to docs").await;
    gateway.wait_nothing_parked().await;
    let mut payloads = gateway.payloads("docs").await;
    payloads.sort_by_key(|payload| payload["k"]["id"].as_i64());
    assert_eq!(
        payloads,
        [json!({"k": {"id": 1}, "n": 1}), json!({"k": {"id": 2}, "n": 5, "m": 6})]
    );
}

#[tokio::test]
async fn monitors_see_changes_and_what_is_done() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let mut monitor = Watcher::local(&gateway, "streams=flights").await;
    let path = "/v1/streams/flights/by-key/UA,1";
    let made = put(&gateway, path, &json!({"carrier": "UA", "flight": 1})).await.expect(201);
    gateway.patch(path, &json!({"delay": 2.5, "more": {"x": null}})).await.expect(200);
    let by_id = format!("/v1/streams/flights/records/{}", made["id"].as_str().unwrap());
    assert_eq!(gateway.delete(&by_id).await.status, 204);
    monitor.until("three changes", |monitor| monitor.records("flights").len() >= 3).await;
    let seen = monitor.records("flights");
    let shown: Vec<Value> = seen
        .iter()
        .map(|record| json!([record["op"], record["patch"], record["key"], record["data"]]))
        .collect();
    let key = json!({"carrier": "UA", "flight": 1});
    let whole = json!({"carrier": "UA", "flight": 1, "delay": null, "at": null});
    assert_eq!(
        shown,
        [
            json!(["change", null, key, whole]),
            json!(["change", true, key, {"delay": 2.5, "more": {"x": null}}]),
            json!(["delete", null, null, null]),
        ]
    );
    assert_eq!(seen[2]["id"], made["id"]);
}
