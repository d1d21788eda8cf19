//! The limits of the machine: what PostgreSQL, the framework and the disk do without us.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::load::{histogram, record};

/// One of the bare servers, in a process of its own that ends with this one.
pub struct BareServer {
    child: Child,
    pub address: String,
}

impl BareServer {
    /// `role`: the subcommand; `dir`: where its files go.
    pub async fn start(role: &str, dir: &Path) -> anyhow::Result<BareServer> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next_line().await?.context("the bare server did not start")?;
        Ok(BareServer { child, address })
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the bare server has ended")
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Appends so many bytes and syncs them, again and again; microseconds of each.
pub fn sync_latencies(
    dir: &Path,
    bytes: usize,
    length: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let mut file = tempfile::tempfile_in(dir)?;
    let piece = vec![0x5a; bytes];
    let mut latencies = histogram();
    let end = Instant::now() + length;
    while Instant::now() < end {
        let started = Instant::now();
        append(&mut file, &piece)?;
        record(&mut latencies, started.elapsed());
    }
    Ok(latencies)
}

/// Appends `bytes` in pieces, each of them synced; how long it took.
pub fn sync_all(dir: &Path, bytes: usize, piece_bytes: usize) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let piece = vec![0x5a; piece_bytes];
    let started = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece_bytes);
        append(&mut file, &piece[..now])?;
        left -= now;
    }
    Ok(started.elapsed())
}

fn append(file: &mut File, piece: &[u8]) -> std::io::Result<()> {
    file.write_all(piece)?;
    file.sync_data()
}
