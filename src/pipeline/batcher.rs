//! Cuts the journal into batches: consecutive entries, closed by rows, bytes or time, whichever comes first.
//!
//! The batcher always reads the journal, whether an entry is a millisecond or a day old; after a crash, an outage or in
//! normal work the same code runs.
//!
//! Entries that PostgreSQL takes long over make batches of their own, small ones, which wait aside (`aside.rs`): what comes
//! behind them overtakes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::db::journals::EntryOutcome;
use crate::hub::counters::Counters;
use crate::journal::{Entry, Journal, ReadError, Reader};
use crate::pipeline::aside::AsideSender;
use crate::pipeline::ledger::CommitOutcome;
use crate::pipeline::progress::Believed;
use crate::pipeline::{Keys, Ledger, Progress, entry_first_id};
use crate::record::{COSTLY_MEMBERS, EntryKind, EntryMeta, Position, Source, StreamId};
use crate::streams::Streams;

/// Most bytes of committed entries that are passed over before they are let go.
const SKIPPED_BYTES_MAX: usize = 8 << 20;
/// A batch is cut at this many keys and values of documents, of those that entries tell of: PostgreSQL takes half a second
/// over them.
const BATCH_MEMBERS_MAX: u64 = 2 * COSTLY_MEMBERS;

const UNREADABLE: &str = "a part of the journal cannot be read; its records are not written";

/// When a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub rows: u64,
    pub bytes: u64,
    pub interval: Duration,
}

/// Consecutive entries that are committed in one transaction.
#[derive(Debug)]
pub struct Batch {
    /// The part of the journal that it covers: from `first` up to, not including, `last`.
    pub first: Position,
    pub last: Position,
    pub entries: Vec<Entry>,
    pub rows: u64,
    pub bytes: u64,
    /// Keys and values of its documents, of those that entries tell of.
    members: u64,
    /// It waits beside all others.
    is_aside: bool,
    pub gates: Vec<Gate>,
}

/// Keeps the order of a keyed stream: its part of a batch is merged after the same stream's part of the batch before.
#[derive(Debug)]
pub struct Gate {
    pub stream: StreamId,
    /// Answers when the earlier batch is committed; `None` for the first of a session.
    pub earlier: Option<oneshot::Receiver<()>>,
    /// Opened after this batch's commit.
    pub committed: oneshot::Sender<()>,
}

impl Gate {
    /// Is the earlier batch committed? Then nobody asks again.
    pub fn is_open(&mut self) -> bool {
        let Some(earlier) = &mut self.earlier else { return true };
        match earlier.try_recv() {
            Ok(()) => self.earlier = None,
            Err(oneshot::error::TryRecvError::Empty) => return false,
            // It never will be: whoever waits for it learns so.
            Err(oneshot::error::TryRecvError::Closed) => self.earlier = Some(oneshot::channel().1),
        }
        true
    }
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

/// Reads on until a batch is full or the journal ends.
struct Cutter {
    reader: Reader,
    limits: BatchLimits,
    progress: Progress,
    ledger: Ledger,
    streams: Streams,
    aside: Arc<AsideSender>,
    batch: Batch,
    /// Does anyone wait for the commit of an entry of the batch?
    waited_for: bool,
    /// Entries met on the way that are committed already.
    skipped: Vec<Entry>,
    skipped_bytes: usize,
    full: bool,
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
        let reader = self.context.journal.reader(start);
        let mut cutter = Cutter {
            batch: Batch::starting_at(start),
            reader,
            limits: self.context.limits,
            progress: self.context.progress.clone(),
            ledger: self.context.ledger.clone(),
            streams: self.context.streams.clone(),
            aside: Arc::clone(&self.aside),
            waited_for: false,
            skipped: Vec::new(),
            skipped_bytes: 0,
            full: false,
        };
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

/// The stream of an entry. Ids are positive, so the journal's unsigned form loses nothing.
pub(super) fn stream_of(entry: &Entry) -> StreamId {
    StreamId(i32::try_from(entry.header.stream).unwrap_or(i32::MAX))
}

/// Keys and values of an entry's documents, where it tells of them.
fn members_of(entry: &Entry) -> u64 {
    EntryMeta::members_of(&entry.meta).map_or(0, u64::from)
}

/// Where the entry's records came in.
pub(super) fn source_of(entry: &Entry) -> Source {
    EntryMeta::decode(&entry.meta).map_or(Source::Http, |meta| meta.source)
}

impl Batch {
    pub fn starting_at(first: Position) -> Batch {
        Batch {
            first,
            last: first,
            entries: Vec::new(),
            rows: 0,
            bytes: 0,
            members: 0,
            is_aside: false,
            gates: Vec::new(),
        }
    }

