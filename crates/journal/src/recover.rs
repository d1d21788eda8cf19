//! Opening: what is in the directory, what of it is valid, and where the next entry goes.
//!
//! Every entry is verified, with bounded memory. Damage never keeps the journal from opening. What
//! is damaged and what is only the torn tail of an unacknowledged write follows from the
//! invariants 1 and 2 of format.rs.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_record::{Position, UnixMicros};

use super::JournalOptions;
use super::damage::{Damage, Damaged};
use super::format::{
    ALIGNMENT_BYTES, Identity, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, SegmentHeader,
    SegmentHeaderFault, VERSION,
};
use super::identity;
use super::segment::{Segment, UNFINISHED_SUFFIX, file_name, parse_file_name};
use super::storage::{Storage, StorageFile, read_range, write_all};
use super::walk::{Depth, Step, Walk};

/// Bytes of the unproven tail that are written again at once.
const REWRITE_BYTES: u64 = 1024 * 1024;

/// Why a journal could not be opened. Damage is not among the reasons.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the journal in {} cannot be opened", dir.display())]
    Io { dir: PathBuf, source: io::Error },
    #[error("{} has format version {version}; this program reads {VERSION}", path.display())]
    Version { path: PathBuf, version: u32 },
}

/// What opening found.
pub(super) struct Recovered {
    pub identity: Identity,
    pub segments: Vec<Segment>,
    /// Where the journal ends, durably. A new segment is to begin here.
    pub end: u64,
    pub damages: Vec<Damage>,
}

/// Verifies a journal and makes its end durable.
pub(super) fn recover(
    dir: &Path,
    storage: &dyn Storage,
    options: &JournalOptions,
) -> Result<Recovered, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
    let found = find_segments(dir, storage).map_err(failed)?;
    for segment in &found {
        if let Err(SegmentHeaderFault::Version(version)) = segment.header {
            return Err(OpenError::Version { path: dir.join(file_name(segment.first)), version });
        }
    }
    let (identity, own) = decide_identity(dir, storage, &found).map_err(failed)?;
    let mut recovery = Recovery {
        dir,
        storage,
        damaged: Damaged::new(storage, dir),
        options,
        identity,
        segments: Vec::new(),
        damages: Vec::new(),
    };
    let end = recovery.run(found, &own).map_err(failed)?;
    let Recovery { segments, mut damages, .. } = recovery;
    damages.sort_by_key(|damage| damage.from);
    Ok(Recovered { identity, segments, end, damages })
}

struct Found {
    first: u64,
    length: u64,
    header: Result<SegmentHeader, SegmentHeaderFault>,
}

impl Found {
    fn end(&self) -> u64 {
        self.first + self.length
    }

    fn content_start(&self) -> u64 {
        self.first + SEGMENT_HEADER_BYTES
    }
}

/// Every segment in the directory, the oldest first. Removes what a crash left unfinished.
fn find_segments(dir: &Path, storage: &dyn Storage) -> io::Result<Vec<Found>> {
    storage.create_dir(dir)?;
    let mut firsts = Vec::new();
    for name in storage.list(dir)? {
        if name.ends_with(UNFINISHED_SUFFIX) {
            storage.remove(&dir.join(&name))?;
        }
        firsts.extend(parse_file_name(&name));
    }
    // A rename whose sync failed is made durable before anything relies on it.
    storage.sync_dir(dir)?;
    firsts.sort_unstable();
    firsts.into_iter().map(|first| find_segment(dir, storage, first)).collect()
}

fn find_segment(dir: &Path, storage: &dyn Storage, first: u64) -> io::Result<Found> {
    let file = storage.open(&dir.join(file_name(first)))?;
    let header = match SegmentHeader::decode(&read_range(&*file, 0, SEGMENT_HEADER_LEN)?) {
        Ok(header) if header.first.0 != first => Err(SegmentHeaderFault::Damaged),
        other => other,
    };
    Ok(Found { first, length: file.len_bytes()?, header })
}

/// Who the journal is, and which of the segments may be its own. Where no segment is, the identity
/// is new even if the file with the old one is there: its positions may have been used, and a
/// position must never stand for two entries of the same journal.
fn decide_identity(
    dir: &Path,
    storage: &dyn Storage,
    found: &[Found],
) -> io::Result<(Identity, Vec<bool>)> {
    let kept = identity::load(storage, dir)?;
    let of_segments = found.iter().rev().find_map(|segment| segment.header.ok());
    let identity = kept.or(of_segments.map(|header| header.identity));
    let is_own = |segment: &Found| match (segment.header, identity) {
        (Ok(header), Some(identity)) => header.identity == identity,
        _ => true,
    };
    let own: Vec<bool> = found.iter().map(is_own).collect();
    let identity = identity.filter(|_| own.contains(&true)).unwrap_or_else(Identity::random);
    if kept != Some(identity) {
        identity::store(storage, dir, &identity)?;
    }
    Ok((identity, own))
}

struct Recovery<'a> {
    dir: &'a Path,
    storage: &'a dyn Storage,
    damaged: Damaged<'a>,
    options: &'a JournalOptions,
    identity: Identity,
    segments: Vec<Segment>,
    damages: Vec<Damage>,
}

