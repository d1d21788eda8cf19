//! A semaphore under every kind of request, held against what it promises after every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::queue::{VirtualStart, WAITERS_MAX, WAITERS_OF_SENDER_MAX};
use super::*;

const SENDERS: i64 = 4;
const LIMIT: u64 = 64;
/// Longer than any test waits, in paused time.
const LONG: Duration = Duration::from_secs(60);

fn sender(number: i64) -> SenderId {
    SenderId::Token(number)
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Acquire {
        sender: i64,
        amount: u64,
    },
    Grow {
        index: usize,
        more: u64,
    },
    Release {
        index: usize,
    },
    /// The request is dropped while it waits, or after it was granted and before it noticed.
    Abandon {
        index: usize,
    },
    /// Its time is over.
    GiveUp {
        index: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let amount = || prop_oneof![4 => 1..8_u64, 1 => 8..80_u64];
    prop_oneof![
        4 => (0..SENDERS, amount()).prop_map(|(sender, amount)| Op::Acquire { sender, amount }),
        2 => (any::<usize>(), amount()).prop_map(|(index, more)| Op::Grow { index, more }),
        3 => any::<usize>().prop_map(|index| Op::Release { index }),
        1 => any::<usize>().prop_map(|index| Op::Abandon { index }),
        1 => any::<usize>().prop_map(|index| Op::GiveUp { index }),
    ]
}

/// A request that waits, and for one that wants more, what it holds.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    held: Option<Permit>,
}

/// What others were granted while a sender was at its place in the queue.
#[derive(Debug)]
struct Overtaken {
    /// What each may get, and have one grant more: by how much the sender's virtual start was still to come.
    ahead: u64,
    /// All of it, and the largest grant.
    granted: BTreeMap<SenderId, (u64, u64)>,
}

#[derive(Debug)]
struct Model {
    semaphore: FairSemaphore,
    held: Vec<Permit>,
    waiting: Vec<Waiting>,
    overtaken: BTreeMap<(VirtualStart, SenderId), Overtaken>,
}

