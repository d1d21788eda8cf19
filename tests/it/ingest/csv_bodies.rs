//! CSV as people really send it: other delimiters and quotes, no header, another program's first line, rows of one
//! column, quoted NULLs; and bodies without a record, which make no stream.

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};
use sqlx::Executor;

use crate::support::{Compression, Gateway, Reply, compressed, eventually};

/// Sends CSV with `ack=commit` and a query.
async fn send(gateway: &Gateway, stream: &str, body: &str, query: &[(&str, &str)]) -> Reply {
    let request = gateway.records(stream).csv(body.to_owned()).query("ack", "commit");
    let request = query.iter().fold(request, |request, (name, value)| request.query(name, value));
    request.send().await
}

async fn infer(gateway: &Gateway, query: &str, content_type: &str, body: Vec<u8>) -> Reply {
    let request = gateway.request(Method::POST, &format!("/v1/streams/infer{query}"));
    Reply::to(request.header(CONTENT_TYPE, content_type).body(body)).await
}

async fn streams(gateway: &Gateway) -> Vec<String> {
    gateway.column("select name from tidegate.streams order by name").await
}

async fn make_places(gateway: &Gateway, name: &str, unknown: &str) {
    let columns =
        json!([{"name": "ort", "type": "text"}, {"name": "wert", "type": "double precision"}]);
    gateway.create_stream(&json!({"name": name, "columns": columns, "unknown": unknown})).await;
}

#[tokio::test]
async fn a_header_that_shares_no_column_is_refused_whatever_unknown_says() {
    let gateway = Gateway::start().await;
    for unknown in ["extra", "drop", "reject"] {
        make_places(&gateway, unknown, unknown).await;
        for (body, word) in [
            ("ort;wert\nUlm;1.5\n", "it contains ';': send the query delimiter=%3B"),
            ("ort\twert\nUlm\t1.5\n", "it contains a tab: send the query delimiter=tab"),
            ("sep=;\nort;wert\nUlm;1.5\n", "leave that line out"),
            ("'ort','wert'\n'Ulm','1.5'\n", "send the query quote='"),
            ("carrier,flight\nUA,1\n", "the stream takes ort, wert"),
            ("{\"ort\":\"Ulm\",\"wert\":1.5}\n{\"ort\":\"Bonn\",\"wert\":2}\n", "it is JSON"),
        ] {
            let problem = send(&gateway, unknown, body, &[]).await.problem(400, "invalid_header");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("no column of the stream is in the header"), "{detail}");
            assert!(detail.contains(word), "{body:?}: {detail}");
            assert_eq!((&problem["accepted"], &problem["line"]), (&json!(0), &json!(1)));
        }
        assert_eq!(gateway.rows(unknown).await, 0);
    }
    // Of a stream that is not there, the signs of another dialect are enough.
    for body in [
        "ort;wert\nUlm;1.5\n",
        "sep=;\nort;wert\nUlm;1.5\n",
        "'ort','wert'\n'Ulm','1.5'\n",
        "{\"ort\":\"Ulm\"}\n{\"ort\":\"Bonn\"}\n",
        "<!DOCTYPE html>\n<title>Ulm</title>\n",
    ] {
        send(&gateway, "fresh", body, &[]).await.problem(400, "invalid_header");
    }
    assert_eq!(streams(&gateway).await, ["drop", "extra", "reject"]);
    // Who says that it is so is believed.
    let reply = send(&gateway, "fresh", "ort;wert\nUlm;1.5\n", &[("delimiter", ",")]).await;
    assert_eq!(reply.expect(201)["committed"], 1);
    assert_eq!(gateway.payloads("fresh").await, [json!({"ort;wert": "Ulm;1.5"})]);
}

