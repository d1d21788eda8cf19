//! Reading the journal into ticks. The live feed and a monitor that catches up run this same code.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_codec::{Stream, StreamsSnapshot};
use tidegate_journal::{EntryHeader, Journal, ReadError, Reader};
use tidegate_record::{EntryKind, Position, StreamId, UnixMicros};

use super::cursor::{Place, Point};
use super::rows::{OpenEntry, Scratch, Undecodable};
use super::sample::SampleBudget;
use super::selection::Interest;
use super::tick::TickBuilder;

/// A tick ends when it holds this many bytes of records, so a frame is at most this and one record.
pub(super) const FRAME_BYTES_MAX: usize = 256 * 1024;
/// A larger record is not shown but counted in a gap, in bytes of JSON.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A tick reads at most this many bytes of the journal, and the entry that reaches beyond.
const READ_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A place in the journal, and the entry that is partly read there.
pub(super) struct ReadHead {
    reader: Reader,
    open: Option<OpenEntry>,
    at: Point,
    /// Where the reader was put; it begins later where that is not retained any more.
    asked: Option<Position>,
    lost: bool,
}

/// How far a tick went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The tick's end.
    pub to: Point,
    /// Between the tick's end and this point something cannot be read, nor counted.
    pub lost_to: Option<Point>,
}

impl ReadHead {
    pub fn new(journal: &Journal, at: Point) -> ReadHead {
        let reader = journal.reader(at.position);
        ReadHead { reader, open: None, at, asked: Some(at.position), lost: false }
    }

    /// Goes on where an entry was left open.
    pub fn reopen(journal: &Journal, open: OpenEntry) -> ReadHead {
        let at = open.point();
        let end = open.header().end;
        let reader = journal.reader(end);
        ReadHead { reader, open: Some(open), at, asked: Some(end), lost: false }
    }

    pub fn at(&self) -> Point {
        self.at
    }

    /// The entry that is partly read.
    pub fn into_open(self) -> Option<OpenEntry> {
        self.open.filter(|open| open.point() == self.at)
    }

    /// Reads up to `until`, or less where the tick gets full.
    pub fn gather(
        &mut self,
        until: Point,
        collector: &mut Collector<'_>,
    ) -> Result<Reached, ReadError> {
        let read_max = Position(self.at.position.0.saturating_add(READ_BYTES_MAX));
        while self.at < until && self.at.position <= read_max {
            let before = self.at;
            let Some(mut open) = self.take_entry(until)? else {
                return Ok(self.reached(before));
            };
            if self.lost {
                self.at = open.point();
                self.open = Some(open);
                return Ok(self.reached(before));
            }
            let last = if open.header().position == until.position { until.row } else { u32::MAX };
            let full = collector.collect(&mut open, self.at, last);
            self.at = open.point().min(until);
            if open.remaining() > 0 {
                self.open = Some(open);
            }
            if full {
                break;
            }
        }
        Ok(Reached { to: self.at, lost_to: None })
    }

    /// The entry at the head, if it begins before `until`; else the head is at `until`.
    fn take_entry(&mut self, until: Point) -> Result<Option<OpenEntry>, ReadError> {
        let mut open = self.open.take();
        if open.is_none() {
            self.check_start();
            open = self.reader.next()?.map(OpenEntry::new);
        }
        self.lost |= !self.reader.take_damages().is_empty();
        if open.as_ref().is_some_and(|open| open.point() < until) {
            return Ok(open);
        }
        self.open = open;
        self.at = until;
        Ok(None)
    }

    fn check_start(&mut self) {
        if self.asked.take().is_some_and(|asked| asked != self.reader.position()) {
            self.lost = true;
        }
    }

    fn reached(&mut self, before: Point) -> Reached {
        if std::mem::take(&mut self.lost) {
            return Reached { to: before, lost_to: Some(self.at) };
        }
        Reached { to: self.at, lost_to: None }
    }

    /// Goes on to `until`, or to the end of the first entry that is `bytes_max` away, and counts the records on the way
    /// that `progress` has not. Reads headers only.
    pub fn count(
        &mut self,
        until: Point,
        progress: Place,
        bytes_max: u64,
    ) -> Result<Counted, ReadError> {
        let stop = Position(self.at.position.0.saturating_add(bytes_max));
        let mut counted = Counted { rows: BTreeMap::new(), to: until, lost: false };
        if let Some(open) = self.open.take_if(|open| open.point() < until) {
            counted.add(open.header(), until, progress);
        }
        self.check_start();
        while self.reader.position() < until.position || until.row > 0 {
            let Some(header) = self.reader.next_header()? else { break };
            if Point::at(header.position) >= until {
                break;
            }
            counted.add(&header, until, progress);
            if header.end >= stop {
                counted.to = Point::at(header.end).min(until);
                break;
            }
        }
        counted.lost = std::mem::take(&mut self.lost) || !self.reader.take_damages().is_empty();
        self.at = counted.to;
        Ok(counted)
    }
}

/// Records per stream, from the headers.
#[derive(Debug)]
pub(super) struct Counted {
    pub rows: BTreeMap<StreamId, u64>,
    /// How far it went.
    pub to: Point,
    /// Something could not be read, so the counts are too small.
    pub lost: bool,
}

