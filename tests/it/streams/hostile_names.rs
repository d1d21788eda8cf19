//! Names of streams and columns that want to be something else: each is refused clearly, or is a name and nothing more.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, Reply};

/// A path segment with every byte escaped, so that it reaches the gateway as it is.
fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn names_of_streams_that_are_no_identifiers_are_refused_everywhere() {
    let gateway = Gateway::start().await;
    gateway.commit("witness", &json!({"n": 1})).await;
    let long = "a".repeat(64);
    for name in [
        "A",
        "1a",
        "a-b",
        "a b",
        "a.b",
        "a\"b",
        "a'b",
        "x\"; drop table streams.witness; --",
        "streams.witness",
        "../witness",
        "a/b",
        "%",
        "a\0",
        "a\n",
        "é",
        "ａ",
        "流",
        "\u{202e}a",
        &long,
        "-",
        "a;",
        "$1",
        "{stream}",
    ] {
        let reply = gateway.post("/v1/streams", &json!({"name": name})).await;
        reply.problem(422, "invalid_stream_name");
        for (method, path) in [
            (Method::POST, format!("/v1/streams/{}/records", escaped(name))),
            (Method::GET, format!("/v1/streams/{}", escaped(name))),
            (Method::PATCH, format!("/v1/streams/{}", escaped(name))),
            (Method::DELETE, format!("/v1/streams/{}", escaped(name))),
        ] {
            let reply = Reply::to(gateway.request(method.clone(), &path).json(&json!({}))).await;
            assert!(
                [400, 404, 422].contains(&reply.status),
                "{method} {name:?}: {} {}",
                reply.status,
                reply.body
            );
        }
    }
    let empty = gateway.post("/v1/streams", &json!({"name": ""})).await;
    empty.problem(422, "invalid_stream_name");
    let tables: Vec<String> =
        gateway.column("select tablename::text from pg_tables where schemaname = 'streams'").await;
    assert_eq!(tables, ["witness"]);
    assert_eq!(gateway.rows("witness").await, 1);
}

#[tokio::test]
async fn reserved_words_are_names_like_others() {
    let gateway = Gateway::start().await;
    let longest = "z".repeat(63);
    for name in
        ["select", "user", "table", "order", "null", "pg_class", "_", "infer", "records", &longest]
    {
        let columns = json!([
            {"name": "select", "type": "integer"}, {"name": "user", "type": "text"}, {"name": "order", "type": "text"},
        ]);
        gateway
            .create_stream(&json!({"name": name, "columns": columns, "key": ["order", "select"]}))
            .await;
        let record = json!({"select": 1, "user": "u", "order": "o"});
        let reply = gateway.commit(name, &json!([record, record])).await;
        assert_eq!((&reply["committed"], &reply["duplicates"]), (&json!(1), &json!(1)), "{name}");
        let row: Value = gateway
            .scalar(format!(
                "select to_jsonb(t) - '{{id,received_at,extra}}'::text[] from streams.\"{name}\" t"
            ))
            .await;
        assert_eq!(row, record, "{name}");
    }
    assert_eq!(gateway.delete("/v1/streams/select").await.status, 204);
    assert!(gateway.scalar::<bool>("select to_regclass('streams.\"select\"') is null").await);
}

/// Names that SQL, JSON, CSV and a careless program would stumble over.
fn column_names() -> Vec<String> {
    let names = [
        "select",
        "a\"b",
        "a'b",
        "\"; drop table streams.witness; --",
        "'; drop table streams.witness; --",
        "$1",
        "%s",
        "back\\slash",
        "E'\\''",
        "with space",
        " ",
        "é",
        "流れ",
        "😀",
        "UPPER",
        "a.b",
        "a,b",
        "{}",
        "--",
        "/*",
        "payload",
        "?",
        ":name",
        "\u{202e}rtl",
    ];
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.push("y".repeat(63));
    names.push(format!("{}a", "é".repeat(31)));
    names
}

