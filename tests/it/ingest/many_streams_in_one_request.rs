//! `POST /v1/records`: lines that name their streams, each judged by itself, and one reply that counts by stream.

use std::fmt::Write;
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::support::people::{Token, add_user};
use crate::support::watcher::Watcher;
use crate::support::{Compression, Gateway, Reply, Stall, compressed, parse_position};

/// Most streams of one request.
const STREAMS_MAX: usize = 256;

fn line(stream: &str, record: &Value) -> String {
    format!("{}\n", json!({"stream": stream, "record": record}))
}

async fn kept(gateway: &Gateway) -> Vec<String> {
    let kept = "select convert_from(raw, 'UTF8') from tidegate.quarantine order by record, id";
    gateway.column(kept).await
}

async fn make_typed(gateway: &Gateway, name: &str) {
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": name, "columns": columns})).await;
}

/// The errors as `[line, stream, code]`.
fn errors(reply: &Value) -> Value {
    let errors = reply["errors"].as_array().expect("there are errors").iter();
    errors.map(|error| json!([error["line"], error["stream"], error["code"]])).collect()
}

/// A repeat of what was answered with `first`.
#[track_caller]
fn expect_repeat(reply: Reply, first: &Value) {
    assert!(reply.is_replayed(), "{}", reply.body);
    assert_eq!(&reply.expect(202), first);
}

#[tokio::test]
async fn lines_of_many_streams_become_rows_of_each() {
    let gateway = Gateway::start().await;
    make_typed(&gateway, "typed").await;
    let body = "{\"stream\":\"documents\",\"record\":{\"n\":1}}\n\
        {\"stream\":\"typed\",\"records\":[{\"n\":1},{\"n\":2}]}\n\
        \n\
        {\"records\":[{\"n\":2}],\"stream\":\"documents\"}\n\
        {\"stream\":\"more\",\"record\":{\"n\":3}}";
    let reply = gateway.many_records().ndjson(body).send().await.expect(202);
    assert_eq!(
        reply,
        json!({
            "accepted": 5, "quarantined": 0, "position": reply["position"], "skipped_lines": 1,
            "streams": {
                "documents": {"accepted": 2, "quarantined": 0},
                "typed": {"accepted": 2, "quarantined": 0},
                "more": {"accepted": 1, "quarantined": 0},
            },
        })
    );
    gateway.wait_committed(&reply["position"]).await;
    assert_eq!(gateway.payloads("documents").await, [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(gateway.column::<i32>("select n from streams.typed order by id").await, [1, 2]);
    assert_eq!(gateway.payloads("more").await, [json!({"n": 3})]);
    for (stream, accepted) in [("documents", 2), ("typed", 2), ("more", 1)] {
        assert_eq!(gateway.total(stream, "accepted").await, accepted, "{stream}");
    }
}

#[tokio::test]
async fn every_compression_is_read() {
    let gateway = Gateway::start().await;
    for (number, (compression, name)) in
        [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")].into_iter().enumerate()
    {
        let lines = line("one", &json!({"n": number})) + &line("two", &json!({"n": number}));
        let body = compressed(compression, lines.as_bytes()).await;
        let request = gateway.many_records().ndjson(body).encoding(name);
        assert_eq!(request.send().await.expect(202)["accepted"], 2);
    }
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("one").await, gateway.rows("two").await), (2, 2));
}

#[tokio::test]
async fn what_a_line_refuses_is_said_with_its_line_and_harms_no_other() {
    let gateway = Gateway::start().await;
    make_typed(&gateway, "typed").await;
    let body = "{\"stream\":\"typed\",\"records\":[{\"n\":1},{\"n\":\"x\"},{\"n\":2}]}\n\
        {\"record\":{\"n\":3}}\n\
        broken\n\
        {\"stream\":\"No name\",\"record\":{}}\n\
        {\"stream\":\"typed\",\"recrod\":{\"n\":4}}\n\
        {\"stream\":\"typed\",\"record\":{\"n\":nan}}\n\
        {\"stream\":\"other\",\"record\":{\"n\":5}}\n";
    let reply = gateway.many_records().ndjson(body).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(3), &json!(3)), "{reply}");
    assert_eq!(reply["not_kept"], 3);
    let because = &reply["not_kept_because"];
    assert_eq!((&because[0]["code"], &because[0]["records"]), (&json!("no_stream"), &json!(3)));
    assert_eq!(
        reply["streams"],
        json!({"typed": {"accepted": 2, "quarantined": 3}, "other": {"accepted": 1, "quarantined": 0}})
    );
    assert_eq!(
        errors(&reply),
        json!([
            [1, "typed", "invalid_type"],
            [2, null, "invalid_line"],
            [3, null, "invalid_line"],
            [4, "No name", "invalid_stream_name"],
            [5, "typed", "invalid_line"],
            [6, "typed", "invalid_json"],
        ])
    );
    gateway.wait_committed(&reply["position"]).await;
    assert_eq!(gateway.column::<i32>("select n from streams.typed order by id").await, [1, 2]);
    let whole = "{\"stream\":\"typed\",\"recrod\":{\"n\":4}}";
    assert_eq!(kept(&gateway).await, ["{\"n\":\"x\"}", whole, "{\"n\":nan}"]);
    assert_eq!(gateway.total("typed", "not_kept").await, 0);

    // A record of the quarantine is its stream's, and can be repaired.
    let id: uuid::Uuid =
        gateway.scalar("select id from tidegate.quarantine where code = 'invalid_line'").await;
    gateway.post(&format!("/v1/quarantine/{id}/replay"), &json!({"n": 4})).await.expect(202);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("typed").await, 3);

    // Where nothing is taken, that is no success.
    let problem = gateway.many_records().ndjson("{}\nbroken\n").send().await;
    let problem = problem.problem(422, "not_kept");
    assert_eq!((&problem["accepted"], &problem["not_kept"]), (&json!(0), &json!(2)));
    gateway.many_records().ndjson("\n\n").send().await.problem(400, "empty_body");
    gateway.many_records().json(&json!({})).send().await.expect(415);
    let asked = gateway.many_records().ndjson("{}").query("return", "ids");
    asked.send().await.problem(400, "invalid_query");
}

