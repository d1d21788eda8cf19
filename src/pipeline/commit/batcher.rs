//! Cuts the journal into batches: consecutive entries, closed by rows, bytes or time, whichever comes first.
//!
//! The batcher always reads the journal, whether an entry is a millisecond or a day old; after a crash, an outage or in
//! normal work the same code runs.
//!
//! Entries that PostgreSQL takes long over make batches of their own, small ones, which wait aside (`aside.rs`): what comes
//! behind them overtakes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_journal::ReadError;
use tidegate_record::{Position, StreamId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::aside::AsideSender;
use super::batch::{Batch, Gate, is_for_table, stream_of};
use super::context::CommitContext;
use super::cutter::{Cutter, SKIPPED_BYTES_MAX};
use super::outcome::EntryOutcome;
use super::progress::Believed;
use crate::db::journals::EntryShortfall;

/// One session's batcher.
pub(super) struct Batcher {
    context: CommitContext,
    /// Of entries that an earlier session committed without learning of it.
    shortfalls: BTreeMap<Position, EntryShortfall>,
    /// What earlier sessions counted already.
    believed: Believed,
    gates: HashMap<StreamId, oneshot::Receiver<()>>,
    aside: Arc<AsideSender>,
    bytes_per_row: u64,
    deadline: Option<Instant>,
}

impl Batcher {
    pub fn new(
        context: CommitContext,
        shortfalls: BTreeMap<Position, EntryShortfall>,
        believed: Believed,
        aside: AsideSender,
    ) -> Batcher {
        Batcher {
            context,
            shortfalls,
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
            self.settle_skipped(&mut cutter);
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

    /// Waits until there is enough for a batch, the batch is overdue, or a request waits for a commit; false when the
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
            let is_keyed = is_for_table(entry)
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

    /// Entries that PostgreSQL already has, without a word of it to those that wait: tell them now.
    fn settle_skipped(&self, cutter: &mut Cutter) {
        if cutter.skipped.is_empty() {
            return;
        }
        for entry in cutter.skipped.drain(..) {
            if !self.believed.contains(entry.header.position) {
                let shortfall = self.shortfalls.get(&entry.header.position);
                let shortfall = shortfall.copied().unwrap_or_default();
                let outcome = EntryOutcome::but_for(shortfall, entry.header.rows.into());
                self.context.settle(&entry, outcome);
            }
        }
        // What lies before the batch was passed over, or is in batches that were cut.
        self.context.progress.count_below(cutter.batch.first);
    }
}
