//! One run of a job: ask, take what is new, wait for its commit, and say when the job is due next.
//!
//! Invariant: what the next run goes on from is kept only after everything that this run brought is committed, and only
//! while the run is the job's latest. So a crash at any moment costs a question that is asked again, and no item. A run
//! that did not come to its end moves the since-field's mark only to where the order of the pages says that nothing is left
//! out (see `ascent` of [`crate::polling::ask`]).

mod ending;
mod error;
mod feed;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use tidegate_record::UnixMicros;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::ending::{Ended, later};
use self::error::{RunError, RunStatus};
use self::feed::{Feed, FeedCounts, FeedError};
use self::memory::Memory;
use crate::auth::LOCAL_USER_NAME;
use crate::backoff::Backoff;
use crate::db::polled_items::RunCounts;
use crate::db::polling_runs::{self, ClaimedRow, FinishedRun};
use crate::outbound::{SealedHeaders, Secrets};
use crate::polling::ask::{Outcome, Page, Pages, Resume};
use crate::polling::context::PollingContext;
use crate::polling::jobs::{Definition, DestinationError, destination};
use crate::telemetry::metrics::{self, PolledItems};

/// Items that are looked up in the memory at a time.
const LOOKED_UP_MAX: usize = 5_000;

/// A run under way.
pub(super) struct Run {
    context: PollingContext,
    job: ClaimedRow,
    began: Instant,
    stop: StopSignals,
}

/// What ends a run from outside. Clones share the signals.
#[derive(Debug, Clone, Default)]
pub(super) struct StopSignals {
    /// Cancelled when another run followed this one.
    pub superseded: CancellationToken,
    /// Cancelled when the user whose job it is was disabled: it asks for nothing more.
    pub owner_disabled: CancellationToken,
}

impl Run {
    pub fn new(context: PollingContext, job: ClaimedRow, stop: StopSignals) -> Run {
        Run { context, job, began: Instant::now(), stop }
    }

    /// From the first question to the last row.
    pub async fn run(self) {
        let lag = self.job.started_at - self.job.due_at;
        metrics::record_poll_lag(Duration::try_from(lag).unwrap_or_default());
        let mut counts = FeedCounts::default();
        // Large, because all of asking is in it.
        let worked = Box::pin(self.work(&mut counts)).await;
        let (status, resume, error) = match worked {
            Ok((Outcome::Fresh | Outcome::Silent, resume)) => {
                (RunStatus::Success, Some(resume), None)
            }
            Ok((Outcome::NotModified, resume)) => (RunStatus::NotModified, Some(resume), None),
            Err(error) => (error.status(), error.resume().cloned(), Some(error)),
        };
        let ended = Ended { status, counts, resume, error };
        let (status, committed) = self.finish(&ended).await;
        metrics::count_poll_run(status.as_str(), self.began.elapsed());
        metrics::count_polled_items(PolledItems {
            fresh: committed.fresh.unsigned_abs(),
            changed: committed.changed.unsigned_abs(),
            duplicates: counts.duplicates,
            refused: committed.refused.unsigned_abs(),
        });
        // Said once, until it goes well again; the job's runs have all of them.
        let is_bad = matches!(status, RunStatus::Failed | RunStatus::Unfinished);
        if let (true, Some(error), 0) = (is_bad, &ended.error, self.job.failures) {
            // In the words there may be a secret: of an address's path, or of an answer.
            let (job, reason, origin) = (self.job.id, error.reason(), self.origin());
            tracing::info!(%job, reason, origin, "a polling job's run failed; its runs say how");
        }
    }

