//! Exact counts per stream since the gateway started, for `stats` messages, the status page and the metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

use crate::record::{Source, StreamId};

/// What happened to one stream's records. Every accepted record ends as committed, duplicate or
/// refused; every invalid one as quarantined or not kept, unless all of its request was refused.
#[derive(Debug, Default)]
pub struct StreamCounters {
    by_source: [SourceCounters; Source::ALL.len()],
    committed: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct SourceCounters {
    accepted: AtomicU64,
    quarantined: AtomicU64,
    not_kept: AtomicU64,
    bytes: AtomicU64,
}

/// A reading of [`StreamCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// Records that are durable in the journal.
    pub accepted: u64,
    /// Records that made a row.
    pub committed: u64,
    /// Records of keyed streams that found their key taken.
    pub duplicates: u64,
    /// Records kept aside: invalid ones, and accepted ones that PostgreSQL refused.
    pub quarantined: u64,
    /// Invalid records that were not kept, because a limit on the quarantine said so; their senders were told.
    pub not_kept: u64,
    /// Those among the quarantined ones that were accepted, and that PostgreSQL refused.
    pub refused: u64,
    /// Bytes of the accepted records as tuples.
    pub bytes: u64,
}

impl StreamCounters {
    pub fn add_accepted(&self, source: Source, records: u64, bytes: u64) {
        let counters = &self.by_source[source as usize];
        counters.accepted.fetch_add(records, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn add_quarantined(&self, source: Source, records: u64) {
        self.by_source[source as usize].quarantined.fetch_add(records, Ordering::Relaxed);
    }

    pub fn add_not_kept(&self, source: Source, records: u64) {
        self.by_source[source as usize].not_kept.fetch_add(records, Ordering::Relaxed);
    }

    pub fn add_committed(&self, committed: u64, duplicates: u64) {
        self.committed.fetch_add(committed, Ordering::Relaxed);
        self.duplicates.fetch_add(duplicates, Ordering::Relaxed);
    }

    /// Accepted records that PostgreSQL refused; they are in the quarantine.
    pub fn add_refused(&self, source: Source, records: u64) {
        self.refused.fetch_add(records, Ordering::Relaxed);
        self.add_quarantined(source, records);
    }

    /// What came in through one source; what became of it later is not told apart by source and is 0 here.
    pub fn of_source(&self, source: Source) -> StreamTotals {
        let counters = &self.by_source[source as usize];
        StreamTotals {
            accepted: counters.accepted.load(Ordering::Relaxed),
            quarantined: counters.quarantined.load(Ordering::Relaxed),
            not_kept: counters.not_kept.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            ..StreamTotals::default()
        }
    }

    pub fn totals(&self) -> StreamTotals {
        let mut totals = StreamTotals {
            committed: self.committed.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            ..StreamTotals::default()
        };
        for source in Source::ALL {
            let part = self.of_source(source);
            totals.accepted += part.accepted;
            totals.quarantined += part.quarantined;
            totals.not_kept += part.not_kept;
            totals.bytes += part.bytes;
        }
        totals
    }
}

/// The counters of every stream that had traffic; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<RwLock<HashMap<StreamId, Arc<StreamCounters>>>>);

impl Counters {
    /// The counters of one stream, made on first use.
    pub fn of(&self, stream: StreamId) -> Arc<StreamCounters> {
        if let Some(counters) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&stream) {
            return Arc::clone(counters);
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(stream).or_default())
    }

    /// Every stream's counters, in no order.
    pub fn all(&self) -> Vec<(StreamId, Arc<StreamCounters>)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(stream, counters)| (*stream, Arc::clone(counters))).collect()
    }

    /// A reading of every stream's counters.
    pub fn totals(&self) -> HashMap<StreamId, StreamTotals> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(stream, counters)| (*stream, counters.totals())).collect()
    }

    /// Forgets streams that are gone, so that the map stays as large as the catalog.
    pub fn retain(&self, exists: impl Fn(StreamId) -> bool) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|stream, _| exists(*stream));
    }
}
