//! Bad input gets a clear refusal that names the record, and harms nothing else: after each, the gateway serves, and
//! the tables hold what was good and nothing more.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::watcher::{End, Watcher};
use crate::support::{Client, Compression, Gateway, Reply, compressed, eventually, soon};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

/// A gateway with a stream of documents and a typed one, on which bad input is tried.
struct Victim {
    gateway: Gateway,
    /// Good records that were sent.
    good: i64,
}

impl Victim {
    async fn new() -> Victim {
        let gateway = Gateway::start().await;
        gateway.create_stream(&json!({"name": "documents"})).await;
        let columns = json!([
            {"name": "n", "type": "integer"}, {"name": "t", "type": "text"}, {"name": "j", "type": "jsonb"},
            {"name": "d", "type": "double precision"}, {"name": "x", "type": "numeric"},
        ]);
        gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
        Victim { gateway, good: 0 }
    }

    async fn send(&self, stream: &str, format: &str, body: &[u8]) -> Reply {
        self.gateway.records(stream).body(format, body.to_vec()).query("ack", "commit").send().await
    }

    /// The gateway serves, and the tables have the good records and no others.
    async fn is_unharmed(&mut self, after: &str) {
        assert_eq!(self.gateway.get("/healthz").await.status, 200, "after {after}");
        for stream in ["documents", "typed"] {
            let reply = self.gateway.commit(stream, &json!({"n": 1})).await;
            assert_eq!(reply["committed"], 1, "after {after}");
        }
        self.good += 1;
        for stream in ["documents", "typed"] {
            assert_eq!(self.gateway.rows(stream).await, self.good, "{stream} after {after}");
        }
    }

