//! Which users may see which polling jobs, and that nothing tells a sealed password from a guess.
//!
//! Before: `POST /polling-jobs` with a token for other streams showed the job that was there, its address and its stream
//! (200), and did so only if the password in the address was the sealed one; a `PATCH` with the right secret left the job's
//! failures and its run under way as they were, with a wrong one it did not.

use serde_json::{Value, json};

use crate::polling::jobs::finished;
use crate::support::people::{Token, add_user};
use crate::support::{ALLOW_LOOPBACK, Client, Gateway, ItemsApi, eventually};

const YEAR_MS: u64 = 31_536_000_000;
/// Nothing runs, so that only requests change a job.
const NO_RUNS: [&str; 1] = ["--polling-runs-max=0"];

/// A client of ada's with a token for jobs, of all streams or of one.
async fn ada(gateway: &Gateway, streams: Value) -> Client {
    let rest = json!({"streams": streams});
    gateway.with_token(&Token::of(gateway, "ada", &["jobs", "read"], rest).await.text)
}

fn short(password: &str, stream: &str) -> Value {
    let url = format!("http://ada:{password}@api.test/x");
    json!({"userId": "7", "apiEndpoint": url, "pollingInterval": YEAR_MS, "stream": stream})
}

#[tokio::test]
async fn a_token_for_some_streams_sees_no_job_of_another_by_any_route() {
    let gateway = Gateway::with(&NO_RUNS).await;
    add_user(&gateway, "ada", "member").await;
    let (full, limited) = (ada(&gateway, json!(null)).await, ada(&gateway, json!(["mine"])).await);
    let job = full.post("/polling-jobs", &short("hunter2", "other")).await.expect(201);
    let id = job["id"].as_str().unwrap();
    let mut refusals = Vec::new();
    for (password, stream) in
        [("hunter2", "other"), ("guess", "other"), ("hunter2", "mine"), ("guess", "mine")]
    {
        let reply = limited.post("/polling-jobs", &short(password, stream)).await;
        let text = reply.body.to_string();
        assert!(!text.contains(id) && !text.contains("api.test"), "{text}");
        match stream {
            "mine" => refusals.push(reply.problem(409, "job_exists")),
            _ => refusals.push(reply.problem(403, "stream_not_allowed")),
        }
    }
    assert_eq!(refusals[0], refusals[1], "a right password and a wrong one");
    assert_eq!(refusals[2], refusals[3], "a right password and a wrong one");
    for path in [
        format!("/v1/polling-jobs/{id}"),
        format!("/polling-jobs/{id}"),
        format!("/v1/polling-jobs/{id}/runs"),
    ] {
        limited.get(&path).await.problem(404, "unknown_job");
    }
    for path in [format!("/v1/polling-jobs/{id}"), format!("/polling-jobs/{id}")] {
        limited.patch(&path, &json!({"stream": "mine"})).await.problem(404, "unknown_job");
        limited.delete(&path).await.problem(404, "unknown_job");
    }
    limited
        .post(&format!("/v1/polling-jobs/{id}/run"), &json!({}))
        .await
        .problem(404, "unknown_job");
    // Neither a page nor where the next one begins tells of it, and pages are full.
    let mine =
        json!({"userId": "8", "apiEndpoint": "http://api.test/mine", "pollingInterval": YEAR_MS});
    let own = limited.post("/polling-jobs", &mine).await.expect(201);
    let page = limited.get("/v1/polling-jobs?limit=1").await.expect(200);
    assert_eq!((&page["jobs"][0]["id"], &page["next"]), (&own["id"], &own["id"]), "{page}");
    let after = format!("/v1/polling-jobs?limit=1&after={}", own["id"].as_str().unwrap());
    let rest = limited.get(&after).await.expect(200);
    assert_eq!(rest, json!({"jobs": [], "next": null}));
    let unseen = format!("/polling-jobs?limit=1&after={}", own["id"].as_str().unwrap());
    assert!(!limited.get(&unseen).await.headers.contains_key("link"));
    assert_eq!(full.get("/v1/polling-jobs").await.expect(200)["jobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_is_asked_for_a_stream_that_the_token_is_not_for() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    add_user(&gateway, "ada", "member").await;
    api.serve("/other", json!([{"id": 1}]));
    let limited = ada(&gateway, json!(["mine"])).await;
    let asked =
        |stream: Value| json!({"url": api.url("/other"), "interval_ms": YEAR_MS, "stream": stream});
    for path in ["/v1/polling-jobs/preview", "/v1/polling-jobs"] {
        for stream in [json!("other"), json!(null)] {
            limited.post(path, &asked(stream)).await.problem(403, "stream_not_allowed");
        }
    }
    assert_eq!(api.header("/other", "host"), None, "it was not asked");
    let preview = limited.post("/v1/polling-jobs/preview", &asked(json!("mine"))).await.expect(200);
    assert_eq!(preview["count"], 1);
}

/// What of a job could tell that a secret was another than before.
async fn trace(gateway: &Gateway, id: &str) -> Value {
    gateway
        .scalar(format!(
            "select json_build_object('fence', fence, 'failures', failures, 'resume', resume, 'unfinished', unfinished)
             from tidegate.polling_jobs where id = '{id}'"
        ))
        .await
}

#[tokio::test]
async fn a_right_password_and_a_wrong_one_leave_the_same_trace() {
    let gateway = Gateway::with(&NO_RUNS).await;
    add_user(&gateway, "ada", "member").await;
    let client = ada(&gateway, json!(null)).await;
    let job = client.post("/polling-jobs", &short("hunter2", "docs")).await.expect(201);
    let id = job["id"].as_str().unwrap();
    let failed = format!(
        "update tidegate.polling_jobs set failures = 3, fence = 7, resume = '{{\"etag\":\"x\"}}', unfinished = 'x' where id = '{id}'"
    );
    let path = format!("/v1/polling-jobs/{id}");
    let short_path = format!("/polling-jobs/{id}");
    let mut seen = Vec::new();
    // The sealed one and two that are not, by each way.
    for (right, wrong) in [("hunter2", "guess"), ("guess", "hunter2")] {
        for password in [right, wrong] {
            for way in 0..3 {
                gateway.execute(&failed).await;
                let before = gateway.get(&path).await.expect(200)["updated_at"].clone();
                let header = format!("Basic {password}");
                let reply = match way {
                    0 => client.post("/polling-jobs", &short(password, "docs")).await,
                    1 => {
                        let url = short(password, "docs")["apiEndpoint"].clone();
                        client.patch(&short_path, &json!({"apiEndpoint": url})).await
                    }
                    _ => {
                        client
                            .patch(&path, &json!({"secret_headers": {"authorization": header}}))
                            .await
                    }
                };
                assert_eq!(reply.status, 200, "{}", reply.body);
                let after = gateway.get(&path).await.expect(200)["updated_at"].clone();
                assert_ne!(before, after, "a write can be seen, so each is one");
                seen.push(trace(&gateway, id).await);
            }
        }
    }
    assert!(seen.iter().all(|trace| *trace == seen[0]), "{seen:#?}");
    assert_eq!(seen[0]["failures"], 0);
}

#[tokio::test]
async fn the_short_form_without_a_password_still_changes_nothing() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    let body = json!({"userId": "7", "apiEndpoint": api.url("/x"), "pollingInterval": YEAR_MS});
    let job = gateway.post("/polling-jobs", &body).await.expect(201);
    let id = job["id"].as_str().unwrap();
    finished(&gateway, id, 0).await;
    let path = format!("/v1/polling-jobs/{id}");
    let before = gateway.get(&path).await.expect(200);
    gateway.post("/polling-jobs", &body).await.expect(200);
    assert_eq!(gateway.get(&path).await.expect(200), before);
}

#[tokio::test]
async fn a_run_under_way_ends_when_its_owner_is_disabled() {
    let flags = [&ALLOW_LOOPBACK[..], &["--polling-lease-seconds=3"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let id = add_user(&gateway, "ada", "member").await;
    let client = ada(&gateway, json!(null)).await;
    api.serve("/x", json!([{"id": 1}]));
    api.hold("/x", true);
    let body = json!({"url": api.url("/x"), "interval_ms": YEAR_MS, "timeout_ms": 300_000});
    let job = client.post("/v1/polling-jobs", &body).await.expect(201);
    eventually("the API is asked", async || (api.asked("/x") > 0).then_some(())).await;
    gateway.patch(&format!("/v1/users/{id}"), &json!({"disabled": true})).await.expect(200);
    let run = finished(&gateway, job["id"].as_str().unwrap(), 0).await;
    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(run["error"], "the job's owner is disabled");
}
