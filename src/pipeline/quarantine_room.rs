//! How much the quarantine may hold of invalid records, for each stream and in all, and how much it holds.
//!
//! What is in the table is measured now and then (`db/quarantine_room.rs`); in between, what this gateway takes is added.
//! So nobody counts rows for a record, and a limit is held to within what other gateways take between two measurements,
//! [`MEASURE_EVERY`] apart. For as long it may count what was taken just now twice, which is the careful side.
//!
//! Accepted records that PostgreSQL refused are not held by these limits: they were acknowledged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::QuarantineFull;
use crate::record::StreamId;

/// Time between two measurements while something comes in or leaves.
pub const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// What comes in while the oldest are dropped may exceed a limit by this part of it; beyond that it is not kept.
const OVER_LIMIT_PART: u64 = 4;
/// Records, and bytes of them with everything that is kept beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptAmount {
    pub records: u64,
    pub bytes: u64,
}

impl KeptAmount {
    pub fn plus(self, other: KeptAmount) -> KeptAmount {
        KeptAmount {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Is more than the limit allows?
    pub fn exceeds(self, limit: KeptAmount) -> bool {
        self.records > limit.records || self.bytes > limit.bytes
    }

    fn with_slack(self) -> KeptAmount {
        let slack = |limit: u64| limit.saturating_add(limit / OVER_LIMIT_PART);
        KeptAmount { records: slack(self.records), bytes: slack(self.bytes) }
    }
}

/// Limits on what is kept of invalid records.
#[derive(Debug, Clone, Copy)]
pub struct QuarantineLimits {
    pub request: KeptAmount,
    pub stream: KeptAmount,
    pub all: KeptAmount,
    pub full: QuarantineFull,
}

impl QuarantineLimits {
    /// No limits at all.
    pub const NONE: QuarantineLimits = {
        let endless = KeptAmount { records: u64::MAX, bytes: u64::MAX };
        QuarantineLimits {
            request: endless,
            stream: endless,
            all: endless,
            full: QuarantineFull::Refuse,
        }
    };
}

/// Which limit an invalid record did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoomToKeep {
    Stream,
    All,
}

/// The room; clones share it.
#[derive(Debug, Clone)]
pub struct QuarantineRoom {
    limits: QuarantineLimits,
    levels: Arc<Mutex<Levels>>,
}

#[derive(Debug, Default)]
struct Levels {
    all: Level,
    streams: HashMap<StreamId, Level>,
    /// Of accepted records that PostgreSQL refused; measured, and not limited.
    accepted: KeptAmount,
    dropped: DroppedRecords,
}

/// Records that this gateway dropped since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DroppedRecords {
    /// They made room for others.
    pub oldest: u64,
    pub for_age: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// What the table held at the latest measurement.
    measured: KeptAmount,
    /// What this gateway took between the latest two measurements: perhaps it is measured already.
    before: KeptAmount,
    /// What it took since the latest.
    since: KeptAmount,
}

impl Level {
    fn amount(self) -> KeptAmount {
        self.measured.plus(self.before).plus(self.since)
    }
}

impl QuarantineRoom {
    /// Empty for all that is known, until it is measured.
    pub fn new(limits: QuarantineLimits) -> QuarantineRoom {
        QuarantineRoom { limits, levels: Arc::default() }
    }

    pub fn limits(&self) -> &QuarantineLimits {
        &self.limits
    }

    /// What is kept of one request at most.
    pub fn request_limit(&self) -> KeptAmount {
        self.limits.request
    }

    /// Takes the room for one record, or says which limit it does not fit.
    pub fn take(&self, stream: StreamId, bytes: u64) -> Result<(), NoRoomToKeep> {
        let record = KeptAmount { records: 1, bytes };
        let may = |limit: KeptAmount| match self.limits.full {
            QuarantineFull::Refuse => limit,
            QuarantineFull::DropOldest => limit.with_slack(),
        };
        let mut levels = self.lock();
        let Levels { all, streams, .. } = &mut *levels;
        let of_stream = streams.entry(stream).or_default();
        if of_stream.amount().plus(record).exceeds(may(self.limits.stream)) {
            return Err(NoRoomToKeep::Stream);
        }
        if all.amount().plus(record).exceeds(may(self.limits.all)) {
            return Err(NoRoomToKeep::All);
        }
        for level in [of_stream, all] {
            level.since = level.since.plus(record);
        }
        Ok(())
    }

    /// Takes over what the table holds. Everything that was taken before the measurement before this one must be in it.
    pub fn measured(&self, measured: &HashMap<StreamId, KeptAmount>, accepted: KeptAmount) {
        let mut levels = self.lock();
        levels.accepted = accepted;
        let all = measured.values().copied().fold(KeptAmount::default(), KeptAmount::plus);
        levels.all.measure(all);
        for (stream, level) in &mut levels.streams {
            level.measure(measured.get(stream).copied().unwrap_or_default());
        }
        levels.streams.retain(|_, level| level.amount() != KeptAmount::default());
        for (stream, amount) in measured {
            levels.streams.entry(*stream).or_default().measured = *amount;
        }
    }

