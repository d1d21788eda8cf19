//! The hub: what lets people watch records arrive.
//!
//! It promises that watching never slows ingesting: nothing is handed over on the way of a record. The hub follows the
//! journal with a reader of its own, as far as it is durable, and a monitor that resumes reads the same journal with the
//! same code. It promises that the records and gaps which a monitor gets are together exactly what was accepted from its
//! first cursor on, stream by stream; and that each thing it holds has a limit.
//!
//! It refuses to wait for a monitor, and to tell of a record that is not durable or was found invalid.
//!
//! Path of a record: `feed` (the loop) → `gather` (reads entries, with `rows` making JSON) → `tick` (a frame a stream,
//! with exact `cursor`s) → `queue` (one a monitor; `frames` bounds all of them) → `monitors`. Catching up is `history`; `counters`, `stats` and `past`
//! are the numbers.

mod cursor;
mod feed;
mod frames;
mod gather;
mod history;
mod message;
mod metrics;
mod monitor;
mod pace;
mod past;
mod queue;
mod rows;
mod sample;
mod selection;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
mod tick;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_codec::Streams;
use tidegate_journal::Journal;
use tidegate_record::clock::Clock;
use tidegate_record::{Position, UnixMicros};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::cursor::{CURSOR_BYTES_MAX, Cursor, InvalidCursor, JournalTag, Place, Point};
use self::feed::Feed;
use self::frames::Frames;
pub(crate) use self::history::History;
pub use self::message::{Content, Message};
pub use self::metrics::HubMetrics;
use self::monitor::Member;
pub use self::monitor::{Mode, Monitor, SubscribeError, Subscription};
use self::past::Past;
pub use self::queue::Ended;
pub use self::selection::Selection;
pub use self::stats::NodeStats;
use crate::counters::Counters;

/// Catch-ups that read the journal at once; the others wait for their turn.
const CATCH_UPS_AT_ONCE: usize = 4;
/// Partly read entries that all catch-ups together keep in memory, in KiB; beyond it an entry is read again.
const HELD_KIB_MAX: usize = 64 * 1024;

/// One user leaves so large a part of the monitors' places to others: an eighth.
const LEFT_TO_OTHERS: usize = 8;

/// Limits on watching.
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// Most monitors at once.
    pub monitors_max: usize,
    /// Most bytes that wait for one monitor.
    pub queue_bytes_max: usize,
    /// Most bytes of frames that wait for all of them; a frame counts once.
    pub frames_bytes_max: usize,
    /// Records are gathered into frames over at most this time; with few monitors over less.
    pub tick: Duration,
    /// Records a second and stream in a sample.
    pub sample_rate: u32,
    /// If the hub is this many bytes behind the journal, it goes on at its end and tells of gaps.
    pub lag_bytes_max: u64,
    /// A monitor that asks for nothing for this long, while something waits for it, is ended.
    pub stuck_after: Duration,
}

impl HubLimits {
    /// Most monitors of one user: some places are left to others.
    pub fn per_user_max(&self) -> usize {
        self.monitors_max - self.monitors_max / LEFT_TO_OTHERS
    }
}

impl Default for HubLimits {
    fn default() -> HubLimits {
        HubLimits {
            monitors_max: 10_000,
            queue_bytes_max: 1 << 20,
            frames_bytes_max: 256 << 20,
            tick: Duration::from_millis(20),
            sample_rate: 50,
            lag_bytes_max: 64 << 20,
            stuck_after: Duration::from_mins(1),
        }
    }
}

/// What the app tells of the node in `stats`. Called once a second; it must not block.
pub type NodeStatsProvider = Arc<dyn Fn() -> NodeStats + Send + Sync>;

