//! Reading one segment whole, and telling what is no entry apart: damage, or the torn end of a write that was never
//! acknowledged (invariants 1 and 2 of format.rs).
//!
//! Opening and the survey share this, so that both find the same. It changes nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::EntryHeader;
use super::segment_reader::{Depth, SegmentReader, Step};
use super::storage::StorageFile;

/// What lies in a segment.
pub(super) enum Scanned {
    Entry(EntryHeader, Bytes),
    /// No entry can be read here, and one was durable here once.
    Damage(Range<u64>),
    /// The rest: nothing says that any of it was ever durable. Reserved space looks like this too.
    Tail(Range<u64>),
}

/// A scan through the content of one segment, in the order of positions.
pub(super) struct Scan {
    reader: SegmentReader,
    at: u64,
    limit: u64,
    /// Its end may be torn, or be being written. If not, all of it was durable.
    has_tail: bool,
    durable: u64,
    /// `durable` knows of all entries, those further on included.
    looked_ahead: bool,
}

impl Scan {
    /// Scans `content`, where entries may lie, of a file that begins at position `base`.
    pub fn new(
        file: Arc<dyn StorageFile>,
        base: u64,
        content: Range<u64>,
        secret: u32,
        has_tail: bool,
    ) -> Scan {
        let reader = SegmentReader::new(file, base, secret);
        let Range { start: at, end: limit } = content;
        Scan { reader, at, limit, has_tail, durable: 0, looked_ahead: false }
    }

    /// What lies next; `None` behind all of it.
    pub fn next(&mut self) -> io::Result<Option<Scanned>> {
        match self.step()? {
            Step::Entry { header, synced, content } => {
                self.durable = self.durable.max(synced.0);
                self.at = header.end.0;
                Ok(Some(Scanned::Entry(header, content)))
            }
            Step::Damaged { to, synced } => {
                let is_last = to == self.limit && synced.is_none();
                if self.has_tail && !self.looked_ahead && !is_last {
                    self.look_ahead()?;
                }
                let from = self.at;
                let is_tail = self.has_tail && from >= self.durable;
                self.at = if is_tail { self.limit } else { to };
                let range = from..self.at;
                Ok(Some(if is_tail { Scanned::Tail(range) } else { Scanned::Damage(range) }))
            }
            Step::End => Ok(None),
        }
    }

    /// The highest position that an entry, met so far or beyond damage, says was durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// A group may be written while this reads: what lies before an entry was written before it, so what looks bad in
    /// front of one is read once more.
    fn step(&mut self) -> io::Result<Step> {
        match self.reader.step(self.at, self.limit, Depth::Whole)? {
            // Nothing follows, so nothing says that something should be here.
            step @ Step::Damaged { to, synced: None } if self.has_tail && to == self.limit => {
                Ok(step)
            }
            Step::Damaged { .. } => {
                self.reader.forget();
                self.reader.step(self.at, self.limit, Depth::Whole)
            }
            sound => Ok(sound),
        }
    }

    /// Asks the headers of all that follows what was durable.
    fn look_ahead(&mut self) -> io::Result<()> {
        self.looked_ahead = true;
        let mut at = self.at;
        loop {
            match self.reader.step(at, self.limit, Depth::Header)? {
                Step::Entry { header, synced, .. } => {
                    self.durable = self.durable.max(synced.0);
                    at = header.end.0;
                }
                Step::Damaged { to, .. } => at = to,
                Step::End => return Ok(()),
            }
        }
    }
}
