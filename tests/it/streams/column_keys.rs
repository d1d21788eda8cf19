//! Columns that take a record's key of another name: such as `id`, which a table of the gateway has already. The table has
//! the column's name; everything that shows a record, or says something of one, has the sender's key.

use reqwest::Method;
use serde_json::{Value, json};

use crate::polling::jobs::{make, run};
use crate::support::watcher::Watcher;
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, Reply, Stall};

fn columns() -> Value {
    json!([
        {"name": "id_", "type": "bigint", "from": "id"},
        {"name": "word", "type": "text", "from": "received_at"},
        {"name": "n", "type": "integer"},
    ])
}

/// The members of a stream's newest records, the newest first.
async fn newest(gateway: &Gateway, stream: &str) -> Vec<Value> {
    let reply = gateway.get(&format!("/v1/streams/{stream}/records")).await.expect(200);
    reply["records"].as_array().unwrap().iter().map(|record| record["data"].clone()).collect()
}

#[tokio::test]
async fn a_record_goes_into_its_columns_and_is_shown_as_it_was_sent() {
    let gateway = Gateway::start().await;
    let definition = json!({"name": "things", "columns": columns()});
    let made = gateway.create_stream(&definition).await;
    assert_eq!(made["columns"], columns());
    assert_eq!(gateway.get("/v1/streams/things").await.expect(200), made);
    let mut watcher = Watcher::local(&gateway, "streams=things").await;
    let at_first = watcher.cursor();

    let sent = json!({"id": 7, "received_at": "noon", "n": 1, "id_": "x"});
    gateway.commit("things", &sent).await;
    let rows = "n,id\n2,8\n";
    gateway.records("things").csv(rows).query("ack", "commit").send().await.expect(201);
    let table: Vec<Value> = gateway
        .column("select jsonb_build_array(id_, word, n, extra) from streams.things order by n")
        .await;
    assert_eq!(table, [json!([7, "noon", 1, {"id_": "x"}]), json!([8, null, 2, null])]);

    let row = json!({"id": 8, "received_at": null, "n": 2});
    assert_eq!(newest(&gateway, "things").await, [row.clone(), sent.clone()]);
    watcher.until("both records", |it| it.records("things").len() == 2).await;
    let seen: Vec<&Value> =
        watcher.records("things").iter().map(|record| &record["data"]).collect();
    assert_eq!(seen, [&sent, &row]);
    // A monitor that resumes reads what the journal has.
    let mut later = Watcher::local(&gateway, &format!("streams=things&since={at_first}")).await;
    later.until("both records", |it| it.records("things").len() == 2).await;
    assert_eq!(later.records("things")[0]["data"], sent);
}

#[tokio::test]
async fn what_is_refused_names_the_key_and_is_replayed_with_it() {
    let gateway = Gateway::start().await;
    let definition = json!({"name": "things", "columns": columns(), "unknown": "reject"});
    gateway.create_stream(&definition).await;
    let refused = async |record: Value| {
        let reply = gateway.records("things").json(&record).send().await;
        reply.problem(422, "invalid_record")["errors"][0].clone()
    };
    let error = refused(json!({"id": "seven"})).await;
    assert_eq!((&error["code"], &error["column"]), (&json!("invalid_type"), &json!("id")));
    let error = refused(json!({"id_": 7})).await;
    assert_eq!((&error["code"], &error["column"]), (&json!("unknown_key"), &json!("id_")));

    // PostgreSQL knows the column's name alone.
    gateway.execute("alter table streams.things alter id_ set not null").await;
    let reply =
        gateway.commit("things", &json!([{"id": 1, "n": 1}, {"received_at": "late"}])).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(1), &json!(1)));
    let page = gateway.get("/v1/quarantine").await.expect(200);
    let kept = &page["records"][0];
    assert_eq!((&kept["code"], &kept["column"]), (&json!("refused_by_postgresql"), &json!("id")));
    let raw: Value = serde_json::from_str(kept["raw"].as_str().unwrap()).unwrap();
    assert_eq!(raw, json!({"id": null, "received_at": "late", "n": null}));
    gateway.execute("alter table streams.things alter id_ drop not null").await;
    let path = format!("/v1/quarantine/{}/replay?ack=commit", kept["id"].as_str().unwrap());
    let reply = Reply::to(gateway.request(Method::POST, &path)).await.expect(201);
    assert_eq!(reply["committed"], 1);
    assert_eq!(newest(&gateway, "things").await[0], raw);
}