#[tokio::test]
async fn delimiter_quote_and_columns_are_read_as_the_query_says() {
    let gateway = Gateway::start().await;
    make_places(&gateway, "places", "reject").await;
    for (body, query) in [
        ("ort;wert\n\"Ulm;1\";1.5\n", &[("delimiter", ";")][..]),
        ("ort\twert\nUlm;1\t1.5\n", &[("delimiter", "tab")]),
        ("ort\twert\nUlm;1\t1.5\n", &[("delimiter", "\t")]),
        ("'ort','wert'\n'Ulm;1',1.5\n", &[("quote", "'")]),
        ("ort|wert\nUlm;1|1.5\n", &[("delimiter", "|"), ("quote", "none")]),
        ("1.5,Ulm;1\n", &[("header", "absent"), ("columns", "wert,ort")]),
        ("1.5;\"Ulm;1\"\n", &[("delimiter", ";"), ("header", "absent"), ("columns", "wert,ort")]),
    ] {
        let reply = send(&gateway, "places", body, query).await.expect(201);
        assert_eq!(reply["committed"], 1, "{body:?} {query:?}: {reply}");
    }
    let distinct: Vec<Value> = gateway
        .column("select distinct jsonb_build_array(ort, wert, extra) from streams.places")
        .await;
    assert_eq!(distinct, [json!(["Ulm;1", 1.5, null])]);
    assert_eq!(gateway.rows("places").await, 7);
    for query in [
        &[("delimiter", "ab")][..],
        &[("quote", "\n")],
        &[("header", "absent")],
        &[("columns", "ort,wert")],
        &[("header", "maybe")],
    ] {
        let reply = send(&gateway, "places", "ort,wert\nUlm,1\n", query).await;
        reply.problem(400, "invalid_query");
    }
    let absent = &[("header", "absent"), ("columns", "a,b")];
    send(&gateway, "places", "Ulm,1\n", absent).await.problem(400, "invalid_header");
    assert_eq!(gateway.rows("places").await, 7);
}

#[tokio::test]
async fn names_but_for_case_and_spaces_are_taken_and_the_reply_says_so() {
    let gateway = Gateway::start().await;
    make_places(&gateway, "places", "extra").await;
    let body = "ORT , Wert,id\nUlm,1.5,7\n";
    let reply = send(&gateway, "places", body, &[]).await.expect(201);
    let matched = json!([{"header": "ORT ", "key": "ort"}, {"header": " Wert", "key": "wert"}]);
    assert_eq!(reply["header_matched"], matched);
    let row: Value =
        gateway.scalar("select jsonb_build_array(ort, wert, extra) from streams.places").await;
    assert_eq!(row, json!(["Ulm", 1.5, {"id": "7"}]));
    // The answer to a repeat is the same.
    let keyed = || gateway.records("places").csv(body).key("k");
    assert_eq!(keyed().send().await.expect(202)["header_matched"], matched);
    assert_eq!(keyed().send().await.expect(202)["header_matched"], matched);
    // What could be either of two is neither.
    let reply = send(&gateway, "places", "wert,Ort,ORT\n2,a,b\n", &[]).await.expect(201);
    assert!(reply.get("header_matched").is_none(), "{reply}");
    let row: Value = gateway
        .scalar("select jsonb_build_array(ort, extra) from streams.places where wert = 2")
        .await;
    assert_eq!(row, json!([null, {"Ort": "a", "ORT": "b"}]));
}