    async fn work(&self, counts: &mut FeedCounts) -> Result<(Outcome, Resume), RunError> {
        let definition = self.definition()?;
        let (mut pages, mut feed) = self.begin(Arc::clone(&definition)).await?;
        let asked = self.ask(&mut pages, &mut feed).await;
        // However it ended: what is on its way is waited for, else the next run would supersede it and ask again.
        let committed = feed.committed().await;
        *counts = feed.counts();
        let not_kept = feed.count_not_kept();
        let failures = self.job.failures.saturating_add(1);
        match (asked, committed) {
            (Ok(()), committed) => committed?,
            (Err(error), Ok(())) => {
                return Err(error.after(pages.reached(), not_kept, &definition, failures));
            }
            (Err(error), Err(_)) => return Err(error),
        }
        feed.finish();
        // Everything else is taken; but the next run must meet them again.
        if let Some(not_kept) = not_kept {
            return Err(RunError::NotKept(not_kept));
        }
        let (outcome, resume) = pages.finish();
        if outcome == Outcome::Fresh {
            self.forget_old().await;
        }
        Ok((outcome, resume))
    }

    fn definition(&self) -> Result<Arc<Definition>, RunError> {
        if self.job.owner_disabled {
            return Err(RunError::OwnerDisabled);
        }
        let definition: Definition = serde_json::from_value(self.job.definition.0.clone())
            .map_err(|error| RunError::Unreadable("definition", error))?;
        Ok(Arc::new(definition))
    }

    /// The pages to ask for, and where their items go.
    async fn begin(&self, definition: Arc<Definition>) -> Result<(Pages, Feed), RunError> {
        let name = self.job.stream.parse().map_err(serde::de::Error::custom);
        let name = name.map_err(|error| RunError::Unreadable("stream", error))?;
        let stream =
            destination(&self.context.catalog, &name, &definition, self.job.owner_id).await?;
        let resume = self.resume(stream.id.0).await?;
        let secrets = match &self.job.sealed {
            None => Secrets::default(),
            Some(sealed) => {
                self.context.sealer.open(self.job.id, &SealedHeaders(sealed.clone()))?
            }
        };
        let owner_id = self.job.owner_id;
        let owner = (self.owner(), owner_id);
        let ended = self.stop.superseded.clone();
        let feed = Feed::new(&self.context, self.job.run(), owner, stream, ended)?;
        Ok((self.context.fetcher.pages(owner_id, definition, secrets, resume), feed))
    }

    /// Failing at it fails no run: what stays is looked at the next time.
    async fn forget_old(&self) {
        let memory = Memory::new(&self.context.pool, self.context.limits.memory, self.job.id);
        let soft = self.context.lifecycle.soft();
        let is_over = || self.stop.superseded.is_cancelled() || soft.is_cancelled();
        match memory.forget_old(self.job.run(), is_over).await {
            Ok(0) => {}
            Ok(items) => tracing::info!(job = %self.job.id, items, "forgot old items"),
            Err(error) => {
                tracing::info!(job = %self.job.id, %error, "old items are not forgotten yet");
            }
        }
    }

    async fn ask(&self, pages: &mut Pages, feed: &mut Feed) -> Result<(), RunError> {
        let error = loop {
            let page = tokio::select! {
                page = pages.next() => page.map_err(RunError::from),
                error = self.stopped() => Err(error),
            };
            match page {
                Ok(None) => return Ok(feed.flush().await?),
                Err(error) => break error,
                Ok(Some(page)) => {
                    if let Err(error) = self.take(&page, feed).await {
                        pages.take_back();
                        break error;
                    }
                }
            }
        };
        // What came before stays.
        if matches!(error, RunError::Fetch(_) | RunError::TookTooLong(_)) {
            feed.flush().await?;
        }
        Err(error)
    }

    /// Takes a page, unless the run has to end. Looking items up can be given up half way; handing them on cannot, or what
    /// is on its way would not be waited for.
    async fn take(&self, page: &Page, feed: &mut Feed) -> Result<(), RunError> {
        feed.add_duplicates(page.duplicates);
        for items in page.items.chunks(LOOKED_UP_MAX) {
            let seen = tokio::select! {
                seen = feed.look_up(items) => seen?,
                error = self.stopped() => return Err(error),
            };
            feed.take(items, &seen).await?;
        }
        Ok(())
    }

