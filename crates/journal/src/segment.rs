//! The segments that are there: their names, their ends, and the list that all handles share.
//!
//! A segment holds no file open by itself, so that a long backlog does not use up the process's
//! files: the appender keeps the one it writes, each reader the one it reads. The list's lock is
//! never held during I/O.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tidegate_record::UnixMicros;

use super::format::{
    ALIGNMENT_BYTES, POSITION_MAX, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, SegmentHeader,
    SegmentHeaderFault,
};
use super::storage::{Storage, StorageFile, read_range};

const SUFFIX: &str = ".segment";

/// No time, of a segment that is not committed.
const NOT_COMMITTED: i64 = i64::MIN;

/// One file of the journal.
pub(super) struct Segment {
    pub first: u64,
    pub path: PathBuf,
    /// End of what a reader may look at; in the active segment it moves on with each group.
    end: AtomicU64,
    /// The latest time of its entries.
    newest: AtomicI64,
    /// When it was first seen committed.
    committed_at: AtomicI64,
    file: Mutex<Option<Weak<dyn StorageFile>>>,
}

impl Segment {
    pub fn new(dir: &Path, first: u64, end: u64, newest: UnixMicros) -> Segment {
        Segment {
            first,
            path: dir.join(file_name(first)),
            end: AtomicU64::new(end),
            newest: AtomicI64::new(newest.0),
            committed_at: AtomicI64::new(NOT_COMMITTED),
            file: Mutex::new(None),
        }
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    fn newest(&self) -> UnixMicros {
        UnixMicros(self.newest.load(Ordering::Relaxed))
    }

    pub fn note_time(&self, received_at: UnixMicros) {
        self.newest.fetch_max(received_at.0, Ordering::Relaxed);
    }

    /// Notes whether it is committed now. A database that lost its last commits makes it uncommitted again.
    pub fn note_committed(&self, is_committed: bool, now: UnixMicros) {
        if !is_committed {
            self.committed_at.store(NOT_COMMITTED, Ordering::Relaxed);
        } else if self.committed_at.load(Ordering::Relaxed) == NOT_COMMITTED {
            self.committed_at.store(now.0, Ordering::Relaxed);
        }
    }

    /// Since when its retention counts: since its commit, and for its youngest entry since it came.
    pub fn retained_since(&self) -> UnixMicros {
        self.newest().max(UnixMicros(self.committed_at.load(Ordering::Relaxed)))
    }

    /// Bytes it takes without what is only reserved.
    pub fn used_bytes(&self) -> u64 {
        (self.end() - self.first).max(SEGMENT_HEADER_BYTES)
    }

    /// Where its first entry lies.
    pub fn content_start(&self) -> u64 {
        self.first + SEGMENT_HEADER_BYTES
    }

    /// The file; one open file is shared by all that read or write the segment.
    pub fn file(&self, storage: &dyn Storage) -> io::Result<Arc<dyn StorageFile>> {
        let known = self.known_file().as_ref().and_then(Weak::upgrade);
        if let Some(file) = known {
            return Ok(file);
        }
        let file = storage.open(&self.path)?;
        self.know_file(&file);
        Ok(file)
    }

    /// Shares a file that is open already.
    pub fn know_file(&self, file: &Arc<dyn StorageFile>) {
        *self.known_file() = Some(Arc::downgrade(file));
    }

    fn known_file(&self) -> std::sync::MutexGuard<'_, Option<Weak<dyn StorageFile>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All segments by their first position.
#[derive(Default)]
pub(super) struct SegmentList(RwLock<BTreeMap<u64, Arc<Segment>>>);

impl SegmentList {
    pub fn new(segments: impl IntoIterator<Item = Segment>) -> SegmentList {
        let by_first = segments.into_iter().map(|segment| (segment.first, Arc::new(segment)));
        SegmentList(RwLock::new(by_first.collect()))
    }

    /// Adds one, in place of one that begins at the same position.
    pub fn insert(&self, segment: Arc<Segment>) {
        self.write().insert(segment.first, segment);
    }

    pub fn remove(&self, first: u64) {
        self.write().remove(&first);
    }

    pub fn first(&self) -> Option<u64> {
        self.read().keys().next().copied()
    }

    /// Every segment, the oldest first.
    pub fn all(&self) -> Vec<Arc<Segment>> {
        self.read().values().cloned().collect()
    }

    /// The segment that holds what lies at `position`, or else the next one.
    pub fn at(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = self.read();
        let below = segments.range(..=position).next_back().map(|(_, segment)| segment);
        match below {
            Some(segment) if position < segment.end() => Some(Arc::clone(segment)),
            _ => segments.range(position.saturating_add(1)..).next().map(|(_, s)| Arc::clone(s)),
        }
    }

    pub fn used_bytes(&self) -> u64 {
        self.read().values().map(|segment| segment.used_bytes()).sum()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the segment that begins at `first`.
pub(super) fn file_name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The first position in a segment's name; `None` for any other file.
pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let first = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    let ours = first < POSITION_MAX
        && first.is_multiple_of(ALIGNMENT_BYTES as u64)
        && file_name(first) == name;
    ours.then_some(first)
}

/// The first positions of the segments in a directory, the oldest first.
pub(super) fn list_segments(dir: &Path, storage: &dyn Storage) -> io::Result<Vec<u64>> {
    let names = storage.list(dir)?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// The header in a segment's file.
pub(super) fn read_header(
    file: &dyn StorageFile,
) -> io::Result<Result<SegmentHeader, SegmentHeaderFault>> {
    Ok(SegmentHeader::decode(&read_range(file, 0, SEGMENT_HEADER_LEN)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_read() {
        assert_eq!(parse_file_name(&file_name(0)), Some(0));
        assert_eq!(parse_file_name(&file_name(0xab_cdef_0008)), Some(0xab_cdef_0008));
        let other_names = [
            "0000000000000000.segment.new",
            "8.segment",
            "000000000000000A.segment",
            "0000000000000001.segment",
            "fffffffffffffff8.segment",
            "+000000000000008.segment",
            "journal",
        ];
        for name in other_names {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_position_between_segments_belongs_to_the_next() {
        let dir = Path::new("dir");
        let list = SegmentList::new([
            Segment::new(dir, 64, 128, UnixMicros(0)),
            Segment::new(dir, 256, 512, UnixMicros(0)),
        ]);
        let first_at = |position| list.at(position).map(|segment| segment.first);
        assert_eq!(first_at(0), Some(64));
        assert_eq!(first_at(127), Some(64));
        assert_eq!(first_at(128), Some(256));
        assert_eq!(first_at(512), None);
        assert_eq!(first_at(u64::MAX), None);
        assert_eq!(list.used_bytes(), 64 + 256);
    }
}
