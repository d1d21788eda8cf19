//! Opening: what is in the directory, what of it is valid, and where the next entry goes.
//!
//! Every entry is verified, with bounded memory. Damage never keeps the journal from opening. What
//! is damaged and what is only the torn tail of an unacknowledged write is `scan`'s to say; here it
//! is set aside, cut off, and made durable.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_record::{Position, UnixMicros};

use super::JournalOptions;
use super::damage::{CHECKSUM, Damage, Damaged, FOREIGN, HEADER, MISSING};
use super::format::{
    ALIGNMENT_BYTES, Identity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderFault, VERSION,
};
use super::identity;
use super::scan::{Scan, Scanned};
use super::segment::{Segment, file_name, list_segments, read_header};
use super::storage::{Storage, StorageFile, UNFINISHED_SUFFIX, copy_range};

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
        secret: identity.secret,
        segments: Vec::new(),
        damages: Vec::new(),
    };
    let end = recovery.run(found, &own).map_err(failed)?;
    let Recovery { segments, mut damages, .. } = recovery;
    damages.sort_by_key(|damage| damage.from);
    Ok(Recovered { identity, segments, end, damages })
}

/// A segment's file, before its content is looked at.
struct FoundSegment {
    first: u64,
    length: u64,
    header: Result<SegmentHeader, SegmentHeaderFault>,
}

impl FoundSegment {
    fn end(&self) -> u64 {
        self.first + self.length
    }

    fn content_start(&self) -> u64 {
        self.first + SEGMENT_HEADER_BYTES
    }
}

/// Every segment in the directory, the oldest first. Removes what a crash left unfinished.
fn find_segments(dir: &Path, storage: &dyn Storage) -> io::Result<Vec<FoundSegment>> {
    storage.create_dir(dir)?;
    for name in storage.list(dir)?.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX)) {
        storage.remove(&dir.join(name))?;
    }
    // A rename whose sync failed is made durable before anything relies on it.
    storage.sync_dir(dir)?;
    list_segments(dir, storage)?
        .into_iter()
        .map(|first| find_segment(dir, storage, first))
        .collect()
}

fn find_segment(dir: &Path, storage: &dyn Storage, first: u64) -> io::Result<FoundSegment> {
    let file = storage.open(&dir.join(file_name(first)))?;
    let header = match read_header(&*file)? {
        Ok(header) if header.first.0 != first => Err(SegmentHeaderFault::Damaged),
        other => other,
    };
    Ok(FoundSegment { first, length: file.len_bytes()?, header })
}

