//! Turns for work that costs much: few at a time, so that it holds up nothing else, and few for each user, so that one
//! user holds up no other.
//!
//! A user's place may be kept for longer than the turn, such as until a reply is written: who does not take what was asked
//! for gets no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::ApiError;
use crate::auth::Caller;
use crate::db::pools::RECORDS_CONNECTIONS_MAX;
use crate::telemetry::limits::{self, Limit};

/// Longest wait for a place, and for a turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Advice to who waited for that long.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the turns are for, and how many there are.
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
/// Looking at samples: each may be held as it came, and as a decoder remembers it.
pub const SAMPLES: Rules =
    Rules { what: "samples", at_once_max: 4, per_user_max: 2, limit: &limits::SAMPLES };

/// Turns for one kind of work; clones are the same.
#[derive(Debug, Clone)]
pub struct Turns {
    rules: &'static Rules,
    permits: Arc<Semaphore>,
    /// The places of users who have one now; `None` is whoever has the local token.
    places: Arc<Mutex<HashMap<Option<i64>, Arc<Semaphore>>>>,
}

/// A turn, and the place that may outlive it.
#[derive(Debug)]
pub struct Turn {
    pub permit: OwnedSemaphorePermit,
    pub place: OwnedSemaphorePermit,
}

impl Turns {
    pub fn new(rules: &'static Rules) -> Turns {
        let permits = Arc::new(Semaphore::new(rules.at_once_max));
        Turns { rules, permits, places: Arc::default() }
    }

    /// Waits for a place of the caller's own, and then for a turn; 429 or 503 if that takes too long.
    pub async fn take(&self, caller: &Caller) -> Result<Turn, ApiError> {
        let Rules { what, at_once_max, per_user_max, limit } = self.rules;
        let places = self.places_of(caller.user_id);
        let Ok(Ok(place)) = timeout(WAIT_MAX, places.acquire_owned()).await else {
            limit.hit();
            let detail = format!(
                "{per_user_max} other {what} of yours are under way, or their replies were not taken yet; take these first"
            );
            return Err(ApiError::too_many_requests("too_many_at_once", detail, RETRY_AFTER));
        };
        let Ok(Ok(permit)) = timeout(WAIT_MAX, Arc::clone(&self.permits).acquire_owned()).await
        else {
            limit.hit();
            let detail =
                format!("{at_once_max} {what} are answered at a time, and others came first");
            return Err(ApiError::unavailable("busy", detail, RETRY_AFTER));
        };
        Ok(Turn { permit, place })
    }

    fn places_of(&self, user: Option<i64>) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Of who has no place any more nothing is kept: permits and waiters share their semaphore.
        places.retain(|_, places| Arc::strong_count(places) > 1);
        let new = || Arc::new(Semaphore::new(self.rules.per_user_max));
        Arc::clone(places.entry(user).or_insert_with(new))
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
    async fn who_does_not_take_replies_holds_up_nobody_else() {
        let turns = Turns::new(&READING);
        let mut unread = Vec::new();
        for _ in 0..READING.per_user_max {
            unread.push(turns.take(&caller(1)).await.unwrap().place);
        }
        let error = turns.take(&caller(1)).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (429, "too_many_at_once"));
        assert!(turns.take(&caller(2)).await.is_ok());
        unread.pop();
        assert!(turns.take(&caller(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_turn_is_told_to_come_again() {
        let turns = Turns::new(&SAMPLES);
        let mut all = Vec::new();
        for user in 0..SAMPLES.at_once_max {
            all.push(turns.take(&caller(user)).await.unwrap());
        }
        let late = caller(SAMPLES.at_once_max);
        let error = turns.take(&late).await.unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (503, "busy"));
        drop(all);
        assert!(turns.take(&late).await.is_ok());
        assert_eq!(turns.places.lock().unwrap().len(), 1, "only who is here is remembered");
    }
}
