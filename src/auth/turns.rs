//! Turns at what is dear, such as computing hashes: few at a time, so that they take a share of the cores (or of the
//! connections to PostgreSQL) and no more, and handed out fairly.
//!
//! Who waits is ordered by where they come from: places take turns, however many each of them sends, and every other turn is
//! for somebody at home. When the queue is full, whoever has most in it loses the newest of theirs to a newcomer who has
//! less; a stranger makes room for somebody at home. So neither a flood from one place nor one from many keeps those out
//! whom the gateway knows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::auth::homes::{Place, Standing};

/// Most that wait at a time.
pub const WAITING_MAX: usize = 128;
/// Longest wait for a turn at a hash.
pub const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// The queue; clones are the same.
#[derive(Debug, Clone)]
pub struct Turns {
    queue: Arc<Mutex<Queue>>,
    wait_max: Duration,
}

/// Who waits, as far as fairness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub place: Place,
    pub standing: Standing,
}

/// Too many wait; come back after the longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A turn; dropping it hands it on.
#[derive(Debug)]
pub struct Turn(Turns);

#[derive(Debug)]
struct Queue {
    at_once_max: usize,
    running: usize,
    // Invariant: each holder has one line at most, and no line is empty. The front is next.
    lines: VecDeque<Line>,
    /// Whose turn the latest was.
    latest: Standing,
    next_number: u64,
}

#[derive(Debug)]
struct Line {
    holder: Holder,
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
    turns: Turns,
    number: u64,
    granted: oneshot::Receiver<()>,
}

impl Turns {
    pub fn new(at_once_max: usize, wait_max: Duration) -> Turns {
        let queue = Queue {
            at_once_max,
            running: 0,
            lines: VecDeque::new(),
            latest: Standing::New,
            next_number: 0,
        };
        Turns { queue: Arc::new(Mutex::new(queue)), wait_max }
    }

    /// Waits for a turn, at most `wait_max`.
    pub async fn take(&self, holder: Holder) -> Result<Turn, Busy> {
        let mut waiting = {
            let mut queue = self.lock();
            if queue.running < queue.at_once_max {
                queue.running += 1;
                return Ok(Turn(self.clone()));
            }
            let (number, granted) = queue.join(holder)?;
            Waiting { turns: self.clone(), number, granted }
        };
        match tokio::time::timeout(self.wait_max, &mut waiting.granted).await {
            Ok(Ok(())) => Ok(Turn(self.clone())),
            // It lost its place to somebody else, or waited too long.
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().hand_on();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queue = self.turns.lock();
        queue.leave(self.number);
        // The turn came and was not taken. After one that was taken there is nothing more to receive.
        if let Ok(()) = self.granted.try_recv() {
            queue.hand_on();
        }
    }
}

impl Queue {
    fn join(&mut self, holder: Holder) -> Result<(u64, oneshot::Receiver<()>), Busy> {
        if self.waiting() >= WAITING_MAX {
            self.make_room_for(holder)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { number, grant };
        match self.lines.iter_mut().find(|line| line.holder == holder) {
            Some(line) => line.waiters.push_back(waiter),
            None => self.lines.push_back(Line { holder, waiters: VecDeque::from([waiter]) }),
        }
        Ok((number, granted))
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiters.len()).sum()
    }

    /// Takes the newest of the longest line away, unless that line is no longer than the newcomer's would be.
    fn make_room_for(&mut self, holder: Holder) -> Result<(), Busy> {
        let is_at_home = holder.standing == Standing::AtHome;
        let own = self.lines.iter().find(|line| line.holder == holder);
        let own = own.map_or(0, |line| line.waiters.len());
        let strangers_first = |line: &&mut Line| {
            let yields = is_at_home && line.holder.standing == Standing::New;
            (yields, line.waiters.len())
        };
        let longest = self.lines.iter_mut().max_by_key(strangers_first).ok_or(Busy)?;
        let yields = is_at_home && longest.holder.standing == Standing::New;
        if !yields && longest.waiters.len() <= own + 1 {
            return Err(Busy);
        }
        longest.waiters.pop_back();
        self.lines.retain(|line| !line.waiters.is_empty());
        Ok(())
    }

    fn leave(&mut self, number: u64) {
        for line in &mut self.lines {
            line.waiters.retain(|waiter| waiter.number != number);
        }
        self.lines.retain(|line| !line.waiters.is_empty());
    }

    /// The line whose turn it is.
    fn next_line(&mut self) -> Option<Line> {
        let wanted = match self.latest {
            Standing::AtHome => Standing::New,
            Standing::New => Standing::AtHome,
        };
        let index = self.lines.iter().position(|line| line.holder.standing == wanted);
        self.lines.remove(index.unwrap_or(0))
    }

