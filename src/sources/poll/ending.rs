//! How a run ends: what people are told of it, and when its job is due next.

use std::time::Duration;

use crate::db::polling_runs::ClaimedRow;
use crate::pipeline::IntakeError;
use crate::record::UnixMicros;
use crate::sources::poll::backoff::failure_wait;
use crate::sources::poll::definition::{Definition, PAGES_MAX};
use crate::sources::poll::error::{FetchError, FetchErrorKind};
use crate::sources::poll::feed::{FeedCounts, FeedError};
use crate::sources::poll::fetch::Reached;
use crate::sources::poll::poller::DestinationError;
use crate::sources::poll::resume::Resume;
use crate::sources::poll::schedule::Schedule;
use crate::sources::poll::sealer::OpenError;

/// A job that did nothing wrong is tried again after this.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// A run that can go on where the last one ended follows it after this; it is the shortest interval of a job as well.
const SOON: Duration = Duration::from_secs(1);
/// So many runs in a row that fail behind their first page will not come to their end by themselves.
const LASTING_FAILURES: i32 = 3;

/// How a run ended; the words are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunStatus {
    Success,
    /// The API said that nothing has changed.
    NotModified,
    /// The API has no answer yet; it is asked again soon.
    NotReady,
    /// It did not come to its end, but the next one goes on where it ended.
    Partial,
    /// It did not come to its end, and the next one will not either.
    Unfinished,
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
            RunStatus::NotReady => "not_ready",
            RunStatus::Partial => "partial",
            RunStatus::Unfinished => "unfinished",
            RunStatus::Failed => "failed",
            RunStatus::Postponed => "postponed",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Superseded => "superseded",
        }
    }

    /// Does it show that runs of the job come to their end, or on?
    pub fn gets_on(self) -> bool {
        matches!(self, RunStatus::Success | RunStatus::NotModified | RunStatus::Partial)
    }
}

/// Why a run brought nothing, or not everything.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
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
    /// In the words for people.
    #[error("{words}")]
    ShortOfItsEnd { status: RunStatus, words: String, error: Box<RunError> },
}

