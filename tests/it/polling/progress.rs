//! Runs that do not come to their end: what they keep, when the API is asked again, and what people are told.

use serde_json::{Value, json};

use crate::polling::jobs::{finished, make, run, runs};
use crate::support::{ALLOW_LOOPBACK, Answer, Asked, Client, Gateway, ItemsApi, eventually};

/// So long that no job runs again by itself, but for its own reasons.
const YEAR_MS: u64 = 31_536_000_000;

async fn show(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/polling-jobs/{id}")).await.expect(200)
}

/// Waits until a run has ended so: the run.
async fn ended_as(client: &Client, id: &str, status: &str) -> Value {
    eventually(&format!("a run ends as {status}"), async || {
        runs(client, id).await.into_iter().find(|run| run["status"] == status)
    })
    .await
}

#[tokio::test]
async fn an_answer_that_is_not_ready_keeps_nothing_and_is_asked_for_again_soon() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let later = Answer::text(202, "{}").header("etag", "\"none\"").header("retry-after", "1");
    api.fail_with("/x", later);
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let first = runs(&gateway, &id).await.pop().unwrap();
    assert_eq!((&first["status"], &first["items"]), (&json!("not_ready"), &json!(0)), "{first}");
    let error = first["error"].as_str().unwrap();
    assert!(error.contains("the API answered 202 Accepted: not ready yet"), "{error}");
    let body = json!({"url": api.url("/x")});
    let preview = gateway.post("/v1/polling-jobs/preview", &body).await;
    let preview = preview.problem(422, "preview_failed");
    assert_eq!(preview["kind"], "not_ready", "{preview}");

    // By itself, although its interval is a year.
    finished(&gateway, &id, 1).await;
    assert_eq!(api.header("/x", "if-none-match"), None);
    api.serve("/x", json!([{"id": 1}]));
    let ready = ended_as(&gateway, &id, "success").await;
    assert_eq!((&ready["new"], gateway.rows("x").await), (&json!(1), 1));
    assert_eq!(show(&gateway, &id).await["failures"], 0);
}

#[tokio::test]
async fn a_page_that_is_not_ready_does_not_end_the_pages() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let page = |from: i64| (from..from + 3).map(|n| json!({"id": n, "n": n})).collect::<Value>();
    for (path, status, ended) in
        [("/later", 202, "not_ready"), ("/part", 206, "failed"), ("/broken", 500, "failed")]
    {
        api.on(path, move |asked| match asked.query("page").as_deref() {
            Some("1") => Answer::json(&page(0)),
            _ => Answer::json(&json!([])).status(status),
        });
        let since = json!({"parameter": "after", "field": "/n", "format": "integer"});
        let job = json!({"key": ["/id"], "pagination": {"by": "page"}, "since": since});
        let id = make(&gateway, &api, path, job).await;
        let first = runs(&gateway, &id).await.pop().unwrap();
        assert_eq!((&first["status"], &first["new"]), (&json!(ended), &json!(3)), "{first}");
        let error = first["error"].as_str().unwrap();
        let place = format!("page 2, {}: the API answered {status}", api.url(path));
        assert!(error.starts_with(&place), "{error}");

        api.serve_pages(path, vec![page(0), page(3), page(6)]);
        let whole = eventually("a run comes to its end", async || {
            let run = run(&gateway, &id).await;
            (run["status"] == "success").then_some(run)
        })
        .await;
        assert_eq!((&whole["new"], gateway.rows(&path[1..]).await), (&json!(6), 9), "{whole}");
        let asked = api.requests().into_iter().rfind(|asked| asked.path() == path);
        assert_eq!(asked.unwrap().query("after"), None, "it began at the beginning");
    }
}

#[tokio::test]
async fn a_run_that_fails_once_moves_nothing() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let page = |from: i64| (from..from + 3).map(|n| json!({"id": n, "n": n})).collect::<Value>();
    api.serve("/x", json!([{"id": -1, "n": -1}]));
    let since = json!({"parameter": "after", "field": "/n", "format": "integer", "overlap": 0});
    let job = json!({"key": ["/id"], "pagination": {"by": "page"}, "since": since});
    let id = make(&gateway, &api, "/x", job).await;
    let resume = "select resume from tidegate.polling_jobs";
    let before: String = gateway.scalar(resume).await;
    assert!(before.contains("-1"), "{before}");
    api.on("/x", move |asked| match asked.query("page").as_deref() {
        Some("1") => Answer::json(&page(0)),
        Some("2") => Answer::json(&page(3)),
        _ => Answer::text(500, "later"),
    });
    let failed = run(&gateway, &id).await;
    assert_eq!((&failed["status"], &failed["new"]), (&json!("failed"), &json!(6)), "{failed}");
    assert_eq!(gateway.scalar::<String>(resume).await, before);
    let latest = api.requests().pop().expect("it was asked");
    assert_eq!(latest.query("after").as_deref(), Some("-1"));
}