    /// A turn is over: the next line has it, and goes to the back.
    fn hand_on(&mut self) {
        while let Some(mut line) = self.next_line() {
            self.latest = line.holder.standing;
            let next = line.waiters.pop_front();
            if !line.waiters.is_empty() {
                self.lines.push_back(line);
            }
            if next.is_some_and(|waiter| waiter.grant.send(()).is_ok()) {
                return;
            }
        }
        self.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asking = Pin<Box<dyn Future<Output = Result<Turn, Busy>>>>;

    fn holder(number: u32, standing: Standing) -> Holder {
        Holder { place: Place::Address(std::net::IpAddr::V4(number.into())), standing }
    }

    fn stranger(number: u32) -> Holder {
        holder(number, Standing::New)
    }

    /// Asks for a turn, as far as that goes without waiting.
    fn ask(turns: &Turns, holder: Holder) -> Asking {
        let turns = turns.clone();
        Box::pin(async move { turns.take(holder).await })
    }

    fn poll(asking: &mut Asking) -> Poll<Result<Turn, Busy>> {
        asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn waits(turns: &Turns, holder: Holder) -> Asking {
        let mut asking = ask(turns, holder);
        assert!(poll(&mut asking).is_pending());
        asking
    }

    fn has_turn(asking: &mut Asking) -> Option<Turn> {
        match poll(asking) {
            Poll::Ready(Ok(turn)) => Some(turn),
            _ => None,
        }
    }

    fn is_refused(asking: &mut Asking) -> bool {
        matches!(poll(asking), Poll::Ready(Err(Busy)))
    }

    #[tokio::test]
    async fn places_take_turns_however_many_each_sends() {
        let turns = Turns::new(1, TURN_WAIT_MAX);
        let running = turns.take(stranger(1)).await.unwrap();
        let mut flood: Vec<Asking> = (0..90).map(|_| waits(&turns, stranger(1))).collect();
        let mut honest = waits(&turns, stranger(2));
        drop(running);
        let first = has_turn(&mut flood[0]).expect("it came first");
        assert!(has_turn(&mut honest).is_none(), "one at a time");
        drop(first);
        assert!(has_turn(&mut honest).is_some(), "the second turn is the other place's");
        assert!(has_turn(&mut flood[1]).is_some(), "a turn that was dropped is handed on");
    }

    #[tokio::test]
    async fn a_full_queue_makes_room_for_who_has_less_in_it() {
        let turns = Turns::new(1, TURN_WAIT_MAX);
        let _running = turns.take(stranger(1)).await.unwrap();
        let mut flood: Vec<Asking> = (0..WAITING_MAX).map(|_| waits(&turns, stranger(1))).collect();
        assert!(is_refused(&mut ask(&turns, stranger(1))), "its own place is full");
        let _honest = waits(&turns, stranger(2));
        assert!(
            is_refused(flood.last_mut().unwrap()),
            "the newest of the longest line lost its place"
        );
        assert!(poll(&mut flood[0]).is_pending());
        assert_eq!(turns.lock().waiting(), WAITING_MAX);
    }

    #[tokio::test]
    async fn among_as_many_places_as_fit_who_is_at_home_goes_first() {
        let turns = Turns::new(1, TURN_WAIT_MAX);
        let _running = turns.take(stranger(0)).await.unwrap();
        let many = u32::try_from(WAITING_MAX).unwrap();
        let strangers: Vec<Asking> =
            (0..many).map(|number| waits(&turns, stranger(number))).collect();
        assert!(is_refused(&mut ask(&turns, stranger(many))));
        let _at_home = waits(&turns, holder(many, Standing::AtHome));
        assert_eq!(turns.lock().waiting(), WAITING_MAX);
        drop(strangers);
        assert_eq!(turns.lock().waiting(), 1, "who leaves makes room");
    }

    #[tokio::test]
    async fn every_other_turn_is_for_somebody_at_home() {
        let turns = Turns::new(1, TURN_WAIT_MAX);
        let mut running = turns.take(stranger(0)).await.unwrap();
        let mut strangers: Vec<Asking> = (1..5).map(|it| waits(&turns, stranger(it))).collect();
        let at_home = |it| waits(&turns, holder(it, Standing::AtHome));
        let mut at_home: Vec<Asking> = (5..9).map(at_home).collect();
        for (known, stranger) in at_home.iter_mut().zip(&mut strangers) {
            drop(running);
            let turn = has_turn(known).expect("somebody at home is next");
            drop(turn);
            running = has_turn(stranger).expect("a stranger is next");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_and_no_turn_is_lost() {
        let turns = Turns::new(1, TURN_WAIT_MAX);
        let running = turns.take(stranger(1)).await.unwrap();
        assert_eq!(turns.take(stranger(1)).await.unwrap_err(), Busy, "after TURN_WAIT_MAX");
        let gone = waits(&turns, stranger(1));
        drop(running);
        // Granted, and hung up before it knew.
        drop(gone);
        assert_eq!(turns.lock().running, 0);
        assert!(turns.take(stranger(2)).await.is_ok());
    }
}
