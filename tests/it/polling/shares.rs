//! What one user's jobs and previews may take of a gateway: their APIs may be as slow as they like, and others are asked.
//!
//! Before: jobs were claimed by their due times alone, so that as many slow jobs of one user as there are runs held up all
//! others; and previews asked without a limit, because their permit was taken after the answer.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::polling::jobs::make;
use crate::support::people::{Token, add_user};
use crate::support::{ALLOW_LOOPBACK, Client, Gateway, ItemsApi, eventually};

const YEAR_MS: u64 = 31_536_000_000;

async fn ada(gateway: &Gateway) -> Client {
    add_user(gateway, "ada", "member").await;
    gateway.with_token(&Token::of(gateway, "ada", &["jobs", "read"], json!({})).await.text)
}

fn asked_long(url: &str) -> Value {
    json!({"url": url, "interval_ms": YEAR_MS, "timeout_ms": 300_000})
}

#[tokio::test]
async fn many_slow_jobs_of_one_user_hold_up_no_other_users_job() {
    let flags = ["--polling-runs-max=8", "--polling-host-requests-max=64"];
    let flags = [&ALLOW_LOOPBACK[..], &flags].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let ada = ada(&gateway).await;
    api.serve("/slow", json!([{"id": 1}]));
    api.serve("/x", json!([{"id": 1}]));
    api.hold("/slow", true);
    for number in 0..12 {
        let mut body = asked_long(&api.url("/slow"));
        body["stream"] = json!(format!("slow{number}"));
        ada.post("/v1/polling-jobs", &body).await.expect(201);
    }
    eventually("the slow API is asked", async || (api.asked("/slow") >= 7).then_some(())).await;
    // It waits for its first run.
    make(&gateway, &api, "/x", json!({})).await;
    assert_eq!(gateway.rows("x").await, 1);
    assert_eq!(api.asked("/slow"), 7, "one of the runs is for others");
    api.hold("/slow", false);
    eventually("all of them have their turn", async || (api.asked("/slow") == 12).then_some(()))
        .await;
}

#[tokio::test]
async fn previews_have_their_limit_before_an_api_is_asked() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let ada = ada(&gateway).await;
    api.serve("/x", json!([{"id": 1}]));
    api.hold("/x", true);
    let mut previews = JoinSet::new();
    for _ in 0..3 {
        let (client, body) = (ada.clone(), asked_long(&api.url("/x")));
        previews.spawn(async move { client.post("/v1/polling-jobs/preview", &body).await });
    }
    let refused = previews.join_next().await.expect("there are three").unwrap();
    refused.problem(429, "too_many_at_once");
    assert_eq!(api.asked("/x"), 2);
    // Another user's is asked for all the same.
    let (client, body) = (Client::clone(&gateway), asked_long(&api.url("/x")));
    previews.spawn(async move { client.post("/v1/polling-jobs/preview", &body).await });
    eventually("the other user's", async || (api.asked("/x") == 3).then_some(())).await;
    api.hold("/x", false);
    while let Some(preview) = previews.join_next().await {
        assert_eq!(preview.unwrap().expect(200)["count"], 1);
    }
}
