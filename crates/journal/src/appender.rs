//! Appending: the one place where acknowledged bytes come from.
//!
//! A group is written with vectored writes straight from its entries, synced once, and published
//! only then. After any failed write or sync the appender stops: what is on disk is unknown, and a
//! second sync would report success for bytes that were dropped. It goes on only behind a cut
//! (`cut`) and in a new file, so nothing depends on what became of the bytes that failed.

use std::sync::Arc;

use tidegate_record::Position;

use super::Shared;
use super::active::Active;
use super::cut::cut_to;
use super::entry::SealedEntry;
use super::failure::DiskFailure;
use super::format::{ENTRY_BYTES_MAX, SEGMENT_HEADER_BYTES};

/// Where a group lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first entry's position.
    pub first: Position,
    /// The last entry's end. Everything below it is durable.
    pub end: Position,
}

/// Why a group was not appended. None of it was made visible, and none of it may be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written; there is room again when the journal was trimmed.
    #[error("the journal is full: it holds {bytes} of {bytes_max} bytes")]
    Full { bytes: u64, bytes_max: u64 },
    /// One entry, by its place in the group, can never fit. Nothing was written.
    #[error("entry {index} of the group has {bytes} bytes, more than {bytes_max}")]
    TooLarge { index: usize, bytes: u64, bytes_max: u64 },
    /// Writing or syncing failed, now or before. Stays so until [`Appender::restart`], or until the
    /// journal is opened anew.
    #[error("the journal could not be written: {failure}")]
    Failed {
        failure: DiskFailure,
        /// Part of the group is perhaps on disk and could not be cut off yet: if the process ends
        /// before [`Appender::restart`] succeeds, it may be read after the next opening. If false,
        /// nothing of it will ever be read.
        may_remain: bool,
    },
}

/// The one writer of a journal, owned by one thread.
pub struct Appender {
    shared: Arc<Shared>,
    state: State,
}

enum State {
    Writing(Active),
    Failed {
        failure: DiskFailure,
        /// Nothing above what is durable is on disk.
        is_cut: bool,
    },
}

impl Appender {
    /// Begins a new segment at the end of the journal. Where that fails (a full disk), the appender
    /// starts out failed, so that the journal can be read, and trimmed, all the same.
    pub(super) fn begin(shared: Arc<Shared>) -> Appender {
        let state = match Active::begin(&shared, Position(shared.synced()), 0) {
            Ok(active) => State::Writing(active),
            // Opening has cut off the torn tail, and a new segment holds nothing.
            Err(failure) => State::Failed { failure, is_cut: true },
        };
        Appender { shared, state }
    }

    /// Appends a group, all or nothing, and returns when it is durable. Each entry then knows its
    /// position.
    pub fn append(&mut self, group: &mut [SealedEntry]) -> Result<Appended, AppendError> {
        let active = match &mut self.state {
            State::Writing(active) => active,
            State::Failed { failure, .. } => {
                return Err(AppendError::Failed { failure: failure.clone(), may_remain: false });
            }
        };
        admit(&self.shared, active, group)?;
        write_group(&self.shared, active, group).map_err(|failure| self.fail(failure))
    }

    /// Stops, and takes back what was written, if the disk lets it.
    fn fail(&mut self, failure: DiskFailure) -> AppendError {
        let is_cut = cut_to(&self.shared, self.shared.synced()).is_ok();
        self.state = State::Failed { failure: failure.clone(), is_cut };
        AppendError::Failed { failure, may_remain: !is_cut }
    }

    /// The failure that stopped it, or that the latest [`Appender::restart`] met.
    pub fn failure(&self) -> Option<&DiskFailure> {
        match &self.state {
            State::Writing(_) => None,
            State::Failed { failure, .. } => Some(failure),
        }
    }

    /// Starts anew after a failure, without closing the journal for its readers: cuts off what was
    /// never acknowledged and begins a new segment. On an error it stays failed.
    pub fn restart(&mut self) -> Result<(), DiskFailure> {
        let State::Failed { failure, is_cut } = &mut self.state else {
            return Ok(());
        };
        // Invariant: everything below synced was synced by a sync that succeeded.
        let synced = self.shared.synced();
        let cut = if *is_cut { Ok(()) } else { cut_to(&self.shared, synced) };
        *is_cut = cut.is_ok();
        match cut.and_then(|()| Active::begin(&self.shared, Position(synced), 0)) {
            Ok(active) => {
                self.state = State::Writing(active);
                Ok(())
            }
            Err(newer) => {
                *failure = newer.clone();
                Err(newer)
            }
        }
    }

