//! One connection's place: what it is doing, and since when.
//!
//! Its own task says so with a single atomic operation, and whoever looks for the least useful connection reads it. A
//! place that was taken away takes no request any more: between the two exactly one wins.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{UNREAD_MIN, Visit};

/// Longest time from the connection to its first whole head, and from the first byte of a later head to its end.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// Longest time between a reply and the next request.
pub const IDLE_MAX: Duration = Duration::from_secs(30);

const PHASE_BITS: u32 = 3;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// It never sent a whole head.
    Silent = 0,
    /// A request is under way.
    Busy = 1,
    /// It was answered, and asks for nothing now.
    Idle = 2,
    /// A later head has begun to come.
    Begun = 3,
    /// A monitor, which has rules of its own.
    Monitor = 4,
    /// The reply is made; some of it may be still to be written.
    Answered = 5,
    /// The place was taken away.
    Dropped = 6,
}

/// How little a connection is worth; the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    Silent,
    Unread,
    Idle,
}

/// A place; see the module.
#[derive(Debug)]
pub struct Place {
    pub(super) number: u64,
    pub(super) group: IpAddr,
    /// A proxy that is trusted, which has many clients behind it.
    is_proxy: bool,
    /// Times are milliseconds since then.
    epoch: Instant,
    /// The [`Phase`] in the lowest bits, and since when.
    doing: AtomicU64,
    /// Since when the peer has taken nothing of what is written to it; 0: it takes what comes.
    unread_since: AtomicU64,
    task: OnceLock<AbortHandle>,
    /// The request under way, as one of the client behind a proxy.
    visit: Mutex<Option<Visit>>,
}

impl Place {
    pub(super) fn new(number: u64, group: IpAddr, is_proxy: bool, epoch: Instant) -> Place {
        let place = Place {
            number,
            group,
            is_proxy,
            epoch,
            doing: AtomicU64::new(0),
            unread_since: AtomicU64::new(0),
            task: OnceLock::new(),
            visit: Mutex::default(),
        };
        place.set(Phase::Silent, Instant::now());
        place
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
        let mut seen = self.doing.load(Ordering::Relaxed);
        loop {
            let (phase, since) = parts(seen);
            if phase == Phase::Dropped {
                return false;
            }
            let busy = packed(Phase::Busy, since);
            match self.doing.compare_exchange(seen, busy, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// The reply is made.
    pub fn end_request(&self) {
        self.turn(Phase::Busy, Phase::Answered, self.epoch);
        self.turn(Phase::Monitor, Phase::Answered, self.epoch);
        if self.is_proxy {
            *self.visit() = None;
        }
    }

    /// What was made has left; the next request may take its time.
    pub fn flushed(&self, now: Instant) {
        self.turn(Phase::Answered, Phase::Idle, now);
    }

    /// The reply is made and has left.
    pub fn answered(&self, now: Instant) {
        self.turn(Phase::Busy, Phase::Idle, now);
    }

    /// Counts the request under way for its client, until it ends.
    pub fn bear(&self, visit: Visit) {
        *self.visit() = Some(visit);
    }

    /// Bytes came that are not a whole head yet.
    pub fn begin_head(&self, now: impl FnOnce() -> Instant) {
        if self.phase() == Phase::Idle {
            self.turn(Phase::Idle, Phase::Begun, now());
        }
    }

    /// What is answered is a monitor.
    pub fn begin_monitor(&self) {
        self.turn(Phase::Busy, Phase::Monitor, self.epoch);
    }

    /// Until when a head is waited for; `None` while a request is under way, or its reply.
    pub fn head_deadline(&self) -> Option<Instant> {
        if self.unread_since.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let (phase, since) = parts(self.doing.load(Ordering::Relaxed));
        let longest = match phase {
            Phase::Silent | Phase::Begun => HEAD_MAX,
            Phase::Idle => IDLE_MAX,
            _ => return None,
        };
        Some(self.epoch + Duration::from_millis(since) + longest)
    }

    pub fn phase(&self) -> Phase {
        parts(self.doing.load(Ordering::Relaxed)).0
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
        since > 0 && Duration::from_millis(self.millis(now).saturating_sub(since)) >= for_at_least
    }

    /// What it is worth and since when it does nothing, and what was seen; `None` if it is not to be dropped.
    pub(super) fn worth(&self, now: Instant) -> Option<(Worth, u64, Seen)> {
        let seen = self.doing.load(Ordering::Acquire);
        let (phase, since) = parts(seen);
        let worth = match phase {
            Phase::Silent => Worth::Silent,
            Phase::Idle | Phase::Begun => Worth::Idle,
            Phase::Busy | Phase::Answered if self.is_unread(now, UNREAD_MIN) => Worth::Unread,
            _ => return None,
        };
        Some((worth, since, Seen(seen)))
    }

    /// Ends the connection if it is still as it was seen.
    pub(super) fn take_away(&self, seen: Seen) -> bool {
        let dropped = packed(Phase::Dropped, 0);
        let taken =
            self.doing.compare_exchange(seen.0, dropped, Ordering::AcqRel, Ordering::Relaxed);
        if taken.is_ok() {
            self.end();
        }
        taken.is_ok()
    }

    /// Ends the connection, whatever it does.
    pub(super) fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    fn visit(&self) -> MutexGuard<'_, Option<Visit>> {
        self.visit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, from: Phase, to: Phase, now: Instant) {
        let seen = self.doing.load(Ordering::Relaxed);
        if parts(seen).0 == from {
            let to = packed(to, self.millis(now));
            // Whoever took the place away in between has the last word.
            let _ = self.doing.compare_exchange(seen, to, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn set(&self, phase: Phase, now: Instant) {
        self.doing.store(packed(phase, self.millis(now)), Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX) & (u64::MAX >> PHASE_BITS)
    }
}

/// What a place was doing when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen(u64);

fn packed(phase: Phase, millis: u64) -> u64 {
    (millis << PHASE_BITS) | phase as u64
}

fn parts(doing: u64) -> (Phase, u64) {
    let phase = match doing & ((1 << PHASE_BITS) - 1) {
        0 => Phase::Silent,
        1 => Phase::Busy,
        2 => Phase::Idle,
        3 => Phase::Begun,
        4 => Phase::Monitor,
        5 => Phase::Answered,
        _ => Phase::Dropped,
    };
    (phase, doing >> PHASE_BITS)
}