#[tokio::test]
async fn with_on_error_reject_one_bad_line_means_that_nothing_is_taken() {
    let gateway = Gateway::start().await;
    make_typed(&gateway, "typed").await;
    let before = gateway.wait_all_committed().await;
    for bad in [
        "{\"stream\":\"typed\",\"record\":{\"n\":\"x\"}}",
        "{\"record\":{}}",
        "{\"stream\":\"Bad name\",\"record\":{}}",
        "broken",
    ] {
        let body = line("typed", &json!({"n": 1})) + &line("fresh", &json!({"n": 1})) + bad;
        let request = gateway.many_records().ndjson(body).query("on_error", "reject");
        let problem = request.send().await.problem(422, "rejected");
        assert_eq!((&problem["accepted"], &problem["errors"][0]["line"]), (&json!(0), &json!(3)));
        assert!(problem.get("streams").is_none(), "{problem}");
    }
    assert_eq!(gateway.wait_all_committed().await, before, "nothing reached the journal");
    let streams = gateway.get("/v1/streams").await.expect(200);
    assert_eq!(streams["streams"].as_array().unwrap().len(), 1, "and no stream was made");
    let good = line("typed", &json!({"n": 1})) + &line("fresh", &json!({"n": 1}));
    let request = gateway.many_records().ndjson(good).query("on_error", "reject");
    let reply = request.query("ack", "commit").send().await.expect(201);
    assert_eq!(reply["committed"], 2);
}

#[tokio::test]
async fn a_token_s_streams_hold_line_by_line() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    for name in ["mine", "secret"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let limited = json!({"streams": ["mine", "fresh"]});
    let token = Token::of(&gateway, "ada", &["ingest"], limited).await;
    let ada = gateway.with_token(&token.text);
    let body = line("mine", &json!({"n": 1}))
        + &line("secret", &json!({"n": 2}))
        + &line("fresh", &json!({"n": 3}))
        + &line("mine", &json!({"n": 4}));
    let reply = ada.many_records().ndjson(body.clone()).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["not_kept"]), (&json!(2), &json!(2)));
    let told = json!([[2, "secret", "stream_not_allowed"], [3, "fresh", "no_such_stream"]]);
    assert_eq!(errors(&reply), told);
    assert_eq!(reply["streams"], json!({"mine": {"accepted": 2, "quarantined": 0}}));
    let rejected = ada.many_records().ndjson(body).query("on_error", "reject").send().await;
    rejected.problem(422, "rejected");
    let nothing = ada.many_records().ndjson(line("secret", &json!({}))).send().await;
    nothing.problem(422, "not_kept");
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("mine").await, gateway.rows("secret").await), (2, 0));

    // Who may make streams has the unknown one made.
    let limited = json!({"streams": ["mine", "fresh"]});
    let token = Token::of(&gateway, "ada", &["ingest", "streams:write"], limited).await;
    let maker = gateway.with_token(&token.text);
    maker.many_records().ndjson(line("fresh", &json!({}))).send().await.expect(202);
    let reader = gateway.with_token(&Token::of(&gateway, "ada", &["read"], json!({})).await.text);
    let refused = reader.many_records().ndjson(line("mine", &json!({}))).send().await;
    refused.problem(403, "missing_scope");
}

