//! PostgreSQL comes back with less than it had: a replica that missed the last commits took over, or an older copy was put
//! back. What the journal still keeps is written again, exactly once; what it does not keep any more is told exactly.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::command::{Serve, program, run, tidegate, working_directory};
use crate::support::people::Outsider;
use crate::support::{ChaosProxy, Cut, Gateway, OwnCluster, Reply, eventually, parse_position};

async fn request(gateway: &Serve, method: Method, path: &str, body: &Value) -> Reply {
    let request = Outsider::at(gateway.address()).request(method, path);
    Reply::to(request.bearer_auth(gateway.token()).json(body)).await
}

async fn commit(gateway: &Serve, stream: &str, records: &Value) -> Value {
    let path = format!("/v1/streams/{stream}/records?ack=commit");
    request(gateway, Method::POST, &path, records).await.expect(201)
}

async fn status(gateway: &Serve) -> Value {
    request(gateway, Method::GET, "/v1/status", &Value::Null).await.expect(200)
}

async fn query(gateway: &Serve, sql: &str) -> Option<String> {
    let directory = gateway.data_dir();
    let url = run(&mut tidegate(&directory, &["db-url", "--data-dir", "."])).await.printed();
    let mut psql = program("psql", &directory);
    let output = run(psql.args(["-XAtq", "-d", url.trim_end(), "-c", sql])).await;
    (output.code == 0).then(|| output.stdout.trim_end().to_owned())
}

/// Copies the stopped cluster, with owners and modes.
async fn copy_cluster(directory: &Path, from: &str, to: &str) {
    let mut shell = program("sh", directory);
    let script = format!("rm -rf {to} && cp -a {from} {to}");
    run(shell.args(["-c", &script])).await.printed();
}

const CLUSTER: &str = "tidegate-data/postgres/data";
const OLDER: &str = "older-copy";

fn numbers(range: std::ops::Range<i64>) -> Value {
    range.map(|n| json!({"n": n})).collect()
}

#[tokio::test]
async fn what_the_journal_keeps_is_written_again_exactly_once() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    let typed = json!({"name": "typed", "columns": columns});
    request(&gateway, Method::POST, "/v1/streams", &typed).await.expect(201);
    commit(&gateway, "documents", &numbers(0..100)).await;
    commit(&gateway, "typed", &numbers(0..100)).await;
    request(&gateway, Method::POST, "/v1/streams", &json!({"name": "dropped"})).await.expect(201);
    assert_eq!(gateway.terminate().await, 0);
    copy_cluster(directory.path(), CLUSTER, OLDER).await;

    // Committed, and lost with what comes after the copy: rows, a stream, a column, a wider type, and the end of a stream.
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    commit(&gateway, "documents", &numbers(100..200)).await;
    commit(&gateway, "late", &numbers(0..50)).await;
    let more =
        json!({"columns": [{"name": "n", "type": "bigint"}, {"name": "word", "type": "text"}]});
    request(&gateway, Method::PATCH, "/v1/streams/typed", &more).await.expect(200);
    commit(&gateway, "typed", &json!([{"n": 3_000_000_000_i64, "word": "a"}])).await;
    let keyed = json!({"name": "keyed", "key": ["/n"], "on_duplicate": "replace"});
    request(&gateway, Method::POST, "/v1/streams", &keyed).await.expect(201);
    commit(&gateway, "keyed", &json!([{"n": 1, "v": 1}, {"n": 2, "v": 1}])).await;
    commit(&gateway, "keyed", &json!([{"n": 1, "v": 2}])).await;
    assert_eq!(gateway.terminate().await, 0);
    copy_cluster(directory.path(), OLDER, CLUSTER).await;

    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    let counts = "select (select count(*) || '/' || count(distinct payload->>'n') from streams.documents)
        || ' ' || (select count(*) || '/' || count(distinct payload->>'n') from streams.late)
        || ' ' || (select count(*) || '/' || count(distinct n) || '/' || max(n) || '/' || max(word) from streams.typed)
        || ' ' || (select string_agg((payload->>'n') || '=' || (payload->>'v'), ',' order by payload->>'n') from streams.keyed)
        || ' ' || (select count(*) from tidegate.parked)";
    let expected = "200/200 50/50 101/101/3000000000/a 1=2,2=1 0";
    let mut last = None;
    eventually("everything is there again", async || {
        last = query(&gateway, counts).await;
        (last.as_deref() == Some(expected)).then_some(())
    })
    .await;
    assert_eq!(status(&gateway).await["database"].get("lost"), None);
    // And it goes on, with numbers that are not taken.
    commit(&gateway, "newer", &numbers(0..1)).await;
    commit(&gateway, "documents", &numbers(200..201)).await;
    let ids = "select count(*) = count(distinct id) from tidegate.streams";
    assert_eq!(query(&gateway, ids).await.as_deref(), Some("t"));
    let count = "select count(*) from streams.documents";
    assert_eq!(query(&gateway, count).await.as_deref(), Some("201"));
    assert!(gateway.log().contains("had forgotten this stream"), "{}", gateway.log());
    assert_eq!(gateway.terminate().await, 0);
}

