//! Reading the past for one monitor, step by step, in its own time.
//!
//! Each step reads a bounded piece of the journal on a blocking thread and gives the messages for it; the next one
//! follows when those are sent. So history never fills a queue, and a slow monitor holds up only itself.
//!
//! A cursor from the middle of a tick is finished stream by stream first, because only then can every step's own cursor
//! say exactly what was seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_codec::StreamsSnapshot;
use tidegate_journal::ReadError;
use tidegate_record::StreamId;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::cursor::{Cursor, Place, Point};
use super::gather::{Collector, Reached, ReadHead, Watched};
use super::message::Message;
use super::rows::{OpenEntry, Scratch};
use super::selection::{Interest, Selection};
use super::tick::TickBuilder;

/// Most bytes of the journal that one step counts.
const COUNT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// What an entry that is kept counts at least, in KiB: it may hold on to the journal's whole read buffer.
const HELD_KIB_MIN: usize = 1024;

/// A reading of the past.
pub(crate) struct History {
    shared: Arc<Shared>,
    selection: Selection,
    watched: Watched,
    place: Place,
    /// The streams that are not done within `place`, once they are known.
    remaining: Option<BTreeSet<StreamId>>,
    kept: Option<KeptEntry>,
}

/// An entry that the next step goes on with.
struct KeptEntry {
    open: OpenEntry,
    _permit: OwnedSemaphorePermit,
}

impl History {
    pub(super) fn new(shared: Arc<Shared>, selection: Selection, place: Place) -> History {
        let full = Interest::of(std::iter::once(&selection));
        let watched = Watched { full, sample: Interest::default() };
        History { shared, selection, watched, place, remaining: None, kept: None }
    }

    /// What was given so far.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Gives the next messages, possibly none, of what lies before `until`. Blocks.
    pub fn step(&mut self, until: Point) -> Vec<Message> {
        let streams = self.shared.streams.snapshot();
        let mut messages = match self.place {
            Place::At(at) => self.step_at(&streams, at, until),
            Place::Within { from, to, .. } => self.step_within(&streams, from, to),
        };
        self.shared.frames.count(&mut messages);
        messages
    }

    /// Like [`History::step`], but all records become gaps. Blocks.
    pub fn count(&mut self, until: Point) -> Vec<Message> {
        let streams = self.shared.streams.snapshot();
        let (from, until, bytes_max) = match self.place {
            Place::At(at) => (at, until, COUNT_BYTES_MAX),
            Place::Within { from, to, .. } => (from, to, u64::MAX),
        };
        let mut head = ReadHead::new(&self.shared.journal, from);
        let counted = match head.count(until, self.place, bytes_max) {
            Ok(counted) if !counted.lost => counted,
            Ok(counted) => return self.lose(&streams, counted.to),
            Err(error) => return self.fail(&streams, until, &error),
        };
        let mut tick = TickBuilder::new(from);
        for (id, rows) in counted.rows {
            if let Some(stream) = self.wanted(&streams, id) {
                tick.omit(id, &stream.name, rows);
            }
        }
        let tick = tick.finish(self.shared.journal_tag(), counted.to);
        self.place = Place::At(counted.to);
        tick.parts.into_iter().flat_map(|part| part.messages).collect()
    }

    fn step_at(&mut self, streams: &StreamsSnapshot, at: Point, until: Point) -> Vec<Message> {
        let mut tick = TickBuilder::new(at);
        let mut head = self.head(at);
        let reached = self.gather(streams, &mut head, until, &mut tick, None);
        let Reached { to, lost_to } = match reached {
            Ok(reached) => reached,
            Err(error) => return self.fail(streams, until, &error),
        };
        let tick = tick.finish(self.shared.journal_tag(), to);
        let mut messages: Vec<_> = tick.parts.into_iter().flat_map(|part| part.messages).collect();
        self.place = Place::At(to);
        match lost_to {
            Some(lost_to) => messages.extend(self.lose(streams, lost_to)),
            None => self.hold(head),
        }
        messages
    }

    /// Goes on with the first stream that is not done in `from..to`.
    fn step_within(&mut self, streams: &StreamsSnapshot, from: Point, to: Point) -> Vec<Message> {
        let remaining = match self.remaining.take() {
            Some(remaining) => remaining,
            None => match self.streams_within(streams, from, to) {
                Ok(Some(remaining)) => remaining,
                Ok(None) => return self.lose(streams, to),
                Err(error) => return self.fail(streams, to, &error),
            },
        };
        let Some(&stream) = remaining.first() else {
            self.place = Place::At(to);
            return Vec::new();
        };
        let start = self.place.progress(stream);
        let mut tick = TickBuilder::new(start);
        let mut head = self.head(start);
        let at = match self.gather(streams, &mut head, to, &mut tick, Some(stream)) {
            Ok(Reached { to: at, lost_to: None }) => at,
            Ok(_) => return self.lose(streams, to),
            Err(error) => return self.fail(streams, to, &error),
        };
        self.advance_within(remaining, head, tick, Place::Within { from, to, stream, at })
    }

