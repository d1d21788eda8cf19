//! Exact counts per stream since the gateway started, for `stats` messages, the status page and the metrics.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Serialize;
use tidegate_record::{Source, StreamId};

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

    /// Adds what others counted.
    fn add(&self, counters: &StreamCounters) {
        let totals = counters.totals();
        self.add_committed(totals.committed, totals.duplicates);
        self.refused.fetch_add(totals.refused, Ordering::Relaxed);
        for source in Source::ALL {
            let part = counters.of_source(source);
            self.add_accepted(source, part.accepted, part.bytes);
            self.add_quarantined(source, part.quarantined);
            self.add_not_kept(source, part.not_kept);
        }
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

/// Most streams that metrics tell by name, by default.
const NAMED_MAX_DEFAULT: usize = 200;

/// The counters of every stream that had traffic; clones share them.
///
/// Metrics tell so many streams by name, and the others together: else a user who may make streams could have each of them
/// carry series of its own through every scrape. Which are named is decided when a stream first counts something, and stays
/// so for as long as it is there; so neither a name's counters nor the others' sum ever fall.
#[derive(Debug, Clone)]
pub struct Counters(Arc<RwLock<All>>);

#[derive(Debug, Default)]
struct All {
    by_stream: HashMap<StreamId, Arc<StreamCounters>>,
    /// Streams that metrics name; some have counted nothing yet.
    named: BTreeSet<StreamId>,
    named_max: usize,
    /// What streams without a name had counted when they went.
    gone: StreamCounters,
}

/// What metrics tell of the streams' counters.
#[derive(Debug)]
pub struct NamedCounters {
    /// Each by itself, in no order.
    pub named: Vec<(StreamId, Arc<StreamCounters>)>,
    /// All others together, those that are gone among them; `None`: there never were any.
    pub others: Option<StreamCounters>,
    /// Those of the others that are there.
    pub others_there: Vec<StreamId>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new(NAMED_MAX_DEFAULT)
    }
}

impl Counters {
    /// Metrics shall name at most this many streams.
    pub fn new(named_max: usize) -> Counters {
        Counters(Arc::new(RwLock::new(All { named_max, ..All::default() })))
    }

    /// The counters of one stream, made on first use.
    pub fn of(&self, stream: StreamId) -> Arc<StreamCounters> {
        if let Some(counters) = self.read().by_stream.get(&stream) {
            return Arc::clone(counters);
        }
        let mut all = self.write();
        if !all.by_stream.contains_key(&stream) && all.named.len() < all.named_max {
            all.named.insert(stream);
        }
        Arc::clone(all.by_stream.entry(stream).or_default())
    }

    /// What metrics tell.
    pub fn for_metrics(&self) -> NamedCounters {
        let all = self.read();
        let (mut named, mut others_there) = (Vec::new(), Vec::new());
        let others = StreamCounters::default();
        others.add(&all.gone);
        for (stream, counters) in &all.by_stream {
            if all.named.contains(stream) {
                named.push((*stream, Arc::clone(counters)));
            } else {
                others.add(counters);
                others_there.push(*stream);
            }
        }
        let were_any = !others_there.is_empty() || others.totals() != StreamTotals::default();
        NamedCounters { named, others: were_any.then_some(others), others_there }
    }

    /// A reading of every stream's counters.
    pub fn totals(&self) -> HashMap<StreamId, StreamTotals> {
        let all = self.read();
        all.by_stream.iter().map(|(stream, counters)| (*stream, counters.totals())).collect()
    }

    /// Forgets streams that are not among these, so that the map stays as large as the catalog, and keeps the names that are
    /// free for the oldest streams: after a restart the same ones have them, whichever is first to send.
    pub fn follow(&self, streams: impl IntoIterator<Item = StreamId>) {
        let streams: BTreeSet<StreamId> = streams.into_iter().collect();
        let mut all = self.write();
        let All { by_stream, named, named_max, gone } = &mut *all;
        by_stream.retain(|stream, counters| {
            let stays = streams.contains(stream);
            if !stays && !named.contains(stream) {
                gone.add(counters);
            }
            stays
        });
        named.retain(|stream| streams.contains(stream) && by_stream.contains_key(stream));
        let without_counts = streams.iter().filter(|stream| !by_stream.contains_key(stream));
        named.extend(
            without_counts.take(named_max.saturating_sub(named.len())).copied().collect::<Vec<_>>(),
        );
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(counters: &Counters, stream: i32, records: u64) {
        let of_stream = counters.of(StreamId(stream));
        of_stream.add_accepted(Source::Http, records, records);
        of_stream.add_committed(records, 0);
    }

    /// Accepted records of the named streams, and of the others together.
    fn told(counters: &Counters) -> (Vec<(i32, u64)>, Option<u64>) {
        let told = counters.for_metrics();
        let named = told.named.iter().map(|(id, counters)| (id.0, counters.totals().accepted));
        let mut named: Vec<(i32, u64)> = named.collect();
        named.sort_unstable();
        (named, told.others.map(|others| others.of_source(Source::Http).accepted))
    }

    fn streams(ids: impl IntoIterator<Item = i32>) -> Vec<StreamId> {
        ids.into_iter().map(StreamId).collect()
    }

    #[test]
    fn the_first_streams_have_names_and_the_others_are_counted_together() {
        let counters = Counters::new(2);
        for stream in 1..=4 {
            count(&counters, stream, 10);
        }
        assert_eq!(told(&counters), (vec![(1, 10), (2, 10)], Some(20)));
        count(&counters, 4, 1);
        assert_eq!(told(&counters), (vec![(1, 10), (2, 10)], Some(21)));
        let few = Counters::new(2);
        count(&few, 1, 1);
        assert_eq!(
            told(&few),
            (vec![(1, 1)], None),
            "nothing is told of others that are not there"
        );
    }

    #[test]
    fn no_counter_falls_when_streams_go_and_a_free_name_goes_to_a_new_one() {
        let counters = Counters::new(2);
        for stream in 1..=4 {
            count(&counters, stream, 10);
        }
        counters.follow(streams([2, 4]));
        assert_eq!(
            told(&counters),
            (vec![(2, 10)], Some(20)),
            "the third is gone and still counted"
        );
        count(&counters, 4, 5);
        count(&counters, 5, 7);
        assert_eq!(
            told(&counters),
            (vec![(2, 10), (5, 7)], Some(25)),
            "the fourth stays where it is"
        );
        count(&counters, 6, 1);
        counters.of(StreamId(6)).add_not_kept(Source::Http, 3);
        counters.follow(streams([]));
        assert_eq!(told(&counters), (vec![], Some(26)));
        let others = counters.for_metrics().others.expect("they counted something");
        assert_eq!(
            others.totals().not_kept,
            3,
            "it is no part of what was accepted, and is told all the same"
        );
    }

    #[test]
    fn free_names_are_kept_for_the_oldest_streams() {
        let counters = Counters::new(2);
        counters.follow(streams([7, 3, 5]));
        count(&counters, 7, 1);
        count(&counters, 5, 1);
        count(&counters, 3, 1);
        assert_eq!(told(&counters), (vec![(3, 1), (5, 1)], Some(1)));
        let none = Counters::new(0);
        count(&none, 1, 1);
        assert_eq!(told(&none), (vec![], Some(1)));
    }
}
