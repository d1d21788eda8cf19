//! Why a run brought nothing, or not everything, and what people are told of it.

use std::time::Duration;

use super::feed::FeedError;
use crate::db;
use crate::ingest::NotKept;
use crate::outbound::OpenError;
use crate::pipeline::IntakeError;
use crate::polling::ask::{FetchError, FetchErrorKind, Reached, Resume};
use crate::polling::jobs::{Definition, DestinationError, PAGES_MAX};

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
    Database(#[from] db::Error),
    #[error("it took longer than {} seconds, and was ended; what came until then is kept", .0.as_secs())]
    TookTooLong(Duration),
    #[error("{0}; they are looked at again with the next run, and what is valid was taken")]
    NotKept(NotKept),
    /// It could go on from where it ended, but for items before that which were not kept.
    #[error(
        "{error}; {not_kept}; so the next run begins where this one began, and what is valid was taken"
    )]
    NotKeptBefore { not_kept: NotKept, error: Box<RunError> },
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
            RunError::NotKept(_) | RunError::NotKeptBefore { .. } => "items_not_kept",
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
    /// included. `not_kept`: of its items, which the next run must meet again: nothing moves over them.
    pub fn after(
        self,
        reached: Reached,
        not_kept: Option<NotKept>,
        definition: &Definition,
        failures: i32,
    ) -> RunError {
        if reached.pages == 0 || !self.will_come_again(failures) {
            return self;
        }
        if let (Some(_), Some(not_kept)) = (&reached.resume, not_kept) {
            return RunError::NotKeptBefore { not_kept, error: Box::new(self) };
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
            // These are about the credentials, or the moment.
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

    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RunError::Fetch(error) => error.retry_after,
            RunError::ShortOfItsEnd { error, .. } | RunError::NotKeptBefore { error, .. } => {
                error.retry_after()
            }
            _ => None,
        }
    }

    /// Has it to do with the job or its API? Else it is this gateway's or its database's trouble, and passes.
    pub fn is_the_jobs(&self) -> bool {
        !matches!(
            self,
            RunError::Fetch(FetchError { kind: FetchErrorKind::Busy, .. })
                | RunError::Feed(FeedError::Intake(_) | FeedError::Database(_))
                | RunError::Destination(DestinationError::Database(_))
                | RunError::Database(_)
        )
    }
}