#[tokio::test]
async fn a_key_of_the_stream_is_such_a_column() {
    let gateway = Gateway::start().await;
    for (stream, on_duplicate) in [("first", "ignore"), ("last", "replace")] {
        gateway
            .create_stream(&json!({"name": stream, "columns": columns(), "key": ["id_"], "on_duplicate": on_duplicate}))
            .await;
        gateway.commit(stream, &json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}])).await;
        gateway
            .commit(stream, &json!([{"id": 2, "n": 3}, {"id": 3, "n": 4}, {"id": 3, "n": 5}]))
            .await;
        let missing = gateway.records(stream).json(&json!({"id_": 1})).send().await;
        let error = missing.problem(422, "invalid_record")["errors"][0].clone();
        assert_eq!((&error["code"], &error["column"]), (&json!("missing_key"), &json!("id")));
    }
    let rows = "select array_agg(array[id_, n] order by id_)::text from streams.";
    assert_eq!(gateway.scalar::<String>(format!("{rows}first")).await, "{{1,1},{2,2},{3,4}}");
    assert_eq!(gateway.scalar::<String>(format!("{rows}last")).await, "{{1,1},{2,3},{3,5}}");
    // The key names columns, and who names a record's key is told which.
    let definition = json!({"name": "wrong", "columns": columns(), "key": ["id"]});
    let problem = gateway.post("/v1/streams", &definition).await.problem(422, "invalid_stream");
    assert_eq!(problem["place"], "key[0]");
    assert!(problem["detail"].as_str().unwrap().contains("\"id_\""), "{problem}");
}

#[tokio::test]
async fn such_a_column_may_be_added_while_old_entries_wait() {
    let mut gateway = Gateway::start().await;
    let old = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "growing", "columns": old})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let send = async |record: Value| {
        gateway.records("growing").json(&record).send().await.expect(202);
    };
    send(json!({"n": 1, "id": 10})).await;
    let path = "/v1/streams/growing";
    let added = json!([{"name": "n", "type": "integer"}, {"name": "id_", "type": "bigint", "from": "id", "default": 5}]);
    let changed = gateway.patch(path, &json!({"columns": added})).await.expect(200);
    assert_eq!(changed["columns"], added);
    send(json!({"n": 2, "id": 20})).await;
    send(json!({"n": 3})).await;
    stall.release().await;
    gateway.wait_all_committed().await;
    let table: Vec<Value> = gateway
        .column("select jsonb_build_array(n, id_, extra) from streams.growing order by n")
        .await;
    assert_eq!(table, [json!([1, 5, {"id": 10}]), json!([2, 20, null]), json!([3, 5, null])]);

    let and = |column: Value| {
        let mut columns = added.clone();
        columns.as_array_mut().unwrap().push(column);
        json!({ "columns": columns })
    };
    for (change, place) in [
        (and(json!({"name": "again", "type": "text", "from": "id"})), "columns[2].from"),
        (and(json!({"name": "id", "type": "text"})), "columns[2]"),
        (and(json!({"name": "nul", "type": "text", "from": "\0"})), "columns[2].from"),
        (
            and(json!({"name": "long", "type": "text", "from": "k".repeat(1_001)})),
            "columns[2].from",
        ),
        (json!({"columns": [old[0], {"name": "id_", "type": "bigint", "default": 5}]}), "columns"),
    ] {
        let problem = gateway.patch(path, &change).await.problem(422, "invalid_stream");
        assert_eq!(problem["place"], place, "{problem}");
    }
    // To say the name once more says nothing, and what another column is called may be taken.
    let same = json!([{"name": "n", "type": "integer", "from": "n"}, added[1], {"name": "m", "type": "text", "from": "id_"}]);
    let changed = gateway.patch(path, &json!({"columns": same})).await.expect(200);
    assert_eq!(changed["columns"][0], old[0]);
    gateway.restart().await;
    assert_eq!(gateway.get(path).await.expect(200), changed);
    gateway.commit("growing", &json!({"n": 4, "id_": "m"})).await;
    assert_eq!(gateway.scalar::<String>("select m from streams.growing where n = 4").await, "m");
}

