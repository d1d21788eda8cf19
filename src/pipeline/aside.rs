//! Batches that PostgreSQL takes long over, beside the queue of all others: only some of the writers take them, so that
//! whatever comes behind overtakes them.
//!
//! Invariant: where order counts, nothing overtakes. A keyed stream of which a batch is in here or under way is *held*: all
//! that follows of it comes in here too, in the order of the journal, until nothing of it is left. So a batch of the other
//! queue never waits for one of these.
//!
//! What waits here is a place in the journal, not the entries: they are read again when their turn comes. While
//! [`COSTLY_WAITING_MAX`] wait, the intake takes no more of their kind; what is in the journal already, after an outage, comes
//! in here however much it is, at some 200 bytes for each of its batches. What follows each other in the journal is one
//! batch, as far as there is room in it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_journal::{Journal, ReadError};
use tidegate_record::{Position, StreamId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::pipeline::batcher::{Batch, Gate};
use crate::telemetry::metrics;

/// While so many batches wait aside, whoever sends more of their kind waits too, and is refused in the end.
pub const COSTLY_WAITING_MAX: usize = 64;
/// A batch that waits aside is cut at so many keys and values of documents: PostgreSQL takes half a second over them. Dense
/// entries of so many have few rows and bytes.
pub(super) const ASIDE_MEMBERS_MAX: u64 = 500_000;

/// A batch without its entries.
#[derive(Debug)]
pub(super) struct AsideBatch {
    first: Position,
    last: Position,
    members: u64,
    gates: Vec<Gate>,
}

/// How many batches wait aside, over all sessions; clones are the same. Of a PostgreSQL that is away nothing is known.
#[derive(Debug, Clone, Default)]
pub(super) struct CostlyLevel(watch::Sender<usize>);

/// The batches that wait aside in a session; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Aside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    level: CostlyLevel,
    /// How many streams are held, so that nobody takes the lock while there are none.
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

impl CostlyLevel {
    /// Waits until few enough batches wait; false if that takes longer than `limit`.
    pub async fn falls(&self, limit: Duration) -> bool {
        let mut level = self.0.subscribe();
        let few = level.wait_for(|waiting| *waiting < COSTLY_WAITING_MAX);
        timeout(limit, few).await.is_ok()
    }

    fn set(&self, waiting: usize) {
        self.0.send_replace(waiting);
        metrics::set_costly_batches(waiting);
    }
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
        let batch = state.waiting.pop_front()?;
        state.under_way += 1;
        self.publish(&state);
        Some(batch)
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

    /// Of each batch that waited aside: it is under way, and holds its keyed streams, until what this gives is dropped.
    pub fn hold(&self, batch: &AsideBatch) -> Option<Holding> {
        let streams = batch.gates.iter().map(|gate| gate.stream).collect();
        Some(Holding { aside: self.aside.clone()?, streams })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    /// Of a keyed stream's batch: the gate, and what opens when it is committed.
    fn gate(earlier: Option<oneshot::Receiver<()>>) -> (Gate, oneshot::Receiver<()>) {
        let (committed, next) = oneshot::channel();
        (Gate { stream: StreamId(1), earlier, committed }, next)
    }

    fn batch(first: u64, gates: Vec<Gate>) -> Batch {
        let mut batch = Batch::starting_at(Position(first));
        batch.gates = gates;
        batch
    }

    struct Bench {
        queue: mpsc::Sender<Batch>,
        batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
        aside: Aside,
        sender: AsideSender,
        level: CostlyLevel,
    }

    impl Bench {
        fn new() -> Bench {
            let (queue, batches) = mpsc::channel(8);
            let level = CostlyLevel::default();
            let aside = Aside::new(level.clone());
            let batches = Arc::new(tokio::sync::Mutex::new(batches));
            Bench { queue, batches, sender: AsideSender::new(aside.clone()), aside, level }
        }

        fn supply(&self, takes_aside: bool, is_only: bool) -> Supply {
            let aside = takes_aside.then(|| self.aside.clone());
            Supply::new(Arc::clone(&self.batches), aside, is_only)
        }
    }

    /// Where the next batch begins, and whether it waited aside; `None` if there is none now.
    async fn next(supply: &mut Supply) -> Option<(u64, bool)> {
        let next = std::pin::pin!(supply.next());
        match poll!(next) {
            Poll::Ready(Some(Work::Batch(batch))) => Some((batch.first.0, false)),
            Poll::Ready(Some(Work::Aside(batch))) => Some((batch.first.0, true)),
            Poll::Ready(None) => panic!("it is over"),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn one_takes_turns_and_the_others_leave_what_waits_aside() {
        let bench = Bench::new();
        for first in [1, 2, 3] {
            bench.sender.put(batch(first * 100, Vec::new()));
            bench.queue.send(batch(first, Vec::new())).await.unwrap();
        }
        let mut only = bench.supply(true, true);
        for expected in [(1, false), (100, true), (2, false), (200, true)] {
            assert_eq!(next(&mut only).await, Some(expected));
        }
        let mut other = bench.supply(false, false);
        assert_eq!(next(&mut other).await, Some((3, false)));
        assert_eq!(next(&mut other).await, None);
        assert_eq!(next(&mut only).await, Some((300, true)));
        assert_eq!(next(&mut only).await, None);
        drop((bench.queue, bench.sender));
        assert!(only.next().await.is_none());
        assert!(other.next().await.is_none());
    }

    #[tokio::test]
    async fn a_writer_alone_takes_nothing_that_waits_for_what_only_it_can_commit() {
        let bench = Bench::new();
        let mut only = bench.supply(true, true);
        let (first, committed) = gate(None);
        let (second, _) = gate(Some(committed));
        bench.sender.put(batch(2, vec![second]));
        assert_eq!(next(&mut only).await, None);
        bench.queue.send(batch(1, vec![first])).await.unwrap();
        let Some(Work::Batch(mut batch)) = only.next().await else {
            panic!("the older comes first")
        };
        assert_eq!(next(&mut only).await, None);
        batch.gates.pop().unwrap().committed.send(()).unwrap();
        assert_eq!(next(&mut only).await, Some((2, true)));
    }

    #[tokio::test]
    async fn a_keyed_stream_is_held_until_the_last_of_its_batches_is_committed() {
        let bench = Bench::new();
        let stream = StreamId(1);
        assert!(!bench.sender.holds_any());
        for first in [1, 2] {
            bench.sender.put(batch(first, vec![gate(None).0]));
        }
        let mut supply = bench.supply(true, false);
        for is_held_after in [true, false] {
            let Some(Work::Aside(batch)) = supply.next().await else { panic!("two wait") };
            let holding = supply.hold(&batch);
            assert!(bench.sender.holds(stream) && !bench.sender.holds(StreamId(2)));
            drop(holding);
            assert_eq!(bench.sender.holds(stream), is_held_after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_more_waits_while_many_wait_and_no_longer() {
        let bench = Bench::new();
        let limit = Duration::from_secs(2);
        for first in 0..COSTLY_WAITING_MAX {
            assert!(bench.level.falls(limit).await, "{first}");
            bench.sender.put(batch(first as u64, Vec::new()));
        }
        assert!(!bench.level.falls(limit).await);
        let mut supply = bench.supply(true, false);
        let (falls, _) = tokio::join!(bench.level.falls(limit), supply.next());
        assert!(falls);
        // A session has ended: its successor begins with none.
        bench.sender.put(batch(999, Vec::new()));
        drop(bench.sender);
        assert!(bench.level.falls(limit).await);
    }

    #[tokio::test]
    async fn what_a_session_leaves_under_way_says_nothing_of_the_next() {
        let bench = Bench::new();
        for first in 0..COSTLY_WAITING_MAX + 9 {
            bench.sender.put(batch(first as u64, Vec::new()));
        }
        let mut supply = bench.supply(true, false);
        let mut take = async || match supply.next().await {
            Some(Work::Aside(batch)) => supply.hold(&batch),
            other => panic!("many wait, not {other:?}"),
        };
        let (first, second) = (take().await, take().await);
        let waiting = || *bench.level.0.borrow();
        assert_eq!(waiting(), COSTLY_WAITING_MAX + 7);
        drop(bench.sender);
        assert_eq!(waiting(), 0);
        drop(first);
        assert_eq!(waiting(), 0);
        let next = AsideSender::new(Aside::new(bench.level.clone()));
        next.put(batch(1, Vec::new()));
        drop(second);
        assert_eq!(waiting(), 1);
    }

    #[tokio::test]
    async fn it_is_busy_until_the_last_is_committed() {
        let bench = Bench::new();
        let mut supply = bench.supply(true, false);
        assert!(!bench.sender.is_busy());
        for first in [1, 2] {
            bench.sender.put(batch(first, Vec::new()));
        }
        for is_busy_after in [true, false] {
            let Some(Work::Aside(batch)) = supply.next().await else { panic!("two wait") };
            let holding = supply.hold(&batch);
            assert!(bench.sender.is_busy());
            drop(holding);
            assert_eq!(bench.sender.is_busy(), is_busy_after);
        }
    }

    #[tokio::test]
    async fn what_follows_each_other_fills_a_batch() {
        let bench = Bench::new();
        let put = |first: u64, last: u64, members: u64, gates: Vec<Gate>| {
            let last = Position(last);
            bench.sender.put(Batch { last, members, ..batch(first, gates) });
        };
        for n in 0..100 {
            put(n, n + 1, 10_000, Vec::new());
        }
        // Behind others, which are written meanwhile; and of a stream whose order is kept.
        put(200, 201, 10_000, Vec::new());
        put(201, 202, 10_000, vec![gate(None).0]);
        put(202, 203, 10_000, Vec::new());
        let mut supply = bench.supply(true, false);
        for expected in [(0, 50), (50, 100), (200, 201), (201, 202), (202, 203)] {
            let Some(Work::Aside(batch)) = supply.next().await else { panic!("five wait") };
            assert_eq!((batch.first.0, batch.last.0), expected);
        }
        assert_eq!(next(&mut supply).await, None);
    }
}
