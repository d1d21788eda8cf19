//! Getting the database ready, in the background and for as long as it takes, and then following its catalog.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::accounts::KnownAccounts;
use crate::app::data_dir;
use crate::auth::{self, Auth, FirstAdmin};
use crate::backoff::Backoff;
use crate::catalog::{Catalog, Changes};
use crate::config::Config;
use crate::counters::Counters;
use crate::db::locks::longest_wait;
use crate::db::notifications::Word;
use crate::db::{Database, PreparationError};
use crate::lifecycle::Lifecycle;
use crate::pipeline::Writers;
use crate::polling::{PollingContext, Scheduler};

/// Longest time for one try at preparing the database; a line that went silent would never end it.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// `sign_in`: how to, if the first admin was made by this start.
    Ready { sign_in: Option<String> },
    /// Not yet; it is tried again.
    NotReady { reason: String },
}

/// Everything that must be known of the database before the writers may run.
pub(super) struct Preparation {
    pub config: Arc<Config>,
    pub lifecycle: Lifecycle,
    pub data_dir: PathBuf,
    pub database: Database,
    pub catalog: Catalog,
    pub accounts: KnownAccounts,
    pub auth: Auth,
    pub counters: Counters,
    pub writers: Writers,
    pub polling: PollingContext,
}

impl Preparation {
    /// Starts the task, which tells how it went as soon as waiting alone would not change that. The gateway goes on without
    /// PostgreSQL; records wait in the journal.
    pub fn start(self) -> oneshot::Receiver<Prepared> {
        let (answer, answered) = oneshot::channel();
        let lifecycle = self.lifecycle.clone();
        lifecycle.spawn("database preparation", self.run(answer));
        answered
    }

    async fn run(self, answer: oneshot::Sender<Prepared>) {
        let soft = self.lifecycle.soft().clone();
        if !self.until_ready(answer, &soft).await {
            return;
        }
        self.lifecycle.spawn_critical("writers", self.writers.clone().run());
        if self.polling.limits.runs_max > 0 {
            let scheduler = Scheduler::new(self.polling.clone());
            self.lifecycle.spawn_critical("polling jobs", scheduler.run());
        }
        let mut changes = Changes::new(self.database.clone(), Arc::clone(&self.accounts.changed));
        let mut failing = false;
        loop {
            let word = tokio::select! {
                word = changes.wait() => word,
                () = soft.cancelled() => return,
            };
            if let Word::SessionEnded(hash) = word {
                self.auth.forget_session(&hash);
                continue;
            }
            let refreshed = self.refresh().await;
            self.auth.forget_all_sessions();
            if let Err(error) = &refreshed
                && !failing
            {
                tracing::warn!(%error, "the catalog cannot be read; going on with what is known");
            }
            failing = refreshed.is_err();
        }
    }

    /// Tries until it succeeds; false if a shutdown came first. Each new failure is logged, and the status page has the
    /// latest.
    async fn until_ready(
        &self,
        answer: oneshot::Sender<Prepared>,
        soft: &CancellationToken,
    ) -> bool {
        let mut answer = Some(answer);
        let mut backoff = Backoff::new();
        let mut last_error = String::new();
        loop {
            let tried = tokio::select! {
                tried = tokio::time::timeout(PREPARE_TIMEOUT, self.prepare()) => tried,
                () = soft.cancelled() => return false,
            };
            let (error, passes) = match tried {
                Ok(Ok(admin)) => {
                    self.ready(&admin, answer);
                    return true;
                }
                Ok(Err(error)) => (words(&error), passes(&error)),
                Err(_elapsed) => (self.no_answer().await, false),
            };
            if error != last_error {
                tracing::warn!(
                    error,
                    "the database cannot be prepared; records of known streams are taken and wait in the journal"
                );
            }
            if let Some(answer) = answer.take_if(|_| !passes) {
                let _ = answer.send(Prepared::NotReady { reason: error.clone() });
            }
            self.writers.unreachable(error.clone());
            last_error = error;
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = soft.cancelled() => return false,
            }
        }
    }

    async fn no_answer(&self) -> String {
        let waits = longest_wait(&self.database).await.ok().flatten();
        let waits = waits.map(|waits| format!("; {waits}")).unwrap_or_default();
        format!("PostgreSQL did not answer within {PREPARE_TIMEOUT:?}{waits}")
    }

    /// Tells the waiting caller, else the log; a password is not for the log.
    fn ready(&self, admin: &FirstAdmin, answer: Option<oneshot::Sender<Prepared>>) {
        self.writers.reached();
        let told = Prepared::Ready { sign_in: sign_in(admin) };
        if answer.is_some_and(|answer| answer.send(told).is_ok()) {
            return;
        }
        tracing::info!("the database is prepared");
        match admin {
            FirstAdmin::NotNeeded => {}
            FirstAdmin::Created { name } => tracing::info!(user = %name, "the first user is made"),
            FirstAdmin::Generated { name, file, .. } => {
                tracing::info!(user = %name, password_file = %file.display(), "the first user is made");
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<FirstAdmin> {
        self.database.prepare().await?;
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
        Ok(admin)
    }

    async fn refresh(&self) -> Result<(), sqlx::Error> {
        self.catalog.refresh().await?;
        let snapshot = self.catalog.streams().snapshot();
        self.counters.follow(snapshot.iter().map(|stream| stream.id));
        self.accounts.refresh().await
    }
}

/// How to sign in, if the first admin was made just now.
fn sign_in(admin: &FirstAdmin) -> Option<String> {
    match admin {
        FirstAdmin::NotNeeded => None,
        FirstAdmin::Created { name } => {
            Some(format!("user {name}, with the password that you gave"))
        }
        FirstAdmin::Generated { name, password, file } => Some(format!(
            "user {name}, password {} (shown once; kept in {})",
            password.as_str(),
            file.display()
        )),
    }
}

/// The error with what brought it about, each thing once: some say what their cause says, too.
fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !words.contains(&cause) {
            let separator = if words.is_empty() { "" } else { ": " };
            words = words + separator + &cause;
        }
    }
    words
}

/// Is it worth waiting a moment before the person at the terminal is told?
fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PreparationError>().is_some_and(PreparationError::passes)
}
