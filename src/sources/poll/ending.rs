//! How a run ends: what people are told of it, and when its job is due next.

use std::time::Duration;

use tidegate_record::UnixMicros;

use crate::db::polling_runs::ClaimedRow;
use crate::ingest::NotKept;
use crate::pipeline::IntakeError;
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
    #[error("{0}; they are looked at again with the next run, and what is valid was taken")]
    NotKept(NotKept),
    #[error("the gateway is shutting down")]
    Interrupted,
    #[error("the job was changed, or another run followed")]
    Superseded,
    /// In the words for people.
    #[error("{words}")]
    ShortOfItsEnd { words: String, error: Box<RunError>, resume: Option<Box<Resume>> },
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
            RunError::NotKept(_) => "items_not_kept",
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
            RunError::ShortOfItsEnd { resume: Some(_), .. } => RunStatus::Partial,
            RunError::ShortOfItsEnd { resume: None, .. } => RunStatus::Unfinished,
            _ => RunStatus::Failed,
        }
    }

    /// What the next run goes on from all the same.
    pub fn resume(&self) -> Option<&Resume> {
        match self {
            RunError::ShortOfItsEnd { resume, .. } => resume.as_deref(),
            _ => None,
        }
    }

    /// This error of a run that came so far, everything of which is committed. `failures`: of runs in a row, this one
    /// included.
    pub fn after(self, reached: Reached, definition: &Definition, failures: i32) -> RunError {
        if reached.pages == 0 || !self.will_come_again(failures) {
            return self;
        }
        let words = match (&reached.resume, &definition.since) {
            (Some(_), Some(since)) => {
                format!("{self}; the next run goes on from there, by {:?}", since.field.to_string())
            }
            _ => {
                let load = if reached.is_first { "the first load" } else { "the load" };
                let advice = self.advice(&reached, definition);
                format!("{load} cannot finish: {self}; {advice}")
            }
        };
        RunError::ShortOfItsEnd {
            words,
            error: Box::new(self),
            resume: reached.resume.map(Box::new),
        }
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
                (400..500).contains(&status) || failures >= LASTING_FAILURES
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const YEAR_MS: u64 = 31_536_000_000;

    fn job(interval_ms: u64, failures: i32) -> ClaimedRow {
        ClaimedRow {
            id: Uuid::nil(),
            fence: 1,
            run_id: Uuid::nil(),
            owner_id: None,
            owner_name: None,
            owner_disabled: false,
            stream: "x".to_owned(),
            stream_id: None,
            definition: sqlx::types::Json(json!({})),
            sealed: None,
            schedule: sqlx::types::Json(json!({"interval_ms": interval_ms})),
            resume: String::new(),
            failures,
            due_at: NOW.date_time(),
            started_at: NOW.date_time(),
        }
    }

    fn fetch(kind: FetchErrorKind, retry_after_seconds: Option<u64>) -> RunError {
        let retry_after = retry_after_seconds.map(Duration::from_secs);
        RunError::Fetch(FetchError { retry_after, ..FetchError::new(kind, "no") })
    }

    /// The seconds until the job is due, and its failures, after a run that ended so.
    fn next(error: RunError, job: &ClaimedRow) -> (f64, i32) {
        let (status, counts) = (error.status(), FeedCounts::default());
        let ended = Ended { status, counts, resume: None, error: Some(error) };
        let (due, failures) = ended.next(job, NOW);
        (Duration::from_micros((due.0 - NOW.0).unsigned_abs()).as_secs_f64(), failures)
    }

    #[test]
    fn an_api_that_is_not_ready_is_asked_when_it_says_or_soon_whatever_the_interval_is() {
        let not_ready = |retry_after| fetch(FetchErrorKind::NotReady, retry_after);
        for interval_ms in [1_000, YEAR_MS] {
            let (wait, failures) = next(not_ready(None), &job(interval_ms, 0));
            assert!((1.5..=2.5).contains(&wait) && failures == 1, "{wait} {failures}");
            let (wait, _) = next(not_ready(None), &job(interval_ms, 4));
            assert!((24.0..=40.0).contains(&wait), "{wait}");
            for (asked_for, expected) in [(0, 1.0), (120, 120.0)] {
                let (wait, _) = next(not_ready(Some(asked_for)), &job(interval_ms, 4));
                assert!((wait - expected).abs() < 0.001, "{wait} {expected}");
            }
        }
        // An error waits for the interval at least.
        let (wait, failures) = next(fetch(FetchErrorKind::Status(503), Some(5)), &job(YEAR_MS, 0));
        assert!(wait > 1e7 && failures == 1, "{wait}");
    }

    #[test]
    fn a_run_goes_on_soon_where_it_can_and_is_no_failure() {
        let definition = Definition::plain("http://a.test/".to_owned().try_into().unwrap());
        let since = json!({"parameter": "since", "field": "/n"});
        let definition = Definition { since: serde_json::from_value(since).unwrap(), ..definition };
        let reached = |pages, resume| Reached { pages, resume, ascends: true, is_first: true };
        let after =
            |error: RunError, reached, failures| error.after(reached, &definition, failures);
        let pages = || fetch(FetchErrorKind::Pages, None);
        let partial = after(pages(), reached(3, Some(Resume::default())), 1);
        assert_eq!(
            (partial.status(), partial.resume()),
            (RunStatus::Partial, Some(&Resume::default()))
        );
        let (wait, failures) = next(partial, &job(YEAR_MS, 7));
        assert!((wait - 1.0).abs() < 0.001 && failures == 0, "{wait} {failures}");

        let unfinished = after(pages(), reached(3, None), 1);
        assert_eq!((unfinished.status(), unfinished.resume()), (RunStatus::Unfinished, None));
        assert_eq!(after(pages(), reached(0, None), 9).status(), RunStatus::Failed);
        let status = |status| fetch(FetchErrorKind::Status(status), None);
        for (error, failures, ended) in [
            (status(400), 1, RunStatus::Unfinished),
            (status(416), 1, RunStatus::Unfinished),
            (RunError::TookTooLong(Duration::from_secs(1)), 1, RunStatus::Unfinished),
            (status(429), 1, RunStatus::Failed),
            (status(206), 2, RunStatus::Failed),
            (status(500), 3, RunStatus::Unfinished),
            (fetch(FetchErrorKind::Timeout, None), 2, RunStatus::Failed),
            (fetch(FetchErrorKind::Timeout, None), 3, RunStatus::Unfinished),
            (fetch(FetchErrorKind::NotReady, None), 9, RunStatus::NotReady),
            (fetch(FetchErrorKind::Busy, None), 9, RunStatus::Postponed),
            (RunError::Interrupted, 9, RunStatus::Interrupted),
        ] {
            let error = after(error, reached(3, None), failures);
            assert_eq!(error.status(), ended, "{error}, {failures}");
        }
    }
}