impl Model {
    fn new() -> Model {
        let (held, waiting, overtaken) = (Vec::new(), Vec::new(), BTreeMap::new());
        Model { semaphore: FairSemaphore::new(LIMIT), held, waiting, overtaken }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Acquire { sender: number, amount } => self.acquire(sender(number), amount),
            Op::Grow { index, more } if !self.held.is_empty() => self.grow(index, more),
            Op::Release { index } if !self.held.is_empty() => {
                self.held.swap_remove(index % self.held.len());
            }
            Op::Abandon { index } if !self.waiting.is_empty() => {
                self.waiting.swap_remove(index % self.waiting.len());
            }
            Op::GiveUp { index } if !self.waiting.is_empty() => {
                let mut waiting = self.waiting.swap_remove(index % self.waiting.len());
                let outcome = waiting.ticket.give_up();
                self.decided(waiting, outcome);
            }
            _ => {}
        }
        self.notice();
        self.check();
    }

    fn acquire(&mut self, id: SenderId, amount: u64) {
        let amount = amount.min(self.semaphore.0.limits.sender);
        match self.semaphore.try_enter(id, amount, 0).expect("far from every bound") {
            None => {
                let semaphore = self.semaphore.clone();
                self.held.push(Permit { semaphore, sender: id, amount });
            }
            Some(ticket) => {
                self.waiting.push(Waiting { ticket, held: None });
            }
        }
    }

    fn grow(&mut self, index: usize, more: u64) {
        let mut held = self.held.swap_remove(index % self.held.len());
        let more = more.min(self.semaphore.0.limits.sender - held.amount);
        match self
            .semaphore
            .try_enter(held.sender, more, held.amount)
            .expect("far from every bound")
        {
            None => {
                held.amount += more;
                self.held.push(held);
            }
            Some(ticket) => {
                self.waiting.push(Waiting { ticket, held: Some(held) });
            }
        }
    }

    /// Takes the answers, as the requests would, until nothing comes of it any more.
    fn notice(&mut self) {
        loop {
            let answered =
                self.waiting.iter_mut().enumerate().find_map(|(index, waiting)| {
                    Some((index, waiting.ticket.answer.try_recv().ok()?))
                });
            let Some((index, outcome)) = answered else { return };
            let mut waiting = self.waiting.swap_remove(index);
            waiting.ticket.settled = true;
            self.decided(waiting, outcome);
        }
    }

    fn decided(&mut self, mut waiting: Waiting, outcome: Result<(), NoPermit>) {
        let (sender, amount) = (waiting.ticket.sender, waiting.ticket.amount);
        if outcome.is_err() {
            return;
        }
        // Those that hold some already come to their end before every newcomer.
        let newcomer = waiting.held.is_none();
        let places = self.overtaken.iter_mut().filter(|((_, id), _)| *id != sender);
        for (_, overtaken) in places.filter(|_| newcomer) {
            let (granted, largest) = overtaken.granted.entry(sender).or_default();
            *granted += amount;
            *largest = amount.max(*largest);
        }
        let held = waiting.held.take().map(|mut held| {
            held.amount += amount;
            held
        });
        let fresh = || Permit { semaphore: self.semaphore.clone(), sender, amount };
        self.held.push(held.unwrap_or_else(fresh));
    }

    fn check(&mut self) {
        let state = self.semaphore.lock();
        let base = |waiting: &Waiting| waiting.held.as_ref().map_or(0, |held| held.amount);
        let stuck: u64 = self.waiting.iter().map(base).sum();
        let held: u64 = self.held.iter().map(|held| held.amount).sum::<u64>() + stuck;
        assert_eq!((state.held, state.stuck), (held, stuck), "nothing is lost, nothing is made");
        assert!(held <= LIMIT, "never more than the limit");
        assert_eq!(state.waiting, self.waiting.len());
        for (id, sender) in &state.senders {
            let is_idle = sender.held == 0 && sender.waiters.is_empty();
            assert!(!is_idle || !state.queue.is_empty(), "a sender is remembered in vain");
            assert!(sender.held <= self.semaphore.0.limits.sender, "one sender holds all");
            let fits =
                |first: &Waiter| sender.held + first.amount <= self.semaphore.0.limits.sender;
            let can_be_next = sender.waiters.first().is_some_and(fits);
            assert!(sender.queued.is_some() || !can_be_next, "{id:?} is forgotten");
        }
        if let Some((_, id)) = state.queue.first() {
            let first = state.senders[id].waiters.first().unwrap();
            assert!(held + first.amount > LIMIT, "enough is free, and a request waits for it");
        }
        assert!(held == 0 || held != stuck, "every request that holds some waits for more");
        self.overtaken.retain(|place, _| state.queue.contains(place));
        for place in &state.queue {
            let ahead = place.0.time - state.now;
            let unknown = || Overtaken { ahead, granted: BTreeMap::new() };
            let Overtaken { ahead, granted } = self.overtaken.entry(*place).or_insert_with(unknown);
            let most = granted.values().map(|(granted, largest)| granted - largest).max();
            assert!(most.is_none_or(|most| most <= *ahead), "{place:?} was overtaken too often");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_comes_the_semaphore_keeps_its_promises(ops in proptest::collection::vec(op(), 1..200)) {
        let mut model = Model::new();
        for op in ops {
            model.run(op);
        }
        // All requests go; nothing is left behind.
        while !model.waiting.is_empty() || !model.held.is_empty() {
            model.run(Op::Abandon { index: 0 });
            model.run(Op::Release { index: 0 });
        }
        let state = model.semaphore.lock();
        prop_assert_eq!((state.held, state.stuck, state.waiting), (0, 0, 0));
        prop_assert!(state.senders.is_empty() && state.queue.is_empty());
    }
}

#[test]
fn many_connections_and_large_requests_do_not_win() {
    let mut model = Model::new();
    model.acquire(sender(3), 56);
    model.acquire(sender(3), 8);
    // A crowd of small ones, large ones, and one that comes with one small request at a time.
    for _ in 0..300 {
        model.acquire(sender(0), 1);
        model.acquire(sender(1), 8);
    }
    let mut granted: BTreeMap<SenderId, u64> = BTreeMap::new();
    for _ in 0..200 {
        let has_come = model.held.iter().any(|held| held.sender == sender(2))
            || model.waiting.iter().any(|waiting| waiting.ticket.sender == sender(2));
        if !has_come {
            model.acquire(sender(2), 1);
        }
        let released = model.held.remove(0);
        *granted.entry(released.sender).or_default() += released.amount;
        drop(released);
        model.notice();
        model.check();
    }
    let (crowd, large) = (granted[&sender(0)], granted[&sender(1)]);
    assert!(crowd * 3 > large * 2 && large * 3 > crowd * 2, "by bytes: {granted:?}");
    assert!(granted[&sender(2)] >= 3, "the small one is not starved: {granted:?}");
}

/// They hold nothing in between, and are not forgotten all the same.
#[test]
fn senders_with_one_request_at_a_time_do_not_let_another_wait_for_ever() {
    let mut model = Model::new();
    model.acquire(sender(0), 8);
    model.acquire(sender(0), 48);
    model.acquire(sender(1), 28);
    model.acquire(sender(1), 20);
    model.acquire(sender(2), 28);
    model.held.remove(1);
    model.notice();
    model.acquire(sender(3), 28);
    let mut grants = 0;
    while model.waiting.iter().any(|waiting| waiting.ticket.sender == sender(1)) {
        let others = [sender(2), sender(3)];
        let index = model.held.iter().position(|held| others.contains(&held.sender)).unwrap();
        let released = model.held.remove(index).sender;
        model.notice();
        model.acquire(released, 28);
        model.check();
        grants += 1;
        assert!(grants < 10, "it waits for ever");
    }
}

#[tokio::test(start_paused = true)]
async fn one_sender_leaves_some_for_others_whatever_it_does() {
    let semaphore = FairSemaphore::new(80);
    let mut greedy = Vec::new();
    while let Ok(held) = semaphore.acquire(sender(1), 10, Duration::from_millis(1)).await {
        greedy.push(held);
    }
    assert_eq!(semaphore.held(), 70);
    let other = semaphore.acquire(sender(2), 10, Duration::ZERO).await;
    assert!(other.is_ok(), "at once, though the first one waits for more");
    assert_eq!(semaphore.acquire(sender(3), 1, LONG).await.unwrap_err(), NoPermit::Full);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_time_and_leaves_nothing_behind() {
    let semaphore = FairSemaphore::new(10);
    let (one, two) = (sender(1), sender(2));
    let held = semaphore.acquire(one, 8, LONG).await.unwrap();
    let started = tokio::time::Instant::now();
    let refused = semaphore.acquire(two, 5, Duration::from_secs(2)).await;
    assert_eq!((refused.unwrap_err(), started.elapsed().as_secs()), (NoPermit::Full, 2));
    {
        // Dropped while it waits.
        let waiting = semaphore.acquire(two, 5, LONG);
        assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    }
    drop(held);
    assert_eq!(semaphore.held(), 0);
    assert!(semaphore.lock().senders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_races_with_the_end_of_a_wait_is_not_lost() {
    let semaphore = FairSemaphore::new(10);
    let held = semaphore.acquire(sender(1), 9, LONG).await.unwrap();
    let wanted = semaphore.try_enter(sender(2), 5, 0).unwrap().unwrap();
    let abandoned = semaphore.try_enter(sender(3), 5, 0).unwrap().unwrap();
    drop(held);
    assert_eq!(semaphore.held(), 10, "both are granted, and know nothing of it");
    let mut wanted = wanted;
    assert_eq!(wanted.give_up(), Ok(()), "what was granted at the last moment counts");
    drop(abandoned);
    assert_eq!(semaphore.held(), 5, "what no request takes is given back");
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_all_that_wait() {
    let semaphore = FairSemaphore::new(20);
    let mut held = semaphore.acquire(sender(1), 16, LONG).await.unwrap();
    let closer = async { semaphore.close() };
    let (other, more, ()) =
        tokio::join!(semaphore.acquire(sender(2), 5, LONG), held.grow(1, LONG), closer);
    assert_eq!(other.unwrap_err(), NoPermit::Closed);
    assert_eq!(more, Ok(()), "that fitted, and came before");
    assert_eq!(held.grow(1, LONG).await, Err(NoPermit::Closed));
    drop(held);
    assert!(semaphore.lock().senders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_holds_all_that_it_may_does_not_wait_for_more() {
    let semaphore = FairSemaphore::new(80);
    let mut held = semaphore.acquire(sender(1), 70, LONG).await.unwrap();
    let _waiting = semaphore.try_enter(sender(2), 20, 0).unwrap().unwrap();
    assert_eq!(held.grow(10, Duration::ZERO).await, Ok(()));
    assert_eq!(semaphore.held(), 70);
}

#[tokio::test(start_paused = true)]
async fn requests_that_all_hold_a_part_and_want_more_do_not_wait_for_each_other() {
    let semaphore = FairSemaphore::new(80);
    let mut halves = Vec::new();
    for number in 1..=4 {
        halves.push(semaphore.acquire(sender(number), 20, LONG).await.unwrap());
    }
    let started = tokio::time::Instant::now();
    let growing = halves.into_iter().map(|mut half| async move {
        let outcome = half.grow(20, LONG).await;
        // A request that gets it works for a while and ends; one that does not ends at once.
        if outcome.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        outcome
    });
    let outcomes = futures::future::join_all(growing).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");
    assert_eq!(outcomes[3], Err(NoPermit::Full), "the newest is refused");
    assert!(started.elapsed() < Duration::from_secs(1), "none waits in vain");
    assert_eq!(semaphore.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn waiters_are_bounded_and_a_crowd_makes_way() {
    let semaphore = FairSemaphore::new(10);
    let _held = semaphore.acquire(sender(0), 8, LONG).await.unwrap();
    let mut crowd = Vec::new();
    for number in 1..=4 {
        for _ in 0..WAITERS_OF_SENDER_MAX {
            crowd.push(semaphore.try_enter(sender(number), 5, 0).unwrap().unwrap());
        }
        assert_eq!(semaphore.try_enter(sender(number), 5, 0).unwrap_err(), NoPermit::Full);
    }
    assert_eq!(semaphore.lock().waiting, WAITERS_MAX);
    let late = semaphore.try_enter(sender(9), 5, 0).unwrap();
    assert!(late.is_some(), "who has none waiting may wait");
    let refused = crowd.iter_mut().filter_map(|ticket| ticket.answer.try_recv().ok());
    assert_eq!(refused.collect::<Vec<_>>(), [Err(NoPermit::Full)], "one of the crowd made way");
    assert_eq!(semaphore.lock().waiting, WAITERS_MAX);
}
