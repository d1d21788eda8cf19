//! Declared columns: every type from JSON and CSV, unknown and missing keys, errors that name the place, columns that
//! are added while old entries wait.

use serde_json::{Value, json};

use crate::support::{Gateway, Reply, Stall};

/// A value as JSON, as CSV, and as PostgreSQL's own input function reads it.
type Spellings = (&'static str, &'static str, &'static str);

/// Values of each type.
const VALUES: [(&str, &[Spellings]); 12] = [
    (
        "boolean",
        &[
            ("true", "true", "true"),
            ("false", "F", "false"),
            ("\"yes\"", "1", "true"),
            ("\"off\"", "0", "false"),
        ],
    ),
    (
        "smallint",
        &[
            ("32767", "32767", "32767"),
            ("-32768", "-32768", "-32768"),
            ("5.0", "5", "5"),
            ("\" 7 \"", " 7 ", "7"),
        ],
    ),
    (
        "integer",
        &[
            ("2147483647", "2147483647", "2147483647"),
            ("-2147483648", "-2147483648", "-2147483648"),
            ("1e3", "1000", "1000"),
            ("\"+12\"", "+12", "12"),
        ],
    ),
    (
        "bigint",
        &[
            ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808", "-9223372036854775808"),
            ("0", "0", "0"),
            ("\"42\"", "42", "42"),
        ],
    ),
    (
        "real",
        &[
            ("0.1", "0.1", "0.1"),
            ("-3.4e38", "-3.4e38", "-3.4e38"),
            ("1e-40", "1e-40", "1e-40"),
            ("\"NaN\"", "NaN", "NaN"),
        ],
    ),
    (
        "double precision",
        &[
            ("0.1", "0.1", "0.1"),
            ("1.7976931348623157e308", "1.7976931348623157e308", "1.7976931348623157e308"),
            ("5e-324", "5e-324", "5e-324"),
            ("\"-Infinity\"", "-Infinity", "-Infinity"),
        ],
    ),
    (
        "numeric",
        &[
            (
                "123456789012345678901234567890.123456789",
                "123456789012345678901234567890.123456789",
                "123456789012345678901234567890.123456789",
            ),
            ("1.500", "1.500", "1.500"),
            ("-1e-20", "-1e-20", "-1e-20"),
            ("\"NaN\"", "NaN", "NaN"),
        ],
    ),
    (
        "text",
        &[
            ("\"plain\"", "plain", "plain"),
            (
                "\"quote\\\" back\\\\slash\\n\\u00e9\\ud83d\\ude00\"",
                "\"quote\"\" back\\slash\né😀\"",
                "quote\" back\\slash\né😀",
            ),
            ("\"  spaces stay  \"", "  spaces stay  ", "  spaces stay  "),
            ("\"NULL\"", "NULL", "NULL"),
        ],
    ),
    (
        "timestamptz",
        &[
            ("\"2013-01-01T05:00:00Z\"", "2013-01-01T05:00:00Z", "2013-01-01T05:00:00Z"),
            (
                "\"2026-11-21 05:00:00.123456+05:30\"",
                "2026-11-21 05:00:00.123456+05:30",
                "2026-11-21 05:00:00.123456+05:30",
            ),
            ("\"0044-03-15 12:00:00Z BC\"", "0044-03-15 12:00:00Z BC", "0044-03-15 12:00:00Z BC"),
            ("\"infinity\"", "infinity", "infinity"),
        ],
    ),
    (
        "date",
        &[
            ("\"2024-02-29\"", "2024-02-29", "2024-02-29"),
            ("\"0001-01-01\"", "0001-01-01", "0001-01-01"),
            ("\"5874897-12-31\"", "5874897-12-31", "5874897-12-31"),
            ("\"-infinity\"", "-infinity", "-infinity"),
        ],
    ),
    (
        "uuid",
        &[
            (
                "\"018f4d2a-0000-7000-8000-00000000abcd\"",
                "018f4d2a-0000-7000-8000-00000000abcd",
                "018f4d2a-0000-7000-8000-00000000abcd",
            ),
            (
                "\"018F4D2A00007000800000000000ABCD\"",
                "018F4D2A00007000800000000000ABCD",
                "018f4d2a-0000-7000-8000-00000000abcd",
            ),
            (
                "\"{018f4d2a-0000-7000-8000-00000000abcd}\"",
                "{018f4d2a-0000-7000-8000-00000000abcd}",
                "018f4d2a-0000-7000-8000-00000000abcd",
            ),
            (
                "\"00000000-0000-0000-0000-000000000000\"",
                "00000000-0000-0000-0000-000000000000",
                "00000000-0000-0000-0000-000000000000",
            ),
        ],
    ),
    (
        "jsonb",
        &[
            (
                "{\"a\":[1,2.50,null],\"b\":\"é\"}",
                "\"{\"\"a\"\":[1,2.50,null],\"\"b\"\":\"\"é\"\"}\"",
                "{\"a\":[1,2.50,null],\"b\":\"é\"}",
            ),
            ("[]", "[]", "[]"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("true", "true", "true"),
        ],
    ),
];
const VALUES_PER_TYPE: usize = 4;

/// The column for each type.
fn column_name(kind: &str) -> String {
    format!("c_{}", kind.replace(' ', "_"))
}

fn all_columns() -> Value {
    VALUES.iter().map(|(kind, _)| json!({"name": column_name(kind), "type": kind})).collect()
}

/// Holds a table, one row for each number of a value, against what PostgreSQL itself reads.
async fn assert_values(gateway: &Gateway, stream: &str) {
    for (kind, values) in VALUES {
        let column = column_name(kind);
        let found: Vec<Option<String>> = gateway
            .column(format!("select {column}::text from streams.{stream} order by id"))
            .await;
        let mut expected = Vec::new();
        for (_, _, text) in values {
            let text = text.replace('\'', "''");
            expected.push(Some(
                gateway.scalar::<String>(format!("select '{text}'::{kind}::text")).await,
            ));
        }
        assert_eq!(found, expected, "{kind} in {stream}");
    }
}

#[tokio::test]
async fn every_type_lands_as_postgresql_itself_would_read_it() {
    let gateway = Gateway::start().await;
    for name in ["from_list", "from_lines", "from_rows"] {
        gateway.create_stream(&json!({"name": name, "columns": all_columns()})).await;
    }
    let declared: Vec<String> = gateway
        .column(
            "select format_type(atttypid, atttypmod) from pg_attribute
             where attrelid = 'streams.from_list'::regclass and attname like 'c\\_%' order by attnum",
        )
        .await;
    let wanted = VALUES.map(
        |(kind, _)| {
            if kind == "timestamptz" { "timestamp with time zone" } else { kind }
        },
    );
    assert_eq!(declared, wanted);

    let record = |number: usize| {
        let members =
            VALUES.map(|(kind, values)| format!("\"{}\":{}", column_name(kind), values[number].0));
        format!("{{{}}}", members.join(","))
    };
    let records: Vec<String> = (0..VALUES_PER_TYPE).map(record).collect();
    let header = VALUES.map(|(kind, _)| column_name(kind)).join(",");
    let row = |number: usize| VALUES.map(|(_, values)| values[number].1).join(",");
    let rows: Vec<String> = std::iter::once(header).chain((0..VALUES_PER_TYPE).map(row)).collect();

    let list = format!("[{}]", records.join(","));
    let requests = [
        ("from_list", gateway.records("from_list").body("application/json", list)),
        ("from_lines", gateway.records("from_lines").ndjson(records.join("\n"))),
        ("from_rows", gateway.records("from_rows").csv(rows.join("\r\n"))),
    ];
    for (stream, request) in requests {
        let reply = request.query("ack", "commit").send().await.expect(201);
        assert_eq!(reply["committed"], VALUES_PER_TYPE, "{reply}");
        assert_values(&gateway, stream).await;
        let extra: i64 = gateway.scalar(format!("select count(extra) from streams.{stream}")).await;
        assert_eq!(extra, 0);
    }
}

#[tokio::test]
async fn nulls_are_null_in_every_type_and_format() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "nulls", "columns": all_columns()})).await;
    let members = VALUES.map(|(kind, _)| format!("\"{}\":null", column_name(kind))).join(",");
    let header = VALUES.map(|(kind, _)| column_name(kind)).join(",");
    let rows = format!("{header}\n{}\n{}\n", ",".repeat(11), ["NA"; 12].join(","));
    let requests = [
        (1, gateway.records("nulls").body("application/json", format!("{{{members}}}"))),
        (1, gateway.records("nulls").ndjson("{}")),
        (2, gateway.records("nulls").csv(rows).query("null", "NA")),
    ];
    for (count, request) in requests {
        assert_eq!(request.query("ack", "commit").send().await.expect(201)["committed"], count);
    }
    let columns = VALUES.map(|(kind, _)| column_name(kind)).join(", ");
    let not_null: i32 =
        gateway.scalar(format!("select max(num_nonnulls({columns})) from streams.nulls")).await;
    assert_eq!(not_null, 0);
    assert_eq!(gateway.rows("nulls").await, 4);
}

