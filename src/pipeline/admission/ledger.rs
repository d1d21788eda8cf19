//! The requests that wait for a commit (`ack=commit`), by the id of an entry's first record.
//!
//! The id is known before the entry has a position, so a waiter is always registered before a writer can commit it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;

/// What became of an entry's records in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitOutcome {
    /// Records that made a row, and changes that were applied.
    pub committed: u64,
    /// Records that found their key taken.
    pub duplicates: u64,
    /// Records and changes that PostgreSQL refused; they are in the quarantine.
    pub refused: u64,
    /// Changes whose record was not there.
    pub missing: u64,
    /// Changes whose record was not as they say it is.
    pub conflicts: u64,
}

impl CommitOutcome {
    /// Counts those of `other` as well.
    pub fn add(&mut self, other: CommitOutcome) {
        self.committed += other.committed;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.missing += other.missing;
        self.conflicts += other.conflicts;
    }
}

/// The waiters; clones share them. A request has one for each of its entries that are not committed yet, and limits how many;
/// several may wait for one entry, when a request is repeated.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    by_entry: HashMap<Uuid, Vec<Waiter>>,
    /// Number of the latest.
    latest: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    outcome: oneshot::Sender<CommitOutcome>,
}

/// A registered wait; dropping it ends the registration.
#[derive(Debug)]
pub struct CommitWait {
    ledger: Ledger,
    entry: Uuid,
    number: u64,
    outcome: oneshot::Receiver<CommitOutcome>,
}

impl Ledger {
    /// Registers a wait for the entry whose first record has this id.
    pub fn register(&self, entry: Uuid) -> CommitWait {
        let (sender, outcome) = oneshot::channel();
        let mut waiters = self.lock();
        waiters.latest += 1;
        let number = waiters.latest;
        let waiter = Waiter { number, outcome: sender };
        waiters.by_entry.entry(entry).or_default().push(waiter);
        self.0.waiting.store(waiters.by_entry.len(), Ordering::Release);
        CommitWait { ledger: self.clone(), entry, number, outcome }
    }

    /// Does any request wait? Costs no lock, so that writers look into entries only when it matters.
    pub fn is_waited_for(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire) > 0
    }

    /// Does any request wait for this entry?
    pub fn waits_for(&self, entry: Uuid) -> bool {
        self.is_waited_for() && self.lock().by_entry.contains_key(&entry)
    }

    /// Tells the requests that wait for this entry.
    pub fn resolve(&self, entry: Uuid, outcome: CommitOutcome) {
        let mut waiters = self.lock();
        let told = waiters.by_entry.remove(&entry).unwrap_or_default();
        self.0.waiting.store(waiters.by_entry.len(), Ordering::Release);
        drop(waiters);
        for waiter in told {
            let _ = waiter.outcome.send(outcome);
        }
    }

    fn give_up(&self, entry: Uuid, number: u64) {
        let mut waiters = self.lock();
        if let Some(of_entry) = waiters.by_entry.get_mut(&entry) {
            of_entry.retain(|waiter| waiter.number != number);
            if of_entry.is_empty() {
                waiters.by_entry.remove(&entry);
            }
        }
        self.0.waiting.store(waiters.by_entry.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommitWait {
    /// Waits for the commit; cancel safe.
    pub async fn outcome(&mut self) -> CommitOutcome {
        (&mut self.outcome).await.unwrap_or_default()
    }

    /// [`CommitWait::outcome`] where it is known already.
    pub fn known(&mut self) -> Option<CommitOutcome> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(CommitOutcome::default()),
        }
    }
}

impl Drop for CommitWait {
    fn drop(&mut self) {
        self.ledger.give_up(self.entry, self.number);
    }
}

/// The id of an entry's first record: a tuple begins with its number of fields (2 bytes) and the length of the id (4).
pub fn entry_first_id(body: &Bytes) -> Option<Uuid> {
    let id = body.get(6..22)?;
    Uuid::from_slice(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_is_answered_once_and_leaves_nothing_behind() {
        let ledger = Ledger::default();
        let entry = Uuid::from_u128(7);
        let mut wait = ledger.register(entry);
        assert!(ledger.is_waited_for());
        assert!(ledger.waits_for(entry));
        assert!(!ledger.waits_for(Uuid::from_u128(8)));
        let outcome = CommitOutcome { committed: 3, duplicates: 1, ..CommitOutcome::default() };
        ledger.resolve(entry, outcome);
        assert_eq!(wait.outcome().await, outcome);
        drop(wait);
        drop(ledger.register(entry));
        assert!(!ledger.is_waited_for());
        ledger.resolve(entry, outcome);
    }

    #[tokio::test]
    async fn several_may_wait_for_one_entry() {
        let ledger = Ledger::default();
        let entry = Uuid::from_u128(7);
        let mut waits: Vec<CommitWait> = (0..3).map(|_| ledger.register(entry)).collect();
        drop(waits.remove(1));
        let outcome = CommitOutcome { committed: 3, duplicates: 1, ..CommitOutcome::default() };
        ledger.resolve(entry, outcome);
        assert!(!ledger.is_waited_for());
        for mut wait in waits {
            assert_eq!(wait.outcome().await, outcome);
        }
    }
}
