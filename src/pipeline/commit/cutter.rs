//! Reads the journal up to where a batch is full, or to where the appender has told what is durable.

use std::sync::Arc;

use tidegate_codec::Streams;
use tidegate_journal::{Entry, ReadError, Reader};
use tidegate_record::{DENSE_EXCESS_MIN, Position, StreamId};
use tokio::sync::watch;

use super::aside::{ASIDE_MEMBERS_MAX, AsideSender};
use super::batch::{Batch, UNREADABLE, excess_of, is_for_table, stream_of};
use super::context::{BatchLimits, CommitContext};
use super::progress::Progress;
use crate::pipeline::admission::{Ledger, entry_first_id};

/// Most bytes of committed entries that are passed over before they are let go.
pub(super) const SKIPPED_BYTES_MAX: usize = 8 << 20;
/// A batch of the ordinary queue has at most so many keys and values, and those of one more entry that is not dense, beyond
/// what its rows and bytes make likely: PostgreSQL takes a tenth of a second over them.
const BATCH_EXCESS_MAX: u64 = 100_000;

/// Reads on until a batch is full or what the appender has told of ends.
pub(super) struct Cutter {
    pub reader: Reader,
    /// Up to where entries are counted and their keys known. The journal may have more by then: a commit of that would be
    /// ahead of its count, and find no key to note its outcome for.
    synced: watch::Receiver<Position>,
    limits: BatchLimits,
    progress: Progress,
    ledger: Ledger,
    streams: Streams,
    aside: Arc<AsideSender>,
    /// The entry that was too much for the batch before this one: it goes aside, though this one has room for it.
    too_much: Option<Position>,
    pub batch: Batch,
    /// Does a request wait for the commit of an entry of the batch?
    pub waited_for: bool,
    /// Entries met on the way that are committed already.
    pub skipped: Vec<Entry>,
    pub skipped_bytes: usize,
    pub full: bool,
}

impl Cutter {
    pub fn new(context: &CommitContext, aside: Arc<AsideSender>, start: Position) -> Cutter {
        Cutter {
            batch: Batch::starting_at(start),
            reader: context.journal.reader(start),
            synced: context.synced.clone(),
            limits: context.limits,
            progress: context.progress.clone(),
            ledger: context.ledger.clone(),
            streams: context.streams.clone(),
            aside,
            too_much: None,
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
        let synced = *self.synced.borrow();
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
            if entry.header.position >= synced {
                self.reader.skip_to(entry.header.position);
                return Ok(());
            }
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
                self.too_much = is_aside.then_some(entry.header.position);
                self.reader.skip_to(entry.header.position);
                self.full = true;
                continue;
            }
            self.batch.is_aside = is_aside;
            self.waited_for = self.waited_for
                || entry_first_id(&entry.body).is_some_and(|id| self.ledger.waits_for(id));
            self.batch.add(entry);
            self.full = self.is_full();
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let Batch { rows, bytes, members, excess, is_aside, .. } = self.batch;
        let is_costly =
            if is_aside { members >= ASIDE_MEMBERS_MAX } else { excess >= BATCH_EXCESS_MAX };
        rows >= self.limits.rows || bytes >= self.limits.bytes || is_costly
    }

