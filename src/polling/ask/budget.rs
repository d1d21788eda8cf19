//! The memory that the answers of all runs may take together, in bytes: a run that gets none for a while gives up, and
//! keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::{FetchError, FetchErrorKind};

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
    /// How many there are.
    pieces_max: usize,
}

/// What one answer of a run holds, until it is dropped.
#[derive(Debug)]
pub struct AnswerPermit {
    budget: AnswerBudget,
    permit: Option<OwnedSemaphorePermit>,
    /// Pieces that the same run holds elsewhere, and does not give back before.
    beside: usize,
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
        "the answer and its items take more than all of the gateway's {0} bytes for answers (TIDEGATE_POLLING_ANSWERS_BYTES_MAX)"
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
        AnswerBudget { pieces: Arc::new(Semaphore::new(pieces_max)), pieces_max }
    }

    /// Holds nothing yet.
    pub fn permit(&self) -> AnswerPermit {
        AnswerPermit { budget: self.clone(), permit: None, beside: 0 }
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
        let AnswerBudget { pieces, pieces_max } = &self.budget;
        let ever = OverBudget::Ever(pieces_max * PIECE_BYTES);
        if self.beside + held + needed > *pieces_max {
            return Err(ever);
        }
        let more = u32::try_from(needed).map_err(|_| ever)?;
        let ahead = more.saturating_add(u32::try_from(AHEAD_BYTES / PIECE_BYTES).unwrap_or(0));
        let permit = match Arc::clone(pieces).try_acquire_many_owned(ahead) {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Arc::clone(pieces).acquire_many_owned(more);
                let permit = timeout(WAIT_MAX, waiting).await.map_err(|_| OverBudget::Now)?;
                permit.map_err(|_| OverBudget::Now)?
            }
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    fn pieces(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_hold_no_more_than_there_is() {
        let budget = AnswerBudget::new(1 << 20);
        let mut one = budget.permit();
        one.grow_to(900 << 10).await.unwrap();
        let mut two = budget.permit();
        assert_eq!(two.grow_to(200 << 10).await, Err(OverBudget::Now));
        assert_eq!(one.grow_to(2 << 20).await, Err(OverBudget::Ever(1 << 20)));
        drop(one);
        two.grow_to(200 << 10).await.unwrap();
        let mut three = budget.permit();
        three.goes_beside(&two);
        assert_eq!(
            three.grow_to(900 << 10).await,
            Err(OverBudget::Ever(1 << 20)),
            "two never goes"
        );
        drop(three);
        two.grow_to(1 << 20).await.unwrap();
        drop(two);
        assert_eq!(budget.pieces.available_permits(), 256);
    }
}
