//! The memory of frames that monitors did not take yet, wherever they are: queues, sessions, transports.
//!
//! A frame's text is shared by its monitors, so it counts once, from when it is made to when the last of them let it go.
//! The hub waits for no monitor: with much of the budget in use only monitors for which nothing waits get new frames, and with
//! all of it none do; the others get gaps. What catches up waits a little before it gets gaps, too.
//!
//! Invariant: what is counted is at most the budget, one tick of the live feed and one step of each catch-up that reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tokio::sync::Notify;

use super::message::{Content, Message};

/// Clones are the same budget.
#[derive(Debug, Clone)]
pub(super) struct Frames(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes: AtomicUsize,
    bytes_max: usize,
    freed: Notify,
}

/// How much of the budget is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Less than half.
    Low,
    High,
    Full,
}

/// A text that counts.
struct Counted {
    text: Bytes,
    budget: Arc<Budget>,
}

impl Frames {
    pub fn new(bytes_max: usize) -> Frames {
        Frames(Arc::new(Budget { bytes: AtomicUsize::new(0), bytes_max, freed: Notify::new() }))
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub fn fill(&self) -> Fill {
        self.0.fill_of(self.bytes())
    }

    /// Has messages with records count from now on.
    pub fn count<'a>(&self, messages: impl IntoIterator<Item = &'a mut Message>) {
        for message in messages {
            if matches!(message.content, Content::Records(_)) {
                let text = Bytes::from(std::mem::take(&mut message.text));
                self.0.bytes.fetch_add(text.len(), Ordering::Relaxed);
                let counted = Bytes::from_owner(Counted { text, budget: Arc::clone(&self.0) });
                message.text = Utf8Bytes::try_from(counted).expect("it was text before");
            }
        }
    }

    /// Waits until less than half of the budget is in use.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            freed.as_mut().enable();
            if self.fill() == Fill::Low {
                return;
            }
            freed.await;
        }
    }
}

impl Budget {
    fn fill_of(&self, bytes: usize) -> Fill {
        if bytes >= self.bytes_max {
            Fill::Full
        } else if bytes >= self.bytes_max / 2 {
            Fill::High
        } else {
            Fill::Low
        }
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let length = self.text.len();
        let before = self.budget.bytes.fetch_sub(length, Ordering::Relaxed);
        let is_low = self.budget.fill_of(before - length) == Fill::Low;
        if is_low && self.budget.fill_of(before) != Fill::Low {
            self.budget.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn message(length: usize) -> Message {
        let text = "x".repeat(length).into();
        Message { text, cursor: None, content: Content::Records(1) }
    }

    #[tokio::test]
    async fn a_text_counts_once_and_until_its_last_holder_drops_it() {
        let frames = Frames::new(100);
        let (mut first, mut second) = (message(30), message(70));
        frames.count([&mut first]);
        let shared = first.clone();
        assert_eq!(
            (frames.bytes(), frames.fill(), &*first.text),
            (30, Fill::Low, &*"x".repeat(30))
        );
        assert!(frames.room().now_or_never().is_some());
        frames.count([&mut second]);
        assert_eq!((frames.bytes(), frames.fill()), (100, Fill::Full));
        let mut room = std::pin::pin!(frames.room());
        drop(first);
        assert_eq!(frames.fill(), Fill::Full, "it is held");
        assert!(room.as_mut().now_or_never().is_none());
        drop(shared);
        assert_eq!(frames.fill(), Fill::High);
        assert!(room.as_mut().now_or_never().is_none());
        drop(second);
        assert!(room.now_or_never().is_some());
        assert_eq!(frames.bytes(), 0);
    }
}
