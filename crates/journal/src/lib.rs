//! The journal: what keeps a record from the moment it is acknowledged until it is in its table.
//!
//! An endless sequence of entries, addressed by [`Position`] and kept in segment files. One
//! [`Appender`] writes groups of entries and makes each group durable with one sync; any number of
//! [`Reader`]s follow it.
//!
//! It promises that an entry whose `append` returned is read back, in order and unchanged, after
//! any crash; that nothing is read before it is durable; that no position is used twice; and that
//! damage on disk is skipped, set aside and named, and never keeps the journal from opening.
//!
//! It refuses to know what an entry means: no SQL, no HTTP, no async. It does not lock its directory
//! (the caller holds the data directory) and does not retry what the disk refused.
//!
//! Path of an entry: `entry` (draft, sealed) → `appender` → `active` (the segment being written) →
//! `format` (the bytes) → `segment_reader` → `reader`.
//!
//! Who reads a segment, who repairs one, who locks:
//!
//! | module | reads | changes on disk | locks |
//! |---|---|---|---|
//! | `segment_reader` | one segment, a step at a time | nothing | nothing |
//! | `scan` | one segment whole, by `segment_reader`; tells damage from a torn end | nothing | nothing |
//! | `recover` | every segment, by `scan`, before the journal is open | removes unfinished files, sets damage aside (`damage`), cuts the torn end | nothing: no handle exists yet |
//! | `survey` | every segment or one file, by `scan`, also while a gateway writes | nothing | nothing |
//! | `reader` | what is durable, by `segment_reader`, while the appender writes | nothing | the list of segments, for a look-up |
//! | `appender`, `active` | nothing | add entries and segments | the list, to add one |
//! | `cut` | nothing | takes back what was not acknowledged, after a failed write | the list, to remove some |
//! | `retention` | nothing | removes committed segments | the list, to remove some |
//!
//! The data directory as a whole is locked by the caller of [`Journal::open`]; a [`Survey`] needs no
//! lock. The list of segments is never locked during I/O (`segment`).
//!
//! Public: [`Journal`] with its [`JournalOptions`], [`Opened`], [`Appender`] and [`Reader`]; the
//! entries ([`EntryDraft`], [`SealedEntry`], [`Entry`], [`EntryHeader`]); what can go wrong
//! ([`OpenError`], [`AppendError`], [`ReadError`], [`DiskFailure`], [`Damage`]); the [`Survey`] with its
//! findings; and the file system below ([`Storage`], [`StorageFile`], [`DiskStorage`]).

mod active;
mod appender;
mod cut;
mod damage;
mod entry;
mod failure;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
#[cfg(test)]
mod fixture;
mod format;
mod identity;
#[cfg(test)]
mod model;
mod reader;
mod recover;
mod retention;
mod scan;
mod segment;
mod segment_reader;
mod storage;
mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_record::{Position, UnixMicros};
use uuid::Uuid;

pub use self::appender::{AppendError, Appended, Appender};
pub use self::damage::Damage;
pub use self::entry::{Entry, EntryDraft, EntryHeader, SealedEntry};
pub use self::failure::DiskFailure;
use self::format::Identity;
pub use self::format::SEGMENT_HEADER_BYTES;
pub use self::reader::{ReadError, Reader};
pub use self::recover::OpenError;
use self::segment::SegmentList;
pub use self::storage::{DiskStorage, Storage, StorageFile};
pub use self::survey::{Finding, Survey, SurveyError, SurveyedFile, UnreadRange};

/// The limits of a journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Length of a segment. An entry that is larger gets a segment of its own length.
    pub segment_bytes: u64,
    /// Most bytes in all segments; above it appending says `Full`. Should be several segments, for
    /// the one being written is never trimmed. The disk needs room for one segment more, because
    /// space is reserved ahead.
    pub bytes_max: u64,
    /// Committed segments are kept this long.
    pub retention: Duration,
    /// Most bytes of committed segments to keep; never more than half of `bytes_max`.
    pub retention_bytes: u64,
}

/// An open journal. Cheap to clone; all clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// What opening gives.
pub struct Opened {
    pub journal: Journal,
    pub appender: Appender,
    /// Damage in what is retained, in order; the same again at each opening until it is trimmed.
    pub damages: Vec<Damage>,
}

/// What the journal's handles have in common.
struct Shared {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    options: JournalOptions,
    identity: Identity,
    segments: SegmentList,
    synced: AtomicU64,
    damages: Vec<Damage>,
}

impl Journal {
    /// Opens the journal in a directory, or begins one there. Reads and verifies all of it. Damage
    /// is set aside and listed, never an error.
    pub fn open(
        dir: &Path,
        options: JournalOptions,
        storage: impl Storage + 'static,
    ) -> Result<Opened, OpenError> {
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let recovered = recover::recover(dir, &*storage, &options)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            storage,
            options,
            identity: recovered.identity,
            segments: SegmentList::new(recovered.segments),
            synced: AtomicU64::new(recovered.end),
            damages: recovered.damages.clone(),
        });
        let appender = Appender::begin(Arc::clone(&shared));
        Ok(Opened { journal: Journal { shared }, appender, damages: recovered.damages })
    }

    /// Made once, when the journal began. Positions have a meaning only together with it.
    pub fn id(&self) -> Uuid {
        self.shared.identity.id
    }

    /// The oldest retained position.
    pub fn first(&self) -> Position {
        self.shared.first()
    }

    /// The end of what is durable.
    pub fn synced(&self) -> Position {
        Position(self.shared.synced())
    }

    /// Bytes in all segments, without what is only reserved.
    pub fn bytes(&self) -> u64 {
        self.shared.segments.used_bytes()
    }

    /// Bytes that this process may still take of the disk below the journal.
    pub fn disk_free_bytes(&self) -> io::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.shared.dir)?;
        // Both are of another width on other systems.
        let bytes = u128::from(disk.fragment_size()) * u128::from(disk.blocks_available());
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// What opening found damaged, as far as it was not trimmed since.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        let first = self.first();
        self.shared.damages.iter().filter(move |damage| damage.to > first)
    }

    /// A reader that begins at `from`, or at [`Journal::first`] if that is later; its
    /// [`Reader::position`] says which.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// Deletes the oldest segments, as long as they end at or below `committed` and either have been
    /// committed for as long as the retention or are above its bytes. Never the one being written.
    /// Returns the new oldest position. When they were committed is not on disk: after an opening it
    /// is when this is first told so.
    pub fn trim(&self, committed: Position, now: UnixMicros) -> io::Result<Position> {
        retention::trim(&self.shared, committed, now)?;
        Ok(self.first())
    }

    /// Like [`Journal::trim`], but without regard to the retention.
    pub fn trim_committed(&self, committed: Position) -> io::Result<Position> {
        retention::trim_committed(&self.shared, committed)?;
        Ok(self.first())
    }
}

impl Shared {
    fn first(&self) -> Position {
        Position(self.segments.first().unwrap_or_else(|| self.synced()))
    }

    fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Says that everything below `end` is durable, after the segments know their ends.
    fn publish_synced(&self, end: Position) {
        self.synced.store(end.0, Ordering::Release);
    }
}
