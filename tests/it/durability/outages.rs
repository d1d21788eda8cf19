//! PostgreSQL goes away and comes back: the gateway goes on acknowledging, and then catches up.

use std::str::FromStr;

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{Gateway, Metrics, Oracle, OwnCluster, Reply, connect, eventually, soon};

/// Waits until the gateway knows how PostgreSQL fares.
pub async fn wait_reachable(gateway: &Gateway, reachable: bool) {
    eventually(&format!("reachable: {reachable}"), async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["database"]["reachable"] == reachable).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ingest_goes_on_without_postgresql_and_catches_up() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &["--commit-wait-ms=500", "--batch-rows=500"]).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let load = oracle.load(&gateway);
    load.acknowledges(500).await;
    cluster.stop().await;
    load.acknowledges(500).await;
    wait_reachable(&gateway, false).await;
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(status["ready"], false);
    assert!(status["database"]["last_error"].is_string(), "{status}");
    assert_eq!(gateway.get("/readyz").await.status, 503);
    assert_eq!(gateway.get("/healthz").await.status, 200, "it is alive all the same");
    load.acknowledges(500).await;
    cluster.start_again().await;
    load.acknowledges(500).await;
    load.finish(&mut oracle).await;
    gateway.wait_all_committed().await;
    wait_reachable(&gateway, true).await;
    oracle.verify(&gateway).await;
    assert_eq!(gateway.get("/readyz").await.status, 200);
    for stream in Oracle::streams() {
        let rows = u64::try_from(gateway.rows(stream).await).unwrap();
        assert_eq!(gateway.total(stream, "committed").await, rows, "{stream}");
    }
}

#[tokio::test]
async fn a_postgresql_that_is_killed_over_and_over_gets_every_row_once() {
    const ROUNDS: usize = 3;
    let mut cluster = OwnCluster::start().await;
    let flags = ["--commit-wait-ms=500", "--batch-rows=100", "--batch-interval-ms=10"];
    let gateway = Gateway::on(cluster.url(), &flags).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    for _ in 0..ROUNDS {
        let load = oracle.load(&gateway);
        load.acknowledges(400).await;
        cluster.kill();
        load.acknowledges(100).await;
        cluster.start_again().await;
        load.acknowledges(100).await;
        load.finish(&mut oracle).await;
    }
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
}

#[tokio::test]
async fn a_gateway_starts_and_acknowledges_while_postgresql_is_away() {
    let mut cluster = OwnCluster::start().await;
    let mut gateway = Gateway::on(cluster.url(), &[]).await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "known", "columns": columns})).await;
    gateway.commit("known", &json!({"n": 1})).await;
    let token = gateway
        .post("/v1/tokens", &json!({"name": "sender", "user": "admin", "scopes": ["ingest"]}))
        .await;
    let token = token.expect(201)["token"].as_str().unwrap().to_owned();
    gateway.terminate().await;
    cluster.stop().await;

    gateway.restart().await;
    let reply =
        gateway.records("known").json(&json!([{"n": 2}, {"n": "noon"}])).send().await.expect(202);
    assert_eq!(
        (&reply["accepted"], &reply["quarantined"]),
        (&json!(1), &json!(1)),
        "columns are known"
    );
    let sender = gateway.with_token(&token);
    sender.records("known").json(&json!({"n": 3})).send().await.expect(202);
    // An unknown stream cannot be made now; that is no reason to take anything down.
    let reply = gateway.records("unknown").json(&json!({"n": 1})).send().await;
    assert_eq!(reply.status, 503, "{}", reply.body);

    // Not even a crash before PostgreSQL is back loses anything.
    gateway.kill9().await;
    cluster.start_again().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let mut values: Vec<i32> = gateway.column("select n from streams.known").await;
    values.sort_unstable();
    assert_eq!(values, [1, 2, 3]);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 1);
}

#[tokio::test]
async fn a_gateway_without_a_database_url_runs_its_own_postgresql() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_tidegate");
    let spawn = || {
        tokio::process::Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .env_remove("DATABASE_URL")
            .current_dir(directory.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let mut ids: Vec<Value> = Vec::new();
    for start in 1..=2 {
        let mut gateway = spawn();
        let stdout = gateway.stdout.take().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        let url = soon("the gateway says its address", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it starts");
                if let Some((_, url)) = line.split_once("Look:") {
                    return url.trim().to_owned();
                }
            }
        })
        .await;
        let token = std::fs::read_to_string(directory.path().join("data/local-token")).unwrap();
        let request =
            reqwest::Client::new().post(format!("{url}v1/streams/hello/records?ack=commit"));
        let request = request.bearer_auth(token.trim()).json(&json!({"start": start}));
        ids.push(Reply::to(request).await.expect(201)["id"].clone());

        let output = tokio::process::Command::new(binary)
            .args(["db-url", "--data-dir", "data"])
            .env_remove("DATABASE_URL")
            .current_dir(directory.path())
            .output()
            .await
            .unwrap();
        let url = String::from_utf8(output.stdout).unwrap();
        let pool = connect(url.trim()).await;
        let found: Vec<String> =
            sqlx::query_scalar("select id::text from streams.hello order by id")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(json!(found), json!(ids));
        pool.close().await;

        let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = soon("the gateway ends", gateway.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "and takes its PostgreSQL down with it");
        assert!(!directory.path().join("data/postgres/data/postmaster.pid").exists());
    }
}

