//! Polling jobs as people use them: made, changed, run, paused, listed, taken away; what they bring, and what they refuse.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::people::{Token, add_user};
use crate::support::{ALLOW_LOOPBACK, Client, Gateway, ItemsApi, Metrics, eventually};

/// So long that no job runs by itself while a test looks; but for its first time, which is at once.
const YEAR_MS: u64 = 31_536_000_000;

/// Makes a job and waits for its first run: its id.
pub async fn make(client: &Client, api: &ItemsApi, path: &str, rest: Value) -> String {
    let mut body = json!({"url": api.url(path), "interval_ms": YEAR_MS});
    let members = body.as_object_mut().unwrap();
    members.extend(rest.as_object().unwrap().clone());
    let job = client.post("/v1/polling-jobs", &body).await.expect(201);
    let id = job["id"].as_str().unwrap().to_owned();
    if job["paused"] == false {
        finished(client, &id, 0).await;
    }
    id
}

/// The runs of a job, the latest first.
pub async fn runs(client: &Client, id: &str) -> Vec<Value> {
    let runs = client.get(&format!("/v1/polling-jobs/{id}/runs")).await.expect(200);
    runs["runs"].as_array().unwrap().clone()
}

/// Waits until the run that follows the one with this number is over, whether or not others follow it: the run.
pub async fn finished(client: &Client, id: &str, number: i64) -> Value {
    eventually("the run is over", async || {
        let mut runs = runs(client, id).await.into_iter().rev();
        let next = runs.find(|run| run["number"].as_i64().is_some_and(|found| found > number))?;
        (!next["finished_at"].is_null()).then_some(next)
    })
    .await
}

/// Runs a job now: the run.
pub async fn run(client: &Client, id: &str) -> Value {
    let before = runs(client, id).await.first().map_or(0, |run| run["number"].as_i64().unwrap());
    client.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    finished(client, id, before).await
}

/// Items, new, changed, duplicates and refused of a run.
fn counts(run: &Value) -> [u64; 5] {
    ["items", "new", "changed", "duplicates", "refused"].map(|name| run[name].as_u64().unwrap())
}

#[tokio::test]
async fn the_short_form_makes_a_job_once_and_updates_its_interval() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/api/users", json!([{"id": 1}, {"id": 2}]));
    let body = |interval: u64| json!({"userId": "7", "apiEndpoint": api.url("/api/users"), "pollingInterval": interval});
    let job = gateway.post("/polling-jobs", &body(YEAR_MS)).await.expect(201);
    let id = job["id"].as_str().unwrap();
    assert_eq!(job["userId"], "7");
    assert_eq!(job["apiEndpoint"], api.url("/api/users"));
    assert_eq!(job["pollingInterval"], YEAR_MS);
    assert_eq!(job["stream"], "users");
    assert!(job["nextRunAt"].as_str().unwrap().ends_with('Z'), "{job}");
    finished(&gateway, id, 0).await;
    assert_eq!(gateway.rows("users").await, 2);

    let again = gateway.post("/polling-jobs", &body(70_000)).await.expect(200);
    assert_eq!((&again["id"], &again["pollingInterval"]), (&job["id"], &json!(70_000)));
    assert_ne!(again["nextRunAt"], job["nextRunAt"]);
    let unchanged = gateway.post("/polling-jobs", &body(70_000)).await.expect(200);
    assert_eq!(unchanged, again, "the same once more changes nothing");
    let other =
        json!({"userId": "8", "apiEndpoint": api.url("/api/users"), "pollingInterval": YEAR_MS});
    let other = gateway.post("/polling-jobs", &other).await.expect(201);
    let all = gateway.get("/polling-jobs").await.expect(200);
    let ids: Vec<&Value> = all.as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!(ids, [&job["id"], &other["id"]]);

    let path = format!("/polling-jobs/{id}");
    assert_eq!(gateway.get(&path).await.expect(200), again);
    let changed = gateway.patch(&path, &json!({"pollingInterval": 80_000})).await.expect(200);
    assert_eq!(changed["pollingInterval"], 80_000);
    let full = gateway.get(&format!("/v1{path}")).await.expect(200);
    assert_eq!((&full["interval_ms"], &full["owner"]), (&json!(80_000), &json!("local")));
    assert_eq!(gateway.delete(&path).await.status, 204);
    gateway.get(&path).await.problem(404, "unknown_job");
    gateway.delete(&path).await.problem(404, "unknown_job");
    gateway.post("/polling-jobs", &body(YEAR_MS)).await.expect(201);
}