#[tokio::test]
async fn a_column_may_have_any_name_and_it_stays_a_name() {
    let gateway = Gateway::start().await;
    gateway.commit("witness", &json!({"n": 1})).await;
    let names = column_names();
    let columns: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "type": "text", "default": format!("default of {name}'\\")}))
        .collect();
    for (stream, on_duplicate) in
        [("plain", None), ("first", Some("ignore")), ("last", Some("replace"))]
    {
        let mut definition = json!({"name": stream, "columns": columns, "unknown": "reject"});
        if on_duplicate.is_some() {
            definition["key"] = json!(&names[..16]);
            definition["on_duplicate"] = json!(on_duplicate);
        }
        let made = gateway.create_stream(&definition).await;
        assert_eq!(made["columns"], json!(columns));
        let record: Value = names
            .iter()
            .map(|name| (name.clone(), json!(format!("value of {name}"))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        gateway.commit(stream, &record).await;
        let row: Value = gateway
            .scalar(format!(
                "select to_jsonb(t) - '{{id,received_at,extra}}'::text[] from streams.{stream} t"
            ))
            .await;
        assert_eq!(row, record, "{stream}");

        // The same through CSV.
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let header: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let fields: Vec<String> =
            names.iter().map(|name| quoted(&format!("row of {name}"))).collect();
        let rows = format!("{}\n{}\n", header.join(","), fields.join(","));
        let reply =
            gateway.records(stream).csv(rows).query("ack", "commit").send().await.expect(201);
        assert_eq!(reply["committed"], 1, "{reply}");

        // Missing keys: the edge's default is the database's.
        if on_duplicate.is_none() {
            gateway.commit(stream, &json!({})).await;
            gateway
                .execute(
                    "insert into streams.plain (id, received_at) values (gen_random_uuid(), now())",
                )
                .await;
            let last: Vec<Value> = gateway
                .column("select to_jsonb(t) - '{id,received_at,extra}'::text[] from streams.plain t where \"select\" like 'default%'")
                .await;
            assert_eq!(last.len(), 2);
            assert_eq!(last[0], last[1]);
        }
    }
    assert_eq!(gateway.rows("witness").await, 1);

    // Added later, in SQL of its own.
    let mut more = columns.clone();
    more.push(
        json!({"name": "x\"; drop table streams.witness; --", "type": "integer", "default": 1}),
    );
    gateway.patch("/v1/streams/plain", &json!({"columns": more})).await.expect(200);
    gateway.commit("plain", &json!({"x\"; drop table streams.witness; --": 2})).await;
    let sum: i64 = gateway
        .scalar("select sum(\"x\"\"; drop table streams.witness; --\") from streams.plain")
        .await;
    assert_eq!(sum, 6, "four old rows took the default");
    assert_eq!(gateway.rows("witness").await, 1);
}

#[tokio::test]
async fn a_record_s_key_may_be_anything_and_a_column_takes_it() {
    let gateway = Gateway::start().await;
    gateway.commit("witness", &json!({"n": 1})).await;
    let mut keys = column_names();
    let no_names = ["", "id", "received_at", "extra", "xmin", "a\nb", "a\tb\u{7f}", "\u{1}"];
    keys.extend(no_names.map(str::to_owned));
    keys.push("é".repeat(500));
    let columns: Vec<Value> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| json!({"name": format!("c{n}"), "type": "text", "from": key}))
        .collect();
    for (stream, on_duplicate) in [("first", "ignore"), ("last", "replace")] {
        let key: Vec<String> = (0..16).map(|n| format!("c{}", 2 * n)).collect();
        let definition = json!({
            "name": stream, "columns": columns, "unknown": "reject", "key": key, "on_duplicate": on_duplicate,
        });
        assert_eq!(gateway.create_stream(&definition).await["columns"], json!(columns));
        let record: serde_json::Map<String, Value> =
            keys.iter().map(|key| (key.clone(), json!(format!("value {}", key.len())))).collect();
        let record = Value::from(record);
        gateway.commit(stream, &record).await;
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let header: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
        let fields: Vec<String> = keys.iter().map(|key| quoted(&format!("row of {key}"))).collect();
        let rows = format!("{}\n{}\n", header.join(","), fields.join(","));
        let reply =
            gateway.records(stream).csv(rows).query("ack", "commit").send().await.expect(201);
        assert_eq!(reply["committed"], 1, "{reply}");

        let newest = gateway.get(&format!("/v1/streams/{stream}/records")).await.expect(200);
        assert_eq!(newest["records"][1]["data"], record, "{stream}");
        let row = &newest["records"][0]["data"];
        for key in &keys {
            assert_eq!(row[key], format!("row of {key}"), "{stream}");
        }
    }
    assert_eq!(gateway.rows("witness").await, 1);
}

