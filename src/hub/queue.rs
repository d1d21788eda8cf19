//! What waits for one monitor: shared messages, up to a number of bytes.
//!
//! The hub pushes and never waits. A tick is taken whole or not at all; what is not taken becomes a gap in the same
//! place of the queue, so that every message's cursor tells the truth. Who has something waiting is the first to get gaps
//! when the memory for all monitors runs short (`frames`). Once a tick was refused, the queue takes none
//! until half of it is sent: a slow monitor gets long runs of records and few gaps, and at most a few gap sets wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tidegate_codec::{StreamName, StreamsSnapshot};
use tidegate_record::StreamId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cursor::{Cursor, JournalTag, Place, Point};
use super::frames::Fill;
use super::message::Message;
use super::selection::Selection;
use super::tick::{Part, Tick};

/// What a gap of one stream counts in a queue, in bytes.
const GAP_BYTES: usize = 128;

/// Why a monitor gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The gateway shuts down.
    Shutdown,
    /// It took nothing for too long.
    Stuck,
    /// It is gone.
    Left,
}

/// What became of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Taken, or not, for the queue's own reasons.
    AsEver,
    /// It became a gap because frames for other monitors take the memory.
    CrowdedOut,
}

/// One thing that waits.
#[derive(Debug)]
pub(super) enum Item {
    Message(Message),
    Gaps(GapSet),
}

/// What a monitor did not get between two points.
#[derive(Debug)]
pub(super) struct GapSet {
    from: Point,
    to: Point,
    counts: BTreeMap<StreamId, (StreamName, u64)>,
    /// Something in it could not even be counted, for any stream.
    unknown: bool,
}

impl GapSet {
    pub fn new(from: Point) -> GapSet {
        GapSet { from, to: from, counts: BTreeMap::new(), unknown: false }
    }

    /// Adds records of a stream.
    pub fn add(&mut self, stream: StreamId, name: &StreamName, rows: u64) {
        self.counts.entry(stream).or_insert_with(|| (name.clone(), 0)).1 += rows;
    }

    /// Says that the set reaches up to `to`.
    pub fn extend(&mut self, to: Point, unknown: bool) {
        self.to = to;
        self.unknown |= unknown;
    }

    /// One gap a stream, ordered by stream. Where counts are unknown, every stream of the selection may have missed
    /// some.
    pub fn messages(
        mut self,
        journal: JournalTag,
        selection: &Selection,
        streams: &StreamsSnapshot,
    ) -> Vec<Message> {
        if self.unknown {
            for stream in selection.existing(streams) {
                self.add(stream.id, &stream.name, 0);
            }
        }
        let (from, to) = (self.from, self.to);
        let cursor = |place| Cursor { journal, place };
        let last = self.counts.last_key_value().map(|(stream, _)| *stream);
        let mut before = cursor(Place::At(from));
        let mut messages = Vec::with_capacity(self.counts.len());
        for (stream, (name, rows)) in self.counts {
            let place = if Some(stream) == last {
                Place::At(to)
            } else {
                Place::Within { from, to, stream, at: to }
            };
            let count = (!self.unknown).then_some(rows);
            messages.push(Message::gap(&name, before, cursor(place), count));
            before = cursor(place);
        }
        messages
    }
}

/// The queue of one monitor.
#[derive(Debug)]
pub(super) struct MonitorQueue {
    state: Mutex<State>,
    changed: Notify,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    refusing: bool,
    /// The latest only: an older one says nothing more.
    stats: Option<Utf8Bytes>,
    ended: Option<Ended>,
    /// When the monitor last asked for something.
    asked: Instant,
}

