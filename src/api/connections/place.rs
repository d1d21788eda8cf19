//! One connection's place: what it is doing, and since when.
//!
//! Its own task says so with a single atomic operation; the search for the least useful connection reads it. A place that was
//! taken away takes no request any more: of the two exactly one wins.

use std::any::Any;
use std::future::pending;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::client_address::ClientAddress;
use super::phase::{AtomicDoing, Doing, Phase, SINCE_MAX};

/// Longest time from the connection to its first whole head, and from the first byte of a later head to its end.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// Longest time between a reply and the next request.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// A reply counts as unread when nothing of it was taken for so long.
pub(super) const UNREAD_MIN: Duration = Duration::from_secs(1);
/// For so long a silent connection is a newcomer, whose head is on its way.
const NEWCOMER_MAX: Duration = Duration::from_secs(1);

/// What a place keeps for a request and does not look into.
type Visit = Option<Box<dyn Any + Send>>;

/// How little a connection is worth; the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    Silent,
    Unread,
    Asking,
    Idle,
    Newcomer,
}

/// A place; see the module.
#[derive(Debug)]
pub struct Place {
    pub(super) number: u64,
    /// The other end of the connection.
    peer: IpAddr,
    pub(super) group: IpAddr,
    /// A proxy that is trusted, which has many clients behind it.
    is_proxy: bool,
    /// Times are milliseconds since then.
    epoch: Instant,
    doing: AtomicDoing,
    /// Since when the peer has taken nothing of what is written to it; 0: it takes what comes.
    unread_since: AtomicU64,
    /// It was authenticated who sent the request under way.
    is_caller_known: AtomicBool,
    /// Of the body of the last request something is still to come.
    owes_body: AtomicBool,
    task: OnceLock<AbortHandle>,
    /// What counts the request under way for the client behind a proxy; it ends with it.
    visit: Mutex<Visit>,
}

impl Place {
    pub(super) fn new(number: u64, peer: IpAddr, is_proxy: bool, epoch: Instant) -> Place {
        Place {
            number,
            peer,
            group: ClientAddress(peer).group(),
            is_proxy,
            epoch,
            doing: AtomicDoing::new(Doing::new(Phase::Silent, millis(epoch, Instant::now()))),
            unread_since: AtomicU64::new(0),
            is_caller_known: AtomicBool::new(false),
            owes_body: AtomicBool::new(false),
            task: OnceLock::new(),
            visit: Mutex::default(),
        }
    }

    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// What limits by address go by.
    pub fn group(&self) -> IpAddr {
        self.group
    }