#[tokio::test]
async fn the_short_forms_list_has_pages_and_a_job_cannot_become_another_one() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let mut made = Vec::new();
    for path in ["/a", "/b", "/c"] {
        api.serve(path, json!([]));
        let body = json!({"userId": "7", "apiEndpoint": api.url(path), "pollingInterval": YEAR_MS});
        made.push(gateway.post("/polling-jobs", &body).await.expect(201)["id"].clone());
    }
    let first = gateway.get("/polling-jobs?limit=2").await;
    let link = first.headers["link"].to_str().unwrap().to_owned();
    let next =
        link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
    let mut listed = first.expect(200).as_array().unwrap().clone();
    let last = gateway.get(next).await;
    assert!(!last.headers.contains_key("link"));
    listed.extend(last.expect(200).as_array().unwrap().clone());
    assert_eq!(listed.iter().map(|job| job["id"].clone()).collect::<Vec<_>>(), made);
    let path = format!("/polling-jobs/{}", made[0].as_str().unwrap());
    let other = json!({"apiEndpoint": api.url("/b")});
    gateway.patch(&path, &other).await.problem(409, "job_exists");
}

#[tokio::test]
async fn many_who_make_the_same_job_at_once_make_one() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/users", json!([{"id": 1}]));
    let url = api.url("/users");
    let post = |n: u64| {
        let body = json!({"userId": "7", "apiEndpoint": url, "pollingInterval": 1_000_000 + n % 2});
        let gateway = &gateway;
        async move { gateway.post("/polling-jobs", &body).await.status }
    };
    let mut statuses = join_all((0..20).map(post)).await;
    statuses.retain(|status| *status != 200);
    assert_eq!(statuses, [201]);
    assert_eq!(gateway.get("/polling-jobs").await.expect(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_new_or_changed_comes_exactly_once() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let item = |id: u64, word: &str| json!({"id": id, "word": word});
    api.serve("/x", json!({"data": {"items": [item(1, "a"), item(2, "a"), item(3, "a")]}}));
    let rest = json!({"stream": "xs", "items": "/data/items", "key": ["/id"], "name": "exes"});
    let id = make(&gateway, &api, "/x", rest).await;
    let first = runs(&gateway, &id).await.remove(0);
    assert_eq!((&first["status"], counts(&first)), (&json!("success"), [3, 3, 0, 0, 0]), "{first}");
    assert_eq!(counts(&run(&gateway, &id).await), [3, 0, 0, 3, 0]);

    // The order of members is no change; a word is one, and so is its way back.
    let same = json!({"word": "a", "id": 1});
    api.serve("/x", json!({"data": {"items": [same, item(2, "b"), item(4, "a"), item(4, "b")]}}));
    assert_eq!(counts(&run(&gateway, &id).await), [4, 1, 1, 2, 0]);
    api.serve("/x", json!({"data": {"items": [item(2, "a")]}}));
    assert_eq!(counts(&run(&gateway, &id).await), [1, 0, 1, 0, 0]);
    let expected =
        [item(1, "a"), item(2, "a"), item(3, "a"), item(2, "b"), item(4, "b"), item(2, "a")];
    assert_eq!(gateway.payloads("xs").await, expected);
    let sum = "select sum(new + changed)::bigint from tidegate.polling_runs";
    assert_eq!(gateway.scalar::<i64>(sum).await, gateway.rows("xs").await);

    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.sum("tidegate_polling_items_total", "kind", "changed").to_string(), "2");
    assert_eq!(metrics.sum("tidegate_polling_runs_total", "outcome", "success").to_string(), "4");
    let of_source = metrics.sum("tidegate_records_accepted_total", "source", "poll");
    assert_eq!(of_source.to_string(), "6");
}