    /// Reads the entries of a batch again that was cut before. What cannot be read any more is covered all the same.
    pub fn read(journal: &Journal, first: Position, last: Position) -> Result<Batch, ReadError> {
        let mut batch = Batch::starting_at(first);
        let mut reader = journal.reader(first);
        while reader.position() < last
            && let Some(entry) = reader.next()?
            && entry.header.position < last
        {
            batch.add(entry);
        }
        for (from, to) in reader.take_damages() {
            tracing::error!(%from, %to, "{UNREADABLE}");
        }
        batch.last = last;
        Ok(batch)
    }

    fn add(&mut self, entry: Entry) {
        self.last = entry.header.end;
        self.rows += u64::from(entry.header.rows);
        self.bytes += entry.body.len() as u64;
        self.members += members_of(&entry);
        self.entries.push(entry);
    }

    /// Does it cover nothing? One that covers a damaged part may have no entries.
    fn is_empty(&self) -> bool {
        self.first == self.last
    }
}

impl Cutter {
    /// Reading the page cache is quick, reading a disk may not be.
    async fn fill_off_the_runtime(mut self) -> Result<Cutter, ReadError> {
        tokio::task::spawn_blocking(move || {
            self.fill()?;
            Ok(self)
        })
        .await
        .expect("reading the journal does not panic")
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        while !self.full {
            let next = self.reader.next()?;
            for (from, to) in self.reader.take_damages() {
                tracing::error!(%from, %to, "{UNREADABLE}");
                self.pass_damage(from, to);
            }
            if self.full {
                continue;
            }
            let Some(entry) = next else { return Ok(()) };
            if self.progress.is_committed(entry.header.position) {
                // A batch covers one range without a hole, so it ends where committed entries begin.
                if self.batch.is_empty() {
                    self.batch = Batch::starting_at(entry.header.end);
                    self.skipped_bytes += entry.body.len();
                    self.skipped.push(entry);
                    if self.skipped_bytes >= SKIPPED_BYTES_MAX {
                        return Ok(());
                    }
                } else {
                    self.reader.skip_to(entry.header.position);
                    self.full = true;
                }
                continue;
            }
            let is_aside = self.goes_aside(&entry);
            if is_aside != self.batch.is_aside && !self.batch.is_empty() {
                self.reader.skip_to(entry.header.position);
                self.full = true;
                continue;
            }
            self.batch.is_aside = is_aside;
            self.waited_for = self.waited_for
                || entry_first_id(&entry.body).is_some_and(|id| self.ledger.waits_for(id));
            self.batch.add(entry);
            self.full = self.batch.rows >= self.limits.rows
                || self.batch.bytes >= self.limits.bytes
                || self.batch.members >= BATCH_MEMBERS_MAX;
        }
        Ok(())
    }

    /// Is the entry costly, or of a keyed stream of which costly ones wait?
    fn goes_aside(&self, entry: &Entry) -> bool {
        if members_of(entry) >= COSTLY_MEMBERS {
            return true;
        }
        let is_kept_in_order = || {
            let stream = stream_of(entry);
            EntryKind::from_code(entry.header.kind) == Some(EntryKind::Records)
                && (self.aside.holds(stream) || self.is_held_by_batch(stream))
        };
        (self.aside.holds_any() || self.batch.is_aside) && is_kept_in_order()
    }

    /// Is it a keyed stream of the batch that is to wait aside? Its records may follow there without a cut.
    fn is_held_by_batch(&self, stream: StreamId) -> bool {
        self.batch.is_aside
            && self.batch.entries.iter().any(|entry| stream_of(entry) == stream)
            && self.streams.snapshot().by_id(stream).is_some_and(|stream| stream.key.is_some())
    }

    /// What cannot be read is covered by a batch all the same, so that the low-water mark gets past it; what of it was
    /// committed once is left out.
    fn pass_damage(&mut self, from: Position, to: Position) {
        let mut from = from.max(self.batch.last);
        while from < to {
            let Some((first, last)) = self.progress.next_committed(from, to) else {
                self.batch.last = to;
                return;
            };
            self.batch.last = first;
            if !self.batch.is_empty() {
                self.reader.skip_to(first);
                self.full = true;
                return;
            }
            self.batch = Batch::starting_at(last);
            from = last;
        }
    }