#[tokio::test]
async fn names_of_columns_that_cannot_be_are_refused() {
    let gateway = Gateway::start().await;
    let long = "a".repeat(64);
    let long_in_bytes = "é".repeat(32);
    for name in [
        "",
        "id",
        "received_at",
        "extra",
        "tableoid",
        "xmin",
        "cmin",
        "xmax",
        "cmax",
        "ctid",
        "a\0b",
        "a\nb",
        "\u{7f}",
        &long,
        &long_in_bytes,
    ] {
        let columns =
            json!([{"name": "fine", "type": "integer"}, {"name": name, "type": "integer"}]);
        let problem =
            gateway.post("/v1/streams", &json!({"name": "named", "columns": columns})).await;
        let problem = problem.problem(422, "invalid_stream");
        assert_eq!(problem["place"], "columns[1]", "{name:?}");
    }
    let twice = json!([{"name": "a", "type": "integer"}, {"name": "a", "type": "text"}]);
    gateway
        .post("/v1/streams", &json!({"name": "named", "columns": twice}))
        .await
        .problem(422, "invalid_stream");
    let many: Vec<Value> =
        (0..501).map(|n| json!({"name": format!("c{n}"), "type": "integer"})).collect();
    gateway
        .post("/v1/streams", &json!({"name": "named", "columns": many}))
        .await
        .problem(422, "invalid_stream");
    for wrong in [
        json!([{"name": "a", "type": "varchar"}]),
        json!([{"name": "a", "type": "integer; drop table x"}]),
        json!([{"name": "a"}]),
        json!([{"name": 1, "type": "integer"}]),
        json!([{"name": "a", "type": "integer", "more": 1}]),
        json!("a integer"),
    ] {
        let reply = gateway.post("/v1/streams", &json!({"name": "named", "columns": wrong})).await;
        assert!([400, 422].contains(&reply.status), "{wrong}: {}", reply.body);
    }
    assert_eq!(gateway.get("/v1/streams").await.expect(200)["streams"], json!([]));
    // As many columns as may be do work.
    let most: Vec<Value> =
        (0..500).map(|n| json!({"name": format!("c{n}"), "type": "integer"})).collect();
    gateway.create_stream(&json!({"name": "wide", "columns": most})).await;
    gateway.commit("wide", &json!({"c499": 1, "c0": 2})).await;
    assert_eq!(gateway.scalar::<i32>("select c499 + c0 from streams.wide").await, 3);
}

#[tokio::test]
async fn keys_of_documents_may_point_anywhere_and_stay_pointers() {
    let gateway = Gateway::start().await;
    for (number, (pointer, document)) in [
        ("/a'b", json!({"a'b": 1})),
        ("/a\"b", json!({"a\"b": 1})),
        ("/');drop table streams.witness;--", json!({"');drop table streams.witness;--": 1})),
        ("/a\\b", json!({"a\\b": 1})),
        ("/a,b", json!({"a,b": 1})),
        ("/{x}", json!({"{x}": 1})),
        ("/é/😀", json!({"é": {"😀": 1}})),
        ("/", json!({"": 1})),
        ("/~1~0", json!({"/~": 1})),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("pointed_{number}");
        gateway.create_stream(&json!({"name": name, "key": [pointer]})).await;
        let reply = gateway.commit(&name, &json!([document, document])).await;
        assert_eq!(
            (&reply["committed"], &reply["duplicates"]),
            (&json!(1), &json!(1)),
            "{pointer}"
        );
        assert_eq!(gateway.payloads(&name).await, [document], "{pointer}");
    }
    for pointer in ["", "a", "a/b", "/a~2", "/a~", "/a\0b"] {
        let reply = gateway.post("/v1/streams", &json!({"name": "wrong", "key": [pointer]})).await;
        reply.problem(422, "invalid_stream");
    }
}
