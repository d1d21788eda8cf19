//! The bytes on disk, format version 1. All numbers are little endian.
//!
//! A journal is a directory. Its position space is endless and is cut into segments; the file
//! `<first position as 16 hex digits>.segment` holds the bytes from that position on:
//!
//! ```text
//! segment header, 64 bytes              entry header, 64 bytes, at a multiple of 8
//!  0 magic "TIDEGATE"                    0 magic u32          24 stream u32
//!  8 version u32                         4 header CRC u32     28 column set u32
//! 12 CRC u32                             8 total length u32   32 rows u32
//! 16 journal id, 16 bytes               12 meta length u16    36 body length u32
//! 32 first position u64                 14 kind u8            40 received at i64, unix µs
//! 40 secret u32                         15 flags u8, 0        48 CRC of meta and body u32
//! 44 zero                               16 position u64       52 reserved u32, 0
//!                                                             56 synced u64
//! ```
//!
//! After the entry header come meta, body, and zeros up to the next multiple of 8. The total length
//! includes all of that. The segment header counts in the position space, so the first entry of a
//! segment lies 64 bytes after the segment's first position.
//!
//! Invariants, on which opening relies:
//!
//! 1. A file takes its name `….segment` (by rename) only when its header is durable and when every
//!    byte of the journal below its first position is durable. So the name alone tells two things:
//!    a header that cannot be read is damage, and so is every bad byte before that position.
//! 2. `synced` in an entry is a position that was durable when the entry was written. So a bad byte
//!    below the `synced` of any entry is damage, and one at or above the `synced` of all is the
//!    torn tail of a write that was never acknowledged.
//! 3. A segment is only ever appended to by the appender that made it. Opening cuts the last one to
//!    its valid end and begins a new one, so bytes of a torn tail can never be read as entries.
//! 4. A segment that is not the last ends where its file ends, and the next one begins there.
//! 5. No position that was ever acknowledged is given to other bytes.
//! 6. The header CRC starts from a secret of the journal. A search for headers behind damage
//!    cannot be misled by bytes that a sender put into a record.

use tidegate_record::{ColumnSet, Position, UnixMicros};
use uuid::Uuid;

use super::entry::EntryHeader;

/// The version that this code writes, and the only one that it reads.
pub(super) const VERSION: u32 = 1;
/// Length of a segment's header.
pub const SEGMENT_HEADER_BYTES: u64 = SEGMENT_HEADER_LEN as u64;
/// The same, as the length of an array.
pub(super) const SEGMENT_HEADER_LEN: usize = 64;
/// Length of an entry's header.
pub(super) const ENTRY_HEADER_BYTES: usize = 64;
/// Entries begin at multiples of this.
pub(super) const ALIGNMENT_BYTES: usize = 8;
/// Positions are below this: they fit a signed 64-bit number, and sums of them do not overflow.
pub(super) const POSITION_MAX: u64 = 1 << 62;

/// The largest entry, with header and padding. A reader holds one whole entry in memory.
pub(super) const ENTRY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The first bytes of an entry.
pub(super) const ENTRY_MAGIC: [u8; 4] = *b"tgE1";
const SEGMENT_MAGIC: [u8; 8] = *b"TIDEGATE";

/// What makes this journal different from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: Uuid,
    /// Where the header CRCs start.
    pub secret: u32,
}

impl Identity {
    /// A new one, from the system's randomness.
    pub fn random() -> Identity {
        Identity { id: Uuid::new_v4(), secret: Uuid::new_v4().as_fields().0 }
    }
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub identity: Identity,
    pub first: Position,
}

/// Why a segment's header says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentHeaderFault {
    /// Not a header, or not the one that was written.
    Damaged,
    /// Whole, but written by a later version.
    Version(u32),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.identity.id.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.identity.secret.to_le_bytes());
        let crc = crc_without(&bytes, 12, 0);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, SegmentHeaderFault> {
        let bytes: &[u8; SEGMENT_HEADER_LEN] =
            bytes.first_chunk().ok_or(SegmentHeaderFault::Damaged)?;
        if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 12) != crc_without(bytes, 12, 0) {
            return Err(SegmentHeaderFault::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(SegmentHeaderFault::Version(version));
        }
        let id = Uuid::from_u128(u128::from_be_bytes(chunk_at(bytes, 16)));
        let identity = Identity { id, secret: u32_at(bytes, 40) };
        Ok(SegmentHeader { identity, first: Position(u64_at(bytes, 32)) })
    }
}

/// An entry's header with the parts that only the journal itself needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryFrame {
    pub header: EntryHeader,
    pub content_crc: u32,
    pub synced: Position,
}

