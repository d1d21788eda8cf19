//! How much the quarantine may hold of invalid records, for each stream and in all, and how much it holds.
//!
//! What is in the table is measured now and then (`db/quarantine_limits.rs`); in between, what this gateway takes is added,
//! from the record's parsing on. It is given back if the record does not reach the journal, whatever the reason, and given up
//! by the first measurement that begins when its entry is committed. So no rows are counted for a record, nothing that is on
//! its way is forgotten however long that takes, and a limit is held to within what other gateways take between two
//! measurements, [`MEASURE_EVERY`] apart. Until the measurement what was committed just now may count twice, which is the
//! safe side.
//!
//! Accepted records that PostgreSQL refused are not held by these limits: they were acknowledged.

mod limits;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_record::{Position, StreamId};

use crate::config::QuarantineFull;

pub use self::limits::{KeptAmount, NoRoomToKeep, QuarantineLimits};

/// Time between two measurements while something comes in or leaves.
pub const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Entries of a stream that are remembered one by one until they are committed; more of them are remembered together.
const JOURNALED_MAX: usize = 256;

/// The room; clones share it.
#[derive(Debug, Clone)]
pub struct QuarantineBudget {
    limits: QuarantineLimits,
    levels: Arc<Mutex<Levels>>,
}

/// What was taken of the room for records of one stream, and is in no journal yet; dropped, it is given back.
#[derive(Debug)]
pub struct BudgetTaken {
    room: QuarantineBudget,
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

impl QuarantineBudget {
    /// Empty for all that is known, until it is measured.
    pub fn new(limits: QuarantineLimits) -> QuarantineBudget {
        QuarantineBudget { limits, levels: Arc::default() }
    }

    pub fn limits(&self) -> &QuarantineLimits {
        &self.limits
    }

    /// Nothing yet, for records of a stream.
    pub fn begin(&self, stream: StreamId) -> BudgetTaken {
        BudgetTaken { room: self.clone(), stream, amount: KeptAmount::default() }
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

impl BudgetTaken {
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
    pub fn split(&mut self) -> Option<BudgetTaken> {
        let amount = std::mem::take(&mut self.amount);
        let taken = || BudgetTaken { room: self.room.clone(), stream: self.stream, amount };
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

impl Drop for BudgetTaken {
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
