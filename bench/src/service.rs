//! The service that people write instead, under measurement: uvicorn with a worker for each core, in processes of its own.
//!
//! They end with the benchmark, however that ends: their parent is a shell that waits for the end of a pipe from here.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reqwest::Url;
use tokio::process::{Child, Command};

use crate::bench::Bench;

const SOURCE: &str = include_str!("../instead/service.py");
const UNTIL_EOF: &str = include_str!("../instead/until-eof.sh");

/// What uvicorn logs before its address, and when a worker takes requests.
const ADDRESS_PREFIX: &str = "Uvicorn running on http://";
const WORKER_STARTED: &str = "Application startup complete.";
const START_MAX: Duration = Duration::from_secs(30);
/// Most of its workers: with more, their connections beside the gateway's are more than the benchmark's PostgreSQL has.
const WORKERS_MAX: usize = 4;
const STOP_MAX: Duration = Duration::from_secs(30);
/// What its workers have for requests that are under way when they are told to end.
const GRACE_SECONDS: &str = "10";
/// Between two looks into the log.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Dropping it ends the pipe, and so the service.
pub struct Service {
    shell: Child,
    pub address: String,
}

impl Service {
    /// `python` has the service's packages; its table must be there.
    pub async fn start(bench: &Bench, python: &Path) -> anyhow::Result<Service> {
        let dir = bench.dir.join("instead");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("service.py"), SOURCE)?;
        let log = dir.join("log");
        let log_file = File::create(&log)?;
        let workers = std::thread::available_parallelism()?.get().min(WORKERS_MAX);
        // Not canonical: a virtual environment's Python knows by its path which one it is.
        let python = std::path::absolute(python)?;
        let shell = Command::new("sh")
            .args(["-c", UNTIL_EOF, "until-eof"])
            .arg(python)
            .args(["-m", "uvicorn", "service:app", "--host", "127.0.0.1", "--port", "0"])
            .args(["--loop", "uvloop", "--http", "httptools", "--no-access-log"])
            .args(["--timeout-graceful-shutdown", GRACE_SECONDS])
            .args(["--workers", &workers.to_string()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATABASE_URL", database_url(&bench.postgres.url())?)
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .context("sh cannot be started")?;
        let mut service = Service { shell, address: String::new() };
        service.address = service.wait_started(&log, workers).await?;
        Ok(service)
    }

    async fn wait_started(&mut self, log: &Path, workers: usize) -> anyhow::Result<String> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let said = std::fs::read_to_string(log)?;
            let address = said.lines().find_map(|line| line.split_once(ADDRESS_PREFIX));
            let address = address.and_then(|(_, rest)| rest.split(' ').next());
            if let Some(address) = address
                && said.matches(WORKER_STARTED).count() >= workers
            {
                return Ok(address.to_owned());
            }
            if let Some(status) = self.shell.try_wait()? {
                bail!("the service ended with {status}:\n{said}");
            }
            ensure!(Instant::now() < deadline, "not started within {START_MAX:?}:\n{said}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        let group = self.shell.id().context("the service has ended")?;
        drop(self.shell.stdin.take());
        if let Ok(status) = tokio::time::timeout(STOP_MAX, self.shell.wait()).await {
            status?;
            return Ok(());
        }
        killpg(Pid::from_raw(i32::try_from(group)?), Signal::SIGKILL)?;
        bail!("the service did not end within {STOP_MAX:?}, and was killed")
    }
}

/// The same database in the form that asyncpg takes for a socket; its tables are where the streams' are.
fn database_url(url: &str) -> anyhow::Result<String> {
    let from = Url::parse(url)?;
    let mut to = Url::parse("postgresql:///")?;
    to.set_path(from.path());
    to.query_pairs_mut()
        .extend_pairs(from.query_pairs())
        .append_pair("user", from.username())
        .append_pair("port", &from.port().context("the URL has no port")?.to_string())
        .append_pair("search_path", "streams");
    Ok(to.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_in_the_query() {
        let url = "postgresql://tidegate@localhost:5432/tidegate?host=%2Ftmp%2Fa&sslmode=disable";
        let expected = "postgresql:///tidegate?host=%2Ftmp%2Fa&sslmode=disable&user=tidegate\
                        &port=5432&search_path=streams";
        assert_eq!(database_url(url).expect("a URL"), expected);
    }
}
