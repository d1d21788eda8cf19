//! The time of day, passed in wherever it is needed, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::UnixMicros;

/// The machine's clock, or one that a test turns by hand.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::set`].
    pub fn manual(start: UnixMicros) -> Clock {
        Clock::Manual(Arc::new(AtomicI64::new(start.0)))
    }

    /// Turns a manual clock; the system's clock cannot be turned.
    pub fn set(&self, now: UnixMicros) {
        if let Clock::Manual(micros) = self {
            micros.store(now.0, Ordering::SeqCst);
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[expect(clippy::disallowed_methods, reason = "the one place where the time of day is read")]
    pub fn now(&self) -> UnixMicros {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMicros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Clock::Manual(micros) => UnixMicros(micros.load(Ordering::SeqCst)),
        }
    }
}
