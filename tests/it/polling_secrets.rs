//! Secrets of polling jobs: they reach the address that they were given for, and nobody else.

use serde_json::{Value, json};

use crate::polling::{finished, make, run};
use crate::support::{ALLOW_LOOPBACK, Client, Gateway, ItemsApi};

const YEAR_MS: u64 = 31_536_000_000;

/// A job that does not run.
async fn make_paused(client: &Client, url: &str, secrets: Value) -> String {
    let body = json!({"url": url, "interval_ms": YEAR_MS, "paused": true, "stream": "x", "secret_headers": secrets});
    let job = client.post("/v1/polling-jobs", &body).await.expect(201);
    format!("/v1/polling-jobs/{}", job["id"].as_str().unwrap())
}

#[tokio::test]
async fn kept_secrets_do_not_follow_an_address_to_another_host() {
    let (gateway, here) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let there = ItemsApi::start().await;
    here.serve("/x", json!([{"id": 1}]));
    there.serve("/x", json!([{"id": 1}]));
    let id = make(&gateway, &here, "/x", json!({"secret_headers": {"x-mine": "hunter2"}})).await;
    let path = format!("/v1/polling-jobs/{id}");
    let before = gateway.get(&path).await.expect(200);
    for patch in [
        json!({"url": there.url("/x")}),
        json!({"url": there.url("/x"), "secret_headers": ["x-mine"]}),
        json!({"url": here.url("/x").replace("http:", "https:")}),
    ] {
        let problem = gateway.patch(&path, &patch).await.problem(422, "invalid_job");
        assert_eq!(problem["place"], "/secret_headers/x-mine", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("give it again"), "{problem}");
    }
    assert_eq!(gateway.get(&path).await.expect(200), before);
    gateway.patch(&path, &json!({"url": here.url("/x?all=1")})).await.expect(200);
    run(&gateway, &id).await;
    assert_eq!(here.header("/x", "x-mine").as_deref(), Some("hunter2"), "the same host may");

    let anew = json!({"url": there.url("/x"), "secret_headers": {"x-mine": "other"}});
    gateway.patch(&path, &anew).await.expect(200);
    run(&gateway, &id).await;
    assert_eq!(there.header("/x", "x-mine").as_deref(), Some("other"));
    let without = json!({"url": here.url("/x"), "secret_headers": null});
    gateway.patch(&path, &without).await.expect(200);
    run(&gateway, &id).await;
    assert_eq!(here.header("/x", "x-mine"), None);
}

#[tokio::test]
async fn kept_secrets_follow_to_https_and_not_back() {
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let path = make_paused(&gateway, "http://api.test/x", json!({"x-mine": "hunter2"})).await;
    gateway.patch(&path, &json!({"url": "https://api.test/x"})).await.expect(200);
    let back = json!({"url": "http://api.test/x"});
    let problem = gateway.patch(&path, &back).await.problem(422, "invalid_job");
    assert_eq!(problem["place"], "/secret_headers/x-mine");
}

#[tokio::test]
async fn credentials_of_the_short_form_do_not_follow_its_address() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let there = ItemsApi::start().await;
    for api in [&api, &there] {
        api.serve("/x", json!([{"id": 1}]));
    }
    let with =
        |api: &ItemsApi, who: &str| api.url("/x").replace("http://", &format!("http://{who}@"));
    let body =
        json!({"userId": 7, "apiEndpoint": with(&api, "ada:hunter2"), "pollingInterval": YEAR_MS});
    let job = gateway.post("/polling-jobs", &body).await.expect(201);
    let id = job["id"].as_str().unwrap();
    finished(&gateway, id, 0).await;
    let path = format!("/polling-jobs/{id}");
    let away = json!({"apiEndpoint": there.url("/x")});
    let problem = gateway.patch(&path, &away).await.problem(422, "invalid_job");
    assert_eq!(problem["place"], "/apiEndpoint", "{problem}");
    gateway.patch(&path, &json!({"apiEndpoint": with(&there, "eve:new")})).await.expect(200);
    run(&gateway, id).await;
    assert_eq!(there.header("/x", "authorization").as_deref(), Some("Basic ZXZlOm5ldw=="));
}
