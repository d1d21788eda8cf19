//! A semaphore for work that costs much: few permits at a time, so that it holds up nothing else, and few for each user, so
//! that one user holds up no other.
//!
//! A user's share may be kept for longer than the work takes, such as until a reply is written: a caller that does not take
//! what was asked for gets no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::ApiError;
use crate::auth::Caller;
use crate::db::pools::{EXPORTS_CONNECTIONS_MAX, READING_CONNECTIONS_MAX, RECORDS_CONNECTIONS_MAX};
use crate::owner_shares::OwnerShares;
use crate::telemetry::limits::{self, Limit};

/// Longest wait for a share of the caller's own, and for a permit.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Advice to a caller that waited for that long.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the permits are for, and how many there are.
#[derive(Debug)]
pub struct Rules {
    /// What is asked for, in words.
    pub what: &'static str,
    pub at_once_max: usize,
    /// Of one user, replies that are not taken yet among them.
    pub per_user_max: usize,
    pub limit: &'static Limit,
}

/// Reading records.
pub const READING: Rules = Rules {
    what: "requests for records",
    at_once_max: RECORDS_CONNECTIONS_MAX as usize,
    per_user_max: 3,
    limit: &limits::READERS,
};
/// Reading records of any number.
pub const EXPORTS: Rules = Rules {
    what: "requests for all records (NDJSON, CSV)",
    at_once_max: EXPORTS_CONNECTIONS_MAX as usize,
    per_user_max: 3,
    limit: &limits::EXPORTERS,
};
/// Lists of what is in the gateway's own tables: the quarantine, sizes of streams.
pub const LISTS: Rules = Rules {
    what: "lists of the quarantine and of streams' sizes",
    at_once_max: READING_CONNECTIONS_MAX as usize,
    per_user_max: 3,
    limit: &limits::LISTS,
};
/// Looking at samples: each may be held as it came, and as a decoder remembers it.
pub const SAMPLES: Rules =
    Rules { what: "samples", at_once_max: 4, per_user_max: 2, limit: &limits::SAMPLES };

/// Asking APIs for previews of polling jobs, which may take as long as an answer to a job may.
pub const PREVIEWS: Rules = Rules {
    what: "previews of polling jobs",
    at_once_max: 8,
    per_user_max: 2,
    limit: &limits::PREVIEWS,
};

/// The semaphore of one kind of work; clones are the same.
#[derive(Debug, Clone)]
pub struct UserSemaphore {
    rules: &'static Rules,
    all: Arc<Semaphore>,
    /// The shares of users who have a permit now; `None` is the local token's.
    by_user: OwnerShares,
}

/// A permit to work, and its part of the user's share, which may outlive it.
#[derive(Debug)]
pub struct UserPermit {
    pub of_all: OwnedSemaphorePermit,
    pub of_user: OwnedSemaphorePermit,
}

impl UserSemaphore {
    pub fn new(rules: &'static Rules) -> UserSemaphore {
        let all = Arc::new(Semaphore::new(rules.at_once_max));
        UserSemaphore { rules, all, by_user: OwnerShares::new(rules.per_user_max) }
    }

    /// Waits for the caller's own share, and then for a permit; 429 or 503 if that takes too long.
    pub async fn take(&self, caller: &Caller) -> Result<UserPermit, ApiError> {
        let Rules { what, at_once_max, per_user_max, limit } = self.rules;
        let share = self.by_user.of_owner(caller.user_id);
        let Ok(Ok(of_user)) = timeout(WAIT_MAX, share.acquire_owned()).await else {
            limit.hit();
            let detail = format!(
                "{per_user_max} other {what} of yours are under way, or their replies were not taken yet; take these first"
            );
            return Err(ApiError::too_many_requests("too_many_at_once", detail, RETRY_AFTER));
        };
        let Ok(Ok(of_all)) = timeout(WAIT_MAX, Arc::clone(&self.all).acquire_owned()).await else {
            limit.hit();
            let detail =
                format!("{at_once_max} {what} are answered at a time, and others came first");
            return Err(ApiError::unavailable("busy", detail, RETRY_AFTER));
        };
        Ok(UserPermit { of_all, of_user })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Role, ScopeSet, Via};

    fn caller(user_id: usize) -> Caller {
        Caller {
            user_id: i64::try_from(user_id).ok(),
            user_name: "ada".into(),
            role: Role::Member,
            scopes: ScopeSet::default(),
            streams: None,
            via: Via::Local,
            session: None,
            password: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_does_not_take_replies_holds_up_no_other() {
        let semaphore = UserSemaphore::new(&READING);
        let mut unread = Vec::new();
        for _ in 0..READING.per_user_max {
            unread.push(semaphore.take(&caller(1)).await.unwrap().of_user);
        }
        let error = semaphore.take(&caller(1)).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (429, "too_many_at_once"));
        assert!(semaphore.take(&caller(2)).await.is_ok());
        unread.pop();
        assert!(semaphore.take(&caller(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_without_a_permit_is_told_to_come_again() {
        let semaphore = UserSemaphore::new(&SAMPLES);
        let mut all = Vec::new();
        for user in 0..SAMPLES.at_once_max {
            all.push(semaphore.take(&caller(user)).await.unwrap());
        }
        let late = caller(SAMPLES.at_once_max);
        let error = semaphore.take(&late).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (503, "busy"));
        drop(all);
        assert!(semaphore.take(&late).await.is_ok());
    }
}
