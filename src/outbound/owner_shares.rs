//! The part of a limit that one owner of requests may take: what the hosts of one owner hold up is not everybody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// One part of so many is out of a single owner's reach.
const KEPT_FOR_OTHERS: usize = 8;

/// How much of `limit` one owner may have: at least one, and all but an eighth.
pub fn owner_share(limit: usize) -> usize {
    (limit - limit.div_ceil(KEPT_FOR_OTHERS)).max(1)
}

/// Semaphores by owner, each with one owner's share of a limit. Clones are the same.
#[derive(Debug, Clone)]
pub struct OwnerShares {
    share: usize,
    /// Of owners that have or want a permit now; `None` is the local token's.
    by_owner: Arc<Mutex<HashMap<Option<i64>, Arc<Semaphore>>>>,
}

impl OwnerShares {
    /// Shares of a limit of so many permits.
    pub fn of(limit: usize) -> OwnerShares {
        OwnerShares { share: owner_share(limit), by_owner: Arc::default() }
    }

    /// How many permits an owner has.
    pub fn share(&self) -> usize {
        self.share
    }

    /// The owner's own semaphore.
    pub fn of_owner(&self, owner: Option<i64>) -> Arc<Semaphore> {
        let mut by_owner = self.by_owner.lock().unwrap_or_else(PoisonError::into_inner);
        // Owners without a permit are forgotten: permits and waiters share their semaphore.
        by_owner.retain(|_, share| Arc::strong_count(share) > 1);
        let new = || Arc::new(Semaphore::new(self.share));
        Arc::clone(by_owner.entry(owner).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_less_than_all_and_never_nothing() {
        let shares = [0, 1, 2, 3, 8, 9, 32, 64].map(owner_share);
        assert_eq!(shares, [1, 1, 1, 2, 7, 7, 28, 56]);
    }

    #[test]
    fn owners_without_a_permit_are_forgotten() {
        let shares = OwnerShares::of(8);
        let held = shares.of_owner(Some(1)).try_acquire_many_owned(7).unwrap();
        assert!(shares.of_owner(Some(1)).try_acquire().is_err());
        assert!(shares.of_owner(Some(2)).try_acquire().is_ok());
        drop(held);
        assert!(shares.of_owner(Some(1)).try_acquire().is_ok());
        assert!(shares.of_owner(None).try_acquire().is_ok());
        assert_eq!(shares.by_owner.lock().unwrap().len(), 1);
    }
}
