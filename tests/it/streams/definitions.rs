//! Streams through the API: making, showing, changing, dropping them, and proposing columns for one.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{Gateway, Reply};

/// Names that no column should have, and that PostgreSQL takes all the same.
const HOSTILE_COLUMNS: [&str; 12] = [
    "\"; drop table tidegate.users; --",
    "\"",
    "'); drop table tidegate.users; --",
    "select",
    "User",
    " leading and trailing ",
    "back\\slash",
    "a.b",
    "$1",
    "Größe 📏",
    "\u{202e}desrever",
    "%s{}",
];

/// A value with its ends of unusual characters spelled out for an address.
fn in_path(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

async fn infer(gateway: &Gateway, query: &str, content_type: &str, body: &str) -> Reply {
    let request = gateway.request(Method::POST, &format!("/v1/streams/infer{query}"));
    Reply::to(request.header(CONTENT_TYPE, content_type).body(body.to_owned())).await
}

/// Names and types in the order of a table's columns.
async fn table(gateway: &Gateway, stream: &str) -> Vec<String> {
    gateway
        .column(format!(
            "select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
             where attrelid = 'streams.\"{stream}\"'::regclass and attnum > 0 and not attisdropped order by attnum"
        ))
        .await
}

#[tokio::test]
async fn a_stream_is_made_shown_and_listed_the_same() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/v1/streams").await.expect(200), json!({"streams": []}));
    let columns = json!([
        {"name": "carrier", "type": "text", "default": "??"},
        {"name": "flight", "type": "integer"},
        {"name": "delay", "type": "double precision"},
    ]);
    let typed = gateway
        .create_stream(&json!({
            "name": "flights", "columns": columns, "unknown": "reject",
            "key": ["flight", "carrier"], "on_duplicate": "replace",
        }))
        .await;
    let mut expected = json!({
        "name": "flights", "id": typed["id"], "kind": "typed", "columns": columns, "unknown": "reject",
        "key": ["flight", "carrier"], "on_duplicate": "replace", "retention_days": null,
        "created_at": typed["created_at"],
    });
    assert_eq!(typed, expected);
    assert!(
        typed["id"].is_i64() && typed["created_at"].as_str().unwrap().ends_with('Z'),
        "{typed}"
    );
    let documents = gateway
        .create_stream(&json!({"name": "documents", "key": ["/order/id", "/a~1b/~0c"]}))
        .await;
    assert_eq!(documents["kind"], "document");
    assert_eq!((&documents["payload"], &documents["columns"]), (&json!("jsonb"), &json!([])));
    assert_eq!(
        (&documents["key"], &documents["on_duplicate"]),
        (&json!(["/order/id", "/a~1b/~0c"]), &json!("ignore"))
    );
    assert!(documents.get("unknown").is_none(), "{documents}");
    let kept = gateway
        .create_stream(&json!({"name": "kept", "payload": "json", "retention_days": 3}))
        .await;
    assert_eq!((&kept["payload"], &kept["retention_days"]), (&json!("json"), &json!(3)));

    assert_eq!(gateway.get("/v1/streams/flights").await.expect(200), typed);
    assert_eq!(
        gateway.get("/v1/streams").await.expect(200),
        json!({"streams": [documents, typed, kept]})
    );
    let columns = [
        "id uuid",
        "received_at timestamp with time zone",
        "extra jsonb",
        "carrier text",
        "flight integer",
    ];
    let mut found = table(&gateway, "flights").await;
    assert_eq!(found.pop().unwrap(), "delay double precision");
    assert_eq!(found, columns);
    assert_eq!(table(&gateway, "kept").await[2], "payload json");

    gateway.post("/v1/streams", &json!({"name": "flights"})).await.problem(409, "stream_exists");
    assert_eq!(gateway.get("/v1/streams/flights").await.expect(200), typed, "it is as it was");
    for path in ["/v1/streams/nowhere", "/v1/streams/flights2"] {
        gateway.get(path).await.problem(404, "no_such_stream");
        gateway.patch(path, &json!({})).await.problem(404, "no_such_stream");
        gateway.delete(path).await.problem(404, "no_such_stream");
    }
    expected["unknown"] = json!("drop");
    assert_eq!(
        gateway.patch("/v1/streams/flights", &json!({"unknown": "drop"})).await.expect(200),
        expected
    );
}