/// As while a copy of it is made, or before it is renamed.
#[tokio::test]
async fn a_database_that_takes_no_connections_is_away() {
    let gateway = Gateway::start().await;
    gateway.commit("kept", &json!({"n": 1})).await;
    let database: String = gateway.scalar("select quote_ident(current_database())").await;
    let elsewhere = PgConnectOptions::from_str(gateway.database_url()).unwrap();
    let mut elsewhere = PgConnection::connect_with(&elsewhere.database("postgres")).await.unwrap();
    let mut allow = async |allowed: bool| {
        let sql = format!("alter database {database} allow_connections {allowed}");
        elsewhere.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    };
    allow(false).await;
    gateway
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name = 'tidegate'",
        )
        .await;
    wait_reachable(&gateway, false).await;
    for _ in 0..3 {
        let reply = gateway.records("unknown").json(&json!({"n": 1})).send().await;
        reply.problem(503, "database_unavailable");
    }
    gateway.records("kept").json(&json!({"n": 2})).send().await.expect(202);
    allow(true).await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("kept").await, 2);
    gateway.commit("unknown", &json!({"n": 1})).await;
}

#[tokio::test]
async fn a_postgresql_that_only_reads_is_waited_for() {
    let gateway = Gateway::start().await;
    gateway.commit("kept", &json!({"n": 1})).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name = 'tidegate'";
    let set = async |value: &str, and: &str| {
        let database: String = gateway.scalar("select quote_ident(current_database())").await;
        gateway
            .execute(&format!(
                "set default_transaction_read_only = off;
                 alter database {database} set default_transaction_read_only = {value}; {and}"
            ))
            .await;
    };
    // As it is after a failover, until the replica is promoted.
    set("on", cut).await;
    gateway
        .post("/v1/streams", &json!({"name": "made"}))
        .await
        .problem(503, "database_unavailable");
    gateway.records("kept").json(&json!([{"n": 2}, {"n": 3}])).send().await.expect(202);
    eventually("it is told why", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let error = status["database"]["last_error"].as_str()?.to_owned();
        error.contains("read-only").then_some(())
    })
    .await;
    // Connections that were made meanwhile stay as they are; none of them is given out again.
    set("off", "").await;
    gateway.wait_all_committed().await;
    gateway.create_stream(&json!({"name": "made"})).await;
    assert_eq!(gateway.rows("kept").await, 3);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
}

/// What PostgreSQL says when it cannot at the moment is said by a trigger here, in the middle of a COPY.
#[tokio::test]
async fn what_postgresql_cannot_do_at_the_moment_is_waited_for_and_no_records_fault() {
    let gateway = Gateway::with(&["--batch-interval-ms=10"]).await;
    gateway.create_stream(&json!({"name": "patient"})).await;
    gateway
        .execute(
            "create table public.said (sqlstate text);
             create function say() returns trigger language plpgsql as $$
             declare code text;
             begin
                 select sqlstate into code from public.said;
                 if found then raise exception 'not now' using errcode = code; end if;
                 return new;
             end $$;
             create trigger say before insert on streams.patient for each row execute function say()",
        )
        .await;
    let errors = async |class: &str| {
        Metrics::read(&gateway).await.sum("tidegate_writer_errors_total", "class", class)
    };
    // Disk full, a serialization failure, an I/O error.
    let codes = ["53100", "40001", "58030"];
    for (n, code) in codes.iter().enumerate() {
        let class = &code[..2];
        let before = errors(class).await;
        gateway.execute(&format!("insert into public.said values ('{code}')")).await;
        gateway.records("patient").json(&json!({"n": n})).send().await.expect(202);
        eventually("the writers heard it, and tried again", async || {
            (errors(class).await >= before + 2.0).then_some(())
        })
        .await;
        gateway.execute("delete from public.said").await;
        gateway.wait_all_committed().await;
    }
    let numbers: Vec<i64> =
        gateway.column("select (payload->>'n')::bigint from streams.patient order by 1").await;
    assert_eq!(numbers, [0, 1, 2]);
    let aside = "select (select count(*) from tidegate.quarantine) + (select count(*) from tidegate.parked)";
    assert_eq!(gateway.scalar::<i64>(aside).await, 0);
}
