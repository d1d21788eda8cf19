//! Records in every format and compression land as they were sent, and the reply tells the truth about them.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Compression, Gateway, Reply, Stall, compressed, eventually, parse_position};

/// Members of a JSON object in the order in which they are written.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_single_record_gets_an_id_and_becomes_a_row() {
    let gateway = Gateway::start().await;
    let record = json!({"greeting": "hello", "nested": {"list": [1, 2.5, null, true, "é😀"]}});
    let reply = gateway.records("hello").json(&record).send().await.expect(202);
    assert_eq!(members(&reply), ["id", "accepted", "quarantined", "position"]);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(0)));
    let id: Uuid = reply["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);

    gateway.wait_committed(&reply["position"]).await;
    assert_eq!(gateway.payloads("hello").await, [record]);
    assert_eq!(gateway.scalar::<Uuid>("select id from streams.hello").await, id);
    let age: f64 = gateway
        .scalar("select extract(epoch from now() - received_at)::float8 from streams.hello")
        .await;
    assert!((0.0..60.0).contains(&age), "received {age} s ago");
    // The id carries the same moment, to the millisecond.
    let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
    let received: i64 = gateway
        .scalar("select floor(extract(epoch from received_at) * 1000)::bigint from streams.hello")
        .await;
    assert_eq!(
        i64::try_from(seconds * 1_000 + u64::from(nanoseconds / 1_000_000)).unwrap(),
        received
    );
}

#[tokio::test]
async fn a_list_lines_and_rows_are_the_same_records() {
    let gateway = Gateway::start().await;
    let records =
        json!([{"a": "1", "b": "x y"}, {"a": "2", "b": null}, {"a": "3", "b": "é,\"😀\""}]);
    let lines: Vec<String> = records.as_array().unwrap().iter().map(Value::to_string).collect();
    let rows = "a,b\n1,x y\n2,\n3,\"é,\"\"😀\"\"\"\n";
    let replies = [
        gateway.records("list").json(&records).send().await,
        gateway.records("lines").ndjson(lines.join("\n")).send().await,
        gateway.records("rows").csv(rows).send().await,
    ];
    for (reply, stream) in replies.into_iter().zip(["list", "lines", "rows"]) {
        let reply = reply.expect(202);
        assert_eq!(members(&reply), ["accepted", "quarantined", "position"], "{stream}");
        assert_eq!(reply["accepted"], 3, "{stream}");
        gateway.wait_committed(&reply["position"]).await;
        assert_eq!(Value::Array(gateway.payloads(stream).await), records, "{stream}");
    }
}

#[tokio::test]
async fn every_compression_of_every_format_is_read() {
    let gateway = Gateway::start().await;
    let records: Vec<Value> =
        (0..500).map(|n| json!({"n": n.to_string(), "text": "ü".repeat(n % 50)})).collect();
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    let row = |record: &Value| {
        format!("{},\"{}\"\n", record["n"].as_str().unwrap(), record["text"].as_str().unwrap())
    };
    let rows: String =
        std::iter::once("n,text\n".to_owned()).chain(records.iter().map(row)).collect();
    let bodies = [
        ("application/json", Value::Array(records.clone()).to_string()),
        ("application/x-ndjson", lines),
        ("text/csv", rows),
    ];
    for (format, body) in bodies {
        for compression in Compression::ALL {
            let body = compressed(compression, body.as_bytes()).await;
            let request =
                gateway.records("compressed").body(format, body).encoding(compression.name());
            let reply = request.query("ack", "commit").send().await.expect(201);
            assert_eq!(reply["committed"], 500, "{format} {compression:?}");
            assert_eq!(gateway.payloads("compressed").await, records, "{format} {compression:?}");
            gateway.execute("delete from streams.compressed").await;
        }
    }
}

#[tokio::test]
async fn a_gzip_body_of_several_members_is_one_body() {
    let gateway = Gateway::start().await;
    let mut body = compressed(Compression::Gzip, b"{\"n\":1}\n{\"n\"").await;
    body.extend(compressed(Compression::Gzip, b":2}\n").await);
    let request = gateway.records("members").ndjson(body).encoding("x-gzip").query("ack", "commit");
    assert_eq!(request.send().await.expect(201)["committed"], 2);
    assert_eq!(gateway.payloads("members").await, [json!({"n": 1}), json!({"n": 2})]);
}