#[tokio::test]
async fn a_stream_s_name_is_a_plain_word() {
    let gateway = Gateway::start().await;
    let long = "a".repeat(64);
    for name in [
        "",
        " ",
        "1st",
        "Flights",
        "flights;",
        "a-b",
        "a.b",
        "a b",
        "größe",
        "é",
        "\"",
        "\"; drop schema streams; --",
        "../users",
        "a/b",
        "a\0",
        "a\n",
        "%",
        &long,
    ] {
        gateway
            .post("/v1/streams", &json!({"name": name}))
            .await
            .problem(422, "invalid_stream_name");
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let path = format!("/v1/streams/{}", in_path(name));
        gateway.get(&path).await.problem(422, "invalid_stream_name");
        gateway.delete(&path).await.problem(422, "invalid_stream_name");
        let request =
            gateway.request(Method::POST, &format!("{path}/records")).json(&json!({"n": 1}));
        Reply::to(request).await.problem(422, "invalid_stream_name");
    }
    let longest = "z".repeat(63);
    for name in
        ["select", "table", "user", "all", "_", "pg_class", "null", "streams", "records", &longest]
    {
        gateway.create_stream(&json!({"name": name})).await;
        gateway.commit(name, &json!({"name": name})).await;
        assert_eq!(gateway.payloads(name).await, [json!({"name": name})]);
        gateway.delete(&format!("/v1/streams/{name}")).await.expect(204);
    }
    assert_eq!(gateway.get("/v1/streams").await.expect(200), json!({"streams": []}));
}

#[tokio::test]
async fn a_column_can_have_any_name_that_postgresql_takes() {
    let gateway = Gateway::start().await;
    let longest = format!("{}é", "x".repeat(61));
    let names: Vec<&str> = HOSTILE_COLUMNS.into_iter().chain([longest.as_str()]).collect();
    let columns: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "type": "integer", "default": 7})).collect();
    gateway
        .create_stream(&json!({"name": "hostile", "columns": columns, "key": [names[0], names[9]]}))
        .await;
    let record: Value =
        names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), json!(index))).collect();
    gateway.commit("hostile", &record).await;
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let header: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let fields: Vec<String> = (100..100 + names.len()).map(|number| number.to_string()).collect();
    let csv = format!("{}\n{}\n", header.join(","), fields.join(","));
    gateway.records("hostile").csv(csv).query("ack", "commit").send().await.expect(201);
    let added = json!({"name": "later\"; drop table streams.hostile; --", "type": "text"});
    let more: Vec<Value> = columns.iter().cloned().chain([added]).collect();
    gateway.patch("/v1/streams/hostile", &json!({"columns": more})).await.expect(200);

    let rows = sqlx::query("select * from streams.hostile order by id")
        .fetch_all(gateway.pool())
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    for (row, first) in rows.iter().zip([0, 100]) {
        for (name, expected) in names.iter().zip(first..) {
            assert_eq!(row.get::<i32, _>(*name), expected, "{name:?}");
        }
    }
    gateway.get("/v1/users").await.expect(200);
    gateway.delete("/v1/streams/hostile").await.expect(204);
}

