//! A fair queue for work that costs much, such as computing hashes: few permits, so that such work takes a share of the
//! cores (or of the connections to PostgreSQL) and no more, handed out round-robin.
//!
//! Requests of one place and standing are a flow, and flows are served in turn, however many requests each of them sends;
//! every other permit is for an account that is at home. When the queue is full, the longest flow loses its newest request
//! to a newcomer of a shorter one, and a flow that is new makes room for one that is at home. So neither a flood from one
//! place nor one from many keeps out the people that the gateway knows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::auth::homes::{Place, Standing};

/// Most that wait at a time.
pub const WAITING_MAX: usize = 128;
/// Longest wait for a permit to compute a hash.
pub const HASH_WAIT_MAX: Duration = Duration::from_secs(5);

/// The queue and its permits; clones are the same.
#[derive(Debug, Clone)]
pub struct FairQueue {
    state: Arc<Mutex<State>>,
    wait_max: Duration,
}

/// What the queue is fair between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub place: Place,
    pub standing: Standing,
}

/// No permit within the longest wait, or no place in the queue; come back after the longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPermit;

/// The right to do the work; dropping it hands it on.
#[derive(Debug)]
pub struct QueuePermit(FairQueue);

#[derive(Debug)]
struct State {
    permits_max: usize,
    permits_out: usize,
    // Invariant: each flow has one backlog at most, and no backlog is empty. The front is next.
    backlogs: VecDeque<Backlog>,
    /// Standing of the flow that was served last.
    latest: Standing,
    next_number: u64,
}

#[derive(Debug)]
struct Backlog {
    flow: Flow,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    grant: oneshot::Sender<()>,
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
struct Waiting {
    queue: FairQueue,
    number: u64,
    granted: oneshot::Receiver<()>,
}

impl FairQueue {
    pub fn new(permits_max: usize, wait_max: Duration) -> FairQueue {
        let state = State {
            permits_max,
            permits_out: 0,
            backlogs: VecDeque::new(),
            latest: Standing::New,
            next_number: 0,
        };
        FairQueue { state: Arc::new(Mutex::new(state)), wait_max }
    }

