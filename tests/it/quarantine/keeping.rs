//! Refused records are kept with everything that a person needs to correct them.

use serde_json::{Value, json};
use tidegate::db::quarantine_limits::{self, Drops};

use crate::support::{Gateway, Metrics, Reply, Stall};

/// The kept records without what differs from run to run, in the order of the body.
async fn kept(gateway: &Gateway) -> Vec<Value> {
    gateway
        .column(
            "select to_jsonb(q) - '{id,received_at,raw,csv_header,csv_null,csv_delimiter,csv_quote,replaying_journal}'::text[] || jsonb_build_object('raw', encode(raw, 'escape'))
             from tidegate.quarantine q order by id, record",
        )
        .await
}

#[tokio::test]
async fn the_place_the_reason_and_the_bytes_as_sent_are_kept() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    let stream = gateway.create_stream(&json!({"name": "places", "columns": columns})).await;
    let bodies = [
        ("application/json", "[{\"n\":1}, {\"n\" : \"noon\", \"x\":  1}, [2] ]"),
        ("application/x-ndjson", "{\"n\":1}\n\n  {\"n\" : \"noon\"}  \r\nnot json\n"),
        ("text/csv", "n,note\n1,\nnoon,\"a \"\"b\"\"\nc\"\n1\n"),
    ];
    for (format, body) in bodies {
        let reply =
            gateway.records("places").body(format, body).query("ack", "commit").send().await;
        assert_eq!(reply.expect(201)["quarantined"], 2, "{format}");
    }
    gateway.wait_all_committed().await;
    let row = |record: u64, line: Option<u64>, column: Option<&str>, code: &str, raw: &str| {
        json!({
            "stream_id": stream["id"], "source": "http", "user_name": "local", "record": record, "line": line,
            "column_name": column, "code": code, "raw": raw, "truncated": false, "sqlstate": null, "position": null,
            "format": "json",
        })
    };
    let csv = |mut row: Value| {
        row["format"] = json!("csv");
        row
    };
    let expected = [
        row(2, None, Some("n"), "invalid_type", "{\"n\" : \"noon\", \"x\":  1}"),
        row(3, None, None, "not_an_object", "[2]"),
        row(2, Some(3), Some("n"), "invalid_type", "{\"n\" : \"noon\"}  "),
        row(3, Some(4), None, "invalid_json", "not json"),
        csv(row(2, Some(3), Some("n"), "invalid_type", "noon,\"a \"\"b\"\"\nc\"")),
        csv(row(3, Some(5), None, "wrong_field_count", "1")),
    ];
    let mut found = kept(&gateway).await;
    for row in &mut found {
        let message = row.as_object_mut().unwrap().remove("message").unwrap();
        assert!(message.as_str().is_some_and(|text| !text.is_empty()), "{row}");
    }
    // Within a request the order of the ids is not the order of the records.
    let key = |row: &Value| row["raw"].to_string();
    let mut expected = expected.to_vec();
    expected.sort_by_key(key);
    found.sort_by_key(key);
    assert_eq!(found, expected);
    let headers: Vec<String> = gateway
        .column("select distinct convert_from(csv_header, 'UTF8') from tidegate.quarantine where format = 'csv'")
        .await;
    assert_eq!(headers, ["n,note"]);
    let moments: bool = gateway
        .scalar("select bool_and(received_at between now() - interval '1 minute' and now()) from tidegate.quarantine")
        .await;
    assert!(moments);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_kept_as_they_are() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "bytes"})).await;
    let raw = b"{\"a\":\"\xff\x00\xfe\"}";
    let body = [&raw[..], b"\n{\"a\":1}\n"].concat();
    let reply =
        gateway.records("bytes").ndjson(body).query("ack", "commit").send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(1), &json!(1)));
    assert_eq!(gateway.scalar::<Vec<u8>>("select raw from tidegate.quarantine").await, raw);
}