#[tokio::test]
async fn what_a_stream_cannot_be_is_named_with_its_place() {
    let gateway = Gateway::start().await;
    let column =
        |name: &str| json!([{"name": "fine", "type": "text"}, {"name": name, "type": "text"}]);
    let long = "x".repeat(64);
    let many: Vec<Value> =
        (0..501).map(|index| json!({"name": format!("c{index}"), "type": "text"})).collect();
    for (rest, place) in [
        (json!({"columns": column("")}), "columns[1]"),
        (json!({"columns": column(&long)}), "columns[1]"),
        (json!({"columns": column(&"é".repeat(32))}), "columns[1]"),
        (json!({"columns": column("a\u{0}b")}), "columns[1]"),
        (json!({"columns": column("line\nend")}), "columns[1]"),
        (json!({"columns": column("id")}), "columns[1]"),
        (json!({"columns": column("xmin")}), "columns[1]"),
        (json!({"columns": column("fine")}), "columns[1]"),
        (json!({"columns": []}), "columns"),
        (json!({"columns": many}), "columns"),
        (
            json!({"columns": [{"name": "n", "type": "integer", "default": "noon"}]}),
            "columns[0].default",
        ),
        (
            json!({"columns": [{"name": "n", "type": "smallint", "default": 40_000}]}),
            "columns[0].default",
        ),
        (json!({"columns": column("b"), "payload": "json"}), "payload"),
        (json!({"columns": column("b"), "key": ["c"]}), "key[0]"),
        (json!({"unknown": "drop"}), "unknown"),
        (json!({"key": ["no_pointer"]}), "key[0]"),
        (json!({"key": []}), "key"),
        (json!({"on_duplicate": "replace"}), "on_duplicate"),
        (json!({"key": ["/a"], "retention_days": 3}), "retention_days"),
        (json!({"retention_days": 0}), "retention_days"),
        (json!({"retention_days": 3_651}), "retention_days"),
    ] {
        let mut definition = json!({"name": "impossible"});
        definition.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let problem = gateway.post("/v1/streams", &definition).await.problem(422, "invalid_stream");
        assert_eq!(problem["place"], place, "{problem}");
    }
    // What is not understood at all is named too.
    for (definition, word) in [
        (json!({"name": "impossible", "column": []}), "column"),
        (json!({"name": "impossible", "retentionDays": 3}), "retentionDays"),
        (json!({"name": "impossible", "columns": [{"name": "n", "type": "float"}]}), "float"),
        (
            json!({"name": "impossible", "columns": [{"name": "n", "type": "text", "nullable": true}]}),
            "nullable",
        ),
        (json!({"name": "impossible", "unknown": "ignore"}), "ignore"),
        (json!({"name": "impossible", "retention_days": -1}), "-1"),
        (json!({"columns": []}), "name"),
    ] {
        let problem = gateway.post("/v1/streams", &definition).await.problem(422, "invalid_body");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{word}: {problem}");
    }
    assert_eq!(gateway.get("/v1/streams").await.expect(200), json!({"streams": []}));
    let tables: i64 =
        gateway.scalar("select count(*) from pg_tables where schemaname = 'streams'").await;
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn what_is_inferred_can_be_made_and_takes_the_sample() {
    let csv = "\u{feff}origin,temp,hour,when,ok,note\r\nEWR,39.02,6,2013-01-01T06:00:00Z,true,NA\r\n\
               \"JFK, NY\",NA,7,2013-01-01T07:00:00Z,false,\r\nLGA,41,8,NA,true,\"\"\r\n";
    let json = r#"[{"origin":"EWR","temp":39.02,"hour":6,"ok":true,"tags":["a"]},
                   {"origin":null,"temp":4,"hour":70000,"ok":false,"tags":{}},{"origin":"LGA","hour":8}]"#;
    let lines = "{\"origin\":\"EWR\",\"hour\":6}\n\n{\"origin\":\"JFK\",\"hour\":5000000000}\n{\"hour\":null}\n";
    let gateway = Gateway::start().await;
    for (name, query, content_type, sample, expected) in [
        ("from_csv", "?null=NA", "text/csv", csv, [("origin", 0), ("temp", 1), ("hour", 0)]),
        ("from_json", "", "application/json", json, [("origin", 1), ("temp", 1), ("hour", 0)]),
        (
            "from_lines",
            "",
            "application/x-ndjson",
            lines,
            [("origin", 1), ("hour", 1), ("hour", 1)],
        ),
    ] {
        let inferred = infer(&gateway, query, content_type, sample).await.expect(200);
        assert_eq!(inferred["records"], 3, "{inferred}");
        let columns = inferred["columns"].as_array().unwrap();
        for (column, nulls) in expected {
            let found = columns
                .iter()
                .find(|it| it["name"] == column)
                .unwrap_or_else(|| panic!("{column}: {inferred}"));
            assert_eq!(found["nulls"], nulls, "{name}.{column}");
            assert!(found.get("example").is_some(), "{found}");
        }
        assert_eq!(columns[0]["name"], "origin", "columns keep the sample's order");
        let columns: Vec<Value> =
            columns.iter().map(|it| json!({"name": it["name"], "type": it["type"]})).collect();
        let made = gateway
            .create_stream(&json!({"name": name, "columns": columns, "unknown": "reject"}))
            .await;
        let mut records = gateway.records(name).body(content_type, sample).query("ack", "commit");
        if query.contains("null") {
            records = records.query("null", "NA");
        }
        let reply = records.send().await.expect(201);
        assert_eq!(
            (&reply["committed"], &reply["quarantined"]),
            (&json!(3), &json!(0)),
            "{reply} with {made}"
        );
    }
    let temps: Vec<Option<f64>> =
        gateway.column("select temp::double precision from streams.from_csv order by id").await;
    assert_eq!(temps, [Some(39.02), None, Some(41.0)]);
    let hours: Vec<Option<i64>> =
        gateway.column("select hour::bigint from streams.from_lines order by id").await;
    assert_eq!(hours, [Some(6), Some(5_000_000_000), None]);
    let kinds: Vec<String> = table(&gateway, "from_csv").await;
    for kind in
        ["origin text", "temp double precision", "when timestamp with time zone", "ok boolean"]
    {
        assert!(kinds.contains(&kind.to_owned()), "{kind}: {kinds:?}");
    }
}

