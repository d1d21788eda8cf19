//! The segment that is being written.
//!
//! It is made under another name and takes its own only when everything below it is durable, which
//! is what makes the name a proof (format.rs, invariant 1).

use std::sync::Arc;

use tidegate_record::{Position, UnixMicros};

use super::Shared;
use super::entry::SealedEntry;
use super::failure::{DiskFailure, during};
use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment::Segment;
use super::storage::{StorageFile, create_whole, write_all};

/// So much behind a small group is written as zeros along with it. A sync of blocks that are only reserved makes the file
/// system write down that they are in use now, in its own journal; the groups that follow here are spared that.
const ZEROS_AHEAD_BYTES: u64 = 256 << 10;
/// A group of more bytes than this is not small: what it would gain is less than the zeros cost.
const SMALL_GROUP_BYTES_MAX: u64 = ZEROS_AHEAD_BYTES / 4;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(super) struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn StorageFile>,
    capacity_bytes: u64,
    /// Offset in the file up to which entries have a place.
    placed_bytes: u64,
    /// Offset in the file up to which entries are written.
    written_bytes: u64,
    /// Offset in the file up to which blocks are in use.
    used_bytes: u64,
}

impl Active {
    /// Begins a segment with room for one entry of `entry_bytes` at least. Everything below `first`
    /// must be durable. A segment that begins at the same position holds no entry, and is replaced.
    pub fn begin(
        shared: &Shared,
        first: Position,
        entry_bytes: u64,
    ) -> Result<Active, DiskFailure> {
        let capacity_bytes = capacity_for(shared, entry_bytes);
        let segment = Segment::new(&shared.dir, first.0, first.0, UnixMicros(i64::MIN));
        let header = SegmentHeader { identity: shared.identity, first }.encode();
        let file = create_whole(&*shared.storage, &segment.path, |file| {
            file.allocate(capacity_bytes)?;
            write_all(file, [&header[..]], 0)
        })
        .map_err(during("begin the segment", &segment.path))?;
        shared.storage.sync_dir(&shared.dir).map_err(during("sync the directory", &shared.dir))?;
        segment.know_file(&file);
        let segment = Arc::new(segment);
        shared.segments.insert(Arc::clone(&segment));
        let used = SEGMENT_HEADER_BYTES;
        Ok(Active {
            segment,
            file,
            capacity_bytes,
            placed_bytes: used,
            written_bytes: used,
            used_bytes: used,
        })
    }

    /// Bytes that a group of entries of these lengths would add to the journal.
    pub fn added_bytes(&self, shared: &Shared, lengths: impl Iterator<Item = u64>) -> u64 {
        let (mut used, mut capacity, mut added) = (self.placed_bytes, self.capacity_bytes, 0);
        for length in lengths {
            if used + length > capacity {
                used = SEGMENT_HEADER_BYTES;
                capacity = capacity_for(shared, length);
                added += SEGMENT_HEADER_BYTES;
            }
            used += length;
            added += length;
        }
        added
    }

    pub fn is_empty(&self) -> bool {
        self.placed_bytes == SEGMENT_HEADER_BYTES
    }

    pub fn has_room(&self, entry: &SealedEntry) -> bool {
        self.placed_bytes + entry.len_bytes() <= self.capacity_bytes
    }

    /// Gives the next entry its place.
    pub fn place(&mut self, entry: &mut SealedEntry, synced: Position, secret: u32) {
        entry.place(Position(self.segment.first + self.placed_bytes), synced, secret);
        self.placed_bytes += entry.len_bytes();
        self.segment.note_time(entry.received_at());
    }

    /// Writes entries that were placed one after another and not written yet.
    pub fn write(&mut self, entries: &[SealedEntry]) -> Result<(), DiskFailure> {
        write_all(&*self.file, entries.iter().map(SealedEntry::as_bytes), self.written_bytes)
            .map_err(during("write to", &self.segment.path))?;
        let group_bytes = self.placed_bytes - self.written_bytes;
        self.written_bytes = self.placed_bytes;
        if self.written_bytes > self.used_bytes {
            self.used_bytes = self.written_bytes;
            if group_bytes <= SMALL_GROUP_BYTES_MAX {
                self.write_zeros_ahead()?;
            }
        }
        Ok(())
    }