    /// Waits until the run has to end, whatever it is at: why.
    async fn stopped(&self) -> RunError {
        let time_max = self.context.limits.run_time_max;
        tokio::select! {
            () = tokio::time::sleep_until(self.began + time_max) => RunError::TookTooLong(time_max),
            () = self.context.lifecycle.soft().cancelled() => RunError::Interrupted,
            () = self.stop.superseded.cancelled() => RunError::Superseded,
            () = self.stop.owner_disabled.cancelled() => RunError::OwnerDisabled,
        }
    }

    /// Where to go on from; the beginning, with an empty memory, if the stream is another one than it was.
    async fn resume(&self, stream: i32) -> Result<Resume, RunError> {
        if self.job.stream_id != Some(stream) {
            let begun =
                polling_runs::begin_anew(&self.context.pool, self.job.run(), stream).await?;
            return if begun { Ok(Resume::default()) } else { Err(RunError::Superseded) };
        }
        // What an older or newer version kept, and this one cannot read, is worth a question more.
        Ok(serde_json::from_str(&self.job.resume).unwrap_or_default())
    }

    /// Scheme, host and port of what is asked.
    fn origin(&self) -> String {
        let url = self.job.definition.0["url"].as_str().and_then(|url| url.parse::<Url>().ok());
        url.map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    fn owner(&self) -> Arc<str> {
        self.job.owner_name.as_deref().unwrap_or(LOCAL_USER_NAME).into()
    }

    /// Says how it ended, as soon as PostgreSQL hears it; returns that, and what was committed of its items.
    async fn finish(&self, ended: &Ended) -> (RunStatus, RunCounts) {
        let ended_at = later(UnixMicros::of(self.job.started_at), self.began.elapsed());
        let (due_at, failures) = ended.next(&self.job, ended_at);
        let resume = ended.resume.as_ref();
        let resume =
            resume.map(|resume| serde_json::to_string(resume).expect("texts and numbers are JSON"));
        let error = ended.error.as_ref().map(|error| self.words(error));
        let finished = FinishedRun {
            run: self.job.run(),
            status: ended.status.as_str(),
            items: ended.counts.items,
            duplicates: ended.counts.duplicates,
            error: error.as_deref(),
            unfinished: error.as_deref().filter(|_| ended.status == RunStatus::Unfinished),
            gets_on: ended.status.gets_on(),
            due_at: due_at.date_time(),
            ended_at: ended_at.date_time(),
            failures,
            resume: resume.as_deref(),
        };
        let (mut backoff, unknown) = (Backoff::new(), RunCounts::default());
        loop {
            let told =
                crate::db::answered(polling_runs::finish(&self.context.pool, &finished)).await;
            match told {
                Ok(Some(committed)) => return (ended.status, committed),
                Ok(None) => return (RunStatus::Superseded, unknown),
                Err(error) => {
                    tracing::debug!(job = %self.job.id, %error, "a run's end is not noted yet");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.stop.superseded.cancelled() => return (RunStatus::Superseded, unknown),
                // Its lease ends by itself.
                () = self.context.lifecycle.hard().cancelled() => return (ended.status, unknown),
            }
        }
    }

    /// What people are told; nothing of the database.
    fn words(&self, error: &RunError) -> String {
        match error {
            RunError::Database(error) | RunError::Feed(FeedError::Database(error)) => {
                tracing::warn!(job = %self.job.id, %error, "a polling job's run could not ask the database");
                "the database could not be asked".to_owned()
            }
            RunError::Destination(DestinationError::Database(error)) => {
                tracing::warn!(job = %self.job.id, %error, "a polling job's stream could not be made");
                "the database could not be asked".to_owned()
            }
            error => error.to_string(),
        }
    }
}