#[tokio::test]
async fn a_replacing_job_keeps_one_row_for_each_item() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1, "v": 1}, {"id": 2, "v": 1}]));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"], "on_change": "replace"})).await;
    api.serve("/x", json!([{"id": 1, "v": 2}, {"id": 2, "v": 1}]));
    assert_eq!(counts(&run(&gateway, &id).await), [2, 0, 1, 1, 0]);
    let values = "select payload->>'v' from streams.x order by payload->>'id'";
    assert_eq!(gateway.column::<String>(values).await, ["2", "1"]);

    gateway.create_stream(&json!({"name": "plain"})).await;
    let body = json!({"url": api.url("/x"), "interval_ms": YEAR_MS, "stream": "plain", "key": ["/id"], "on_change": "replace"});
    let problem = gateway.post("/v1/polling-jobs", &body).await.problem(422, "invalid_job");
    assert_eq!(problem["place"], "/on_change");
}

#[tokio::test]
async fn an_item_that_the_stream_refuses_is_kept_once_and_harms_no_other() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    gateway.execute("alter table streams.typed add check (n <> 13)").await;
    // One is refused at the edge, one by PostgreSQL.
    api.serve("/x", json!([{"n": 1}, {"n": "noon"}, {"n": 13}, {"n": 2}, 5]));
    let id = make(&gateway, &api, "/x", json!({"stream": "typed"})).await;
    let first = runs(&gateway, &id).await.remove(0);
    assert_eq!((&first["status"], counts(&first)), (&json!("success"), [5, 2, 0, 0, 3]), "{first}");
    assert_eq!(gateway.column::<i32>("select n from streams.typed order by n").await, [1, 2]);
    let kept = "select source || ' ' || code from tidegate.quarantine order by code";
    let expected = ["poll invalid_type", "poll not_an_object", "poll refused_by_postgresql"];
    assert_eq!(gateway.column::<String>(kept).await, expected);
    assert_eq!(counts(&run(&gateway, &id).await), [5, 0, 0, 5, 0], "nothing is kept twice");
    assert_eq!(gateway.column::<String>(kept).await, expected);
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_and_a_failure_is_told() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    api.tag("/x", "\"one\"");
    let secret = "Bearer hunter2";
    let id = make(&gateway, &api, "/x", json!({"secret_headers": {"authorization": secret}})).await;
    assert_eq!(api.header("/x", "authorization").as_deref(), Some(secret));
    let second = run(&gateway, &id).await;
    assert_eq!((&second["status"], counts(&second)), (&json!("not_modified"), [0; 5]), "{second}");

    api.fail("/x", 500, "oh no");
    let failed = run(&gateway, &id).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("500"), "{failed}");
    let path = format!("/v1/polling-jobs/{id}");
    let job = gateway.get(&path).await.expect(200);
    assert_eq!((&job["failures"], &job["last_run"]["status"]), (&json!(1), &json!("failed")));
    assert_eq!(job["secret_headers"], json!(["authorization"]));
    assert!(!gateway.log().contains("hunter2") && !job.to_string().contains("hunter2"));
    let sealed: Vec<u8> = gateway.scalar("select sealed from tidegate.polling_jobs").await;
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));

    // The secret stays where the patch does not touch it, and the answer is asked for anew.
    api.serve("/x", json!([{"id": 1}, {"id": 2}]));
    gateway.patch(&path, &json!({"headers": {"x-a": "b"}})).await.expect(200);
    let repaired = run(&gateway, &id).await;
    assert_eq!(
        (&repaired["status"], counts(&repaired)),
        (&json!("success"), [2, 1, 0, 1, 0]),
        "{repaired}"
    );
    assert_eq!(api.header("/x", "authorization").as_deref(), Some(secret));
    assert_eq!(api.header("/x", "x-a").as_deref(), Some("b"));
    assert_eq!(gateway.get(&path).await.expect(200)["failures"], 0);
}

