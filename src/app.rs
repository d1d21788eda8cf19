//! The composition root: makes every part, gives each what it needs, and takes all of it down again.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::server::ConnectionLimit;
use crate::api::{self, AppState};
use crate::auth::{
    self, AccountRows, Accounts, AccountsSnapshot, Auth, AuthOptions, AuthParts, FirstAdmin, LocalToken,
};
use crate::backoff::Backoff;
use crate::catalog::{Catalog, Changes, Mirror};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Database;
use crate::hub::counters::Counters;
use crate::hub::{Hub, HubLimits};
use crate::journal::{Appender, DiskStorage, Journal, JournalOptions};
use crate::lifecycle::Lifecycle;
use crate::pipeline::{
    AppenderThread, BatchLimits, BatcherContext, Intake, IntakeLimits, Ledger, Pressure, Progress, Writers,
    WritersConfig,
};
use crate::postgres::{Cluster, ClusterOptions};
use crate::sources::http::HttpSource;
use crate::private_file;
use crate::telemetry::metrics;

/// Name of the mirror of users and tokens in the data directory.
const ACCOUNTS_MIRROR_FILE: &str = "accounts.json";
/// Which database the data directory belongs to.
const DATABASE_ID_FILE: &str = "database-id";
/// How long a start waits for a database that does not answer, before it goes on without.
const DATABASE_WAIT: Duration = Duration::from_secs(10);
/// How often the journal is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(5);
/// How often partitions are made ahead and dropped.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3_600);
/// How often rates are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct App {
    lifecycle: Lifecycle,
    started: Started,
    state: AppState,
    /// Cancelled once nothing needs the private PostgreSQL any more.
    cluster_shutdown: CancellationToken,
    cluster_stopped: Option<oneshot::Receiver<()>>,
    /// Cancelled when the last request is answered.
    served: CancellationToken,
    /// Held for the life of the process.
    _lock: File,
}

/// What a person needs to know after the start.
#[derive(Debug, Clone)]
pub struct Started {
    pub address: SocketAddr,
    pub data_dir: PathBuf,
    /// The database, without a password.
    pub database: String,
    /// How to sign in, if the first admin was made by this start.
    pub admin: Option<String>,
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything acknowledged is committed.
    Drained,
    /// Something acknowledged waits in the journal for the next start.
    LeftInJournal,
    /// A critical task had died.
    Failed,
}

/// Where the local token is kept.
pub fn local_token_path(data_dir: &Path) -> PathBuf {
    data_dir.join(auth::LOCAL_TOKEN_FILE)
}

impl App {
    /// Starts everything; returns when the gateway answers.
    pub async fn start(config: Config, metrics: PrometheusHandle) -> anyhow::Result<App> {
        let config = Arc::new(config);
        let lifecycle = Lifecycle::new();
        let clock = Clock::System;
        let data_dir = prepare_data_dir(&config.data.data_dir)?;
        let lock = lock_data_dir(&data_dir)?;
        let (journal, appender) = open_journal(&config, &data_dir).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}; is another gateway running?", config.listen))?;

        let cluster_shutdown = CancellationToken::new();
        let (url, cluster_stopped) = match config.database.url() {
            Some(url) => (url.to_owned(), None),
            None => {
                let (url, stopped) =
                    start_cluster(&config, &data_dir, &lifecycle, &cluster_shutdown).await?;
                (url, Some(stopped))
            }
        };
        let database = Database::new(&url).context("the database URL cannot be read")?;
        let catalog = Catalog::open(database.clone(), &data_dir);
        let accounts = KnownAccounts::open(&database, &data_dir);
        let auth = Auth::new(AuthParts {
            accounts: accounts.accounts.clone(),
            pool: database.pool().clone(),
            clock: clock.clone(),
            lifecycle: lifecycle.clone(),
            local_token: LocalToken::create(&data_dir).context("the local token cannot be written")?,
            catalog_changed: Arc::clone(&accounts.changed),
            options: AuthOptions {
                session_lifetime: Duration::from_secs(config.access.session_hours * 3_600),
                trust_forwarded_proto: config.access.trust_forwarded_proto,
            },
        });
        let pipeline =
            start_pipeline(&config, &lifecycle, &journal, appender, &database, &catalog)?;
        let hub = start_hub(&config, &lifecycle, &journal, &catalog, &pipeline, &clock);