    /// Ends the segment, so that the next opening knows all of it to be durable, even if its last
    /// bytes are damaged by then. Without this nothing is lost either.
    pub fn close(mut self) -> Result<(), DiskFailure> {
        match &mut self.state {
            State::Writing(active) if !active.is_empty() => active.rotate(&self.shared, 0),
            _ => Ok(()),
        }
    }
}

fn admit(shared: &Shared, active: &Active, group: &[SealedEntry]) -> Result<(), AppendError> {
    let bytes_max = shared.options.bytes_max;
    let entry_max = ENTRY_BYTES_MAX.min(bytes_max.saturating_sub(SEGMENT_HEADER_BYTES));
    let too_large = |entry: &SealedEntry| entry.len_bytes() > entry_max || entry.is_too_large();
    if let Some(index) = group.iter().position(too_large) {
        let bytes = group[index].len_bytes();
        return Err(AppendError::TooLarge { index, bytes, bytes_max: entry_max });
    }
    let bytes = shared.segments.used_bytes();
    let added = active.added_bytes(shared, group.iter().map(SealedEntry::len_bytes));
    if bytes + added > bytes_max {
        return Err(AppendError::Full { bytes, bytes_max });
    }
    Ok(())
}

fn write_group(
    shared: &Shared,
    active: &mut Active,
    group: &mut [SealedEntry],
) -> Result<Appended, DiskFailure> {
    let synced = Position(shared.synced());
    let mut written = 0;
    for index in 0..group.len() {
        if !active.has_room(&group[index]) {
            active.write(&group[written..index])?;
            written = index;
            active.rotate(shared, group[index].len_bytes())?;
        }
        active.place(&mut group[index], synced, shared.identity.secret);
    }
    let Some(first) = group.first().map(SealedEntry::position) else {
        return Ok(Appended { first: synced, end: synced });
    };
    active.write(&group[written..])?;
    active.sync()?;
    active.publish();
    shared.publish_synced(active.end());
    Ok(Appended { first, end: active.end() })
}

#[cfg(test)]
mod tests {
    use tidegate_record::{ColumnSet, UnixMicros};

    use super::super::fixture::{
        DIR, OPTIONS, all_bodies, append, entry, memory, open, segment_path, try_open,
    };
    use super::super::{DiskStorage, EntryDraft, Journal, JournalOptions, Opened};
    use super::*;
    use std::path::Path;

    #[test]
    fn entries_never_span_segments_and_a_large_one_has_its_own() {
        let storage = memory();
        let Opened { journal, mut appender, .. } = open(&storage);
        let bodies: Vec<Vec<u8>> =
            [900, 900, 900, 900, 10_000, 0, 3900].map(|length| vec![7; length]).into();
        let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let appended = append(&mut appender, &slices);
        assert_eq!(appended.first, Position(64));
        assert_eq!(journal.synced(), appended.end);
        assert_eq!(journal.bytes(), appended.end.0);
        assert_eq!(all_bodies(&journal), bodies);
        let lengths: Vec<usize> = storage
            .files(Path::new(DIR), ".segment")
            .iter()
            .map(|path| storage.durable(path).len())
            .collect();
        // Four of 968 bytes; the large one; the empty one; the last, with its reserved space.
        assert_eq!(lengths, [64 + 4 * 968, 64 + 10_072, 64 + 72, 4096]);
    }

    #[test]
    fn a_full_journal_takes_nothing_and_goes_on_when_trimmed() {
        let storage = memory();
        let options = JournalOptions { bytes_max: 10_000, ..OPTIONS };
        let Opened { journal, mut appender, .. } =
            Journal::open(Path::new(DIR), options, storage.clone()).unwrap();
        for _ in 0..4 {
            append(&mut appender, &[&[1; 2000]]);
        }
        let (bytes, synced) = (journal.bytes(), journal.synced());
        let full = appender.append(&mut [entry(&[1; 2000], 5)]);
        assert!(
            matches!(full, Err(AppendError::Full { bytes: b, bytes_max: 10_000 }) if b == bytes)
        );
        assert_eq!((journal.bytes(), journal.synced()), (bytes, synced));
        append(&mut appender, &[&[2; 10]]);
        journal.trim(synced, UnixMicros(i64::MAX)).unwrap();
        append(&mut appender, &[&[1; 2000]]);
        assert!(journal.bytes() <= 10_000);
    }

