//! A gateway: the real binary with a data directory of its own, ended with the test.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use tempfile::TempDir;
use tidegate_record::Position;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::client::Client;
use super::cluster::{TestDatabase, connect};
use super::{eventually, soon};

/// What the gateway prints before its address.
const ADDRESS_PREFIX: &str = "Look:";
/// Longest time for a shutdown that was asked for: the drain's deadline and what comes after it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(60);
/// How much of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A gateway, and the client that its own local token opens it for.
#[derive(Debug)]
pub struct Gateway {
    // Fields are dropped in this order: the process ends before its database is dropped.
    process: Option<Process>,
    client: Client,
    pool: PgPool,
    url: String,
    flags: Vec<String>,
    _database: Option<TestDatabase>,
    data_dir: TempDir,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Kept open, so that the gateway can print without an error.
    _stdout: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Deref for Gateway {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Gateway {
    /// With its defaults, on a database of its own.
    pub async fn start() -> Gateway {
        Gateway::with(&[]).await
    }

    /// With these flags, on a database of its own.
    pub async fn with(flags: &[&str]) -> Gateway {
        let database = TestDatabase::create().await;
        let url = database.url().to_owned();
        Gateway::launch(&url, url.clone(), flags, Some(database), new_directory()).await
    }

    /// With these flags, in a directory that is prepared, on a database of its own.
    pub async fn in_directory(data_dir: TempDir, flags: &[&str]) -> Gateway {
        let database = TestDatabase::create().await;
        let url = database.url().to_owned();
        Gateway::launch(&url, url.clone(), flags, Some(database), data_dir).await
    }

    /// With these flags, on a database that the caller keeps.
    pub async fn on(url: &str, flags: &[&str]) -> Gateway {
        Gateway::launch(url, url.to_owned(), flags, None, new_directory()).await
    }

    /// With these flags, on a database that it reaches by another URL than the test.
    pub async fn through(gateways_url: String, url: &str, flags: &[&str]) -> Gateway {
        Gateway::launch(url, gateways_url, flags, None, new_directory()).await
    }

    async fn launch(
        tests_url: &str,
        url: String,
        flags: &[&str],
        database: Option<TestDatabase>,
        data_dir: TempDir,
    ) -> Gateway {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let pool = connect(tests_url).await;
        let process = Process::spawn(data_dir.path(), &url, &flags).await;
        let client = Client::new(&process.address, data_dir.path());
        Gateway { process: Some(process), client, pool, url, flags, _database: database, data_dir }
    }

    /// The test's own connections to the gateway's database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn database_url(&self) -> &str {
        &self.url
    }

    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.running().address
    }