#[tokio::test]
async fn what_the_content_type_says_is_done_or_refused() {
    let gateway = Gateway::start().await;
    make_places(&gateway, "places", "extra").await;
    let absent = "text/csv; header=absent";
    let request = || gateway.records("places").body(absent, "Ulm,1.5\n");
    request().send().await.problem(400, "invalid_query");
    let reply = request().query("columns", "ort,wert").query("ack", "commit").send().await;
    assert_eq!(reply.expect(201)["committed"], 1);
    let contradicted = request().query("columns", "ort,wert").query("header", "present");
    contradicted.send().await.problem(400, "invalid_query");
    assert_eq!(gateway.rows("places").await, 1);
    for content_type in [
        "text/csv; header=maybe",
        "text/csv; delimiter=\";\"",
        "text/csv; charset=windows-1252",
        "application/json; header=absent",
        "application/x-ndjson; version=1",
    ] {
        let reply = gateway.records("places").body(content_type, "ort,wert\nUlm,1\n").send().await;
        let problem = reply.problem(415, "unsupported_media_type");
        let parameter = content_type.split([';', '=', '"']).nth(1).unwrap().trim();
        assert!(problem["detail"].as_str().unwrap().contains(parameter), "{problem}");
        let inferred = infer(&gateway, "", content_type, b"ort,wert\nUlm,1\n".to_vec()).await;
        inferred.problem(415, "unsupported_media_type");
    }
    infer(&gateway, "", absent, b"Ulm,1\n".to_vec()).await.problem(400, "invalid_query");
    let inferred = infer(&gateway, "?columns=ort,wert", absent, b"Ulm,1\n".to_vec()).await;
    assert_eq!(inferred.expect(200)["records"], 1);
}

#[tokio::test]
async fn bytes_without_a_record_are_refused_and_make_no_stream() {
    let gateway = Gateway::start().await;
    let gzip = compressed(Compression::Gzip, b"{\"n\":1}\n").await;
    let padded = [&gzip[..], &[0; 512]].concat();
    for (content_type, encoding, body, status, code) in [
        // What `curl -d @file` makes of lines.
        ("text/csv", None, &b"n,t1,a2,b3,c"[..], 400, "no_records"),
        ("text/csv", None, b"n,t\n", 400, "no_records"),
        ("text/csv", None, b"Not found\n", 400, "no_records"),
        ("text/csv", None, b"<html><body>Not found</body></html>", 400, "invalid_header"),
        ("text/csv", None, b"[{\"n\":1}]", 400, "invalid_header"),
        ("text/csv", None, b"{\"n\":1}\n{\"n\":2}\n", 400, "invalid_header"),
        ("text/csv", None, b"n,n\n1,2\n", 400, "invalid_header"),
        ("text/csv", None, b"\n\n", 400, "empty_body"),
        ("application/json", None, b"", 400, "empty_body"),
        ("application/json", None, b"[{\"n\":1}", 400, "truncated_body"),
        ("application/json", None, b"nonsense", 400, "malformed_body"),
        ("application/x-ndjson", None, b"\n\n", 400, "empty_body"),
        ("application/x-ndjson", None, &gzip, 415, "unsupported_media_type"),
        ("text/csv", None, &gzip, 415, "unsupported_media_type"),
        ("text/csv", None, b"PK\x03\x04\x14\x00", 415, "unsupported_media_type"),
        ("application/x-ndjson", Some("gzip"), &padded, 400, "corrupt_body"),
        ("application/x-ndjson", Some("gzip"), &gzip[..20], 400, "corrupt_body"),
    ] {
        for key in [None, Some("k")] {
            let mut request = gateway.records("unmade").body(content_type, body.to_vec());
            if let Some(key) = key {
                request = request.key(key);
            }
            if let Some(encoding) = encoding {
                request = request.encoding(encoding);
            }
            request.send().await.problem(status, code);
        }
    }
    // A request that keeps nothing, for every reason that there is.
    let none = gateway.records("unmade").json(&json!([])).send().await.expect(202);
    assert_eq!(none["accepted"], 0);
    let rejected = gateway.records("unmade").ndjson("{\"n\":1}\n{").query("on_error", "reject");
    rejected.send().await.problem(422, "rejected");
    let query = gateway.records("unmade").json(&json!({"n": 1})).query("ack", "never");
    query.send().await.problem(400, "invalid_query");
    let name = gateway.records("Un-made").json(&json!({"n": 1})).send().await;
    name.problem(422, "invalid_stream_name");
    assert!(streams(&gateway).await.is_empty());
    assert!(gateway.scalar::<bool>("select to_regclass('streams.unmade') is null").await);

    // A table without rows is none of these, where the stream knows the header.
    make_places(&gateway, "places", "extra").await;
    let reply = gateway.records("places").csv("ort,wert\r\n").send().await.expect(202);
    assert_eq!(reply["accepted"], 0);
    gateway.records("places").csv("ort,wert").send().await.problem(400, "no_records");
}