#[tokio::test]
async fn with_ack_commit_every_stream_s_rows_are_there_when_the_reply_is() {
    let gateway = Gateway::with(&["--batch-interval-ms=60000"]).await;
    gateway.create_stream(&json!({"name": "keyed", "key": ["/n"]})).await;
    for round in 1..=5_i64 {
        let body = line("plain", &json!({"n": round})) + &line("keyed", &json!({"n": 1})) + "{}\n";
        let request = gateway.many_records().ndjson(body).query("ack", "commit");
        let reply = request.send().await.expect(201);
        let new = i64::from(round == 1);
        assert_eq!(
            reply["streams"],
            json!({
                "plain": {"committed": 1, "duplicates": 0, "quarantined": 0},
                "keyed": {"committed": new, "duplicates": 1 - new, "quarantined": 0},
            })
        );
        assert_eq!((&reply["committed"], &reply["not_kept"]), (&json!(1 + new), &json!(1)));
        assert_eq!((gateway.rows("plain").await, gateway.rows("keyed").await), (round, 1));
    }
}

#[tokio::test]
async fn one_key_is_for_the_whole_request() {
    let mut gateway = Gateway::start().await;
    make_typed(&gateway, "typed").await;
    gateway.create_stream(&json!({"name": "fresh"})).await;
    let body = line("typed", &json!({"n": 1}))
        + &line("typed", &json!({"n": "x"}))
        + &line("fresh", &json!({"n": 2}))
        + &line("Bad name", &json!({}));
    let send = |gateway: &Gateway| gateway.many_records().ndjson(body.clone()).key("k");
    let stall = Stall::of_writers(gateway.pool()).await;
    let first = send(&gateway).send().await;
    assert!(!first.is_replayed());
    let first = first.expect(202);
    assert_eq!((&first["accepted"], &first["quarantined"]), (&json!(2), &json!(1)));
    assert_eq!(first["not_kept"], 1);
    expect_repeat(send(&gateway).send().await, &first);
    gateway.kill9().await;
    stall.release().await;
    gateway.restart().await;
    expect_repeat(send(&gateway).send().await, &first);
    // It waits for the commit, and is answered as before.
    expect_repeat(send(&gateway).query("ack", "commit").send().await, &first);
    let other = gateway.many_records().ndjson(line("typed", &json!({"n": 9}))).key("k");
    other.send().await.problem(422, "idempotency_key_reused");
    // A request for one of the streams is another one.
    gateway.records("typed").json(&json!({"n": 5})).key("k").send().await.expect(202);
    gateway.wait_all_committed().await;
    let rows = (gateway.rows("typed").await, gateway.rows("fresh").await);
    assert_eq!((rows, kept(&gateway).await.len()), ((2, 1), 1));

    // What took nothing leaves its key free.
    let bad = || gateway.many_records().ndjson("broken\n").key("free");
    bad().send().await.problem(422, "not_kept");
    let good = gateway.many_records().ndjson(line("fresh", &json!({}))).key("free").send().await;
    assert!(!good.is_replayed());
    good.expect(202);
}

#[tokio::test]
async fn what_a_crash_cut_apart_is_made_whole_stream_by_stream() {
    let mut gateway = Gateway::start().await;
    for name in ["one", "two"] {
        make_typed(&gateway, name).await;
    }
    let stall = Stall::of_writers(gateway.pool()).await;
    let body = line("one", &json!({"n": 1}))
        + &line("two", &json!({"n": "x"}))
        + &line("one", &json!({"n": "y"}))
        + &line("two", &json!({"n": 2}));
    let send = |gateway: &Gateway| gateway.many_records().ndjson(body.clone()).key("k");
    let first = send(&gateway).send().await.expect(202);
    gateway.kill9().await;
    // As if the power had gone before the last sector was written: the entry of two's good records is the last.
    let segment = gateway.data_dir().join("journal/0000000000000000.segment");
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    let end = parse_position(&first["position"]).0;
    file.write_all_at(&[0; 16], end - 24).unwrap();
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let rows = async |gateway: &Gateway| {
        let (one, two) = (gateway.rows("one").await, gateway.rows("two").await);
        (one, two, kept(gateway).await.len())
    };
    assert_eq!(rows(&gateway).await, (1, 0, 2), "its beginning is there");

    let second = send(&gateway).query("ack", "commit").send().await;
    assert!(!second.is_replayed());
    let second = second.expect(202);
    assert_eq!(second["streams"], first["streams"]);
    assert_eq!((&second["accepted"], &second["quarantined"]), (&json!(2), &json!(2)));
    assert_eq!(rows(&gateway).await, (1, 1, 2), "and now the rest, once");
    for _ in 0..2 {
        expect_repeat(send(&gateway).send().await, &second);
        gateway.restart().await;
    }
    gateway.wait_all_committed().await;
    assert_eq!(rows(&gateway).await, (1, 1, 2));
}