impl Recovery<'_> {
    /// Goes through the segments; returns where the journal ends.
    fn run(&mut self, found: Vec<Found>, own: &[bool]) -> io::Result<u64> {
        let (own, foreign): (Vec<_>, Vec<_>) =
            found.into_iter().zip(own).partition(|(_, own)| **own);
        for (segment, _) in foreign {
            self.move_away(segment.first, segment.end(), "it belongs to another journal");
        }
        let own: Vec<Found> = own.into_iter().map(|(segment, _)| segment).collect();
        for pair in own.windows(2) {
            self.recover_sealed(&pair[0], pair[1].first)?;
        }
        own.last().map_or(Ok(0), |last| self.recover_last(last))
    }

    /// A segment that is followed by another: all of it was durable, so every bad byte is damage.
    fn recover_sealed(&mut self, found: &Found, next_first: u64) -> io::Result<()> {
        let end = found.end().min(next_first);
        let file = self.open(found)?;
        let scan = Scan::of(found, &file, end, self.identity.secret)?;
        let is_lost = scan.entries_end.is_none() && found.header.is_err();
        if is_lost || end < found.content_start() {
            self.move_away(found.first, next_first, "the segment's header cannot be read");
            return Ok(());
        }
        self.list_damage(found, &*file, &scan.bad);
        if end < next_first {
            let set_aside = self.damaged.moved_segment(end);
            self.list(end, next_first, set_aside, "the segment is missing");
        }
        self.segments.push(Segment::new(self.dir, found.first, end, scan.newest));
        Ok(())
    }

    /// The last segment: finds where its torn tail begins, cuts there, and makes sure that the rest
    /// is durable.
    fn recover_last(&mut self, found: &Found) -> io::Result<u64> {
        let file = self.open(found)?;
        let scan = Scan::of(found, &file, found.end(), self.identity.secret)?;
        let durable = scan.durable.max(found.content_start());
        let torn = scan.bad.iter().position(|bad| bad.start >= durable);
        let (bad, end) = match torn {
            Some(index) => (&scan.bad[..index], scan.bad[index].start),
            None => (&scan.bad[..], found.end()),
        };
        let is_empty = end <= found.content_start();
        if is_empty && found.header.is_err() {
            // Its name says that it was once whole, so its positions may have been used.
            let end = found.first + found.length.max(self.options.segment_bytes);
            let end = end.next_multiple_of(ALIGNMENT_BYTES as u64);
            self.move_away(found.first, end, "the segment's header cannot be read");
            return Ok(end);
        }
        if is_empty {
            // The new segment takes its place.
            return Ok(found.first);
        }
        self.list_damage(found, &*file, bad);
        // What a failed sync left in memory reads as valid but need not be on disk, and syncing
        // again would not write it: so what is not proven durable is written again.
        write_again(&*file, durable - found.first..end - found.first)?;
        file.truncate(end - found.first)?;
        file.sync()?;
        self.segments.push(Segment::new(self.dir, found.first, end, scan.newest));
        Ok(end)
    }

    /// One file at a time, for there may be more segments than a process may open files.
    fn open(&self, found: &Found) -> io::Result<Arc<dyn StorageFile>> {
        self.storage.open(&self.dir.join(file_name(found.first)))
    }

    /// Sets aside and lists the bad ranges of a segment that stays; adjacent ones are one damage.
    fn list_damage(&mut self, found: &Found, file: &dyn StorageFile, bad: &[Range<u64>]) {
        for run in bad.chunk_by(|before, after| before.end == after.start) {
            let (from, to) = (run[0].start, run[run.len() - 1].end);
            let reason = if from == found.first {
                "the segment's header cannot be read"
            } else {
                "a checksum does not match"
            };
            let set_aside = self.damaged.copy(file, found.first, from, to);
            self.list(from, to, set_aside, reason);
        }
    }

    fn move_away(&mut self, first: u64, end: u64, reason: &str) {
        let set_aside = self.damaged.move_segment(first);
        self.list(first, end, set_aside, reason);
    }

    fn list(&mut self, from: u64, to: u64, set_aside: Option<PathBuf>, reason: &str) {
        let (from, to) = (Position(from), Position(to));
        self.damages.push(Damage { from, to, set_aside, reason: reason.to_owned() });
    }
}

/// What a walk through a whole segment found.
struct Scan {
    /// Ranges without a valid entry, in order. The reserved space after the last entry is one.
    bad: Vec<Range<u64>>,
    /// End of the last valid entry.
    entries_end: Option<u64>,
    newest: UnixMicros,
    /// The highest position that an entry says was durable.
    durable: u64,
}

impl Scan {
    fn of(found: &Found, file: &Arc<dyn StorageFile>, limit: u64, secret: u32) -> io::Result<Scan> {
        let mut walk = Walk::new(Arc::clone(file), found.first, secret);
        let mut at = found.content_start();
        let newest = UnixMicros(i64::MIN);
        let mut scan = Scan { bad: Vec::new(), entries_end: None, newest, durable: 0 };
        if found.header.is_err() {
            scan.bad.push(found.first..at);
        }
        loop {
            match walk.step(at, limit, Depth::Whole)? {
                Step::Entry { header, synced, .. } => {
                    scan.durable = scan.durable.max(synced.0);
                    scan.newest = scan.newest.max(header.received_at);
                    at = header.end.0;
                    scan.entries_end = Some(at);
                }
                Step::Damaged { to, synced } => {
                    scan.durable = scan.durable.max(synced.map_or(0, |synced| synced.0));
                    scan.bad.push(at..to);
                    at = to;
                }
                Step::End => return Ok(scan),
            }
        }
    }
}

fn write_again(file: &dyn StorageFile, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from((range.end - at).min(REWRITE_BYTES)).expect("1 MiB fits");
        let bytes = read_range(file, at, length)?;
        write_all(file, [&bytes[..]].into_iter(), at)?;
        at += length as u64;
    }
    Ok(())
}