#[tokio::test]
async fn with_ack_commit_the_rows_are_there_when_the_reply_is() {
    // Nothing but the wish of the sender cuts a batch here.
    let gateway = Gateway::with(&["--batch-interval-ms=60000"]).await;
    for round in 1..=20_i64 {
        let reply = gateway.commit("committed", &json!([{"n": round}, {"n": -round}])).await;
        assert_eq!(members(&reply), ["committed", "duplicates", "quarantined", "position"]);
        assert_eq!((&reply["committed"], &reply["duplicates"]), (&json!(2), &json!(0)));
        assert_eq!(gateway.rows("committed").await, 2 * round);
    }
    let single = gateway.commit("committed", &json!({"n": 0})).await;
    assert_eq!(members(&single), ["id", "committed", "duplicates", "quarantined", "position"]);
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_answered_with_what_is_true() {
    let gateway = Gateway::with(&["--commit-wait-ms=300"]).await;
    gateway.commit("slow", &json!({"n": 1})).await;
    let stall = Stall::of_table(gateway.pool(), "slow").await;
    let reply = gateway
        .records("slow")
        .json(&json!([{"n": 2}, {"n": 3}]))
        .query("ack", "commit")
        .send()
        .await;
    let reply = reply.expect(202);
    assert_eq!(members(&reply), ["accepted", "quarantined", "position"]);
    assert_eq!(reply["accepted"], 2);
    assert_eq!(gateway.rows("slow").await, 1);
    stall.release().await;
    gateway.wait_committed(&reply["position"]).await;
    assert_eq!(gateway.rows("slow").await, 3);
}

#[tokio::test]
async fn ids_are_returned_in_the_order_of_the_records() {
    let gateway = Gateway::start().await;
    let body = "{\"n\":0}\n{\"n\":1}\nbroken\n{\"n\":2}\n\n{\"n\":3}\n";
    let request = gateway.records("ids").ndjson(body).query("return", "ids").query("ack", "commit");
    let reply = request.send().await.expect(201);
    let ids: Vec<Uuid> = serde_json::from_value(reply["ids"].clone()).unwrap();
    let stored: Vec<Uuid> =
        gateway.column("select id from streams.ids order by (payload->>'n')::int").await;
    assert_eq!(ids, stored, "{reply}");
    assert_eq!(ids.len(), 4);
    assert!(ids.is_sorted(), "later records have higher ids");

    // A body of several entries too.
    let lines: String = (0..25_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let reply =
        gateway.records("many_ids").ndjson(lines).query("return", "ids").send().await.expect(202);
    gateway.wait_committed(&reply["position"]).await;
    let ids: Vec<Uuid> = serde_json::from_value(reply["ids"].clone()).unwrap();
    let stored: Vec<Uuid> =
        gateway.column("select id from streams.many_ids order by (payload->>'n')::int").await;
    assert_eq!(ids.len(), 25_000);
    assert!(ids == stored, "the ids are those of the rows");
}

#[tokio::test]
async fn an_unknown_stream_is_made_once_however_many_ask() {
    let gateway = Gateway::start().await;
    let mut senders = JoinSet::new();
    for n in 0..30 {
        let request = gateway.records("fresh").json(&json!({"n": n})).query("ack", "commit");
        senders.spawn(async move { request.send().await.expect(201)["committed"].clone() });
    }
    assert_eq!(senders.join_all().await, vec![json!(1); 30]);
    assert_eq!(gateway.rows("fresh").await, 30);
    let stream = gateway.get("/v1/streams/fresh").await.expect(200);
    assert_eq!((&stream["kind"], &stream["payload"]), (&json!("document"), &json!("jsonb")));
    assert_eq!(gateway.get("/v1/streams").await.expect(200)["streams"], json!([stream]));
}

#[tokio::test]
async fn an_unknown_stream_is_refused_where_none_shall_be_made() {
    let gateway = Gateway::with(&["--auto-create-streams=false"]).await;
    let reply = gateway.records("unknown").json(&json!({"n": 1})).send().await;
    reply.problem(404, "no_such_stream");
    assert_eq!(gateway.get("/v1/streams").await.expect(200)["streams"], json!([]));
    assert!(gateway.scalar::<bool>("select to_regclass('streams.unknown') is null").await);

    // Neither by someone who may only ingest.
    let gateway = Gateway::start().await;
    let token = gateway
        .post("/v1/tokens", &json!({"name": "sender", "user": "admin", "scopes": ["ingest"]}))
        .await;
    let sender = gateway.with_token(token.expect(201)["token"].as_str().unwrap());
    sender.records("unknown").json(&json!({"n": 1})).send().await.problem(404, "no_such_stream");
    gateway.create_stream(&json!({"name": "known"})).await;
    sender.records("known").json(&json!({"n": 1})).send().await.expect(202);
}

#[tokio::test]
async fn bad_records_are_set_aside_and_the_good_ones_taken() {
    let gateway = Gateway::start().await;
    gateway
        .create_stream(&json!({"name": "mixed", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    let body = json!([{"n": 1}, {"n": "noon"}, {"n": 2}, 3, {"n": 4}]);
    let reply = gateway.records("mixed").json(&body).send().await.expect(202);
    assert_eq!(members(&reply), ["accepted", "quarantined", "position", "errors"]);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(3), &json!(2)));
    assert_eq!(reply["errors"][0]["record"], 2);
    assert_eq!(reply["errors"][1]["record"], 4);
    gateway.wait_committed(&reply["position"]).await;
    assert_eq!(gateway.column::<i32>("select n from streams.mixed order by id").await, [1, 2, 4]);
    let kept: Vec<String> = gateway
        .column("select convert_from(raw, 'UTF8') from tidegate.quarantine order by record")
        .await;
    assert_eq!(kept, [r#"{"n":"noon"}"#, "3"]);

    let reply =
        gateway.records("mixed").json(&body).query("ack", "commit").send().await.expect(201);
    assert_eq!(members(&reply), ["committed", "duplicates", "quarantined", "position", "errors"]);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(3), &json!(2)));
    assert_eq!(gateway.rows("mixed").await, 6);
}

#[tokio::test]
async fn with_on_error_reject_one_bad_record_means_that_nothing_is_taken() {
    let gateway = Gateway::start().await;
    gateway
        .create_stream(&json!({"name": "strict", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    let before = gateway.wait_all_committed().await;
    let bodies = [
        ("application/json", "[{\"n\":1},{\"n\":2},{\"n\":\"noon\"},{\"n\":99999999999}]"),
        ("application/x-ndjson", "{\"n\":1}\n{\"n\":2}\n{\"n\":\"noon\"}\n{\"n\":99999999999}\n"),
        ("text/csv", "n\n1\n2\nnoon\n99999999999\n"),
    ];
    for (format, body) in bodies {
        for ack in ["journal", "commit"] {
            let request = gateway.records("strict").body(format, body).query("on_error", "reject");
            let problem = request.query("ack", ack).send().await.problem(422, "rejected");
            assert_eq!((&problem["accepted"], &problem["quarantined"]), (&json!(0), &json!(0)));
            let errors = problem["errors"].as_array().unwrap();
            let told: Vec<_> = errors
                .iter()
                .map(|error| (error["record"].as_u64(), error["code"].as_str()))
                .collect();
            assert_eq!(
                told,
                [(Some(3), Some("invalid_type")), (Some(4), Some("out_of_range"))],
                "{format}"
            );
        }
    }
    assert_eq!(gateway.wait_all_committed().await, before, "nothing reached the journal");
    assert_eq!(gateway.rows("strict").await, 0);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);

    let good = gateway
        .records("strict")
        .csv("n\n1\n2\n")
        .query("on_error", "reject")
        .query("ack", "commit");
    assert_eq!(good.send().await.expect(201)["committed"], 2);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_reject_is_refused_whole() {
    let gateway = Gateway::with(&["--entry-bytes-max=100000"]).await;
    gateway.create_stream(&json!({"name": "strict"})).await;
    let lines = |count: usize| (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>();
    let request = gateway.records("strict").ndjson(lines(20_000)).query("on_error", "reject");
    request.send().await.problem(413, "too_large_to_reject");
    // Small enough as it is sent, but not as rows, of which each has an id and a time.
    let request =
        gateway.records("strict").ndjson("{}\n".repeat(30_000)).query("on_error", "reject");
    let problem = request.send().await.problem(413, "too_large_to_reject");
    assert!(problem["detail"].as_str().unwrap().contains("as rows"), "{problem}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("strict").await, 0);
    let request = gateway
        .records("strict")
        .ndjson(lines(2_000))
        .query("on_error", "reject")
        .query("ack", "commit");
    assert_eq!(request.send().await.expect(201)["committed"], 2_000);
}

#[tokio::test]
async fn a_single_invalid_record_is_422_and_kept() {
    let gateway = Gateway::start().await;
    gateway
        .create_stream(&json!({"name": "one", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    let problem = gateway
        .records("one")
        .json(&json!({"n": "noon"}))
        .send()
        .await
        .problem(422, "invalid_record");
    let error = json!({
        "record": 1, "column": "n", "code": "invalid_type", "message": "expected integer, got \"noon\""
    });
    assert_eq!(problem["errors"], json!([error]));
    assert_eq!(problem["quarantined"], 1);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("one").await, 0);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 1);
}

#[tokio::test]
async fn a_large_body_becomes_several_entries_and_all_its_rows() {
    let gateway = Gateway::start().await;
    const RECORDS: usize = 30_000;
    // Pretty-printed, so that the framer meets white space and cuts everywhere.
    let records: Vec<Value> =
        (0..RECORDS).map(|n| json!({"n": n, "text": format!("number {n}")})).collect();
    let body = serde_json::to_string_pretty(&records).unwrap();
    let reply =
        gateway.records("large").body("application/json", body).query("ack", "commit").send().await;
    assert_eq!(reply.expect(201)["committed"], RECORDS);
    let (count, distinct, sum) = (
        gateway.rows("large").await,
        gateway.scalar::<i64>("select count(distinct payload->>'n') from streams.large").await,
        gateway
            .scalar::<i64>("select sum((payload->>'n')::bigint)::bigint from streams.large")
            .await,
    );
    assert_eq!((count, distinct), (30_000, 30_000));
    assert_eq!(sum, 30_000 * 29_999 / 2);
    let ordered = "select bool_and(ordered) from (select (payload->>'n')::int
        = row_number() over (order by id) - 1 as ordered from streams.large) rows";
    assert!(gateway.scalar::<bool>(ordered).await, "ids follow the order of the body");
}

#[tokio::test]
async fn every_media_type_s_spelling_is_understood() {
    let gateway = Gateway::start().await;
    for (content_type, body) in [
        ("application/json; charset=utf-8", "{\"n\":1}"),
        ("Application/JSON;charset=\"UTF-8\"", "{\"n\":1}"),
        ("application/ndjson", "{\"n\":1}\n"),
        ("application/jsonl", "{\"n\":1}"),
        ("text/csv; header=present", "n\n1\n"),
    ] {
        let reply = gateway.records("spelled").body(content_type, body).send().await;
        assert_eq!(reply.expect(202)["accepted"], 1, "{content_type}");
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let gateway = Gateway::start().await;
    for (name, value) in
        [("ack", "never"), ("on_error", "ignore"), ("return", "rows"), ("acknowledge", "commit")]
    {
        let reply = gateway.records("asked").json(&json!({"n": 1})).query(name, value).send().await;
        assert_eq!(reply.status, 400, "{name}={value}: {}", reply.body);
    }
    let reply = Reply::to(gateway.request(Method::PUT, "/v1/streams/asked/records")).await;
    assert_eq!(reply.status, 405);
    assert!(
        gateway.scalar::<bool>("select to_regclass('streams.asked') is null").await,
        "nothing came of it"
    );
}

#[tokio::test]
async fn the_position_tells_when_the_records_are_committed() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "placed"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let started = Instant::now();
    let first = gateway.records("placed").json(&json!({"n": 1})).send().await.expect(202);
    let second = gateway.records("placed").json(&json!({"n": 2})).send().await.expect(202);
    assert!(parse_position(&first["position"]) < parse_position(&second["position"]));
    let status = gateway.get("/v1/status").await.expect(200);
    let journal = &status["journal"];
    assert_eq!(journal["synced"], second["position"]);
    assert!(
        parse_position(&journal["committed"]) < parse_position(&first["position"]),
        "{journal}"
    );
    let waiting = parse_position(&journal["synced"]).0 - parse_position(&journal["committed"]).0;
    assert_eq!(journal["backlog_bytes"], waiting);
    let totals = &status["streams"]["placed"];
    assert_eq!((&totals["accepted"], &totals["committed"]), (&json!(2), &json!(0)));
    // The age of the oldest record that waits, in seconds.
    let read_at = eventually("the lag grows", async || {
        let lag = gateway.get("/v1/status").await.expect(200)["commit_lag_seconds"].as_f64()?;
        (lag >= 1.0).then(|| (lag, started.elapsed().as_secs_f64()))
    });
    let (lag, since) = read_at.await;
    assert!(lag <= since + 0.1, "{lag} s, {since} s after it was sent");
    stall.release().await;
    gateway.wait_committed(&second["position"]).await;
    assert_eq!(gateway.rows("placed").await, 2);
    let lag = eventually("no lag is left", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        status["commit_lag_seconds"].as_f64().filter(|_| status["journal"]["backlog_bytes"] == 0)
    })
    .await;
    assert!(lag.abs() < f64::EPSILON, "{lag}");
    assert_eq!(gateway.total("placed", "committed").await, 2);
}