/// The journal's identity, and which of the segments may be its own. Where no segment is, the identity
/// is new even if the file with the old one is there: its positions may have been used, and a
/// position must never stand for two entries of the same journal.
fn decide_identity(
    dir: &Path,
    storage: &dyn Storage,
    found: &[FoundSegment],
) -> io::Result<(Identity, Vec<bool>)> {
    let kept = identity::load(storage, dir)?;
    let of_segments = found.iter().rev().find_map(|segment| segment.header.ok());
    let identity = kept.or(of_segments.map(|header| header.identity));
    let is_own = |segment: &FoundSegment| match (segment.header, identity) {
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
    secret: u32,
    segments: Vec<Segment>,
    damages: Vec<Damage>,
}

impl Recovery<'_> {
    /// Goes through the segments; returns where the journal ends.
    fn run(&mut self, found: Vec<FoundSegment>, own: &[bool]) -> io::Result<u64> {
        let (own, foreign): (Vec<_>, Vec<_>) =
            found.into_iter().zip(own).partition(|(_, own)| **own);
        for (segment, _) in foreign {
            self.move_away(segment.first, segment.end(), FOREIGN);
        }
        let own: Vec<FoundSegment> = own.into_iter().map(|(segment, _)| segment).collect();
        for pair in own.windows(2) {
            self.recover_sealed(&pair[0], pair[1].first)?;
        }
        own.last().map_or(Ok(0), |last| self.recover_last(last))
    }

    /// A segment that is followed by another: all of it was durable, so every bad byte is damage.
    fn recover_sealed(&mut self, found: &FoundSegment, next_first: u64) -> io::Result<()> {
        let end = found.end().min(next_first);
        let file = self.open(found)?;
        let content = SegmentContent::of(found, &file, end, self.secret, false)?;
        let is_lost = !content.has_entries && found.header.is_err();
        if is_lost || end < found.content_start() {
            self.move_away(found.first, next_first, HEADER);
            return Ok(());
        }
        self.list_damage(found, &*file, &content.bad);
        if end < next_first {
            let set_aside = self.damaged.moved_segment(end);
            self.list(end, next_first, set_aside, MISSING);
        }
        self.segments.push(Segment::new(self.dir, found.first, end, content.newest));
        Ok(())
    }

    /// The last segment: finds where its torn tail begins, cuts there, and makes sure that the rest
    /// is durable.
    fn recover_last(&mut self, found: &FoundSegment) -> io::Result<u64> {
        let file = self.open(found)?;
        let content = SegmentContent::of(found, &file, found.end(), self.secret, true)?;
        let end = content.end;
        let is_empty = end <= found.content_start();
        if is_empty && found.header.is_err() {
            // Its name says that it was once whole, so its positions may have been used.
            let end = found.first + found.length.max(self.options.segment_bytes);
            let end = end.next_multiple_of(ALIGNMENT_BYTES as u64);
            self.move_away(found.first, end, HEADER);
            return Ok(end);
        }
        if is_empty {
            // The new segment takes its place.
            return Ok(found.first);
        }
        self.list_damage(found, &*file, &content.bad);
        // What a failed sync left in memory reads as valid but need not be on disk, and syncing
        // again would not write it: so what is not proven durable is written again.
        let unproven = content.durable.max(found.content_start()) - found.first;
        let length = end - found.first;
        copy_range(&*file, unproven..length, &*file, unproven)?;
        file.truncate(length)?;
        file.sync()?;
        self.segments.push(Segment::new(self.dir, found.first, end, content.newest));
        Ok(end)
    }

    /// One file at a time, for there may be more segments than a process may open files.
    fn open(&self, found: &FoundSegment) -> io::Result<Arc<dyn StorageFile>> {
        self.storage.open(&self.dir.join(file_name(found.first)))
    }

    /// Sets aside and lists the bad ranges of a segment that stays; adjacent ones are one damage.
    fn list_damage(&mut self, found: &FoundSegment, file: &dyn StorageFile, bad: &[Range<u64>]) {
        for run in bad.chunk_by(|before, after| before.end == after.start) {
            let (from, to) = (run[0].start, run[run.len() - 1].end);
            let reason = if from == found.first { HEADER } else { CHECKSUM };
            let set_aside = self.damaged.copy(file, found.first, from, to);
            self.list(from, to, set_aside, reason);
        }
    }

    fn move_away(&mut self, first: u64, end: u64, reason: &'static str) {
        let set_aside = self.damaged.move_segment(first);
        self.list(first, end, set_aside, reason);
    }

    fn list(&mut self, from: u64, to: u64, set_aside: Option<PathBuf>, reason: &'static str) {
        let (from, to) = (Position(from), Position(to));
        self.damages.push(Damage { from, to, set_aside, reason });
    }
}

/// What lies in a segment, with bounded memory.
struct SegmentContent {
    /// The damaged ranges, in order, the header's included.
    bad: Vec<Range<u64>>,
    has_entries: bool,
    /// The latest time of its entries.
    newest: UnixMicros,
    /// Where its tail begins, or all of it ends.
    end: u64,
    /// The highest position that an entry says was durable.
    durable: u64,
}

impl SegmentContent {
    fn of(
        found: &FoundSegment,
        file: &Arc<dyn StorageFile>,
        limit: u64,
        secret: u32,
        has_tail: bool,
    ) -> io::Result<SegmentContent> {
        let start = found.content_start();
        let mut scan = Scan::new(Arc::clone(file), found.first, start..limit, secret, has_tail);
        let (mut bad, mut has_entries, mut end) = (Vec::new(), false, limit);
        let mut newest = UnixMicros(i64::MIN);
        bad.extend(found.header.is_err().then_some(found.first..start));
        while let Some(scanned) = scan.next()? {
            match scanned {
                Scanned::Entry(header, _) => {
                    has_entries = true;
                    newest = newest.max(header.received_at);
                }
                Scanned::Damage(range) => bad.push(range),
                Scanned::Tail(range) => end = range.start,
            }
        }
        Ok(SegmentContent { bad, has_entries, newest, end, durable: scan.durable() })
    }
}
