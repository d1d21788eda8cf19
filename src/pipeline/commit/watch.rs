//! Notices that commits do not come back, although PostgreSQL can be reached, and finds out what they wait for: a
//! synchronous standby that is gone, a lock on one of the gateway's own tables.
//!
//! The writers cannot tell: they wait, or their sessions end and begin again. So what counts is whether anything that waits
//! was committed, over all sessions.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::database_state::DatabaseState;
use crate::db::Database;
use crate::db::locks::longest_wait;
use crate::pipeline::admission::DrainRate;

/// How often the watch looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it asks PostgreSQL again what a commit waits for.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// One for each process.
pub(super) struct CommitWatch {
    pub database: Database,
    /// What was committed, and since when nothing was.
    pub committed: DrainRate,
    pub state: watch::Sender<DatabaseState>,
    /// Commits that have not come back for so long are said to be stuck.
    pub limit: Duration,
}

impl CommitWatch {
    /// Looks until the gateway is asked to end.
    pub async fn run(self, soft: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = soft.cancelled() => return,
            }
            if self.committed.stalled_for(Instant::now()) < self.limit {
                self.end();
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                self.note().await;
                asked = Some(Instant::now());
            }
        }
    }

    async fn note(&self) {
        let reason = match longest_wait(&self.database).await {
            Ok(Some(reason)) => reason,
            Ok(None) => "PostgreSQL does not say what they wait for".to_owned(),
            Err(error) => format!("PostgreSQL could not be asked what they wait for: {error}"),
        };
        // Something may have been committed while it was asked.
        let stalled = self.committed.stalled_for(Instant::now());
        if stalled < self.limit {
            return;
        }
        let seconds = stalled.as_secs();
        let words = format!("no commit has come back for {seconds} s; {reason}");
        let before = self.say(Some(words.clone()));
        if before.is_none() {
            tracing::warn!(
                reason = words,
                "records are taken, but PostgreSQL does not commit them"
            );
        }
    }

    fn end(&self) {
        if self.state.borrow().stalled.is_some() {
            self.say(None);
            tracing::info!("PostgreSQL commits again");
        }
    }

    /// What was said before.
    fn say(&self, stalled: Option<String>) -> Option<String> {
        let mut before = None;
        self.state.send_modify(|state| before = std::mem::replace(&mut state.stalled, stalled));
        before
    }
}