    /// Waits for a permit, at most `wait_max`.
    pub async fn acquire(&self, flow: Flow) -> Result<QueuePermit, NoPermit> {
        let mut waiting = {
            let mut state = self.lock();
            if state.permits_out < state.permits_max {
                state.permits_out += 1;
                return Ok(QueuePermit(self.clone()));
            }
            let (number, granted) = state.join(flow)?;
            Waiting { queue: self.clone(), number, granted }
        };
        match tokio::time::timeout(self.wait_max, &mut waiting.granted).await {
            Ok(Ok(())) => Ok(QueuePermit(self.clone())),
            // It lost its place to another flow, or waited too long.
            Ok(Err(_)) | Err(_) => Err(NoPermit),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.0.lock().hand_on();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.leave(self.number);
        // The permit came and was not taken. After one that was taken there is nothing more to receive.
        if let Ok(()) = self.granted.try_recv() {
            state.hand_on();
        }
    }
}

impl State {
    fn join(&mut self, flow: Flow) -> Result<(u64, oneshot::Receiver<()>), NoPermit> {
        if self.waiting() >= WAITING_MAX {
            self.make_room_for(flow)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { number, grant };
        match self.backlogs.iter_mut().find(|backlog| backlog.flow == flow) {
            Some(backlog) => backlog.waiters.push_back(waiter),
            None => self.backlogs.push_back(Backlog { flow, waiters: VecDeque::from([waiter]) }),
        }
        Ok((number, granted))
    }

    fn waiting(&self) -> usize {
        self.backlogs.iter().map(|backlog| backlog.waiters.len()).sum()
    }

    /// Takes the newest of the longest backlog away, unless that is no longer than the newcomer's would be.
    fn make_room_for(&mut self, flow: Flow) -> Result<(), NoPermit> {
        let is_at_home = flow.standing == Standing::AtHome;
        let own = self.backlogs.iter().find(|backlog| backlog.flow == flow);
        let own = own.map_or(0, |backlog| backlog.waiters.len());
        let new_first = |backlog: &&mut Backlog| {
            let yields = is_at_home && backlog.flow.standing == Standing::New;
            (yields, backlog.waiters.len())
        };
        let longest = self.backlogs.iter_mut().max_by_key(new_first).ok_or(NoPermit)?;
        let yields = is_at_home && longest.flow.standing == Standing::New;
        if !yields && longest.waiters.len() <= own + 1 {
            return Err(NoPermit);
        }
        longest.waiters.pop_back();
        self.backlogs.retain(|backlog| !backlog.waiters.is_empty());
        Ok(())
    }

    fn leave(&mut self, number: u64) {
        for backlog in &mut self.backlogs {
            backlog.waiters.retain(|waiter| waiter.number != number);
        }
        self.backlogs.retain(|backlog| !backlog.waiters.is_empty());
    }

    /// The backlog to serve: of the other standing than the latest, where there is one.
    fn next_backlog(&mut self) -> Option<Backlog> {
        let wanted = match self.latest {
            Standing::AtHome => Standing::New,
            Standing::New => Standing::AtHome,
        };
        let index = self.backlogs.iter().position(|backlog| backlog.flow.standing == wanted);
        self.backlogs.remove(index.unwrap_or(0))
    }

    /// A permit came back: the next backlog has it, and goes to the back.
    fn hand_on(&mut self) {
        while let Some(mut backlog) = self.next_backlog() {
            self.latest = backlog.flow.standing;
            let next = backlog.waiters.pop_front();
            if !backlog.waiters.is_empty() {
                self.backlogs.push_back(backlog);
            }
            if next.is_some_and(|waiter| waiter.grant.send(()).is_ok()) {
                return;
            }
        }
        self.permits_out -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asking = Pin<Box<dyn Future<Output = Result<QueuePermit, NoPermit>>>>;

    fn flow(number: u32, standing: Standing) -> Flow {
        Flow { place: Place::Address(std::net::IpAddr::V4(number.into())), standing }
    }

    fn stranger(number: u32) -> Flow {
        flow(number, Standing::New)
    }

    /// Asks for a permit, as far as that goes without waiting.
    fn ask(queue: &FairQueue, flow: Flow) -> Asking {
        let queue = queue.clone();
        Box::pin(async move { queue.acquire(flow).await })
    }

    fn poll(asking: &mut Asking) -> Poll<Result<QueuePermit, NoPermit>> {
        asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn waits(queue: &FairQueue, flow: Flow) -> Asking {
        let mut asking = ask(queue, flow);
        assert!(poll(&mut asking).is_pending());
        asking
    }

    fn permit_of(asking: &mut Asking) -> Option<QueuePermit> {
        match poll(asking) {
            Poll::Ready(Ok(permit)) => Some(permit),
            _ => None,
        }
    }

    fn is_refused(asking: &mut Asking) -> bool {
        matches!(poll(asking), Poll::Ready(Err(NoPermit)))
    }

    #[tokio::test]
    async fn places_are_served_in_turn_however_many_each_sends() {
        let queue = FairQueue::new(1, HASH_WAIT_MAX);
        let running = queue.acquire(stranger(1)).await.unwrap();
        let mut flood: Vec<Asking> = (0..90).map(|_| waits(&queue, stranger(1))).collect();
        let mut honest = waits(&queue, stranger(2));
        drop(running);
        let first = permit_of(&mut flood[0]).expect("it came first");
        assert!(permit_of(&mut honest).is_none(), "one at a time");
        drop(first);
        assert!(permit_of(&mut honest).is_some(), "the second permit is the other place's");
        assert!(permit_of(&mut flood[1]).is_some(), "a permit that was dropped is handed on");
    }

    #[tokio::test]
    async fn a_full_queue_makes_room_for_a_flow_that_has_less_in_it() {
        let queue = FairQueue::new(1, HASH_WAIT_MAX);
        let _running = queue.acquire(stranger(1)).await.unwrap();
        let mut flood: Vec<Asking> = (0..WAITING_MAX).map(|_| waits(&queue, stranger(1))).collect();
        assert!(is_refused(&mut ask(&queue, stranger(1))), "its own place is full");
        let _honest = waits(&queue, stranger(2));
        assert!(
            is_refused(flood.last_mut().unwrap()),
            "the newest of the longest backlog lost its place"
        );
        assert!(poll(&mut flood[0]).is_pending());
        assert_eq!(queue.lock().waiting(), WAITING_MAX);
    }

    #[tokio::test]
    async fn among_as_many_places_as_fit_the_one_at_home_goes_first() {
        let queue = FairQueue::new(1, HASH_WAIT_MAX);
        let _running = queue.acquire(stranger(0)).await.unwrap();
        let many = u32::try_from(WAITING_MAX).unwrap();
        let strangers: Vec<Asking> =
            (0..many).map(|number| waits(&queue, stranger(number))).collect();
        assert!(is_refused(&mut ask(&queue, stranger(many))));
        let _at_home = waits(&queue, flow(many, Standing::AtHome));
        assert_eq!(queue.lock().waiting(), WAITING_MAX);
        drop(strangers);
        assert_eq!(queue.lock().waiting(), 1, "one that leaves makes room");
    }

    #[tokio::test]
    async fn every_other_permit_is_for_an_account_at_home() {
        let queue = FairQueue::new(1, HASH_WAIT_MAX);
        let mut running = queue.acquire(stranger(0)).await.unwrap();
        let mut strangers: Vec<Asking> = (1..5).map(|it| waits(&queue, stranger(it))).collect();
        let at_home = |it| waits(&queue, flow(it, Standing::AtHome));
        let mut at_home: Vec<Asking> = (5..9).map(at_home).collect();
        for (known, stranger) in at_home.iter_mut().zip(&mut strangers) {
            drop(running);
            let permit = permit_of(known).expect("one that is at home is next");
            drop(permit);
            running = permit_of(stranger).expect("a stranger is next");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_long_and_no_permit_is_lost() {
        let queue = FairQueue::new(1, HASH_WAIT_MAX);
        let running = queue.acquire(stranger(1)).await.unwrap();
        assert_eq!(queue.acquire(stranger(1)).await.unwrap_err(), NoPermit, "after HASH_WAIT_MAX");
        let gone = waits(&queue, stranger(1));
        drop(running);
        // Granted, and hung up before it knew.
        drop(gone);
        assert_eq!(queue.lock().permits_out, 0);
        assert!(queue.acquire(stranger(2)).await.is_ok());
    }
}
