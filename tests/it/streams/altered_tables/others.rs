//! Who else has to do with a table: polling jobs, replays from the quarantine, rights.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::moments::wait_parked_with;
use crate::polling::exactness::items;
use crate::polling::jobs::{make, run};
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, OwnCluster};

/// A table that is repaired is written again within this time.
const SECONDS_AFTER_REPAIR: Duration = Duration::from_secs(20);

#[tokio::test]
async fn polled_items_of_an_altered_table_come_once_and_as_they_were() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    for (path, key) in [("/plain", Value::Null), ("/keyed", json!(["number"]))] {
        let stream = path.trim_start_matches('/');
        let columns = json!([{"name": "number", "type": "bigint", "from": "id"}]);
        let mut definition = json!({"name": stream, "columns": columns});
        if !key.is_null() {
            definition["key"] = key;
        }
        gateway.create_stream(&definition).await;
        api.serve(path, items(0..3));
        let job = make(&gateway, &api, path, json!({"stream": stream, "key": ["/id"]})).await;
        gateway
            .execute(&format!("alter table streams.{stream} alter number type double precision"))
            .await;
        api.serve(path, items(1..6));
        run(&gateway, &job).await;
        wait_parked_with(&gateway, stream, &["number", "double precision", "bigint"]).await;
        api.serve(path, items(2..8));
        let again = run(&gateway, &job).await;
        assert_eq!(again["new"], 2, "what waits was seen: {again}");
        assert_eq!(gateway.rows(stream).await, 3);
        gateway.execute(&format!("alter table streams.{stream} alter number type bigint")).await;
        gateway.wait_nothing_parked().await;
        let numbers: Vec<i64> =
            gateway.column(format!("select number from streams.{stream} order by 1")).await;
        assert_eq!(numbers, (0..8).collect::<Vec<i64>>());
    }
    let kept: i64 = gateway.scalar("select count(*) from tidegate.quarantine").await;
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn a_record_that_is_replayed_into_an_altered_table_arrives_once() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "b", "type": "bigint"}]);
    gateway.create_stream(&json!({"name": "repaired", "columns": columns})).await;
    gateway
        .records("repaired")
        .json(&json!({"b": "x"}))
        .send()
        .await
        .problem(422, "invalid_record");
    gateway.commit("repaired", &json!({"b": 1})).await;
    gateway.execute("alter table streams.repaired alter b type double precision").await;
    let id: String = gateway.scalar("select id::text from tidegate.quarantine").await;
    let path = format!("/v1/quarantine/{id}/replay");
    gateway.post(&path, &json!({"b": 42})).await.expect(202);
    wait_parked_with(&gateway, "repaired", &["b", "double precision", "bigint"]).await;
    assert_eq!(gateway.rows("repaired").await, 1);
    gateway.execute("alter table streams.repaired alter b type bigint").await;
    gateway.wait_nothing_parked().await;
    assert_eq!(gateway.column::<i64>("select b from streams.repaired order by b").await, [1, 42]);
    let kept: i64 = gateway.scalar("select count(*) from tidegate.quarantine").await;
    assert_eq!(kept, 0);
}

/// A gateway that is no superuser, on a database that lets it make its tables.
async fn gateway_with_a_role(cluster: &OwnCluster) -> Gateway {
    let pool = crate::support::connect(cluster.url()).await;
    let database: String =
        sqlx::query_scalar("select current_database()").fetch_one(&pool).await.unwrap();
    let role = format!("create role ingest login; grant create on database {database} to ingest");
    sqlx::raw_sql(sqlx::AssertSqlSafe(role)).execute(&pool).await.unwrap();
    let url = cluster.url().replace("://tidegate@", "://ingest@");
    assert_ne!(url, cluster.url());
    Gateway::through(url, cluster.url(), &[]).await
}

#[tokio::test]
async fn a_table_that_the_gateway_may_not_write_is_written_within_seconds_once_it_may() {
    let cluster = OwnCluster::start().await;
    let gateway = gateway_with_a_role(&cluster).await;
    let columns = json!([{"name": "k", "type": "bigint"}]);
    let refusals = [
        (
            "secured",
            "alter table streams.{x} enable row level security, force row level security",
            "alter table streams.{x} disable row level security, no force row level security",
            &["row-level security", "Use INSERT statements instead"][..],
        ),
        (
            "not_granted",
            "alter table streams.{x} owner to tidegate",
            "grant all on streams.{x} to ingest",
            &["permission denied"][..],
        ),
    ];
    for (name, refuse, repair, words) in refusals {
        for key in [Value::Null, json!(["k"])] {
            let stream = format!("{name}_{}", if key.is_null() { "plain" } else { "keyed" });
            let mut definition = json!({"name": stream, "columns": columns});
            if !key.is_null() {
                definition["key"] = key.clone();
            }
            gateway.create_stream(&definition).await;
            gateway.commit(&stream, &json!({"k": 1})).await;
            gateway.execute(&refuse.replace("{x}", &stream)).await;
            gateway.records(&stream).json(&json!([{"k": 2}, {"k": 3}])).send().await.expect(202);
            // An INSERT, as keyed streams have it, is told another reason than a COPY.
            let words = if key.is_null() { words } else { &words[..1] };
            wait_parked_with(&gateway, &stream, words).await;
            gateway.execute(&repair.replace("{x}", &stream)).await;
            let repaired = Instant::now();
            gateway.wait_nothing_parked().await;
            assert!(repaired.elapsed() < SECONDS_AFTER_REPAIR, "{:?}", repaired.elapsed());
            let found: Vec<i64> =
                gateway.column(format!("select k from streams.{stream} order by k")).await;
            assert_eq!(found, [1, 2, 3], "{stream}");
        }
    }
    let kept: i64 = gateway.scalar("select count(*) from tidegate.quarantine").await;
    assert_eq!(kept, 0);
}
