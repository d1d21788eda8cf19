//! A tick: what lies between two points of the journal, as one frame per stream.
//!
//! Invariant: the cursors in it are exact. After any of its messages a monitor can resume and gets all that it did not
//! get, and nothing twice; so a stream's records come before the gap for those that were left out behind them.

use std::collections::BTreeMap;

use tidegate_codec::StreamName;
use tidegate_record::StreamId;

use super::cursor::{Cursor, JournalTag, Place, Point};
use super::message::Message;

/// What is gathered of one stream.
#[derive(Debug)]
pub(super) struct Lane {
    name: StreamName,
    list: String,
    records: u64,
    /// Behind the last record in `list`.
    at: Point,
    /// Records behind those in `list` that are left out.
    omitted: u64,
}

impl Lane {
    fn messages(&self, at: Cursor, before: Cursor, after: Cursor) -> Vec<Message> {
        let mut messages = Vec::with_capacity(2);
        if self.records > 0 {
            let cursor = if self.omitted > 0 { at } else { after };
            messages.push(Message::records(&self.name, cursor, &self.list, self.records));
        }
        if self.omitted > 0 {
            let from = if self.records > 0 { at } else { before };
            messages.push(Message::gap(&self.name, from, after, Some(self.omitted)));
        }
        messages
    }
}

/// A tick that is being filled.
#[derive(Debug)]
pub(super) struct TickBuilder {
    from: Point,
    lanes: BTreeMap<StreamId, Lane>,
    bytes: usize,
}

impl TickBuilder {
    pub fn new(from: Point) -> TickBuilder {
        TickBuilder { from, lanes: BTreeMap::new(), bytes: 0 }
    }

    /// Where it begins.
    pub fn from(&self) -> Point {
        self.from
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes of records so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record, which ends at a point.
    pub fn add_record(&mut self, stream: StreamId, name: &StreamName, record: &str, at: Point) {
        self.bytes += record.len() + 1;
        let from = self.from;
        let lane = lane(&mut self.lanes, from, stream, name);
        if lane.records > 0 {
            lane.list.push(',');
        }
        lane.list.push_str(record);
        lane.records += 1;
        lane.at = at;
    }

    /// Leaves out records of a stream.
    pub fn omit(&mut self, stream: StreamId, name: &StreamName, records: u64) {
        if records > 0 {
            lane(&mut self.lanes, self.from, stream, name).omitted += records;
        }
    }

    /// Whether records of this stream were left out, so that no more may be added.
    pub fn omits(&self, stream: StreamId) -> bool {
        self.lanes.get(&stream).is_some_and(|lane| lane.omitted > 0)
    }

    /// Ends the tick.
    pub fn finish(self, journal: JournalTag, to: Point) -> Tick {
        let from = self.from;
        let cursor = |place| Cursor { journal, place };
        let within = |stream, at| cursor(Place::Within { from, to, stream, at });
        let last = self.lanes.last_key_value().map(|(stream, _)| *stream);
        let mut before = cursor(Place::At(from));
        let mut parts = Vec::with_capacity(self.lanes.len());
        for (stream, lane) in self.lanes {
            let after =
                if Some(stream) == last { cursor(Place::At(to)) } else { within(stream, to) };
            let messages = lane.messages(within(stream, lane.at), before, after);
            let rows = lane.records + lane.omitted;
            parts.push(Part { stream, name: lane.name, rows, records: lane.records, messages });
            before = after;
        }
        Tick { from, to, parts }
    }

    /// Ends a tick that holds one stream, as the next step of a monitor that resumes within `from..to`.
    pub fn finish_within(self, journal: JournalTag, before: Place, after: Place) -> Vec<Message> {
        let cursor = |place| Cursor { journal, place };
        let part = self.lanes.into_iter().next().map(|(stream, lane)| {
            let place =
                Place::Within { from: before.start(), to: before.end(), stream, at: lane.at };
            lane.messages(cursor(place), cursor(before), cursor(after))
        });
        part.unwrap_or_default()
    }
}

fn lane<'a>(
    lanes: &'a mut BTreeMap<StreamId, Lane>,
    from: Point,
    stream: StreamId,
    name: &StreamName,
) -> &'a mut Lane {
    lanes.entry(stream).or_insert_with(|| Lane {
        name: name.clone(),
        list: String::new(),
        records: 0,
        at: from,
        omitted: 0,
    })
}

/// All that happened between two points to the streams that are watched.
#[derive(Debug)]
pub(super) struct Tick {
    pub from: Point,
    pub to: Point,
    /// Ordered by stream.
    pub parts: Vec<Part>,
}

/// One stream's share of a tick.
#[derive(Debug)]
pub(super) struct Part {
    pub stream: StreamId,
    pub name: StreamName,
    /// Records shown and left out.
    pub rows: u64,
    /// Records shown.
    pub records: u64,
    pub messages: Vec<Message>,
}

impl Part {
    /// Bytes of its messages.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.text.len()).sum()
    }
}
