//! The composition root: makes every part, gives each what it needs, and takes all of it down again.

mod accounts;
mod beginning;
mod data_dir;
mod open_files;
mod polling;
mod preparation;
mod private_postgres;
mod quarantine;
mod replica;
mod upkeep;

use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_codec::encode::EncodeLimits;
use tidegate_journal::{Appender, Journal};
use tidegate_record::clock::Clock;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::api::{
    self, AppState, ConnectionLimits, Connections, Entrance, MemoryBudget, Parts, UserSemaphore,
};
use crate::app::accounts::KnownAccounts;
use crate::app::beginning::{Begun, Opened};
use crate::app::open_files::allow_connections;
use crate::app::preparation::Preparation;
pub use crate::app::preparation::Prepared;
use crate::app::private_postgres::RunningCluster;
use crate::auth::{self, Auth, AuthOptions, AuthParts, LocalToken, Password, UserName};
use crate::catalog::Catalog;
use crate::config::{Config, Setting};
use crate::counters::Counters;
use crate::db::Database;
use crate::db::batch::BatchTimeouts;
use crate::db::replica::Replica;
use crate::db::streams::StreamLimits;
use crate::hub::{Hub, HubLimits};
use crate::ingest::Ingest;
use crate::ingest::encoders::Encoders;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{
    AppenderThread, BatchLimits, CommitContext, DrainRate, Intake, IntakeLimits, Keys, Ledger,
    Parking, Progress, QuarantineBudget, Writers, WritersConfig,
};
use crate::polling::PollingContext;
use crate::polling::ask::Previews;

/// How long a person who starts it is not told how the database is, in case it is just starting, too.
const DATABASE_WAIT: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const LISTEN_BACKLOG: u32 = 1_024;

/// A running gateway.
pub struct App {
    started: Started,
    state: AppState,
    /// Cancelled when the last request is answered.
    served: CancellationToken,
    cluster: Option<RunningCluster>,
    /// How the preparation of the database went.
    prepared: Option<oneshot::Receiver<Prepared>>,
    /// Held for the life of the process.
    _lock: Option<File>,
}

/// What a person needs to know after the start.
#[derive(Debug, Clone)]
pub struct Started {
    pub address: SocketAddr,
    pub data_dir: PathBuf,
    /// The database, without a password.
    pub database: String,
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

/// What the parts are made from.
struct Ground {
    config: Arc<Config>,
    settings: Vec<Setting>,
    lifecycle: Lifecycle,
    clock: Clock,
    data_dir: PathBuf,
    journal: Journal,
    database: Database,
    catalog: Catalog,
    replica: Option<Replica>,
}

/// The parts of the pipeline that others look at.
struct Pipeline {
    intake: Intake,
    appender: AppenderThread,
    writers: Writers,
    keys: Keys,
    progress: Progress,
    counters: Counters,
    quarantine: QuarantineBudget,
    committed: DrainRate,
}

/// Where the local token is kept.
pub fn local_token_path(data_dir: &Path) -> PathBuf {
    data_dir.join(auth::LOCAL_TOKEN_FILE)
}

impl App {
    /// Starts everything; returns when the gateway answers, or None when it was `interrupted` before. If it cannot
    /// start, its private PostgreSQL does not stay behind.
    pub async fn start(
        config: Config,
        settings: Vec<Setting>,
        metrics: PrometheusHandle,
        interrupted: &CancellationToken,
    ) -> anyhow::Result<Option<App>> {
        check_first_admin(&config)?;
        allow_connections(&config);
        let lifecycle = Lifecycle::new();
        let begun = tokio::select! {
            begun = Begun::new(config, &lifecycle) => begun?,
            () = interrupted.cancelled() => return Ok(None),
        };
        let Begun { lock, cluster, opened } = begun;
        let url = cluster.as_ref().map(|cluster| cluster.url.clone());
        let made = tokio::select! {
            made = App::make(opened, url, &lifecycle, settings, metrics) => made.map(Some),
            () = interrupted.cancelled() => Ok(None),
        };
        match made {
            Ok(Some(app)) => Ok(Some(App { cluster, _lock: Some(lock), ..app })),
            not_made => {
                lifecycle.soft().cancel();
                lifecycle.hard().cancel();
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                not_made
            }
        }
    }

