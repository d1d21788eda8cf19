//! One run of a job: ask, take what is new, wait for its commit, and say when the job is due next.
//!
//! Invariant: what the next run goes on from is kept only after everything that this run brought is committed, and only
//! while the run is the job's latest. So a crash at any moment costs a question that is asked again, and no item.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::auth::LOCAL_USER_NAME;
use crate::backoff::Backoff;
use crate::db::polling_runs::{self, ClaimedRow, FinishedRun};
use crate::pipeline::IntakeError;
use crate::record::UnixMicros;
use crate::sources::poll::backoff::failure_wait;
use crate::sources::poll::definition::Definition;
use crate::sources::poll::error::{FetchError, FetchErrorKind};
use crate::sources::poll::feed::{Feed, FeedCounts, FeedError};
use crate::sources::poll::fetch::Outcome;
use crate::sources::poll::headers::Secrets;
use crate::sources::poll::poller::{DestinationError, Poller};
use crate::sources::poll::resume::Resume;
use crate::sources::poll::schedule::Schedule;
use crate::sources::poll::sealer::{OpenError, SealedHeaders};
use crate::telemetry::metrics::{self, PolledItems};

/// A job that did nothing wrong is tried again after this.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// How a run ended; the words are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    Success,
    /// The API said that nothing has changed.
    NotModified,
    Failed,
    /// The host, which has others to answer, was not asked; the job is due again soon.
    Postponed,
    /// The gateway was shut down; the job is due at once.
    Interrupted,
    /// Another run followed it, or the job was changed or taken away.
    Superseded,
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Success => "success",
            RunStatus::NotModified => "not_modified",
            RunStatus::Failed => "failed",
            RunStatus::Postponed => "postponed",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Superseded => "superseded",
        }
    }
}

/// A run under way.
pub(super) struct Run {
    poller: Poller,
    job: ClaimedRow,
    began: Instant,
    /// Cancelled when another run followed this one.
    superseded: CancellationToken,
}

/// Why a run brought nothing, or not everything.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Sealed(#[from] OpenError),
    #[error("the job's {0} was written by another version of the gateway: {1}")]
    Unreadable(&'static str, serde_json::Error),
    #[error("the job's owner is disabled")]
    OwnerDisabled,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("it took longer than {} seconds, and was ended; what came until then is kept", .0.as_secs())]
    TookTooLong(Duration),
    #[error("the gateway is shutting down")]
    Interrupted,
    #[error("the job was changed, or another run followed")]
    Superseded,
}

impl RunError {
    /// What went wrong, as far as the log may know it.
    fn reason(&self) -> &'static str {
        match self {
            RunError::Fetch(error) => error.kind.as_str(),
            RunError::Feed(_) => "items_not_taken",
            RunError::Destination(_) => "stream_not_fit",
            RunError::Sealed(_) => "sealed_headers",
            RunError::Unreadable(..) => "unreadable",
            RunError::OwnerDisabled => "owner_disabled",
            RunError::Database(_) => "database",
            RunError::Interrupted => "interrupted",
            RunError::Superseded => "superseded",
            RunError::TookTooLong(_) => "took_too_long",
        }
    }
}

/// What a run came to.
struct Ended {
    status: RunStatus,
    counts: FeedCounts,
    /// What the next one goes on from.
    resume: Option<Resume>,
    error: Option<RunError>,
}

impl Run {
    pub fn new(poller: Poller, job: ClaimedRow, superseded: CancellationToken) -> Run {
        Run { poller, job, began: Instant::now(), superseded }
    }

