//! The same records as JSON, NDJSON and CSV.

use reqwest::Method;
use serde_json::{Value, json};

use super::{FLIGHTS, ask, question, sample};
use crate::support::{Client, Gateway, eventually};

async fn text_of(client: &Client, path: &str, accept: Option<&str>) -> (String, String) {
    let mut request = client.request(Method::GET, path);
    if let Some(accept) = accept {
        request = request.header("Accept", accept);
    }
    let response = request.send().await.unwrap().error_for_status().unwrap();
    let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    (media_type, response.text().await.unwrap())
}

#[tokio::test]
async fn every_format_has_every_record() {
    let gateway = sample().await;
    for stream in ["flights", "docs", "texts", "daily"] {
        let page = ask(&gateway, stream, &[("limit", "10000"), ("order", "id")]).await;
        let page = page["records"].as_array().unwrap();
        let ordered = question(stream, &[("order", "id")]);
        let (media_type, lines) =
            text_of(&gateway, &ordered, Some("text/html, application/x-ndjson;q=0.9")).await;
        assert_eq!(media_type, "application/x-ndjson");
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(&lines, page, "{stream}");
        let (_, unordered) =
            text_of(&gateway, &question(stream, &[("format", "ndjson")]), None).await;
        assert_eq!(unordered.lines().count(), usize::try_from(FLIGHTS).unwrap());
        let (_, some) =
            text_of(&gateway, &question(stream, &[("format", "ndjson"), ("limit", "3")]), None)
                .await;
        let some: Vec<Value> =
            some.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let newest: Vec<Value> = page.iter().rev().take(3).cloned().collect();
        assert_eq!(some, newest, "{stream}: with a limit they are the newest");
    }
}

#[tokio::test]
async fn csv_that_is_sent_again_makes_the_same_rows() {
    let gateway = sample().await;
    let columns = "n,carrier,dep_delay,air_time,fare,flown,time_hour,day,details";
    let path = question("flights", &[("select", columns), ("order", "n")]);
    let (media_type, csv) = text_of(&gateway, &path, Some("text/csv")).await;
    assert_eq!(media_type, "text/csv; charset=utf-8; header=present");
    let mut definition = gateway.get("/v1/streams/flights").await.expect(200);
    let definition = json!({"name": "again", "columns": definition["columns"].take()});
    gateway.create_stream(&definition).await;
    gateway.records("again").csv(csv).query("ack", "commit").send().await.expect(201);
    let different: i64 = gateway
        .scalar(format!(
            "select count(*) from (select {columns} from streams.flights except select {columns} from streams.again) rows"
        ))
        .await;
    assert_eq!((different, gateway.rows("again").await), (0, FLIGHTS));
}

#[tokio::test]
async fn an_altered_table_gives_its_own_values() {
    let gateway = sample().await;
    gateway.execute("alter table streams.flights alter carrier type varchar(20), alter dep_delay type numeric, alter air_time type money using air_time::numeric::money, add more inet default '10.0.0.1'").await;
    let record = ask(&gateway, "flights", &[("n", "eq.1")]).await["records"][0]["data"].clone();
    assert_eq!((&record["carrier"], &record["dep_delay"]), (&json!("AA"), &json!(-9)));
    assert_eq!(record["air_time"], json!("$0.14"));
    gateway.execute("alter table streams.flights drop fare").await;
    // The reply to the same question may be kept for a while.
    let path = question("flights", &[("n", "eq.2")]);
    gateway.get(&path).await.problem(409, "table_changed");
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_no_connection_behind() {
    let gateway = Gateway::start().await;
    let lines = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1_000)).repeat(20_000);
    gateway.records("large").ndjson(lines).query("ack", "commit").send().await.expect(201);
    for _ in 0..12 {
        let request = gateway.request(Method::GET, &question("large", &[("format", "ndjson")]));
        let mut response = request.send().await.unwrap().error_for_status().unwrap();
        assert!(response.chunk().await.unwrap().is_some());
    }
    eventually("none of their statements goes on", async || {
        let copying = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and query ilike 'copy (select%'";
        (gateway.scalar::<i64>(copying).await == 0).then_some(())
    })
    .await;
    let whole = question("large", &[("format", "ndjson")]);
    assert_eq!(text_of(&gateway, &whole, None).await.1.lines().count(), 20_000);
}