    pub fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// Says which task serves it.
    pub fn serve_by(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// A whole head is there. False: the place was taken away, and the request is not to be touched.
    pub fn begin_request(&self) -> bool {
        self.begin(Phase::Busy, |since| since)
    }

    /// A whole head is there, and the body is waited for before its sender is authenticated. False: as above.
    pub fn begin_asking(&self) -> bool {
        self.phase() == Phase::Asking || self.begin(Phase::Asking, |_| self.millis(Instant::now()))
    }

    fn begin(&self, to: Phase, since: impl Fn(u64) -> u64) -> bool {
        let mut seen = self.doing.load();
        while seen.phase() != Phase::Dropped {
            match self.doing.change(seen, Doing::new(to, since(seen.since()))) {
                Ok(()) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The sender of the request under way was authenticated.
    pub fn know_caller(&self) {
        self.is_caller_known.store(true, Ordering::Relaxed);
    }

    pub fn is_caller_known(&self) -> bool {
        self.is_caller_known.load(Ordering::Relaxed)
    }

    pub fn set_owes_body(&self, owes_body: bool) {
        self.owes_body.store(owes_body, Ordering::Relaxed);
    }

    pub fn owes_body(&self) -> bool {
        self.owes_body.load(Ordering::Relaxed)
    }

    /// Waits for what the request under way still lacks. Unless its caller is known, the place may be taken away meanwhile;
    /// then the wait has no end, and the task ends in it.
    pub async fn asking<T>(&self, rest: impl Future<Output = T>) -> T {
        if self.is_caller_known() {
            return rest.await;
        }
        self.shift(Phase::Busy, Phase::Asking, Instant::now());
        let rest = rest.await;
        self.shift(Phase::Asking, Phase::Busy, self.epoch);
        if self.phase() == Phase::Dropped {
            pending::<()>().await;
        }
        rest
    }

    /// The reply is made.
    pub fn end_request(&self) {
        for phase in [Phase::Busy, Phase::Asking, Phase::Monitor] {
            self.shift(phase, Phase::Answered, self.epoch);
        }
        self.is_caller_known.store(false, Ordering::Relaxed);
        if self.is_proxy {
            *self.visit() = None;
        }
    }

    /// What was made has left; the next request may take its time.
    pub fn flushed(&self, now: Instant) {
        self.shift(Phase::Answered, Phase::Idle, now);
    }

    /// The reply is made and has left.
    pub fn answered(&self, now: Instant) {
        self.shift(Phase::Busy, Phase::Idle, now);
    }

    /// Counts the request under way for its client, until it ends.
    pub fn bear(&self, visit: impl Send + 'static) {
        *self.visit() = Some(Box::new(visit));
    }

    /// Bytes came that are not a whole head yet.
    pub fn begin_head(&self, now: impl FnOnce() -> Instant) {
        if self.phase() == Phase::Idle {
            self.shift(Phase::Idle, Phase::Begun, now());
        }
    }

    /// What is answered is a monitor.
    pub fn begin_monitor(&self) {
        self.shift(Phase::Busy, Phase::Monitor, self.epoch);
    }

    /// Until when a head is waited for; `None` while a request is under way, or its reply.
    pub fn head_deadline(&self) -> Option<Instant> {
        if self.unread_since.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let doing = self.doing.load();
        let longest = match doing.phase() {
            Phase::Silent | Phase::Begun => HEAD_MAX,
            Phase::Idle => IDLE_MAX,
            _ => return None,
        };
        Some(self.epoch + Duration::from_millis(doing.since()) + longest)
    }

    pub fn phase(&self) -> Phase {
        self.doing.load().phase()
    }

    /// The peer takes nothing at the moment.
    pub(super) fn unread(&self, now: Instant) {
        self.unread_since.store(self.millis(now).max(1), Ordering::Relaxed);
    }

    /// The peer has taken everything.
    pub(super) fn read(&self) {
        self.unread_since.store(0, Ordering::Relaxed);
    }

    /// Has the peer taken nothing for so long?
    pub(super) fn is_unread(&self, now: Instant, for_at_least: Duration) -> bool {
        let since = self.unread_since.load(Ordering::Relaxed);
        since > 0 && self.has_lasted(since, now) >= for_at_least
    }

    /// What it is worth and what it was seen doing; `None` if it is not to be dropped.
    pub(super) fn worth(&self, now: Instant) -> Option<(Worth, Doing)> {
        let doing = self.doing.load();
        let worth = match doing.phase() {
            Phase::Silent if self.has_lasted(doing.since(), now) < NEWCOMER_MAX => Worth::Newcomer,
            Phase::Silent => Worth::Silent,
            Phase::Asking => Worth::Asking,
            Phase::Idle | Phase::Begun => Worth::Idle,
            Phase::Busy | Phase::Answered if self.is_unread(now, UNREAD_MIN) => Worth::Unread,
            _ => return None,
        };
        Some((worth, doing))
    }

    /// Ends the connection if it still does what it was seen doing.
    pub(super) fn take_away(&self, seen: Doing) -> bool {
        let taken = self.doing.change(seen, Doing::new(Phase::Dropped, 0)).is_ok();
        if taken {
            self.end();
        }
        taken
    }

    /// Ends the connection, whatever it does.
    pub(super) fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    fn visit(&self) -> MutexGuard<'_, Visit> {
        self.visit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shift(&self, from: Phase, to: Phase, now: Instant) {
        let seen = self.doing.load();
        if seen.phase() == from {
            // Where the place was taken away in between, it stays so.
            let _ = self.doing.change(seen, Doing::new(to, self.millis(now)));
        }
    }

    fn has_lasted(&self, since: u64, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(since))
    }

    fn millis(&self, at: Instant) -> u64 {
        millis(self.epoch, at)
    }
}

fn millis(epoch: Instant, at: Instant) -> u64 {
    let since = at.saturating_duration_since(epoch);
    u64::try_from(since.as_millis()).unwrap_or(SINCE_MAX).min(SINCE_MAX)
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;
    use crate::api::connections::testing::connections;
    use crate::api::connections::{Connections, Occupied};

    fn phases(places: &[&Occupied]) -> Vec<Phase> {
        places.iter().map(|occupied| occupied.place().phase()).collect()
    }

    fn busy(connections: &Connections) -> Occupied {
        let occupied = connections.take("192.0.2.1");
        assert!(occupied.place().begin_request());
        occupied
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_unknown_and_owes_a_body_makes_room_and_is_not_answered() {
        let connections = connections(4, 4);
        let (known, unknown, fast) =
            (busy(&connections), busy(&connections), connections.take("192.0.2.1"));
        let idle = busy(&connections);
        idle.place().answered(Instant::now());
        known.place().know_caller();
        let (mut bodies, mut waits) = (Vec::new(), Vec::new());
        for occupied in [&known, &unknown] {
            let (body, rest) = oneshot::channel::<()>();
            let mut wait = Box::pin(occupied.place().asking(rest));
            assert!(poll!(&mut wait).is_pending());
            bodies.push(body);
            waits.push(wait);
        }
        tokio::time::advance(NEWCOMER_MAX).await;
        assert!(fast.place().begin_asking() && fast.place().begin_asking());
        let all = [&known, &unknown, &fast, &idle];
        assert_eq!(phases(&all), [Phase::Busy, Phase::Asking, Phase::Asking, Phase::Idle]);

        let mut new = Vec::new();
        for dropped in [&unknown, &fast, &idle] {
            let next = connections.take("192.0.2.2");
            assert!(next.place().begin_request());
            new.push(next);
            assert_eq!(phases(&[dropped]), [Phase::Dropped]);
        }
        assert!(!fast.place().begin_request(), "what came is not touched");
        assert_eq!(phases(&[&known]), [Phase::Busy]);
        // The bodies come after all.
        for body in bodies {
            body.send(()).unwrap();
        }
        let [known_wait, unknown_wait] = &mut waits[..] else { panic!("there are two") };
        assert!(poll!(known_wait).is_ready());
        assert!(poll!(unknown_wait).is_pending(), "its request goes on no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_came_makes_the_request_one_under_way() {
        let connections = connections(2, 2);
        let occupied = busy(&connections);
        occupied.place().asking(async { assert_eq!(phases(&[&occupied]), [Phase::Asking]) }).await;
        assert_eq!(phases(&[&occupied]), [Phase::Busy]);
        occupied.place().know_caller();
        occupied.place().end_request();
        assert!(!occupied.place().is_caller_known(), "the next request has a caller of its own");
        assert_eq!(phases(&[&occupied]), [Phase::Answered]);
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_go_last() {
        let connections = connections(3, 3);
        let silent = connections.take("192.0.2.1");
        tokio::time::advance(NEWCOMER_MAX).await;
        let idle = busy(&connections);
        idle.place().answered(Instant::now());
        let newcomer = connections.take("192.0.2.1");
        let mut new = Vec::new();
        for dropped in [&silent, &idle, &newcomer] {
            let next = connections.take("192.0.2.2");
            assert_eq!(phases(&[dropped]), [Phase::Dropped]);
            assert!(next.place().begin_request());
            new.push(next);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_does_not_wait_for_bodies_of_unknown_senders() {
        let connections = connections(2, 2);
        let (asking, under_way) = (connections.take("192.0.2.1"), busy(&connections));
        assert!(asking.place().begin_asking());
        let tasks = [&asking, &under_way].map(|occupied| {
            let mut tasks = tokio::task::JoinSet::new();
            occupied.place().serve_by(tasks.spawn(pending::<()>()));
            tasks
        });
        let since = Instant::now();
        connections.end_useless(since);
        tokio::time::advance(2 * NEWCOMER_MAX).await;
        connections.end_useless(since);
        let [mut asking, mut under_way] = tasks;
        assert!(asking.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert!(under_way.try_join_next().is_none());
    }
}