#[tokio::test]
async fn a_stream_that_cannot_be_made_costs_the_others_nothing() {
    let gateway = Gateway::with(&["--streams-max=2"]).await;
    gateway.create_stream(&json!({"name": "known"})).await;
    gateway.execute("create table streams.taken (n int)").await;
    let body = line("known", &json!({"n": 1}))
        + &line("taken", &json!({"n": 2}))
        + &line("fresh", &json!({"n": 3}))
        + &line("late", &json!({"n": 4}))
        + &line("late", &json!({"n": 5}));
    let reply = gateway.many_records().ndjson(body.clone()).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["not_kept"]), (&json!(2), &json!(3)), "{reply}");
    let told = json!([[2, "taken", "table_exists"], [4, "late", "streams_limit"]]);
    assert_eq!(errors(&reply), told);
    assert_eq!(reply["streams"]["late"], json!({"accepted": 0, "quarantined": 0, "not_kept": 2}));
    let rejected = gateway.many_records().ndjson(body).query("on_error", "reject").send().await;
    assert_eq!(rejected.status, 409, "{}", rejected.body);
    // A record that is refused by itself is refused once, also where its stream cannot be made.
    let body =
        line("known", &json!({"n": 6})) + &line("late", &json!({})) + &line("late", &json!(7));
    let reply = gateway.many_records().ndjson(body).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["not_kept"]), (&json!(1), &json!(2)), "{reply}");
    let told = json!([[2, "late", "streams_limit"], [3, "late", "not_an_object"]]);
    assert_eq!(errors(&reply), told, "{reply}");
    assert!(reply.get("errors_omitted").is_none(), "{reply}");
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("known").await, gateway.rows("fresh").await), (2, 1));
}

#[tokio::test]
async fn a_request_is_for_so_many_streams_and_no_more() {
    let gateway = Gateway::with(&["--auto-create-streams=false"]).await;
    let mut body = String::new();
    for number in 0..10_000 {
        let _ = writeln!(body, "{{\"stream\":\"unknown_{number}\",\"record\":{{}}}}");
    }
    let problem = gateway.many_records().ndjson(body).send().await.problem(422, "not_kept");
    assert_eq!(problem["not_kept"], 10_000);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert_eq!(problem["errors"][0]["code"], "no_such_stream");

    // Known ones up to the limit; the first of them go on.
    let names: Vec<String> = (0..STREAMS_MAX + 2).map(|number| format!("s{number}")).collect();
    for name in &names {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let once: String = names.iter().map(|name| line(name, &json!({"n": 1}))).collect();
    let body = once.clone() + &once;
    let reply = gateway.many_records().ndjson(body.clone()).key("many").send().await.expect(202);
    assert_eq!(reply["accepted"], 2 * STREAMS_MAX);
    assert_eq!(
        (&reply["not_kept"], &reply["errors"][0]["code"]),
        (&json!(4), &json!("too_many_streams"))
    );
    assert_eq!(reply["streams"].as_object().unwrap().len(), STREAMS_MAX);
    expect_repeat(gateway.many_records().ndjson(body).key("many").send().await, &reply);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("s0").await, 2);
    assert_eq!(gateway.rows(&format!("s{STREAMS_MAX}")).await, 0);
}

