//! How a run ended, and when its job is due next.

use std::time::Duration;

use tidegate_record::UnixMicros;

use super::error::{RunError, RunStatus};
use super::feed::FeedCounts;
use crate::backoff::Policy;
use crate::db::polling_runs::ClaimedRow;
use crate::polling::ask::Resume;
use crate::polling::jobs::Schedule;

/// A job that did nothing wrong is tried again after this.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// A run that can go on where the last one ended follows it after this; it is the shortest interval of a job as well.
const SOON: Duration = Duration::from_secs(1);
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

fn failure_wait(failures: i32) -> Duration {
    Policy::API.wait(u32::try_from(failures).unwrap_or_default())
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
    use crate::polling::ask::{FetchError, FetchErrorKind, Reached};
    use crate::polling::jobs::Definition;

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
            |error: RunError, reached, failures| error.after(reached, None, &definition, failures);
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
