//! The requests of one sender that wait for room. Those that hold room already come first: they end sooner.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::pipeline::admission::fair_semaphore::NoRoom;

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    ticket: u64,
    amount: u64,
    /// What it holds already.
    base: u64,
    answer: oneshot::Sender<Result<(), NoRoom>>,
}

/// In the order in which they are granted room.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    holders: VecDeque<Waiter>,
    others: VecDeque<Waiter>,
}

impl Waiter {
    /// Tickets grow with time.
    pub(crate) fn new(
        ticket: u64,
        amount: u64,
        base: u64,
        answer: oneshot::Sender<Result<(), NoRoom>>,
    ) -> Waiter {
        Waiter { ticket, amount, base, answer }
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }

    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// A request that is gone has left the queue before, so there is always somebody to tell.
    pub(crate) fn answer(self, answer: Result<(), NoRoom>) {
        let _ = self.answer.send(answer);
    }
}

impl Waiters {
    pub(crate) fn len(&self) -> usize {
        self.holders.len() + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        if waiter.base > 0 {
            self.holders.push_back(waiter);
        } else {
            self.others.push_back(waiter);
        }
    }

    pub(crate) fn first(&self) -> Option<&Waiter> {
        self.holders.front().or(self.others.front())
    }

    pub(crate) fn pop_first(&mut self) -> Option<Waiter> {
        self.holders.pop_front().or_else(|| self.others.pop_front())
    }

    /// The one with the least to lose.
    pub(crate) fn pop_newest(&mut self) -> Option<Waiter> {
        self.others.pop_back().or_else(|| self.holders.pop_back())
    }

    pub(crate) fn pop_newest_holder(&mut self) -> Option<Waiter> {
        self.holders.pop_back()
    }

    /// Its ticket.
    pub(crate) fn newest_holder(&self) -> Option<u64> {
        self.holders.back().map(|waiter| waiter.ticket)
    }

    pub(crate) fn remove(&mut self, ticket: u64) -> Option<Waiter> {
        for queue in [&mut self.holders, &mut self.others] {
            if let Ok(index) = queue.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
                return queue.remove(index);
            }
        }
        None
    }
}