    /// Takes the batch; the next one begins where it ends.
    fn cut(&mut self) -> Batch {
        self.full = false;
        self.waited_for = false;
        let next = Batch::starting_at(self.batch.last);
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;
    use crate::journal::{DiskStorage, EntryDraft, JournalOptions, Opened};
    use crate::pipeline::aside::{Aside, CostlyLevel};
    use crate::record::{ColumnSet, UnixMicros};

    const OPTIONS: JournalOptions = JournalOptions {
        segment_bytes: 1 << 20,
        bytes_max: 1 << 24,
        retention: Duration::ZERO,
        retention_bytes: 0,
    };
    const LIMITS: BatchLimits =
        BatchLimits { rows: 1_000, bytes: 1 << 20, interval: Duration::from_millis(1) };

    /// A journal of so many entries, and where each of them ends; the first begins after the segment's header.
    fn journal(dir: &Path, entries: usize) -> (Journal, Vec<Position>) {
        let Opened { journal, mut appender, .. } =
            Journal::open(dir, OPTIONS, DiskStorage).unwrap();
        let ends = (0..entries).map(|_| {
            let mut draft = EntryDraft::new(b"", 200);
            draft.buffer_mut().extend_from_slice(&[7; 200]);
            let kind = EntryKind::Records.code();
            let mut group = [draft.seal(kind, 1, ColumnSet(0), 1, UnixMicros(0))];
            appender.append(&mut group).unwrap();
            group[0].end()
        });
        let ends = ends.collect();
        (journal, ends)
    }

    /// Flips a byte in the body of the entry that ends there.
    fn damage(dir: &Path, end: Position) {
        let segment = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "segment"));
        let file = File::options().write(true).open(segment.unwrap()).unwrap();
        file.write_all_at(&[8], end.0 - 100).unwrap();
    }

    /// Batches until nothing is left: what each covers, and how many entries it has.
    fn batches(journal: &Journal, progress: &Progress) -> Vec<(Position, Position, usize)> {
        let start = progress.low_water();
        let mut cutter = Cutter {
            reader: journal.reader(start),
            limits: LIMITS,
            progress: progress.clone(),
            ledger: Ledger::default(),
            streams: Streams::default(),
            aside: Arc::new(AsideSender::new(Aside::new(CostlyLevel::default()))),
            waited_for: false,
            batch: Batch::starting_at(start),
            skipped: Vec::new(),
            skipped_bytes: 0,
            full: false,
        };
        let mut batches = Vec::new();
        loop {
            cutter.fill().unwrap();
            if cutter.batch.is_empty() {
                return batches;
            }
            let batch = cutter.cut();
            progress.commit(batch.first, batch.last);
            batches.push((batch.first, batch.last, batch.entries.len()));
        }
    }

    #[test]
    fn costly_entries_are_cut_into_batches_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { journal, mut appender, .. } =
            Journal::open(dir.path(), OPTIONS, DiskStorage).unwrap();
        let told = [None, None, Some(249_999), Some(250_000), Some(260_000), Some(300_000), None];
        let told = told.into_iter().chain([Some(200_000); 4]);
        for members in told {
            let mut meta = Vec::new();
            EntryMeta { members, ..EntryMeta::new(Source::Http, "ada") }.encode(&mut meta);
            let mut draft = EntryDraft::new(&meta, 200);
            draft.buffer_mut().extend_from_slice(&[7; 200]);
            let kind = EntryKind::Records.code();
            appender.append(&mut [draft.seal(kind, 1, ColumnSet(0), 1, UnixMicros(0))]).unwrap();
        }
        let progress = Progress::new(Position(0));
        let batches = batches(&journal, &progress);
        let entries: Vec<usize> = batches.iter().map(|(_, _, entries)| *entries).collect();
        assert_eq!(entries, [3, 2, 1, 4, 1]);
        assert_eq!(progress.low_water(), journal.synced());
        let (first, last, _) = batches[1];
        let again = Batch::read(&journal, first, last).unwrap();
        assert_eq!((again.entries.len(), again.members, again.last), (2, 510_000, last));
    }

    #[test]
    fn damage_at_the_end_does_not_hold_the_mark_back() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = journal(dir.path(), 3);
        damage(dir.path(), ends[2]);
        let progress = Progress::new(Position(0));
        assert_eq!(batches(&journal, &progress), [(Position(0), ends[2], 2)]);
        assert_eq!(progress.low_water(), journal.synced());
    }

    #[test]
    fn damage_before_a_committed_batch_leaves_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = journal(dir.path(), 4);
        damage(dir.path(), ends[1]);
        let progress = Progress::new(Position(0));
        progress.commit(Position(0), ends[0]);
        // Another writer was quicker with the third.
        progress.commit(ends[1], ends[2]);
        let expected = [(ends[0], ends[1], 0), (ends[2], ends[3], 1)];
        assert_eq!(batches(&journal, &progress), expected);
        assert_eq!(progress.low_water(), journal.synced());
    }

    #[test]
    fn damage_over_a_committed_batch_does_not_cover_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = journal(dir.path(), 5);
        for end in &ends[1..4] {
            damage(dir.path(), *end);
        }
        let progress = Progress::new(Position(0));
        progress.commit(ends[1], ends[2]);
        let expected = [(Position(0), ends[1], 1), (ends[2], ends[4], 1)];
        assert_eq!(batches(&journal, &progress), expected);
        assert_eq!(progress.low_water(), journal.synced());
    }
}