    /// Has anything been taken that the latest two measurements did not see?
    pub fn is_moving(&self) -> bool {
        let all = self.lock().all;
        all.before.plus(all.since) != KeptAmount::default()
    }

    /// What the quarantine holds in all.
    pub fn level(&self) -> KeptAmount {
        self.lock().all.amount()
    }

    /// Streams of which it holds as much as it may.
    pub fn full_streams(&self) -> usize {
        let limit = self.limits.stream;
        let is_full = |level: &&Level| {
            let KeptAmount { records, bytes } = level.amount();
            records >= limit.records || bytes >= limit.bytes
        };
        self.lock().streams.values().filter(is_full).count()
    }

    /// What it holds of one stream.
    #[cfg(test)]
    fn level_of(&self, stream: StreamId) -> KeptAmount {
        self.lock().streams.get(&stream).map_or_else(KeptAmount::default, |level| level.amount())
    }

    /// What the table held, at the latest measurement, of accepted records that PostgreSQL refused.
    pub fn accepted(&self) -> KeptAmount {
        self.lock().accepted
    }

    /// Counts records that were dropped.
    pub fn add_dropped(&self, dropped: DroppedRecords) {
        let mut levels = self.lock();
        levels.dropped.oldest += dropped.oldest;
        levels.dropped.for_age += dropped.for_age;
    }

    pub fn dropped(&self) -> DroppedRecords {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Level {
    fn measure(&mut self, measured: KeptAmount) {
        *self = Level { measured, before: self.since, since: KeptAmount::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(1);
    const OTHER: StreamId = StreamId(2);

    fn room(full: QuarantineFull) -> QuarantineRoom {
        let stream = KeptAmount { records: 4, bytes: 1_000 };
        let all = KeptAmount { records: 8, bytes: 1_200 };
        QuarantineRoom::new(QuarantineLimits { stream, all, full, ..QuarantineLimits::NONE })
    }

    fn take(room: &QuarantineRoom, stream: StreamId, records: u64, bytes: u64) -> u64 {
        (0..records).filter(|_| room.take(stream, bytes).is_ok()).count() as u64
    }

    #[test]
    fn a_stream_gets_its_share_and_all_streams_together_no_more_than_there_is() {
        let room = room(QuarantineFull::Refuse);
        assert_eq!(take(&room, STREAM, 10, 100), 4, "by records");
        assert_eq!(room.take(STREAM, 1), Err(NoRoomToKeep::Stream));
        assert_eq!(room.full_streams(), 1);
        assert_eq!(take(&room, OTHER, 10, 300), 2, "by bytes of all");
        assert_eq!(room.take(OTHER, 300), Err(NoRoomToKeep::All));
        assert_eq!(room.take(OTHER, 200), Ok(()));
        assert_eq!(room.level(), KeptAmount { records: 7, bytes: 1_200 });
        assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 400 });
    }

    #[test]
    fn what_was_taken_is_counted_until_it_is_surely_measured() {
        let room = room(QuarantineFull::Refuse);
        assert_eq!(take(&room, STREAM, 3, 10), 3);
        // The rows are on their way: this measurement does not see them, the next one does.
        room.measured(&HashMap::new(), KeptAmount::default());
        assert!(room.is_moving());
        assert_eq!(take(&room, STREAM, 9, 10), 1);
        let in_table = HashMap::from([(STREAM, KeptAmount { records: 4, bytes: 40 })]);
        room.measured(&in_table, KeptAmount::default());
        assert_eq!(room.level_of(STREAM).records, 5, "one is counted twice, for a moment");
        room.measured(&in_table, KeptAmount::default());
        assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 40 });
        assert_eq!(room.take(STREAM, 1), Err(NoRoomToKeep::Stream));
        assert!(!room.is_moving());
        room.measured(
            &HashMap::from([(STREAM, KeptAmount { records: 1, bytes: 10 })]),
            KeptAmount::default(),
        );
        assert_eq!(take(&room, STREAM, 9, 10), 3, "somebody dropped three");
    }

    #[test]
    fn what_comes_before_the_oldest_are_dropped_has_a_limit_as_well() {
        let room = room(QuarantineFull::DropOldest);
        assert_eq!(take(&room, STREAM, 10, 10), 5);
        assert_eq!(room.take(STREAM, 10), Err(NoRoomToKeep::Stream));
    }

    #[test]
    fn streams_of_which_nothing_is_kept_are_forgotten() {
        let room = room(QuarantineFull::Refuse);
        for stream in 0..8 {
            room.take(StreamId(stream), 1).unwrap();
        }
        room.measured(&HashMap::new(), KeptAmount::default());
        room.measured(&HashMap::new(), KeptAmount::default());
        assert!(room.lock().streams.is_empty());
        assert_eq!(room.level(), KeptAmount::default());
    }
}
