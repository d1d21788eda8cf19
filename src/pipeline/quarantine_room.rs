//! How much the quarantine may hold of invalid records, for each stream and in all, and how much it holds.
//!
//! What is in the table is measured now and then (`db/quarantine_limits.rs`); in between, what this gateway takes is added,
//! from the record's parsing on. It is given back if the record does not reach the journal, whatever the reason, and given up
//! by the first measurement that begins when its entry is committed. So nobody counts rows for a record, nothing that is on
//! its way is forgotten however long that takes, and a limit is held to within what other gateways take between two
//! measurements, [`MEASURE_EVERY`] apart. Until the measurement what was committed just now may count twice, which is the
//! careful side.
//!
//! Accepted records that PostgreSQL refused are not held by these limits: they were acknowledged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_record::{Position, StreamId};

use crate::config::QuarantineFull;

/// Time between two measurements while something comes in or leaves.
pub const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// What comes in while the oldest are dropped may exceed a limit by this part of it; beyond that it is not kept.
const OVER_LIMIT_PART: u64 = 4;
/// Entries of a stream that are remembered one by one until they are committed; more of them are remembered together.
const JOURNALED_MAX: usize = 256;

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

    fn minus(self, other: KeptAmount) -> KeptAmount {
        KeptAmount {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
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

/// What was taken of the room for records of one stream, and is in no journal yet; dropped, it is given back.
#[derive(Debug)]
pub struct RoomTaken {
    room: QuarantineRoom,
    stream: StreamId,
    amount: KeptAmount,
}

#[derive(Debug, Default)]
struct Levels {
    all: Level,
    streams: HashMap<StreamId, StreamLevel>,
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
    /// What this gateway took, and what that measurement did not surely see.
    coming: KeptAmount,
}

#[derive(Debug, Default)]
struct StreamLevel {
    level: Level,
    /// Of what is coming: what is in the journal, and not known to be committed.
    journaled: Vec<Journaled>,
    /// Of what is coming: what is committed, so that the next measurement sees it.
    committed: KeptAmount,
}

/// Rows of one entry of the journal, or of all of a stream's from the first to the last.
#[derive(Debug, Clone, Copy)]
struct Journaled {
    first: Position,
    last: Position,
    amount: KeptAmount,
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

    /// Nothing yet, for records of a stream.
    pub fn begin(&self, stream: StreamId) -> RoomTaken {
        RoomTaken { room: self.clone(), stream, amount: KeptAmount::default() }
    }

    /// Finds out which entries are committed, before a measurement, so that it sees their rows. `are_committed`: all entries
    /// from the one at the first position to the one at the last.
    pub fn note_committed(&self, are_committed: impl Fn(Position, Position) -> bool) {
        for level in self.lock().streams.values_mut() {
            let StreamLevel { journaled, committed, .. } = level;
            journaled.retain(|entries| {
                let is_committed = are_committed(entries.first, entries.last);
                if is_committed {
                    *committed = committed.plus(entries.amount);
                }
                !is_committed
            });
        }
    }

    /// Takes over what the table holds. What was noted as committed before must be in it.
    pub fn measured(&self, measured: &HashMap<StreamId, KeptAmount>, accepted: KeptAmount) {
        let mut levels = self.lock();
        let Levels { all, streams, .. } = &mut *levels;
        all.measured = measured.values().copied().fold(KeptAmount::default(), KeptAmount::plus);
        for (stream, StreamLevel { level, committed, .. }) in &mut *streams {
            level.measured = measured.get(stream).copied().unwrap_or_default();
            let seen = std::mem::take(committed);
            level.coming = level.coming.minus(seen);
            all.coming = all.coming.minus(seen);
        }
        streams.retain(|_, of_stream| of_stream.level.amount() != KeptAmount::default());
        for (stream, amount) in measured {
            streams.entry(*stream).or_default().level.measured = *amount;
        }
        levels.accepted = accepted;
    }

    /// Has anything been taken that the latest measurement did not surely see?
    pub fn is_moving(&self) -> bool {
        self.lock().all.coming != KeptAmount::default()
    }

    /// What the quarantine holds in all.
    pub fn level(&self) -> KeptAmount {
        self.lock().all.amount()
    }

    /// Streams of which it holds as much as it may.
    pub fn full_streams(&self) -> usize {
        let limit = self.limits.stream;
        let is_full = |of_stream: &&StreamLevel| {
            let KeptAmount { records, bytes } = of_stream.level.amount();
            records >= limit.records || bytes >= limit.bytes
        };
        self.lock().streams.values().filter(is_full).count()
    }

    /// What it holds of one stream.
    #[cfg(test)]
    fn level_of(&self, stream: StreamId) -> KeptAmount {
        self.lock().streams.get(&stream).map(|it| it.level.amount()).unwrap_or_default()
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

    fn take(&self, stream: StreamId, record: KeptAmount) -> Result<(), NoRoomToKeep> {
        let may = |limit: KeptAmount| match self.limits.full {
            QuarantineFull::Refuse => limit,
            QuarantineFull::DropOldest => limit.with_slack(),
        };
        let mut levels = self.lock();
        let Levels { all, streams, .. } = &*levels;
        let of_stream = streams.get(&stream).map(|it| it.level.amount()).unwrap_or_default();
        if of_stream.plus(record).exceeds(may(self.limits.stream)) {
            return Err(NoRoomToKeep::Stream);
        }
        if all.amount().plus(record).exceeds(may(self.limits.all)) {
            return Err(NoRoomToKeep::All);
        }
        levels.come(stream, record);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomTaken {
    /// Takes the room for one more record, or says which limit it does not fit.
    pub fn take(&mut self, bytes: u64) -> Result<(), NoRoomToKeep> {
        let record = KeptAmount { records: 1, bytes };
        self.room.take(self.stream, record)?;
        self.amount = self.amount.plus(record);
        Ok(())
    }

    /// The stream was made only now: it has another number.
    pub fn set_stream(&mut self, stream: StreamId) {
        let mut levels = self.room.lock();
        levels.go(self.stream, self.amount);
        levels.come(stream, self.amount);
        self.stream = stream;
    }

    /// What was taken so far, if anything, apart from what will be.
    pub fn split(&mut self) -> Option<RoomTaken> {
        let amount = std::mem::take(&mut self.amount);
        let taken = || RoomTaken { room: self.room.clone(), stream: self.stream, amount };
        (amount.records > 0).then(taken)
    }

    /// The records are in the journal, in the entry at this position; entries come in order.
    pub fn journaled(mut self, position: Position) {
        let amount = std::mem::take(&mut self.amount);
        let mut levels = self.room.lock();
        let entries = &mut levels.streams.entry(self.stream).or_default().journaled;
        let are_many = entries.len() >= JOURNALED_MAX;
        match entries.last_mut() {
            Some(latest) if are_many => {
                latest.last = position;
                latest.amount = latest.amount.plus(amount);
            }
            _ => entries.push(Journaled { first: position, last: position, amount }),
        }
    }
}

impl Drop for RoomTaken {
    fn drop(&mut self) {
        if self.amount != KeptAmount::default() {
            self.room.lock().go(self.stream, self.amount);
        }
    }
}

impl Levels {
    fn come(&mut self, stream: StreamId, amount: KeptAmount) {
        for level in [&mut self.streams.entry(stream).or_default().level, &mut self.all] {
            level.coming = level.coming.plus(amount);
        }
    }

    fn go(&mut self, stream: StreamId, amount: KeptAmount) {
        for level in [&mut self.streams.entry(stream).or_default().level, &mut self.all] {
            level.coming = level.coming.minus(amount);
        }
    }
}

impl Level {
    fn amount(self) -> KeptAmount {
        self.measured.plus(self.coming)
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

    /// Takes so many records, or as many as there is room for.
    fn take(room: &QuarantineRoom, stream: StreamId, records: u64, bytes: u64) -> RoomTaken {
        let mut taken = room.begin(stream);
        let refused = (0..records).find_map(|_| taken.take(bytes).err());
        assert_eq!(refused.is_none(), taken.amount.records == records);
        taken
    }

    fn why_not(room: &QuarantineRoom, stream: StreamId, bytes: u64) -> Option<NoRoomToKeep> {
        room.begin(stream).take(bytes).err()
    }

    fn in_table(records: u64, bytes: u64) -> HashMap<StreamId, KeptAmount> {
        HashMap::from([(STREAM, KeptAmount { records, bytes })])
    }

    /// Measures once everything below a position is committed.
    fn measure(room: &QuarantineRoom, low_water: u64, table: &HashMap<StreamId, KeptAmount>) {
        room.note_committed(|_, last| last < Position(low_water));
        room.measured(table, KeptAmount::default());
    }

    #[test]
    fn a_stream_gets_its_share_and_all_streams_together_no_more_than_there_is() {
        let room = room(QuarantineFull::Refuse);
        let of_stream = take(&room, STREAM, 10, 100);
        assert_eq!(of_stream.amount.records, 4, "by records");
        assert_eq!(why_not(&room, STREAM, 1), Some(NoRoomToKeep::Stream));
        assert_eq!(room.full_streams(), 1);
        let mut of_other = take(&room, OTHER, 10, 300);
        assert_eq!(of_other.amount.records, 2, "by bytes of all");
        assert_eq!(why_not(&room, OTHER, 300), Some(NoRoomToKeep::All));
        assert_eq!(of_other.take(200), Ok(()));
        assert_eq!(room.level(), KeptAmount { records: 7, bytes: 1_200 });
        assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 400 });
    }

    #[test]
    fn what_does_not_reach_the_journal_is_given_back() {
        let room = room(QuarantineFull::Refuse);
        let mut taken = take(&room, STREAM, 3, 10);
        let on_its_way = taken.split().unwrap();
        assert!(taken.split().is_none());
        taken.take(10).unwrap();
        drop(taken);
        assert_eq!(room.level_of(STREAM).records, 3, "what was handed on is not given back");
        drop(on_its_way);
        assert_eq!((room.level(), room.is_moving()), (KeptAmount::default(), false));
        // Of a stream that is made only then.
        let mut taken = take(&room, STREAM, 4, 10);
        taken.set_stream(OTHER);
        assert_eq!((room.level_of(STREAM).records, room.level_of(OTHER).records), (0, 4));
        taken.split().unwrap().journaled(Position(0));
        drop(taken);
        assert_eq!(room.level().records, 4);
        assert_eq!(why_not(&room, OTHER, 1), Some(NoRoomToKeep::Stream));
    }

    #[test]
    fn what_was_taken_is_counted_until_it_is_surely_measured_however_long_that_takes() {
        let room = room(QuarantineFull::Refuse);
        let taken = take(&room, STREAM, 3, 10);
        for low_water in 1..10 {
            measure(&room, low_water, &HashMap::new());
            assert_eq!(room.level_of(STREAM).records, 3, "the body has not ended");
        }
        taken.journaled(Position(10));
        measure(&room, 10, &HashMap::new());
        assert!(room.is_moving());
        // It is committed in between, where the measurement sees it.
        let latest = take(&room, STREAM, 9, 10);
        assert_eq!(latest.amount.records, 1);
        measure(&room, 10, &in_table(3, 30));
        assert_eq!(room.level_of(STREAM).records, 7, "three are counted twice, for a moment");
        measure(&room, 11, &in_table(3, 30));
        assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 40 });
        assert_eq!(why_not(&room, STREAM, 1), Some(NoRoomToKeep::Stream));
        latest.journaled(Position(20));
        measure(&room, 21, &in_table(4, 40));
        assert_eq!((room.level_of(STREAM).records, room.is_moving()), (4, false));
        measure(&room, 21, &in_table(1, 10));
        assert_eq!(take(&room, STREAM, 9, 10).amount.records, 3, "somebody dropped three");
    }

    #[test]
    fn an_entry_is_measured_while_one_before_it_waits() {
        let room = room(QuarantineFull::Refuse);
        for position in [10, 20] {
            take(&room, STREAM, 1, 10).journaled(Position(position));
        }
        room.note_committed(|first, _| first == Position(20));
        room.measured(&in_table(1, 10), KeptAmount::default());
        assert_eq!(room.level_of(STREAM), KeptAmount { records: 2, bytes: 20 });
    }

    #[test]
    fn of_many_entries_the_last_are_remembered_together() {
        let room = QuarantineRoom::new(QuarantineLimits::NONE);
        let entries = JOURNALED_MAX as u64 + 100;
        for position in 0..entries {
            take(&room, STREAM, 1, 10).journaled(Position(position));
        }
        assert_eq!(room.lock().streams[&STREAM].journaled.len(), JOURNALED_MAX);
        measure(&room, entries - 1, &HashMap::new());
        assert_eq!(room.level().records, 101, "none before the last of them is committed");
        measure(&room, entries, &HashMap::new());
        assert_eq!(room.level(), KeptAmount::default());
    }

    #[test]
    fn what_comes_before_the_oldest_are_dropped_has_a_limit_as_well() {
        let room = room(QuarantineFull::DropOldest);
        let taken = take(&room, STREAM, 10, 10);
        assert_eq!(taken.amount.records, 5);
        assert_eq!(why_not(&room, STREAM, 10), Some(NoRoomToKeep::Stream));
    }

    #[test]
    fn streams_of_which_nothing_is_kept_are_forgotten() {
        let room = room(QuarantineFull::Refuse);
        for stream in 0..8 {
            take(&room, StreamId(stream), 1, 1).journaled(Position(5));
        }
        measure(&room, 6, &HashMap::new());
        assert!(room.lock().streams.is_empty());
        assert_eq!(room.level(), KeptAmount::default());
    }
}
