//! A gateway under measurement: the release binary in a process of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_record::Position;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What the gateway prints before its address.
const ADDRESS_PREFIX: &str = "Look:";
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);
/// Longest wait until what was acknowledged is committed.
const COMMIT_MAX: Duration = Duration::from_secs(600);
/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Fewer looks the longer it takes, because each costs what is measured a little; they are late by one in so many.
const LOOKS: u32 = 200;

/// Where the gateway's binary and its data are.
#[derive(Debug, Clone)]
pub struct Site {
    pub binary: PathBuf,
    pub database_url: String,
    /// Each gateway gets a directory of its own below.
    pub dir: PathBuf,
}

pub struct Gateway {
    child: Child,
    /// Kept open, so that the gateway can print without an error.
    _stdout: Lines<BufReader<ChildStdout>>,
    pub address: String,
    pub token: String,
    http: reqwest::Client,
    data_dir: TempDir,
}

#[derive(Debug, Deserialize)]
struct JournalOf {
    journal: JournalStatus,
}

#[derive(Debug, Deserialize)]
struct StreamsOf {
    streams: BTreeMap<String, StreamStatus>,
}

#[derive(Debug, Deserialize)]
struct JournalStatus {
    synced: Position,
    committed: Position,
}

#[derive(Debug, Deserialize)]
struct StreamStatus {
    committed: u64,
}

impl Site {
    /// Starts a gateway on a journal of its own, and waits until it is ready.
    pub async fn start(&self, flags: &[&str]) -> anyhow::Result<Gateway> {
        let data_dir = tempfile::tempdir_in(&self.dir)?;
        Gateway::start(self, data_dir, flags).await
    }
}

impl Gateway {
    async fn start(site: &Site, data_dir: TempDir, flags: &[&str]) -> anyhow::Result<Gateway> {
        let log = File::create(data_dir.path().join("log"))?;
        let mut child = Command::new(&site.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir.path())
            .args(flags)
            // Neither the caller's settings nor a `.env` near by shall count.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATABASE_URL", &site.database_url)
            .current_dir(data_dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", site.binary.display()))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut stdout = BufReader::new(stdout).lines();
        let address = tokio::time::timeout(START_MAX, read_address(&mut stdout)).await;
        let address = address
            .context("it says no address")
            .flatten()
            .with_context(|| format!("the gateway did not start:\n{}", log_of(data_dir.path())))?;
        let token = std::fs::read_to_string(data_dir.path().join("local-token"))?;
        let token = token.trim_end().to_owned();
        let http = reqwest::Client::builder().no_proxy().timeout(STOP_MAX).build()?;
        let gateway = Gateway { child, _stdout: stdout, address, token, http, data_dir };
        gateway.wait_ready().await?;
        Ok(gateway)
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let reply = self.http.get(self.url("/readyz")).send().await?;
            if reply.status().is_success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not ready:\n{}", log_of(self.data_dir.path()));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the gateway has ended")
    }

    pub async fn create_stream(&self, definition: &Value) -> anyhow::Result<()> {
        self.create("/v1/streams", definition).await
    }

    pub async fn create_polling_job(&self, definition: &Value) -> anyhow::Result<()> {
        self.create("/v1/polling-jobs", definition).await
    }

    async fn create(&self, path: &str, definition: &Value) -> anyhow::Result<()> {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token);
        let reply = request.json(definition).send().await?;
        // A gateway that came before may have made it.
        ensure!(
            matches!(reply.status().as_u16(), 201 | 409),
            "{}: {}",
            reply.status(),
            reply.text().await?
        );
        Ok(())
    }

    /// Waits until everything that is durable now is committed.
    pub async fn wait_committed(&self) -> anyhow::Result<()> {
        let status: JournalOf = self.status().await?;
        let until = status.journal.synced;
        let started = Instant::now();
        while self.status::<JournalOf>().await?.journal.committed < until {
            let waited = started.elapsed();
            ensure!(
                waited < COMMIT_MAX,
                "not committed within {COMMIT_MAX:?}:\n{}",
                log_of(self.data_dir.path())
            );
            tokio::time::sleep((waited / LOOKS).max(LOOK_EVERY)).await;
        }
        Ok(())
    }

    /// Records of a stream that were committed since this gateway started.
    pub async fn committed_records(&self, stream: &str) -> anyhow::Result<u64> {
        let status: StreamsOf = self.status().await?;
        let stream = status.streams.get(stream).with_context(|| format!("there is no {stream}"))?;
        Ok(stream.committed)
    }

    /// A part of the gateway's status.
    async fn status<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let request = self.http.get(self.url("/v1/status")).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Kills it, so that it commits nothing any more, and starts one with other flags on the same journal.
    pub async fn kill_and_restart(
        mut self,
        site: &Site,
        flags: &[&str],
    ) -> anyhow::Result<Gateway> {
        self.child.kill().await?;
        Gateway::start(site, self.data_dir, flags).await
    }

    /// Ends it as an operator would: it drains first.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        kill(pid, Signal::SIGTERM)?;
        let status = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        let status = status.context("the gateway does not end")??;
        // 3: something was left in the journal, as some measurements want it.
        if !matches!(status.code(), Some(0 | 3)) {
            bail!("the gateway ended with {status}:\n{}", log_of(self.data_dir.path()));
        }
        Ok(())
    }
}

async fn read_address(stdout: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<String> {
    while let Some(line) = stdout.next_line().await? {
        if let Some(url) = line.trim().strip_prefix(ADDRESS_PREFIX) {
            let url = url.trim().trim_end_matches('/');
            let address = url.strip_prefix("http://").context("the address is no http:// URL")?;
            return Ok(address.to_owned());
        }
    }
    bail!("it ended")
}

fn log_of(data_dir: &Path) -> String {
    let log = std::fs::read_to_string(data_dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
