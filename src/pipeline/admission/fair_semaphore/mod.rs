//! Room that senders share fairly: bytes in memory, places in a queue.
//!
//! Who comes while nobody waits gets room at once. When there is none, requests wait by sender, and room that gets free
//! goes to the sender whose turn it is. Turns are counted in what was granted: a sender's next turn comes later the
//! more it just got, so that neither many connections nor large requests win. Nobody holds all: the last
//! [`SPARE_SHARE`]th is for other senders, so that one whose bodies never end leaves room.
//!
//! It promises: never more than the limit; a grant that nobody takes any more (the request was dropped, its time was
//! over) goes to the next; a sender that holds nothing and got nothing lately waits for at most one grant of each
//! other sender, beside those that let a request which holds room come to its end, and one that got more for as much
//! more of each; every wait ends. It refuses what waits too long, what would be
//! one waiter too many, and, at once, the newest of requests that all hold room and all want more: waiting would not
//! end that.
//!
//! One short lock for each call, never held across an await; taking and giving back is a look into a map of those
//! senders that hold something now.

mod waiters;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::pipeline::SenderId;
use crate::pipeline::admission::fair_semaphore::waiters::{Waiter, Waiters};

/// One part in so many is out of reach for a single sender.
const SPARE_SHARE: u64 = 8;
/// Most requests that wait, in all and of one sender.
const WAITERS_MAX: usize = 4_096;
const WAITERS_OF_SENDER_MAX: usize = 1_024;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    Full,
    Closed,
}

/// A shared amount of something; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Shared>);

/// A part of a room; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    sender: SenderId,
    amount: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    limit: u64,
    /// Most that one sender holds.
    share_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    closed: bool,
    held: u64,
    /// The part of `held` whose holders wait for more.
    stuck: u64,
    waiting: usize,
    /// Where the turns have come to: the turn of the last grant.
    turn: u64,
    tickets: u64,
    /// Those that hold something or wait, and, while others wait, those whose next turn is still to come.
    senders: HashMap<SenderId, Sender>,
    /// There may be some that neither hold anything nor wait.
    has_idle: bool,
    /// Senders that wait, and not for themselves, by turn.
    line: BTreeSet<(Turn, SenderId)>,
}

/// When a sender gets its next grant: by what it was granted, then by who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    granted: u64,
    ticket: u64,
}

#[derive(Debug, Default)]
struct Sender {
    held: u64,
    stuck: u64,
    /// What `turn` must have reached for its next grant.
    next_turn: u64,
    in_line: Option<Turn>,
    waiters: Waiters,
}

/// What a request that does not get room at once waits with; dropping it leaves nothing behind.
#[derive(Debug)]
struct Ticket {
    room: Room,
    sender: SenderId,
    number: u64,
    amount: u64,
    answer: oneshot::Receiver<Result<(), NoRoom>>,
    /// The answer was taken.
    settled: bool,
}

impl Room {
    pub(crate) fn new(limit: u64) -> Room {
        let limit = limit.max(1);
        let share_max = limit - limit / SPARE_SHARE;
        Room(Arc::new(Shared { limit, share_max, state: Mutex::default() }))
    }

    /// Gets a part, waiting at most so long. Who wants more than one sender may hold gets that.
    pub(crate) async fn acquire(
        &self,
        sender: SenderId,
        amount: u64,
        wait: Duration,
    ) -> Result<Held, NoRoom> {
        let amount = amount.min(self.0.share_max);
        self.enter(sender, amount, 0, wait).await?;
        Ok(Held { room: self.clone(), sender, amount })
    }

    /// Gets a part if that takes no waiting.
    pub(crate) fn try_acquire(&self, sender: SenderId, amount: u64) -> Option<Held> {
        let amount = amount.min(self.0.share_max);
        let mut state = self.lock();
        let taken = !state.closed && state.take_at_once(&self.0, sender, amount);
        drop(state);
        taken.then(|| Held { room: self.clone(), sender, amount })
    }

    /// What is held now.
    pub(crate) fn held(&self) -> u64 {
        self.lock().held
    }

