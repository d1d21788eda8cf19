//! The upkeep of partitions: every stream with retention by itself, so that a locked table holds up no other, and again
//! within minutes where it failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_record::{StreamId, UnixMicros};

use crate::catalog::Catalog;
use crate::db::partitions;

/// How often [`Catalog::maintain_partitions`] must be called, and how soon a stream whose upkeep failed has its next try.
pub const LOOK_AT_PARTITIONS_EVERY: Duration = Duration::from_secs(60);
/// How often the partitions of a stream are made ahead and dropped.
const MAINTAIN_EVERY: Duration = Duration::from_secs(3_600);

/// When each stream is next looked after, and what went wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Upkeep(Arc<Mutex<BTreeMap<StreamId, Due>>>);

#[derive(Debug)]
struct Due {
    due: Instant,
    behind: Option<PartitionsBehind>,
}

/// The partitions of a stream could not be made ahead or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionsBehind {
    pub since: UnixMicros,
    pub reason: String,
}

impl Catalog {
    /// Makes partitions ahead and drops those whose days are over, for every stream with retention that is due.
    pub async fn maintain_partitions(&self, now: UnixMicros) {
        let snapshot = self.streams.snapshot();
        self.partitions.lock().retain(|stream, _| snapshot.by_id(*stream).is_some());
        for stream in snapshot.iter().filter(|stream| stream.retention_days.is_some()) {
            if !self.partitions.is_due(stream.id, Instant::now()) {
                continue;
            }
            let pool = &self.database.pools().schema;
            let today = now.date_time().date();
            let failure = match partitions::maintain(pool, stream, today).await {
                Ok(0) => None,
                Ok(dropped) => {
                    tracing::info!(stream = %stream.name, dropped, "partitions beyond retention dropped");
                    None
                }
                Err(error) if error.is_outage() => {
                    tracing::debug!(%error, "partitions are not looked after while PostgreSQL is away");
                    return;
                }
                Err(error) => Some(error.to_string()),
            };
            match self.partitions.done(stream.id, failure, now, Instant::now()) {
                Change::Failed(reason) => {
                    tracing::warn!(
                        stream = %stream.name, reason, every = ?LOOK_AT_PARTITIONS_EVERY,
                        "partitions were not made or dropped; trying again"
                    );
                }
                Change::Recovered => {
                    tracing::info!(stream = %stream.name, "partitions are made and dropped again");
                }
                Change::None => {}
            }
        }
    }

    /// Streams whose partitions could not be made ahead or dropped at the latest try.
    pub fn partitions_behind(&self) -> BTreeMap<StreamId, PartitionsBehind> {
        let upkeep = self.partitions.lock();
        let behind = upkeep.iter().filter_map(|(id, due)| Some((*id, due.behind.clone()?)));
        behind.collect()
    }
}

/// What is to be said of a try.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    Failed(String),
    Recovered,
}

impl Upkeep {
    fn is_due(&self, stream: StreamId, now: Instant) -> bool {
        self.lock().get(&stream).is_none_or(|next| next.due <= now)
    }

    /// Notes how a try went, and when the next one is due.
    fn done(
        &self,
        stream: StreamId,
        failure: Option<String>,
        at: UnixMicros,
        now: Instant,
    ) -> Change {
        let mut upkeep = self.lock();
        let before = upkeep.get(&stream).and_then(|due| due.behind.as_ref());
        let since = before.map_or(at, |behind| behind.since);
        let change = match (before, &failure) {
            (None, Some(reason)) => Change::Failed(reason.clone()),
            (Some(_), None) => Change::Recovered,
            _ => Change::None,
        };
        let due = if failure.is_some() { now } else { now + MAINTAIN_EVERY };
        let behind = failure.map(|reason| PartitionsBehind { since, reason });
        upkeep.insert(stream, Due { due, behind });
        change
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Due>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_failed_is_due_at_the_next_look_and_the_others_in_an_hour() {
        let (upkeep, now) = (Upkeep::default(), Instant::now());
        let (locked, free, at) = (StreamId(1), StreamId(2), UnixMicros(7));
        assert!(upkeep.is_due(locked, now) && upkeep.is_due(free, now));
        let reason = "locked".to_owned();
        let failed = upkeep.done(locked, Some(reason.clone()), at, now);
        assert_eq!(failed, Change::Failed(reason.clone()));
        assert_eq!(upkeep.done(free, None, at, now), Change::None);
        let next = now + LOOK_AT_PARTITIONS_EVERY;
        assert!(upkeep.is_due(locked, next) && !upkeep.is_due(free, next));
        let later = UnixMicros(9);
        assert_eq!(upkeep.done(locked, Some(reason), later, next), Change::None, "said once");
        let since = upkeep.lock()[&locked].behind.as_ref().map(|behind| behind.since);
        assert_eq!(since, Some(at), "since the first failure");
        assert_eq!(upkeep.done(locked, None, later, next), Change::Recovered);
        assert!(!upkeep.is_due(locked, next) && upkeep.is_due(locked, next + MAINTAIN_EVERY));
    }
}
