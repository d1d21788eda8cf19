//! The order in which senders are granted what becomes free: start-time fair queueing.
//!
//! The clock is virtual and counts what is granted. A sender that begins to wait is queued at its virtual start time: the
//! virtual finish time of its last grant, or now, where that has passed, since what was granted while it did not wait is
//! nothing that it could claim. The earliest is next; its grant sets the clock, and its virtual finish time is as much
//! later as it was granted. So a sender that was granted much waits longer for its next grant, and each request of the
//! others costs it no more than it asked for.

use std::collections::{BTreeSet, HashMap};

use super::super::sender::SenderId;
use super::waiters::{NoPermit, Waiter, Waiters};

/// Most requests that wait, in all and of one sender.
pub(super) const WAITERS_MAX: usize = 4_096;
pub(super) const WAITERS_OF_SENDER_MAX: usize = 1_024;

/// Most that is held, in all and by one sender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub all: u64,
    pub sender: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    closed: bool,
    pub held: u64,
    /// The part of `held` whose holders wait for more.
    pub stuck: u64,
    pub waiting: usize,
    /// The virtual time: the virtual start time of the last grant.
    pub now: u64,
    tickets: u64,
    /// Those that hold something or wait, and, while others wait, those whose virtual finish time is still to come.
    pub senders: HashMap<SenderId, Sender>,
    /// There may be some that neither hold anything nor wait.
    has_idle: bool,
    /// Senders that wait, and not for themselves, by virtual start time.
    pub queue: BTreeSet<(VirtualStart, SenderId)>,
}

/// When a sender gets its next grant: by virtual time, then in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VirtualStart {
    pub time: u64,
    ticket: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sender {
    pub held: u64,
    stuck: u64,
    /// The virtual finish time of its last grant.
    finish: u64,
    pub queued: Option<VirtualStart>,
    pub waiters: Waiters,
}

impl State {
    pub fn held(&self) -> u64 {
        self.held
    }

    pub fn check_open(&self) -> Result<(), NoPermit> {
        if self.closed { Err(NoPermit::Closed) } else { Ok(()) }
    }

    /// Tickets grow with time.
    pub fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// The fast path: no sender waits, and there is enough.
    pub fn take_at_once(&mut self, limits: Limits, id: SenderId, amount: u64) -> bool {
        if self.closed || !self.queue.is_empty() || self.held + amount > limits.all {
            return false;
        }
        let sender = self.of(id);
        let fits = sender.waiters.is_empty() && sender.held + amount <= limits.sender;
        if fits {
            sender.held += amount;
            self.held += amount;
        }
        fits
    }

    pub fn give_back(&mut self, limits: Limits, id: SenderId, amount: u64) {
        self.held -= amount;
        let sender = self.of(id);
        sender.held -= amount;
        let is_idle = sender.held == 0;
        if self.waiting > 0 {
            self.settle(limits, id);
        } else if is_idle {
            self.senders.remove(&id);
        }
    }

    /// Grants nothing from now on.
    pub fn close(&mut self) {
        self.closed = true;
        self.queue.clear();
        for sender in self.senders.values_mut() {
            (sender.queued, sender.stuck) = (None, 0);
            while let Some(waiter) = sender.waiters.pop_newest() {
                waiter.answer(Err(NoPermit::Closed));
            }
        }
        (self.stuck, self.waiting) = (0, 0);
        self.senders.retain(|_, sender| sender.held > 0);
    }

    /// Makes sure that one more may wait. Where all places are taken, the sender with the most gives one up.
    pub fn make_way(&mut self, id: SenderId) -> Result<(), NoPermit> {
        let own = self.senders.get(&id).map_or(0, |sender| sender.waiters.len());
        if own >= WAITERS_OF_SENDER_MAX {
            return Err(NoPermit::Full);
        }
        if self.waiting < WAITERS_MAX {
            return Ok(());
        }
        let lengths = self.senders.iter().map(|(id, sender)| (sender.waiters.len(), *id));
        match lengths.max() {
            Some((length, crowd)) if length > own + 1 => {
                self.refuse_newest(crowd, Waiters::pop_newest);
                Ok(())
            }
            _ => Err(NoPermit::Full),
        }
    }

    pub fn join(&mut self, id: SenderId, waiter: Waiter) {
        let base = waiter.base;
        self.waiting += 1;
        self.stuck += base;
        let sender = self.of(id);
        sender.stuck += base;
        sender.waiters.push(waiter);
    }

    /// Takes a waiter out; false if it was answered already.
    pub fn leave(&mut self, id: SenderId, ticket: u64) -> bool {
        let waiter = self.senders.get_mut(&id).and_then(|sender| sender.waiters.remove(ticket));
        waiter.map(|waiter| self.left(id, &waiter)).is_some()
    }