    /// A record that is refused in its own request, and among good ones in every format that can carry it.
    async fn refuses(&mut self, stream: &str, record: &[u8], code: &str, column: Option<&str>) {
        let name = String::from_utf8_lossy(&record[..record.len().min(60)]).into_owned();
        let column = column.map_or(Value::Null, Value::from);
        let told = |errors: &Value, place: u64| {
            let error = &errors[0];
            assert_eq!(errors.as_array().map(Vec::len), Some(1), "{name}: {errors}");
            assert_eq!(error["record"], place, "{name}: {error}");
            assert_eq!(error["code"], code, "{name}: {error}");
            assert_eq!(error["column"], column, "{name}: {error}");
            assert!(
                error["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 500),
                "{error}"
            );
        };
        let problem = self.send(stream, JSON, record).await.problem(422, "invalid_record");
        told(&problem["errors"], 1);
        let list = [b"[{\"n\":1},", record, b",{\"n\":1}]"].concat();
        let lines = [b"{\"n\":1}\n", record, b"\n{\"n\":1}\n"].concat();
        for (format, body) in [(JSON, list), (NDJSON, lines)] {
            let reply = self.send(stream, format, &body).await.expect(201);
            assert_eq!(
                (&reply["committed"], &reply["quarantined"]),
                (&json!(2), &json!(1)),
                "{name}"
            );
            told(&reply["errors"], 2);
            let line = if format == NDJSON { json!(2) } else { Value::Null };
            assert_eq!(reply["errors"][0]["line"], line, "{name}");
        }
        // The good ones are there; take them away, so that the count is simple.
        let rows = self.gateway.rows(stream).await;
        assert_eq!(rows, self.good + 4, "{name}");
        let newest = format!("select id from streams.{stream} order by id desc limit 4");
        self.gateway.execute(&format!("delete from streams.{stream} where id in ({newest})")).await;
        self.is_unharmed(&name).await;
    }
}

#[tokio::test]
async fn records_that_postgresql_could_not_store_are_refused_at_the_edge() {
    let mut victim = Victim::new().await;
    let deep =
        |depth: usize| format!("{{\"j\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let deep_objects =
        format!("{{\"j\":{}1{}}}", "{\"a\":".repeat(20_000), "}".repeat(20_000)).into_bytes();
    let digits = format!("{{\"j\":{}}}", "9".repeat(140_000)).into_bytes();
    let cases: [(&[u8], &str, Option<&str>); 14] = [
        (br#"{"j":"a\u0000b"}"#, "invalid_unicode", Some("j")),
        (br#"{"t":"\u0000"}"#, "invalid_unicode", Some("t")),
        (br#"{"j":{"deep":["\u0000"]}}"#, "invalid_unicode", Some("j")),
        (br#"{"t":"\ud800"}"#, "invalid_unicode", Some("t")),
        (br#"{"t":"\udc00\ud800"}"#, "invalid_unicode", Some("t")),
        (br#"{"j":["\ud83d x"]}"#, "invalid_unicode", Some("j")),
        (b"{\"t\":\"\xff\xfe\"}", "invalid_utf8", Some("t")),
        (b"{\"j\":{\"k\":\"\xed\xa0\x80\"}}", "invalid_utf8", Some("j")),
        (b"{\"t\":\"a\x01b\"}", "invalid_json", Some("t")),
        (br#"{"j":1e999999}"#, "number_out_of_range", Some("j")),
        (br#"{"j":[-1e-999999]}"#, "number_out_of_range", Some("j")),
        (&digits, "number_out_of_range", Some("j")),
        (&deep(20_000), "too_deep", Some("j")),
        (&deep_objects, "too_deep", Some("j")),
    ];
    for (record, code, column) in cases {
        victim.refuses("typed", record, code, column).await;
        // Of a document the record is the whole.
        victim.refuses("documents", record, code, None).await;
    }
    for (record, code, column) in [
        (&br#"{"d":1e999999}"#[..], "number_out_of_range", Some("d")),
        (br#"{"d":1e309}"#, "out_of_range", Some("d")),
        (br#"{"d":-1e-400}"#, "out_of_range", Some("d")),
        (br#"{"x":1e999999}"#, "number_out_of_range", Some("x")),
        (br#"{"n":99999999999999999999}"#, "out_of_range", Some("n")),
        (br#"{"n":1.5}"#, "invalid_type", Some("n")),
        (br#"{"n":[1]}"#, "invalid_type", Some("n")),
        (br#"{"t":{"a":1}}"#, "invalid_type", Some("t")),
    ] {
        victim.refuses("typed", record, code, column).await;
    }
    // A key that cannot be stored, at any depth.
    victim.refuses("documents", br#"{"a\u0000":1}"#, "invalid_unicode", None).await;
    victim.refuses("documents", b"{\"\xff\":1}", "invalid_utf8", None).await;
    victim.refuses("documents", br#"{"a":{"\udc00":1}}"#, "invalid_unicode", None).await;
}

#[tokio::test]
async fn what_is_no_object_is_no_record() {
    let victim = Victim::new().await;
    for stream in ["documents", "typed"] {
        let list = br#"[1,"a",null,true,[],[{"n":1}],{"n":1}]"#;
        let lines = b"1\n\"a\"\nnull\ntrue\n[]\n[{\"n\":1}]\n{\"n\":1}\n";
        for (format, body) in [(JSON, &list[..]), (NDJSON, lines)] {
            let reply = victim.send(stream, format, body).await.expect(201);
            assert_eq!(
                (&reply["committed"], &reply["quarantined"]),
                (&json!(1), &json!(6)),
                "{format}"
            );
            let codes: Vec<&Value> =
                reply["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
            assert_eq!(codes, vec![&json!("not_an_object"); 6], "{format}");
        }
        assert_eq!(victim.gateway.rows(stream).await, 2);
        for body in ["1", "\"text\"", "null", "true", "nonsense", "\u{1F600}"] {
            victim.send(stream, JSON, body.as_bytes()).await.problem(400, "malformed_body");
        }
        assert_eq!(victim.gateway.rows(stream).await, 2);
    }
}

#[tokio::test]
async fn an_empty_body_is_refused_and_an_empty_list_is_none() {
    let mut victim = Victim::new().await;
    for (format, bodies) in [
        (JSON, &["", " \r\n\t ", "\u{feff}", "\u{feff} "][..]),
        (NDJSON, &["", "\n\n", " \r\n\t\n", "\u{feff}"]),
        (CSV, &["", "\n\n", "\r\n", "\u{feff}"]),
    ] {
        for body in bodies {
            let problem =
                victim.send("documents", format, body.as_bytes()).await.problem(400, "empty_body");
            assert_eq!(problem["accepted"], 0, "{format} {body:?}");
        }
    }
    for (format, body) in [(JSON, "[]"), (JSON, " [ \n ] "), (CSV, "n,t\n"), (CSV, "n,t\r\n\r\n")] {
        let reply = victim.send("typed", format, body.as_bytes()).await;
        assert!([201, 202].contains(&reply.status), "{format} {body:?}: {}", reply.body);
        assert_eq!(reply.body["quarantined"], 0);
    }
    // A header that nothing vouches for is no table.
    for (stream, body) in [("typed", "n,t"), ("documents", "n,t\n"), ("documents", "n,t")] {
        victim.send(stream, CSV, body.as_bytes()).await.problem(400, "no_records");
    }
    victim.is_unharmed("empty bodies").await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_refused_and_nothing_of_it_taken() {
    let mut victim = Victim::new().await;
    let list = r#"[{"n":1,"t":"a\"b"},{"n":2,"j":[1,{"k":null}]},{"n":3,"d":-1.5e3}]"#;
    for stream in ["documents", "typed"] {
        for cut in 1..list.len() {
            let reply = victim.send(stream, JSON, &list.as_bytes()[..cut]).await;
            let code = reply.body["code"].clone();
            let problem = reply.problem(400, "truncated_body");
            assert_eq!(problem["accepted"], 0, "{cut}: {problem}");
            assert!(
                problem["offset"].as_u64().is_some() && problem["record"].as_u64().is_some(),
                "{code}: {problem}"
            );
        }
        victim
            .send(stream, CSV, b"n,t\n1,a\n2,\"never closed\n3,c\n")
            .await
            .problem(400, "truncated_body");
        // Each line stands for itself, so that only the last one is lost.
        let reply = victim.send(stream, NDJSON, b"{\"n\":1}\n{\"n\":1,\"t\":\"a").await.expect(201);
        assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(1), &json!(1)));
    }
    victim.good += 1;
    victim.is_unharmed("cut off bodies").await;
}

#[tokio::test]
async fn broken_structure_names_its_place() {
    let mut victim = Victim::new().await;
    for (body, record) in [
        (r#"[{"n":1},{"n":2},,{"n":3}]"#, 3),
        (r#"[{"n":1} {"n":2}]"#, 1),
        (r#"[{"n":1},{"n":1}}]"#, 2),
        (r#"[{"n":1},{"j":[1},{"n":3"#, 2),
        (r#"[{"n":1}] [{"n":2}]"#, 1),
        (r#"{"n":1}{"n":2}"#, 1),
        (r#"[{"n":1},{"n":1},]"#, 3),
    ] {
        for stream in ["documents", "typed"] {
            let problem =
                victim.send(stream, JSON, body.as_bytes()).await.problem(400, "malformed_body");
            assert_eq!(problem["record"], record, "{body}: {problem}");
            assert!(problem["offset"].as_u64().unwrap() <= body.len() as u64, "{problem}");
            assert_eq!(problem["accepted"], 0, "{body}");
        }
    }
    for (body, detail) in [("n,n\n1,2\n", "twice"), ("n,\u{0}\n1,2\n", "U+0000")] {
        for stream in ["documents", "typed"] {
            let problem =
                victim.send(stream, CSV, body.as_bytes()).await.problem(400, "invalid_header");
            assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        }
    }
    victim.send("documents", CSV, b"n,\xff\n1,2\n").await.problem(400, "invalid_header");
    victim.is_unharmed("broken structure").await;
}

/// Every bit of a body is turned over, one at a time. Whatever comes of it is said, and only what was said happens.
#[tokio::test]
async fn flipped_bits_never_do_more_than_the_reply_says() {
    let gateway = Gateway::with(&["--batch-interval-ms=20"]).await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "t", "type": "text"}]);
    gateway.create_stream(&json!({"name": "flipped", "columns": columns})).await;
    let bodies = [
        (JSON, "[{\"n\":1,\"t\":\"\\u00e9\"},{\"n\":2,\"t\":null}]"),
        (NDJSON, "{\"n\":1,\"t\":\"\\u00e9\"}\n{\"n\":2,\"t\":null}\n"),
        (CSV, "n,t\n1,\"a \"\"b\"\"\"\r\n2,c\n"),
    ];
    let (mut accepted, mut quarantined, mut refused) = (0, 0, 0);
    for (format, body) in bodies {
        for bit in 0..body.len() * 8 {
            let mut flipped = body.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let reply = gateway.records("flipped").body(format, flipped).send().await;
            match reply.status {
                202 => {
                    accepted += reply.body["accepted"].as_i64().unwrap();
                    quarantined += reply.body["quarantined"].as_i64().unwrap();
                }
                // The opening bracket has become a brace, so that all of it is one object, which is no JSON.
                422 => {
                    assert_eq!(reply.body["accepted"], 0);
                    quarantined += reply.body["quarantined"].as_i64().unwrap();
                }
                400 => {
                    refused += 1;
                    assert_eq!(
                        (&reply.body["accepted"], &reply.body["quarantined"]),
                        (&json!(0), &json!(0))
                    );
                }
                status => panic!("{format}, bit {bit}: {status} {}", reply.body),
            }
        }
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("flipped").await, accepted);
    assert_eq!(
        gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await,
        quarantined
    );
    assert!(accepted > 0 && quarantined > 0 && refused > 0, "{accepted} {quarantined} {refused}");
}

#[tokio::test]
async fn damaged_compression_is_refused_and_nothing_of_it_taken() {
    let mut victim = Victim::new().await;
    let lines: String =
        (0..200).map(|n| format!("{{\"n\":{n},\"t\":\"{}\"}}\n", "text ".repeat(n % 7))).collect();
    for compression in Compression::ALL {
        let whole = compressed(compression, lines.as_bytes()).await;
        let mut damaged = vec![
            ("cut off", whole[..whole.len() / 2].to_vec()),
            ("cut off at the end", whole[..whole.len() - 1].to_vec()),
            ("followed by more", [&whole[..], b"more"].concat()),
            ("not compressed", lines.clone().into_bytes()),
        ];
        // These two carry a checksum, so that no turned bit of the data goes unseen.
        if matches!(compression, Compression::Gzip | Compression::Deflate) {
            for bit in (160..whole.len() * 8).step_by(97) {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                damaged.push(("flipped", flipped));
            }
        }
        for (damage, body) in damaged {
            let request = victim.gateway.records("typed").ndjson(body).encoding(compression.name());
            let reply = request.send().await;
            assert_eq!(reply.status, 400, "{compression:?} {damage}: {}", reply.body);
            let problem = reply.problem(400, "corrupt_body");
            assert_eq!(problem["accepted"], 0, "{compression:?} {damage}");
        }
        victim.is_unharmed(compression.name()).await;
    }
}

#[tokio::test]
async fn wrong_types_and_encodings_are_415() {
    let mut victim = Victim::new().await;
    let body = "{\"n\":1}";
    for content_type in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "text/csv; charset=latin1",
        "json",
        "",
    ] {
        let reply = victim.gateway.records("documents").body(content_type, body).send().await;
        assert_eq!(reply.status, 415, "{content_type}: {}", reply.body);
    }
    let request =
        victim.gateway.request(reqwest::Method::POST, "/v1/streams/documents/records").body(body);
    assert_eq!(Reply::to(request).await.status, 415, "a body says what it is");
    for encoding in ["compress", "gzip, gzip", "gzip, br", "identity, gzip", "snappy"] {
        let reply =
            victim.gateway.records("documents").body(JSON, body).encoding(encoding).send().await;
        assert_eq!(reply.status, 415, "{encoding}: {}", reply.body);
    }
    // Right names on the wrong body.
    let zipped = compressed(Compression::Gzip, body.as_bytes()).await;
    victim
        .gateway
        .records("documents")
        .body(JSON, zipped.clone())
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let request = victim.gateway.records("documents").body(JSON, zipped).encoding("br");
    request.send().await.problem(400, "corrupt_body");
    let json = victim.gateway.records("documents").csv("[{\"n\":1}]").send().await;
    json.problem(400, "invalid_header");
    victim
        .gateway
        .records("documents")
        .body(JSON, "n\n1\n")
        .send()
        .await
        .problem(400, "malformed_body");
    victim.is_unharmed("wrong types").await;
}

#[tokio::test]
async fn marks_line_ends_and_equal_keys_are_understood() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "t", "type": "text"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    for stream in ["typed", "documents"] {
        for (format, body) in [
            (JSON, "\u{feff}[{\"n\":1}]"),
            (NDJSON, "\u{feff}{\"n\":1}\r\n\r\n"),
            (NDJSON, "  {\"n\":1}\t\r\n"),
            (CSV, "\u{feff}n\r\n1\r\n"),
            (CSV, "n\r1\r"),
            (CSV, "n,t\n\n\n1,"),
            (CSV, "\"n\"\n\"1\"\n"),
            // The last of equal keys counts.
            (JSON, "{\"n\":\"first\",\"n\":7,\"n\":1}"),
            (NDJSON, "{\"n\":2,\"\\u006e\":1}"),
        ] {
            let reply =
                gateway.records(stream).body(format, body).query("ack", "commit").send().await;
            assert_eq!(reply.expect(201)["committed"], 1, "{format} {body:?}");
        }
    }
    assert_eq!(gateway.column::<i32>("select n from streams.typed").await, [1; 9]);
    let numbers: Vec<i32> =
        gateway.column("select (payload->>'n')::int from streams.documents").await;
    assert_eq!(numbers, [1; 9]);
}

#[tokio::test]
async fn csv_fields_hold_anything_and_ragged_rows_are_named() {
    let mut victim = Victim::new().await;
    let rows = "t,n\r\n\"a \"\"quoted\"\" word\",1\r\n\"two\r\nlines, and a comma\",2\r\n\"\"\"\",3\r\n'single',4\r\n a b ,5\r\n";
    let reply = victim.send("typed", CSV, rows.as_bytes()).await.expect(201);
    assert_eq!(reply["committed"], 5, "{reply}");
    let texts: Vec<String> = victim.gateway.column("select t from streams.typed order by n").await;
    assert_eq!(
        texts,
        ["a \"quoted\" word", "two\r\nlines, and a comma", "\"", "'single'", " a b "]
    );
    victim.gateway.execute("delete from streams.typed").await;

    for stream in ["typed", "documents"] {
        let reply =
            victim.send(stream, CSV, b"n,t\n1,a\n2\n3,c,d\n4,e,\n,\n5,f\n").await.expect(201);
        assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(3), &json!(3)));
        let told: Vec<Value> = reply["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| json!([error["record"], error["line"], error["code"]]))
            .collect();
        let ragged = |record: u64| json!([record, record + 1, "wrong_field_count"]);
        assert_eq!(told, [ragged(2), ragged(3), ragged(4)]);
        let reply = victim.send(stream, CSV, b"n,t\n1,\xff\n2,b\x00c\n").await.expect(201);
        let codes: Vec<&Value> =
            reply["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
        assert_eq!(codes, ["invalid_utf8", "invalid_unicode"], "{reply}");
        assert_eq!(reply["errors"][0]["column"], "t");
        victim.gateway.execute(&format!("delete from streams.{stream}")).await;
    }
    let header: String = (0..10_001).map(|n| format!("c{n},")).collect();
    victim.send("documents", CSV, header.as_bytes()).await.problem(400, "invalid_header");
    victim.is_unharmed("ragged rows").await;
}

#[tokio::test]
async fn tokens_that_are_wrong_expired_or_revoked_open_nothing() {
    let gateway = Gateway::start().await;
    for name in ["mine", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let send = async |client: &Client, stream: &str| {
        client.records(stream).json(&json!({"n": 1})).send().await
    };
    let token = async |request: Value| {
        let made = gateway.post("/v1/tokens", &request).await.expect(201);
        (made["id"].clone(), gateway.with_token(made["token"].as_str().unwrap()))
    };
    for wrong in ["", "tg_", "tg_wrong", "no.token-at_all", &format!("tg_{}", "A".repeat(5_000))] {
        let reply = send(&gateway.with_token(wrong), "mine").await;
        assert_eq!(reply.status, 401, "{wrong:?}: {}", reply.body);
        assert!(reply.headers.contains_key("www-authenticate"), "{wrong:?}");
        assert!(
            !reply.body.to_string().contains("wrong"),
            "a secret is not repeated: {}",
            reply.body
        );
    }
    let url = format!("http://{}/v1/streams/mine/records", gateway.address());
    let anonymous = reqwest::Client::new().post(&url).json(&json!({"n": 1}));
    Reply::to(anonymous.try_clone().unwrap()).await.problem(401, "missing_credentials");
    let wrong = anonymous.basic_auth("admin", Some("wrong"));
    Reply::to(wrong).await.problem(401, "invalid_password");

    let (_, limited) = token(
        json!({"name": "limited", "user": "admin", "scopes": ["ingest"], "streams": ["mine"]}),
    )
    .await;
    send(&limited, "mine").await.expect(202);
    assert_eq!(send(&limited, "other").await.status, 403);
    assert_eq!(send(&limited, "fresh").await.status, 403);
    let (_, reader) = token(json!({"name": "reader", "user": "admin", "scopes": ["read"]})).await;
    send(&reader, "mine").await.problem(403, "missing_scope");

    let (_, short) = token(
        json!({"name": "short", "user": "admin", "scopes": ["ingest"], "expires_in_seconds": 1}),
    )
    .await;
    let (id, revoked) =
        token(json!({"name": "revoked", "user": "admin", "scopes": ["ingest"]})).await;
    let mut taken = 1 + u64::from(send(&short, "mine").await.status == 202);
    assert_eq!(send(&revoked, "mine").await.status, 202);
    taken += 1;
    assert_eq!(gateway.delete(&format!("/v1/tokens/{id}")).await.status, 204);
    for (name, client) in [("expired", short), ("revoked", revoked)] {
        // Checks may be cached for seconds.
        eventually(&format!("the {name} token is refused"), async || {
            let status = send(&client, "mine").await.status;
            taken += u64::from(status == 202);
            (status == 401).then_some(())
        })
        .await;
    }
    gateway.wait_all_committed().await;
    assert_eq!(u64::try_from(gateway.rows("mine").await).unwrap(), taken);
    assert_eq!(gateway.rows("other").await, 0);
    assert!(gateway.scalar::<bool>("select to_regclass('streams.fresh') is null").await);
}

#[tokio::test]
async fn a_monitor_that_sends_garbage_disturbs_no_other_monitor() {
    const FRAME_BYTES: usize = 10 << 20;
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "watched"})).await;
    let mut watcher = Watcher::local(&gateway, "streams=watched").await;
    for garbage in [
        Message::text("garbage"),
        Message::text("{\"type\":\"hello\"}"),
        Message::binary(vec![0xff; 100]),
    ] {
        let mut monitor = Watcher::local(&gateway, "streams=watched").await;
        monitor.send(garbage).await;
        monitor.until("the gateway objects", |monitor| monitor.of_type("error").count() == 1).await;
    }
    for garbage in [Message::text("x".repeat(FRAME_BYTES)), Message::binary(vec![0; FRAME_BYTES])] {
        let mut monitor = Watcher::local(&gateway, "streams=watched").await;
        monitor.send(garbage).await;
        let end = monitor.end().await;
        assert!([End::Closed(1009), End::Broken].contains(&end), "{end:?}");
    }
    // Bytes that are no frame at all.
    let mut raw = TcpStream::connect(gateway.address()).await.unwrap();
    let upgrade = format!(
        "GET /v1/monitor HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.token()
    );
    raw.write_all(upgrade.as_bytes()).await.unwrap();
    raw.write_all(&[0xff; 1_000]).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the gateway hangs up", raw.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));

    gateway.commit("watched", &json!([{"n": 1}, {"n": 2}])).await;
    watcher.until("both records", |watcher| watcher.records("watched").len() == 2).await;
    assert_eq!(watcher.data("watched", "n"), [1, 2]);
    assert_eq!(watcher.missed("watched"), 0);
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let mut victim = Victim::new().await;
    let long_header =
        format!("GET / HTTP/1.1\r\nHost: gateway\r\nX: {}\r\n\r\n", "x".repeat(2 << 20));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: gateway\r\n\r\n", "x".repeat(2 << 20));
    for bytes in [
        &b"garbage\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/streams/documents/records HTTP/1.1\r\nHost: g\r\nContent-Length: ten\r\n\r\n",
        b"POST /v1/streams/documents/records HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/streams/documents/records HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        long_header.as_bytes(),
        long_target.as_bytes(),
    ] {
        let mut connection = TcpStream::connect(victim.gateway.address()).await.unwrap();
        // The gateway may hang up before it has read everything.
        let _ = connection.write_all(bytes).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("the gateway hangs up", connection.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    victim.is_unharmed("what is not HTTP").await;
}
