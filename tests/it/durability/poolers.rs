//! Connections that are not what the gateway needs are found at the start and at each reconnect, and said in one line;
//! nothing is half done over them.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::json;
use tidegate::db::Database;
use tidegate::db::connection_check::{ConnectError, Unfit};
use tidegate::db::notifications::CatalogListener;

use crate::support::{ChaosProxy, Cut, Gateway, Pooler, TestDatabase, connect, eventually, soon};

/// `PgBouncer` takes the settings that a connection asks for, and drops them.
const DROPS: &str = "ignore_startup_parameters = extra_float_digits, options";
const TRANSACTIONS: &str = "pool_mode = transaction";
const SESSIONS: &str = "pool_mode = session";

/// What the gateway says of PostgreSQL.
async fn last_error(gateway: &Gateway, expected: &str) -> String {
    eventually(&format!("it says: {expected}"), async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let error = status["database"]["last_error"].as_str()?.to_owned();
        (status["ready"] == false && error.contains(expected)).then_some(error)
    })
    .await
}

#[tokio::test]
async fn a_pooler_that_drops_or_refuses_settings_is_told_at_the_start() {
    let database = TestDatabase::create().await;
    let pool = connect(database.url()).await;
    let cases = [
        (vec![TRANSACTIONS, DROPS], "drops the connection's settings"),
        (vec![SESSIONS, DROPS], "drops the connection's settings"),
        (vec![SESSIONS], "refuses the connection's settings (unsupported startup parameter"),
    ];
    for (settings, expected) in cases {
        let pooler = Pooler::before(database.url(), &settings, "").await;
        let url = pooler.url(database.url());
        let mut gateway = Gateway::through(url, database.url(), &[]).await;
        let error = last_error(&gateway, expected).await;
        assert!(error.contains("let DATABASE_URL lead to PostgreSQL itself"), "{error}");
        let ready = gateway.get("/readyz").await.expect(503);
        assert!(!ready.to_string().contains("pooler"), "that is not for everybody: {ready}");
        // Once is enough: each waits for a connection.
        if settings == [TRANSACTIONS, DROPS] {
            let half = json!({"name": "half"});
            let record = gateway.records("half").json(&json!({"n": 1}));
            let (stream, record) = tokio::join!(gateway.post("/v1/streams", &half), record.send());
            let statuses = (stream.status, record.status);
            assert_eq!(statuses, (503, 503), "{} {}", stream.body, record.body);
        }
        let made: bool = sqlx::query_scalar("select to_regnamespace('tidegate') is not null")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(!made, "nothing was begun");
        let log = gateway.log();
        let said = log.lines().filter(|line| line.contains("DATABASE_URL")).count();
        assert_eq!(said, 1, "it is said once: {log}");
        assert_eq!(gateway.terminate().await, 0);
        assert!(!gateway.log().contains("ERROR"), "{}", gateway.log());
    }
}

#[tokio::test]
async fn a_pooler_that_comes_in_between_is_found_at_the_reconnect() {
    let database = TestDatabase::create().await;
    let pooler = Pooler::before(database.url(), &[TRANSACTIONS, DROPS], "").await;
    let direct: url::Url = database.url().parse().unwrap();
    let socket = direct.query_pairs().find(|(name, _)| name == "host").unwrap().1.into_owned();
    let directory = tempfile::tempdir().unwrap();
    let line = directory.path().join("line");
    let lead_to = |to: &std::path::Path| {
        let _ = std::fs::remove_file(&line);
        symlink(to, &line).unwrap();
    };
    lead_to(socket.as_ref());
    let mut switched = direct.clone();
    switched.query_pairs_mut().clear().append_pair("host", line.to_str().unwrap());
    let proxy = ChaosProxy::before(switched.as_str()).await;
    let gateway = Gateway::through(proxy.url(switched.as_str()), database.url(), &[]).await;
    for stream in ["one", "two"] {
        gateway.commit(stream, &json!({"n": 1})).await;
    }
    lead_to(pooler.directory());
    proxy.cut(Cut::Reset);
    gateway.records("one").json(&json!({"n": 2})).send().await.expect(202);
    last_error(&gateway, "drops the connection's settings").await;
    gateway.records("two").json(&json!({"n": 2})).send().await.expect(202);
    assert_eq!(gateway.rows("one").await, 1, "nothing is written over it");
    lead_to(socket.as_ref());
    proxy.cut(Cut::Reset);
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("one").await, gateway.rows("two").await), (2, 2));
    gateway.get("/readyz").await.expect(200);
}

/// Settings that a pooler gives to all of its connections say nothing of whose these are.
#[tokio::test]
async fn a_connection_that_moves_between_transactions_is_found() {
    let database = TestDatabase::create().await;
    let round_robin = "server_round_robin = 1";
    let settings = "connect_query='set timezone = ''UTC''; set statement_timeout = 3000; set lock_timeout = 1000'";
    let pooler =
        Pooler::before(database.url(), &[TRANSACTIONS, DROPS, round_robin], settings).await;
    // Two transactions side by side need two server processes.
    let pool = connect(&pooler.url(database.url())).await;
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut connection = pool.acquire().await.unwrap();
        sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
        both.push(connection);
    }
    for mut connection in both {
        sqlx::raw_sql("commit").execute(&mut *connection).await.unwrap();
    }
    let database_through = Database::new(&pooler.url(database.url())).unwrap();
    let seconds = Duration::from_secs;
    eventually("it has two server processes in turn", async || {
        match database_through.connect(seconds(3), seconds(1)).await {
            Err(ConnectError::Unfit(unfit)) => (unfit == Unfit::Moving).then_some(()),
            Ok(_only_one_yet) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_hears_nothing_is_found() {
    let database = TestDatabase::create().await;
    let settings = "connect_query='set timezone = ''UTC''; set statement_timeout = 15000; set lock_timeout = 2000'";
    let pooler = Pooler::before(database.url(), &[TRANSACTIONS, DROPS], settings).await;
    let through = Database::new(&pooler.url(database.url())).unwrap();
    let opened = soon("it is told", Box::pin(CatalogListener::open(&through))).await;
    let error = opened.expect_err("it cannot listen").to_string();
    assert!(error.contains("let DATABASE_URL lead to PostgreSQL itself"), "{error}");
    let direct = Database::new(database.url()).unwrap();
    soon("it listens", Box::pin(CatalogListener::open(&direct)))
        .await
        .expect("nothing is in between");
}
