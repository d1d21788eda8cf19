//! Reading entries in order, alongside the appender, and never beyond what is durable.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_record::Position;

use super::Shared;
use super::entry::{Entry, EntryHeader};
use super::format::ALIGNMENT_BYTES;
use super::segment::Segment;
use super::segment_reader::{Depth, SegmentReader, Step};

/// The journal could not be read. Trying again later may succeed; damage is never an error.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be read at {position}")]
pub struct ReadError {
    pub position: Position,
    pub source: io::Error,
}

/// A place in the journal that moves on with each entry.
pub struct Reader {
    shared: Arc<Shared>,
    position: u64,
    /// The segment at the position, and how far it may be read.
    current: Option<Current>,
    skipped: Vec<(Position, Position)>,
}

struct Current {
    segment: Arc<Segment>,
    reader: SegmentReader,
    limit: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: Position) -> Reader {
        let mut reader = Reader { shared, position: 0, current: None, skipped: Vec::new() };
        reader.skip_to(from);
        reader
    }

    /// The next entry, its content checked. `None` when nothing more is durable now; a later call
    /// goes on from here.
    #[expect(clippy::should_implement_trait, reason = "an iterator's end is final, this one's not")]
    pub fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        Ok(self.advance(Depth::Whole)?.map(|(header, content)| Entry::new(header, content)))
    }

    /// Like [`Reader::next`], but does not read the content, so it also counts an entry whose
    /// content is damaged.
    pub fn next_header(&mut self) -> Result<Option<EntryHeader>, ReadError> {
        Ok(self.advance(Depth::Header)?.map(|(header, _)| header))
    }

    /// Where the next entry is looked for: the end of the last one, or where the reader was put.
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// Goes to a position: the end of an entry, or the oldest retained one if it is below that.
    /// From inside an entry the reader goes on at the next one, and reports what lies between as
    /// skipped.
    pub fn skip_to(&mut self, position: Position) {
        let aligned = position.0.checked_next_multiple_of(ALIGNMENT_BYTES as u64);
        self.position = aligned.unwrap_or(position.0).max(self.shared.first().0);
        self.current = None;
    }

    /// What was skipped since the last call, as ranges: damaged or missing parts and, when this
    /// reader is slower than the retention, parts that were trimmed before it came.
    pub fn take_damages(&mut self) -> Vec<(Position, Position)> {
        std::mem::take(&mut self.skipped)
    }

    fn advance(&mut self, depth: Depth) -> Result<Option<(EntryHeader, Bytes)>, ReadError> {
        let position = self.position();
        self.try_advance(depth).map_err(|source| ReadError { position, source })
    }

    fn try_advance(&mut self, depth: Depth) -> io::Result<Option<(EntryHeader, Bytes)>> {
        while self.locate()? {
            let Some(current) = &mut self.current else {
                break;
            };
            match current.reader.step(self.position, current.limit, depth)? {
                Step::Entry { header, content, .. } => {
                    self.position = header.end.0;
                    return Ok(Some((header, content)));
                }
                Step::Damaged { to, .. } => self.skip(to),
                Step::End => break,
            }
        }
        Ok(None)
    }

    /// Makes `current` the segment that holds the position, with something durable to read there.
    fn locate(&mut self) -> io::Result<bool> {
        // Invariant: what was durable once stays as it is, so a limit once found holds.
        if self.current.as_ref().is_some_and(|current| self.position < current.limit) {
            return Ok(true);
        }
        loop {
            // Synced is read before the segment's end, and written after it: so a position below
            // synced always finds its segment's end, or the next segment.
            let synced = self.shared.synced();
            if self.position >= synced {
                return Ok(false);
            }
            let Some(segment) = self.shared.segments.at(self.position) else {
                return Ok(false);
            };
            let limit = segment.end().min(synced);
            if limit < segment.content_start() {
                return Ok(false);
            }
            if self.position < segment.first {
                self.skip(segment.first);
            }
            self.position = self.position.max(segment.content_start());
            // A segment that holds nothing, or that was just trimmed, leads on to the next.
            if self.position < limit && self.enter(&segment, limit)? {
                return Ok(true);
            }
        }
    }

    /// Opens the segment. False if it was trimmed in the meantime.
    fn enter(&mut self, segment: &Arc<Segment>, limit: u64) -> io::Result<bool> {
        if let Some(current) = &mut self.current
            && Arc::ptr_eq(&current.segment, segment)
        {
            current.limit = limit;
            return Ok(true);
        }
        let file = match segment.file(&*self.shared.storage) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let listed = self.shared.segments.at(segment.content_start());
                if listed.is_some_and(|listed| Arc::ptr_eq(&listed, segment)) {
                    return Err(error);
                }
                return Ok(false);
            }
            other => other?,
        };
        let reader = SegmentReader::new(file, segment.first, self.shared.identity.secret);
        self.current = Some(Current { segment: Arc::clone(segment), reader, limit });
        Ok(true)
    }

    fn skip(&mut self, to: u64) {
        match self.skipped.last_mut() {
            Some((_, last)) if last.0 == self.position => *last = Position(to),
            _ => self.skipped.push((Position(self.position), Position(to))),
        }
        self.position = to;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tidegate_record::{ColumnSet, UnixMicros};

    use super::super::fixture::{OPTIONS, append, entry, memory, open, read_bodies, segment_path};
    use super::super::{DiskStorage, Journal, Opened};
    use super::*;

    #[test]
    fn an_entry_comes_back_with_all_it_was_given() {
        let Opened { journal, mut appender, .. } = open(&memory());
        let mut group = [entry(b"the body", 77)];
        appender.append(&mut group).unwrap();
        let mut reader = journal.reader(Position(0));
        let read = reader.next().unwrap().unwrap();
        let header = EntryHeader {
            position: group[0].position(),
            end: group[0].end(),
            kind: 1,
            stream: 2,
            column_set: ColumnSet(3),
            rows: 4,
            received_at: UnixMicros(77),
            meta_len: 4,
            body_len: 8,
        };
        assert_eq!(read.header, header);
        assert_eq!((&read.meta[..], &read.body[..]), (&b"meta"[..], &b"the body"[..]));
        assert_eq!(reader.position(), journal.synced());
        assert_eq!(journal.reader(Position(0)).next_header().unwrap(), Some(header));
    }

    #[test]
    fn none_is_not_the_end() {
        let Opened { journal, mut appender, .. } = open(&memory());
        let mut reader = journal.reader(Position(0));
        for round in 0..50_u8 {
            assert!(reader.next().unwrap().is_none());
            assert!(reader.next_header().unwrap().is_none());
            // Every few rounds this begins a new segment.
            let body = vec![round; 700];
            append(&mut appender, &[&body, b"x"]);
            assert_eq!(read_bodies(&mut reader), [body, b"x".to_vec()]);
            assert_eq!(reader.position(), journal.synced());
        }
        assert_eq!(reader.take_damages(), []);
    }

    #[test]
    fn headers_can_be_counted_without_their_bodies() {
        let storage = memory();
        let Opened { journal, mut appender, .. } = open(&storage);
        append(&mut appender, &[&vec![1; 100_000], &[2; 200], &vec![3; 50_000]]);
        // The body is not looked at: its sectors need not even be readable.
        storage.make_unreadable(&segment_path(0), 60);
        let mut reader = journal.reader(Position(0));
        let headers = std::iter::from_fn(|| reader.next_header().unwrap());
        let lengths: Vec<u32> = headers.map(|header| header.body_len).collect();
        assert_eq!(lengths, [100_000, 200, 50_000]);
    }

    #[test]
    fn a_reader_below_the_first_position_begins_there_and_says_so() {
        let Opened { journal, mut appender, .. } = open(&memory());
        let first = append(&mut appender, &[&[1; 4000]]).end;
        append(&mut appender, &[&[2; 4000]]);
        let mut slow = journal.reader(Position(0));
        journal.trim(journal.synced(), UnixMicros(i64::MAX)).unwrap();
        let mut reader = journal.reader(Position(0));
        assert_eq!(reader.position(), first);
        assert_eq!(read_bodies(&mut reader), [[2; 4000]]);
        assert_eq!(reader.take_damages(), []);

        assert_eq!(read_bodies(&mut slow), [[2; 4000]]);
        assert_eq!(slow.take_damages(), [(Position(0), first)], "it was told what it missed");
    }

    #[test]
    fn a_reader_in_a_segment_may_finish_its_buffer_after_a_trim() {
        let Opened { journal, mut appender, .. } = open(&memory());
        append(&mut appender, &[&[1; 1000], &[2; 1000], &[3; 1000], &[4; 1000]]);
        let mut reader = journal.reader(Position(0));
        assert_eq!(reader.next().unwrap().unwrap().body, [1; 1000][..]);
        journal.trim(journal.synced(), UnixMicros(i64::MAX)).unwrap();
        assert!(journal.first() > Position(0));
        assert_eq!(read_bodies(&mut reader), [[2; 1000], [3; 1000], [4; 1000]]);
        assert_eq!(reader.take_damages(), []);
    }

    #[test]
    fn any_position_is_survived() {
        let Opened { journal, mut appender, .. } = open(&memory());
        let appended = append(&mut appender, &[b"first", b"second"]);
        let second = Position(appended.first.0 + 80);
        let mut reader = journal.reader(Position(second.0 - 13));
        assert_eq!(read_bodies(&mut reader), [b"second"]);
        assert_eq!(reader.take_damages(), [(Position(second.0 - 8), second)]);
        for beyond in [appended.end.0, appended.end.0 + 8, u64::MAX - 7, u64::MAX] {
            let mut reader = journal.reader(Position(beyond));
            assert!(reader.next().unwrap().is_none(), "{beyond}");
        }
        let mut waiting = journal.reader(Position(appended.end.0 + 8));
        append(&mut appender, &[b"third", b"fourth"]);
        assert_eq!(read_bodies(&mut waiting), [b"fourth"]);
        waiting.skip_to(second);
        assert_eq!(read_bodies(&mut waiting), [&b"second"[..], b"third", b"fourth"]);
    }

    #[test]
    fn readers_follow_a_writing_appender_and_a_trim() {
        const GROUPS: u64 = 400;
        let dir = tempfile::tempdir().unwrap();
        let Opened { journal, mut appender, .. } =
            Journal::open(dir.path(), OPTIONS, DiskStorage).unwrap();
        let read_up_to = [AtomicU64::new(0), AtomicU64::new(0)];
        std::thread::scope(|scope| {
            for progress in &read_up_to {
                let mut reader = journal.reader(Position(0));
                scope.spawn(move || {
                    let mut expected = 0;
                    while expected < 3 * GROUPS {
                        let Some(entry) = reader.next().unwrap() else {
                            std::thread::yield_now();
                            continue;
                        };
                        assert_eq!(entry.body, expected.to_le_bytes().repeat(20));
                        expected += 1;
                        progress.store(reader.position().0, Ordering::SeqCst);
                    }
                    assert_eq!(reader.take_damages(), []);
                });
            }
            for group in 0..GROUPS {
                let bodies: Vec<Vec<u8>> =
                    (0..3).map(|index| (group * 3 + index).to_le_bytes().repeat(20)).collect();
                let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
                append(&mut appender, &bodies);
                let slowest = read_up_to.iter().map(|read| read.load(Ordering::SeqCst)).min();
                journal.trim(Position(slowest.unwrap()), UnixMicros(i64::MAX)).unwrap();
            }
        });
        assert!(journal.bytes() <= journal.synced().0);
    }
}