#[tokio::test]
async fn a_sample_with_such_keys_proposes_columns_that_take_all_of_it() {
    let gateway = Gateway::start().await;
    let sample = json!({"id": 1, "extra": "x", "": true, "k".repeat(100): 2.5, "line\nend": [1]});
    let inferred = gateway.post("/v1/streams/infer", &sample).await.expect(200);
    let proposed = inferred["columns"].as_array().unwrap();
    let columns: Vec<Value> = proposed
        .iter()
        .map(|column| json!({"name": column["name"], "type": column["type"], "from": column["from"]}))
        .collect();
    let id = columns.iter().find(|column| column["from"] == "id").unwrap();
    assert_eq!((&id["name"], &id["type"]), (&json!("id_"), &json!("integer")));
    gateway
        .create_stream(&json!({"name": "proposed", "columns": columns, "unknown": "reject"}))
        .await;
    gateway.commit("proposed", &sample).await;
    assert_eq!(newest(&gateway, "proposed").await, [sample]);
}

/// As the dashboard does it: the preview's columns make the stream, and the job's pointer the stream's key.
#[tokio::test]
async fn a_polling_job_keyed_by_id_replaces_in_a_typed_stream() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let item = |id: u64, word: &str| json!({"id": id, "word": word});
    api.serve("/things", json!([item(1, "a"), item(2, "a"), item(3, "a")]));
    let asked = json!({"url": api.url("/things")});
    let preview = gateway.post("/v1/polling-jobs/preview", &asked).await.expect(200);
    assert_eq!(preview["key"], json!(["/id"]));
    let mut columns = preview["columns"].clone();
    for column in columns.as_array_mut().unwrap() {
        column
            .as_object_mut()
            .unwrap()
            .retain(|name, _| ["name", "type", "from"].contains(&&**name));
    }
    let id_column = json!({"name": "id_", "type": "integer", "from": "id"});
    assert_eq!(columns, json!([id_column, {"name": "word", "type": "text"}]));
    let key = json!(["id_"]);
    gateway
        .create_stream(
            &json!({"name": "things", "columns": columns, "key": key, "on_duplicate": "replace"}),
        )
        .await;

    let rest = json!({"key": ["/id"], "on_change": "replace"});
    let job = make(&gateway, &api, "/things", rest).await;
    let words = "select array_agg(id_ || word order by id_)::text from streams.things";
    assert_eq!(gateway.scalar::<String>(words).await, "{1a,2a,3a}");
    api.serve("/things", json!([item(1, "b"), item(2, "a"), item(4, "a")]));
    let second = run(&gateway, &job).await;
    assert_eq!((&second["changed"], &second["new"]), (&json!(1), &json!(1)), "{second}");
    assert_eq!(gateway.scalar::<String>(words).await, "{1b,2a,3a,4a}");
    api.serve(
        "/things",
        json!([item(1, "c"), {"id": 5, "word": {}}, {"id": "six"}, {"word": "?"}]),
    );
    let third = run(&gateway, &job).await;
    assert_eq!((&third["changed"], &third["refused"]), (&json!(1), &json!(3)), "{third}");
    assert_eq!(gateway.scalar::<String>(words).await, "{1c,2a,3a,4a}");
    let kept = "select code || ' ' || column_name from tidegate.quarantine order by record";
    let expected = ["invalid_type word", "invalid_type id", "missing_key id"];
    assert_eq!(gateway.column::<String>(kept).await, expected);
}