#[tokio::test]
async fn unknown_keys_are_kept_dropped_or_rejected_as_the_stream_wants() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    for unknown in ["extra", "drop", "reject"] {
        let stream = json!({"name": unknown, "columns": columns, "unknown": unknown});
        assert_eq!(gateway.create_stream(&stream).await["unknown"], unknown);
    }
    let record = json!({"n": 1, "more": {"a": [1]}, "é\"": null});
    for stream in ["extra", "drop"] {
        gateway.commit(stream, &record).await;
        gateway.commit(stream, &json!({"n": 2})).await;
        let rows = gateway.records(stream).csv("more,n\n{},3\n,4\n").query("ack", "commit");
        assert_eq!(rows.send().await.expect(201)["committed"], 2);
    }
    let kept: Vec<Option<Value>> =
        gateway.column("select extra from streams.extra order by n").await;
    let first = json!({"more": {"a": [1]}, "é\"": null});
    assert_eq!(kept, [Some(first), None, Some(json!({"more": "{}"})), Some(json!({"more": null}))]);
    let dropped: Vec<Option<Value>> =
        gateway.column("select extra from streams.drop order by n").await;
    assert_eq!(dropped, [None, None, None, None]);

    let problem =
        gateway.records("reject").json(&record).send().await.problem(422, "invalid_record");
    let error = &problem["errors"][0];
    assert_eq!((&error["code"], &error["column"]), (&json!("unknown_key"), &json!("more")));
    gateway.commit("reject", &json!({"n": 1})).await;
    // Of a CSV file the header is wrong, so that no row could be right.
    let problem =
        gateway.records("reject").csv("n,more\n1,2\n").send().await.problem(400, "invalid_header");
    assert!(problem["detail"].as_str().unwrap().contains("\"more\""), "{problem}");
    assert_eq!(gateway.rows("reject").await, 1);
}

