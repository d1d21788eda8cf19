//! Getting the database ready, in the background and for as long as it takes, and then following its catalog.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::accounts::KnownAccounts;
use crate::app::data_dir;
use crate::auth::{self, FirstAdmin};
use crate::backoff::Backoff;
use crate::catalog::{Catalog, Changes};
use crate::config::Config;
use crate::db::Database;
use crate::hub::counters::Counters;
use crate::lifecycle::Lifecycle;
use crate::pipeline::Writers;
use crate::sources::poll::{Poller, Scheduler};

/// How long a start waits for a database that does not answer, before it goes on without.
const DATABASE_WAIT: Duration = Duration::from_secs(10);
/// Longest time for one try at preparing the database; a line that went silent would never end it.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that must be known of the database before the writers may run.
pub(super) struct Preparation {
    pub config: Arc<Config>,
    pub lifecycle: Lifecycle,
    pub data_dir: PathBuf,
    pub database: Database,
    pub catalog: Catalog,
    pub accounts: KnownAccounts,
    pub counters: Counters,
    pub writers: Writers,
    pub poller: Poller,
}

impl Preparation {
    /// Starts the task. Waits a while for its first success and returns what it tells of the first admin; then the
    /// gateway goes on without PostgreSQL, and records wait in the journal.
    pub async fn start(self) -> Option<String> {
        let (answer, answered) = oneshot::channel();
        let lifecycle = self.lifecycle.clone();
        lifecycle.spawn("database preparation", self.run(answer));
        tokio::time::timeout(DATABASE_WAIT, answered).await.ok()?.ok()?
    }

    async fn run(self, answer: oneshot::Sender<Option<String>>) {
        let soft = self.lifecycle.soft().clone();
        let Some(admin) = self.until_ready(&soft).await else { return };
        self.writers.reached();
        let _ = answer.send(admin);
        self.lifecycle.spawn_critical("writers", self.writers.clone().run());
        if self.poller.limits.runs_max > 0 {
            let scheduler = Scheduler::new(self.poller.clone());
            self.lifecycle.spawn_critical("polling jobs", scheduler.run());
        }
        let mut changes = Changes::new(self.database.clone(), Arc::clone(&self.accounts.changed));
        let mut failing = false;
        loop {
            tokio::select! {
                () = changes.wait() => {}
                () = soft.cancelled() => return,
            }
            let refreshed = self.refresh().await;
            if let Err(error) = &refreshed
                && !failing
            {
                tracing::warn!(%error, "the catalog cannot be read; going on with what is known");
            }
            failing = refreshed.is_err();
        }
    }

    /// Tries until it succeeds; `None` if a shutdown came first. The first failure is logged, and the status page has
    /// the latest.
    async fn until_ready(&self, soft: &CancellationToken) -> Option<Option<String>> {
        let mut backoff = Backoff::new();
        let mut failing = false;
        loop {
            let error = match tokio::time::timeout(PREPARE_TIMEOUT, self.prepare()).await {
                Ok(Ok(admin)) => return Some(admin),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_elapsed) => format!("PostgreSQL did not answer within {PREPARE_TIMEOUT:?}"),
            };
            if !failing {
                tracing::warn!(
                    error,
                    "the database cannot be prepared; records are taken and wait in the journal"
                );
            }
            failing = true;
            self.writers.unreachable(error);
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = soft.cancelled() => return None,
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<Option<String>> {
        self.database.migrate().await?;
        data_dir::check_database(&self.data_dir, self.database.installation().await?)?;
        let access = &self.config.access;
        let admin = auth::ensure_first_admin(
            self.database.pool(),
            &self.data_dir,
            &access.admin_user,
            access.admin_password(),
        )
        .await?;
        self.refresh().await?;
        Ok(match admin {
            FirstAdmin::NotNeeded => None,
            FirstAdmin::Created { name } => {
                Some(format!("user {name}, with the password that you gave"))
            }
            FirstAdmin::Generated { name, password, file } => Some(format!(
                "user {name}, password {} (shown once; kept in {})",
                password.as_str(),
                file.display()
            )),
        })
    }

    async fn refresh(&self) -> Result<(), sqlx::Error> {
        self.catalog.refresh().await?;
        let snapshot = self.catalog.streams().snapshot();
        self.counters.retain(|stream| snapshot.by_id(stream).is_some());
        self.accounts.refresh().await
    }
}
