//! Which committed segments may go.
//!
//! Committed segments are kept a while: a database that fails over to a replica without its last
//! commits is answered by replaying them.

use std::io;
use std::sync::Arc;

use tidegate_record::{Position, UnixMicros};

use super::Shared;
use super::segment::Segment;

/// Deletes the oldest segments that are committed and beyond the retention, which counts from when they were first
/// seen committed: however long the database was away, what it just took stays for all of it.
pub(super) fn trim(shared: &Shared, committed: Position, now: UnixMicros) -> io::Result<()> {
    for segment in ended(shared) {
        segment.note_committed(segment.end() <= committed.0, now);
    }
    remove_while(shared, committed, |segment, retained_bytes| {
        is_beyond(shared, segment, retained_bytes, now)
    })
}

/// Deletes all segments that are committed, whatever the retention.
pub(super) fn trim_committed(shared: &Shared, committed: Position) -> io::Result<()> {
    remove_while(shared, committed, |_, _| true)
}

/// All but the last, which is the one being written.
fn ended(shared: &Shared) -> Vec<Arc<Segment>> {
    let mut segments = shared.segments.all();
    segments.pop();
    segments
}

/// Deletes committed segments, the oldest first, as long as `may_go` says so; it is told the bytes of all that are left.
fn remove_while(
    shared: &Shared,
    committed: Position,
    may_go: impl Fn(&Segment, u64) -> bool,
) -> io::Result<()> {
    let segments = ended(shared);
    let is_committed = |segment: &&Arc<Segment>| segment.end() <= committed.0;
    let retained: Vec<_> = segments.iter().take_while(is_committed).collect();
    let mut retained_bytes: u64 = retained.iter().map(|segment| segment.used_bytes()).sum();
    for segment in retained {
        if !may_go(segment, retained_bytes) {
            break;
        }
        retained_bytes -= segment.used_bytes();
        // Readers must not find it any more when its file goes.
        shared.segments.remove(segment.first);
        remove_file(shared, segment)?;
    }
    Ok(())
}

fn is_beyond(shared: &Shared, segment: &Segment, retained_bytes: u64, now: UnixMicros) -> bool {
    // Retention must not fill a journal whose backlog is empty.
    let bytes_max = shared.options.retention_bytes.min(shared.options.bytes_max / 2);
    let age_max_us = i64::try_from(shared.options.retention.as_micros()).unwrap_or(i64::MAX);
    let age_us = now.0.saturating_sub(segment.retained_since().0);
    retained_bytes > bytes_max || age_us >= age_max_us
}