/// The gateway goes on meanwhile, and no more records are sent: nothing but its own look tells it that rows are
/// missing.
#[tokio::test]
async fn a_gateway_with_nothing_to_do_notices_and_writes_again() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &[]).await;
    gateway.commit("documents", &numbers(0..10)).await;
    cluster.keep_copy().await;
    gateway.commit("documents", &numbers(10..20)).await;
    cluster.set_back().await;
    let count = "select count(distinct payload->>'n') from streams.documents";
    eventually("everything is there again", async || {
        (gateway.scalar::<i64>(count).await == 20).then_some(())
    })
    .await;
    assert_eq!(gateway.rows("documents").await, 20, "once");
    assert!(gateway.log().contains("PostgreSQL was set back"), "{}", gateway.log());
}

/// A connection that is made after the set-back must not commit what follows before what is missing.
#[tokio::test]
async fn of_equal_keys_the_last_stays_when_the_first_was_missing() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &["--writers=4"]).await;
    let keyed = json!({"name": "keyed", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&keyed).await;
    gateway.commit("keyed", &json!({"n": 1, "v": 0})).await;
    cluster.keep_copy().await;
    gateway.commit("keyed", &json!({"n": 1, "v": 1})).await;
    cluster.set_back().await;
    gateway.commit("keyed", &json!({"n": 1, "v": 2})).await;
    eventually("it is noticed", async || {
        gateway.log().contains("PostgreSQL was set back").then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    let version = "select payload->>'v' from streams.keyed";
    assert_eq!(gateway.column::<String>(version).await, ["2"]);
}

/// The epoch is the session's own, since no other session was begun; only the server is not the one that it began with.
/// The connection that would notice hears nothing, and a connection that is made now must not go on alone.
#[tokio::test]
async fn a_connection_to_a_server_that_was_set_back_does_not_join_the_session() {
    let mut cluster = OwnCluster::start().await;
    let proxy = ChaosProxy::before(cluster.url()).await;
    // Many writers, so that the next batch comes to one that has no connection yet.
    let flags = ["--writers=8", "--statement-timeout-seconds=5"];
    let gateway = Gateway::through(proxy.url(cluster.url()), cluster.url(), &flags).await;
    let keyed = json!({"name": "keyed", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&keyed).await;
    let kept = gateway.commit("keyed", &json!([{"n": 1, "v": 0}])).await;
    gateway.commit("keyed", &json!([{"n": 1, "v": 1}, {"n": 2, "v": 1}])).await;
    proxy.cut(Cut::HalfOpen);
    cluster.stop().await;
    cluster.start_again().await;
    // As it was after the first commit.
    let kept = parse_position(&kept["position"]);
    gateway
        .execute(&format!(
            "delete from tidegate.committed_ranges where last > {kept};
             delete from streams.keyed where payload->>'n' = '2';
             update streams.keyed set payload = jsonb_set(payload, '{{v}}', '0')",
            kept = kept.0
        ))
        .await;
    gateway.commit("keyed", &json!([{"n": 1, "v": 2}])).await;
    let versions = "select payload->>'v' from streams.keyed order by payload->>'n'";
    assert_eq!(gateway.column::<String>(versions).await, ["2", "1"], "what is missing comes first");
}

/// After some batches PostgreSQL has one range instead of those on both sides of the hole; a session that begins then sees
/// none, and the operator may not have looked yet.
async fn assert_still_told_when_it_is_folded(gateway: &Serve, lost: &Value) {
    let (from, to) = (parse_position(&lost["from"]), parse_position(&lost["to"]));
    let is_folded = format!(
        "select bool_or(first <= {} and last >= {}) from tidegate.committed_ranges",
        from.0, to.0
    );
    let mut number = 1_000;
    // Not before so many batches, so there is nothing to look for.
    while number < 1_064 {
        commit(gateway, "documents", &json!({"n": number})).await;
        number += 1;
    }
    eventually("the hole is folded", async || {
        commit(gateway, "documents", &json!({"n": number})).await;
        number += 1;
        (query(gateway, &is_folded).await.as_deref() == Some("t")).then_some(())
    })
    .await;
    let sessions = || gateway.log().matches("writing to PostgreSQL epoch").count();
    let before = sessions();
    let end_lines = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    assert!(query(gateway, end_lines).await.is_some());
    eventually("another session begins", async || (sessions() > before).then_some(())).await;
    let status = status(gateway).await;
    assert_eq!(status["database"]["lost"], json!([lost]), "{status}");
}

#[tokio::test]
async fn what_the_journal_does_not_keep_any_more_is_told_exactly() {
    // Nothing that is committed is kept for longer than the next look at the journal's size.
    let flags = [
        "--journal-retention-seconds=0",
        "--journal-retention-bytes=0",
        "--journal-segment-bytes=1048576",
    ];
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &flags, &[]).await;
    let before = commit(&gateway, "documents", &numbers(0..10)).await;
    assert_eq!(gateway.terminate().await, 0);
    copy_cluster(directory.path(), CLUSTER, OLDER).await;

    let mut gateway = Serve::start(directory.path(), &flags, &[]).await;
    let padding = "x".repeat(100_000);
    for n in 10..40 {
        commit(&gateway, "documents", &json!({"n": n, "padding": padding})).await;
    }
    eventually("segments are gone", async || {
        let first = status(&gateway).await["journal"]["first"].clone();
        (first.as_str() > before["position"].as_str()).then_some(())
    })
    .await;
    assert_eq!(gateway.terminate().await, 0);
    copy_cluster(directory.path(), OLDER, CLUSTER).await;

    let mut gateway = Serve::start(directory.path(), &flags, &[]).await;
    let lost = eventually("it is told", async || {
        let status = status(&gateway).await;
        let lost = status["database"]["lost"].as_array()?.clone();
        Some((lost, status["journal"]["first"].clone()))
    })
    .await;
    let (lost, first) = lost;
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(
        lost[0]["from"].as_str() >= before["position"].as_str(),
        "{lost:?}: after what the copy has"
    );
    assert!(lost[0]["to"].as_str() <= first.as_str(), "{lost:?}: up to what the journal has");
    assert!(gateway.log().contains("records of these positions are lost"), "{}", gateway.log());
    // What was not lost is there once, and it goes on.
    commit(&gateway, "documents", &json!({"n": 40})).await;
    assert_still_told_when_it_is_folded(&gateway, &lost[0]).await;
    let doubles = "select count(*) from (select from streams.documents group by payload->>'n' having count(*) > 1) d";
    assert_eq!(query(&gateway, doubles).await.as_deref(), Some("0"));
    assert_eq!(gateway.terminate().await, 0);
}