/// An API of 30 numbers that takes `after` and answers no offset beyond 12, until it is told to.
fn shallow(api: &ItemsApi, path: &str, is_ascending: bool, deepest: usize) {
    api.on(path, move |asked: &Asked| {
        let number = |name: &str| asked.query(name).and_then(|number| number.parse::<i64>().ok());
        let offset = usize::try_from(number("offset").unwrap()).unwrap();
        if offset > deepest {
            return Answer::text(400, "{\"error\":\"the offset is too large\"}");
        }
        let after = number("after").unwrap_or(-1);
        let mut numbers: Vec<i64> = (0..30).filter(|n| *n > after).collect();
        if !is_ascending {
            numbers.reverse();
        }
        let page = numbers.into_iter().skip(offset).take(4);
        Answer::json(&page.map(|n| json!({"id": n, "n": n})).collect())
    });
}

fn by_offset(rest: &Value) -> Value {
    let since = json!({"parameter": "after", "field": "/n", "format": "integer", "overlap": 0});
    let mut job =
        json!({"key": ["/id"], "pagination": {"by": "offset", "limit": 4}, "since": since});
    job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    job
}

#[tokio::test]
async fn a_first_load_that_is_too_deep_goes_on_where_it_was_read_safely() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    shallow(&api, "/deep", true, 12);
    shallow(&api, "/many", true, 1_000);
    for (path, rest) in [("/deep", json!({})), ("/many", json!({"pages_max": 3}))] {
        let id = make(&gateway, &api, path, by_offset(&rest)).await;
        // By itself, although its interval is a year.
        ended_as(&gateway, &id, "success").await;
        let runs = runs(&gateway, &id).await;
        let first = runs.last().unwrap();
        assert_eq!(first["status"], "partial", "{first}");
        assert!(first["error"].as_str().unwrap().contains("goes on from there"), "{first}");
        let statuses: Vec<&str> = runs.iter().map(|run| run["status"].as_str().unwrap()).collect();
        assert_eq!(statuses[0], "success");
        assert!(statuses[1..].iter().all(|status| *status == "partial"), "{statuses:?}");
        let counted: i64 = runs.iter().map(|run| run["new"].as_i64().unwrap()).sum();
        assert_eq!((counted, gateway.rows(&path[1..]).await), (30, 30));
        let job = show(&gateway, &id).await;
        assert_eq!((&job["failures"], &job["unfinished"]), (&json!(0), &json!(null)), "{job}");
    }
}

#[tokio::test]
async fn a_first_load_that_cannot_finish_says_so_until_it_does() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    shallow(&api, "/deep", false, 12);
    shallow(&api, "/many", false, 1_000);
    let without = json!({"since": null});
    for (stream, path, rest, said) in [
        ("deep", "/deep", &json!({}), "sort by \"/n\", the oldest first"),
        ("many", "/many", &json!({"pages_max": 3}), "raise `pages_max`"),
        ("plain", "/deep", &without, "name it in `since`"),
    ] {
        shallow(&api, "/deep", false, 12);
        let mut rest = rest.clone();
        rest["stream"] = json!(stream);
        let id = make(&gateway, &api, path, by_offset(&rest)).await;
        let first = runs(&gateway, &id).await.remove(0);
        assert_eq!(first["status"], "unfinished", "{first}");
        let brought = first["new"].as_i64().unwrap();
        assert!((12..30).contains(&brought), "what came is kept: {first}");
        let words = show(&gateway, &id).await["unfinished"].as_str().unwrap().to_owned();
        assert!(words.starts_with("the first load cannot finish: page "), "{words}");
        assert!(words.contains(said), "{words}");
        assert_eq!(first["error"], words.as_str());

        // It lasts, whatever else happens.
        api.fail(path, 500, "later");
        assert_eq!(run(&gateway, &id).await["status"], "failed");
        assert_eq!(show(&gateway, &id).await["unfinished"], words.as_str());
        shallow(&api, path, false, 1_000);
        if rest["pages_max"] == 3 {
            let path = format!("/v1/polling-jobs/{id}");
            let changed = gateway.patch(&path, &json!({"pages_max": 50})).await.expect(200);
            assert_eq!(changed["unfinished"], json!(null), "it may be another job now");
        }
        let whole = run(&gateway, &id).await;
        assert_eq!((&whole["status"], gateway.rows(stream).await), (&json!("success"), 30));
        assert_eq!(show(&gateway, &id).await["unfinished"], json!(null));
    }
    let body = json!({"url": api.url("/deep"), "interval_ms": YEAR_MS, "accept_statuses": [201]});
    let problem = gateway.post("/v1/polling-jobs", &body).await.problem(422, "invalid_job");
    assert_eq!(problem["place"], "/accept_statuses");
}

#[tokio::test]
async fn pages_that_fail_again_and_again_at_one_place_are_an_end_that_is_not_reached() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.on("/x", |asked| match asked.query("page").as_deref() {
        Some("1") => Answer::json(&json!([{"id": 1}])),
        _ => Answer::text(500, "always"),
    });
    let id = make(&gateway, &api, "/x", json!({"pagination": {"by": "page"}})).await;
    let mut statuses = vec![runs(&gateway, &id).await.remove(0)["status"].clone()];
    for _ in 0..2 {
        statuses.push(run(&gateway, &id).await["status"].clone());
    }
    assert_eq!(statuses, ["failed", "failed", "unfinished"]);
}