impl RunError {
    /// What went wrong, as far as the log may know it.
    pub fn reason(&self) -> &'static str {
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
            RunError::ShortOfItsEnd { error, .. } => error.reason(),
        }
    }

    pub fn status(&self) -> RunStatus {
        match self {
            RunError::Interrupted
            | RunError::Feed(FeedError::Intake(IntakeError::ShuttingDown)) => {
                RunStatus::Interrupted
            }
            RunError::Fetch(FetchError { kind: FetchErrorKind::Busy, .. }) => RunStatus::Postponed,
            RunError::Fetch(FetchError { kind: FetchErrorKind::NotReady, .. }) => {
                RunStatus::NotReady
            }
            RunError::Superseded | RunError::Feed(FeedError::Ended) => RunStatus::Superseded,
            RunError::ShortOfItsEnd { status, .. } => *status,
            _ => RunStatus::Failed,
        }
    }

    /// This error of a run that came so far, everything of which is committed; with what the next run goes on from, if it
    /// can go on. `failures`: of runs in a row, this one included.
    pub fn after(
        self,
        reached: Reached,
        definition: &Definition,
        failures: i32,
    ) -> (RunError, Option<Resume>) {
        if reached.pages == 0 || !self.will_come_again(failures) {
            return (self, None);
        }
        let (status, words) = match (&reached.resume, &definition.since) {
            (Some(_), Some(since)) => {
                let field = since.field.to_string();
                let words = format!("{self}; the next run goes on from there, by {field:?}");
                (RunStatus::Partial, words)
            }
            _ => {
                let advice = self.advice(&reached, definition);
                let load = if reached.is_first { "the first load" } else { "the load" };
                (RunStatus::Unfinished, format!("{load} cannot finish: {self}; {advice}"))
            }
        };
        (RunError::ShortOfItsEnd { status, words, error: Box::new(self) }, reached.resume)
    }

    /// Will the next run, which asks for the same pages, end at the same place?
    fn will_come_again(&self, failures: i32) -> bool {
        let RunError::Fetch(error) = self else {
            return matches!(self, RunError::TookTooLong(_));
        };
        match error.kind {
            FetchErrorKind::Pages | FetchErrorKind::TooLarge => true,
            FetchErrorKind::Busy | FetchErrorKind::NotReady => false,
            // These are about who asks, or when.
            FetchErrorKind::Status(status)
                if !matches!(status, 401 | 403 | 407 | 408 | 425 | 429) =>
            {
                status < 500 || failures >= LASTING_FAILURES
            }
            _ => failures >= LASTING_FAILURES,
        }
    }

    /// What helps a run that cannot come to its end.
    fn advice(&self, reached: &Reached, definition: &Definition) -> String {
        let is_by_pages =
            matches!(self, RunError::Fetch(error) if error.kind == FetchErrorKind::Pages);
        let more_pages = match definition.pages_max {
            PAGES_MAX => "",
            _ if is_by_pages => "raise `pages_max`, ",
            _ => "",
        };
        match &definition.since {
            None => format!(
                "{more_pages}ask for larger pages or for less, or let the API sort by a field, the oldest first, and \
                 name it in `since`: then each run goes on where the last one ended"
            ),
            Some(since) if reached.ascends => format!(
                "{more_pages}ask for larger pages, or make the `overlap` of `since` smaller: a run meets no end of \
                 what has the same {:?}, with the overlap",
                since.field.to_string()
            ),
            Some(since) => format!(
                "{more_pages}ask for larger pages or for less, or let the API sort by {:?}, the oldest first: then \
                 each run goes on where the last one ended",
                since.field.to_string()
            ),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            RunError::Fetch(error) => error.retry_after,
            RunError::ShortOfItsEnd { error, .. } => error.retry_after(),
            _ => None,
        }
    }

    /// Has it to do with the job or its API? Else it is this gateway's or its database's trouble, and passes.
    fn is_the_jobs(&self) -> bool {
        !matches!(
            self,
            RunError::Fetch(FetchError { kind: FetchErrorKind::Busy, .. })
                | RunError::Feed(FeedError::Intake(_) | FeedError::Database(_))
                | RunError::Destination(DestinationError::Database(_))
                | RunError::Database(_)
        )
    }
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: RunStatus,
    pub counts: FeedCounts,
    /// What the next one goes on from.
    pub resume: Option<Resume>,
    pub error: Option<RunError>,
}

impl Ended {
    /// When the job is due next, and how many runs in a row have failed.
    pub fn next(&self, job: &ClaimedRow, now: UnixMicros) -> (UnixMicros, i32) {
        let due = UnixMicros::of(job.due_at);
        if matches!(self.status, RunStatus::Interrupted | RunStatus::Superseded) {
            return (due, job.failures);
        }
        let schedule: Option<Schedule> = serde_json::from_value(job.schedule.0.clone()).ok();
        let regular = schedule.map_or(now, |schedule| schedule.next(due, now, job.id));
        let Some(error) = &self.error else { return (regular, 0) };
        let retry_after = error.retry_after();
        if !error.is_the_jobs() {
            return (regular.min(later(now, retry_after.unwrap_or(BUSY_WAIT))), job.failures);
        }
        let failures = job.failures.saturating_add(1);
        match self.status {
            RunStatus::Partial => (later(now, retry_after.unwrap_or(SOON)), 0),
            // The API knows best when it is ready.
            RunStatus::NotReady => {
                let wait =
                    retry_after.map_or_else(|| failure_wait(failures), |wait| wait.max(SOON));
                (later(now, wait), failures)
            }
            _ => {
                let wait = failure_wait(failures).max(retry_after.unwrap_or_default());
                (regular.max(later(now, wait)), failures)
            }
        }
    }
}

pub(super) fn later(start: UnixMicros, elapsed: Duration) -> UnixMicros {
    let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(start.0.saturating_add(micros))
}
