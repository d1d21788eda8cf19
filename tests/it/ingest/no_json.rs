//! A record that is no JSON harms no other: those around it are taken, and it is kept to be corrected.

use serde_json::{Value, json};

use crate::support::{Gateway, Reply};

/// What programs write that is no JSON.
const NO_JSON: [&str; 12] = [
    "nan",
    "-Infinity",
    "01",
    "{'n':2}",
    "{\"n\":2,}",
    "{\"n\":NaN}",
    "{\"n\":-Infinity}",
    "{\"n\":01}",
    "{\"n\":2 \"t\":3}",
    "{n:2}",
    "{\"t\":\"\\x\"}",
    "{\"t\":'a \"b\" ]}'}",
];

async fn gateway() -> Gateway {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "documents"})).await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "t", "type": "text"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    gateway
}

async fn send(gateway: &Gateway, stream: &str, body: &str) -> Reply {
    let records = gateway.records(stream).body("application/json", body.to_owned());
    records.query("ack", "commit").send().await
}

/// What the quarantine keeps of a stream, as it was sent, in the order in which it came.
async fn kept(gateway: &Gateway, stream: &str) -> Vec<String> {
    let query = "select convert_from(raw, 'UTF8') from tidegate.quarantine join tidegate.streams s on s.id = stream_id \
                 where s.name = '{}' and code = 'invalid_json' order by quarantine.id";
    gateway.column(query.replace("{}", stream)).await
}

#[tokio::test]
async fn an_item_of_an_array_is_kept_and_the_others_are_taken() {
    let gateway = gateway().await;
    for stream in ["documents", "typed"] {
        for item in NO_JSON {
            let body = format!("[{{\"n\":1}}, {item} ,{{\"n\":2}}]");
            let reply = send(&gateway, stream, &body).await.expect(201);
            let counts = (&reply["committed"], &reply["quarantined"]);
            assert_eq!(counts, (&json!(2), &json!(1)), "{item}: {reply}");
            let error = &reply["errors"][0];
            assert_eq!((&error["record"], &error["code"]), (&json!(2), &json!("invalid_json")));
        }
        assert_eq!(usize::try_from(gateway.rows(stream).await), Ok(2 * NO_JSON.len()));
        assert_eq!(kept(&gateway, stream).await, NO_JSON);
    }
}

#[tokio::test]
async fn a_message_names_nan_and_infinity() {
    let gateway = gateway().await;
    for item in ["nan", "{\"n\":NaN}", "{\"n\":-Infinity}", "{\"n\":Infinity}"] {
        for body in [format!("[{item}]"), format!("{item}\n")] {
            let format = if body.starts_with('[') { "json" } else { "x-ndjson" };
            let records = gateway.records("typed").body(&format!("application/{format}"), body);
            let reply = records.send().await.expect(202);
            let message = reply["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains("NaN") && message.contains("Infinity"), "{item}: {message}");
        }
    }
}

#[tokio::test]
async fn a_record_by_itself_is_422_kept_and_can_be_corrected() {
    let gateway = gateway().await;
    for body in ["{'n':2}", "{\"n\":2,}", "{\"n\":nan}", " {\"n\":01}\n", "{\"n\":['2}"] {
        let problem = send(&gateway, "typed", body).await.problem(422, "invalid_record");
        assert_eq!((&problem["accepted"], &problem["quarantined"]), (&json!(0), &json!(1)));
        assert_eq!(problem["errors"][0]["code"], "invalid_json", "{problem}");
        // The same without waiting, which goes the fast path.
        let records = gateway.records("documents").body("application/json", body);
        records.send().await.problem(422, "invalid_record");
    }
    gateway.wait_all_committed().await;
    assert_eq!(kept(&gateway, "documents").await.len(), 5);
    assert_eq!(kept(&gateway, "typed").await[3], "{\"n\":01}");

    let page = gateway.get("/v1/quarantine?stream=typed").await.expect(200);
    let id = page["records"][0]["id"].as_str().unwrap().to_owned();
    let replay = format!("/v1/quarantine/{id}/replay?ack=commit");
    let as_it_is = Reply::to(gateway.request(reqwest::Method::POST, &replay)).await;
    as_it_is.problem(422, "invalid_record");
    assert_eq!(gateway.post(&replay, &json!({"n": 2})).await.expect(201)["committed"], 1);
    assert_eq!(gateway.column::<i32>("select n from streams.typed").await, [2]);
    assert_eq!(kept(&gateway, "typed").await.len(), 4);
}

/// Longer than an entry, so that it is taken piece by piece.
#[tokio::test]
async fn a_large_array_goes_on_behind_what_is_no_json() {
    const RECORDS: usize = 60_000;
    let gateway = gateway().await;
    let item = |n: usize| match n % 1_000 {
        999 => format!("{{'n':{n},'t':'a \"quote\" ]}}'}}"),
        499 => "nan".to_owned(),
        _ => format!("{{\"n\":{n},\"t\":\"some text, so that it is long\"}}"),
    };
    let body = format!("[{}]", (0..RECORDS).map(item).collect::<Vec<_>>().join(","));
    let reply = send(&gateway, "typed", &body).await.expect(201);
    let bad = RECORDS / 500;
    let counts = (&reply["committed"], &reply["quarantined"]);
    assert_eq!(counts, (&json!(RECORDS - bad), &json!(bad)), "{}", reply["errors"][0]);
    let sum: i64 = gateway.scalar("select sum(n)::bigint from streams.typed").await;
    let expected: usize = (0..RECORDS).filter(|n| ![499, 999].contains(&(n % 1_000))).sum();
    assert_eq!(usize::try_from(sum), Ok(expected));
    assert_eq!(kept(&gateway, "typed").await.len(), bad);
}

#[tokio::test]
async fn with_reject_or_a_key_it_counts_as_any_other_invalid_record() {
    let gateway = gateway().await;
    let body = "[{\"n\":1},{'n':2},{\"n\":3}]";
    let records = || gateway.records("typed").body("application/json", body);
    let problem = records().query("on_error", "reject").send().await.problem(422, "rejected");
    assert_eq!((&problem["accepted"], &problem["quarantined"]), (&json!(0), &json!(0)));
    let mut first = Value::Null;
    for is_replayed in [false, true] {
        let reply = records().key("once").send().await;
        assert_eq!(reply.is_replayed(), is_replayed);
        let told = reply.expect(202);
        assert_eq!((&told["accepted"], &told["quarantined"]), (&json!(2), &json!(1)), "{told}");
        if is_replayed {
            assert_eq!(told, first);
        }
        first = told;
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("typed").await, 2);
}