    /// Grants nothing from now on; whoever waits is told.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.line.clear();
        let State { senders, stuck, waiting, .. } = &mut *state;
        for sender in senders.values_mut() {
            (sender.in_line, sender.stuck) = (None, 0);
            while let Some(waiter) = sender.waiters.pop_newest() {
                waiter.answer(Err(NoRoom::Closed));
            }
        }
        (*stuck, *waiting) = (0, 0);
        senders.retain(|_, sender| sender.held > 0);
    }

    async fn enter(
        &self,
        sender: SenderId,
        amount: u64,
        base: u64,
        wait: Duration,
    ) -> Result<(), NoRoom> {
        match self.try_enter(sender, amount, base)? {
            Some(ticket) => ticket.wait(wait).await,
            None => Ok(()),
        }
    }

    /// None: there was room. `base`: what the request holds already.
    fn try_enter(&self, id: SenderId, amount: u64, base: u64) -> Result<Option<Ticket>, NoRoom> {
        let mut state = self.lock();
        if state.closed {
            return Err(NoRoom::Closed);
        }
        if state.take_at_once(&self.0, id, amount) {
            return Ok(None);
        }
        state.make_way(id)?;
        let (sender, answer) = oneshot::channel();
        state.tickets += 1;
        let number = state.tickets;
        state.join(id, Waiter::new(number, amount, base, sender));
        state.settle(&self.0, id);
        Ok(Some(Ticket { room: self.clone(), sender: id, number, amount, answer, settled: false }))
    }

    fn give_back(&self, sender: SenderId, amount: u64) {
        let mut state = self.lock();
        state.held -= amount;
        let of_sender = state.of(sender);
        of_sender.held -= amount;
        let is_idle = of_sender.held == 0;
        if state.waiting > 0 {
            state.settle(&self.0, sender);
        } else if is_idle {
            state.senders.remove(&sender);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(crate) fn sender(&self) -> SenderId {
        self.sender
    }

    /// Gets more, waiting at most so long; what it holds stays whatever comes of it.
    pub(crate) async fn grow(&mut self, more: u64, wait: Duration) -> Result<(), NoRoom> {
        let more = more.min(self.room.0.share_max - self.amount);
        if more == 0 {
            return Ok(());
        }
        self.room.enter(self.sender, more, self.amount, wait).await?;
        self.amount += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.sender, self.amount);
    }
}

impl Ticket {
    async fn wait(mut self, wait: Duration) -> Result<(), NoRoom> {
        match tokio::time::timeout(wait, &mut self.answer).await {
            Ok(answer) => {
                self.settled = true;
                answer.unwrap_or(Err(NoRoom::Closed))
            }
            Err(_elapsed) => self.give_up(),
        }
    }

    /// Leaves the queue. A grant that came at the same moment counts.
    fn give_up(&mut self) -> Result<(), NoRoom> {
        self.settled = true;
        let mut state = self.room.lock();
        if state.leave(self.sender, self.number) {
            state.settle(&self.room.0, self.sender);
            return Err(NoRoom::Full);
        }
        // Invariant: whoever takes a waiter out of the queue answers it before the lock is released.
        self.answer.try_recv().unwrap_or(Err(NoRoom::Closed))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled && self.give_up().is_ok() {
            self.room.give_back(self.sender, self.amount);
        }
    }
}

impl State {
    fn of(&mut self, sender: SenderId) -> &mut Sender {
        self.senders.entry(sender).or_default()
    }

    /// The short way: nobody waits, and there is room.
    fn take_at_once(&mut self, room: &Shared, id: SenderId, amount: u64) -> bool {
        if !self.line.is_empty() || self.held + amount > room.limit {
            return false;
        }
        let sender = self.senders.entry(id).or_default();
        let fits = sender.waiters.is_empty() && sender.held + amount <= room.share_max;
        if fits {
            sender.held += amount;
            self.held += amount;
        }
        fits
    }

    /// Makes sure that one more may wait. Where all places are taken, the sender with the most gives one up.
    fn make_way(&mut self, id: SenderId) -> Result<(), NoRoom> {
        let own = self.senders.get(&id).map_or(0, |sender| sender.waiters.len());
        if own >= WAITERS_OF_SENDER_MAX {
            return Err(NoRoom::Full);
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
            _ => Err(NoRoom::Full),
        }
    }

    fn join(&mut self, id: SenderId, waiter: Waiter) {
        let base = waiter.base();
        self.waiting += 1;
        self.stuck += base;
        let sender = self.of(id);
        sender.stuck += base;
        sender.waiters.push(waiter);
    }

    /// Takes a waiter out of the queue; false if it was answered already.
    fn leave(&mut self, id: SenderId, ticket: u64) -> bool {
        let waiter = self.senders.get_mut(&id).and_then(|sender| sender.waiters.remove(ticket));
        waiter.map(|waiter| self.left(id, &waiter)).is_some()
    }

