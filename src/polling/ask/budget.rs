//! The memory that the answers of all runs may take together, in bytes, and those of one owner: a run that gets none for a
//! while gives up, and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::{FetchError, FetchErrorKind};
use crate::outbound::OwnerShares;

/// Longest wait for memory that other runs hold.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Each permit of the semaphore stands for so many bytes.
const PIECE_BYTES: usize = 4 << 10;
/// Reserved ahead, so that an answer that arrives in small chunks does not ask for each.
const AHEAD_BYTES: usize = 64 << 10;

/// What all runs share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerBudget {
    pieces: Arc<Semaphore>,
    /// Of one owner, so that answers which do not end leave room for the others'.
    shares: OwnerShares,
}

/// What one answer of a run holds, until it is dropped.
#[derive(Debug)]
pub struct AnswerPermit {
    budget: AnswerBudget,
    owner: Option<i64>,
    held: Option<Held>,
    /// Pieces that the same run holds elsewhere, and does not give back before.
    beside: usize,
}

/// Pieces of the owner's share, and of all: as many of each.
#[derive(Debug)]
struct Held {
    of_owner: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

/// The memory is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// Other runs held it for a while.
    #[error(
        "the gateway holds as many bytes of answers as it may (TIDEGATE_POLLING_ANSWERS_BYTES_MAX)"
    )]
    Now,
    /// There would be too little if no other run held any.
    #[error(
        "the answer and its items take more than the {0} bytes that a user may have of the gateway's for answers (TIDEGATE_POLLING_ANSWERS_BYTES_MAX)"
    )]
    Ever(usize),
}

impl From<OverBudget> for FetchError {
    fn from(error: OverBudget) -> FetchError {
        let kind = match error {
            OverBudget::Now => FetchErrorKind::Busy,
            OverBudget::Ever(_) => FetchErrorKind::TooLarge,
        };
        FetchError::new(kind, error.to_string())
    }
}

impl AnswerBudget {
    pub fn new(bytes_max: u64) -> AnswerBudget {
        let pieces = usize::try_from(bytes_max).unwrap_or(usize::MAX) / PIECE_BYTES;
        let pieces_max = pieces.clamp(1, Semaphore::MAX_PERMITS);
        AnswerBudget {
            pieces: Arc::new(Semaphore::new(pieces_max)),
            shares: OwnerShares::of(pieces_max),
        }
    }

    /// Holds nothing yet. `owner`: whose answer it will be.
    pub fn permit(&self, owner: Option<i64>) -> AnswerPermit {
        AnswerPermit { budget: self.clone(), owner, held: None, beside: 0 }
    }
}

impl AnswerPermit {
    /// From now on what can ever be held is less by what `other`, of the same run, holds.
    pub fn goes_beside(&mut self, other: &AnswerPermit) {
        self.beside = other.pieces();
    }

    /// Waits until at least `bytes` are held. Some more are taken where they are free.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let held = self.pieces();
        let needed = bytes.div_ceil(PIECE_BYTES).saturating_sub(held);
        if needed == 0 {
            return Ok(());
        }
        let AnswerBudget { pieces, shares } = &self.budget;
        let ever = OverBudget::Ever(shares.share() * PIECE_BYTES);
        if self.beside + held + needed > shares.share() {
            return Err(ever);
        }
        let more = u32::try_from(needed).map_err(|_| ever)?;
        let ahead = more.saturating_add(u32::try_from(AHEAD_BYTES / PIECE_BYTES).unwrap_or(0));
        let share = shares.of_owner(self.owner);
        let more = match Held::at_once(&share, pieces, ahead) {
            Some(held) => held,
            None => timeout(WAIT_MAX, Held::take(&share, pieces, more))
                .await
                .ok()
                .flatten()
                .ok_or(OverBudget::Now)?,
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    fn pieces(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.of_all.num_permits())
    }
}

impl Held {
    fn at_once(share: &Arc<Semaphore>, all: &Arc<Semaphore>, pieces: u32) -> Option<Held> {
        let of_owner = Arc::clone(share).try_acquire_many_owned(pieces).ok()?;
        Some(Held { of_owner, of_all: Arc::clone(all).try_acquire_many_owned(pieces).ok()? })
    }

    /// Waits in the owner's queue first, so that it holds up no other owner there.
    async fn take(share: &Arc<Semaphore>, all: &Arc<Semaphore>, pieces: u32) -> Option<Held> {
        let of_owner = Arc::clone(share).acquire_many_owned(pieces).await.ok()?;
        Some(Held { of_owner, of_all: Arc::clone(all).acquire_many_owned(pieces).await.ok()? })
    }

    fn merge(&mut self, more: Held) {
        self.of_owner.merge(more.of_owner);
        self.of_all.merge(more.of_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << 20;
    /// What one owner may have of it.
    const SHARE: usize = 896 << 10;

    #[tokio::test(start_paused = true)]
    async fn all_together_hold_no_more_than_there_is() {
        let budget = AnswerBudget::new(ALL);
        let mut one = budget.permit(None);
        one.grow_to(800 << 10).await.unwrap();
        let mut two = budget.permit(Some(2));
        assert_eq!(two.grow_to(300 << 10).await, Err(OverBudget::Now));
        assert_eq!(one.grow_to(1 << 20).await, Err(OverBudget::Ever(SHARE)));
        drop(one);
        two.grow_to(200 << 10).await.unwrap();
        let mut three = budget.permit(Some(2));
        three.goes_beside(&two);
        assert_eq!(three.grow_to(800 << 10).await, Err(OverBudget::Ever(SHARE)), "two never goes");
        drop(three);
        two.grow_to(SHARE).await.unwrap();
        drop(two);
        assert_eq!(budget.pieces.available_permits(), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_one_owner_that_do_not_end_leave_room_for_the_others() {
        let budget = AnswerBudget::new(ALL);
        let mut stalled = budget.permit(Some(1));
        stalled.grow_to(SHARE).await.unwrap();
        let mut late = budget.permit(Some(1));
        assert_eq!(late.grow_to(1).await, Err(OverBudget::Now));
        let waiting = tokio::time::timeout(WAIT_MAX / 2, late.grow_to(128 << 10));
        let (given_up, others) = tokio::join!(waiting, async {
            let mut others = budget.permit(None);
            others.grow_to(128 << 10).await.map(|()| others)
        });
        assert!(given_up.is_err() && others.is_ok(), "one waits, and the other does not");
    }
}
