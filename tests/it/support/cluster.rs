//! PostgreSQL for tests: one private cluster shared by all of them, whatever process or thread they run in, and a
//! database for each. A test that stops PostgreSQL has a cluster of its own.
//!
//! The shared cluster lies below the build's directory for temporary files. The first process starts it, under a
//! file lock; the others adopt it. It is unknown which one is the last, so the first also starts a watcher: a shell
//! process that stops the server once no client was connected for a while. Every test holds a connection for as long as
//! it lives.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tempfile::TempDir;
use tidegate_private_postgres::{Cluster, ClusterOptions};
use uuid::Uuid;

use super::eventually;

/// Connections to the shared cluster: of every test its own, its gateway's pool and writers.
const CONNECTIONS_MAX: &str = "400";
/// What the names of databases of tests begin with.
const DATABASE_PREFIX: &str = "it_";
/// How often a test may find the server on its way down.
const CONNECT_TRIES: usize = 5;
/// Connections of a test beside its gateway's.
const POOL_CONNECTIONS_MAX: u32 = 4;

/// Stops the server ($1: process, $2: URL) after 15 looks in a row that found no client. A smart shutdown lets one that
/// comes at the last moment finish; the next test finds a server that is stopping and starts it again.
const WATCHER: &str = r#"
idle=0
while [ "$idle" -lt 15 ]; do
    sleep 2
    kill -0 "$1" 2>/dev/null || exit 0
    clients=$(psql -XAtq -d "$2" -c "select count(*) from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()") || clients=0
    if [ "$clients" = 0 ]; then idle=$((idle + 1)); else idle=0; fi
done
kill -TERM "$1"
"#;

/// A database of one test in the shared cluster; dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    admin_url: String,
}

impl TestDatabase {
    pub async fn create() -> TestDatabase {
        let name = format!("{DATABASE_PREFIX}{}", Uuid::new_v4().simple());
        for _ in 0..CONNECT_TRIES {
            let cluster = shared_cluster().await;
            let Ok(mut admin) = PgConnection::connect(&cluster.url()).await else {
                continue;
            };
            let sql = AssertSqlSafe(format!("create database {name}"));
            sqlx::raw_sql(sql).execute(&mut admin).await.expect("a database can be made");
            let (url, admin_url) = (cluster.database_url(&name), cluster.url());
            return TestDatabase { name, url, admin_url };
        }
        panic!("the shared PostgreSQL takes no connections");
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (name, url) = (self.name.clone(), self.admin_url.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&url).await?;
                let sql = AssertSqlSafe(format!("drop database if exists {name} with (force)"));
                admin.execute(sqlx::raw_sql(sql)).await.map(drop)
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("the database {} stays behind: {error}", self.name);
        }
    }
}

/// A pool on a database of its own, for a test that needs no gateway.
#[derive(Debug)]
pub struct TestPool {
    pool: PgPool,
    _database: TestDatabase,
}

impl Deref for TestPool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// An empty database, dropped with the pool.
pub async fn database() -> TestPool {
    let database = TestDatabase::create().await;
    TestPool { pool: connect(database.url()).await, _database: database }
}

/// A pool on a database, with one connection held open.
pub async fn connect(url: &str) -> PgPool {
    let options = PgConnectOptions::from_str(url).expect("a URL of PostgreSQL");
    PgPoolOptions::new()
        .max_connections(POOL_CONNECTIONS_MAX)
        .min_connections(1)
        .connect_with(options.options([("timezone", "UTC")]))
        .await
        .expect("PostgreSQL takes a connection")
}

/// Starts the shared cluster or adopts it.
async fn shared_cluster() -> Cluster {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(directory).expect("the build's directory for temporary files");
    let lock = directory.join("postgres.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::create(lock)?;
        file.lock()?;
        Ok::<File, std::io::Error>(file)
    });
    let lock = lock.await.expect("not cancelled").expect("the lock of the shared PostgreSQL");
    let options = ClusterOptions {
        data_dir: directory.join("postgres-of-tests"),
        settings: vec![("max_connections".to_owned(), CONNECTIONS_MAX.to_owned())],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&options).await.expect("the shared PostgreSQL starts");
    if !cluster.adopted() {
        watch(&cluster);
        drop_leftovers(&cluster).await;
    }
    drop(lock);
    cluster
}

