//! An entry on its way in (draft, sealed) and on its way out.
//!
//! An entry lives in one `Vec` from the edge to the disk: header space, meta, body. The edge fills
//! it and computes the CRC of its content, in parallel with its neighbours; the appender only fills
//! in the header, so its single thread never touches the body.

use bytes::Bytes;
use tidegate_record::{ColumnSet, Position, UnixMicros};

use super::format::{ALIGNMENT_BYTES, ENTRY_BYTES_MAX, ENTRY_HEADER_BYTES, EntryFrame};

/// An entry that is being filled.
#[derive(Debug)]
pub struct EntryDraft {
    buffer: Vec<u8>,
    body_start: usize,
}

impl EntryDraft {
    /// A draft with its meta and room for a body of `body_capacity` bytes.
    pub fn new(meta: &[u8], body_capacity: usize) -> EntryDraft {
        let body_start = ENTRY_HEADER_BYTES + meta.len();
        let mut buffer = Vec::with_capacity(body_start + body_capacity + ALIGNMENT_BYTES);
        buffer.resize(ENTRY_HEADER_BYTES, 0);
        buffer.extend_from_slice(meta);
        EntryDraft { buffer, body_start }
    }

    /// The one buffer. Appending to it appends to the body; a record that turns out bad is undone
    /// with `truncate`. What lies before [`EntryDraft::body_start`] must stay.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Where the body begins in the buffer.
    pub fn body_start(&self) -> usize {
        self.body_start
    }

    /// Bytes of body so far.
    pub fn body_len(&self) -> usize {
        self.buffer.len() - self.body_start
    }

    /// The body so far.
    pub fn body(&self) -> &[u8] {
        &self.buffer[self.body_start..]
    }

    /// Makes it ready for the journal: pads it and computes the CRC of meta and body.
    pub fn seal(
        mut self,
        kind: u8,
        stream: u32,
        column_set: ColumnSet,
        rows: u32,
        received_at: UnixMicros,
    ) -> SealedEntry {
        let content_crc = crc32fast::hash(&self.buffer[ENTRY_HEADER_BYTES..]);
        let body_len = self.body_len();
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT_BYTES), 0);
        SealedEntry {
            meta_len: self.body_start - ENTRY_HEADER_BYTES,
            body_len,
            kind,
            stream,
            column_set,
            rows,
            received_at,
            content_crc,
            position: Position(0),
            buffer: self.buffer,
        }
    }
}

/// One append, ready for the journal.
#[derive(Debug)]
pub struct SealedEntry {
    buffer: Vec<u8>,
    meta_len: usize,
    body_len: usize,
    kind: u8,
    stream: u32,
    column_set: ColumnSet,
    rows: u32,
    received_at: UnixMicros,
    content_crc: u32,
    position: Position,
}

impl SealedEntry {
    /// Bytes it takes in the journal, with header and padding.
    pub fn len_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// No journal can hold it, however large: the format has no room for its meta, or for all of it.
    pub fn is_too_large(&self) -> bool {
        self.len_bytes() > ENTRY_BYTES_MAX || self.meta_len > usize::from(u16::MAX)
    }

    /// Bytes of body.
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// What the caller said it is.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The stream it is for.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// How many rows its body holds.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// When its records were accepted.
    pub fn received_at(&self) -> UnixMicros {
        self.received_at
    }

    /// Where it lies. Has a meaning only after its group was appended.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where the next entry may begin. Has a meaning only after its group was appended.
    pub fn end(&self) -> Position {
        Position(self.position.0 + self.len_bytes())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Gives it its place and fills in its header.
    pub(super) fn place(&mut self, position: Position, synced: Position, secret: u32) {
        self.position = position;
        let limits = "the appender has checked the entry's size";
        let header = EntryHeader {
            position,
            end: self.end(),
            kind: self.kind,
            stream: self.stream,
            column_set: self.column_set,
            rows: self.rows,
            received_at: self.received_at,
            meta_len: u16::try_from(self.meta_len).expect(limits),
            body_len: u32::try_from(self.body_len).expect(limits),
        };
        let frame = EntryFrame { header, content_crc: self.content_crc, synced };
        let space = self.buffer.first_chunk_mut().expect("a draft begins with header space");
        frame.encode(secret, space);
    }
}

/// What an entry's header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHeader {
    pub position: Position,
    /// Where the next entry may begin.
    pub end: Position,
    pub kind: u8,
    pub stream: u32,
    pub column_set: ColumnSet,
    pub rows: u32,
    pub received_at: UnixMicros,
    /// Bytes of meta.
    pub meta_len: u16,
    /// Bytes of body.
    pub body_len: u32,
}

/// An entry as a reader gives it. Meta and body are slices of the reader's buffer (up to 1 MiB,
/// or the entry where that is larger), and keep the whole buffer alive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub header: EntryHeader,
    pub meta: Bytes,
    pub body: Bytes,
}

impl Entry {
    /// From a header and its content: meta, then body.
    pub(super) fn new(header: EntryHeader, mut content: Bytes) -> Entry {
        let meta = content.split_to(usize::from(header.meta_len));
        Entry { header, meta, body: content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_seals_to_whole_words_and_counts_only_its_body() {
        for body_bytes in 0..20 {
            let mut draft = EntryDraft::new(b"abc", 4);
            draft.buffer_mut().extend(std::iter::repeat_n(7, body_bytes));
            assert_eq!(draft.body(), vec![7; body_bytes]);
            let entry = draft.seal(1, 2, ColumnSet(3), 4, UnixMicros(5));
            assert_eq!(entry.body_len(), body_bytes);
            assert_eq!(entry.meta_len, 3);
            assert_eq!(entry.len_bytes() % ALIGNMENT_BYTES as u64, 0);
            assert!(entry.len_bytes() >= (ENTRY_HEADER_BYTES + 3 + body_bytes) as u64);
        }
    }
}