#[tokio::test]
async fn a_stream_is_made_when_its_first_record_is_kept() {
    let gateway = Gateway::start().await;
    // What is kept aside is kept.
    let reply = gateway.records("aside").ndjson("{\n").send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(0), &json!(1)));
    let reply = gateway.records("keyed").ndjson("{\"n\":1}\n{\n").key("k").send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(1)));
    let again = gateway.records("keyed").ndjson("{\"n\":1}\n{\n").key("k").send().await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(202)["accepted"], 1);
    let single = gateway.records("single").body("application/json", r#"{"a":"\u0000"}"#);
    single.send().await.problem(422, "invalid_record");
    // Broken behind its first entries: these are kept.
    let lines = (0..30_000).map(|n| format!("{{\"n\":{n}}},")).collect::<String>();
    let broken = gateway.records("long").body("application/json", format!("[{lines}"));
    let problem = broken.send().await.problem(400, "truncated_body");
    assert_eq!(problem["accepted"], 30_000);
    gateway.wait_all_committed().await;
    assert_eq!(streams(&gateway).await, ["aside", "keyed", "long", "single"]);
    assert_eq!(gateway.rows("long").await, 30_000);
    assert_eq!(gateway.payloads("keyed").await, [json!({"n": 1})]);
    let kept: Vec<String> = gateway
        .column(
            "select s.name from tidegate.quarantine q join tidegate.streams s on s.id = q.stream_id order by 1",
        )
        .await;
    assert_eq!(kept, ["aside", "keyed", "single"]);
}

#[tokio::test]
async fn a_stream_that_others_make_of_another_shape_meanwhile_is_not_written_to_as_a_document() {
    let gateway = Gateway::start().await;
    // Making streams waits behind this; the request is read, and then it waits too.
    let mut lock = gateway.pool().begin().await.unwrap();
    lock.execute("lock table tidegate.streams in share mode").await.unwrap();
    let waiting = async |count: i64| {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("they wait for the lock", async || {
            (gateway.scalar::<i64>(sql).await >= count).then_some(())
        })
        .await;
    };
    let typed = json!({"name": "raced", "columns": [{"name": "n", "type": "integer"}]});
    let first = gateway.post("/v1/streams", &typed);
    let second = async {
        waiting(1).await;
        gateway.records("raced").json(&json!({"n": 1})).send().await
    };
    let release = async {
        waiting(2).await;
        lock.rollback().await.unwrap();
    };
    let (first, refused, ()) = tokio::join!(first, second, release);
    first.expect(201);
    assert!(refused.headers.contains_key("retry-after"));
    refused.problem(503, "stream_just_made");
    gateway.commit("raced", &json!({"n": 1})).await;
    assert_eq!(gateway.column::<i32>("select n from streams.raced").await, [1]);
}

#[tokio::test]
async fn null_in_a_table_of_one_column_comes_back_as_postgresql_wrote_it() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "x", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "one", "columns": columns})).await;
    // What `copy … to stdout csv header` writes.
    let reply = send(&gateway, "one", "x\n5\n\n6\n\n", &[]).await.expect(201);
    assert_eq!(reply["committed"], 4);
    assert!(reply.get("skipped_lines").is_none(), "{reply}");
    let column: Vec<Option<i32>> = gateway.column("select x from streams.one order by id").await;
    assert_eq!(column, [Some(5), None, Some(6), None]);
    // Elsewhere such lines are no records, and counted.
    for (content_type, body, skipped) in [
        ("text/csv", "\nx,y\n1,2\n\n3,4\n\n", 3),
        ("application/x-ndjson", "{\"x\":1}\n\n  \n{\"x\":2}\n", 2),
    ] {
        let request = || gateway.records("one").body(content_type, body);
        let reply = request().send().await.expect(202);
        assert_eq!((&reply["accepted"], &reply["skipped_lines"]), (&json!(2), &json!(skipped)));
        for _ in 0..2 {
            let reply = request().key(content_type).send().await.expect(202);
            assert_eq!(reply["skipped_lines"], skipped);
        }
    }
}

