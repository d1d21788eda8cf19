//! Streams without number. Each is a table, and metrics had series for each.
//!
//! Before: a token with `ingest` and `streams:write` made 1,020 tables in 20 s and would have gone on, and `/metrics`, open to
//! all, had the name of each, seven lines a stream. After: 1,000 streams of one user and 5,000 in all by default, exactly,
//! whichever user asks for them and through however many gateways; metrics name 200 of them and count the others
//! together; and a setting asks for a token on `/metrics`.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::command::{run, tidegate, working_directory};
use crate::support::people::{Outsider, Token, add_user};
use crate::support::{Client, Gateway, Metrics, TestDatabase};

const IN_ALL_MAX: usize = 8;
const PER_USER_MAX: usize = 5;
const METRICS_TOKEN: &str = "a-token-for-prometheus";

async fn maker(gateway: &Gateway, user: &str) -> Client {
    let scopes = ["ingest", "read", "streams:write", "jobs"];
    gateway.with_token(&Token::of(gateway, user, &scopes, json!({})).await.text)
}

async fn tables(gateway: &Gateway) -> Vec<String> {
    let names = "select tablename::text from pg_tables where schemaname = 'streams' order by 1";
    gateway.column(names).await
}

/// Has streams made by their first records, all at once, half of them through each gateway: how many were.
async fn make_at_once(clients: [&Client; 2], prefix: &str, count: usize) -> usize {
    let send = |index: usize| async move {
        let client = clients[index % clients.len()];
        let reply =
            client.records(&format!("{prefix}{index}")).json(&json!({"n": index})).send().await;
        match reply.status {
            202 => true,
            _ => {
                let problem = reply.problem(409, "streams_limit");
                let words = problem["detail"].as_str().unwrap();
                assert!(words.contains("TIDEGATE_STREAMS_"), "the setting is named: {problem}");
                assert!(problem["limit"].is_u64(), "{problem}");
                false
            }
        }
    };
    join_all((0..count).map(send)).await.into_iter().filter(|made| *made).count()
}