    /// From the first question to the last row.
    pub async fn run(self) {
        let lag = self.job.started_at - self.job.due_at;
        metrics::record_poll_lag(Duration::try_from(lag).unwrap_or_default());
        let mut counts = FeedCounts::default();
        // Large, because all of asking is in it.
        let worked = Box::pin(self.work(&mut counts)).await;
        let (status, resume, error) = match worked {
            Ok((Outcome::Fresh, resume)) => (RunStatus::Success, Some(resume), None),
            Ok((Outcome::NotModified, resume)) => (RunStatus::NotModified, Some(resume), None),
            Err(error) => (status_of(&error), None, Some(error)),
        };
        let ended = Ended { status, counts, resume, error };
        let status = self.finish(&ended).await;
        metrics::count_poll_run(status.as_str(), self.began.elapsed());
        metrics::count_polled_items(PolledItems {
            fresh: counts.fresh,
            changed: counts.changed,
            duplicates: counts.duplicates,
            refused: counts.refused,
        });
        // Said once, until it goes well again; the job's runs have all of them.
        if let (RunStatus::Failed, Some(error), 0) = (status, &ended.error, self.job.failures) {
            // In the words there may be a secret: of an address's path, or of an answer.
            let (job, reason, origin) = (self.job.id, error.reason(), self.origin());
            tracing::info!(%job, reason, origin, "a polling job's run failed; its runs say how");
        }
    }

    async fn work(&self, counts: &mut FeedCounts) -> Result<(Outcome, Resume), RunError> {
        if self.job.owner_disabled {
            return Err(RunError::OwnerDisabled);
        }
        let definition: Definition = serde_json::from_value(self.job.definition.0.clone())
            .map_err(|error| RunError::Unreadable("definition", error))?;
        let definition = Arc::new(definition);
        let name = self.job.stream.parse().map_err(serde::de::Error::custom);
        let name = name.map_err(|error| RunError::Unreadable("stream", error))?;
        let stream = self.poller.destination(&name, &definition).await?;
        let resume = self.resume(stream.id.0).await?;
        let secrets = match &self.job.sealed {
            None => Secrets::default(),
            Some(sealed) => self.poller.sealer.open(self.job.id, &SealedHeaders(sealed.clone()))?,
        };
        let owner = (self.owner(), self.job.owner_id);
        let ended = self.superseded.clone();
        let mut feed = Feed::new(&self.poller, self.job.run(), owner, stream, ended)?;
        let mut pages = self.poller.fetcher.pages(definition, secrets, resume);
        let asked = self.ask(&mut pages, &mut feed).await;
        // Whatever ended it: what is on its way is waited for, else the next run would supersede it and ask again.
        let committed = feed.committed().await;
        *counts = feed.counts();
        asked?;
        committed?;
        feed.finish();
        let (outcome, resume) = pages.finish();
        if outcome == Outcome::Fresh {
            self.forget_old().await;
        }
        Ok((outcome, resume))
    }

    /// Failing at it fails no run: what stays is looked at the next time.
    async fn forget_old(&self) {
        let memory = self.poller.memory(self.job.id);
        let soft = self.poller.lifecycle.soft();
        let is_over = || self.superseded.is_cancelled() || soft.is_cancelled();
        match memory.forget_old(self.job.run(), is_over).await {
            Ok(0) => {}
            Ok(items) => tracing::info!(job = %self.job.id, items, "forgot old items"),
            Err(error) => {
                tracing::info!(job = %self.job.id, %error, "old items are not forgotten yet");
            }
        }
    }

    async fn ask(
        &self,
        pages: &mut crate::sources::poll::fetch::Pages,
        feed: &mut Feed,
    ) -> Result<(), RunError> {
        let time_max = self.poller.limits.run_time_max;
        loop {
            let page = tokio::select! {
                page = pages.next() => page,
                () = tokio::time::sleep_until(self.began + time_max) => {
                    feed.flush().await?;
                    return Err(RunError::TookTooLong(time_max));
                }
                () = self.poller.lifecycle.soft().cancelled() => return Err(RunError::Interrupted),
                () = self.superseded.cancelled() => return Err(RunError::Superseded),
            };
            match page {
                Ok(Some(page)) => feed.take(&page).await?,
                Ok(None) => break,
                Err(error) => {
                    // What earlier pages brought stays.
                    feed.flush().await?;
                    return Err(error.into());
                }
            }
        }
        Ok(feed.flush().await?)
    }

