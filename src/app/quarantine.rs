//! The quarantine's upkeep: measures what it holds, and takes out what has to leave it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tidegate_record::StreamId;

use crate::api::AppState;
use crate::config::{Quarantine, QuarantineFull};
use crate::db::quarantine_limits::{self, CHUNK_ROWS, Drops, KeptOfStream};
use crate::pipeline::{
    DroppedRecords, KeptAmount, MEASURE_EVERY, QuarantineBudget, QuarantineLimits,
};
use crate::telemetry::limits::{QUARANTINE_AGE, QUARANTINE_OLDEST};

/// Time between two looks while nothing comes in or leaves; others may put something in or take it out.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks for rows that are too old.
const AGE_EVERY: Duration = Duration::from_mins(10);
/// Transactions that one look may take to drop rows; the next one goes on.
const CHUNKS_MAX: u32 = 20;

/// The limits as they are set.
pub(super) fn limits(settings: &Quarantine) -> QuarantineLimits {
    QuarantineLimits {
        request: KeptAmount {
            records: settings.quarantine_request_records_max,
            bytes: settings.quarantine_request_bytes_max,
        },
        stream: KeptAmount {
            records: settings.quarantine_stream_records_max,
            bytes: settings.quarantine_stream_bytes_max,
        },
        all: KeptAmount {
            records: settings.quarantine_records_max,
            bytes: settings.quarantine_bytes_max,
        },
        full: settings.quarantine_full,
    }
}

/// Starts it.
pub(super) fn start(state: &AppState) {
    let mut upkeep =
        Upkeep { state: state.clone(), room: state.ingest.quarantine.clone(), aged_at: None };
    let soft = state.lifecycle.soft().clone();
    state.lifecycle.spawn("quarantine", async move {
        loop {
            let pause = tokio::select! {
                pause = upkeep.look() => pause,
                () = soft.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = soft.cancelled() => return,
            }
        }
    });
}

struct Upkeep {
    state: AppState,
    room: QuarantineBudget,
    /// When old rows were last looked for; `None`: not all of them are gone.
    aged_at: Option<Instant>,
}

impl Upkeep {
    /// One look; returns the time until the next.
    async fn look(&mut self) -> Duration {
        let reachable = self.state.database_state.borrow().reachable;
        if !reachable {
            return LOOK_EVERY;
        }
        match self.work().await {
            Ok(goes_on) if goes_on || self.room.is_moving() => MEASURE_EVERY,
            Ok(_) => LOOK_EVERY,
            Err(error) => {
                tracing::debug!(%error, "the quarantine was not looked at; it is tried again");
                LOOK_EVERY
            }
        }
    }

    /// Measures, and drops what has to go; true if there is more to drop.
    async fn work(&mut self) -> Result<bool, sqlx::Error> {
        // Before PostgreSQL is asked: what is committed by now is seen.
        let progress = &self.state.progress;
        self.room.note_committed(|first, last| progress.are_committed(first, last));
        let pool = &self.state.database.pools().changes;
        let kept = quarantine_limits::levels(pool).await?;
        self.room.measured(&invalid(&kept), accepted(&kept));
        let is_due = self.aged_at.is_none_or(|at| at.elapsed() >= AGE_EVERY);
        let limits = self.room.limits();
        if !is_due && due(&kept, limits).is_none() {
            return Ok(false);
        }
        self.drop_rows(is_due).await
    }