    /// They read as what is only reserved does, so it makes no difference whether they become durable.
    fn write_zeros_ahead(&mut self) -> Result<(), DiskFailure> {
        let end = self.capacity_bytes.min(self.written_bytes + ZEROS_AHEAD_BYTES);
        let mut missing = usize::try_from(end - self.written_bytes).unwrap_or_default();
        let zeros = std::iter::from_fn(|| {
            let piece = &ZEROS[..missing.min(ZEROS.len())];
            missing -= piece.len();
            (!piece.is_empty()).then_some(piece)
        });
        write_all(&*self.file, zeros, self.written_bytes)
            .map_err(during("write to", &self.segment.path))?;
        self.used_bytes = end;
        Ok(())
    }

    pub fn sync(&self) -> Result<(), DiskFailure> {
        self.file.sync().map_err(during("sync", &self.segment.path))
    }

    /// End of the last entry that has a place; the segment's first position if there is none.
    pub fn end(&self) -> Position {
        let used = if self.is_empty() { 0 } else { self.placed_bytes };
        Position(self.segment.first + used)
    }

    /// Lets readers see what is durable.
    pub fn publish(&self) {
        self.segment.set_end(self.end().0);
    }

    /// Ends this segment durably and begins the next, with room for `entry_bytes`. What is in this
    /// one stays invisible to readers until the appender publishes what follows.
    pub fn rotate(&mut self, shared: &Shared, entry_bytes: u64) -> Result<(), DiskFailure> {
        if !self.is_empty() {
            let ended = self.file.truncate(self.written_bytes);
            ended.map_err(during("end the segment", &self.segment.path))?;
            self.sync()?;
        }
        // Before the next one is there: only the last segment is safe from a trim whatever its end is. Readers are
        // held back by synced, which is not moved here.
        self.publish();
        *self = Active::begin(shared, self.end(), entry_bytes)?;
        Ok(())
    }
}

fn capacity_for(shared: &Shared, entry_bytes: u64) -> u64 {
    shared.options.segment_bytes.max(SEGMENT_HEADER_BYTES + entry_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Opened;
    use super::super::fixture::{entry, memory, open};
    use super::*;

    /// Otherwise a trim that comes in between takes it for one that is committed.
    #[test]
    fn a_segment_knows_its_end_before_the_next_is_there() {
        let storage = memory();
        let Opened { journal, .. } = open(&storage);
        let shared = &journal.shared;
        let mut active = Active::begin(shared, Position(0), 0).unwrap();
        let mut group = [entry(b"a", 5)];
        active.place(&mut group[0], Position(0), 0);
        active.write(&group).unwrap();
        // The sync that ends it; the next one is that of the next segment.
        storage.fail_sync_after(Some(1));
        assert!(active.rotate(shared, 0).is_err());
        let ends: Vec<u64> = shared.segments.all().iter().map(|segment| segment.end()).collect();
        assert_eq!(ends, [group[0].end().0]);
    }

    #[test]
    fn zeros_go_ahead_of_small_groups_and_never_beyond_the_segment() {
        let storage = memory();
        let Opened { journal, .. } = open(&storage);
        let shared = &journal.shared;
        let capacity = 2 * ZEROS_AHEAD_BYTES;
        let mut active =
            Active::begin(shared, Position(0), capacity - SEGMENT_HEADER_BYTES).unwrap();
        let mut write = |body_bytes: u64| {
            let mut group = [entry(&vec![1; usize::try_from(body_bytes).unwrap()], 5)];
            active.place(&mut group[0], Position(0), 0);
            active.write(&group).unwrap();
            assert_eq!(active.file.len_bytes().unwrap(), capacity);
            let mut block = [7; 8];
            if active.written_bytes + 8 <= capacity {
                active.file.read_at(&mut block, active.written_bytes).unwrap();
                assert_eq!(block, [0; 8], "what is behind looks as if it were only reserved");
            }
            (active.written_bytes, active.used_bytes)
        };
        let (first, ahead) = write(100);
        assert_eq!(ahead, first + ZEROS_AHEAD_BYTES);
        assert_eq!(write(100).1, ahead, "the second finds its blocks in use");
        let (large, after_large) = write(ZEROS_AHEAD_BYTES);
        assert_eq!(after_large, large, "a large group gains nothing");
        assert_eq!(write(100).1, capacity);
    }
}