#[tokio::test]
async fn what_stands_in_quotes_is_data_and_an_empty_text_is_not_null() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "t", "type": "text"}]);
    gateway.create_stream(&json!({"name": "quoted", "columns": columns})).await;
    let body =
        "n,t,more\n1,NA,NA\n2,\"NA\",\"NA\"\n3,,\n4,\"\",\"\"\n5,\"a \"\"NA\"\"\",\n\"\",x,\n";
    let reply = send(&gateway, "quoted", body, &[("null", "NA")]).await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(5), &json!(1)));
    let message = reply["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("NULL only without quotes"), "{message}");
    let rows: Vec<Value> = gateway
        .column("select jsonb_build_array(t, extra->'more') from streams.quoted order by n")
        .await;
    let expected = [
        json!([null, null]),
        json!(["NA", "NA"]),
        json!([null, null]),
        json!(["", ""]),
        json!(["a \"NA\"", null]),
    ];
    assert_eq!(rows, expected);
    // And as PostgreSQL itself reads it.
    gateway.execute("create table theirs (n integer, t text)").await;
    let mut copy = gateway.pool().acquire().await.unwrap();
    let sql = "copy theirs from stdin (format csv, header)";
    let mut theirs = copy.copy_in_raw(sql).await.unwrap();
    theirs.send(&b"n,t\n1,\n2,\"\"\n"[..]).await.unwrap();
    theirs.finish().await.unwrap();
    let read: Vec<Option<String>> = gateway.column("select t from theirs order by n").await;
    assert_eq!(read, [None, Some(String::new())]);
}

