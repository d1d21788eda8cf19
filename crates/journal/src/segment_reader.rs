//! Reads one segment from entry to entry, over damage.
//!
//! All that reads a segment goes through here, so that all of it sees the same entries. Reads are
//! large; memory is bounded by one read or one entry, whichever is larger.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_record::Position;

use super::entry::EntryHeader;
use super::format::{ALIGNMENT_BYTES, ENTRY_HEADER_BYTES, ENTRY_MAGIC, EntryFrame};
use super::storage::{StorageFile, read_range};

/// One read, where the entries are read whole.
const READ_BYTES: u64 = 1024 * 1024;
/// One read, where only headers are: a skipped body should not be read along.
const HEADER_READ_BYTES: u64 = 16 * 1024;

/// How much of an entry is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Header,
    /// Header and content, with its CRC.
    Whole,
}

/// What lies at a position.
#[derive(Debug)]
pub(super) enum Step {
    /// An entry; without its content at [`Depth::Header`].
    Entry { header: EntryHeader, synced: Position, content: Bytes },
    /// No entry up to `to`, where either an entry or the limit is. If the header can be read and
    /// only the content cannot, `synced` tells what the header says.
    Damaged { to: u64, synced: Option<Position> },
    /// The limit.
    End,
}

/// Reads one segment's file, a step at a time.
pub(super) struct SegmentReader {
    file: Arc<dyn StorageFile>,
    /// Position of the file's first byte.
    base: u64,
    secret: u32,
    window: Bytes,
    window_start: u64,
}

impl SegmentReader {
    pub fn new(file: Arc<dyn StorageFile>, base: u64, secret: u32) -> SegmentReader {
        SegmentReader { file, base, secret, window: Bytes::new(), window_start: base }
    }

    /// Forgets what was read ahead, so that the next step reads anew.
    pub fn forget(&mut self) {
        self.window = Bytes::new();
    }

    /// Looks at position `at`; nothing at or above `limit` is read.
    pub fn step(&mut self, at: u64, limit: u64, depth: Depth) -> io::Result<Step> {
        if at >= limit {
            return Ok(Step::End);
        }
        let Some(frame) = self.frame(at, limit, depth)? else {
            let from = at.saturating_add(1).next_multiple_of(ALIGNMENT_BYTES as u64);
            return Ok(Step::Damaged { to: self.find_entry(from, limit)?, synced: None });
        };
        let (header, synced) = (frame.header, frame.synced);
        let content = match depth {
            Depth::Header => Bytes::new(),
            Depth::Whole => {
                let length = to_usize(header.end.0 - at);
                let entry = self.bytes(at, length, limit, READ_BYTES)?;
                let content = usize::from(header.meta_len) + to_usize(header.body_len.into());
                entry.slice(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + content)
            }
        };
        if depth == Depth::Whole && crc32fast::hash(&content) != frame.content_crc {
            return Ok(Step::Damaged { to: header.end.0, synced: Some(synced) });
        }
        Ok(Step::Entry { header, synced, content })
    }

    /// The header at `at`, if there is one and its entry ends within the limit.
    fn frame(&mut self, at: u64, limit: u64, depth: Depth) -> io::Result<Option<EntryFrame>> {
        if limit - at < ENTRY_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let read_bytes = match depth {
            Depth::Header => HEADER_READ_BYTES,
            Depth::Whole => READ_BYTES,
        };
        let bytes = self.bytes(at, ENTRY_HEADER_BYTES, limit, read_bytes)?;
        let frame = EntryFrame::decode(&bytes, at, self.secret);
        Ok(frame.filter(|frame| frame.header.end.0 <= limit))
    }

    /// The first position from `at` on where an entry's header is, or the limit. The header's CRC,
    /// with its secret, and the position in it make a chance hit as good as impossible.
    fn find_entry(&mut self, mut at: u64, limit: u64) -> io::Result<u64> {
        while at < limit && limit - at >= ENTRY_HEADER_BYTES as u64 {
            let length = to_usize((limit - at).min(READ_BYTES));
            let bytes = self.bytes(at, length, limit, READ_BYTES)?;
            let starts = (length - ENTRY_HEADER_BYTES) / ALIGNMENT_BYTES + 1;
            for offset in (0..starts).map(|index| index * ALIGNMENT_BYTES) {
                let candidate = &bytes[offset..];
                let position = at + offset as u64;
                if candidate.starts_with(&ENTRY_MAGIC)
                    && let Some(frame) = EntryFrame::decode(candidate, position, self.secret)
                    && frame.header.end.0 <= limit
                {
                    return Ok(position);
                }
            }
            at += (starts * ALIGNMENT_BYTES) as u64;
        }
        Ok(limit)
    }

    /// `length` bytes from `at` on, which must lie below the limit; reads up to `read_bytes` ahead.
    fn bytes(&mut self, at: u64, length: usize, limit: u64, read_bytes: u64) -> io::Result<Bytes> {
        let inside = at.checked_sub(self.window_start).map(to_usize);
        if let Some(start) = inside.filter(|start| start + length <= self.window.len()) {
            return Ok(self.window.slice(start..start + length));
        }
        let read = length.max(to_usize((limit - at).min(read_bytes)));
        self.window = Bytes::from(read_range(&*self.file, at - self.base, read)?);
        self.window_start = at;
        Ok(self.window.slice(..length))
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length inside a segment fits the address space")
}