#[tokio::test]
async fn a_missing_key_takes_the_default_and_an_explicit_null_does_not() {
    let gateway = Gateway::start().await;
    let defaults = json!({
        "boolean": true, "smallint": -5, "integer": 7, "bigint": 9_007_199_254_740_993_i64, "real": 0.5,
        "double precision": 1e300, "numeric": "1.50", "text": "it's \\ \"default\"",
        "timestamptz": "2013-01-01T05:00:00Z", "date": "2024-02-29",
        "uuid": "018f4d2a-0000-7000-8000-00000000abcd", "jsonb": {"a": ["it's", null]},
    });
    let columns: Vec<Value> = VALUES
        .iter()
        .map(
            |(kind, _)| json!({"name": column_name(kind), "type": kind, "default": defaults[kind]}),
        )
        .chain([json!({"name": "n", "type": "integer"})])
        .collect();
    gateway.create_stream(&json!({"name": "defaults", "columns": columns})).await;
    let nulls = VALUES.map(|(kind, _)| format!("\"{}\":null", column_name(kind))).join(",");
    let header = VALUES.map(|(kind, _)| column_name(kind)).join(",");
    for request in [
        gateway.records("defaults").ndjson(format!("{{\"n\":1}}\n{{\"n\":2,{nulls}}}\n")),
        gateway.records("defaults").csv("n\n3\n"),
        gateway.records("defaults").csv(format!("n,{header}\n4{}\n", ",".repeat(12))),
    ] {
        request.query("ack", "commit").send().await.expect(201);
    }
    // PostgreSQL's own default is the same, for those who insert by hand.
    gateway.execute("insert into streams.defaults (id, received_at, n) values (gen_random_uuid(), now(), 5)").await;
    for (kind, _) in VALUES {
        let column = column_name(kind);
        let text =
            defaults[kind].as_str().map_or_else(|| defaults[kind].to_string(), str::to_owned);
        let text = text.replace('\'', "''");
        let same: Vec<Option<bool>> = gateway
            .column(format!("select {column} = '{text}'::{kind} from streams.defaults order by n"))
            .await;
        assert_eq!(same, [Some(true), None, Some(true), None, Some(true)], "{kind}");
    }
}