    async fn drop_rows(&mut self, with_old_ones: bool) -> Result<bool, sqlx::Error> {
        let pool = self.state.database.pools().changes.clone();
        let limits = *self.room.limits();
        let mut old = if with_old_ones { self.old_ones() } else { Vec::new() };
        // Streams of which less is there than is counted: the triggers were switched off.
        let mut miscounted = HashSet::new();
        for _ in 0..CHUNKS_MAX {
            let Some(mut dropping) = quarantine_limits::begin_dropping(&pool).await? else {
                return Ok(false);
            };
            let mut kept = dropping.levels().await?;
            kept.retain(|kept| !miscounted.contains(&kept.stream));
            let Some(drops) = due(&kept, &limits).or(old.last().copied()) else {
                dropping.commit().await?;
                if with_old_ones {
                    self.aged_at = Some(Instant::now());
                }
                return Ok(false);
            };
            let rows = dropping.drop_rows(drops).await?;
            dropping.commit().await?;
            self.tell(drops, rows);
            match drops {
                Drops::Old { .. } if rows < u64::from(CHUNK_ROWS) => {
                    old.pop();
                }
                // Others have their turn.
                Drops::OfDeleted(stream) | Drops::Oldest { stream, .. } if rows == 0 => {
                    miscounted.insert(stream);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    fn tell(&self, drops: Drops, rows: u64) {
        if rows == 0 {
            return;
        }
        match drops {
            Drops::OfDeleted(stream) => {
                tracing::info!(
                    stream = stream.0,
                    rows,
                    "what a deleted stream refused was dropped"
                );
            }
            Drops::Oldest { .. } => {
                QUARANTINE_OLDEST.hits(rows);
                self.room.add_dropped(DroppedRecords { oldest: rows, ..DroppedRecords::default() });
            }
            Drops::Old { .. } => {
                QUARANTINE_AGE.hits(rows);
                self.room
                    .add_dropped(DroppedRecords { for_age: rows, ..DroppedRecords::default() });
            }
        }
    }

    /// What is too old by now.
    fn old_ones(&self) -> Vec<Drops> {
        let settings = &self.state.config.quarantine;
        let now = self.state.clock.now().date_time();
        let of_age = |days: u16, accepted| {
            let kept_for = time::Duration::days(days.into());
            (days > 0).then_some(Drops::Old { now, kept_for, accepted })
        };
        let invalid = of_age(settings.quarantine_days, false);
        let accepted = of_age(settings.quarantine_accepted_days, true);
        invalid.into_iter().chain(accepted).collect()
    }
}

fn amount(kept: &KeptOfStream) -> KeptAmount {
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    KeptAmount { records: number(kept.records), bytes: number(kept.bytes) }
}

fn invalid(kept: &[KeptOfStream]) -> HashMap<StreamId, KeptAmount> {
    let invalid = kept.iter().filter(|kept| !kept.accepted);
    invalid.map(|kept| (kept.stream, amount(kept))).collect()
}

fn accepted(kept: &[KeptOfStream]) -> KeptAmount {
    let accepted = kept.iter().filter(|kept| kept.accepted);
    accepted.map(amount).fold(KeptAmount::default(), KeptAmount::plus)
}

/// What has to leave, whatever its age: rows of deleted streams; and where the oldest make room, those of a stream that has
/// too many, or of the one that has the most while there are too many in all.
fn due(kept: &[KeptOfStream], limits: &QuarantineLimits) -> Option<Drops> {
    if let Some(deleted) = kept.iter().find(|kept| kept.deleted) {
        return Some(Drops::OfDeleted(deleted.stream));
    }
    if limits.full == QuarantineFull::Refuse {
        return None;
    }
    let streams = invalid(kept);
    let oldest =
        |(stream, of_stream): (&StreamId, &KeptAmount), held: KeptAmount, limit: KeptAmount| {
            let rows = rows_over(held, limit, *of_stream);
            Drops::Oldest { stream: *stream, rows }
        };
    if let Some(over) = streams.iter().find(|(_, kept)| kept.exceeds(limits.stream)) {
        return Some(oldest(over, *over.1, limits.stream));
    }
    let all = streams.values().copied().fold(KeptAmount::default(), KeptAmount::plus);
    if !all.exceeds(limits.all) {
        return None;
    }
    let by_records = all.records > limits.all.records;
    let size = |kept: &KeptAmount| if by_records { kept.records } else { kept.bytes };
    let largest = streams.iter().max_by_key(|(_, kept)| size(kept))?;
    Some(oldest(largest, all, limits.all))
}

/// About how many rows of a stream have to go, so that what is held is within the limit again.
fn rows_over(held: KeptAmount, limit: KeptAmount, of_stream: KeptAmount) -> u32 {
    let by_records = held.records.saturating_sub(limit.records);
    let row_bytes = (of_stream.bytes / of_stream.records.max(1)).max(1);
    let by_bytes = held.bytes.saturating_sub(limit.bytes).div_ceil(row_bytes);
    u32::try_from(by_records.max(by_bytes)).unwrap_or(u32::MAX).clamp(1, CHUNK_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(stream: i32, records: i64, bytes: i64) -> KeptOfStream {
        let stream = StreamId(stream);
        KeptOfStream { stream, accepted: false, records, bytes, deleted: false }
    }

    fn limits(full: QuarantineFull) -> QuarantineLimits {
        let stream = KeptAmount { records: 100, bytes: 10_000 };
        let all = KeptAmount { records: 200, bytes: 20_000 };
        QuarantineLimits { stream, all, full, ..QuarantineLimits::NONE }
    }

    #[test]
    fn what_has_to_leave_is_what_is_over_the_oldest_of_the_largest_stream_first() {
        let limits = limits(QuarantineFull::DropOldest);
        let oldest = |stream, rows| Some(Drops::Oldest { stream: StreamId(stream), rows });
        let full = [kept(1, 100, 10_000), kept(2, 100, 9_000)];
        assert_eq!(due(&full, &limits), None);
        assert_eq!(due(&[kept(1, 103, 1_030)], &limits), oldest(1, 3));
        assert_eq!(due(&[kept(1, 50, 10_100)], &limits), oldest(1, 1), "by bytes");
        assert_eq!(due(&[kept(1, 9_000, 9_000)], &limits), oldest(1, CHUNK_ROWS), "bit by bit");
        let many = [kept(1, 60, 60), kept(2, 90, 90), kept(3, 60, 70)];
        assert_eq!(due(&many, &limits), oldest(2, 10));
        let large = [kept(1, 10, 9_000), kept(2, 90, 1_900), kept(3, 9, 9_900)];
        assert_eq!(due(&large, &limits), oldest(3, 1));
    }

    #[test]
    fn accepted_records_and_a_full_quarantine_that_refuses_lose_nothing() {
        let over = kept(1, 1_000, 1_000_000);
        assert_eq!(due(&[over], &limits(QuarantineFull::Refuse)), None);
        let accepted = KeptOfStream { accepted: true, ..over };
        assert_eq!(due(&[accepted], &limits(QuarantineFull::DropOldest)), None);
    }

    #[test]
    fn what_a_deleted_stream_refused_leaves_with_it() {
        for accepted in [true, false] {
            let deleted = KeptOfStream { accepted, deleted: true, ..kept(1, 1, 1) };
            for full in [QuarantineFull::Refuse, QuarantineFull::DropOldest] {
                assert_eq!(due(&[deleted], &limits(full)), Some(Drops::OfDeleted(StreamId(1))));
            }
        }
    }
}
