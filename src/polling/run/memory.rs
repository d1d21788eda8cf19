//! What a job remembers of its items, and for how long.
//!
//! Invariant: an item of an answer that came within [`MemoryDays`] is remembered. Its day is not noted with every answer,
//! but often enough for that; and only a run that got a whole answer forgets, so that an API that is away, or says for a
//! year that nothing has changed, finds its items remembered.

use std::collections::HashMap;

use tidegate_record::{ItemHash, RunId};
use uuid::Uuid;

use crate::db::{self, Pool, polled_items, polling_runs};
use crate::polling::context::MemoryDays;

/// A day is noted, and old items are looked for, this many times within the memory.
const NOTED_WITHIN: i32 = 8;

impl MemoryDays {
    fn forget_after(self) -> Option<i32> {
        self.0.map(i32::from)
    }

    fn note_after(self) -> Option<i32> {
        self.forget_after().map(|days| (days / NOTED_WITHIN).max(1))
    }
}

/// One job's memory.
pub(super) struct Memory<'a> {
    pool: &'a Pool,
    days: MemoryDays,
    job: Uuid,
}

impl<'a> Memory<'a> {
    pub fn new(pool: &'a Pool, days: MemoryDays, job: Uuid) -> Memory<'a> {
        Memory { pool, days, job }
    }

    /// Of these items those that were seen before, with their content then. They count as seen today.
    pub async fn look_up(
        &self,
        keys: &[ItemHash],
    ) -> Result<HashMap<ItemHash, ItemHash>, db::Error> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let seen = polled_items::seen(self.pool, self.job, keys, self.days.note_after()).await?;
        let long_ago: Vec<ItemHash> =
            seen.iter().filter(|(_, item)| item.long_ago).map(|(key, _)| *key).collect();
        if !long_ago.is_empty() {
            polled_items::seen_again(self.pool, self.job, &long_ago).await?;
        }
        Ok(seen.into_iter().map(|(key, item)| (key, item.content)).collect())
    }

    /// Forgets what no answer had for long, after a run that got a whole one; says how many. If it ends half way,
    /// the next time goes on.
    pub async fn forget_old(
        &self,
        run: RunId,
        is_over: impl Fn() -> bool,
    ) -> Result<u64, db::Error> {
        let (Some(days), Some(every)) = (self.days.forget_after(), self.days.note_after()) else {
            return Ok(0);
        };
        if !polling_runs::begin_pruning(self.pool, run, every).await? {
            return Ok(0);
        }
        let (mut after, mut forgotten) = (None, 0);
        while !is_over() {
            let window = polled_items::forget(self.pool, self.job, after, days).await?;
            let Some(window) = window else { break };
            forgotten += window.forgotten;
            after = Some(window.last);
        }
        Ok(forgotten)
    }
}
