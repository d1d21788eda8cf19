//! Numbers of what monitors were given, since the gateway started.

use std::sync::atomic::{AtomicU64, Ordering};

use super::message::Content;

/// Plain counters, read where they are shown.
#[derive(Debug, Default)]
pub struct HubMetrics {
    frames: AtomicU64,
    deliveries: AtomicU64,
    gaps: AtomicU64,
    gap_records: AtomicU64,
}

impl HubMetrics {
    /// `records` messages given to monitors.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Records given to monitors; one that went to ten monitors counts ten times.
    pub fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// `gap` messages given to monitors.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Records that were announced as left out, where the number is known.
    pub fn gap_records(&self) -> u64 {
        self.gap_records.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, content: Content) {
        match content {
            Content::Records(records) => {
                self.frames.fetch_add(1, Ordering::Relaxed);
                self.deliveries.fetch_add(records, Ordering::Relaxed);
            }
            Content::Gap(records) => {
                self.gaps.fetch_add(1, Ordering::Relaxed);
                self.gap_records.fetch_add(records.unwrap_or(0), Ordering::Relaxed);
            }
            Content::Notice => {}
        }
    }
}
