//! Quotas of tokens: over them a sender is told 429 and when to come again, and nothing of the request is taken.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::people::{Token, add_user};
use crate::support::{Client, Gateway, Metrics};

async fn limited(gateway: &Gateway, records_per_second: u32) -> Client {
    let rate = json!({"records_per_second": records_per_second});
    gateway.with_token(&Token::of(gateway, "ada", &["ingest"], rate).await.text)
}

fn records(count: u64) -> Value {
    (0..count).map(|n| json!({"n": n})).collect()
}

#[tokio::test]
async fn over_its_rate_a_token_is_told_429_and_when_to_come_again() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "metered"})).await;
    let client = limited(&gateway, 1_000).await;
    // Much more than the bucket holds: taken whole, and owed.
    let started = Instant::now();
    client.records("metered").json(&records(3_500)).send().await.expect(202);
    let refused = client.records("metered").json(&records(1)).send().await;
    let advice = refused.retry_after_seconds();
    let over_at = started + Duration::from_secs(3);
    assert!((1..=3).contains(&advice), "{advice} s");
    assert!(Instant::now() + Duration::from_secs(advice + 1) >= over_at, "{advice} s");
    let problem = refused.problem(429, "quota_exceeded");
    assert_eq!(problem["records_per_second"], 1_000);
    // Others, also of the same user, go on.
    let other = limited(&gateway, 1).await;
    other.records("metered").json(&json!({"n": 1})).send().await.expect(202);
    let metrics = Metrics::read(&gateway).await;
    assert!(metrics.sum("tidegate_intake_refused_total", "reason", "quota_exceeded") >= 1.0);
    // A sender that comes when told is let in.
    tokio::time::sleep(Duration::from_secs(advice)).await;
    client.records("metered").json(&records(1)).send().await.expect(202);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("metered").await, 3_502);
}

#[tokio::test]
async fn what_is_refused_costs_nothing_of_the_quota() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "metered"})).await;
    let client = limited(&gateway, 1).await;
    for _ in 0..20 {
        client.records("metered").body("application/json", "[{").send().await.expect(400);
        client.records("nowhere").json(&records(9)).send().await.problem(404, "no_such_stream");
        let one_bad = json!([{"n": 1}, 2]);
        let request = client.records("metered").json(&one_bad).query("on_error", "reject");
        request.send().await.problem(422, "rejected");
    }
    client.records("metered").json(&records(100)).send().await.expect(202);
    client.records("metered").json(&records(1)).send().await.problem(429, "quota_exceeded");
}

/// Keeping them costs as much as keeping good ones.
#[tokio::test]
async fn records_that_go_to_the_quarantine_are_paid_for() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "metered", "columns": columns})).await;
    // All of them invalid; some of them; and one way to send them for each kind of request.
    let lines =
        |bad: usize, good: usize| "{\"n\":\"x\"}\n".repeat(bad) + &"{\"n\":1}\n".repeat(good);
    for (bad, good, key) in [(1_000, 0, None), (500, 500, None), (1_000, 0, Some("key"))] {
        // A minute's worth of invalid records is kept.
        let client = limited(&gateway, 20).await;
        let request = client.records("metered").ndjson(lines(bad, good));
        let request = match key {
            Some(key) => request.key(key),
            None => request,
        };
        let reply = request.send().await.expect(202);
        assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(good), &json!(bad)));
        let refused = client.records("metered").ndjson(lines(0, 1)).send().await;
        let advice = refused.retry_after_seconds();
        assert!((45..=50).contains(&advice), "{advice} s for a debt of 980 records");
        refused.problem(429, "quota_exceeded");
    }
}

#[tokio::test]
async fn a_rate_is_stored_shown_and_checked() {
    let mut gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "metered"})).await;
    limited(&gateway, 7).await;
    Token::of(&gateway, "ada", &["ingest"], json!({"records_per_second": null})).await;
    for wrong in [json!(0), json!(1_000_000_001), json!(-1), json!(1.5), json!("7")] {
        let token = json!({"name": "test", "user": "ada", "scopes": ["ingest"], "records_per_second": wrong});
        assert_eq!(gateway.post("/v1/tokens", &token).await.status, 422, "{wrong}");
    }
    gateway.restart().await;
    let listed = gateway.get("/v1/tokens").await.expect(200);
    let rates: Vec<&Value> = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["records_per_second"])
        .collect();
    assert_eq!(rates, [&json!(7), &Value::Null]);
}