    /// Notes that a stream was read on up to its place.
    fn advance_within(
        &mut self,
        mut remaining: BTreeSet<StreamId>,
        head: ReadHead,
        tick: TickBuilder,
        place: Place,
    ) -> Vec<Message> {
        let before = self.place;
        self.place = place;
        if let Place::Within { to, stream, at, .. } = place {
            if at < to {
                self.hold(head);
            } else {
                remaining.remove(&stream);
            }
            if remaining.is_empty() {
                self.place = Place::At(to);
            } else {
                self.remaining = Some(remaining);
            }
        }
        tick.finish_within(self.shared.journal_tag(), before, self.place)
    }

    /// The streams that have records in `from..to` which were not given; none if that cannot be known.
    fn streams_within(
        &self,
        streams: &StreamsSnapshot,
        from: Point,
        to: Point,
    ) -> Result<Option<BTreeSet<StreamId>>, ReadError> {
        let mut head = ReadHead::new(&self.shared.journal, from);
        let counted = head.count(to, self.place, u64::MAX)?;
        let wanted = |id: &StreamId| self.wanted(streams, *id).is_some();
        Ok((!counted.lost).then(|| counted.rows.into_keys().filter(wanted).collect()))
    }

    fn wanted<'a>(
        &self,
        streams: &'a StreamsSnapshot,
        id: StreamId,
    ) -> Option<&'a tidegate_codec::Stream> {
        let stream = streams.by_id(id)?;
        self.selection.covers(&stream.name).then_some(&**stream)
    }

    fn gather(
        &self,
        streams: &StreamsSnapshot,
        head: &mut ReadHead,
        until: Point,
        tick: &mut TickBuilder,
        only: Option<StreamId>,
    ) -> Result<Reached, ReadError> {
        let mut collector = Collector {
            streams,
            watched: &self.watched,
            progress: self.place,
            only,
            full: tick,
            sampling: None,
            now: self.shared.clock.now(),
            scratch: &mut Scratch::default(),
        };
        head.gather(until, &mut collector)
    }

    fn head(&mut self, at: Point) -> ReadHead {
        match self.kept.take() {
            Some(kept) if kept.open.point() == at => {
                ReadHead::reopen(&self.shared.journal, kept.open)
            }
            _ => ReadHead::new(&self.shared.journal, at),
        }
    }

    /// Keeps the entry that is partly read, if there is room for it; else it is read again.
    fn hold(&mut self, head: ReadHead) {
        let Some(open) = head.into_open() else { return };
        let kib = (open.bytes() / 1024 + 1).max(HELD_KIB_MIN);
        let Ok(kib) = u32::try_from(kib) else { return };
        if let Ok(permit) = Arc::clone(&self.shared.held_kib).try_acquire_many_owned(kib) {
            self.kept = Some(KeptEntry { open, _permit: permit });
        }
    }

    fn fail(&mut self, streams: &StreamsSnapshot, to: Point, error: &ReadError) -> Vec<Message> {
        tracing::warn!(%error, "a monitor that catches up skips what could not be read");
        self.lose(streams, to)
    }

    /// Goes on at `to`, saying that how much was missed is unknown.
    fn lose(&mut self, streams: &StreamsSnapshot, to: Point) -> Vec<Message> {
        let journal = self.shared.journal_tag();
        let from = Cursor { journal, place: self.place };
        self.place = Place::At(to);
        self.remaining = None;
        self.kept = None;
        unknown_gaps(&self.selection, streams, from, Cursor { journal, place: self.place })
    }
}

/// A gap without a count for each selected stream. Only the last one moves the cursor, so that a monitor which dies
/// between them is told again.
pub(super) fn unknown_gaps(
    selection: &Selection,
    streams: &StreamsSnapshot,
    from: Cursor,
    to: Cursor,
) -> Vec<Message> {
    let existing = selection.existing(streams);
    let last = existing.len().saturating_sub(1);
    let gap = |(index, stream): (usize, &Arc<tidegate_codec::Stream>)| {
        Message::gap(&stream.name, from, if index == last { to } else { from }, None)
    };
    existing.iter().enumerate().map(gap).collect()
}
