//! Reads the journal up to where a batch is full, or to its end.

use std::sync::Arc;

use super::batch::{Batch, UNREADABLE, members_of, stream_of};
use super::{BatchLimits, BatcherContext, SKIPPED_BYTES_MAX};
use crate::journal::{Entry, ReadError, Reader};
use crate::pipeline::aside::AsideSender;
use crate::pipeline::{Ledger, Progress, entry_first_id};
use crate::record::{COSTLY_MEMBERS, EntryKind, Position, StreamId};
use crate::streams::Streams;

/// Reads on until a batch is full or the journal ends.
pub struct Cutter {
    pub reader: Reader,
    limits: BatchLimits,
    progress: Progress,
    ledger: Ledger,
    streams: Streams,
    aside: Arc<AsideSender>,
    pub batch: Batch,
    /// Does anyone wait for the commit of an entry of the batch?
    pub waited_for: bool,
    /// Entries met on the way that are committed already.
    pub skipped: Vec<Entry>,
    pub skipped_bytes: usize,
    pub full: bool,
}

/// A batch is cut at this many keys and values of documents, of those that entries tell of: PostgreSQL takes half a second
/// over them.
const BATCH_MEMBERS_MAX: u64 = 2 * COSTLY_MEMBERS;

impl Cutter {
    pub fn new(context: &BatcherContext, aside: Arc<AsideSender>, start: Position) -> Cutter {
        Cutter {
            batch: Batch::starting_at(start),
            reader: context.journal.reader(start),
            limits: context.limits,
            progress: context.progress.clone(),
            ledger: context.ledger.clone(),
            streams: context.streams.clone(),
            aside,
            waited_for: false,
            skipped: Vec::new(),
            skipped_bytes: 0,
            full: false,
        }
    }

    /// Reading the page cache is quick, reading a disk may not be.
    pub async fn fill_off_the_runtime(mut self) -> Result<Cutter, ReadError> {
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
    pub fn cut(&mut self) -> Batch {
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

    use std::time::Duration;

    use super::*;
    use crate::journal::Journal;
    use crate::journal::{DiskStorage, EntryDraft, JournalOptions, Opened};
    use crate::pipeline::aside::{Aside, CostlyLevel};
    use crate::record::{ColumnSet, UnixMicros};
    use crate::record::{EntryMeta, Source};

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