    /// After every change that one sender made: grants what can be granted.
    pub fn settle(&mut self, limits: Limits, id: SenderId) {
        self.enqueue(id);
        self.grant(limits);
        self.end_deadlock(limits, id);
        let sender = self.of(id);
        if sender.waiters.is_empty() {
            let (idle, finish) = (sender.held == 0, sender.finish);
            self.dequeue(id);
            // Forgotten earlier, a sender with one request at a time would always be ahead of one that waits.
            if idle && finish <= self.now {
                self.senders.remove(&id);
            } else {
                self.has_idle |= idle;
            }
        }
        if self.has_idle && self.queue.is_empty() {
            self.has_idle = false;
            self.senders.retain(|_, sender| sender.held > 0 || !sender.waiters.is_empty());
        }
    }

    fn of(&mut self, sender: SenderId) -> &mut Sender {
        self.senders.entry(sender).or_default()
    }

    /// Accounts for a waiter that does not wait any more.
    fn left(&mut self, id: SenderId, waiter: &Waiter) {
        self.waiting -= 1;
        self.stuck -= waiter.base;
        self.of(id).stuck -= waiter.base;
    }

    fn refuse_newest(&mut self, id: SenderId, take: fn(&mut Waiters) -> Option<Waiter>) {
        if let Some(waiter) = take(&mut self.of(id).waiters) {
            self.left(id, &waiter);
            waiter.answer(Err(NoPermit::Full));
        }
    }

    /// Queues a sender that waits at its virtual start time.
    fn enqueue(&mut self, id: SenderId) {
        let now = self.now;
        let sender = self.of(id);
        if sender.queued.is_some() || sender.waiters.is_empty() {
            return;
        }
        sender.finish = sender.finish.max(now);
        let time = sender.finish;
        let start = VirtualStart { time, ticket: self.next_ticket() };
        self.of(id).queued = Some(start);
        self.queue.insert((start, id));
    }

    fn dequeue(&mut self, id: SenderId) {
        if let Some(start) = self.of(id).queued.take() {
            self.queue.remove(&(start, id));
        }
    }

    /// Grants by virtual start time. Invariant: the first in the queue is never passed by others, so that a large request
    /// is granted too; a sender that waits for what itself holds is not in the queue.
    fn grant(&mut self, limits: Limits) {
        while let Some((start, id)) = self.queue.first().copied() {
            let (held, sender) = (self.held, self.of(id));
            let Some(amount) = sender.waiters.first().map(|waiter| waiter.amount) else {
                self.dequeue(id);
                continue;
            };
            if sender.held + amount > limits.sender {
                self.dequeue(id);
                continue;
            }
            if held + amount > limits.all {
                return;
            }
            self.now = start.time;
            self.grant_first(id);
        }
    }

    fn grant_first(&mut self, id: SenderId) {
        let Some(waiter) = self.of(id).waiters.pop_first() else { return };
        let amount = waiter.amount;
        self.left(id, &waiter);
        self.held += amount;
        let sender = self.of(id);
        sender.held += amount;
        sender.finish += amount;
        self.dequeue(id);
        self.enqueue(id);
        waiter.answer(Ok(()));
    }

    /// Where everything is held by requests that wait for more, nothing would ever become free: one that fits goes on
    /// before its time, or else the newest is refused.
    fn end_deadlock(&mut self, limits: Limits, id: SenderId) {
        let sender = self.of(id);
        let needs_own = |first: &Waiter| sender.held + first.amount > limits.sender;
        if sender.held > 0
            && sender.held == sender.stuck
            && sender.waiters.first().is_some_and(needs_own)
        {
            self.refuse_newest(id, Waiters::pop_newest_holder);
            self.enqueue(id);
        }
        if self.held == 0 || self.held != self.stuck {
            return;
        }
        let free = limits.all - self.held;
        let holders = self.senders.iter().filter(|(_, sender)| sender.stuck > 0);
        let fitting = holders.clone().filter_map(|(id, sender)| {
            let first = sender.waiters.first()?;
            let fits = first.amount <= free.min(limits.sender - sender.held);
            fits.then_some((first.ticket, *id))
        });
        let newest =
            holders.filter_map(|(id, sender)| Some((sender.waiters.newest_holder()?, *id)));
        if let Some((_, id)) = fitting.min() {
            self.grant_first(id);
        } else if let Some((_, id)) = newest.max() {
            self.refuse_newest(id, Waiters::pop_newest_holder);
            self.enqueue(id);
        }
    }
}
