//! A semaphore that senders share fairly: over bytes in memory, over places in a queue.
//!
//! While no request waits, a permit is given at once. Otherwise requests wait by sender, and what becomes free goes to
//! senders by start-time fair queueing ([`queue`]), so that neither many connections nor large requests win. No sender
//! holds all: the last [`SPARE_SHARE`]th is for others, so that one whose bodies never end leaves some.
//!
//! It promises: never more than the limit; a permit whose request is gone (it was dropped, its time was over) goes to
//! the next; a sender that holds nothing and got nothing lately waits for at most one permit of each other sender,
//! beside those that let a request which holds some come to its end, and one that got more for as much more of each;
//! every wait ends. It refuses what waits too long, what would be one waiter too many, and, at once, the newest of
//! requests that all hold some and all want more: that is a deadlock, which waiting would not end.
//!
//! One short lock for each call, never held across an await; taking and giving back is a look into a map of those
//! senders that hold something now.

mod queue;
#[cfg(test)]
mod tests;
mod waiters;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use self::queue::{Limits, State};
use self::waiters::Waiter;
use super::sender::SenderId;

pub use self::waiters::NoPermit;

/// One part in so many is out of reach for a single sender.
const SPARE_SHARE: u64 = 8;

/// A shared amount of something; clones share it.
#[derive(Debug, Clone)]
pub struct FairSemaphore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

/// A part of it; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    semaphore: FairSemaphore,
    sender: SenderId,
    amount: u64,
}

/// What a request that is not given a permit at once waits with; dropping it leaves nothing behind.
#[derive(Debug)]
struct Ticket {
    semaphore: FairSemaphore,
    sender: SenderId,
    number: u64,
    amount: u64,
    answer: oneshot::Receiver<Result<(), NoPermit>>,
    /// The answer was taken.
    settled: bool,
}

impl FairSemaphore {
    pub fn new(limit: u64) -> FairSemaphore {
        let limit = limit.max(1);
        let limits = Limits { all: limit, sender: limit - limit / SPARE_SHARE };
        FairSemaphore(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// Gets a part, waiting at most so long. A request for more than one sender may hold gets that.
    pub async fn acquire(
        &self,
        sender: SenderId,
        amount: u64,
        wait: Duration,
    ) -> Result<Permit, NoPermit> {
        let amount = amount.min(self.0.limits.sender);
        self.enter(sender, amount, 0, wait).await?;
        Ok(Permit { semaphore: self.clone(), sender, amount })
    }

    /// Gets a part if that takes no waiting.
    pub fn try_acquire(&self, sender: SenderId, amount: u64) -> Option<Permit> {
        let amount = amount.min(self.0.limits.sender);
        let taken = self.lock().take_at_once(self.0.limits, sender, amount);
        taken.then(|| Permit { semaphore: self.clone(), sender, amount })
    }

    /// What is held now.
    pub fn held(&self) -> u64 {
        self.lock().held()
    }

    /// Grants nothing from now on; requests that wait are told.
    pub fn close(&self) {
        self.lock().close();
    }

    async fn enter(
        &self,
        sender: SenderId,
        amount: u64,
        base: u64,
        wait: Duration,
    ) -> Result<(), NoPermit> {
        match self.try_enter(sender, amount, base)? {
            Some(ticket) => ticket.wait(wait).await,
            None => Ok(()),
        }
    }

    /// None: it is granted. `base`: what the request holds already.
    fn try_enter(
        &self,
        sender: SenderId,
        amount: u64,
        base: u64,
    ) -> Result<Option<Ticket>, NoPermit> {
        let mut state = self.lock();
        state.check_open()?;
        if state.take_at_once(self.0.limits, sender, amount) {
            return Ok(None);
        }
        state.make_way(sender)?;
        let (told, answer) = oneshot::channel();
        let number = state.next_ticket();
        state.join(sender, Waiter { ticket: number, amount, base, answer: told });
        state.settle(self.0.limits, sender);
        let semaphore = self.clone();
        Ok(Some(Ticket { semaphore, sender, number, amount, answer, settled: false }))
    }

    fn give_back(&self, sender: SenderId, amount: u64) {
        self.lock().give_back(self.0.limits, sender, amount);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    pub fn sender(&self) -> SenderId {
        self.sender
    }

    /// Gets more, waiting at most so long; what it holds stays whatever comes of it.
    pub async fn grow(&mut self, more: u64, wait: Duration) -> Result<(), NoPermit> {
        let more = more.min(self.semaphore.0.limits.sender - self.amount);
        if more == 0 {
            return Ok(());
        }
        self.semaphore.enter(self.sender, more, self.amount, wait).await?;
        self.amount += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.give_back(self.sender, self.amount);
    }
}

impl Ticket {
    async fn wait(mut self, wait: Duration) -> Result<(), NoPermit> {
        match tokio::time::timeout(wait, &mut self.answer).await {
            Ok(answer) => {
                self.settled = true;
                answer.unwrap_or(Err(NoPermit::Closed))
            }
            Err(_elapsed) => self.give_up(),
        }
    }

    /// Leaves the queue. A grant that came at the same moment counts.
    fn give_up(&mut self) -> Result<(), NoPermit> {
        self.settled = true;
        let mut state = self.semaphore.lock();
        if state.leave(self.sender, self.number) {
            state.settle(self.semaphore.0.limits, self.sender);
            return Err(NoPermit::Full);
        }
        // Invariant: a waiter that is taken out of the queue is answered before the lock is released.
        self.answer.try_recv().unwrap_or(Err(NoPermit::Closed))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled && self.give_up().is_ok() {
            self.semaphore.give_back(self.sender, self.amount);
        }
    }
}
