//! Commits that do not come back, although PostgreSQL can be reached: the gateway says that it is not ready, and what they
//! wait for, while it takes records; and what hangs takes no connection from those who could go on.

use serde_json::{Value, json};
use sqlx::Executor;
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, OwnCluster, Reply, eventually, soon};

const PASSWORD: &str = "correct horse battery";
/// More than there are connections for anything.
const SIGN_INS: usize = 12;

async fn stalled(gateway: &Gateway, expected: &str) -> Value {
    eventually(&format!("it says: {expected}"), async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let stalled = status["database"]["stalled"].as_str()?;
        (status["ready"] == false && stalled.contains(expected)).then(|| status.clone())
    })
    .await
}

async fn wait_ready(gateway: &Gateway) {
    gateway.wait_all_committed().await;
    eventually("it is ready", async || (gateway.get("/readyz").await.status == 200).then_some(()))
        .await;
}

/// Signs in, however often it takes to have the password checked.
async fn sign_in(client: Client) -> Reply {
    loop {
        let body = json!({"user": "admin", "password": PASSWORD});
        let reply = client.post("/v1/sessions", &body).await;
        if reply.status != 429 {
            return reply;
        }
    }
}

#[tokio::test]
async fn commits_that_do_not_come_back_make_it_not_ready_and_are_named() {
    let cluster = OwnCluster::start().await;
    let flags = ["--commit-stall-seconds=1", "--lock-timeout-ms=600000"];
    let password = format!("--admin-password={PASSWORD}");
    let gateway = Gateway::on(cluster.url(), &[&flags[..], &[&password]].concat()).await;
    gateway.commit("known", &json!({"n": 0})).await;
    gateway.get("/readyz").await.expect(200);
    let cookie = sign_in((*gateway).clone()).await;
    let cookie =
        cookie.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();

    // A synchronous standby that is gone.
    let standbys = async |names: &str| {
        gateway.execute(&format!("alter system set synchronous_standby_names = '{names}'")).await;
        gateway.execute("select pg_reload_conf()").await;
        eventually("it is in force", async || {
            let found: String = gateway.scalar("show synchronous_standby_names").await;
            (found == names).then_some(())
        })
        .await;
    };
    standbys("gone").await;
    gateway.records("known").json(&json!({"n": 1})).send().await.expect(202);
    let status = stalled(&gateway, "a synchronous standby that does not answer").await;
    let words = status["database"]["stalled"].as_str().unwrap();
    assert!(words.contains("synchronous_standby_names is 'gone'"), "{words}");
    assert_eq!(status["database"]["reachable"], true, "{status}");
    let ready = gateway.get("/readyz").await.expect(503).to_string();
    assert!(ready.contains("does not commit") && !ready.contains("gone"), "{ready}");
    gateway.records("known").json(&json!({"n": 2})).send().await.expect(202);

    // Sign-ins hang; users who are signed in, read or look are served all the same.
    let mut hanging = JoinSet::new();
    for _ in 0..SIGN_INS {
        hanging.spawn(sign_in((*gateway).clone()));
    }
    let refused = soon("one finds no connection", hanging.join_next()).await.unwrap().unwrap();
    refused.problem(503, "database_unavailable");
    let url = format!("http://{}/v1/sessions", gateway.address());
    let session = reqwest::Client::new().get(url).header("cookie", &cookie);
    Reply::to(session).await.expect(200);
    let listed = gateway.get("/v1/streams?sizes=true").await.expect(200);
    assert!(listed["streams"][0]["size"]["rows"].is_i64(), "{listed}");
    gateway.get("/v1/streams/known/records").await.expect(200);
    gateway.get("/v1/quarantine").await.expect(200);
    standbys("").await;
    wait_ready(&gateway).await;
    hanging.join_all().await;

    // A lock on a table of the gateway's own.
    let mut transaction = gateway.pool().begin().await.unwrap();
    let lock = "lock table tidegate.committed_ranges in share mode";
    transaction.execute(sqlx::raw_sql(lock)).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    gateway.records("known").json(&json!({"n": 3})).send().await.expect(202);
    stalled(&gateway, &format!("a lock that is held by process {pid} (")).await;
    gateway.get("/readyz").await.expect(503);
    transaction.rollback().await.unwrap();
    wait_ready(&gateway).await;
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(status["database"].get("stalled"), None, "{status}");
    assert_eq!(gateway.rows("known").await, 4);
    let log = gateway.log();
    assert_eq!(log.matches("does not commit them").count(), 2, "said once each: {log}");
}