#[tokio::test]
async fn only_what_is_newer_is_asked_for_after_a_crash_too() {
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1, "n": 7}, {"id": 2, "n": 40}]));
    let since = json!({"parameter": "after", "field": "/n", "format": "integer", "overlap": 5});
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"], "since": since})).await;
    let after = || api.requests().pop().unwrap().query("after");
    assert_eq!(after(), None);
    gateway.kill9().await;
    gateway.restart().await;
    api.fail("/x", 500, "later");
    run(&gateway, &id).await;
    assert_eq!(after().as_deref(), Some("35"));
    api.serve("/x", json!([{"id": 3, "n": 50}]));
    run(&gateway, &id).await;
    assert_eq!(after().as_deref(), Some("35"), "a failed run moves nothing");
    run(&gateway, &id).await;
    assert_eq!(after().as_deref(), Some("45"));
}

#[tokio::test]
async fn a_paused_job_waits_and_one_that_runs_is_not_run_twice() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    let id = make(&gateway, &api, "/x", json!({"paused": true})).await;
    let path = format!("/v1/polling-jobs/{id}");
    gateway.post(&format!("{path}/run"), &json!({})).await.problem(409, "job_paused");
    // Another job that is made later has run, so this one would have.
    api.serve("/y", json!([]));
    make(&gateway, &api, "/y", json!({})).await;
    assert_eq!((api.asked("/x"), runs(&gateway, &id).await.len()), (0, 0));

    api.hold("/x", true);
    gateway.patch(&path, &json!({"paused": false})).await.expect(200);
    eventually("the overdue run begins", async || (api.asked("/x") == 1).then_some(())).await;
    assert_eq!(gateway.get(&path).await.expect(200)["running"], true);
    let problem = gateway.post(&format!("{path}/run"), &json!({})).await;
    assert!(problem.retry_after_seconds() > 0);
    problem.problem(409, "run_under_way");
    // Pausing lets the run end.
    gateway.patch(&path, &json!({"paused": true})).await.expect(200);
    api.hold("/x", false);
    assert_eq!(finished(&gateway, &id, 0).await["status"], "success");
    assert_eq!((api.asked("/x"), gateway.rows("x").await), (1, 1));
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended() {
    let flags = [&ALLOW_LOOPBACK[..], &["--polling-run-seconds=1"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    api.hold("/x", true);
    let id = make(&gateway, &api, "/x", json!({})).await;
    let run = runs(&gateway, &id).await.remove(0);
    assert_eq!(run["status"], "failed");
    assert!(run["error"].as_str().unwrap().contains("longer than 1 seconds"), "{run}");
}

#[tokio::test]
async fn members_have_their_own_jobs_and_admins_all() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    let mut clients = Vec::new();
    for name in ["ada", "eve"] {
        add_user(&gateway, name, "member").await;
        let token = Token::of(&gateway, name, &["jobs"], json!({})).await;
        clients.push(gateway.with_token(&token.text));
    }
    let (ada, eve) = (&clients[0], &clients[1]);
    let id = make(ada, &api, "/x", json!({})).await;
    let path = format!("/v1/polling-jobs/{id}");
    assert_eq!(ada.get(&path).await.expect(200)["owner"], "ada");
    for reply in [
        eve.get(&path).await,
        eve.patch(&path, &json!({"paused": true})).await,
        eve.delete(&path).await,
        eve.post(&format!("{path}/run"), &json!({})).await,
        eve.get(&format!("{path}/runs")).await,
        eve.get(&format!("/polling-jobs/{id}")).await,
    ] {
        reply.problem(404, "unknown_job");
    }
    assert_eq!(eve.get("/v1/polling-jobs").await.expect(200)["jobs"], json!([]));
    let all = gateway.get("/v1/polling-jobs").await.expect(200);
    assert_eq!(all["jobs"].as_array().unwrap().len(), 1);
    let body = json!({"url": api.url("/x"), "interval_ms": YEAR_MS, "owner": "ada"});
    eve.post("/v1/polling-jobs", &body).await.problem(403, "missing_scope");
    let made = gateway.post("/v1/polling-jobs", &body).await.expect(201);
    assert_eq!(made["owner"], "ada");
    let reader = Token::of(&gateway, "eve", &["read"], json!({})).await;
    gateway.with_token(&reader.text).get("/v1/polling-jobs").await.problem(403, "missing_scope");
    let limited = Token::of(&gateway, "ada", &["jobs"], json!({"streams": ["other"]})).await;
    let limited = gateway.with_token(&limited.text);
    limited.get(&path).await.problem(404, "unknown_job");
    limited.post("/v1/polling-jobs", &body).await.problem(403, "stream_not_allowed");
    let source: String =
        gateway.scalar("select user_name from tidegate.quarantine union all select 'none'").await;
    assert_eq!(source, "none");

    // All that belongs to a disabled user is dead.
    let users = gateway.get("/v1/users").await.expect(200);
    let users = users["users"].as_array().unwrap();
    let ada_id = &users.iter().find(|user| user["name"] == "ada").unwrap()["id"];
    gateway.patch(&format!("/v1/users/{ada_id}"), &json!({"disabled": true})).await.expect(200);
    let dead = run(&gateway, &id).await;
    assert_eq!(
        (&dead["status"], &dead["error"]),
        (&json!("failed"), &json!("the job's owner is disabled"))
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_place() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let url = api.url("/x");
    for (change, place) in [
        (json!({"interval_ms": 0}), "/interval_ms"),
        (json!({"interval_ms": -5}), "/interval_ms"),
        (json!({"interval_ms": 1_000_000_000_000_000_u64}), "/interval_ms"),
        (json!({"interval_ms": "soon"}), "/interval_ms"),
        (json!({"interval_ms": null}), "/interval_ms"),
        (json!({"cron": "* * *", "interval_ms": null}), "/cron"),
        (json!({"cron": "0 0 31 2 *", "interval_ms": null}), "/cron"),
        (json!({"cron": "* * * * *", "zone": "Mars/Base", "interval_ms": null}), "/zone"),
        (json!({"url": "ftp://a.test/"}), "/url"),
        (json!({"url": null}), "/url"),
        (json!({"stream": "No Name"}), "/stream"),
        (json!({"name": "\n"}), "/name"),
        (json!({"items": "x"}), "/items"),
        (json!({"on_change": "replace"}), "/on_change"),
        (json!({"secret_headers": ["authorization"]}), "/secret_headers"),
        (json!({"method": "POST", "body": "\u{0}"}), ""),
        (json!({"frequency": 5}), "/frequency"),
        (json!({"owner": "nobody"}), "/owner"),
    ] {
        let mut body = json!({"url": url, "interval_ms": YEAR_MS});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problem = gateway.post("/v1/polling-jobs", &body).await.problem(422, "invalid_job");
        assert_eq!(problem["place"], place, "{change}: {problem}");
    }
    for (body, place) in [
        (json!({"userId": "7", "apiEndpoint": url, "pollingInterval": 0}), "/pollingInterval"),
        (json!({"userId": "7", "apiEndpoint": url, "pollingInterval": -1}), "/pollingInterval"),
        (json!({"userId": "7", "apiEndpoint": url, "pollingInterval": 1.5}), "/pollingInterval"),
        (json!({"userId": "7", "apiEndpoint": url}), "/pollingInterval"),
        (json!({"userId": "7", "apiEndpoint": "users", "pollingInterval": 70_000}), "/apiEndpoint"),
        (json!({"apiEndpoint": url, "pollingInterval": 70_000}), "/userId"),
        (json!({"userId": "7", "apiEndpoint": url, "pollingInterval": 70_000, "x": 1}), "/x"),
    ] {
        let problem = gateway.post("/polling-jobs", &body).await.problem(422, "invalid_job");
        assert_eq!(problem["place"], place, "{body}: {problem}");
    }
    gateway.post("/v1/polling-jobs", &json!([])).await.problem(422, "invalid_body");
    gateway.get("/v1/polling-jobs/7").await.problem(404, "unknown_job");
    assert_eq!(gateway.get("/v1/polling-jobs").await.expect(200)["jobs"], json!([]));
    // Credentials in the address become a secret header.
    let with_password = url.replace("http://", "http://ada:hunter2@");
    let body = json!({"userId": "7", "apiEndpoint": with_password, "pollingInterval": YEAR_MS});
    let job = gateway.post("/polling-jobs", &body).await.expect(201);
    assert_eq!(job["apiEndpoint"], url);
    let full =
        gateway.get(&format!("/v1/polling-jobs/{}", job["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(full["secret_headers"], json!(["authorization"]));
}

#[tokio::test]
async fn a_preview_shows_items_key_and_columns_and_keeps_nothing() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!({"data": [{"a": "x", "id": 1}, {"a": "x", "id": 2}]}));
    let body = json!({"url": api.url("/x"), "items": "/data", "name": "n", "interval_ms": 5_000});
    let preview = gateway.post("/v1/polling-jobs/preview", &body).await.expect(200);
    assert_eq!(preview["items"], json!([{"a": "x", "id": 1}, {"a": "x", "id": 2}]));
    assert_eq!((&preview["count"], &preview["key"]), (&json!(2), &json!(["/id"])));
    let columns: Vec<&str> = preview["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["a", "id_"], "the table has a column id of its own");
    assert_eq!(preview["columns"][1]["from"], "id");
    assert_eq!(gateway.get("/v1/polling-jobs").await.expect(200)["jobs"], json!([]));
    assert_eq!(gateway.get("/v1/streams").await.expect(200)["streams"], json!([]));
    api.fail("/x", 404, "");
    gateway.post("/v1/polling-jobs/preview", &body).await.problem(422, "preview_failed");
}

#[tokio::test]
async fn a_job_whose_stream_was_deleted_begins_anew() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}, {"id": 2}]));
    let id = make(&gateway, &api, "/x", json!({})).await;
    assert_eq!(gateway.delete("/v1/streams/x").await.status, 204);
    assert_eq!(counts(&run(&gateway, &id).await), [2, 2, 0, 0, 0]);
    assert_eq!(gateway.rows("x").await, 2);
    let other = gateway.patch(&format!("/v1/polling-jobs/{id}"), &json!({"stream": "y"})).await;
    other.expect(200);
    assert_eq!(counts(&run(&gateway, &id).await), [2, 2, 0, 0, 0]);
    assert_eq!((gateway.rows("x").await, gateway.rows("y").await), (2, 2));
}

#[tokio::test]
async fn many_items_over_many_pages_come_once() {
    const PAGES: usize = 5;
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    // Pages overlap, as they do when items are added while a run reads its pages.
    let page = |page: usize| (page * 900..page * 900 + 1_000).map(|id| json!({"id": id})).collect();
    api.serve_pages("/x", (0..PAGES).map(page).collect());
    let pagination = json!({"by": "page"});
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"], "pagination": pagination})).await;
    let first = runs(&gateway, &id).await.remove(0);
    assert_eq!(counts(&first), [5_000, 4_600, 0, 400, 0], "{first}");
    let ids: Vec<i64> = gateway.column("select (payload->>'id')::bigint from streams.x").await;
    assert_eq!((ids.len(), ids.into_iter().collect::<BTreeSet<_>>().len()), (4_600, 4_600));
    assert_eq!(counts(&run(&gateway, &id).await), [5_000, 0, 0, 5_000, 0]);
}
