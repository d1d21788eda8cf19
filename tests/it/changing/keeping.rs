//! Changes over crashes, tables that cannot be written, databases that were set back, and under the eyes of monitors.

use reqwest::Method;
use serde_json::{Value, json};

use super::{CHANGES, documents, flights, put};
use crate::support::watcher::Watcher;
use crate::support::{Gateway, OwnCluster, eventually};

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

#[tokio::test]
async fn a_database_that_was_set_back_has_every_change_again() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &["--batch-rows=3"]).await;
    gateway.create_stream(&documents("jsonb")).await;
    gateway.commit("docs", &json!([{"k": {"id": 1}}, {"k": {"id": 2}}, {"k": {"id": 3}}])).await;
    gateway.wait_all_committed().await;
    cluster.keep_copy().await;
    for n in 0..6 {
        let path = format!("/v1/streams/docs/by-key/{}", n % 2 + 1);
        let tag = super::tag(&gateway.get(&path).await);
        let patch = json!({"n": n, format!("m{n}"): n});
        let changed =
            super::with_header(&gateway, Method::PATCH, &path, ("if-match", &tag), &patch);
        changed.await.expect(200);
    }
    assert_eq!(gateway.delete("/v1/streams/docs/by-key/3").await.status, 204);
    put(&gateway, "/v1/streams/docs/by-key/4", &json!({"k": {"id": "4"}})).await.expect(201);
    let all = "select concat_ws(' ', id, received_at, payload) from streams.docs order by id";
    let before: Vec<String> = gateway.column(all).await;
    cluster.set_back().await;
    eventually("all of it is there again", async || {
        let now: Vec<String> = gateway.column(all).await;
        (now == before).then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.column::<String>(all).await, before);
}

/// Each waited for all, and all for it: a statement that had them together took longer than one may.
#[tokio::test]
async fn changes_that_take_long_are_all_done_and_hold_up_no_other_stream() {
    const SLOW: i64 = 250;
    let gateway = Gateway::start().await;
    gateway.create_stream(&documents("jsonb")).await;
    let records: Vec<Value> = (0..SLOW).map(|id| json!({"k": {"id": id}})).collect();
    gateway.commit("docs", &json!(records)).await;
    gateway
        .execute(
            "create function slow() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(0.05); return new; end $$;
             create trigger slow before update on streams.docs for each row execute function slow()",
        )
        .await;
    let changes: String = (0..SLOW)
        .map(|id| {
            format!("{}\n", json!({"op": "patch", "key": {"k": {"id": id}}, "data": {"n": 1}}))
        })
        .collect();
    gateway.records("docs").body(CHANGES, changes).query("ack", "journal").send().await.expect(202);
    gateway.commit("other", &json!({"n": 1})).await;
    let done = "select count(*) from streams.docs where payload ? 'n'";
    assert!(
        gateway.scalar::<i64>(done).await < SLOW,
        "another stream does not wait for all"
    );
    eventually("all are done", async || (gateway.scalar::<i64>(done).await == SLOW).then_some(()))
        .await;
}

#[tokio::test]
async fn a_patch_merges_no_deeper_than_postgresql_does_quickly() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&documents("jsonb")).await;
    let path = "/v1/streams/docs/by-key/1";
    put(&gateway, path, &json!({"k": {"id": 1}})).await.expect(201);
    let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({"in": inner}));
    gateway.patch(path, &nested(32)).await.expect(200);
    let problem = gateway.patch(path, &nested(33)).await.problem(422, "invalid_record");
    assert_eq!(problem["errors"][0]["code"], "too_deep", "{problem}");
    // What is in a list, or replaces a whole record, is not merged.
    gateway.patch(path, &json!({"list": [nested(100)]})).await.expect(200);
    put(&gateway, path, &json!({"k": {"id": 1}, "deep": nested(500)})).await.expect(200);
    gateway.patch(path, &json!({"deep": {"in": {"in": 5}}, "text": "{{{\"[\\"})).await.expect(200);
    let shown = gateway.get(path).await.expect(200);
    assert_eq!(shown["data"]["deep"], json!({"in": {"in": 5}}));
}