#[tokio::test]
async fn a_large_body_of_many_streams_is_taken_in_bounded_memory() {
    let gateway = Gateway::start().await;
    let text = "x".repeat(200);
    let mut body = String::new();
    for n in 0..60_000 {
        let _ = writeln!(
            body,
            "{{\"stream\":\"s{}\",\"record\":{{\"n\":{n},\"text\":\"{text}\"}}}}",
            n % 20
        );
    }
    // A list of more records than an entry has.
    let list = vec!["{}"; 25_000].join(",");
    let _ = writeln!(body, "{{\"stream\":\"list\",\"records\":[{list}]}}");
    let reply = gateway.many_records().ndjson(body).query("ack", "commit").send().await.expect(201);
    assert_eq!(reply["committed"], 85_000);
    assert_eq!(reply["streams"]["s7"]["committed"], 3_000);
    assert_eq!((gateway.rows("s7").await, gateway.rows("list").await), (3_000, 25_000));
    let numbers: Vec<i64> =
        gateway.column("select (payload->>'n')::bigint from streams.s7 order by id").await;
    assert!(numbers.is_sorted(), "in the order in which they were sent");
}

#[tokio::test]
async fn deep_and_dear_documents_are_refused_as_for_one_stream() {
    let gateway = Gateway::with(&["--document-members-max=2000"]).await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1_100), "]".repeat(1_100));
    let dear = format!("{{\"a\":[{}]}}", vec!["1"; 3_000].join(","));
    let body = format!(
        "{{\"stream\":\"s\",\"record\":{deep}}}\n{{\"stream\":\"s\",\"record\":{dear}}}\n{{\"stream\":\"s\",\"record\":{{}}}}\n"
    );
    let reply = gateway.many_records().ndjson(body).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(2)));
    assert_eq!(errors(&reply), json!([[1, "s", "too_deep"], [2, "s", "too_many_members"]]));
}

#[tokio::test]
async fn monitors_see_the_records_of_all_streams() {
    let gateway = Gateway::start().await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let mut watcher = Watcher::local(&gateway, "streams=one,two").await;
    let body = line("one", &json!({"n": 1}))
        + &line("two", &json!({"n": 2}))
        + &line("one", &json!({"n": 3}));
    gateway.many_records().ndjson(body).send().await.expect(202);
    let all =
        |watcher: &Watcher| watcher.records("one").len() == 2 && watcher.records("two").len() == 1;
    watcher.until("all of them", all).await;
    assert_eq!(watcher.records("two")[0]["data"], json!({"n": 2}));
    assert_eq!(watcher.records("one")[1]["data"], json!({"n": 3}));
}

/// The same records, stream by stream and all in one body, make the same rows and leave the same aside.
#[tokio::test]
async fn many_streams_in_one_request_are_what_each_is_by_itself() {
    let gateway = Gateway::start().await;
    let written = [
        "{\"n\":1}",
        "{\"n\":\"x\"}",
        "{\"n\":2,\"m\":[1]}",
        "5",
        "{\"n\":null}",
        "nan",
        "{\"m\":{}}",
    ];
    for way in ["alone", "together"] {
        make_typed(&gateway, &format!("{way}_typed")).await;
    }
    let mut together = String::new();
    let mut alone = [String::new(), String::new()];
    for round in 0..200 {
        let which = round * 7 % 3 % 2;
        let record = written[round * 5 % written.len()];
        let name = ["together_typed", "together_documents"][which];
        let _ = writeln!(alone[which], "{record}");
        let records = if round % 3 == 0 {
            format!("\"records\":[{record}]")
        } else {
            format!("\"record\":{record}")
        };
        let _ = writeln!(together, "{{\"stream\":\"{name}\",{records}}}");
    }
    let reply = gateway.many_records().ndjson(together).send().await.expect(202);
    for (name, lines) in ["typed", "documents"].into_iter().zip(alone) {
        let own = gateway.records(&format!("alone_{name}")).ndjson(lines).send().await.expect(202);
        let counts = &reply["streams"][format!("together_{name}")];
        for count in ["accepted", "quarantined"] {
            assert_eq!(counts[count], own[count], "{name}");
        }
        gateway.wait_all_committed().await;
        let rows = async |way: &str| {
            let table = format!("streams.{way}_{name}");
            gateway
                .column::<Value>(format!(
                    "select to_jsonb(t) - 'id' - 'received_at' from {table} t order by id"
                ))
                .await
        };
        assert_eq!(rows("together").await, rows("alone").await, "{name}");
        let aside = async |way: &str| {
            let kept = format!(
                "select q.code || ' ' || convert_from(q.raw, 'UTF8') from tidegate.quarantine q
                 join tidegate.streams s on s.id = q.stream_id where s.name = '{way}_{name}' order by q.record"
            );
            gateway.column::<String>(kept).await
        };
        assert_eq!(aside("together").await, aside("alone").await, "{name}");
    }
}
