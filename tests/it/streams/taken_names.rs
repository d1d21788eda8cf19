//! What is in the database already under a stream's or a column's name: told with what it is and what helps, however the
//! stream was to be made.

use serde_json::{Value, json};

use crate::support::command::{run, tidegate, working_directory};
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi};

/// What may be in the way, and what it is called.
const IN_THE_WAY: [(&str, &str, &str); 9] = [
    ("create table streams.taken (n int)", "a table", "drop table streams.taken"),
    ("create view streams.taken as select 1 as n", "a view", "drop view streams.taken"),
    (
        "create materialized view streams.taken as select 1 as n",
        "a materialized view",
        "drop materialized view streams.taken",
    ),
    ("create sequence streams.taken", "a sequence", "drop sequence streams.taken"),
    (
        "create table streams.other (n int); create index taken on streams.other (n)",
        "an index",
        "drop table streams.other",
    ),
    ("create type streams.taken as enum ('a')", "a type", "drop type streams.taken"),
    ("create domain streams.taken as int", "a type", "drop domain streams.taken"),
    ("create type streams.taken as (n int)", "a type", "drop type streams.taken"),
    (
        "create table streams.taken (n int) partition by range (n)",
        "a table",
        "drop table streams.taken",
    ),
];

#[track_caller]
fn assert_told(problem: &Value, what: &str) {
    let detail = problem["detail"].as_str().unwrap();
    let words = format!("streams.taken is in the database already: {what};");
    assert!(detail.contains(&words), "{problem}");
    assert!(detail.contains("rename or drop it there, or choose another name"), "{problem}");
}

#[tokio::test]
async fn what_has_a_streams_name_already_is_named_and_can_be_put_away() {
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let api = ItemsApi::start().await;
    api.serve("/items", json!([{"id": 1}]));
    let directory = working_directory();
    for (ddl, what, put_away) in IN_THE_WAY {
        gateway.execute(ddl).await;
        for more in [
            json!({}),
            json!({"columns": [{"name": "n", "type": "integer"}], "key": ["n"]}),
            json!({"retention_days": 3}),
        ] {
            let mut definition = more;
            definition["name"] = json!("taken");
            let reply = gateway.post("/v1/streams", &definition).await;
            assert_told(&reply.problem(409, "table_exists"), what);
        }
        let reply = gateway.records("taken").json(&json!({"n": 1})).send().await;
        assert_told(&reply.problem(409, "table_exists"), what);
        let job = json!({"url": api.url("/items"), "interval_ms": 3_600_000, "stream": "taken"});
        let reply = gateway.post("/v1/polling-jobs", &job).await;
        assert_told(&reply.problem(409, "table_exists"), what);
        let mut create = tidegate(directory.path(), &["stream", "create", "taken"]);
        let said = run(create.env("DATABASE_URL", gateway.database_url())).await.complained(1);
        assert!(
            said.contains(&format!("streams.taken is in the database already: {what};")),
            "{said}"
        );

        assert_eq!(gateway.get("/v1/streams").await.expect(200), json!({"streams": []}));
        gateway.execute(put_away).await;
        gateway.create_stream(&json!({"name": "taken"})).await;
        gateway.commit("taken", &json!({"n": 1})).await;
        gateway.delete("/v1/streams/taken").await.expect(204);
    }
    let jobs = gateway.get("/v1/polling-jobs").await.expect(200);
    assert_eq!(jobs["jobs"], json!([]), "a job that was refused was not made: {jobs}");
}

#[tokio::test]
async fn a_column_that_the_table_has_already_is_named_with_its_type() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    let made = gateway.create_stream(&json!({"name": "s", "columns": columns})).await;
    gateway.execute("alter table streams.s add \"Größe\" numeric(9, 2)").await;
    let more = json!([{"name": "n", "type": "bigint"}, {"name": "Größe", "type": "numeric"}]);
    let more = json!({"columns": more, "unknown": "drop"});
    let problem = gateway.patch("/v1/streams/s", &more).await.problem(409, "column_exists");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("has a column \"Größe\" already, of type numeric(9,2)"), "{problem}");
    assert!(detail.contains("rename or drop it there, or choose another name"), "{problem}");
    assert_eq!(gateway.get("/v1/streams/s").await.expect(200), made, "nothing of it was done");
    gateway.commit("s", &json!({"n": 1})).await;

    gateway.execute("alter table streams.s drop \"Größe\"").await;
    gateway.patch("/v1/streams/s", &more).await.expect(200);
    gateway.commit("s", &json!({"n": 3_000_000_000_i64, "Größe": 1.5})).await;
    let found: Vec<String> =
        gateway.column("select concat_ws('|', n, \"Größe\") from streams.s order by id").await;
    assert_eq!(found, ["1", "3000000000|1.5"]);
}
