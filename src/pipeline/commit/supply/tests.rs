//! Both queues, as writers take from them.

use std::task::Poll;
use std::time::Duration;

use futures::poll;
use tidegate_record::{Position, StreamId};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::pipeline::admission::{COSTLY_WAITING_MAX, CostlyLevel};
use crate::pipeline::commit::aside::AsideSender;
use crate::pipeline::commit::batch::Gate;

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
        Poll::Ready(Some(Work::Aside(batch, _))) => Some((batch.first.0, true)),
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
    let Some(Work::Batch(mut batch)) = only.next().await else { panic!("the older comes first") };
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
        let Some(Work::Aside(_, holding)) = supply.next().await else { panic!("two wait") };
        assert!(bench.sender.holds(stream) && !bench.sender.holds(StreamId(2)));
        drop(holding);
        assert_eq!(bench.sender.holds(stream), is_held_after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_of_more_waits_while_many_wait_and_no_longer() {
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
        Some(Work::Aside(_, holding)) => holding,
        other => panic!("many wait, not {other:?}"),
    };
    let (first, second) = (take().await, take().await);
    let waiting = || bench.level.waiting();
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
        let Some(Work::Aside(_, holding)) = supply.next().await else { panic!("two wait") };
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
        let Some(Work::Aside(batch, _)) = supply.next().await else { panic!("five wait") };
        assert_eq!((batch.first.0, batch.last.0), expected);
    }
    assert_eq!(next(&mut supply).await, None);
}