#[tokio::test]
async fn no_more_streams_are_made_than_may_be_in_any_way() {
    let flags = [
        &format!("--streams-max={IN_ALL_MAX}")[..],
        &format!("--streams-per-user-max={PER_USER_MAX}"),
    ];
    let database = TestDatabase::create().await;
    let (one, two) =
        (Gateway::on(database.url(), &flags).await, Gateway::on(database.url(), &flags).await);
    add_user(&one, "ada", "member").await;
    add_user(&one, "eve", "member").await;
    let eve = maker(&one, "eve").await;
    let eve_there = two.with_token(eve.token());
    crate::support::eventually("the other gateway knows the token", async || {
        (eve_there.get("/v1/streams").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(make_at_once([&eve, &eve_there], "eve", 24).await, PER_USER_MAX);
    assert_eq!(tables(&one).await.len(), PER_USER_MAX);
    // Others still may.
    let ada = maker(&one, "ada").await;
    let left = IN_ALL_MAX - PER_USER_MAX;
    assert_eq!(make_at_once([&ada, &ada], "ada", 12).await, left);
    let before = one.get("/v1/status").await.expect(200)["journal"]["synced"].clone();

    // The machine's owner is held to the number in all, and so is every other way to a stream.
    let definition = json!({"name": "more"});
    one.post("/v1/streams", &definition).await.problem(409, "streams_limit");
    let job = json!({"url": "http://api.test/more", "interval_ms": 60_000, "stream": "more"});
    one.post("/v1/polling-jobs", &job).await.problem(409, "streams_limit");
    let large = json!({"text": "x".repeat(10_000)}).to_string() + "\n";
    let reply = one.records("more").ndjson(large.repeat(300)).send().await;
    reply.problem(409, "streams_limit");
    one.records("more").json(&json!([1, 2])).send().await.problem(409, "streams_limit");
    one.records("more").json(&json!({})).key("k").send().await.problem(409, "streams_limit");
    let elsewhere = working_directory();
    let mut command =
        tidegate(elsewhere.path(), &["stream", "create", "more", "--database-url", database.url()]);
    command.env("TIDEGATE_STREAMS_MAX", IN_ALL_MAX.to_string());
    let complaint = run(&mut command).await.complained(1);
    assert!(complaint.contains("TIDEGATE_STREAMS_MAX"), "{complaint}");
    assert_eq!(tables(&one).await.len(), IN_ALL_MAX);
    let after = one.get("/v1/status").await.expect(200)["journal"]["synced"].clone();
    assert_eq!(before, after, "of what was refused nothing is kept");
    assert_eq!(one.scalar::<i64>("select count(*) from tidegate.polling_jobs").await, 0);
    // What is there is told before what there may not be.
    one.post("/v1/streams", &json!({"name": tables(&one).await[0]}))
        .await
        .problem(409, "stream_exists");

    // A place that was given back is taken once.
    let own = tables(&one).await.into_iter().find(|name| name.starts_with("eve")).unwrap();
    assert_eq!(eve.delete(&format!("/v1/streams/{own}")).await.status, 204);
    assert_eq!(make_at_once([&eve, &eve], "again", 4).await, 1);
    let metrics = Metrics::read(&one).await;
    assert!(metrics.sum("tidegate_limit_hits_total", "limit", "streams") >= 1.0);
    assert!((metrics.of("tidegate_streams") - 8.0).abs() < 0.5);
    assert!((metrics.of("tidegate_streams_limit") - 8.0).abs() < 0.5);
}

/// Accepted records by stream, as metrics have them.
async fn accepted(gateway: &Gateway) -> Vec<(String, f64)> {
    let metrics = Metrics::read(gateway).await;
    let names = ["a", "b", "c", "d", "e", "(other)"].map(str::to_owned);
    let of = |name: String| {
        let count = metrics.sum("tidegate_records_accepted_total", "stream", &name);
        (name, count)
    };
    names.into_iter().map(of).filter(|(_, count)| *count > 0.0).collect()
}

#[tokio::test]
async fn metrics_name_some_streams_and_no_sum_ever_falls() {
    let gateway = Gateway::with(&["--metric-streams-max=2"]).await;
    let named = |counts: &[(&str, f64)]| -> Vec<(String, f64)> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    for name in ["a", "b", "c", "d"] {
        gateway.commit(name, &json!([{"n": 1}, {"n": 2}, {"n": 3}])).await;
    }
    assert_eq!(accepted(&gateway).await, named(&[("a", 3.0), ("b", 3.0), ("(other)", 6.0)]));
    let metrics = Metrics::read(&gateway).await;
    let committed = metrics.sum("tidegate_records_committed_total", "stream", "(other)");
    assert!((committed - 6.0).abs() < 0.5, "{committed}");
    gateway.delete("/v1/streams/c").await;
    gateway.delete("/v1/streams/a").await;
    gateway.commit("d", &json!({"n": 4})).await;
    gateway.commit("e", &json!({"n": 1})).await;
    let metrics = Metrics::read(&gateway).await;
    let of = |stream: &str| metrics.sum("tidegate_records_accepted_total", "stream", stream);
    // Whether the name was free for the new one yet depends on who is faster; that nothing falls does not.
    assert!(of("(other)") >= 7.0, "{metrics:?}");
    assert!((of("(other)") + of("e") - 8.0).abs() < 0.5, "{metrics:?}");
    assert!((of("b") - 3.0).abs() < 0.5 && of("a").abs() < 0.5, "{metrics:?}");
}

#[tokio::test]
async fn metrics_ask_for_a_token_where_one_is_set() {
    let gateway = Gateway::with(&[&format!("--metrics-token={METRICS_TOKEN}")]).await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "docs"})).await;
    let outsider = Outsider::of(&gateway);
    let read = async |token: Option<&str>| {
        let request = outsider.request(Method::GET, "/metrics");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        crate::support::Reply::to(request).await
    };
    read(None).await.problem(401, "missing_credentials");
    read(Some("a-token-for-prometheuS")).await.problem(401, "invalid_token");
    let text = read(Some(METRICS_TOKEN)).await.expect(200);
    assert!(text.as_str().unwrap().contains("tidegate_streams 1"), "{text}");
    for (scopes, rest, status) in [
        (&["ingest"][..], json!({}), 403),
        (&["read"], json!({"streams": ["docs"]}), 403),
        (&["read"], json!({}), 200),
    ] {
        let token = Token::of(&gateway, "ada", scopes, rest).await;
        assert_eq!(read(Some(&token.text)).await.status, status, "{scopes:?}");
    }
    assert_eq!(read(Some(gateway.token())).await.status, 200, "who has the machine");
    let settings = gateway.get("/v1/configuration").await.expect(200).to_string();
    assert!(!settings.contains(METRICS_TOKEN), "{settings}");
    // It opens nothing else.
    gateway.with_token(METRICS_TOKEN).get("/v1/streams").await.problem(401, "invalid_token");

    let directory = working_directory();
    let mut short = tidegate(
        directory.path(),
        &["serve", "--listen", "127.0.0.1:0", "--metrics-token", "guessed"],
    );
    let complaint = run(&mut short).await.complained(2);
    assert!(
        complaint.contains("TIDEGATE_METRICS_TOKEN") && !complaint.contains("guessed"),
        "{complaint}"
    );
}
