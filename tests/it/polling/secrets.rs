//! Secrets of polling jobs: they reach the address that they were given for, and no other.

use serde_json::{Value, json};

use crate::polling::jobs::{finished, make, run, runs};
use crate::support::{ALLOW_LOOPBACK, Answer, Api, Client, Gateway, ItemsApi};

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

/// An API whose answers fail, each in its way, below a path with a secret in it.
async fn failing() -> (Api, Vec<String>) {
    let api = Api::start().await;
    let paths = ["/path7secret/status", "/path7secret/words", "/path7secret/away"];
    api.always(paths[0], Answer::text(500, "answer7secret"));
    api.always(paths[1], Answer::text(200, "answer7secret is no JSON"));
    api.always(paths[2], Answer::redirect(302, "http://127.0.0.1:1/path7secret?sign=query7secret"));
    let mut urls: Vec<String> = paths.iter().map(|path| api.url(path)).collect();
    urls.push(api.url("/path7secret/tls").replace("http:", "https:"));
    (api, urls)
}

#[tokio::test]
async fn no_secret_is_in_logs_replies_or_tables() {
    // As it is given, and as it is sent.
    const PASSWORD: [&str; 2] = ["hunter2", "YWRhOmh1bnRlcjI"];
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let (_api, urls) = failing().await;
    let mut replies = String::new();
    for (index, url) in urls.iter().enumerate() {
        let url = url.replace("//", "//ada:hunter2@") + "?token=query7secret";
        let stream = format!("s{index}");
        let body = json!({
            "url": url, "stream": stream, "interval_ms": YEAR_MS, "headers": {"apikey": "hunter2"},
        });
        let preview = gateway.post("/v1/polling-jobs/preview", &body).await;
        replies.push_str(&preview.problem(422, "preview_failed").to_string());
        let job = gateway.post("/v1/polling-jobs", &body).await.expect(201);
        assert_eq!(job["secret_headers"], json!(["apikey", "authorization"]));
        let id = job["id"].as_str().unwrap();
        let failed = finished(&gateway, id, 0).await;
        assert_eq!(failed["status"], "failed", "{failed}");
        replies.push_str(&failed["error"].to_string());
        let path = format!("/v1/polling-jobs/{id}");
        replies.push_str(&gateway.get(&path).await.expect(200).to_string());
    }
    assert!(replies.contains("path7secret"), "a user who may see the job is told what was asked");
    let runs = "select string_agg(run::text, ' ') from tidegate.polling_runs run";
    let jobs = "select string_agg(job::text, ' ') from tidegate.polling_jobs job";
    let tables = [gateway.scalar::<String>(runs).await, gateway.scalar(jobs).await].concat();
    let log = gateway.log();
    assert_eq!(log.matches("a polling job's run failed").count(), urls.len(), "{log}");
    for secret in PASSWORD {
        for text in [&replies, &tables, &log] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    for secret in ["path7secret", "answer7secret", "query7secret"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    for reason in ["http_status", "not_json", "connection_failed", "tls_failed"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
}

#[tokio::test]
async fn a_header_that_sounds_secret_is_not_shown() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    let headers = json!({"X-Vault-Token": "hunter2", "x-tenant": "7"});
    let id = make(&gateway, &api, "/x", json!({"headers": headers})).await;
    let job = gateway.get(&format!("/v1/polling-jobs/{id}")).await.expect(200);
    assert_eq!(job["secret_headers"], json!(["x-vault-token"]));
    assert_eq!(job["headers"], json!({"x-tenant": "7"}));
    assert_eq!(api.header("/x", "x-vault-token").as_deref(), Some("hunter2"));
    assert_eq!(runs(&gateway, &id).await[0]["status"], "success");
}