    /// Makes all parts and has them run.
    async fn make(
        opened: Opened,
        cluster_url: Option<String>,
        lifecycle: &Lifecycle,
        settings: Vec<Setting>,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<App> {
        let Opened { config, data_dir, socket, journal, appender, keys } = opened;
        let url = cluster_url.as_deref().or(config.database.url()).unwrap_or_default();
        let database = Database::new(url).context("the database URL cannot be read")?;
        let shown_url = without_password(url);
        let limits = StreamLimits {
            in_all_max: config.access.streams_max,
            per_user_max: config.access.streams_per_user_max,
        };
        let catalog = Catalog::open(database.clone(), &data_dir, limits);
        let (lifecycle, clock) = (lifecycle.clone(), Clock::System);
        let replica = replica::named(&config.reading)?;
        let ground = Ground {
            config,
            settings,
            lifecycle,
            clock,
            data_dir,
            journal,
            database,
            catalog,
            replica,
        };

        let accounts = KnownAccounts::open(&ground.database, &ground.data_dir);
        let auth = ground.auth(&accounts)?;
        let keys = keys.await?.context("the journal's idempotency keys cannot be read")?;
        let pipeline = ground.pipeline(appender, keys)?;
        let hub = ground.hub(&pipeline);
        let polling = ground.polling_context(&pipeline)?;
        let preparation = ground.preparation(accounts, auth.clone(), &pipeline, polling.clone());
        let prepared = preparation.start();
        let state = ground.state(auth, hub, polling, &pipeline, metrics);
        replica::watch(&state);
        upkeep::start(&state, pipeline.committed);
        quarantine::start(&state);
        let started = Started {
            address: socket.local_addr()?,
            data_dir: ground.data_dir,
            database: shown_url,
        };
        let served = serve(socket.listen(LISTEN_BACKLOG)?, &state);
        Ok(App { started, state, served, cluster: None, prepared: Some(prepared), _lock: None })
    }

    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Waits until the database is prepared, or cannot be, at most [`DATABASE_WAIT`]. Requests are answered meanwhile.
    pub async fn prepared(&mut self) -> Prepared {
        let Some(prepared) = self.prepared.take() else {
            return Prepared::Ready { sign_in: None };
        };
        match tokio::time::timeout(DATABASE_WAIT, prepared).await {
            Ok(Ok(prepared)) => prepared,
            _ => {
                let reason = self.state.database_state.borrow().last_error.clone();
                let reason = reason.unwrap_or_else(|| "PostgreSQL does not answer".to_owned());
                Prepared::NotReady { reason }
            }
        }
    }

    /// Ends when a critical task died.
    pub async fn failed(&self) {
        self.state.lifecycle.soft().cancelled().await;
    }

    /// Cancelling it ends a shutdown at once.
    pub fn hard(&self) -> &CancellationToken {
        self.state.lifecycle.hard()
    }

    /// Stops taking records, brings what is acknowledged into PostgreSQL within the deadline, and ends everything.
    pub async fn shut_down(self) -> Ended {
        let lifecycle = self.state.lifecycle.clone();
        lifecycle.soft().cancel();
        let deadline = self.state.config.shutdown_deadline();
        let finish = async {
            self.state.ingest.intake.refuse_new();
            self.served.cancelled().await;
            self.state.ingest.intake.close().await;
            lifecycle.finished().await;
        };
        tokio::select! {
            () = finish => {}
            () = tokio::time::sleep(deadline) => tracing::warn!(?deadline, "not everything ended in time"),
            () = lifecycle.hard().cancelled() => {}
        }
        lifecycle.hard().cancel();
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
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

impl Ground {
    fn auth(&self, accounts: &KnownAccounts) -> anyhow::Result<Auth> {
        let local_token = match LocalToken::create(&self.data_dir) {
            // A gateway that does not start cannot bring into PostgreSQL what fills the disk.
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                tracing::error!(%error, "the local token was not written: none can be used until the next start");
                LocalToken::unknown()
            }
            created => {
                created.context("the local token cannot be written into the data directory")?
            }
        };
        Ok(Auth::new(AuthParts {
            accounts: accounts.accounts.clone(),
            database: self.database.clone(),
            clock: self.clock.clone(),
            lifecycle: self.lifecycle.clone(),
            local_token,
            catalog_changed: Arc::clone(&accounts.changed),
            options: AuthOptions {
                session_lifetime: Duration::from_secs(self.config.access.session_hours * 3_600),
                trust_forwarded_proto: self.config.access.trust_forwarded_proto,
                public_url: self.config.access.public_url.clone(),
            },
        }))
    }

    fn pipeline(&self, appender: Appender, keys: Keys) -> anyhow::Result<Pipeline> {
        let (config, ledger) = (&self.config, Ledger::default());
        let counters = Counters::new(config.access.metric_streams_max);
        counters.follow(self.catalog.streams().snapshot().iter().map(|stream| stream.id));
        let committed = DrainRate::new(Instant::now());
        let limits = IntakeLimits {
            entries_max: config.intake.intake_entries_max,
            bytes_max: config.intake.intake_bytes_max,
            wait: Duration::from_millis(config.intake.intake_wait_ms),
            journal_segment_bytes: config.journal.journal_segment_bytes,
        };
        let (intake, appender) = AppenderThread::start(
            &self.lifecycle,
            &self.journal,
            appender,
            limits,
            ledger.clone(),
            committed.clone(),
        )
        .context("cannot start the journal's thread")?;
        let progress = Progress::new(self.journal.first());
        let context = CommitContext {
            journal: self.journal.clone(),
            streams: self.catalog.streams().clone(),
            counters: counters.clone(),
            ledger,
            keys: keys.clone(),
            progress: progress.clone(),
            parking: Parking::default(),
            committed: committed.clone(),
            database: self.database.clone(),
            timeouts: BatchTimeouts {
                statement: Duration::from_secs(config.writer.statement_timeout_seconds),
                lock: Duration::from_millis(config.writer.lock_timeout_ms),
            },
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
            commit_stall: Duration::from_secs(config.writer.commit_stall_seconds),
        };
        let writers = Writers::new(writers_config, context, intake.clone(), self.lifecycle.clone());
        let quarantine = QuarantineBudget::new(quarantine::limits(&config.quarantine));
        Ok(Pipeline { intake, appender, writers, keys, progress, counters, quarantine, committed })
    }

    /// What a record may be, whichever way it comes.
    fn encode_limits(&self) -> EncodeLimits {
        let intake = &self.config.intake;
        EncodeLimits {
            record_bytes_max: intake.entry_bytes_max,
            members_max: intake.document_members_max,
        }
    }

    fn hub(&self, pipeline: &Pipeline) -> Hub {
        let config = &self.config.monitor;
        let limits = HubLimits {
            monitors_max: config.monitors_max,
            queue_bytes_max: config.monitor_queue_bytes,
            frames_bytes_max: config.monitors_bytes_max,
            tick: Duration::from_millis(config.monitor_tick_ms),
            sample_rate: config.monitor_sample_rate,
            ..HubLimits::default()
        };
        let (journal, progress) = (self.journal.clone(), pipeline.progress.clone());
        let clock = self.clock.clone();
        let load = Arc::new(move || api::node_load(&journal, &progress, &clock));
        let hub = Hub::new(
            self.journal.clone(),
            self.catalog.streams().clone(),
            pipeline.counters.clone(),
            limits,
            self.clock.clone(),
            self.config.node_name(),
            load,
        );
        let (running, synced) = (hub.clone(), pipeline.appender.synced());
        let soft = self.lifecycle.soft().clone();
        self.lifecycle.spawn_critical("hub", async move { running.run(synced, soft).await });
        hub
    }

    fn preparation(
        &self,
        accounts: KnownAccounts,
        auth: Auth,
        pipeline: &Pipeline,
        polling: PollingContext,
    ) -> Preparation {
        Preparation {
            polling,
            config: Arc::clone(&self.config),
            lifecycle: self.lifecycle.clone(),
            data_dir: self.data_dir.clone(),
            database: self.database.clone(),
            catalog: self.catalog.clone(),
            accounts,
            auth,
            counters: pipeline.counters.clone(),
            writers: pipeline.writers.clone(),
        }
    }

    fn state(
        &self,
        auth: Auth,
        hub: Hub,
        polling: PollingContext,
        pipeline: &Pipeline,
        metrics: PrometheusHandle,
    ) -> AppState {
        let entry_bytes_max = self.config.intake.entry_bytes_max;
        AppState::new(Parts {
            config: Arc::clone(&self.config),
            auth,
            database: self.database.clone(),
            catalog: self.catalog.clone(),
            ingest: Ingest {
                intake: pipeline.intake.clone(),
                encoders: Encoders::new(self.encode_limits()),
                counters: pipeline.counters.clone(),
                keys: pipeline.keys.clone(),
                journal: self.journal.clone(),
                committed: pipeline.progress.clone(),
                quarantine: pipeline.quarantine.clone(),
                catalog: self.catalog.clone(),
                database: self.database.clone(),
                entry_bytes_max,
                commit_wait: Duration::from_millis(self.config.intake.commit_wait_ms),
            },
            polling,
            previews: Previews::default(),
            previewers: UserSemaphore::new(&api::PREVIEWS),
            readers: UserSemaphore::new(&api::READING),
            exporters: UserSemaphore::new(&api::EXPORTS),
            replica: self.replica.clone(),
            reply_cache: api::ReplyCache::new(&self.config.reading, pipeline.counters.clone()),
            lists: UserSemaphore::new(&api::LISTS),
            samples: UserSemaphore::new(&api::SAMPLES),
            counters: pipeline.counters.clone(),
            journal: self.journal.clone(),
            progress: pipeline.progress.clone(),
            appender: pipeline.appender.clone(),
            parking: pipeline.writers.parking().clone(),
            database_state: pipeline.writers.database_state(),
            hub,
            clock: self.clock.clone(),
            metrics,
            connections: Connections::new(ConnectionLimits {
                connections_max: self.config.access.connections_max,
                per_address_max: self.config.connections_per_address_max(),
                trusted_proxies: self.config.access.trusted_proxies.clone(),
            }),
            memory_budget: MemoryBudget::new(self.config.access.request_memory_bytes_max),
            lifecycle: self.lifecycle.clone(),
            started_at: self.clock.now().date_time(),
            settings: self.settings.clone(),
        })
    }
}

/// What waiting cannot repair is told before anything is started.
fn check_first_admin(config: &Config) -> anyhow::Result<()> {
    config
        .access
        .admin_user
        .parse::<UserName>()
        .context("the first admin's name (--admin-user, TIDEGATE_ADMIN_USER)")?;
    if let Some(password) = config.access.admin_password() {
        password
            .parse::<Password>()
            .context("the first admin's password (--admin-password, TIDEGATE_ADMIN_PASSWORD)")?;
    }
    Ok(())
}

/// Answers requests from now on; the token is cancelled when the last one is answered after a shutdown began.
fn serve(listener: TcpListener, state: &AppState) -> CancellationToken {
    let entrance = Entrance::new(state.clone());
    let server = api::serve(listener, entrance, state.lifecycle.clone());
    let served = CancellationToken::new();
    let at_end = served.clone().drop_guard();
    state.lifecycle.spawn_critical("http server", async move {
        server.await;
        drop(at_end);
    });
    served
}

/// A URL that may be shown.
fn without_password(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return "as given".to_owned() };
    let hidden = parsed.set_password(None);
    if hidden.is_ok() { parsed.to_string() } else { "as given".to_owned() }
}
