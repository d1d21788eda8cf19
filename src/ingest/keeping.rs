//! Which of a request's invalid records are kept in the quarantine, and how many are not, by reason.
//!
//! Invariant: every invalid record of a request whose invalid records are to be kept is either in an entry of the
//! quarantine or counted here, and what is counted here is told.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_record::{Source, StreamId};

use crate::auth::InvalidRecords;
use crate::counters::StreamCounters;
use crate::pipeline::{BudgetTaken, KeptAmount, NoRoomToKeep, QuarantineBudget};
use crate::telemetry::limits::{self, Limit};

/// Why an invalid record was not kept. The words are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyNotKept {
    /// So many of one request are kept, and no more.
    RequestLimit,
    /// The token's rate does not cover it.
    Quota,
    /// The quarantine holds as much of this stream as it may.
    StreamFull,
    /// The quarantine holds as much as it may.
    QuarantineFull,
    /// No stream takes them: their lines name none, or none that the request may use.
    NoStream,
}

impl WhyNotKept {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            WhyNotKept::RequestLimit => "request_limit",
            WhyNotKept::Quota => "quota",
            WhyNotKept::StreamFull => "stream_full",
            WhyNotKept::QuarantineFull => "quarantine_full",
            WhyNotKept::NoStream => "no_stream",
        }
    }

    fn words(self) -> &'static str {
        match self {
            WhyNotKept::RequestLimit => "of one request no more are kept",
            WhyNotKept::Quota => "the token's rate does not cover them",
            WhyNotKept::StreamFull => "the quarantine is full of this stream",
            WhyNotKept::QuarantineFull => "the quarantine is full",
            WhyNotKept::NoStream => "no stream takes them",
        }
    }

    fn limit(self) -> Option<&'static Limit> {
        match self {
            WhyNotKept::RequestLimit => Some(&limits::QUARANTINE_REQUEST),
            WhyNotKept::Quota => Some(&limits::QUARANTINE_QUOTA),
            WhyNotKept::StreamFull => Some(&limits::QUARANTINE_STREAM),
            WhyNotKept::QuarantineFull => Some(&limits::QUARANTINE_ALL),
            WhyNotKept::NoStream => None,
        }
    }
}

impl From<NoRoomToKeep> for WhyNotKept {
    fn from(full: NoRoomToKeep) -> WhyNotKept {
        match full {
            NoRoomToKeep::Stream => WhyNotKept::StreamFull,
            NoRoomToKeep::All => WhyNotKept::QuarantineFull,
        }
    }
}

/// How many invalid records were not kept, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NotKept(BTreeMap<WhyNotKept, u64>);

impl NotKept {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many for each reason that there was.
    pub fn reasons(&self) -> impl Iterator<Item = (WhyNotKept, u64)> + '_ {
        self.0.iter().map(|(why, records)| (*why, *records))
    }

    /// Counts so many more.
    pub fn add(&mut self, why: WhyNotKept, records: u64) {
        if records > 0 {
            *self.0.entry(why).or_default() += records;
        }
    }

    /// How many for this reason.
    pub fn because(&self, why: WhyNotKept) -> u64 {
        self.0.get(&why).copied().unwrap_or_default()
    }

    /// Counts those of `other` as well.
    pub fn add_all(&mut self, other: &NotKept) {
        for (why, records) in other.reasons() {
            self.add(why, records);
        }
    }

    /// Counts them where everybody can see it; `counters`: of their stream.
    pub fn count(&self, counters: Option<&StreamCounters>, source: Source) {
        if let Some(counters) = counters {
            counters.add_not_kept(source, self.total());
        }
        for (why, records) in self.reasons() {
            if let Some(limit) = why.limit() {
                limit.hits(records);
            }
        }
    }
}

/// In words for people, without the limits' values.
impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} invalid records are not kept", self.total())?;
        for (number, (why, records)) in self.reasons().enumerate() {
            let mark = if number == 0 { ":" } else { "," };
            write!(f, "{mark} {records} because {}", why.words())?;
        }
        Ok(())
    }
}

/// Decides over one request's invalid records; those of a run of a polling job count as one request's.
#[derive(Debug)]
pub struct Keeping {
    /// What was taken of the quarantine's room, and not handed on.
    room: BudgetTaken,
    /// What is left of what the request may keep.
    left: KeptAmount,
    quota: Option<InvalidRecords>,
    not_kept: NotKept,
}

impl Keeping {
    /// `quota`: pays for what is kept, where the sender has a rate.
    pub fn new(
        room: &QuarantineBudget,
        stream: StreamId,
        quota: Option<InvalidRecords>,
    ) -> Keeping {
        let (left, room) = (room.limits().request, room.begin(stream));
        Keeping { room, left, quota, not_kept: NotKept::default() }
    }

    /// What is left of what the request may keep: one amount for all its streams, which goes from one to the next.
    pub fn left(&self) -> KeptAmount {
        self.left
    }

    pub fn set_left(&mut self, left: KeptAmount) {
        self.left = left;
    }

    /// What was kept and not handed on is given up.
    pub fn give_up(&mut self) {
        drop(self.split());
    }

    /// The stream was made only now.
    pub fn set_stream(&mut self, stream: StreamId) {
        self.room.set_stream(stream);
    }

    /// Takes the room for a record of so many bytes; where there is none it counts the record as not kept.
    pub fn take(&mut self, bytes: u64) -> bool {
        match self.try_take(bytes) {
            Ok(()) => true,
            Err(why) => {
                self.not_kept.add(why, 1);
                false
            }
        }
    }

    fn try_take(&mut self, bytes: u64) -> Result<(), WhyNotKept> {
        if self.left.records == 0 || self.left.bytes < bytes {
            return Err(WhyNotKept::RequestLimit);
        }
        if self.quota.as_mut().is_some_and(|quota| !quota.take()) {
            return Err(WhyNotKept::Quota);
        }
        if let Err(full) = self.room.take(bytes) {
            if let Some(quota) = &mut self.quota {
                quota.give_back();
            }
            return Err(full.into());
        }
        self.left.records -= 1;
        self.left.bytes -= bytes;
        Ok(())
    }

    /// What was kept so far goes its own way: the room that it takes, and what was paid for it. Both are given back where
    /// they are dropped.
    pub fn split(&mut self) -> (Option<BudgetTaken>, Option<InvalidRecords>) {
        (self.room.split(), self.quota.as_mut().and_then(InvalidRecords::split))
    }

    pub fn not_kept(&self) -> &NotKept {
        &self.not_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::QuarantineLimits;

    #[test]
    fn what_is_not_sent_is_given_back_and_what_is_sent_takes_its_room_along() {
        let request = KeptAmount { records: 3, bytes: 100 };
        let room = QuarantineBudget::new(QuarantineLimits { request, ..QuarantineLimits::NONE });
        let mut keeping = Keeping::new(&room, StreamId(1), None);
        assert!(keeping.take(10) && keeping.take(10));
        let sent = keeping.split().0.unwrap();
        assert!(keeping.split().0.is_none());
        assert!(
            keeping.take(10) && !keeping.take(10),
            "three of a request, however often it sends"
        );
        assert_eq!(room.level(), KeptAmount { records: 3, bytes: 30 });
        drop(keeping);
        assert_eq!(room.level(), KeptAmount { records: 2, bytes: 20 });
        drop(sent);
        assert_eq!(room.level(), KeptAmount::default());
    }
}