#[tokio::test]
async fn only_what_is_too_long_is_cut() {
    const RECORD_BYTES_MAX: usize = 300_000;
    const RAW_BYTES_MAX: usize = 64 << 10;
    let gateway = Gateway::with(&[&format!("--entry-bytes-max={RECORD_BYTES_MAX}")]).await;
    gateway
        .create_stream(&json!({"name": "long", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    let record = |length: usize| format!("{{\"n\":\"{}\"}}", "x".repeat(length));
    let row = |length: usize| "y".repeat(length);
    let requests = [
        gateway.records("long").ndjson(format!("{}\n{}\n", record(200_000), record(400_000))),
        gateway
            .records("long")
            .body("application/json", format!("[{},{}]", record(200_000), record(400_000))),
        gateway.records("long").csv(format!("n\n{}\n{}\n", row(200_000), row(400_000))),
    ];
    for request in requests {
        let reply = request.send().await.expect(202);
        assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(0), &json!(2)));
        assert_eq!(reply["errors"][0]["code"], "invalid_type");
        assert_eq!(reply["errors"][1]["code"], "too_large");
        let message = reply["errors"][0]["message"].as_str().unwrap();
        assert!(
            message.len() < 500,
            "a message does not repeat a long value: {} bytes",
            message.len()
        );
    }
    gateway.wait_all_committed().await;
    let mut found: Vec<Value> = gateway
        .column("select jsonb_build_array(code, length(raw), truncated) from tidegate.quarantine")
        .await;
    found.sort_by_key(ToString::to_string);
    let whole = |bytes: usize| json!(["invalid_type", bytes, false]);
    let cut = json!(["too_large", RAW_BYTES_MAX, true]);
    let mut expected =
        vec![whole(200_000), whole(200_008), whole(200_008), cut.clone(), cut.clone(), cut];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(found, expected);
    let beginnings: Vec<bool> = gateway
        .column(
            "select starts_with(encode(raw, 'escape'), '{\"n\":\"xxx') or starts_with(encode(raw, 'escape'), 'yyy')
             from tidegate.quarantine",
        )
        .await;
    assert_eq!(beginnings, [true; 6]);
}

#[tokio::test]
async fn kept_records_are_durable_before_the_reply() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "lasting"})).await;
    for round in 0..3 {
        let stall = Stall::of_writers(gateway.pool()).await;
        let lines = format!("{{\"n\":{round}}}\nbroken {round}\n");
        gateway.records("lasting").ndjson(lines).send().await.expect(202);
        gateway.records("lasting").json(&json!([round])).send().await.expect(202);
        gateway.kill9().await;
        stall.release().await;
        gateway.restart().await;
        gateway.wait_all_committed().await;
    }
    let raw: Vec<String> = gateway
        .column("select convert_from(raw, 'UTF8') from tidegate.quarantine order by 1")
        .await;
    assert_eq!(raw, ["0", "1", "2", "broken 0", "broken 1", "broken 2"]);
    assert_eq!(gateway.rows("lasting").await, 3);
}

#[tokio::test]
async fn a_hundred_errors_are_told_and_all_are_kept() {
    let gateway = Gateway::with(&["--quarantine-request-records-max=20000"]).await;
    gateway.create_stream(&json!({"name": "many"})).await;
    // More than fit one entry.
    let lines: String = (0..25_000)
        .map(|n| if n % 5 == 0 { format!("{{\"n\":{n}}}\n") } else { format!("bad {n}\n") })
        .collect();
    let reply =
        gateway.records("many").ndjson(lines).query("ack", "commit").send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(5_000), &json!(20_000)));
    let errors = reply["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &reply["errors_omitted"]), (100, &json!(19_900)));
    assert_eq!((&errors[99]["record"], &errors[99]["line"]), (&json!(125), &json!(125)));
    gateway.wait_all_committed().await;
    let distinct: i64 = gateway.scalar("select count(distinct raw) from tidegate.quarantine").await;
    assert_eq!(distinct, 20_000);
    let placed: bool = gateway
        .scalar("select bool_and(convert_from(raw, 'UTF8') = 'bad ' || record - 1) from tidegate.quarantine")
        .await;
    assert!(placed, "each is kept with its own place");
    assert_eq!(gateway.total("many", "quarantined").await, 20_000);
    let metrics = Metrics::read(&gateway).await;
    let total = metrics.sum("tidegate_records_quarantined_total", "stream", "many");
    assert!((total - 20_000.0).abs() < 0.5, "{total}");
}

#[tokio::test]
async fn each_is_kept_with_its_stream_and_its_sender() {
    let gateway = Gateway::start().await;
    let ada = json!({"name": "ada", "password": "correct horse battery"});
    gateway.post("/v1/users", &ada).await.expect(201);
    let mut ids = Vec::new();
    for stream in ["one", "two"] {
        ids.push(gateway.create_stream(&json!({"name": stream})).await["id"].as_i64().unwrap());
        let url = format!("http://{}/v1/streams/{stream}/records", gateway.address());
        let request =
            reqwest::Client::new().post(url).basic_auth("ada", Some("correct horse battery"));
        let request = request.header("content-type", "application/x-ndjson").body("broken\n");
        Reply::to(request).await.expect(202);
    }
    gateway.wait_all_committed().await;
    let found: Vec<Value> = gateway
        .column("select jsonb_build_array(stream_id, user_name) from tidegate.quarantine order by stream_id")
        .await;
    assert_eq!(found, [json!([ids[0], "ada"]), json!([ids[1], "ada"])]);
}

/// Before: a host whose clock was a month ahead dropped all that the quarantine had.
#[tokio::test]
async fn a_gateway_whose_clock_is_ahead_drops_no_row_before_its_time() {
    let gateway = Gateway::start().await;
    gateway
        .create_stream(&json!({"name": "kept", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    gateway.post("/v1/streams/kept/records?ack=commit", &json!([{"n": "bad"}, {"n": 1}])).await;
    gateway.wait_all_committed().await;
    let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(365 * 200);
    let drop_old = async |days: i64| {
        let dropping = quarantine_limits::begin_dropping(&gateway.pool().clone().into()).await;
        let mut dropping = dropping.unwrap().expect("no other gateway is at it");
        let kept_for = time::Duration::days(days);
        let rows = dropping.drop_rows(Drops::Old { now, kept_for, accepted: false }).await.unwrap();
        dropping.commit().await.unwrap();
        rows
    };
    assert_eq!(drop_old(1).await, 0, "it came a moment ago");
    assert_eq!(drop_old(-1).await, 1, "the day before tomorrow is over");
}
