//! The loop that follows the journal and feeds the monitors.
//!
//! The first record after a pause is shown at once; after that records are gathered for a tick. Reading and decoding
//! run on a blocking thread, so that no other task waits for them. Without a monitor it only notes where the
//! journal's end is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_record::Position;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::cursor::{Place, Point};
use super::frames::Frames;
use super::gather::{Collector, Counted, FRAME_BYTES_MAX, Reached, ReadHead, Sampling, Watched};
use super::monitor::{Member, Mode};
use super::pace;
use super::past;
use super::queue::Pushed;
use super::rows::Scratch;
use super::sample::{SAMPLE_INTERVAL, SampleBudget};
use super::selection::Interest;
use super::stats::{STATS_INTERVAL, send_stats};
use super::tick::{Tick, TickBuilder};
use crate::telemetry::limits;

/// Monitors that get a tick before other tasks have their turn.
const DELIVERIES_AT_ONCE: usize = 256;

/// The loop's state.
pub(super) struct Feed {
    shared: Arc<Shared>,
    synced: watch::Receiver<Position>,
    /// Up to where the feed went.
    at: Point,
    worker: Option<Worker>,
    full: Vec<Arc<Member>>,
    sampled: Vec<Arc<Member>>,
    watched: Arc<Watched>,
    /// When the next tick may begin, and the next sample be sent.
    next_tick: Instant,
    next_sample: Instant,
}

/// What the blocking thread works with.
struct Worker {
    head: ReadHead,
    sampling: Sampling,
    scratch: Scratch,
}

/// What one piece of work gave.
struct Outcome {
    tick: Tick,
    /// Behind the tick, up to here, something is lost.
    lost_to: Option<Point>,
    /// The sample must be sent now.
    flush: bool,
}

impl Feed {
    pub fn new(shared: Arc<Shared>, synced: watch::Receiver<Position>) -> Feed {
        let at = shared.roster().position;
        let now = Instant::now();
        Feed {
            shared,
            synced,
            at,
            worker: None,
            full: Vec::new(),
            sampled: Vec::new(),
            watched: Arc::default(),
            next_tick: now,
            next_sample: now,
        }
    }

    /// Runs until `shutdown`, or until the last appender is gone.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut stats = tokio::time::interval(STATS_INTERVAL);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut past = interval_at(Instant::now() + past::INTERVAL, past::INTERVAL);
        past.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = *self.synced.borrow_and_update();
            if self.full.is_empty() && self.sampled.is_empty() {
                // The journal may tell of its end before the watch does.
                self.go_to(self.at.max(Point::at(end)));
            }
            self.admit().await;
            self.advance(end).await;
            let due = self.due(end);
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = stats.tick() => send_stats(&shared),
                _ = past.tick() => shared.past().add(&shared.counters.totals(), shared.clock.now()),
                () = shared.roster_changed.notified() => {}
                () = sleep_until(due) => {}
                changed = self.synced.changed(), if self.at.position >= end => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
    }

    /// Lets monitors in that wait, at the point where the feed is, and forgets those that left.
    async fn admit(&mut self) {
        let joining = std::mem::take(&mut self.shared.roster().joining);
        let someone_left = self.shared.someone_left.swap(false, Ordering::AcqRel);
        if joining.is_empty() && !someone_left {
            return;
        }
        if joining.iter().any(|joining| joining.member.mode == Mode::Sample) {
            // A sample begins where its newest monitor does.
            self.flush_sample().await;
        }
        for list in [&mut self.full, &mut self.sampled] {
            list.retain(|member| member.queue.ended().is_none());
        }
        for joining in joining {
            if joining.reply.send(self.at).is_ok() {
                let list = match joining.member.mode {
                    Mode::Full => &mut self.full,
                    Mode::Sample => &mut self.sampled,
                };
                list.push(joining.member);
            }
        }
        let interest =
            |list: &[Arc<Member>]| Interest::of(list.iter().map(|member| &member.selection));
        let watched = Watched { full: interest(&self.full), sample: interest(&self.sampled) };
        self.watched = Arc::new(watched);
        if self.full.is_empty() && self.sampled.is_empty() {
            self.worker = None;
        }
    }

    /// When there is something to do without a further event.
    fn due(&self, end: Position) -> Option<Instant> {
        let tick = (self.at.position < end).then_some(self.next_tick);
        let waits = self.worker.as_ref().is_some_and(|worker| !worker.sampling.tick.is_empty());
        let sample = waits.then_some(self.next_sample);
        [tick, sample].into_iter().flatten().min()
    }

    async fn advance(&mut self, end: Position) {
        let now = Instant::now();
        let watched = !self.full.is_empty() || !self.sampled.is_empty();
        if watched && self.at.position < end && now >= self.next_tick {
            self.tick(end, now).await;
        }
        let waits = self.worker.as_ref().is_some_and(|worker| !worker.sampling.tick.is_empty());
        if waits && now >= self.next_sample {
            self.flush_sample().await;
        }
    }

    /// One tick: read, decode, deliver.
    async fn tick(&mut self, end: Position, now: Instant) {
        let worker = self.worker.take().unwrap_or_else(|| self.new_worker());
        let sample_from = worker.sampling.tick.from();
        let (shared, watched) = (Arc::clone(&self.shared), Arc::clone(&self.watched));
        let from = self.at;
        let work = move || worker.work(&shared, &watched, Point::at(end));
        let (worker, outcome) = match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => {
                let position = from.position;
                tracing::error!(%error, %position, "the hub skips what it could not show");
                self.lose(from, sample_from, Point::at(end));
                return;
            }
        };
        self.worker = Some(worker);
        let to = outcome.tick.to;
        deliver(&self.full, outcome.tick, &self.shared.frames).await;
        self.go_to(to);
        if outcome.flush {
            self.flush_sample().await;
        }
        if let Some(lost_to) = outcome.lost_to {
            self.lose(to, to, lost_to);
        }
        // A tick that ended early is behind: the next one follows at once.
        let tick = pace::tick(self.full.len(), self.shared.limits.tick);
        let pause = u32::from(self.at.position >= end);
        self.next_tick = now + tick * pause;
    }

    fn new_worker(&self) -> Worker {
        let budget = SampleBudget::new(self.shared.limits.sample_rate);
        Worker {
            head: ReadHead::new(&self.shared.journal, self.at),
            sampling: Sampling { tick: TickBuilder::new(self.at), budget },
            scratch: Scratch::default(),
        }
    }

    /// Tells everybody that something is lost, and goes on behind it.
    fn lose(&mut self, from: Point, sample_from: Point, to: Point) {
        for (list, from) in [(&self.full, from), (&self.sampled, sample_from)] {
            for member in list {
                member.queue.push_unknown(from, to);
            }
        }
        if let Some(worker) = &mut self.worker {
            worker.sampling.tick = TickBuilder::new(to);
            // After an error, or a jump, the next read begins afresh.
            if worker.head.at() != to {
                worker.head = ReadHead::new(&self.shared.journal, to);
            }
        }
        self.go_to(to);
    }

    async fn flush_sample(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let next = TickBuilder::new(self.at);
        let tick = std::mem::replace(&mut worker.sampling.tick, next);
        if tick.is_empty() {
            return;
        }
        self.next_sample = Instant::now() + SAMPLE_INTERVAL;
        let tick = tick.finish(self.shared.journal_tag(), self.at);
        deliver(&self.sampled, tick, &self.shared.frames).await;
    }

    fn go_to(&mut self, point: Point) {
        self.at = point;
        self.shared.roster().position = point;
    }
}

