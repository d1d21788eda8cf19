//! The requests of one sender that wait. Those that hold a permit already come first: they end sooner.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPermit {
    Full,
    Closed,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Grows with time.
    pub ticket: u64,
    pub amount: u64,
    /// What it holds already.
    pub base: u64,
    pub answer: oneshot::Sender<Result<(), NoPermit>>,
}

/// In the order in which they are granted.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    holders: VecDeque<Waiter>,
    others: VecDeque<Waiter>,
}

impl Waiter {
    /// A request that is gone has left the queue before, so there is always one to tell.
    pub fn answer(self, answer: Result<(), NoPermit>) {
        let _ = self.answer.send(answer);
    }
}

impl Waiters {
    pub fn len(&self) -> usize {
        self.holders.len() + self.others.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, waiter: Waiter) {
        if waiter.base > 0 {
            self.holders.push_back(waiter);
        } else {
            self.others.push_back(waiter);
        }
    }

    pub fn first(&self) -> Option<&Waiter> {
        self.holders.front().or(self.others.front())
    }

    pub fn pop_first(&mut self) -> Option<Waiter> {
        self.holders.pop_front().or_else(|| self.others.pop_front())
    }

    /// The request with the least to lose.
    pub fn pop_newest(&mut self) -> Option<Waiter> {
        self.others.pop_back().or_else(|| self.holders.pop_back())
    }

    pub fn pop_newest_holder(&mut self) -> Option<Waiter> {
        self.holders.pop_back()
    }

    /// Its ticket.
    pub fn newest_holder(&self) -> Option<u64> {
        self.holders.back().map(|waiter| waiter.ticket)
    }

    pub fn remove(&mut self, ticket: u64) -> Option<Waiter> {
        for queue in [&mut self.holders, &mut self.others] {
            if let Ok(index) = queue.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
                return queue.remove(index);
            }
        }
        None
    }
}