#[tokio::test]
async fn errors_name_the_record_the_line_the_column_and_the_reason() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "smallint"}, {"name": "at", "type": "timestamptz"}]);
    gateway.create_stream(&json!({"name": "places", "columns": columns})).await;

    let lines = "{\"n\":1}\n\n{\"n\":40000}\r\n{\"at\":\"noon\"}\nnot json\n  \n[1]\n{\"n\":true}\n{\"n\":2}";
    let reply = gateway.records("places").ndjson(lines).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(2), &json!(5)));
    let expected = json!([
        {"record": 2, "line": 3, "column": "n", "code": "out_of_range", "message": "40000 is out of range for smallint"},
        {"record": 3, "line": 4, "column": "at", "code": "invalid_type", "message": reply["errors"][1]["message"]},
        {"record": 4, "line": 5, "code": "invalid_json", "message": reply["errors"][2]["message"]},
        {"record": 5, "line": 7, "code": "not_an_object", "message": "a record is a JSON object"},
        {"record": 6, "line": 8, "column": "n", "code": "invalid_type", "message": "expected smallint, got true"},
    ]);
    assert_eq!(reply["errors"], expected);
    assert!(
        reply["errors"][2]["message"].as_str().unwrap().contains("byte 0"),
        "{}",
        reply["errors"][2]
    );

    // A field may go over several lines; the row's first counts, and the header is line 1.
    let rows = "n,at,note\r\n1,,\"two\r\nlines\"\r\nnoon,,\r\n\r\n3,,\"a\"\"b\"\r\n4,2013-13-01,\r\n5,\r\n";
    let reply = gateway.records("places").csv(rows).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(2), &json!(3)));
    let expected = json!([
        {"record": 2, "line": 4, "column": "n", "code": "invalid_type", "message": "expected smallint, got \"noon\""},
        {"record": 4, "line": 7, "column": "at", "code": "out_of_range", "message": "\"2013-13-01\" is out of range for timestamptz"},
        {"record": 5, "line": 8, "code": "wrong_field_count", "message": reply["errors"][2]["message"]},
    ]);
    assert_eq!(reply["errors"], expected);

    // A list has no lines to be counted.
    let list = json!([{"n": 1}, {"n": 1.5}]);
    let reply = gateway.records("places").json(&list).send().await.expect(202);
    let expected = json!([{"record": 2, "column": "n", "code": "invalid_type", "message": "expected smallint, got 1.5"}]);
    assert_eq!(reply["errors"], expected);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("places").await, 5);
}