#[tokio::test]
async fn inference_makes_nothing_and_says_what_it_cannot_read() {
    let gateway = Gateway::start().await;
    infer(&gateway, "", "text/plain", "{}").await.problem(415, "unsupported_media_type");
    infer(&gateway, "?nul=NA", "text/csv", "a\n1\n").await.problem(400, "invalid_query");
    for (content_type, body) in
        [("application/json", "[{\"a\":1}"), ("application/json", ""), ("text/csv", "")]
    {
        let reply = infer(&gateway, "", content_type, body).await;
        assert_eq!(reply.status, 400, "{content_type} {body:?}: {}", reply.body);
    }
    let large = format!("a\n{}", "1\n".repeat(4 << 20));
    infer(&gateway, "", "text/csv", &large).await.problem(413, "sample_too_large");
    assert_eq!(gateway.get("/v1/streams").await.expect(200), json!({"streams": []}));
}

#[tokio::test]
async fn a_default_fills_what_is_missing_and_leaves_null_alone() {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "n", "type": "integer", "default": 5},
        {"name": "t", "type": "text", "default": "it's \"quoted\"; --"},
        {"name": "j", "type": "jsonb", "default": {"a": [1, null]}},
        {"name": "d", "type": "timestamptz", "default": "2013-01-01T00:00:00Z"},
    ]);
    gateway.create_stream(&json!({"name": "defaults", "columns": columns})).await;
    gateway
        .commit(
            "defaults",
            &json!([{}, {"n": null, "t": null, "j": null, "d": null}, {"n": 6, "t": ""}]),
        )
        .await;
    let rows: Vec<Value> = gateway
        .column("select jsonb_build_object('n', n, 't', t, 'j', j, 'd', d) from streams.defaults order by id")
        .await;
    let (default_text, default_json) = (json!("it's \"quoted\"; --"), json!({"a": [1, null]}));
    assert_eq!(
        (&rows[0]["n"], &rows[0]["t"], &rows[0]["j"]),
        (&json!(5), &default_text, &default_json)
    );
    assert!(rows[0]["d"].as_str().unwrap().starts_with("2013-01-01T00:00:00"), "{}", rows[0]);
    assert_eq!(rows[1], json!({"n": null, "t": null, "j": null, "d": null}));
    assert_eq!(
        (&rows[2]["n"], &rows[2]["t"], &rows[2]["j"]),
        (&json!(6), &json!(""), &default_json)
    );
}