impl Counted {
    fn add(&mut self, header: &EntryHeader, until: Point, progress: Place) {
        if !is_shown(header) {
            return;
        }
        let stream = stream_of(header);
        let done = progress.progress(stream);
        let first = match header.position.cmp(&done.position) {
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Equal => done.row,
            std::cmp::Ordering::Greater => 0,
        };
        let end = if header.position == until.position { until.row } else { header.rows };
        let rows = end.min(header.rows).saturating_sub(first);
        if rows > 0 {
            *self.rows.entry(stream).or_default() += u64::from(rows);
        }
    }
}

/// Has the entry what monitors see: records, and changes of them?
fn is_shown(header: &EntryHeader) -> bool {
    let kind = EntryKind::from_code(header.kind);
    matches!(kind, Some(EntryKind::Records | EntryKind::Changes))
}

/// The stream of an entry.
pub(super) fn stream_of(header: &EntryHeader) -> StreamId {
    StreamId(header.stream.cast_signed())
}

/// What is watched, by the monitors that get all records and by those that get a sample.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub full: Interest,
    pub sample: Interest,
}

/// A sample that is being filled.
#[derive(Debug)]
pub(super) struct Sampling {
    pub tick: TickBuilder,
    pub budget: SampleBudget,
}

/// Sorts records into ticks.
pub(super) struct Collector<'a> {
    pub streams: &'a StreamsSnapshot,
    pub watched: &'a Watched,
    /// What the receiver has already.
    pub progress: Place,
    /// If given, only this stream.
    pub only: Option<StreamId>,
    pub full: &'a mut TickBuilder,
    pub sampling: Option<&'a mut Sampling>,
    pub now: UnixMicros,
    pub scratch: &'a mut Scratch,
}

impl Collector<'_> {
    /// Takes an entry's rows from `from` on, up to `last`. True when the tick has to end.
    fn collect(&mut self, open: &mut OpenEntry, from: Point, last: u32) -> bool {
        let position = open.header().position;
        let end = last.min(open.header().rows);
        let Some(stream) = self.wanted(open.header()) else {
            open.finish();
            return false;
        };
        let done = self.progress.progress(stream.id).max(from);
        if position < done.position {
            open.finish();
            return false;
        }
        let first = if position == done.position { done.row } else { 0 };
        if let Err(error) = open.skip_to(first.min(end)) {
            return self.give_up(open, &stream, end, &error);
        }
        self.rows(open, &stream, end)
    }

    fn wanted(&self, header: &EntryHeader) -> Option<Arc<Stream>> {
        let id = stream_of(header);
        if !is_shown(header) || self.only.is_some_and(|only| only != id) {
            return None;
        }
        let stream = self.streams.by_id(id)?;
        let sampled = self.sampling.is_some() && self.watched.sample.covers(&stream.name);
        (sampled || self.watched.full.covers(&stream.name)).then(|| Arc::clone(stream))
    }

    fn rows(&mut self, open: &mut OpenEntry, stream: &Arc<Stream>, end: u32) -> bool {
        let full = self.watched.full.covers(&stream.name);
        let rows = open.header().rows;
        let mut record = String::new();
        while rows - open.remaining() < end {
            let sampled = self.sampled(stream);
            if !full && !sampled {
                self.omit_sample(stream, end - (rows - open.remaining()));
                open.finish();
                return false;
            }
            record.clear();
            if let Err(error) = open.next_row(stream, self.scratch, &mut record) {
                return self.give_up(open, stream, end, &error);
            }
            if record.len() > RECORD_BYTES_MAX {
                self.omit(stream, 1);
                return true;
            }
            let at = open.point();
            if full {
                self.full.add_record(stream.id, &stream.name, &record, at);
            }
            match &mut self.sampling {
                Some(sampling) if sampled => {
                    sampling.tick.add_record(stream.id, &stream.name, &record, at);
                }
                _ => self.omit_sample(stream, 1),
            }
            if self.full.bytes() >= FRAME_BYTES_MAX {
                return true;
            }
        }
        false
    }

    /// Whether the sample shows the next record.
    fn sampled(&mut self, stream: &Stream) -> bool {
        let Some(sampling) = &mut self.sampling else { return false };
        self.watched.sample.covers(&stream.name)
            && !sampling.tick.omits(stream.id)
            && sampling.tick.bytes() < FRAME_BYTES_MAX
            && sampling.budget.take(stream.id, self.now)
    }

    fn omit_sample(&mut self, stream: &Stream, rows: u32) {
        if let Some(sampling) = &mut self.sampling
            && self.watched.sample.covers(&stream.name)
        {
            sampling.tick.omit(stream.id, &stream.name, rows.into());
        }
    }

    /// Leaves out what cannot be decoded. The tick ends here, so that its gap comes last.
    fn give_up(
        &mut self,
        open: &mut OpenEntry,
        stream: &Stream,
        end: u32,
        error: &Undecodable,
    ) -> bool {
        let header = open.header();
        tracing::warn!(
            stream = %stream.name, position = %header.position, %error,
            "an entry cannot be shown to monitors; they are told of a gap"
        );
        let rows = end.saturating_sub(header.rows - open.remaining());
        self.omit(stream, rows);
        open.finish();
        true
    }

    /// Leaves out records for everybody. The tick has to end then.
    fn omit(&mut self, stream: &Stream, rows: u32) {
        if self.watched.full.covers(&stream.name) {
            self.full.omit(stream.id, &stream.name, rows.into());
        }
        self.omit_sample(stream, rows);
    }
}