impl EntryFrame {
    /// Writes the header into the first bytes of `out`.
    pub fn encode(&self, secret: u32, out: &mut [u8; ENTRY_HEADER_BYTES]) {
        let header = &self.header;
        let total = u32::try_from(header.end.0 - header.position.0)
            .expect("the appender refuses entries above ENTRY_BYTES_MAX");
        out.fill(0);
        out[..4].copy_from_slice(&ENTRY_MAGIC);
        out[8..12].copy_from_slice(&total.to_le_bytes());
        out[12..14].copy_from_slice(&header.meta_len.to_le_bytes());
        out[14] = header.kind;
        out[16..24].copy_from_slice(&header.position.0.to_le_bytes());
        out[24..28].copy_from_slice(&header.stream.to_le_bytes());
        out[28..32].copy_from_slice(&header.column_set.0.to_le_bytes());
        out[32..36].copy_from_slice(&header.rows.to_le_bytes());
        out[36..40].copy_from_slice(&header.body_len.to_le_bytes());
        out[40..48].copy_from_slice(&header.received_at.0.to_le_bytes());
        out[48..52].copy_from_slice(&self.content_crc.to_le_bytes());
        out[56..64].copy_from_slice(&self.synced.0.to_le_bytes());
        let crc = crc_without(out, 4, secret);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header that lies at `position`; `None` if these bytes are not one.
    pub fn decode(bytes: &[u8], position: u64, secret: u32) -> Option<EntryFrame> {
        let bytes: &[u8; ENTRY_HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != ENTRY_MAGIC
            || u64_at(bytes, 16) != position
            || u32_at(bytes, 4) != crc_without(bytes, 4, secret)
        {
            return None;
        }
        let meta_len = u16::from_le_bytes(chunk_at(bytes, 12));
        let body_len = u32_at(bytes, 36);
        let total = u64::from(u32_at(bytes, 8));
        if total != entry_bytes(u64::from(meta_len), u64::from(body_len)) {
            return None;
        }
        let header = EntryHeader {
            position: Position(position),
            end: Position(position.checked_add(total)?),
            kind: bytes[14],
            stream: u32_at(bytes, 24),
            column_set: ColumnSet(u32_at(bytes, 28)),
            rows: u32_at(bytes, 32),
            received_at: UnixMicros(i64::from_le_bytes(chunk_at(bytes, 40))),
            meta_len,
            body_len,
        };
        let synced = Position(u64_at(bytes, 56));
        Some(EntryFrame { header, content_crc: u32_at(bytes, 48), synced })
    }
}

/// Length of an entry with header and padding.
pub(super) fn entry_bytes(meta_bytes: u64, body_bytes: u64) -> u64 {
    (ENTRY_HEADER_BYTES as u64 + meta_bytes + body_bytes).next_multiple_of(ALIGNMENT_BYTES as u64)
}

/// CRC of a header without its own CRC field, which is the four bytes at `field`.
fn crc_without(bytes: &[u8], field: usize, start: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(start);
    hasher.update(&bytes[..field]);
    hasher.update(&bytes[field + 4..]);
    hasher.finalize()
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every field lies inside its header")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(chunk_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(chunk_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: u32 = 0x1234_5678;

    fn frame() -> EntryFrame {
        let header = EntryHeader {
            position: Position(4096),
            end: Position(4096 + entry_bytes(3, 1000)),
            kind: 2,
            stream: 7,
            column_set: ColumnSet(19),
            rows: 11,
            received_at: UnixMicros(-5),
            meta_len: 3,
            body_len: 1000,
        };
        EntryFrame { header, content_crc: 99, synced: Position(4000) }
    }

    #[test]
    fn an_entry_header_reads_as_written_and_in_no_other_place_or_journal() {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        frame().encode(SECRET, &mut bytes);
        assert_eq!(EntryFrame::decode(&bytes, 4096, SECRET), Some(frame()));
        assert_eq!(EntryFrame::decode(&bytes, 4104, SECRET), None);
        assert_eq!(EntryFrame::decode(&bytes, 4096, SECRET + 1), None);
        assert_eq!(EntryFrame::decode(&bytes[..63], 4096, SECRET), None);
    }

    #[test]
    fn no_flipped_bit_of_a_header_goes_unnoticed() {
        let mut entry = [0; ENTRY_HEADER_BYTES];
        frame().encode(SECRET, &mut entry);
        let segment_header =
            SegmentHeader { identity: Identity::random(), first: Position(1 << 40) };
        let segment = segment_header.encode();
        assert_eq!(SegmentHeader::decode(&segment), Ok(segment_header));
        for bit in 0..512 {
            let mut bytes = entry;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(EntryFrame::decode(&bytes, 4096, SECRET), None, "bit {bit} of the entry");
            let mut bytes = segment;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Err(SegmentHeaderFault::Damaged));
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let header = SegmentHeader { identity: Identity::random(), first: Position(0) };
        let mut bytes = header.encode();
        bytes[8] = 2;
        let crc = crc_without(&bytes, 12, 0);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(SegmentHeaderFault::Version(2)));
    }
}