#[tokio::test]
async fn a_change_adds_columns_and_nothing_else() {
    let gateway = Gateway::start().await;
    let old = json!([{"name": "a", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "growing", "columns": old})).await;
    gateway.commit("growing", &json!({"a": 1, "b": 2})).await;
    let new =
        json!([{"name": "a", "type": "integer"}, {"name": "b", "type": "integer", "default": 9}]);
    let changed = gateway.patch("/v1/streams/growing", &json!({"columns": new})).await.expect(200);
    assert_eq!(changed["columns"], new);
    assert_eq!(gateway.get("/v1/streams/growing").await.expect(200), changed);
    gateway.commit("growing", &json!([{"a": 3, "b": 4}, {"a": 5}])).await;
    let rows: Vec<Value> = gateway
        .column("select jsonb_build_array(a, b, extra) from streams.growing order by id")
        .await;
    assert_eq!(rows[0], json!([1, rows[0][1], {"b": 2}]));
    assert_eq!(rows[1..], [json!([3, 4, null]), json!([5, 9, null])]);

    for (columns, why) in [
        (old.clone(), "a column is missing"),
        (json!([{"name": "a", "type": "smallint"}, new[1]]), "a type is narrower"),
        (json!([new[1], new[0]]), "the order is another"),
        (json!([new[0], new[1], {"name": "a", "type": "text"}]), "a name is there twice"),
    ] {
        let reply = gateway.patch("/v1/streams/growing", &json!({"columns": columns})).await;
        assert_eq!(reply.status, 422, "{why}: {}", reply.body);
        assert!(
            reply.problem(422, "invalid_stream")["place"].as_str().unwrap().starts_with("columns"),
            "{why}"
        );
    }
    gateway
        .patch("/v1/streams/growing", &json!({"retention_days": 3}))
        .await
        .problem(422, "invalid_stream");
    gateway
        .patch("/v1/streams/growing", &json!({"on_duplicate": "replace"}))
        .await
        .problem(422, "invalid_stream");
    let problem = gateway
        .patch("/v1/streams/growing", &json!({"name": "other"}))
        .await
        .problem(422, "invalid_body");
    assert!(problem["detail"].as_str().unwrap().contains("name"), "{problem}");
    assert_eq!(gateway.get("/v1/streams/growing").await.expect(200), changed, "it is as it was");
    gateway.create_stream(&json!({"name": "documents"})).await;
    gateway
        .patch("/v1/streams/documents", &json!({"columns": old}))
        .await
        .problem(422, "invalid_stream");
}

#[tokio::test]
async fn a_deleted_stream_takes_its_table_and_leaves_its_name() {
    let gateway = Gateway::start().await;
    let first = gateway.create_stream(&json!({"name": "brief"})).await;
    let daily = gateway.create_stream(&json!({"name": "daily", "retention_days": 2})).await;
    assert_ne!(first["id"], daily["id"]);
    gateway.commit("brief", &json!([{"n": 1}, {"n": 2}])).await;
    gateway.commit("daily", &json!({"n": 1})).await;
    for name in ["brief", "daily"] {
        gateway.delete(&format!("/v1/streams/{name}")).await.expect(204);
        gateway.get(&format!("/v1/streams/{name}")).await.problem(404, "no_such_stream");
        gateway.delete(&format!("/v1/streams/{name}")).await.problem(404, "no_such_stream");
    }
    let left: Vec<String> = gateway
        .column(
            "select schemaname || '.' || tablename from pg_tables where schemaname like 'stream%'",
        )
        .await;
    assert_eq!(left, Vec::<String>::new(), "tables and partitions are gone");
    let columns = json!([{"name": "n", "type": "integer"}]);
    let again = gateway.create_stream(&json!({"name": "brief", "columns": columns})).await;
    assert_ne!(again["id"], first["id"]);
    gateway.commit("brief", &json!({"n": 3})).await;
    assert_eq!(gateway.column::<i32>("select n from streams.brief").await, [3]);
    assert_eq!(gateway.total("brief", "accepted").await, 1, "counts begin anew");
}