impl Worker {
    /// Makes one tick of what lies before `until`.
    fn work(mut self, shared: &Shared, watched: &Watched, until: Point) -> (Worker, Outcome) {
        let behind_bytes = until.position.0.saturating_sub(self.head.at().position.0);
        let worked = if behind_bytes > shared.limits.lag_bytes_max {
            tracing::warn!(behind_bytes, "the hub is too far behind; monitors are told of gaps");
            self.skip_ahead(shared, watched, until)
        } else {
            self.read(shared, watched, until)
        };
        self.scratch.trim();
        (self, worked)
    }

    fn read(&mut self, shared: &Shared, watched: &Watched, until: Point) -> Outcome {
        // Read after `until`: a stream is in the directory before its first record is in the journal.
        let streams = shared.streams.snapshot();
        let from = self.head.at();
        let mut tick = TickBuilder::new(from);
        let mut collector = Collector {
            streams: &streams,
            watched,
            progress: Place::At(from),
            only: None,
            full: &mut tick,
            sampling: Some(&mut self.sampling),
            now: shared.clock.now(),
            scratch: &mut self.scratch,
        };
        let Reached { to, lost_to } = match self.head.gather(until, &mut collector) {
            Ok(reached) => reached,
            Err(error) => {
                tracing::warn!(%error, "the hub skips what it could not read");
                Reached { to: self.head.at(), lost_to: Some(until) }
            }
        };
        let flush = lost_to.is_some() || self.sampling.tick.bytes() >= FRAME_BYTES_MAX;
        Outcome { tick: tick.finish(shared.journal_tag(), to), lost_to, flush }
    }

    /// Goes to `until`; the records on the way are only counted.
    fn skip_ahead(&mut self, shared: &Shared, watched: &Watched, until: Point) -> Outcome {
        let streams = shared.streams.snapshot();
        let from = self.head.at();
        let tag = shared.journal_tag();
        let mut tick = TickBuilder::new(from);
        let counted = self.head.count(until, Place::At(from), u64::MAX).unwrap_or_else(|error| {
            tracing::warn!(%error, "the hub skips what it could not count");
            Counted { rows: BTreeMap::new(), to: until, lost: true }
        });
        if counted.lost {
            return Outcome { tick: tick.finish(tag, from), lost_to: Some(until), flush: true };
        }
        for (id, rows) in counted.rows {
            let Some(stream) = streams.by_id(id) else { continue };
            if watched.full.covers(&stream.name) {
                tick.omit(id, &stream.name, rows);
            }
            if watched.sample.covers(&stream.name) {
                self.sampling.tick.omit(id, &stream.name, rows);
            }
        }
        Outcome { tick: tick.finish(tag, until), lost_to: None, flush: true }
    }
}

/// Puts a tick into the queues. How much waits already is looked at once, so that equal monitors get the same.
async fn deliver(members: &[Arc<Member>], mut tick: Tick, frames: &Frames) {
    if tick.parts.is_empty() {
        return;
    }
    let fill = frames.fill();
    frames.count(tick.parts.iter_mut().flat_map(|part| &mut part.messages));
    let mut crowded_out = 0;
    for some in members.chunks(DELIVERIES_AT_ONCE) {
        for member in some {
            let pushed = member.queue.push(&tick, &member.selection, fill);
            crowded_out += u64::from(pushed == Pushed::CrowdedOut);
        }
        tokio::task::yield_now().await;
    }
    if crowded_out > 0 {
        limits::MONITOR_FRAMES.hits(crowded_out);
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
