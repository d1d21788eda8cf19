//! What a connection is doing and since when, in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};

const PHASE_BITS: u32 = 3;
/// Latest time that a phase may have begun at, in milliseconds.
pub const SINCE_MAX: u64 = u64::MAX >> PHASE_BITS;

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
    /// The rest of a request is waited for, and its sender is not authenticated.
    Asking = 6,
    /// The place was taken away.
    Dropped = 7,
}

/// A phase, and since when it lasts, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doing(u64);

/// What a connection is doing now: its own task changes it, others read it.
#[derive(Debug)]
pub struct AtomicDoing(AtomicU64);

impl Doing {
    /// `since` is at most [`SINCE_MAX`].
    pub fn new(phase: Phase, since: u64) -> Doing {
        Doing((since << PHASE_BITS) | phase as u64)
    }

    pub fn phase(self) -> Phase {
        match self.0 & ((1 << PHASE_BITS) - 1) {
            0 => Phase::Silent,
            1 => Phase::Busy,
            2 => Phase::Idle,
            3 => Phase::Begun,
            4 => Phase::Monitor,
            5 => Phase::Answered,
            6 => Phase::Asking,
            _ => Phase::Dropped,
        }
    }

    pub fn since(self) -> u64 {
        self.0 >> PHASE_BITS
    }
}

impl AtomicDoing {
    pub fn new(doing: Doing) -> AtomicDoing {
        AtomicDoing(AtomicU64::new(doing.0))
    }

    pub fn load(&self) -> Doing {
        Doing(self.0.load(Ordering::Acquire))
    }

    /// Changes what was seen, unless it changed since: then what it is by now is given back.
    pub fn change(&self, seen: Doing, to: Doing) -> Result<(), Doing> {
        let changed = self.0.compare_exchange(seen.0, to.0, Ordering::AcqRel, Ordering::Acquire);
        changed.map(|_| ()).map_err(Doing)
    }
}