    /// What the gateway logged so far, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.data_dir())).unwrap_or_default()
    }

    /// Ends the process as a power switch would; returns when it is gone.
    pub async fn kill9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        soon("the gateway dies", process.child.kill()).await.expect("it can be killed");
    }

    /// Stops the process where it is, as a machine that swaps does, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(self.pid(), signal).expect("it can be stopped");
    }

    /// Asks the process to end, and waits for its exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.ask_to_end();
        self.ended().await
    }

    /// Sends TERM, and does not wait.
    pub fn ask_to_end(&self) {
        kill(self.pid(), Signal::SIGTERM).expect("it can be asked");
    }

    /// Waits for the exit code of a process that was asked to end.
    pub async fn ended(&mut self) -> i32 {
        let mut process = self.process.take().expect("it ran");
        let status = tokio::time::timeout(SHUTDOWN_MAX, process.child.wait()).await;
        let status = status.unwrap_or_else(|_| {
            panic!("the gateway does not end within {SHUTDOWN_MAX:?}\n{}", self.log_end())
        });
        let status = status.expect("the status can be known");
        status.code().unwrap_or_else(|| panic!("{status}\n{}", self.log_end()))
    }

    /// Starts a process on the same data directory and database.
    pub async fn restart(&mut self) {
        if self.process.is_some() {
            self.kill9().await;
        }
        let process = Process::spawn(self.data_dir.path(), &self.url, &self.flags).await;
        self.client = Client::new(&process.address, self.data_dir.path());
        self.process = Some(process);
    }

    /// Waits until everything below this position is in PostgreSQL.
    pub async fn wait_committed(&self, position: &Value) {
        let position = parse_position(position);
        eventually(&format!("committed up to {position}"), async || {
            let status = self.get("/v1/status").await.expect(200);
            (parse_position(&status["journal"]["committed"]) >= position).then_some(())
        })
        .await;
    }

    /// Waits until everything that is durable is in PostgreSQL, and says up to where.
    pub async fn wait_all_committed(&self) -> Position {
        eventually("everything is committed", async || {
            let status = self.get("/v1/status").await.expect(200);
            let journal = &status["journal"];
            let synced = parse_position(&journal["synced"]);
            (parse_position(&journal["committed"]) == synced).then_some(synced)
        })
        .await
    }

    /// Waits until no record waits for its table any more.
    pub async fn wait_nothing_parked(&self) {
        eventually("nothing is parked", async || {
            let status = self.get("/v1/status").await.expect(200);
            let parked: i64 = self.scalar("select count(*) from tidegate.parked").await;
            (parked == 0 && status["parked"] == serde_json::json!({})).then_some(())
        })
        .await;
    }

    /// One member of a stream's totals in the status.
    pub async fn total(&self, stream: &str, of: &str) -> u64 {
        let status = self.get("/v1/status").await.expect(200);
        let total = &status["streams"][stream][of];
        total.as_u64().unwrap_or_else(|| panic!("{stream}.{of} is {total}"))
    }

    /// One value from the database.
    pub async fn scalar<T>(&self, sql: impl Into<String>) -> T
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
    {
        let sql = sql.into();
        let found = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(&self.pool).await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// One column from the database.
    pub async fn column<T>(&self, sql: impl Into<String>) -> Vec<T>
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
    {
        let sql = sql.into();
        let found = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_all(&self.pool).await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// How many rows a stream's table has.
    pub async fn rows(&self, stream: &str) -> i64 {
        self.scalar(format!("select count(*) from streams.\"{stream}\"")).await
    }

    /// The documents of a stream in the order of their ids.
    pub async fn payloads(&self, stream: &str) -> Vec<Value> {
        self.column(format!("select payload::jsonb from streams.\"{stream}\" order by id")).await
    }

    /// Runs SQL that returns nothing.
    pub async fn execute(&self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The most memory that the process ever had, in bytes; `None` where the system does not tell as Linux does.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// The memory that the process has now, in bytes; `None` where the system does not tell as Linux does.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Some(kibibytes << 10)
    }

    fn pid(&self) -> Pid {
        let id = self.running().child.id().expect("it has not been waited for");
        Pid::from_raw(i32::try_from(id).expect("numbers of processes are small"))
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log ends so:\n{}", self.log_end());
        }
    }
}

impl Process {
    async fn spawn(data_dir: &Path, url: &str, flags: &[String]) -> Process {
        let log =
            File::options().create(true).append(true).open(log_path(data_dir)).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(flags)
            // Neither the caller's settings nor a `.env` near the sources shall count.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATABASE_URL", url)
            .env("RUST_BACKTRACE", "1")
            .current_dir(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the gateway can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = soon("the gateway says its address", async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some(url) = line.trim().strip_prefix(ADDRESS_PREFIX) {
                    let address = url.trim().trim_start_matches("http://").trim_end_matches('/');
                    return Some(address.to_owned());
                }
            }
            None
        });
        let Some(address) = address.await else {
            let log = std::fs::read_to_string(log_path(data_dir)).unwrap_or_default();
            panic!("the gateway did not start:\n{log}");
        };
        Process { child, _stdout: lines, address }
    }
}

fn new_directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("test.log")
}

/// A position as replies show it.
pub fn parse_position(value: &Value) -> Position {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no position"));
    assert_eq!(text.len(), 16, "{text:?} has 16 digits");
    text.parse().expect("hexadecimal digits")
}