#[tokio::test]
async fn columns_may_be_added_while_old_entries_wait() {
    let gateway = Gateway::start().await;
    let mut columns =
        vec![json!({"name": "k", "type": "integer"}), json!({"name": "a", "type": "text"})];
    let streams = ["plain", "ignored", "replaced"];
    for name in streams {
        let mut stream = json!({"name": name, "columns": columns});
        if name != "plain" {
            stream["key"] = json!(["k"]);
            stream["on_duplicate"] = json!(if name == "ignored" { "ignore" } else { "replace" });
        }
        gateway.create_stream(&stream).await;
    }
    let stall = Stall::of_writers(gateway.pool()).await;
    for name in streams {
        gateway
            .records(name)
            .json(&json!([{"k": 1, "a": "old"}, {"k": 2, "b": 20}]))
            .send()
            .await
            .expect(202);
    }
    columns.push(json!({"name": "b", "type": "integer", "default": 5}));
    columns.push(json!({"name": "c", "type": "jsonb"}));
    for name in streams {
        let path = format!("/v1/streams/{name}");
        let changed = gateway.patch(&path, &json!({"columns": columns})).await.expect(200);
        assert_eq!(changed["columns"], json!(columns));
        let record = json!([{"k": 1, "a": "new", "b": 7, "c": {}}, {"k": 3}]);
        gateway.records(name).json(&record).send().await.expect(202);
    }
    stall.release().await;
    gateway.wait_all_committed().await;
    let (old, added, new) = (
        json!([1, "old", 5, null, null]),
        json!([2, null, 5, null, {"b": 20}]),
        json!([1, "new", 7, {}, null]),
    );
    let third = json!([3, null, 5, null, null]);
    for (name, expected) in [
        ("plain", vec![old.clone(), new.clone(), added.clone(), third.clone()]),
        ("ignored", vec![old.clone(), added.clone(), third.clone()]),
        ("replaced", vec![new, added, third]),
    ] {
        let rows: Vec<Value> = gateway
            .column(format!(
                "select jsonb_build_array(k, a, b, c, extra) from streams.{name} order by k, id"
            ))
            .await;
        assert_eq!(rows, expected, "{name}");
    }
}

#[tokio::test]
async fn columns_only_grow() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "a", "type": "integer"}, {"name": "b", "type": "text"}]);
    let made = gateway.create_stream(&json!({"name": "growing", "columns": columns})).await;
    for columns in [
        json!([]),
        json!([{"name": "a", "type": "integer"}]),
        json!([{"name": "b", "type": "text"}, {"name": "a", "type": "integer"}]),
        json!([{"name": "a", "type": "smallint"}, {"name": "b", "type": "text"}]),
        json!([{"name": "a", "type": "integer"}, {"name": "b", "type": "text"}, {"name": "b", "type": "text"}]),
        json!([{"name": "a", "type": "integer"}, {"name": "b", "type": "text"}, {"name": "id", "type": "uuid"}]),
        json!([{"name": "a", "type": "integer"}, {"name": "b", "type": "text"}, {"name": "c", "type": "integer", "default": "noon"}]),
    ] {
        let reply = gateway.patch("/v1/streams/growing", &json!({"columns": columns})).await;
        reply.problem(422, "invalid_stream");
    }
    assert_eq!(gateway.get("/v1/streams/growing").await.expect(200), made);
    gateway.commit("growing", &json!({"a": 1, "b": "still here"})).await;
}

#[tokio::test]
async fn what_is_inferred_takes_every_record_of_the_sample() {
    let gateway = Gateway::start().await;
    let sample = "at,n,ratio,name,flag,ref\n\
        2013-01-01T05:00:00Z,1,0.5,a,true,018f4d2a-0000-7000-8000-00000000abcd\n\
        2013-01-02T05:00:00Z,NA,2,\"b,c\",false,018f4d2a-0000-7000-8000-00000000abce\n\
        2013-01-03T05:00:00Z,3000000000,NA,d,true,NA\n";
    let request = gateway.request(reqwest::Method::POST, "/v1/streams/infer?null=NA");
    let request = request.header("content-type", "text/csv").body(sample);
    let inferred = Reply::to(request).await.expect(200);
    assert_eq!(inferred["records"], 3);
    let mut columns = inferred["columns"].as_array().unwrap().clone();
    let kinds: Vec<&str> = columns.iter().map(|column| column["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["timestamptz", "bigint", "double precision", "text", "boolean", "uuid"]);
    for column in &mut columns {
        column.as_object_mut().unwrap().retain(|name, _| name == "name" || name == "type");
    }
    gateway
        .create_stream(&json!({"name": "inferred", "columns": columns, "unknown": "reject"}))
        .await;
    let reply = gateway
        .records("inferred")
        .csv(sample)
        .query("null", "NA")
        .query("ack", "commit")
        .send()
        .await;
    assert_eq!(reply.expect(201)["committed"], 3);
    let sum: i64 = gateway.scalar("select sum(n)::bigint from streams.inferred").await;
    assert_eq!(sum, 3_000_000_001);
}
