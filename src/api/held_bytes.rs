//! One budget in bytes for what is held for peers outside the records' own room: heads, bodies that are not records,
//! replies.
//!
//! Nothing waits for it: whoever finds it used up is refused at once, and may come again. A wait would hold what the
//! request holds already.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::limits;

/// The budget of a gateway; clones share it.
#[derive(Debug, Clone)]
pub struct HeldBytes {
    free: Arc<Semaphore>,
    max: usize,
}

/// A part of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway holds as many bytes for requests as it may (TIDEGATE_REQUEST_MEMORY_BYTES_MAX); send it again in a moment"
)]
pub struct Full;

impl HeldBytes {
    /// `max` is in bytes.
    pub fn new(max: usize) -> HeldBytes {
        let max = max.min(Semaphore::MAX_PERMITS);
        HeldBytes { free: Arc::new(Semaphore::new(max)), max }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.max - self.free.available_permits()
    }

    /// Most bytes that may be held.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes a part of so many bytes.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub fn hold(&self, bytes: usize) -> Result<Held, Full> {
        let permits = u32::try_from(bytes).map_err(|_| full())?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(permits);
        permit.map(Held).map_err(|_| full())
    }
}

impl Held {
    /// Takes so many bytes more; what was held stays so if they are not there.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let permits = u32::try_from(bytes).map_err(|_| full())?;
        let more = Arc::clone(self.0.semaphore()).try_acquire_many_owned(permits);
        more.map(|more| self.0.merge(more)).map_err(|_| full())
    }

    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(bytes)));
    }

    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }
}

fn full() -> Full {
    limits::REQUEST_MEMORY.hit();
    Full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_is_held_than_the_budget_and_all_of_it_comes_back() {
        let budget = HeldBytes::new(100);
        let mut first = budget.hold(40).unwrap();
        let second = budget.hold(60).unwrap();
        assert_eq!((budget.hold(1).unwrap_err(), first.grow(1)), (Full, Err(Full)));
        drop(second);
        first.grow(50).unwrap();
        assert_eq!((first.bytes(), budget.held()), (90, 90));
        first.shrink_to(5);
        first.shrink_to(7);
        assert_eq!((first.bytes(), budget.held()), (5, 5));
        drop(first);
        assert_eq!(budget.held(), 0);
        assert_eq!(budget.hold(usize::MAX).unwrap_err(), Full);
    }
}
