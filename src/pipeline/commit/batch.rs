//! A batch: consecutive entries of the journal that are committed in one transaction, and what keeps its keyed streams in
//! order.

use tidegate_journal::{Entry, Journal, ReadError};
use tidegate_record::{EntryKind, EntryMeta, Position, Source, StreamId, excess_members};
use tokio::sync::oneshot;

/// What the log says of damage.
pub(super) const UNREADABLE: &str =
    "a part of the journal cannot be read; its records are not written";

/// Consecutive entries that are committed in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// The part of the journal that it covers: from `first` up to, not including, `last`.
    pub first: Position,
    pub last: Position,
    pub entries: Vec<Entry>,
    pub rows: u64,
    pub bytes: u64,
    /// Keys and values of its documents, of those that entries tell of.
    pub members: u64,
    /// How many of these are beyond what the entries' rows and bytes make likely.
    pub excess: u64,
    /// It waits beside all others.
    pub is_aside: bool,
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
    /// Is the earlier batch committed? Then it is not asked again.
    pub fn is_open(&mut self) -> bool {
        let Some(earlier) = &mut self.earlier else { return true };
        match earlier.try_recv() {
            Ok(()) => self.earlier = None,
            Err(oneshot::error::TryRecvError::Empty) => return false,
            // It never will be: a merge that waits for it learns so.
            Err(oneshot::error::TryRecvError::Closed) => self.earlier = Some(oneshot::channel().1),
        }
        true
    }
}

/// The stream of an entry. Ids are positive, so the journal's unsigned form loses nothing.
pub fn stream_of(entry: &Entry) -> StreamId {
    StreamId(i32::try_from(entry.header.stream).unwrap_or(i32::MAX))
}

/// Is it for a stream's table, with records or changes of them, and not for the quarantine?
pub fn is_for_table(entry: &Entry) -> bool {
    matches!(EntryKind::from_code(entry.header.kind), Some(EntryKind::Records | EntryKind::Changes))
}

/// Keys and values of an entry's documents, where it tells of them.
fn members_of(entry: &Entry) -> u64 {
    EntryMeta::members_of(&entry.meta).map_or(0, u64::from)
}

/// How many of these are beyond what the entry's rows and bytes make likely.
pub fn excess_of(entry: &Entry) -> u64 {
    excess_members(members_of(entry), entry.header.rows.into(), entry.body.len() as u64)
}

/// Where the entry's records came in.
pub fn source_of(entry: &Entry) -> Source {
    EntryMeta::decode(&entry.meta).map_or(Source::Http, |meta| meta.source)
}

impl Batch {
    pub fn starting_at(first: Position) -> Batch {
        Batch { first, last: first, ..Batch::default() }
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

    pub fn add(&mut self, entry: Entry) {
        self.last = entry.header.end;
        self.rows += u64::from(entry.header.rows);
        self.bytes += entry.body.len() as u64;
        self.members += members_of(&entry);
        self.excess += excess_of(&entry);
        self.entries.push(entry);
    }

    /// Does it cover nothing? One that covers a damaged part may have no entries.
    pub fn is_empty(&self) -> bool {
        self.first == self.last
    }
}