#[tokio::test]
async fn fields_without_a_name_are_told_by_their_number() {
    let gateway = Gateway::start().await;
    make_places(&gateway, "extra", "extra").await;
    make_places(&gateway, "reject", "reject").await;
    for stream in ["extra", "reject"] {
        for body in ["ort,wert,\nUlm,1,\n", "ort,,wert,\nBonn,,2,\n"] {
            let reply = send(&gateway, stream, body, &[]).await.expect(201);
            assert_eq!(reply["committed"], 1, "{reply}");
        }
        let extra: i64 = gateway.scalar(format!("select count(extra) from streams.{stream}")).await;
        assert_eq!(extra, 0, "an empty field without a name is no column");
    }
    // What a data frame writes: its index has no name.
    let frame = ",ort,wert\n0,Ulm,1\n1,Bonn,2\n";
    send(&gateway, "extra", frame, &[]).await.expect(201);
    let extra: Vec<Value> =
        gateway.column("select extra from streams.extra where extra is not null order by id").await;
    assert_eq!(extra, [json!({"column_1": "0"}), json!({"column_1": "1"})]);
    let reply = send(&gateway, "reject", frame, &[]).await.expect(201);
    assert_eq!(reply["quarantined"], 2);
    let error = &reply["errors"][0];
    assert_eq!((&error["code"], &error["column"]), (&json!("unknown_key"), &json!("column_1")));
    let inferred = infer(&gateway, "", "text/csv", frame.as_bytes().to_vec()).await.expect(200);
    let names: Vec<&Value> =
        inferred["columns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["ort", "wert", "column_1"]);
}

#[tokio::test]
async fn a_kept_row_is_replayed_as_its_file_was_written() {
    let gateway = Gateway::start().await;
    make_places(&gateway, "places", "reject").await;
    let query = [("delimiter", ";"), ("quote", "'"), ("header", "absent"), ("columns", "ORT,wert")];
    let reply = send(&gateway, "places", "'Ulm;1';x\n", &query).await;
    assert_eq!(reply.expect(201)["quarantined"], 1);
    let reply = send(&gateway, "places", "ort\n\"Ulm\n", &[("quote", "none"), ("delimiter", "|")]);
    assert_eq!(reply.await.expect(201)["committed"], 1);
    gateway.wait_all_committed().await;
    let list = gateway.get("/v1/quarantine").await.expect(200);
    let id = list["records"][0]["id"].as_str().unwrap().to_owned();
    let kept = gateway.get(&format!("/v1/quarantine/{id}")).await.expect(200);
    assert_eq!(kept["csv_header"], "'ORT';'wert'");
    assert_eq!((&kept["csv_delimiter"], &kept["csv_quote"]), (&json!(";"), &json!("'")));
    let replay = async || {
        let path = format!("/v1/quarantine/{id}/replay?ack=commit");
        Reply::to(gateway.request(Method::POST, &path)).await
    };
    replay().await.problem(422, "invalid_record");
    gateway.execute("update tidegate.quarantine set raw = convert_to('''Ulm;1'';2', 'UTF8')").await;
    assert_eq!(replay().await.expect(201)["committed"], 1);
    let row: Value = gateway
        .scalar("select jsonb_build_array(ort, wert) from streams.places where wert = 2")
        .await;
    assert_eq!(row, json!(["Ulm;1", 2]));

    // A row that is nothing but NULL.
    let columns = json!([{"name": "k", "type": "integer"}]);
    gateway
        .create_stream(
            &json!({"name": "one", "columns": columns, "key": ["k"], "on_duplicate": "ignore"}),
        )
        .await;
    assert_eq!(send(&gateway, "one", "k\n\n", &[]).await.expect(201)["quarantined"], 1);
    gateway.wait_all_committed().await;
    let list = gateway.get("/v1/quarantine?stream=one").await.expect(200);
    assert_eq!(list["records"][0]["code"], "missing_key");
    let id = list["records"][0]["id"].as_str().unwrap();
    let request = gateway.request(Method::POST, &format!("/v1/quarantine/{id}/replay"));
    let problem = Reply::to(request).await.problem(422, "invalid_record");
    assert!(problem["detail"].as_str().unwrap().contains("key is missing"), "{problem}");
}

#[tokio::test]
async fn bytes_that_are_no_utf8_and_compression_that_was_not_named_are_told() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "texts"})).await;
    for (content_type, body, byte) in [
        ("application/x-ndjson", &b"{\"t\":\"M\xfcnchen\"}\n"[..], "byte 7 of the record, 0xFC"),
        ("text/csv", b"t,u\nM\xfcnchen,1\n", "byte 1 of the record, 0xFC"),
        ("application/json", b"[ {\"t\":\"M\xfcnchen\"}]", "byte 7 of the record, 0xFC"),
    ] {
        let request = gateway.records("texts").body(content_type, body.to_vec());
        let reply = request.send().await.expect(202);
        let error = &reply["errors"][0];
        assert_eq!(error["code"], "invalid_utf8");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(byte) && message.contains("send UTF-8"), "{message}");
    }
    let header = gateway.records("texts").csv(b"M\xfcnchen,u\n1,2\n".to_vec()).send().await;
    let problem = header.problem(400, "invalid_header");
    assert!(problem["detail"].as_str().unwrap().contains("byte 1 of the header"), "{problem}");

    let gzip = compressed(Compression::Gzip, b"{\"t\":1}\n").await;
    let detail = |problem: &Value| problem["detail"].as_str().unwrap().to_owned();
    let undeclared = gateway.records("texts").ndjson(gzip.clone()).send().await;
    let told = detail(&undeclared.problem(415, "unsupported_media_type"));
    assert!(told.contains("gzip") && told.contains("Content-Encoding"), "{told}");
    let twice = compressed(Compression::Gzip, &gzip).await;
    let twice = gateway.records("texts").ndjson(twice).encoding("gzip").send().await;
    let told = detail(&twice.problem(415, "unsupported_media_type"));
    assert!(told.contains("compress it once"), "{told}");
    let padded = [&gzip[..], &[0; 1024]].concat();
    let padded = gateway.records("texts").ndjson(padded).encoding("gzip").send().await;
    let told = detail(&padded.problem(400, "corrupt_body"));
    assert!(told.contains("zero bytes follow"), "{told}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("texts").await, 0);
}

