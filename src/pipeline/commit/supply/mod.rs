//! What one writer takes its batches from: the ordinary queue, and for some of the writers what waits aside.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;

use super::aside::{Aside, AsideBatch, Holding};
use super::batch::Batch;

/// What one writer takes its batches from.
pub(super) struct Supply {
    batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
    aside: Option<Aside>,
    /// There is no other writer that could commit what a batch waits for.
    is_only: bool,
    /// What waits aside is next, where something does.
    is_aside_next: bool,
}

/// What a writer is to commit next.
#[derive(Debug)]
pub(super) enum Work {
    Batch(Batch),
    Aside(AsideBatch, Holding),
}

/// How many of a session's writers take what waits aside, beside all else: at most half of them. One by itself takes turns.
pub(super) fn aside_writers(writers: usize) -> usize {
    (writers / 2).max(1)
}

impl Supply {
    /// `aside`: whether this writer takes what waits aside.
    pub fn new(
        batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Batch>>>,
        aside: Option<Aside>,
        is_only: bool,
    ) -> Supply {
        Supply { batches, aside, is_only, is_aside_next: false }
    }

    /// The next batch, in turns where both queues have some; `None` when there will be no more. Nothing is lost where this
    /// is given up.
    pub async fn next(&mut self) -> Option<Work> {
        let Some(aside) = &self.aside else {
            return self.batches.lock().await.recv().await.map(Work::Batch);
        };
        if self.is_aside_next
            && let Some((batch, holding)) = aside.try_take(self.is_only)
        {
            self.is_aside_next = false;
            return Some(Work::Aside(batch, holding));
        }
        let batches = async { self.batches.lock().await.recv().await };
        tokio::select! {
            biased;
            Some(batch) = batches => {
                self.is_aside_next = true;
                Some(Work::Batch(batch))
            }
            Some((batch, holding)) = aside.take(self.is_only) => {
                self.is_aside_next = false;
                Some(Work::Aside(batch, holding))
            }
            else => None,
        }
    }
}
