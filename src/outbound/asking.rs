//! Whose request is under way, and whether it waits to have a name looked up.
//!
//! The HTTP client looks names up by itself and tells its resolver the name alone, so the rest is said beside it, in a value
//! of the task that asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tokio::task_local! {
    static ASKING: Asking;
}

/// Clones are of the same request.
#[derive(Debug, Clone)]
pub struct Asking {
    owner: Option<i64>,
    waits: Arc<AtomicBool>,
}

impl Asking {
    /// Of the user whose request it is; None: of who can read the data directory.
    pub fn of(owner: Option<i64>) -> Asking {
        Asking { owner, waits: Arc::default() }
    }

    /// Does all of a request in its name.
    pub async fn scope<T>(&self, request: impl Future<Output = T>) -> T {
        ASKING.scope(self.clone(), request).await
    }

    /// Does it wait for look-ups of others, or did when it was given up?
    pub fn waits_for_lookup(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// The request that the caller's task makes.
    pub(super) fn current() -> Asking {
        ASKING.try_with(Clone::clone).unwrap_or_else(|_| Asking::of(None))
    }

    pub(super) fn owner(&self) -> Option<i64> {
        self.owner
    }

    /// Waits for look-ups of others.
    pub(super) async fn wait<T>(&self, turn: impl Future<Output = T>) -> T {
        self.waits.store(true, Ordering::Relaxed);
        let turn = turn.await;
        self.waits.store(false, Ordering::Relaxed);
        turn
    }
}
