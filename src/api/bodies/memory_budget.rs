//! One budget in bytes for what is held for peers outside the records' own room: heads, bodies that are not records,
//! replies.
//!
//! Nothing waits for it: a request that finds it used up is refused at once, and may come again. A wait would hold what the
//! request holds already.
//!
//! Every client can have bytes held, so requesters that are not known share half of the budget, and no address of theirs has
//! more of it than it leaves to the others: one address by itself a quarter of the budget, and a new one finds some left
//! however many there are. Callers with credentials have all that is left.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::ApiError;
use crate::api::connections::Requester;
use crate::telemetry::limits;

/// What a client is told to wait while the budget is used up.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The budget of a gateway; clones share it.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Budget>);

/// For whom bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Callers whose credentials are good.
    Known,
    /// Requesters at this address that are not known.
    Stranger(IpAddr),
}

impl Holder {
    pub fn of(requester: &Requester) -> Holder {
        if requester.is_known() { Holder::Known } else { Holder::Stranger(requester.address()) }
    }
}

/// A part of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct MemoryPermit {
    budget: MemoryBudget,
    holder: Holder,
    bytes: usize,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error(
        "the gateway holds as many bytes for requests as it may (TIDEGATE_REQUEST_MEMORY_BYTES_MAX); send it again in a moment"
    )]
    Budget,
    #[error(
        "the gateway holds as many bytes as it may for this address's requests without credentials (a share of TIDEGATE_REQUEST_MEMORY_BYTES_MAX); send it again in a moment"
    )]
    Share,
}

impl From<Full> for ApiError {
    fn from(full: Full) -> ApiError {
        ApiError::unavailable("request_memory_full", full.to_string(), FULL_RETRY)
    }
}

#[derive(Debug)]
struct Budget {
    /// In bytes.
    max: usize,
    level: Mutex<Level>,
}

/// Bytes that are held.
#[derive(Debug, Default)]
struct Level {
    all: usize,
    strangers: usize,
    /// Only addresses for which something is held.
    by_address: HashMap<IpAddr, usize>,
}

impl MemoryBudget {
    /// `max` is in bytes.
    pub fn new(max: usize) -> MemoryBudget {
        MemoryBudget(Arc::new(Budget { max, level: Mutex::default() }))
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.level().all
    }

    /// Most bytes that may be held.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Takes a part of so many bytes.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub fn hold(&self, holder: Holder, bytes: usize) -> Result<MemoryPermit, Full> {
        self.take(holder, bytes)?;
        Ok(MemoryPermit { budget: self.clone(), holder, bytes })
    }

    fn take(&self, holder: Holder, bytes: usize) -> Result<(), Full> {
        let taken = self.level().take(self.0.max, holder, bytes);
        taken.inspect_err(|_| limits::REQUEST_MEMORY.hit())
    }

    fn level(&self) -> MutexGuard<'_, Level> {
        self.0.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Level {
    fn take(&mut self, max: usize, holder: Holder, bytes: usize) -> Result<(), Full> {
        if bytes > max - self.all {
            return Err(Full::Budget);
        }
        if let Holder::Stranger(address) = holder {
            let others_left = (max / 2).saturating_sub(self.strangers + bytes);
            let of_address = self.by_address.get(&address).map_or(0, |held| *held) + bytes;
            if of_address > others_left {
                return Err(Full::Share);
            }
            self.strangers += bytes;
            if bytes > 0 {
                self.by_address.insert(address, of_address);
            }
        }
        self.all += bytes;
        Ok(())
    }

    fn give_back(&mut self, holder: Holder, bytes: usize) {
        self.all -= bytes;
        let Holder::Stranger(address) = holder else { return };
        self.strangers -= bytes;
        if let Entry::Occupied(mut held) = self.by_address.entry(address) {
            *held.get_mut() -= bytes;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl MemoryPermit {
    /// Takes so many bytes more; what was held stays so if they are not there.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        self.budget.take(self.holder, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes as many as are missing to so many bytes.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Full> {
        match bytes.checked_sub(self.bytes) {
            None | Some(0) => Ok(()),
            Some(more) => self.grow(more),
        }
    }

    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.budget.level().give_back(self.holder, more);
        self.bytes -= more;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(last: u8) -> Holder {
        Holder::Stranger(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn never_more_is_held_than_the_budget_and_all_of_it_comes_back() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.hold(Holder::Known, 40).unwrap();
        let second = budget.hold(Holder::Known, 60).unwrap();
        assert_eq!(budget.hold(Holder::Known, 1).unwrap_err(), Full::Budget);
        assert_eq!(budget.hold(stranger(1), 1).unwrap_err(), Full::Budget);
        assert_eq!(first.grow(1), Err(Full::Budget));
        drop(second);
        first.grow(50).unwrap();
        assert_eq!((first.bytes(), budget.held()), (90, 90));
        first.shrink_to(5);
        first.shrink_to(7);
        assert_eq!((first.bytes(), budget.held()), (5, 5));
        drop(first);
        assert_eq!(budget.held(), 0);
        assert_eq!(budget.hold(Holder::Known, usize::MAX).unwrap_err(), Full::Budget);
    }

    #[test]
    fn a_stranger_has_no_more_than_it_leaves_to_others() {
        let budget = MemoryBudget::new(400);
        let mut one = budget.hold(stranger(1), 60).unwrap();
        one.grow(40).unwrap();
        assert_eq!(one.grow(1), Err(Full::Share), "a quarter of all is its share");
        assert_eq!(budget.hold(stranger(1), 1).unwrap_err(), Full::Share, "however it asks");
        // Each address that takes all it can leaves room for the next.
        let others: Vec<MemoryPermit> = (2..=5)
            .map(|last| {
                let mut other = budget.hold(stranger(last), 1).unwrap();
                while other.grow(1).is_ok() {}
                other
            })
            .collect();
        assert_eq!(others.iter().map(MemoryPermit::bytes).collect::<Vec<_>>(), [50, 25, 12, 6]);
        // Known callers find half of it, whatever strangers do.
        let known = budget.hold(Holder::Known, 200).unwrap();
        assert_eq!(budget.held(), 100 + 93 + 200);
        drop((one, others, known));
        let level = budget.level();
        assert_eq!((level.all, level.strangers, level.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn only_addresses_for_which_something_is_held_are_remembered() {
        let budget = MemoryBudget::new(400);
        let mut nothing = budget.hold(stranger(1), 0).unwrap();
        assert!(budget.level().by_address.is_empty());
        nothing.grow(10).unwrap();
        assert_eq!(budget.level().by_address.len(), 1);
        nothing.shrink_to(0);
        assert!(budget.level().by_address.is_empty());
    }
}