    #[test]
    fn an_entry_that_can_never_fit_is_named_and_does_not_stop_the_appender() {
        let storage = memory();
        let Opened { journal, mut appender, .. } = open(&storage);
        let large = vec![0; 1 << 20];
        let mut group = [entry(b"a", 5), entry(&large, 5)];
        let refused = appender.append(&mut group);
        assert!(matches!(refused, Err(AppendError::TooLarge { index: 1, .. })));
        let meta = vec![0; usize::from(u16::MAX) + 1];
        let with_meta = EntryDraft::new(&meta, 0).seal(1, 2, ColumnSet(3), 4, UnixMicros(5));
        let refused = appender.append(&mut [with_meta]);
        assert!(matches!(refused, Err(AppendError::TooLarge { index: 0, .. })));
        append(&mut appender, &[b"b"]);
        assert_eq!(all_bodies(&journal), [b"b"]);
    }

    #[test]
    fn an_empty_group_is_nothing() {
        let Opened { journal, mut appender, .. } = open(&memory());
        let appended = appender.append(&mut []).unwrap();
        assert_eq!(appended, Appended { first: Position(0), end: Position(0) });
        assert_eq!(journal.synced(), Position(0));
    }

    #[test]
    fn a_failed_sync_is_not_tried_again_and_shows_nothing() {
        let storage = memory();
        let Opened { journal, mut appender, .. } = open(&storage);
        append(&mut appender, &[b"first"]);
        storage.fail_sync_after(Some(0));
        let failed = appender.append(&mut [entry(b"second", 5)]);
        assert!(matches!(failed, Err(AppendError::Failed { .. })));
        storage.fail_sync_after(None);
        let failed = appender.append(&mut [entry(b"third", 5)]);
        assert!(matches!(failed, Err(AppendError::Failed { .. })), "the failure is sticky");
        assert!(appender.failure().is_some());
        assert_eq!(all_bodies(&journal), [b"first"]);

        appender.restart().unwrap();
        append(&mut appender, &[b"fourth"]);
        assert_eq!(all_bodies(&journal), [&b"first"[..], b"fourth"]);
        drop(appender);
        storage.crash();
        assert_eq!(all_bodies(&open(&storage).journal), [&b"first"[..], b"fourth"]);
    }

    #[test]
    fn a_full_disk_at_opening_leaves_the_journal_readable() {
        let storage = memory();
        append(&mut open(&storage).appender, &[b"kept"]);
        // Just enough to write again what is not proven durable, for which a real disk has the
        // space already.
        storage.fill_after(Some(72));
        let Opened { journal, mut appender, damages } = try_open(&storage).unwrap();
        assert_eq!(damages, []);
        assert_eq!(all_bodies(&journal), [b"kept"]);
        assert!(appender.restart().is_err());
        assert!(matches!(appender.append(&mut [entry(b"no", 5)]), Err(AppendError::Failed { .. })));
        storage.fill_after(None);
        appender.restart().unwrap();
        append(&mut appender, &[b"more"]);
        assert_eq!(all_bodies(&journal), [b"kept", b"more"]);
    }

    #[test]
    fn closing_leaves_an_empty_segment_that_proves_the_rest() {
        let storage = memory();
        let Opened { mut appender, .. } = open(&storage);
        let end = append(&mut appender, &[b"last"]).end;
        appender.close().unwrap();
        assert!(!storage.durable(&segment_path(end.0)).is_empty());
        // Without the close this would be a torn tail.
        storage.flip(&segment_path(0), 64 + 64 + 4, 1);
        let damages = open(&storage).damages;
        assert_eq!(damages.len(), 1);
        assert_eq!((damages[0].from, damages[0].to), (Position(64), end));
    }

    #[test]
    fn the_real_disk_keeps_a_group_larger_than_one_vectored_write() {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions { segment_bytes: 64 * 1024, ..OPTIONS };
        let bodies: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_le_bytes().repeat(3)).collect();
        let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let Opened { journal, mut appender, .. } =
            Journal::open(dir.path(), options, DiskStorage).unwrap();
        let end = append(&mut appender, &slices).end;
        assert_eq!(all_bodies(&journal), bodies);
        let id = journal.id();
        drop((journal, appender));
        let Opened { journal, damages, .. } =
            Journal::open(dir.path(), options, DiskStorage).unwrap();
        assert_eq!(damages, []);
        assert_eq!((journal.id(), journal.synced()), (id, end));
        assert_eq!(all_bodies(&journal), bodies);
    }
}