    /// Accounts for a waiter that does not wait any more.
    fn left(&mut self, id: SenderId, waiter: &Waiter) {
        self.waiting -= 1;
        self.stuck -= waiter.base();
        self.of(id).stuck -= waiter.base();
    }

    fn refuse_newest(&mut self, id: SenderId, take: fn(&mut Waiters) -> Option<Waiter>) {
        if let Some(waiter) = take(&mut self.of(id).waiters) {
            self.left(id, &waiter);
            waiter.answer(Err(NoRoom::Full));
        }
    }

    /// After every change that one sender made: whoever can go on goes on.
    fn settle(&mut self, room: &Shared, id: SenderId) {
        self.line_up(id);
        self.grant(room);
        self.end_standstill(room, id);
        let sender = self.of(id);
        if sender.waiters.is_empty() {
            let (idle, next_turn) = (sender.held == 0, sender.next_turn);
            self.leave_line(id);
            // Forgotten earlier, who comes with one request at a time would always be ahead of one that waits.
            if idle && next_turn <= self.turn {
                self.senders.remove(&id);
            } else {
                self.has_idle |= idle;
            }
        }
        if self.has_idle && self.line.is_empty() {
            self.has_idle = false;
            self.senders.retain(|_, sender| sender.held > 0 || !sender.waiters.is_empty());
        }
    }

    /// Puts a sender that waits at its place in the line.
    fn line_up(&mut self, id: SenderId) {
        let turn = self.turn;
        let sender = self.of(id);
        if sender.in_line.is_some() || sender.waiters.is_empty() {
            return;
        }
        // What was granted while it did not wait is nothing that it could claim.
        sender.next_turn = sender.next_turn.max(turn);
        let granted = sender.next_turn;
        self.tickets += 1;
        let turn = Turn { granted, ticket: self.tickets };
        self.of(id).in_line = Some(turn);
        self.line.insert((turn, id));
    }

    fn leave_line(&mut self, id: SenderId) {
        if let Some(turn) = self.of(id).in_line.take() {
            self.line.remove(&(turn, id));
        }
    }

    /// Grants room in the order of turns. Invariant: the first in line is never passed by others, so that a large
    /// request gets its room too; a sender that waits for what itself holds is not in line.
    fn grant(&mut self, room: &Shared) {
        while let Some((turn, id)) = self.line.first().copied() {
            let (held, sender) = (self.held, self.of(id));
            let Some(amount) = sender.waiters.first().map(Waiter::amount) else {
                self.leave_line(id);
                continue;
            };
            if sender.held + amount > room.share_max {
                self.leave_line(id);
                continue;
            }
            if held + amount > room.limit {
                return;
            }
            self.turn = turn.granted;
            self.grant_first(id);
        }
    }

    fn grant_first(&mut self, id: SenderId) {
        let Some(waiter) = self.of(id).waiters.pop_first() else { return };
        let amount = waiter.amount();
        self.left(id, &waiter);
        self.held += amount;
        let sender = self.of(id);
        sender.held += amount;
        sender.next_turn += amount;
        self.leave_line(id);
        self.line_up(id);
        waiter.answer(Ok(()));
    }

    /// Where everything is held by requests that wait for more, nothing would ever get free: one that fits goes on
    /// before its turn, or else the newest is refused.
    fn end_standstill(&mut self, room: &Shared, id: SenderId) {
        let sender = self.of(id);
        let own_needed = |first: &Waiter| sender.held + first.amount() > room.share_max;
        if sender.held > 0
            && sender.held == sender.stuck
            && sender.waiters.first().is_some_and(own_needed)
        {
            self.refuse_newest(id, Waiters::pop_newest_holder);
            self.line_up(id);
        }
        if self.held == 0 || self.held != self.stuck {
            return;
        }
        let free = room.limit - self.held;
        let holders = self.senders.iter().filter(|(_, sender)| sender.stuck > 0);
        let fitting = holders.clone().filter_map(|(id, sender)| {
            let first = sender.waiters.first()?;
            let fits = first.amount() <= free.min(room.share_max - sender.held);
            fits.then_some((first.ticket(), *id))
        });
        let newest =
            holders.filter_map(|(id, sender)| Some((sender.waiters.newest_holder()?, *id)));
        if let Some((_, id)) = fitting.min() {
            self.grant_first(id);
        } else if let Some((_, id)) = newest.max() {
            self.refuse_newest(id, Waiters::pop_newest_holder);
            self.line_up(id);
        }
    }
}

#[cfg(test)]
mod tests;
