//! Streams with retention: a partition for each day, rows in the right one, old days dropped whole.

use serde_json::json;
use tidegate::db::streams;
use tidegate_codec::{PayloadType, Shape, Stream};

use crate::support::{Gateway, eventually};

/// The partitions of a stream in order: name and the days that they hold.
async fn partitions(gateway: &Gateway, stream: &str) -> Vec<String> {
    gateway
        .column(format!(
            "select relname || ' ' || pg_get_expr(relpartbound, oid) from pg_class
             join pg_inherits on inhrelid = oid where inhparent = 'streams.{stream}'::regclass order by 1"
        ))
        .await
}

/// What [`partitions`] should say of the day so many days from today.
async fn expected_partition(gateway: &Gateway, id: &serde_json::Value, days: i64) -> String {
    let sql = format!(
        "select 's{id}_' || to_char(day, 'YYYYMMDD') || ' FOR VALUES FROM (''' || day || ' 00:00:00+00'') TO ('''
            || day + 1 || ' 00:00:00+00'')'
         from (select (now() at time zone 'UTC')::date + {days} as day) days"
    );
    gateway.scalar(sql).await
}

#[tokio::test]
async fn rows_land_in_the_partition_of_their_day() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    for definition in [
        json!({"name": "documents", "retention_days": 7}),
        json!({"name": "typed", "columns": columns, "retention_days": 1}),
    ] {
        let stream = gateway.create_stream(&definition).await;
        let name = definition["name"].as_str().unwrap();
        assert_eq!(stream["retention_days"], definition["retention_days"]);
        let found = partitions(&gateway, name).await;
        for days in 0..3 {
            let expected = expected_partition(&gateway, &stream["id"], days).await;
            assert!(found.contains(&expected), "{expected} of {found:?}");
        }
        gateway.commit(name, &json!([{"n": 1}, {"n": 2}, {"n": 3}])).await;
        let right: Vec<bool> = gateway
            .column(format!(
                "select tableoid::regclass::text = 'stream_partitions.s{}_'
                    || to_char(received_at at time zone 'UTC', 'YYYYMMDD') from streams.{name}",
                stream["id"]
            ))
            .await;
        assert_eq!(right, [true; 3], "{name}");
    }
}

#[tokio::test]
async fn a_partition_that_is_missing_is_made_for_its_first_record() {
    let gateway = Gateway::start().await;
    let stream = gateway.create_stream(&json!({"name": "daily", "retention_days": 7})).await;
    let id = stream["id"].as_i64().unwrap();
    let names: Vec<String> = gateway
        .column("select inhrelid::regclass::text from pg_inherits where inhparent = 'streams.daily'::regclass")
        .await;
    assert!(!names.is_empty());
    for name in names {
        gateway.execute(&format!("drop table {name}")).await;
    }
    gateway.commit("daily", &json!([{"n": 1}, {"n": 2}])).await;
    assert_eq!(gateway.rows("daily").await, 2);
    let names: Vec<String> =
        gateway.column("select distinct tableoid::regclass::text from streams.daily").await;
    assert!(
        names.iter().all(|name| name.starts_with(&format!("stream_partitions.s{id}_"))),
        "{names:?}"
    );
}

#[tokio::test]
async fn old_days_are_dropped_whole_and_others_kept() {
    let mut gateway = Gateway::start().await;
    let stream = gateway.create_stream(&json!({"name": "aging", "retention_days": 7})).await;
    gateway.commit("aging", &json!({"n": 0})).await;
    for days in [6, 30, 400] {
        gateway
            .execute(&format!(
                "do $$ declare day date := (now() at time zone 'UTC')::date - {days}; begin
                 execute format('create table stream_partitions.s{id}_%s partition of streams.aging
                     for values from (%L) to (%L)', to_char(day, 'YYYYMMDD'), day, day + 1);
                 insert into streams.aging values (gen_random_uuid(), day + interval '5 hours', '{{\"n\": {days}}}');
                 end $$",
                id = stream["id"],
            ))
            .await;
    }
    assert_eq!(gateway.rows("aging").await, 4);
    gateway.restart().await;
    eventually("old partitions are dropped", async || {
        (gateway.rows("aging").await <= 2).then_some(())
    })
    .await;
    let kept: Vec<i32> =
        gateway.column("select (payload->>'n')::int from streams.aging order by 1").await;
    assert_eq!(kept, [0, 6]);
    gateway.commit("aging", &json!({"n": 1})).await;
}

#[tokio::test]
async fn a_key_and_retention_exclude_each_other() {
    let gateway = Gateway::start().await;
    let problem = gateway
        .post("/v1/streams", &json!({"name": "both", "key": ["/id"], "retention_days": 7}))
        .await
        .problem(422, "invalid_stream");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("key"), "{detail}");
    for days in [json!(0), json!(3_651), json!(100_000), json!(-1), json!("7"), json!(1.5)] {
        let reply =
            gateway.post("/v1/streams", &json!({"name": "wrong", "retention_days": days})).await;
        assert!([400, 422].contains(&reply.status), "{days}: {}", reply.body);
    }
    assert_eq!(gateway.get("/v1/streams").await.expect(200)["streams"], json!([]));
}

#[tokio::test]
async fn retention_can_be_changed_but_not_added() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "kept", "retention_days": 7})).await;
    let changed =
        gateway.patch("/v1/streams/kept", &json!({"retention_days": 30})).await.expect(200);
    assert_eq!(changed["retention_days"], 30);
    gateway
        .patch("/v1/streams/kept", &json!({"retention_days": 0}))
        .await
        .problem(422, "invalid_stream");
    gateway.create_stream(&json!({"name": "eternal"})).await;
    gateway
        .patch("/v1/streams/eternal", &json!({"retention_days": 7}))
        .await
        .problem(422, "invalid_stream");
    let stored: Vec<Option<i16>> =
        gateway.column("select retention_days from tidegate.streams order by name").await;
    assert_eq!(stored, [None, Some(30)]);
}

/// Before: a change wrote all of the stream as its gateway knew it, so days that another gateway had just added fell back, and
/// their partitions were dropped.
#[tokio::test]
async fn a_change_does_not_take_back_one_that_its_gateway_does_not_know_yet() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "daily", "retention_days": 7})).await;
    let pool = gateway.pool().clone().into();
    let [before] = &streams::list(&pool).await.unwrap()[..] else { panic!("one stream") };
    let by_another = Stream { retention_days: Some(90), ..before.clone() };
    let change = async |before: &Stream, after: &Stream| {
        streams::update(&pool, before, after).await.unwrap()
    };
    let [short, json] = [8, 7].map(|days| Stream { retention_days: Some(days), ..before.clone() });
    let json = Stream { shape: Shape::Document { payload: PayloadType::Json }, ..json };
    assert_eq!(change(before, &by_another).await, Some(by_another.clone()));
    assert_eq!(change(before, &short).await, None);
    assert_eq!(change(before, &json).await, None);
    assert_eq!(change(&by_another, &short).await, Some(short.clone()));
    assert_eq!(streams::list(&pool).await.unwrap(), [short]);
}
