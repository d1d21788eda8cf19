//! The beginning of a start: the data directory, its lock, the address, the journal, and the private PostgreSQL.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tidegate_journal::{Appender, DiskStorage, Journal, JournalOptions, ReadError};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::app::data_dir;
use crate::app::private_postgres::{RunningCluster, start_cluster};
use crate::config::{Config, JOURNAL_DIR};
use crate::lifecycle::Lifecycle;
use crate::pipeline::Keys;

/// What the system holds of one connection's replies until its peer has taken them, in bytes (Linux takes the double, for its
/// own needs). It would be up to 4 MiB, of which some must be free again before it is seen here that a peer reads at all.
const SEND_BUFFER_BYTES: u32 = 256 << 10;

/// What is there before the parts are made.
pub(super) struct Begun {
    pub lock: File,
    pub cluster: Option<RunningCluster>,
    pub opened: Opened,
}

/// What the parts are made from in the end.
pub(super) struct Opened {
    pub config: Arc<Config>,
    pub data_dir: PathBuf,
    pub socket: TcpSocket,
    pub journal: Journal,
    pub appender: Appender,
    /// The journal's idempotency keys, which are read while PostgreSQL starts.
    pub keys: JoinHandle<Result<Keys, ReadError>>,
}

impl Begun {
    /// May be cancelled: a PostgreSQL that was just starting stops then.
    pub async fn new(config: Config, lifecycle: &Lifecycle) -> anyhow::Result<Begun> {
        let config = Arc::new(config);
        let data_dir = data_dir::prepare(&config.data.data_dir)?;
        let lock = data_dir::lock(&data_dir)?;
        let socket = bind(config.listen).with_context(|| {
            format!("cannot listen on {}; is another gateway running?", config.listen)
        })?;
        let (journal, appender) = open_journal(&config, &data_dir).await?;
        let keys = read_keys(&config, &journal);
        let cluster = match config.database.url() {
            Some(_) => None,
            None => Some(start_cluster(&config, &data_dir, lifecycle).await?),
        };
        let opened = Opened { config, data_dir, socket, journal, appender, keys };
        Ok(Begun { lock, cluster, opened })
    }
}

/// Takes the address, without listening yet: who comes before everything is made is refused, and comes again.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Each connection inherits it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Opens the journal, which makes it where it is missing, and says what of it is damaged.
async fn open_journal(config: &Config, data_dir: &Path) -> anyhow::Result<(Journal, Appender)> {
    let options = JournalOptions {
        segment_bytes: config.journal.journal_segment_bytes,
        bytes_max: config.journal.journal_bytes_max,
        retention: Duration::from_secs(config.journal.journal_retention_seconds),
        retention_bytes: config.journal.journal_retention_bytes,
    };
    let path = data_dir.join(JOURNAL_DIR);
    let opened = tokio::task::spawn_blocking(move || {
        Journal::open(&path, options, DiskStorage).map_err(anyhow::Error::from)
    })
    .await?
    .context("the journal cannot be opened")?;
    for damage in &opened.damages {
        tracing::error!(
            from = %damage.from,
            to = %damage.to,
            reason = damage.reason,
            set_aside = ?damage.set_aside,
            "a part of the journal is damaged; it was set aside and the rest is used"
        );
    }
    Ok((opened.journal, opened.appender))
}

/// Reads the idempotency keys of what the journal retains, while PostgreSQL starts.
fn read_keys(config: &Config, journal: &Journal) -> JoinHandle<Result<Keys, ReadError>> {
    let (journal, keys_max) = (journal.clone(), config.intake.idempotency_keys_max);
    tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let keys = Keys::read(&journal, keys_max)?;
        let (bytes, took) = (journal.bytes(), started.elapsed());
        tracing::debug!(keys = keys.count(), bytes, ?took, "read the journal's idempotency keys");
        Ok(keys)
    })
}
