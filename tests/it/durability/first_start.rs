//! A first start whose database cannot be prepared: the gateway listens at once, says what is missing, goes on by itself
//! when it is there, and can be stopped like any other. And the password that a first start makes.

use serde_json::{Value, json};
use tidegate::auth::{ADMIN_PASSWORD_FILE, FirstAdmin, ensure_first_admin};

use crate::support::command::{Serve, run_with_input, tidegate, working_directory};
use crate::support::people::{Outsider, PASSWORD, add_user};
use crate::support::{Gateway, OwnCluster, TestDatabase, connect, eventually, soon};

/// A role of the tests' PostgreSQL that may connect, and nothing more.
const ROLE: &str = "tidegate_without_rights";

async fn status_with(gateway: &Gateway, expected: &str) -> Value {
    eventually(&format!("it says: {expected}"), async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let error = status["database"]["last_error"].as_str()?;
        error.contains(expected).then(|| status.clone())
    })
    .await
}

async fn wait_ready(gateway: &Gateway) {
    eventually("it is ready", async || (gateway.get("/readyz").await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_role_that_may_make_nothing_is_told_which_grant_it_needs() {
    let database = TestDatabase::create().await;
    let admin = connect(database.url()).await;
    let role = format!(
        "do $$ begin create role {ROLE} login; exception when duplicate_object or unique_violation then null; end $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(role)).execute(&admin).await.unwrap();
    let mut url: url::Url = database.url().parse().unwrap();
    url.set_username(ROLE).unwrap();

    let mut gateway =
        soon("it listens at once", Gateway::through(url.into(), database.url(), &[])).await;
    let name: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&admin).await.unwrap();
    let grant = format!("grant create on database {name} to {ROLE}");
    let status = status_with(&gateway, &grant).await;
    assert_eq!(status["ready"], false);
    gateway.get("/readyz").await.expect(503);
    gateway.get("/healthz").await.expect(200);
    let outsider = Outsider::of(&gateway);
    for reply in [
        gateway.records("first").json(&json!({"n": 1})).send().await,
        gateway.post("/v1/streams", &json!({"name": "first"})).await,
        gateway.get("/v1/quarantine").await,
        // No user is known yet, so none is refused as unknown.
        outsider.sign_in("admin", PASSWORD).await,
        outsider.who_by_password("admin", PASSWORD).await,
        outsider.who_by_token("tg_of_somebody").await,
    ] {
        assert!(reply.retry_after_seconds() > 0);
        reply.problem(503, "database_unavailable");
    }
    assert_eq!(gateway.terminate().await, 0, "nothing was taken, so nothing is left");
    let log = gateway.log();
    assert!(!log.contains("ERROR"), "{log}");
    assert_eq!(log.matches(&grant).count(), 1, "said once: {log}");

    gateway.restart().await;
    status_with(&gateway, &grant).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&admin).await.unwrap();
    wait_ready(&gateway).await;
    gateway.commit("first", &json!({"n": 1})).await;

    // It has what it needs, so the right to make more may be taken back.
    let revoke = format!("revoke create on database {name} from {ROLE}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(revoke)).execute(&admin).await.unwrap();
    gateway.restart().await;
    gateway.commit("first", &json!({"n": 2})).await;
    let revoke = format!(
        "revoke create on schema streams from {ROLE}; alter schema streams owner to current_user"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(revoke)).execute(&admin).await.unwrap();
    gateway.restart().await;
    status_with(&gateway, &format!("grant usage, create on schema streams to {ROLE}")).await;
}

/// What a person reads who starts it by hand.
#[tokio::test]
async fn a_start_without_postgresql_says_that_it_is_not_ready_and_ends_well() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = working_directory();
    let nowhere = directory.path().join("nowhere").display().to_string();
    let url = format!("postgres://tidegate@localhost/tidegate?host={nowhere}");
    let environment = [("DATABASE_URL", url.as_str())];
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    let printed = gateway.printed();
    assert!(printed.contains("listens, but is not ready: "), "{printed}");
    assert!(!printed.lines().next().unwrap().ends_with("is ready."), "{printed}");
    let ready = reqwest::get(format!("http://{}/readyz", gateway.address())).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert_eq!(gateway.terminate().await, 0);
    assert!(!gateway.log().contains("ERROR"), "{}", gateway.log());
}

#[tokio::test]
async fn a_standby_is_told_and_waited_for() {
    let mut cluster = OwnCluster::start().await;
    cluster.become_standby().await;
    let gateway = Gateway::on(cluster.url(), &[]).await;
    let status = status_with(&gateway, "read-only standby").await;
    assert_eq!(status["ready"], false);
    let reply = gateway.post("/v1/streams", &json!({"name": "late"})).await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    gateway.execute("select pg_promote()").await;
    wait_ready(&gateway).await;
    gateway.commit("late", &json!({"n": 1})).await;
    let log = gateway.log();
    assert!(log.contains("the first user is made") && log.contains("admin-password"), "{log}");
    let password = std::fs::read_to_string(gateway.data_dir().join("admin-password")).unwrap();
    assert!(!log.contains(password.trim()), "a password is not for the log");
    assert!(!log.contains("ERROR"), "{log}");
}

/// It kept a password that opened nothing any more.
#[tokio::test]
async fn the_file_of_the_first_password_goes_when_another_is_set() {
    let database = TestDatabase::create().await;
    let mut gateway = Gateway::on(database.url(), &[]).await;
    let file = gateway.data_dir().join("admin-password");
    let first = std::fs::read_to_string(&file).unwrap();
    add_user(&gateway, "ada", "member").await;
    gateway.execute("update tidegate.users set email = 'a@example.com'").await;
    gateway.restart().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first, "it is the password still");
    let users = gateway.get("/v1/users").await.expect(200);
    let path = format!("/v1/users/{}", users["users"][0]["id"]);
    gateway.patch(&path, &json!({"password": "another password"})).await.expect(200);
    eventually("the file is gone", async || (!file.exists()).then_some(())).await;
    eventually("the log tells", async || gateway.log().contains("removed").then_some(())).await;

    // From the command line, without a gateway.
    assert_eq!(gateway.terminate().await, 0);
    std::fs::write(&file, "another password\n").unwrap();
    let data_dir = gateway.data_dir().display().to_string();
    let passwd = ["user", "passwd", "admin", "--password-stdin", "--data-dir", &data_dir];
    let mut command = tidegate(gateway.data_dir(), &passwd);
    command.env("DATABASE_URL", database.url());
    run_with_input(&mut command, "a third password").await.printed();
    assert!(!file.exists());
}

/// Before: a try that was cut off while it was committed was followed by one that wrote another password over its own, found
/// the admin there, and removed the file: no password opened anything.
#[tokio::test]
async fn tries_at_the_first_admin_that_overlap_leave_its_password() {
    let gateway = Gateway::start().await;
    gateway.execute("delete from tidegate.users").await;
    let directory = working_directory();
    let file = directory.path().join(ADMIN_PASSWORD_FILE);
    let pool = gateway.pool().clone().into();
    let attempt = || ensure_first_admin(&pool, directory.path(), "admin", None);
    // The first has no answer to its commit yet, as far as the second can see.
    let mut held = gateway.pool().begin().await.unwrap();
    sqlx::query("lock table tidegate.users in share mode").execute(&mut *held).await.unwrap();
    let waiting = async |least: i64| {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock' and query like 'lock table tidegate.users%'";
        eventually("they wait", async || {
            (gateway.scalar::<i64>(waiting).await >= least).then_some(())
        })
        .await;
    };
    let both = async { tokio::join!(attempt(), attempt()) };
    let let_go = async {
        waiting(2).await;
        held.rollback().await.unwrap();
    };
    let ((one, other), ()) = tokio::join!(both, let_go);
    let made = [one.unwrap(), other.unwrap()];
    let generated = |made: &&FirstAdmin| matches!(made, FirstAdmin::Generated { .. });
    assert_eq!(made.iter().filter(generated).count(), 1, "{made:?}");
    let password = std::fs::read_to_string(&file).unwrap();
    let outsider = Outsider::of(&gateway);
    outsider.who_by_password("admin", password.trim_end()).await.expect(200);
}