    /// Is the entry too dense for the ordinary queue, or of a keyed stream of which such ones wait?
    ///
    /// A few dense ones are nothing to set aside. Where they are many, and until what waits aside of them is written, all of
    /// them go there: else a flood would fill each batch of the ordinary queue with as much as it may have.
    fn goes_aside(&self, entry: &Entry) -> bool {
        let excess = excess_of(entry);
        let is_too_much = || {
            self.too_much == Some(entry.header.position)
                || self.batch.excess + excess > BATCH_EXCESS_MAX
        };
        if excess >= DENSE_EXCESS_MIN
            && (self.batch.is_aside || self.aside.is_busy() || is_too_much())
        {
            return true;
        }
        let is_kept_in_order = || {
            let stream = stream_of(entry);
            is_for_table(entry) && (self.aside.holds(stream) || self.is_held_by_batch(stream))
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

    use tidegate_journal::{DiskStorage, EntryDraft, Journal, JournalOptions, Opened};
    use tidegate_record::{ColumnSet, EntryKind, EntryMeta, Source, UnixMicros};

    use super::*;
    use crate::pipeline::admission::CostlyLevel;
    use crate::pipeline::commit::aside::Aside;

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

    fn cutter(journal: &Journal, progress: &Progress) -> Cutter {
        let start = progress.low_water();
        Cutter {
            reader: journal.reader(start),
            synced: watch::channel(journal.synced()).1,
            limits: LIMITS,
            progress: progress.clone(),
            ledger: Ledger::default(),
            streams: Streams::default(),
            aside: Arc::new(AsideSender::new(Aside::new(CostlyLevel::default()))),
            too_much: None,
            waited_for: false,
            batch: Batch::starting_at(start),
            skipped: Vec::new(),
            skipped_bytes: 0,
            full: false,
        }
    }

    /// Batches until nothing is left: what each covers, and how many entries it has.
    fn batches(journal: &Journal, progress: &Progress) -> Vec<(Position, Position, usize)> {
        let mut cutter = cutter(journal, progress);
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

    /// A journal of entries of a record of 200 bytes each that tell of so many members.
    fn telling(dir: &Path, told: impl IntoIterator<Item = Option<u32>>) -> Journal {
        let Opened { journal, mut appender, .. } =
            Journal::open(dir, OPTIONS, DiskStorage).unwrap();
        for members in told {
            let mut meta = Vec::new();
            EntryMeta { members, ..EntryMeta::new(Source::Http, "ada") }.encode(&mut meta);
            let mut draft = EntryDraft::new(&meta, 200);
            draft.buffer_mut().extend_from_slice(&[7; 200]);
            let kind = EntryKind::Records.code();
            appender.append(&mut [draft.seal(kind, 1, ColumnSet(0), 1, UnixMicros(0))]).unwrap();
        }
        journal
    }

    #[test]
    fn dense_entries_are_cut_into_batches_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let few = [None, None, Some(50_000), Some(50_000)];
        let too_many = [Some(50_000), Some(60_000), None];
        // None of these is dense, but all of them would be too much for a batch.
        let slight = [Some(3_065); 40];
        let costly = [Some(300_000), Some(300_000), Some(4_100), Some(500_000), None];
        let told = few.into_iter().chain(too_many).chain(slight).chain(costly);
        let journal = telling(dir.path(), told);
        let progress = Progress::new(Position(0));
        let batches = batches(&journal, &progress);
        let entries: Vec<usize> = batches.iter().map(|(_, _, entries)| *entries).collect();
        assert_eq!(entries, [4, 2, 1 + 34, 6, 2, 1, 1, 1]);
        assert_eq!(progress.low_water(), journal.synced());
        let (first, last, _) = batches[1];
        let again = Batch::read(&journal, first, last).unwrap();
        assert_eq!((again.entries.len(), again.members, again.last), (2, 110_000, last));
    }

    /// None of them would be too much by itself; of all of them the ordinary queue gets one batch.
    #[test]
    fn a_flood_of_dense_entries_goes_aside_until_the_last_is_written() {
        for (members, in_the_first_batch) in [(99_000, 1), (4_100, 24)] {
            let dir = tempfile::tempdir().unwrap();
            let flood = (0..600).map(|n| if n % 100 == 99 { None } else { Some(members) });
            let journal = telling(dir.path(), flood);
            let progress = Progress::new(Position(0));
            let mut cutter = cutter(&journal, &progress);
            let (mut dense, mut ordinary) = (Vec::new(), 0);
            loop {
                cutter.fill().unwrap();
                if cutter.batch.is_empty() {
                    break;
                }
                let batch = cutter.cut();
                let told = batch.entries.iter().filter(|entry| excess_of(entry) > 0).count();
                if batch.is_aside {
                    assert_eq!(told, batch.entries.len());
                    cutter.aside.put(batch);
                } else {
                    dense.push(told);
                    ordinary += batch.entries.len() - told;
                }
            }
            let first = dense.remove(0);
            assert_eq!((first, ordinary), (in_the_first_batch, 6));
            assert!(dense.iter().all(|told| *told == 0), "{dense:?}");
        }
    }

    /// The appender publishes what is durable before it has counted it and noted its key.
    #[test]
    fn what_the_appender_has_not_told_of_yet_is_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = journal(dir.path(), 3);
        let progress = Progress::new(Position(0));
        let mut cutter = cutter(&journal, &progress);
        let (told, synced) = watch::channel(ends[0]);
        cutter.synced = synced;
        for (end, entries) in [(ends[0], 1), (ends[0], 0), (ends[2], 2)] {
            told.send_replace(end);
            cutter.fill().unwrap();
            let batch = cutter.cut();
            assert_eq!((batch.last, batch.entries.len()), (end, entries));
        }
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