impl MonitorQueue {
    pub fn new(bytes_max: usize) -> MonitorQueue {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            refusing: false,
            stats: None,
            ended: None,
            asked: Instant::now(),
        };
        MonitorQueue { state: Mutex::new(state), changed: Notify::new(), bytes_max }
    }

    /// Takes a tick's messages of the selected streams, or notes the gap. `fill`: how much of the memory for all monitors is
    /// in use.
    pub fn push(&self, tick: &Tick, selection: &Selection, fill: Fill) -> Pushed {
        let parts = || tick.parts.iter().filter(|part| selection.covers(&part.name));
        let bytes: usize = parts().map(Part::bytes).sum();
        if bytes == 0 {
            return Pushed::AsEver;
        }
        let mut state = self.state();
        if state.ended.is_some() {
            return Pushed::AsEver;
        }
        // Gaps alone are merged, so that they do not become many.
        let shows = parts().any(|part| part.records > 0);
        let is_crowded_out = match fill {
            Fill::Low => false,
            Fill::High => !state.items.is_empty(),
            Fill::Full => true,
        };
        if !is_crowded_out && state.admits(bytes, self.bytes_max) && shows {
            state.bytes += bytes;
            let messages = parts().flat_map(|part| &part.messages);
            state.items.extend(messages.map(|message| Item::Message(message.clone())));
        } else {
            state.refusing |= shows && !is_crowded_out;
            let set = state.gap_set(tick.from);
            let before = set.counts.len();
            for part in parts() {
                set.add(part.stream, &part.name, part.rows);
            }
            set.extend(tick.to, false);
            let added = set.counts.len() - before;
            state.bytes += added * GAP_BYTES;
        }
        drop(state);
        self.changed.notify_one();
        if shows && is_crowded_out { Pushed::CrowdedOut } else { Pushed::AsEver }
    }

    /// Notes that something between two points is lost to everybody.
    pub fn push_unknown(&self, from: Point, to: Point) {
        let mut state = self.state();
        if state.ended.is_none() {
            state.gap_set(from).extend(to, true);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Puts the latest statistics in the place of those that were not sent.
    pub fn put_stats(&self, text: Utf8Bytes) {
        self.state().stats = Some(text);
        self.changed.notify_one();
    }

    pub fn take_stats(&self) -> Option<Utf8Bytes> {
        self.state().stats.take()
    }

    /// The next thing in the queue.
    pub fn pop(&self) -> Option<Item> {
        let mut state = self.state();
        let item = state.items.pop_front()?;
        state.bytes -= match &item {
            Item::Message(message) => message.text.len(),
            Item::Gaps(set) => set.counts.len() * GAP_BYTES,
        };
        Some(item)
    }

    /// Waits for the next push, statistics or end.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says that the monitor is alive and took what it was given.
    pub fn touch(&self) {
        self.state().asked = Instant::now();
    }

    /// Whether something waits, but was not asked for in this time.
    pub fn is_stuck(&self, now: Instant, longest: Duration) -> bool {
        let state = self.state();
        let waits = !state.items.is_empty() || state.stats.is_some();
        waits && now.saturating_duration_since(state.asked) > longest
    }

    /// Ends the queue and frees what waits. The first reason stays.
    pub fn end(&self, reason: Ended) {
        let mut state = self.state();
        state.ended.get_or_insert(reason);
        state.items = VecDeque::new();
        state.bytes = 0;
        state.stats = None;
        drop(state);
        self.changed.notify_one();
    }

    pub fn ended(&self) -> Option<Ended> {
        self.state().ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admits(&mut self, bytes: usize, bytes_max: usize) -> bool {
        if self.refusing && self.bytes <= bytes_max / 2 {
            self.refusing = false;
        }
        !self.refusing && self.bytes.saturating_add(bytes) <= bytes_max
    }

    /// The gap set at the end of the queue.
    fn gap_set(&mut self, from: Point) -> &mut GapSet {
        if !matches!(self.items.back(), Some(Item::Gaps(_))) {
            self.items.push_back(Item::Gaps(GapSet::new(from)));
        }
        match self.items.back_mut() {
            Some(Item::Gaps(set)) => set,
            _ => unreachable!("the last item was just made a gap set"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_record::Position;

    use super::*;
    use crate::hub::message::Content;
    use crate::hub::tick::TickBuilder;
    use proptest::prelude::*;

    fn point(position: u64) -> Point {
        Point::at(Position(position))
    }

    fn tag() -> JournalTag {
        JournalTag::from(uuid::Uuid::from_u128(7))
    }

    fn names() -> Vec<StreamName> {
        ["a", "b", "c"].iter().map(|name| name.parse().unwrap()).collect()
    }

    /// A tick with so many records of the streams a, b and c.
    fn tick(from: u64, rows: [u64; 3]) -> Tick {
        let mut builder = TickBuilder::new(point(from));
        for (index, (rows, name)) in rows.into_iter().zip(names()).enumerate() {
            for _ in 0..rows {
                let stream = StreamId(i32::try_from(index).unwrap());
                builder.add_record(stream, &name, r#"{"data":"0123456789"}"#, point(from + 1));
            }
        }
        builder.finish(tag(), point(from + 1))
    }

    fn drain(queue: &MonitorQueue, items: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..items {
            match queue.pop() {
                Some(Item::Message(message)) => messages.push(message),
                Some(Item::Gaps(set)) => {
                    messages.extend(set.messages(
                        tag(),
                        &Selection::All,
                        &StreamsSnapshot::default(),
                    ));
                }
                None => break,
            }
        }
        messages
    }

    fn rows(message: &Message) -> u64 {
        match message.content {
            Content::Records(rows) | Content::Gap(Some(rows)) => rows,
            Content::Gap(None) | Content::Notice => panic!("counts are known here"),
        }
    }

    const FILLS: &[Fill] = &[Fill::Low, Fill::High, Fill::Full];

    proptest! {
        /// However slowly it is read, the frames and gaps of a queue are all that was pushed, in order, and the bytes
        /// that wait stay within the limit and one set of gaps.
        #[test]
        fn nothing_is_lost_without_a_gap(
            steps in prop::collection::vec(
                (prop::array::uniform3(0_u64..4), 0_usize..4, prop::sample::select(FILLS)), 1..60),
            bytes_max in 100_usize..2000,
        ) {
            let queue = MonitorQueue::new(bytes_max);
            let mut pushed = 0;
            let mut got = Vec::new();
            for (position, (counts, pops, fill)) in steps.into_iter().enumerate() {
                pushed += counts.iter().sum::<u64>();
                queue.push(&tick(position as u64, counts), &Selection::All, fill);
                prop_assert!(queue.state().bytes <= bytes_max + 3 * GAP_BYTES);
                got.extend(drain(&queue, pops));
            }
            got.extend(drain(&queue, usize::MAX));
            prop_assert_eq!(queue.state().bytes, 0);
            prop_assert_eq!(got.iter().map(rows).sum::<u64>(), pushed);
            let ends: Vec<_> = got.iter().map(|message| message.cursor.unwrap().place.end()).collect();
            prop_assert!(ends.is_sorted());
        }
    }

    #[test]
    fn a_tick_that_never_fits_is_a_gap_and_the_next_one_is_taken() {
        let queue = MonitorQueue::new(400);
        queue.push(&tick(0, [50, 0, 0]), &Selection::All, Fill::Low);
        assert_eq!(rows(&drain(&queue, 1)[0]), 50);
        queue.push(&tick(1, [1, 0, 0]), &Selection::All, Fill::Low);
        assert_eq!(drain(&queue, 1)[0].content, Content::Records(1));
    }

    #[test]
    fn who_has_something_waiting_is_the_first_to_get_gaps() {
        let (waits, keeps_up) = (MonitorQueue::new(4_000), MonitorQueue::new(4_000));
        let one = |at| tick(at, [1, 0, 0]);
        waits.push(&one(0), &Selection::All, Fill::Low);
        for queue in [&waits, &keeps_up] {
            queue.push(&one(1), &Selection::All, Fill::High);
        }
        assert_eq!(drain(&keeps_up, 9)[0].content, Content::Records(1));
        let got: Vec<Content> = drain(&waits, 9).iter().map(|message| message.content).collect();
        assert_eq!(got, [Content::Records(1), Content::Gap(Some(1))]);
        let full = |queue: &MonitorQueue| queue.push(&one(2), &Selection::All, Fill::Full);
        assert_eq!((full(&waits), full(&keeps_up)), (Pushed::CrowdedOut, Pushed::CrowdedOut));
        assert_eq!(drain(&keeps_up, 9)[0].content, Content::Gap(Some(1)));
        // What was crowded out says nothing about the queue itself.
        assert_eq!(keeps_up.push(&one(3), &Selection::All, Fill::Low), Pushed::AsEver);
        assert_eq!(drain(&keeps_up, 9)[0].content, Content::Records(1));
    }

    #[test]
    fn what_is_not_selected_neither_fills_the_queue_nor_makes_gaps() {
        let queue = MonitorQueue::new(400);
        let selection = Selection::only([names().remove(1)]);
        for position in 0..100 {
            queue.push(&tick(position, [9, 0, 9]), &selection, Fill::Low);
        }
        queue.push(&tick(100, [9, 1, 9]), &selection, Fill::Low);
        let messages = drain(&queue, usize::MAX);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].content, Content::Records(1));
    }

    #[test]
    fn an_ended_queue_holds_nothing_and_keeps_its_first_reason() {
        let queue = MonitorQueue::new(4000);
        queue.push(&tick(0, [1, 1, 1]), &Selection::All, Fill::Low);
        queue.end(Ended::Stuck);
        queue.end(Ended::Shutdown);
        queue.push(&tick(1, [1, 1, 1]), &Selection::All, Fill::Low);
        assert_eq!(queue.ended(), Some(Ended::Stuck));
        assert!(queue.pop().is_none());
    }
}