/// The hub; clones are the same hub.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    journal: Journal,
    streams: Streams,
    counters: Counters,
    limits: HubLimits,
    clock: Clock,
    node_stats: NodeStatsProvider,
    node_name: String,
    /// When the counters began.
    started_at: UnixMicros,
    metrics: HubMetrics,
    frames: Frames,
    past: Mutex<Past>,
    roster: Mutex<Roster>,
    /// A monitor wants to join, or left.
    roster_changed: Notify,
    someone_left: AtomicBool,
    catch_ups: Arc<Semaphore>,
    held_kib: Arc<Semaphore>,
}

/// Who is here.
#[derive(Debug, Default)]
struct Roster {
    members: HashMap<u64, Arc<Member>>,
    /// How many each user has; only of those who have some.
    by_user: HashMap<Option<i64>, usize>,
    joining: Vec<Joining>,
    next_id: u64,
    ended: bool,
    /// Up to where the live feed went.
    position: Point,
}

/// A monitor that waits for its place in the live feed.
#[derive(Debug)]
struct Joining {
    member: Arc<Member>,
    reply: oneshot::Sender<Point>,
}

impl Roster {
    fn add(&mut self, member: &Arc<Member>) {
        self.members.insert(member.id, Arc::clone(member));
        *self.by_user.entry(member.user).or_default() += 1;
    }

    fn remove(&mut self, member: &Member) {
        self.members.remove(&member.id);
        if let Entry::Occupied(mut of_user) = self.by_user.entry(member.user) {
            *of_user.get_mut() -= 1;
            if *of_user.get() == 0 {
                of_user.remove();
            }
        }
    }
}

impl Hub {
    /// A hub at the end of what is durable now. `node_name` is in `hello` messages.
    pub fn new(
        journal: Journal,
        streams: Streams,
        counters: Counters,
        limits: HubLimits,
        clock: Clock,
        node_name: String,
        node_stats: NodeStatsProvider,
    ) -> Hub {
        let roster = Roster { position: Point::at(journal.synced()), ..Roster::default() };
        let shared = Shared {
            journal,
            streams,
            counters,
            limits,
            started_at: clock.now(),
            clock,
            node_stats,
            node_name,
            metrics: HubMetrics::default(),
            frames: Frames::new(limits.frames_bytes_max),
            past: Mutex::default(),
            roster: Mutex::new(roster),
            roster_changed: Notify::new(),
            someone_left: AtomicBool::new(false),
            catch_ups: Arc::new(Semaphore::new(CATCH_UPS_AT_ONCE)),
            held_kib: Arc::new(Semaphore::new(HELD_KIB_MAX)),
        };
        Hub { shared: Arc::new(shared) }
    }

    /// Feeds the monitors until `shutdown`; `synced` says up to where the journal is durable. Every monitor ends with
    /// it. To be run once.
    pub async fn run(&self, synced: watch::Receiver<Position>, shutdown: CancellationToken) {
        Feed::new(Arc::clone(&self.shared), synced).run(shutdown).await;
        let members = {
            let mut roster = self.shared.roster();
            roster.ended = true;
            roster.joining.clear();
            std::mem::take(&mut roster.members)
        };
        for member in members.values() {
            member.queue.end(Ended::Shutdown);
        }
    }

    /// Takes in a monitor. It gets statistics at once, and records when it joins.
    pub fn subscribe(&self, subscription: Subscription) -> Result<Monitor, SubscribeError> {
        Monitor::register(&self.shared, subscription)
    }

    /// How many monitors there are.
    pub fn monitors(&self) -> usize {
        self.shared.roster().members.len()
    }

    /// Bytes of frames that monitors did not take yet.
    pub fn frames_bytes(&self) -> usize {
        self.shared.frames.bytes()
    }

    /// Numbers for the metrics page.
    pub fn metrics(&self) -> &HubMetrics {
        &self.shared.metrics
    }

    /// The directory of streams that the hub looks names up in.
    pub fn streams(&self) -> &Streams {
        &self.shared.streams
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &HubLimits {
        &self.shared.limits
    }
}

impl Shared {
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal_tag(&self) -> JournalTag {
        JournalTag::from(self.journal.id())
    }
}
