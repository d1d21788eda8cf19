//! Start and end of every background task.
//!
//! Shutdown has two steps: `soft` asks tasks to finish what they hold, `hard` says that the deadline has passed.
//! A critical task that ends before `soft` shuts the whole process down as a failure: a gateway whose writer is dead
//! must not look alive.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that runs in the background; clones are the same lifecycle.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    tasks: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    failure: Arc<OnceLock<&'static str>>,
}

impl Lifecycle {
    pub fn new() -> Lifecycle {
        Lifecycle::default()
    }

    /// Runs a task that may end at any time.
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tracing::trace!(task = name, "task starts");
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Runs a task without which the gateway cannot keep its promises; if it ends before a shutdown was asked for,
    /// by return or by panic, the process shuts down as a failure.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = CriticalGuard { name, lifecycle: self.clone() };
        self.spawn(name, async move {
            task.await;
            drop(guard);
        });
    }

    /// Runs a task that [`Lifecycle::finished`] does not wait for, because it ends after everything else.
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned")]
    pub fn spawn_detached<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tracing::trace!(task = name, "task starts");
        drop(tokio::spawn(task));
    }

    /// A guard for a critical thread: dropping it before a shutdown was asked for is a failure.
    pub fn critical(&self, name: &'static str) -> CriticalGuard {
        CriticalGuard { name, lifecycle: self.clone() }
    }

    /// Cancelled when tasks shall finish what they hold.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the time for finishing is over.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// The critical task that died, if one did.
    pub fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }

    /// Waits until every task has ended.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// See [`Lifecycle::critical`].
#[derive(Debug)]
pub struct CriticalGuard {
    name: &'static str,
    lifecycle: Lifecycle,
}

impl Drop for CriticalGuard {
    fn drop(&mut self) {
        if !self.lifecycle.soft.is_cancelled() {
            tracing::error!(task = self.name, "a critical task ended; shutting down");
            let _ = self.lifecycle.failure.set(self.name);
            self.lifecycle.soft.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_critical_task_shuts_the_process_down() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_critical("writer", async {});
        lifecycle.soft().cancelled().await;
        assert_eq!(lifecycle.failure(), Some("writer"));
    }

    #[tokio::test]
    async fn a_task_that_ends_after_the_request_is_no_failure() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft().clone();
        lifecycle.spawn_critical("writer", async move { soft.cancelled().await });
        lifecycle.soft().cancel();
        lifecycle.finished().await;
        assert_eq!(lifecycle.failure(), None);
    }
}
