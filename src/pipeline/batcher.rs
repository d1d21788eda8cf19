//! Cuts the journal into batches: consecutive entries, closed by rows, bytes or time, whichever comes first.
//!
//! The batcher always reads the journal, whether an entry is a millisecond or a day old; after a crash, an outage or in
//! normal work the same code runs.
//!
//! Entries that PostgreSQL takes long over make batches of their own, small ones, which wait aside (`aside.rs`): what comes
//! behind them overtakes them.

mod batch;
mod cutter;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidegate_codec::Streams;
use tidegate_journal::{Entry, Journal, ReadError};
use tidegate_record::{EntryKind, Position, StreamId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::cutter::Cutter;
use crate::counters::Counters;
use crate::db::journals::EntryOutcome;
use crate::pipeline::aside::AsideSender;
use crate::pipeline::ledger::CommitOutcome;
use crate::pipeline::progress::Believed;
use crate::pipeline::{Keys, Ledger, Progress, entry_first_id};

pub(super) use self::batch::{Batch, Gate, source_of, stream_of};

/// Most bytes of committed entries that are passed over before they are let go.
const SKIPPED_BYTES_MAX: usize = 8 << 20;
/// When a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub rows: u64,
    pub bytes: u64,
    pub interval: Duration,
}

/// What the batcher shares with the rest of the pipeline.
#[derive(Clone)]
pub struct BatcherContext {
    pub journal: Journal,
    pub streams: Streams,
    pub counters: Counters,
    pub ledger: Ledger,
    pub keys: Keys,
    pub progress: Progress,
    pub limits: BatchLimits,
    pub synced: watch::Receiver<Position>,
    /// Cancelled when nothing will be appended any more.
    pub appended_all: CancellationToken,
}

/// One session's batcher.
pub(super) struct Batcher {
    context: BatcherContext,
    /// Of entries that an earlier session committed without learning of it.
    outcomes: BTreeMap<Position, EntryOutcome>,
    /// What earlier sessions counted already.
    believed: Believed,
    gates: HashMap<StreamId, oneshot::Receiver<()>>,
    aside: Arc<AsideSender>,
    bytes_per_row: u64,
    deadline: Option<Instant>,
}

impl Batcher {
    pub fn new(
        context: BatcherContext,
        outcomes: BTreeMap<Position, EntryOutcome>,
        believed: Believed,
        aside: AsideSender,
    ) -> Batcher {
        Batcher {
            context,
            outcomes,
            believed,
            gates: HashMap::new(),
            aside: Arc::new(aside),
            bytes_per_row: 256,
            deadline: None,
        }
    }

    /// Sends batches from `start` on, until the session ends or everything is sent and nothing more will come.
    pub async fn run(
        mut self,
        start: Position,
        batches: mpsc::Sender<Batch>,
        session: CancellationToken,
    ) -> Result<(), ReadError> {
        let mut cutter = Cutter::new(&self.context, Arc::clone(&self.aside), start);
        loop {
            let last_look = self.context.appended_all.is_cancelled();
            cutter = cutter.fill_off_the_runtime().await?;
            self.settle_skipped(&mut cutter.skipped);
            if std::mem::take(&mut cutter.skipped_bytes) >= SKIPPED_BYTES_MAX {
                continue;
            }
            let empty = cutter.batch.is_empty();
            let overdue = !empty && self.deadline() <= Instant::now();
            if overdue || (!empty && (cutter.full || cutter.waited_for || last_look)) {
                let batch = self.close(cutter.cut());
                self.deadline = None;
                if batch.is_aside {
                    self.aside.put(batch);
                    if session.is_cancelled() {
                        return Ok(());
                    }
                    continue;
                }
                tokio::select! {
                    sent = batches.send(batch) => if sent.is_err() { return Ok(()) },
                    () = session.cancelled() => return Ok(()),
                }
            } else if last_look || !self.wait(&cutter, &session).await {
                return Ok(());
            }
        }
    }

    /// Waits until there is enough for a batch, the batch is overdue, or somebody waits for a commit; false when the
    /// session is over.
    async fn wait(&mut self, cutter: &Cutter, session: &CancellationToken) -> bool {
        let read_to = cutter.reader.position();
        loop {
            let synced = *self.context.synced.borrow_and_update();
            let unread = synced.0.saturating_sub(read_to.0);
            let bytes = cutter.batch.bytes + unread;
            let rows = cutter.batch.rows + unread / self.bytes_per_row;
            if unread > 0 {
                let limits = self.context.limits;
                let enough = bytes >= limits.bytes || rows >= limits.rows;
                if enough || self.context.ledger.is_waited_for() {
                    return true;
                }
            }
            let something = unread > 0 || !cutter.batch.is_empty();
            let deadline = something.then(|| self.deadline());
            tokio::select! {
                changed = self.context.synced.changed() => if changed.is_err() {
                    self.context.appended_all.cancelled().await;
                    return true;
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return true,
                () = self.context.appended_all.cancelled() => return true,
                () = session.cancelled() => return false,
            }
        }
    }

    /// When the batch that is being gathered must be cut; runs from the first look at its first entry.
    fn deadline(&mut self) -> Instant {
        let interval = self.context.limits.interval;
        *self.deadline.get_or_insert_with(|| Instant::now() + interval)
    }

    /// Gives the batch its gates.
    fn close(&mut self, mut batch: Batch) -> Batch {
        if batch.rows > 0 {
            self.bytes_per_row = batch.bytes.div_ceil(batch.rows).max(1);
        }
        let streams = self.context.streams.snapshot();
        let mut keyed: Vec<StreamId> = Vec::new();
        for entry in &batch.entries {
            let stream = stream_of(entry);
            let is_keyed = EntryKind::from_code(entry.header.kind) == Some(EntryKind::Records)
                && streams.by_id(stream).is_some_and(|stream| stream.key.is_some());
            if is_keyed && !keyed.contains(&stream) {
                keyed.push(stream);
            }
        }
        for stream in keyed {
            let (committed, next) = oneshot::channel();
            let earlier = self.gates.insert(stream, next);
            batch.gates.push(Gate { stream, earlier, committed });
        }
        batch
    }

    /// Entries that PostgreSQL already has, although nobody was told: tell them now.
    fn settle_skipped(&self, skipped: &mut Vec<Entry>) {
        for entry in skipped.drain(..) {
            if self.believed.contains(entry.header.position)
                || EntryKind::from_code(entry.header.kind) != Some(EntryKind::Records)
            {
                continue;
            }
            let EntryOutcome { duplicates, refused, parked } =
                self.outcomes.get(&entry.header.position).copied().unwrap_or_default();
            if parked {
                continue;
            }
            let committed = u64::from(entry.header.rows).saturating_sub(duplicates + refused);
            let counters = self.context.counters.of(stream_of(&entry));
            counters.add_committed(committed, duplicates);
            if refused > 0 {
                counters.add_refused(source_of(&entry), refused);
            }
            let outcome = CommitOutcome { committed, duplicates, refused };
            self.context.keys.note_committed(&entry, outcome);
            if let Some(id) = entry_first_id(&entry.body) {
                self.context.ledger.resolve(id, outcome);
            }
        }
    }
}