    /// Where to go on from; the beginning, with an empty memory, if the stream is another one than it was.
    async fn resume(&self, stream: i32) -> Result<Resume, RunError> {
        if self.job.stream_id != Some(stream) {
            let begun = polling_runs::begin_anew(&self.poller.pool, self.job.run(), stream).await?;
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

    /// Says how it ended, as soon as PostgreSQL hears it.
    async fn finish(&self, ended: &Ended) -> RunStatus {
        let ended_at = later(UnixMicros::of(self.job.started_at), self.began.elapsed());
        let (due_at, failures) = self.next(ended, ended_at);
        let resume = ended.resume.as_ref();
        let resume =
            resume.map(|resume| serde_json::to_string(resume).expect("texts and numbers are JSON"));
        let error = ended.error.as_ref().map(|error| self.words(error));
        let finished = FinishedRun {
            run: self.job.run(),
            status: ended.status.as_str(),
            items: ended.counts.items,
            duplicates: ended.counts.duplicates,
            refused: ended.counts.refused,
            error: error.as_deref(),
            due_at: due_at.date_time(),
            ended_at: ended_at.date_time(),
            failures,
            resume: resume.as_deref(),
        };
        let mut backoff = Backoff::new();
        loop {
            let told =
                crate::db::answered(polling_runs::finish(&self.poller.pool, &finished)).await;
            match told {
                Ok(true) => return ended.status,
                Ok(false) => return RunStatus::Superseded,
                Err(error) => {
                    tracing::debug!(job = %self.job.id, %error, "a run's end is not noted yet");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.superseded.cancelled() => return RunStatus::Superseded,
                // Its lease ends by itself.
                () = self.poller.lifecycle.hard().cancelled() => return ended.status,
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

    /// When the job is due next, and how many runs in a row have failed.
    fn next(&self, ended: &Ended, now: UnixMicros) -> (UnixMicros, i32) {
        let due = UnixMicros::of(self.job.due_at);
        if matches!(ended.status, RunStatus::Interrupted | RunStatus::Superseded) {
            return (due, self.job.failures);
        }
        let schedule: Option<Schedule> = serde_json::from_value(self.job.schedule.0.clone()).ok();
        let regular = schedule.map_or(now, |schedule| schedule.next(due, now, self.job.id));
        let Some(error) = &ended.error else { return (regular, 0) };
        if !is_the_jobs(error) {
            let wait = retry_after(error).unwrap_or(BUSY_WAIT);
            return (regular.min(later(now, wait)), self.job.failures);
        }
        let failures = self.job.failures.saturating_add(1);
        let wait = failure_wait(failures).max(retry_after(error).unwrap_or_default());
        (regular.max(later(now, wait)), failures)
    }
}

fn retry_after(error: &RunError) -> Option<Duration> {
    match error {
        RunError::Fetch(error) => error.retry_after,
        _ => None,
    }
}

/// Has it to do with the job or its API? Else it is this gateway's or its database's trouble, and passes.
fn is_the_jobs(error: &RunError) -> bool {
    !matches!(
        error,
        RunError::Fetch(FetchError { kind: FetchErrorKind::Busy, .. })
            | RunError::Feed(FeedError::Intake(_) | FeedError::Database(_))
            | RunError::Destination(DestinationError::Database(_))
            | RunError::Database(_)
    )
}

fn status_of(error: &RunError) -> RunStatus {
    match error {
        RunError::Interrupted | RunError::Feed(FeedError::Intake(IntakeError::ShuttingDown)) => {
            RunStatus::Interrupted
        }
        RunError::Fetch(FetchError { kind: FetchErrorKind::Busy, .. }) => RunStatus::Postponed,
        RunError::Superseded | RunError::Feed(FeedError::Ended) => RunStatus::Superseded,
        _ => RunStatus::Failed,
    }
}

fn later(start: UnixMicros, elapsed: Duration) -> UnixMicros {
    let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(start.0.saturating_add(micros))
}