/// The directory is synced after each file, so that a crash cannot bring back an older segment
/// without the one after it, which would look like a missing one.
fn remove_file(shared: &Shared, segment: &Arc<Segment>) -> io::Result<()> {
    match shared.storage.remove(&segment.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            shared.segments.insert(Arc::clone(segment));
            Err(error)
        }
        _ => shared.storage.sync_dir(&shared.dir),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::fixture::{DIR, OPTIONS, all_bodies, entry, memory, open, segment_path};
    use super::super::{Journal, JournalOptions, Opened};
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Ten entries, a segment each, at seconds 1 to 10; then the empty segment of the close.
    fn ten_segments(options: JournalOptions) -> (Journal, Vec<Position>) {
        let Opened { journal, mut appender, .. } =
            Journal::open(Path::new(DIR), options, memory()).unwrap();
        let mut ends = Vec::new();
        for second in 1..=10 {
            let mut group = [entry(&[0; 3000], second * SECOND)];
            ends.push(appender.append(&mut group).unwrap().end);
        }
        appender.close().unwrap();
        (journal, ends)
    }

    #[test]
    fn nothing_goes_before_it_is_committed() {
        let (journal, ends) = ten_segments(OPTIONS);
        let now = UnixMicros(i64::MAX);
        assert_eq!(journal.trim(Position(0), now).unwrap(), Position(0));
        assert_eq!(journal.trim(Position(ends[0].0 - 1), now).unwrap(), Position(0));
        assert_eq!(journal.trim(ends[3], now).unwrap(), ends[3]);
        assert_eq!(all_bodies(&journal).len(), 6);
        assert_eq!(journal.trim(Position(u64::MAX), now).unwrap(), ends[9]);
        assert_eq!(journal.first(), journal.synced());
        assert_eq!(journal.bytes(), 64);
    }

    #[test]
    fn what_is_committed_stays_for_its_time_and_within_its_bytes() {
        let by_age = JournalOptions { retention: Duration::from_secs(3), ..OPTIONS };
        let (journal, ends) = ten_segments(by_age);
        let at = |second: i64| UnixMicros(second * SECOND);
        assert_eq!(journal.trim(ends[3], at(10)).unwrap(), Position(0), "committed just now");
        assert_eq!(journal.trim(ends[9], at(12)).unwrap(), Position(0));
        assert_eq!(journal.trim(ends[9], at(13)).unwrap(), ends[3]);
        assert_eq!(journal.trim(ends[9], at(15)).unwrap(), ends[9]);

        let bytes_max = 4 * ends[0].0;
        let by_bytes = JournalOptions { retention_bytes: bytes_max, ..by_age };
        let (journal, ends) = ten_segments(by_bytes);
        assert_eq!(journal.trim(ends[7], UnixMicros(0)).unwrap(), ends[3]);
        assert!(journal.bytes() > bytes_max, "what is not committed does not count");
    }

    #[test]
    fn what_was_lost_by_the_database_counts_from_its_next_commit() {
        let by_age = JournalOptions { retention: Duration::from_secs(3), ..OPTIONS };
        let (journal, ends) = ten_segments(by_age);
        let at = |second: i64| UnixMicros(second * SECOND);
        journal.trim(ends[9], at(100)).unwrap();
        journal.trim(ends[1], at(102)).unwrap();
        assert_eq!(journal.trim(ends[9], at(104)).unwrap(), ends[1]);
        assert_eq!(journal.trim(ends[9], at(107)).unwrap(), ends[9]);
    }

    #[test]
    fn a_full_disk_lets_all_go_that_is_committed_and_is_not_remembered() {
        let by_age = JournalOptions { retention: Duration::from_secs(3), ..OPTIONS };
        let (journal, ends) = ten_segments(by_age);
        assert_eq!(journal.trim_committed(ends[3]).unwrap(), ends[3]);
        let at = |second: i64| UnixMicros(second * SECOND);
        assert_eq!(journal.trim(ends[9], at(100)).unwrap(), ends[3]);
        assert_eq!(journal.trim(ends[9], at(103)).unwrap(), ends[9]);
    }

    #[test]
    fn retention_takes_at_most_half_of_the_journal() {
        let forever = JournalOptions {
            retention: Duration::MAX,
            retention_bytes: u64::MAX,
            bytes_max: 40_000,
            ..OPTIONS
        };
        let (journal, ends) = ten_segments(forever);
        journal.trim(ends[9], UnixMicros(0)).unwrap();
        assert!(journal.bytes() <= 20_000 + 64);
    }

    #[test]
    fn what_was_trimmed_stays_trimmed_and_its_positions_used() {
        let storage = memory();
        let Opened { journal, mut appender, .. } = open(&storage);
        for _ in 0..3 {
            appender.append(&mut [entry(&[0; 3000], 5)]).unwrap();
        }
        let (id, end) = (journal.id(), journal.synced());
        appender.close().unwrap();
        journal.trim(end, UnixMicros(i64::MAX)).unwrap();
        drop(journal);
        storage.crash();
        assert_eq!(storage.files(Path::new(DIR), ".segment"), [segment_path(end.0)]);
        let Opened { journal, damages, .. } = open(&storage);
        assert_eq!(damages, []);
        assert_eq!((journal.id(), journal.first(), journal.synced()), (id, end, end));
    }
}