fn watch(cluster: &Cluster) {
    use std::os::unix::process::CommandExt;

    let watcher = Command::new("sh")
        .args(["-c", WATCHER, "watcher", &cluster.pid().to_string(), &cluster.url()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // It outlives the test, and Ctrl-C too.
        .process_group(0)
        .spawn();
    drop(watcher.expect("the shell that stops the shared PostgreSQL"));
}

/// Databases of tests that were killed.
async fn drop_leftovers(cluster: &Cluster) {
    let mut admin = PgConnection::connect(&cluster.url()).await.expect("it has just started");
    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where starts_with(datname, $1)")
            .bind(DATABASE_PREFIX)
            .fetch_all(&mut admin)
            .await
            .expect("the list of databases");
    for name in names {
        let sql = AssertSqlSafe(format!("drop database {name}"));
        admin
            .execute(sqlx::raw_sql(sql))
            .await
            .expect("no session uses a database of a test that is over");
    }
}

/// A cluster of one test, which may stop and kill it.
#[derive(Debug)]
pub struct OwnCluster {
    options: ClusterOptions,
    cluster: Option<Cluster>,
    pid: i32,
    url: String,
    /// Where its data is, if there is a copy of it beside.
    data: Option<String>,
    _directory: TempDir,
}

impl OwnCluster {
    pub async fn start() -> OwnCluster {
        let directory = tempfile::tempdir().expect("a directory");
        let options =
            ClusterOptions { data_dir: directory.path().to_owned(), ..ClusterOptions::default() };
        let cluster = Cluster::start(&options).await.expect("PostgreSQL starts");
        let (pid, url) = (cluster.pid(), cluster.url());
        OwnCluster { options, cluster: Some(cluster), pid, url, data: None, _directory: directory }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Restarts it as a standby that follows no primary, until it is promoted.
    pub async fn become_standby(&mut self) {
        let mut client = PgConnection::connect(&self.url).await.expect("it runs");
        let data: String = sqlx::query_scalar("show data_directory")
            .fetch_one(&mut client)
            .await
            .expect("it says where its data is");
        drop(client);
        self.stop().await;
        File::create(Path::new(&data).join("standby.signal")).expect("a file beside its data");
        self.start_again().await;
    }

    /// A streaming replica of this one, as it is now and as it goes on.
    pub async fn replica(&self) -> OwnCluster {
        let mut replica = OwnCluster::start().await;
        let mut client = PgConnection::connect(&replica.url).await.expect("it runs");
        let data: String = sqlx::query_scalar("show data_directory")
            .fetch_one(&mut client)
            .await
            .expect("it says where its data is");
        drop(client);
        replica.stop().await;
        // With the owner of what was there, who is not root.
        let script = "owner=$(stat -c %U:%G \"$2\") && rm -rf \"$2\" \
            && pg_basebackup -d \"$1\" -D \"$2\" -R -X stream -c fast \
            && chown -R \"$owner\" \"$2\" && chmod 700 \"$2\"";
        let done = Command::new("sh").args(["-c", script, "replica", &self.url, &data]).status();
        assert!(done.expect("there is a shell").success(), "no replica of {}", self.url);
        replica.start_again().await;
        replica
    }

    /// A fast shutdown; returns when it is down.
    pub async fn stop(&mut self) {
        let cluster = self.cluster.take().expect("it runs");
        cluster.stop().await.expect("PostgreSQL stops");
    }

    /// An immediate shutdown: no checkpoint, so that the next start recovers; returns when it is down.
    pub async fn stop_immediately(&mut self) {
        let cluster = self.cluster.take().expect("it runs");
        kill(Pid::from_raw(self.pid), Signal::SIGQUIT).expect("the server can be asked");
        // Who was asked for an immediate shutdown does not become slower by being asked for a fast one.
        cluster.stop().await.expect("PostgreSQL stops");
    }

    /// Stops it and copies it as it is then; it runs again when this returns.
    pub async fn keep_copy(&mut self) {
        let mut client = PgConnection::connect(&self.url).await.expect("it runs");
        let data: String = sqlx::query_scalar("show data_directory")
            .fetch_one(&mut client)
            .await
            .expect("it says where its data is");
        drop(client);
        self.stop().await;
        copy(&data, &format!("{data}.copy"));
        self.data = Some(data);
        self.start_again().await;
    }

    /// What a failover to a replica does that missed what came since the copy was made.
    pub async fn set_back(&mut self) {
        let data = self.data.clone().expect("there is a copy");
        self.stop_immediately().await;
        copy(&format!("{data}.copy"), &data);
        self.start_again().await;
    }

    /// The process id of the server; another after each start.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What a power loss does: every process of the server dies at once, no checkpoint is made.
    pub fn kill(&mut self) {
        self.cluster = None;
        kill_server(self.pid);
    }

    /// Starts it again after [`OwnCluster::stop`] or [`OwnCluster::kill`].
    pub async fn start_again(&mut self) {
        let cluster = Cluster::start(&self.options).await.expect("PostgreSQL starts again");
        self.pid = cluster.pid();
        self.cluster = Some(cluster);
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if self.cluster.take().is_some() {
            kill_server(self.pid);
        }
        if let Some(data) = &self.data {
            let _ = std::fs::remove_dir_all(format!("{data}.copy"));
        }
    }
}

/// Copies a directory with owners and modes, in the place of what is there.
fn copy(from: &str, to: &str) {
    let script = "rm -rf \"$2\" && cp -a \"$1\" \"$2\"";
    let done = Command::new("sh").args(["-c", script, "copy", from, to]).status();
    assert!(done.expect("there is a shell").success(), "{from} cannot be copied to {to}");
}

/// Kills a postmaster; its backends end as soon as they notice.
fn kill_server(pid: i32) {
    // The cluster is known to run, so the number is the server's.
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the server can be killed");
}

/// Holds what every batch transaction needs: writers wait, acknowledgements go on.
#[derive(Debug)]
pub struct Stall(sqlx::Transaction<'static, sqlx::Postgres>);

impl Stall {
    pub async fn of_writers(pool: &PgPool) -> Stall {
        let mut transaction = pool.begin().await.expect("a transaction");
        eventually("the gateway's writers have begun", async || {
            let journal =
                transaction.fetch_optional("select 1 from tidegate.journals for update").await;
            journal.expect("the journals' table is there")
        })
        .await;
        Stall(transaction)
    }

    /// Nothing can be written to one stream's table.
    pub async fn of_table(pool: &PgPool, stream: &str) -> Stall {
        Stall::lock(pool, &format!("streams.{stream}"), "share").await
    }

    /// Nothing can be written to one stream's table, or read from it.
    pub async fn of_all_of_table(pool: &PgPool, stream: &str) -> Stall {
        Stall::lock(pool, &format!("streams.{stream}"), "access exclusive").await
    }

    /// No session can measure what the quarantine holds, or put anything into it.
    pub async fn of_quarantine_levels(pool: &PgPool) -> Stall {
        Stall::lock(pool, "tidegate.quarantine_levels", "access exclusive").await
    }

    async fn lock(pool: &PgPool, table: &str, mode: &str) -> Stall {
        let mut transaction = pool.begin().await.expect("a transaction");
        let sql = AssertSqlSafe(format!("lock table {table} in {mode} mode"));
        transaction.execute(sqlx::raw_sql(sql)).await.expect("the table can be locked");
        Stall(transaction)
    }

    pub async fn release(self) {
        self.0.rollback().await.expect("the lock is given back");
    }
}