        let prepared = prepare_database(&config, &lifecycle, &database, &catalog, accounts, &data_dir, &pipeline);
        let admin = first_answer(prepared).await;
        let started_at = clock.now().date_time();
        let state = AppState {
            config: Arc::clone(&config),
            auth,
            catalog,
            source: HttpSource {
                intake: pipeline.intake.clone(),
                counters: pipeline.counters.clone(),
                entry_bytes_max: config.intake.entry_bytes_max,
                commit_wait: Duration::from_millis(config.intake.commit_wait_ms),
            },
            counters: pipeline.counters.clone(),
            journal,
            progress: pipeline.progress.clone(),
            appender: pipeline.appender.clone(),
            database_state: pipeline.writers.database_state(),
            hub,
            clock,
            metrics,
            connections: ConnectionLimit::new(config.access.connections_max),
            lifecycle: lifecycle.clone(),
            started_at,
        };
        start_upkeep(&lifecycle, &state, &pipeline);
        let address = listener.local_addr()?;
        let server = api::server::run(
            listener,
            api::router::router(state.clone()),
            state.connections.clone(),
            lifecycle.clone(),
        );
        let served = CancellationToken::new();
        let at_end = served.clone().drop_guard();
        lifecycle.spawn_critical("http server", async move {
            server.await;
            drop(at_end);
        });
        let database = match config.database.url() {
            Some(url) => without_password(url),
            None => url,
        };
        let started = Started { address, data_dir, database, admin };
        Ok(App { lifecycle, started, state, cluster_shutdown, cluster_stopped, served, _lock: lock })
    }

    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Ends when a critical task died.
    pub async fn failed(&self) {
        self.lifecycle.soft().cancelled().await;
    }

    /// Cancelling it ends a shutdown at once.
    pub fn hard(&self) -> &CancellationToken {
        self.lifecycle.hard()
    }

    /// Stops taking records, brings what is acknowledged into PostgreSQL within the deadline, and ends everything.
    pub async fn shut_down(mut self) -> Ended {
        let lifecycle = self.lifecycle.clone();
        lifecycle.soft().cancel();
        let deadline = self.state.config.shutdown_deadline();
        let finish = async {
            self.state.source.intake.refuse_new();
            self.served.cancelled().await;
            self.state.source.intake.close().await;
            lifecycle.finished().await;
        };
        tokio::select! {
            () = finish => {}
            () = tokio::time::sleep(deadline) => tracing::warn!(?deadline, "not everything ended in time"),
            () = lifecycle.hard().cancelled() => {}
        }
        lifecycle.hard().cancel();
        self.cluster_shutdown.cancel();
        if let Some(stopped) = self.cluster_stopped.take() {
            let _ = stopped.await;
        }
        if lifecycle.failure().is_some() {
            return Ended::Failed;
        }
        let (committed, synced) = (self.state.progress.low_water(), self.state.journal.synced());
        if committed >= synced {
            tracing::info!(%committed, "everything acknowledged is committed");
            Ended::Drained
        } else {
            tracing::warn!(%committed, %synced, "the rest stays in the journal for the next start");
            Ended::LeftInJournal
        }
    }
}

/// The parts of the pipeline that others look at.
struct Pipeline {
    intake: Intake,
    appender: AppenderThread,
    writers: Writers,
    progress: Progress,
    counters: Counters,
    committed: Pressure,
}

/// Makes the data directory, for its owner alone; returns its absolute path.
fn prepare_data_dir(path: &Path) -> anyhow::Result<PathBuf> {
    let place = || format!("the data directory {}", path.display());
    if !path.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(place)?;
    }
    let path = path.canonicalize().with_context(place)?;
    let mode = fs::metadata(&path).with_context(place)?.permissions().mode();
    // Others' rights beyond passing through are taken away: the directory holds records and hashes of passwords.
    if mode & 0o066 != 0 {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o711)).with_context(place)?;
    }
    Ok(path)
}

