//! Batches that PostgreSQL takes long over, beside the queue of all others: only some of the writers take them, so that
//! whatever comes behind overtakes them.
//!
//! Invariant: where order counts, nothing overtakes. A keyed stream of which a batch is in here or under way is *held*: all
//! that follows of it comes in here too, in the order of the journal, until nothing of it is left. So a batch of the other
//! queue never waits for one of these.
//!
//! What waits here is a place in the journal, not the entries: they are read again when their turn comes. How many may wait
//! is bounded by the journal alone, some 200 bytes for each of its costly entries, which are 30 kB and more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use crate::journal::{Journal, ReadError};
use crate::pipeline::batcher::{Batch, Gate};
use crate::record::{Position, StreamId};
use crate::telemetry::metrics;

/// A batch without its entries.
#[derive(Debug)]
pub(super) struct AsideBatch {
    first: Position,
    last: Position,
    gates: Vec<Gate>,
}

/// The batches that wait aside in a session; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Aside(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// How many streams are held, so that nobody takes the lock while there are none.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<AsideBatch>,
    /// Of each keyed stream, how many batches are in here or under way.
    held: HashMap<StreamId, usize>,
    is_closed: bool,
}

/// The batcher's end; nothing more comes in when it is dropped.
#[derive(Debug)]
pub(super) struct AsideSender(Aside);

/// Holds the keyed streams of a batch that was taken out; dropped once it is committed.
#[derive(Debug)]
pub(super) struct Holding {
    aside: Aside,
    streams: Vec<StreamId>,
}

/// What one writer takes its batches from.
pub(super) struct Supply {
    batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
    aside: Option<Aside>,
    /// There is no other writer, so nobody else can commit what a batch waits for.
    is_only: bool,
    /// What waits aside is next, where something does.
    is_aside_next: bool,
}

/// What a writer is to commit next.
#[derive(Debug)]
pub(super) enum Work {
    Batch(Batch),
    Aside(AsideBatch),
}

/// How many of a session's writers take what waits aside, beside all else: at most half of them. One by itself takes turns.
pub(super) fn aside_writers(writers: usize) -> usize {
    (writers / 2).max(1)
}

impl AsideSender {
    pub fn new(aside: Aside) -> AsideSender {
        AsideSender(aside)
    }

    /// Puts a batch aside. Its entries are let go.
    pub fn put(&self, batch: Batch) {
        let Batch { first, last, gates, .. } = batch;
        let mut state = self.0.lock();
        for gate in &gates {
            *state.held.entry(gate.stream).or_default() += 1;
        }
        state.waiting.push_back(AsideBatch { first, last, gates });
        self.0.publish(&state);
        drop(state);
        self.0.0.changed.notify_one();
    }

    /// Must a keyed stream's records wait aside because earlier ones do?
    pub fn holds(&self, stream: StreamId) -> bool {
        self.0.0.held.load(Ordering::Acquire) > 0 && self.0.lock().held.contains_key(&stream)
    }

    /// Is any stream held?
    pub fn holds_any(&self) -> bool {
        self.0.0.held.load(Ordering::Acquire) > 0
    }
}

impl Drop for AsideSender {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.0.changed.notify_waiters();
    }
}

impl Aside {
    /// The batch that waited longest; `None` once nothing is left and nothing more will come. Nothing is lost where this is
    /// given up.
    async fn take(&self, is_only: bool) -> Option<AsideBatch> {
        loop {
            // Made before looking, so that whatever comes in between wakes it.
            let changed = self.0.changed.notified();
            if let Some(batch) = self.try_take(is_only) {
                return Some(batch);
            }
            if self.is_over() {
                return None;
            }
            changed.await;
        }
    }

    /// [`Aside::take`] where that takes no waiting. `is_only`: only a batch that waits for no other, which the one writer
    /// there is would have to commit first.
    fn try_take(&self, is_only: bool) -> Option<AsideBatch> {
        let mut state = self.lock();
        if is_only && !state.waiting.front_mut()?.gates.iter_mut().all(Gate::is_open) {
            return None;
        }
        let batch = state.waiting.pop_front();
        self.publish(&state);
        batch
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.waiting.is_empty()
    }

    fn publish(&self, state: &State) {
        self.0.held.store(state.held.len(), Ordering::Release);
        metrics::set_costly_batches(state.waiting.len());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsideBatch {
    /// Reads its entries again.
    pub async fn read(self, journal: Journal) -> Result<Batch, ReadError> {
        let AsideBatch { first, last, gates } = self;
        let batch = tokio::task::spawn_blocking(move || Batch::read(&journal, first, last));
        let mut batch = batch.await.expect("reading the journal does not panic")?;
        batch.gates = gates;
        Ok(batch)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut state = self.aside.lock();
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

impl Supply {
    /// `aside`: whether this writer takes what waits aside.
    pub fn new(
        batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
        aside: Option<Aside>,
        is_only: bool,
    ) -> Supply {
        Supply { batches, aside, is_only, is_aside_next: false }
    }

    /// The next batch, in turns where both queues have some; `None` when there will be no more. Nothing is lost where this
    /// is given up.
    pub async fn next(&mut self) -> Option<Work> {
        let Some(aside) = &self.aside else {
            return self.batches.lock().await.recv().await.map(Work::Batch);
        };
        if self.is_aside_next
            && let Some(batch) = aside.try_take(self.is_only)
        {
            self.is_aside_next = false;
            return Some(Work::Aside(batch));
        }
        let batches = async { self.batches.lock().await.recv().await };
        tokio::select! {
            biased;
            Some(batch) = batches => {
                self.is_aside_next = true;
                Some(Work::Batch(batch))
            }
            Some(batch) = aside.take(self.is_only) => {
                self.is_aside_next = false;
                Some(Work::Aside(batch))
            }
            else => None,
        }
    }

    /// Holds the keyed streams of a batch that waited aside until what this gives is dropped.
    pub fn hold(&self, batch: &AsideBatch) -> Option<Holding> {
        let streams = batch.gates.iter().map(|gate| gate.stream).collect();
        Some(Holding { aside: self.aside.clone()?, streams })
    }
}