#[tokio::test]
async fn inference_decodes_counts_what_it_skips_and_chooses_names() {
    let gateway = Gateway::start().await;
    let sample = "Total Amount (EUR),userId,note\n1.5,7,a\n2\n\n2.5,8,\"\"\n";
    let infer_encoded = async |compression: Compression, body: &[u8]| {
        let body = compressed(compression, body).await;
        let request = gateway.request(Method::POST, "/v1/streams/infer");
        let request = request.header(CONTENT_TYPE, "text/csv");
        Reply::to(request.header(CONTENT_ENCODING, compression.name()).body(body)).await
    };
    let plain = infer(&gateway, "", "text/csv", sample.as_bytes().to_vec()).await.expect(200);
    for compression in Compression::ALL {
        let decoded = infer_encoded(compression, sample.as_bytes()).await.expect(200);
        assert_eq!(decoded, plain, "{compression:?}");
    }
    let columns = json!([
        {"name": "total_amount_eur", "type": "double precision", "from": "Total Amount (EUR)", "nulls": 0, "example": 1.5},
        {"name": "user_id", "type": "integer", "from": "userId", "nulls": 0, "example": 7},
        {"name": "note", "type": "text", "nulls": 0, "example": "a"},
    ]);
    assert_eq!((&plain["columns"], &plain["records"]), (&columns, &json!(2)));
    let skipped = json!([
        {"code": "wrong_field_count", "count": 1, "line": 3, "message": "expected 3 fields, got 1"},
        {"code": "blank_line", "count": 1, "line": 4, "message": "there is nothing on this line"},
    ]);
    assert_eq!(plain["skipped"], skipped);
    // What was proposed takes the sample.
    let proposed: Vec<Value> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let mut column = it.as_object().unwrap().clone();
            column.retain(|name, _| ["name", "type", "from"].contains(&name.as_str()));
            Value::Object(column)
        })
        .collect();
    let definition = json!({"name": "proposed", "columns": proposed, "unknown": "reject"});
    gateway.create_stream(&definition).await;
    let reply = send(&gateway, "proposed", sample, &[]).await.expect(201);
    let told = (&reply["committed"], &reply["quarantined"], &reply["skipped_lines"]);
    assert_eq!(told, (&json!(2), &json!(1), &json!(1)));

    let semicolons = b"ort;wert\nUlm;1\n".to_vec();
    let problem = infer(&gateway, "", "text/csv", semicolons.clone()).await;
    let problem = problem.problem(400, "invalid_sample");
    assert!(problem["detail"].as_str().unwrap().contains("delimiter=%3B"), "{problem}");
    let read = infer(&gateway, "?delimiter=%3B", "text/csv", semicolons).await.expect(200);
    assert_eq!(read["columns"][1]["type"], "integer");
    let bomb = vec![b' '; 9 << 20];
    infer_encoded(Compression::Gzip, &bomb).await.problem(413, "sample_too_large");
    let gzip = compressed(Compression::Gzip, sample.as_bytes()).await;
    infer(&gateway, "", "text/csv", gzip).await.problem(415, "unsupported_media_type");
}