/// Two gateways on one journal would destroy it.
fn lock_data_dir(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another gateway uses {}; stop it, or give this one its own --data-dir",
            data_dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

async fn open_journal(config: &Config, data_dir: &Path) -> anyhow::Result<(Journal, Appender)> {
    let options = JournalOptions {
        segment_bytes: config.journal.journal_segment_bytes,
        bytes_max: config.journal.journal_bytes_max,
        retention: Duration::from_secs(config.journal.journal_retention_seconds),
        retention_bytes: config.journal.journal_retention_bytes,
    };
    let path = data_dir.join("journal");
    let opened = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&path)?;
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

/// Starts the private PostgreSQL and the task that keeps it running and stops it at the very end.
async fn start_cluster(
    config: &Config,
    data_dir: &Path,
    lifecycle: &Lifecycle,
    shutdown: &CancellationToken,
) -> anyhow::Result<(String, oneshot::Receiver<()>)> {
    let mut cluster = Cluster::start(&ClusterOptions {
        data_dir: data_dir.to_owned(),
        run_as: Some(config.database.postgres_user.clone()),
        binaries: config.database.postgres_bin.clone(),
        settings: Vec::new(),
    })
    .await?;
    let url = cluster.url();
    let (stopped_sender, stopped) = oneshot::channel();
    let shutdown = shutdown.clone();
    lifecycle.spawn_detached("private postgresql", async move {
        cluster.supervise(&shutdown).await;
        if let Err(error) = cluster.stop().await {
            tracing::error!(%error, "the private PostgreSQL was not stopped");
        }
        let _ = stopped_sender.send(());
    });
    Ok((url, stopped))
}

fn start_pipeline(
    config: &Config,
    lifecycle: &Lifecycle,
    journal: &Journal,
    appender: Appender,
    database: &Database,
    catalog: &Catalog,
) -> anyhow::Result<Pipeline> {
    let (ledger, counters) = (Ledger::default(), Counters::default());
    let committed = Pressure::new(Instant::now());
    let limits = IntakeLimits {
        entries_max: config.intake.intake_entries_max,
        bytes_max: config.intake.intake_bytes_max,
        wait: Duration::from_millis(config.intake.intake_wait_ms),
    };
    let (intake, appender) =
        AppenderThread::start(lifecycle, journal, appender, limits, ledger.clone(), committed.clone())
            .context("cannot start the journal's thread")?;
    let progress = Progress::new(journal.first());
    let context = BatcherContext {
        journal: journal.clone(),
        streams: catalog.streams().clone(),
        counters: counters.clone(),
        ledger,
        progress: progress.clone(),
        limits: BatchLimits {
            rows: config.writer.batch_rows,
            bytes: config.writer.batch_bytes,
            interval: Duration::from_millis(config.writer.batch_interval_ms),
        },
        synced: appender.synced(),
        appended_all: appender.finished().clone(),
    };
    let writers_config = WritersConfig {
        node: config.node_name(),
        writers: config.writers(),
        statement_timeout: Duration::from_secs(config.writer.statement_timeout_seconds),
    };
    let writers =
        Writers::new(writers_config, database.clone(), context, lifecycle.clone(), committed.clone());
    Ok(Pipeline { intake, appender, writers, progress, counters, committed })
}

fn start_hub(
    config: &Config,
    lifecycle: &Lifecycle,
    journal: &Journal,
    catalog: &Catalog,
    pipeline: &Pipeline,
    clock: &Clock,
) -> Hub {
    let limits = HubLimits {
        monitors_max: config.monitor.monitors_max,
        queue_bytes_max: config.monitor.monitor_queue_bytes,
        tick: Duration::from_millis(config.monitor.monitor_tick_ms),
        sample_rate: config.monitor.monitor_sample_rate,
        ..HubLimits::default()
    };
    let (journal_seen, progress) = (journal.clone(), pipeline.progress.clone());
    let clock_seen = clock.clone();
    let load = Arc::new(move || api::status::node_load(&journal_seen, &progress, &clock_seen));
    let hub = Hub::new(
        journal.clone(),
        catalog.streams().clone(),
        pipeline.counters.clone(),
        limits,
        clock.clone(),
        config.node_name(),
        load,
    );
    let (running, synced) = (hub.clone(), pipeline.appender.synced());
    let soft = lifecycle.soft().clone();
    lifecycle.spawn_critical("hub", async move { running.run(synced, soft).await });
    hub
}

/// In the background, until it succeeds: migrates the database, makes the first admin, reads the catalog; then lets the
/// writers run and follows changes. The receiver hears of the first admin.
fn prepare_database(
    config: &Arc<Config>,
    lifecycle: &Lifecycle,
    database: &Database,
    catalog: &Catalog,
    accounts: KnownAccounts,
    data_dir: &Path,
    pipeline: &Pipeline,
) -> oneshot::Receiver<Option<String>> {
    let (answer, answered) = oneshot::channel();
    let (config, database, catalog) = (Arc::clone(config), database.clone(), catalog.clone());
    let (data_dir, writers) = (data_dir.to_owned(), pipeline.writers.clone());
    let counters = pipeline.counters.clone();
    let (soft, hard) = (lifecycle.soft().clone(), lifecycle.hard().clone());
    let spawner = lifecycle.clone();
    lifecycle.spawn("database preparation", async move {
        let mut backoff = Backoff::new();
        let mut failing = false;
        let admin = loop {
            match prepare_once(&config, &database, &catalog, &accounts, &data_dir).await {
                Ok(admin) => break admin,
                Err(error) => {
                    let reason = format!("{error:#}");
                    if failing {
                        tracing::debug!(reason, "the database still cannot be prepared");
                    } else {
                        tracing::warn!(reason, "the database cannot be prepared; records are taken and wait in the journal");
                    }
                    failing = true;
                    writers.unreachable(reason);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = soft.cancelled() => return,
                () = hard.cancelled() => return,
            }
        };
        let _ = answer.send(admin);
        spawner.spawn_critical("writers", writers.run());
        let mut changes = Changes::new(database, Arc::clone(&accounts.changed));
        let mut failing = false;
        while !soft.is_cancelled() {
            tokio::select! {
                () = changes.wait() => {}
                () = soft.cancelled() => return,
            }
            let refreshed = refresh(&catalog, &accounts, &counters).await;
            if let Err(error) = &refreshed
                && !failing
            {
                tracing::warn!(%error, "the catalog cannot be read; going on with what is known");
            }
            failing = refreshed.is_err();
        }
    });
    answered
}

async fn refresh(
    catalog: &Catalog,
    accounts: &KnownAccounts,
    counters: &Counters,
) -> Result<(), sqlx::Error> {
    catalog.refresh().await?;
    let snapshot = catalog.streams().snapshot();
    counters.retain(|stream| snapshot.by_id(stream).is_some());
    accounts.refresh().await
}

async fn prepare_once(
    config: &Config,
    database: &Database,
    catalog: &Catalog,
    accounts: &KnownAccounts,
    data_dir: &Path,
) -> anyhow::Result<Option<String>> {
    database.migrate().await?;
    check_installation(database.installation().await?, data_dir)?;
    let admin = auth::ensure_first_admin(
        database.pool(),
        data_dir,
        &config.access.admin_user,
        config.access.admin_password(),
    )
    .await?;
    catalog.refresh().await?;
    accounts.refresh().await?;
    Ok(match admin {
        FirstAdmin::NotNeeded => None,
        FirstAdmin::Created { name } => Some(format!("user {name}, with the password that you gave")),
        FirstAdmin::Generated { name, password, file } => Some(format!(
            "user {name}, password {} (shown once; kept in {})",
            password.as_str(),
            file.display()
        )),
    })
}

/// The journal names streams by number, so it belongs to one database for ever.
fn check_installation(found: Uuid, data_dir: &Path) -> anyhow::Result<()> {
    let path = data_dir.join(DATABASE_ID_FILE);
    match fs::read_to_string(&path) {
        Ok(known) if known.trim() == found.to_string() => Ok(()),
        Ok(_) => bail!(
            "{} belongs to another database than the one given; give the old URL, or a --data-dir of its own for this one",
            data_dir.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            private_file::write(&path, format!("{found}\n").as_bytes())
                .with_context(|| path.display().to_string())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Users and tokens in memory, with their mirror.
struct KnownAccounts {
    accounts: Accounts,
    database: Database,
    mirror: tokio::sync::Mutex<Mirror<AccountRows>>,
    /// Told when a change was made on this node.
    changed: Arc<Notify>,
}

impl KnownAccounts {
    /// Begins with what the mirror holds.
    fn open(database: &Database, data_dir: &Path) -> KnownAccounts {
        let mirror = Mirror::new(data_dir.join(ACCOUNTS_MIRROR_FILE));
        let accounts = Accounts::default();
        let rows = mirror.load().unwrap_or_default();
        accounts.replace(accounts.begin(), AccountsSnapshot::new(rows));
        KnownAccounts {
            accounts,
            database: database.clone(),
            mirror: tokio::sync::Mutex::new(mirror),
            changed: Arc::default(),
        }
    }

    async fn refresh(&self) -> Result<(), sqlx::Error> {
        let mut mirror = self.mirror.lock().await;
        let reading = self.accounts.begin();
        let rows = AccountRows::read(self.database.pool()).await?;
        mirror.save(&rows).await;
        self.accounts.replace(reading, AccountsSnapshot::new(rows));
        Ok(())
    }
}

/// The first answer of the preparation, or nothing after a while: then the gateway starts without PostgreSQL.
async fn first_answer(answered: oneshot::Receiver<Option<String>>) -> Option<String> {
    tokio::time::timeout(DATABASE_WAIT, answered).await.ok()?.ok()?
}

/// The small regular jobs.
fn start_upkeep(lifecycle: &Lifecycle, state: &AppState, pipeline: &Pipeline) {
    let metrics = state.metrics.clone();
    every(lifecycle, "metrics upkeep", metrics::UPKEEP_EVERY, move || {
        let metrics = metrics.clone();
        async move { metrics.run_upkeep() }
    });
    let (intake, committed) = (pipeline.intake.clone(), pipeline.committed.clone());
    every(lifecycle, "rates", MEASURE_EVERY, move || {
        intake.measure();
        committed.bytes_per_second(Instant::now());
        std::future::ready(())
    });
    let (journal, progress, clock) = (state.journal.clone(), state.progress.clone(), state.clock.clone());
    every(lifecycle, "journal trimming", TRIM_EVERY, move || {
        let (journal, committed, now) = (journal.clone(), progress.low_water(), clock.now());
        async move {
            let trimmed = tokio::task::spawn_blocking(move || journal.trim(committed, now)).await;
            if let Ok(Err(error)) = trimmed {
                tracing::warn!(%error, "the journal was not trimmed");
            }
        }
    });
    let (catalog, clock) = (state.catalog.clone(), state.clock.clone());
    every(lifecycle, "partitions", PARTITIONS_EVERY, move || {
        let (catalog, today) = (catalog.clone(), clock.now().date_time().date());
        async move {
            if let Err(error) = catalog.maintain_partitions(today).await {
                tracing::warn!(%error, "partitions were not maintained");
            }
        }
    });
}

/// Runs a job now and then, until shutdown; a slow run delays the next.
fn every<F, Fut>(lifecycle: &Lifecycle, name: &'static str, period: Duration, job: F)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let soft = lifecycle.soft().clone();
    lifecycle.spawn(name, async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => job().await,
                () = soft.cancelled() => return,
            }
        }
    });
}

/// A URL that may be shown.
fn without_password(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return "as given".to_owned() };
    let hidden = parsed.set_password(None);
    if hidden.is_ok() { parsed.to_string() } else { "as given".to_owned() }
}
