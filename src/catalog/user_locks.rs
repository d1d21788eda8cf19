//! One new stream at a time for each user: the many that a user asks for at once wait for each other, and take from other users
//! no more than one of the few connections that make tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// A lock for each user who asks now; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct UserLocks(Arc<Mutex<HashMap<i64, UserLock>>>);

type UserLock = Arc<tokio::sync::Mutex<()>>;

impl UserLocks {
    /// Waits for the user's lock; dropping the guard gives it back. The command line does not wait.
    pub async fn lock(&self, user: Option<i64>) -> Option<OwnedMutexGuard<()>> {
        Some(self.of(user?).lock_owned().await)
    }

    fn of(&self, user: i64) -> UserLock {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of users for whom no request waits any more.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(user).or_default())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_user_waits_for_their_own_requests_alone() {
        let locks = UserLocks::default();
        let first = locks.lock(Some(1)).await;
        let mut second = Box::pin(locks.lock(Some(1)));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(locks.lock(Some(2)).now_or_never().is_some());
        assert!(locks.lock(None).now_or_never().is_some_and(|guard| guard.is_none()));
        drop(first);
        assert!(second.now_or_never().is_some());
        drop(locks.lock(Some(3)).await);
        assert_eq!(locks.0.lock().unwrap().len(), 1, "no user is remembered for ever");
    }
}
