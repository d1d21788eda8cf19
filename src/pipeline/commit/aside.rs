//! Batches that PostgreSQL takes long over, beside the queue of all others: only some of the writers take them, so that
//! the batches behind overtake them.
//!
//! Invariant: where order counts, nothing overtakes. A keyed stream of which a batch is in here or under way is *held*: all
//! that follows of it comes in here too, in the order of the journal, until nothing of it is left. So a batch of the other
//! queue never waits for one of these.
//!
//! What waits here is a place in the journal, not the entries: they are read again when their turn comes. While many wait,
//! the intake takes no more of their kind ([`CostlyLevel`]); what is in the journal already, after an outage, comes in here
//! however much it is, at some 200 bytes for each of its batches. What follows each other in the journal is one batch, as
//! far as there is room in it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_journal::{Journal, ReadError};
use tidegate_record::{Position, StreamId};
use tokio::sync::Notify;

use super::batch::{Batch, Gate};
use crate::pipeline::admission::CostlyLevel;

/// A batch that waits aside is cut at so many keys and values of documents: PostgreSQL takes half a second over them. Dense
/// entries of so many have few rows and bytes.
pub(super) const ASIDE_MEMBERS_MAX: u64 = 500_000;

/// A batch without its entries.
#[derive(Debug)]
pub(super) struct AsideBatch {
    pub first: Position,
    pub last: Position,
    members: u64,
    gates: Vec<Gate>,
}

/// The batches that wait aside in a session; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Aside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    level: CostlyLevel,
    /// How many streams are held, so that no lock is taken while there are none.
    held: AtomicUsize,
    /// Does a batch wait, or is one under way?
    is_busy: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<AsideBatch>,
    /// Of each keyed stream, how many batches are in here or under way.
    held: HashMap<StreamId, usize>,
    /// Batches that were taken out and are not committed yet.
    under_way: usize,
    is_closed: bool,
}

/// The batcher's end; nothing more comes in when it is dropped.
#[derive(Debug)]
pub(super) struct AsideSender(Aside);

/// Of a batch that was taken out: it is under way and its keyed streams are held until this is dropped, once it is committed.
#[derive(Debug)]
pub(super) struct Holding {
    aside: Aside,
    streams: Vec<StreamId>,
}

impl AsideSender {
    pub fn new(aside: Aside) -> AsideSender {
        AsideSender(aside)
    }

    /// Puts a batch aside, in the one before it if they fit together. Its entries are let go.
    pub fn put(&self, batch: Batch) {
        let Batch { first, last, members, gates, .. } = batch;
        let batch = AsideBatch { first, last, members, gates };
        let mut state = self.0.lock();
        for gate in &batch.gates {
            *state.held.entry(gate.stream).or_default() += 1;
        }
        match state.waiting.back_mut() {
            Some(before) if before.has_room_for(&batch) => {
                before.last = batch.last;
                before.members += batch.members;
            }
            _ => state.waiting.push_back(batch),
        }
        self.0.publish(&state);
        drop(state);
        self.0.0.changed.notify_one();
    }

    /// Must a keyed stream's records wait aside because earlier ones do?
    pub fn holds(&self, stream: StreamId) -> bool {
        self.0.0.held.load(Ordering::Acquire) > 0 && self.0.lock().held.contains_key(&stream)
    }

    /// Is anything left to write of what was put aside?
    pub fn is_busy(&self) -> bool {
        self.0.0.is_busy.load(Ordering::Acquire)
    }

    /// Is any stream held?
    pub fn holds_any(&self) -> bool {
        self.0.0.held.load(Ordering::Acquire) > 0
    }
}

impl Drop for AsideSender {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.0.level.set(0);
        self.0.0.changed.notify_waiters();
    }
}

impl Aside {
    pub fn new(level: CostlyLevel) -> Aside {
        let (state, changed) = (Mutex::default(), Notify::new());
        let (held, is_busy) = (AtomicUsize::new(0), AtomicBool::new(false));
        Aside(Arc::new(Shared { state, changed, level, held, is_busy }))
    }

    /// The batch that waited longest; `None` once nothing is left and nothing more will come. Nothing is lost where this is
    /// given up.
    pub async fn take(&self, is_only: bool) -> Option<(AsideBatch, Holding)> {
        loop {
            // Made before looking, so that a change in between wakes it.
            let changed = self.0.changed.notified();
            if let Some(taken) = self.try_take(is_only) {
                return Some(taken);
            }
            if self.is_over() {
                return None;
            }
            changed.await;
        }
    }

    /// [`Aside::take`] where that takes no waiting. `is_only`: only a batch that waits for no other, which the one writer
    /// there is would have to commit first.
    pub fn try_take(&self, is_only: bool) -> Option<(AsideBatch, Holding)> {
        let mut state = self.lock();
        if is_only && !state.waiting.front_mut()?.gates.iter_mut().all(Gate::is_open) {
            return None;
        }
        let batch = state.waiting.pop_front()?;
        state.under_way += 1;
        self.publish(&state);
        let streams = batch.gates.iter().map(|gate| gate.stream).collect();
        Some((batch, Holding { aside: self.clone(), streams }))
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.waiting.is_empty()
    }

    fn publish(&self, state: &State) {
        self.0.held.store(state.held.len(), Ordering::Release);
        let is_busy = state.under_way > 0 || !state.waiting.is_empty();
        self.0.is_busy.store(is_busy, Ordering::Release);
        // What a session leaves behind says nothing of the next one.
        if !state.is_closed {
            self.0.level.set(state.waiting.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsideBatch {
    /// May the other, put aside later, be written with this one? Keyed streams' batches wait for each other.
    fn has_room_for(&self, later: &AsideBatch) -> bool {
        self.last == later.first
            && self.members + later.members <= ASIDE_MEMBERS_MAX
            && self.gates.is_empty()
            && later.gates.is_empty()
    }

    /// Reads its entries again.
    pub async fn read(self, journal: Journal) -> Result<Batch, ReadError> {
        let AsideBatch { first, last, gates, .. } = self;
        let batch = tokio::task::spawn_blocking(move || Batch::read(&journal, first, last));
        let mut batch = batch.await.expect("reading the journal does not panic")?;
        batch.gates = gates;
        Ok(batch)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut state = self.aside.lock();
        state.under_way -= 1;
        for stream in &self.streams {
            if let Some(batches) = state.held.get_mut(stream) {
                *batches -= 1;
                if *batches == 0 {
                    state.held.remove(stream);
                }
            }
        }
        self.aside.publish(&state);
    }
}
