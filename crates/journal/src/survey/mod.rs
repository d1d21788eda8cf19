//! Looking at a journal without opening it: nothing is repaired, cut, locked or written.
//!
//! It works on the directory of a gateway that runs as well as of one that is stopped, and on a
//! single file, also one that was set aside. It sees the same entries and the same damage as opening
//! would (`scan`). What may be there beyond the last durable entry (reserved space, a group that is
//! being written, the torn end of one that never was acknowledged) is told apart as the tail.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_record::Position;
use uuid::Uuid;

use super::damage::{CHECKSUM, DIR_NAME, FOREIGN, HEADER, MISSING};
use super::entry::Entry;
use super::format::{Identity, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderFault};
use super::identity;
use super::scan::{Scan, Scanned};
use super::segment::{file_name, list_segments, read_header};
use super::storage::{DiskStorage, StorageFile, open_to_read, read_range};

/// Bytes of a tail that are looked at for anything but zeros.
const TAIL_BYTES_SEEN: u64 = 1024 * 1024;
/// Lists of a directory that changes all the time; then the latest counts.
const LISTS_MAX: usize = 10;

/// What there is to look at.
#[derive(Debug)]
pub struct Survey {
    identity: Option<Identity>,
    files: Vec<SurveyedFile>,
    /// Is the last file one that a gateway appends to, or did?
    has_tail: bool,
    set_aside: Vec<(PathBuf, u64)>,
}

/// A segment, or a part of one that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedFile {
    pub path: PathBuf,
    /// Position of its first byte.
    pub first: Position,
    /// Has it a segment's header?
    pub(super) is_segment: bool,
}

/// What lies in the journal, in the order of positions.
pub enum Finding<'a> {
    /// A file begins. It has `bytes` on disk.
    File {
        file: &'a SurveyedFile,
        bytes: u64,
    },
    Entry(Entry),
    /// No entry can be read here.
    Damage(UnreadRange<'a>),
    /// Behind all that is known to be durable there is no entry. Damage to the very last group looks
    /// the same, unless the journal was closed behind it.
    Tail {
        part: UnreadRange<'a>,
        is_blank: bool,
    },
}

/// A range of positions without an entry.
pub struct UnreadRange<'a> {
    pub from: Position,
    pub to: Position,
    pub reason: &'static str,
    /// The file that has the bytes; `None` if no file has them.
    pub file: Option<&'a SurveyedFile>,
    pub(super) handle: Option<Arc<dyn StorageFile>>,
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("{} cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("there is no journal in {}", .0.display())]
    NoJournal(PathBuf),
    #[error("{} has format version {version}, which this program does not read", path.display())]
    Version { path: PathBuf, version: u32 },
    #[error(
        "{} does not tell where it belongs: neither its name nor its header has a position",
        .0.display()
    )]
    NoPosition(PathBuf),
}

impl Survey {
    /// A whole journal.
    pub fn of_dir(dir: &Path) -> Result<Survey, SurveyError> {
        let failed = |source| SurveyError::Io { path: dir.to_owned(), source };
        // A running gateway may begin segments meanwhile, so that one list could miss one in between.
        let mut files = segments_in(dir).map_err(failed)?;
        for _ in 0..LISTS_MAX {
            let again = segments_in(dir).map_err(failed)?;
            if std::mem::replace(&mut files, again) == files {
                break;
            }
        }
        let identity = identity_in(dir).or_else(|| {
            let mut headers = files.iter().rev().map(|file| header_of(&file.path));
            headers.find_map(|header| header.ok()?.ok()).map(|header| header.identity)
        });
        if files.is_empty() && identity.is_none() {
            return Err(SurveyError::NoJournal(dir.to_owned()));
        }
        let mut set_aside: Vec<(PathBuf, u64)> = fs::read_dir(dir.join(DIR_NAME))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .map(|path| (path.clone(), fs::metadata(path).map_or(0, |found| found.len())))
            .collect();
        set_aside.sort();
        Ok(Survey { identity, files, has_tail: true, set_aside })
    }

    /// One file: a segment, wherever it lies, or a part that was set aside. Where the file
    /// does not tell the journal's identity, it is read in `journal_dir`.
    pub fn of_file(path: &Path, journal_dir: &Path) -> Result<Survey, SurveyError> {
        let failed = |source| SurveyError::Io { path: path.to_owned(), source };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let header = header_of(path).map_err(failed)?;
        let (first, is_segment) = match (first_of(name), header) {
            (Some((first, is_segment)), _) => (first, is_segment),
            (None, Ok(header)) => (header.first.0, true),
            (None, Err(_)) => return Err(SurveyError::NoPosition(path.to_owned())),
        };
        let is_aside = path.parent().is_some_and(|dir| dir.ends_with(DIR_NAME));
        let has_tail = is_segment && !is_aside;
        // Beside it, above it (where it was set aside), or where the caller says.
        let above = path.parent().into_iter().flat_map(|dir| dir.ancestors().take(2));
        let identity = header.ok().map(|header| header.identity);
        let identity = identity.or_else(|| above.chain([journal_dir]).find_map(identity_in));
        let file = SurveyedFile { path: path.to_owned(), first: Position(first), is_segment };
        Ok(Survey { identity, files: vec![file], has_tail, set_aside: Vec::new() })
    }

    /// The journal's id, if it can still be known.
    pub fn id(&self) -> Option<Uuid> {
        self.identity.map(|identity| identity.id)
    }

    /// Files that were set aside, with their lengths.
    pub fn set_aside(&self) -> &[(PathBuf, u64)] {
        &self.set_aside
    }

    /// Goes through everything once. Entries are checked whole; memory is bounded by one of them.
    pub fn visit<E: From<SurveyError>>(
        &self,
        mut visit: impl FnMut(Finding<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, file) in self.files.iter().enumerate() {
            let next = self.files.get(index + 1).map(|next| next.first.0);
            let failed = |source| SurveyError::Io { path: file.path.clone(), source };
            let handle = match open_to_read(&file.path) {
                // A running gateway trimmed it, or moved on from an empty one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            let bytes = handle.len_bytes().map_err(failed)?;
            visit(Finding::File { file, bytes })?;
            let end = file.first.0 + bytes;
            let limit = next.map_or(end, |next| next.min(end));
            self.visit_file(&OpenFile { file, handle }, next.is_none(), limit, &mut visit)?;
            if let Some(next) = next.filter(|next| limit < *next) {
                visit(Finding::Damage(missing(limit, next)))?;
            }
        }
        Ok(())
    }

    /// Tells of all in a file up to `limit`.
    fn visit_file<E: From<SurveyError>>(
        &self,
        open: &OpenFile<'_>,
        is_last: bool,
        limit: u64,
        visit: &mut impl FnMut(Finding<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (first, path) = (open.file.first.0, &open.file.path);
        let failed = |source| SurveyError::Io { path: path.clone(), source };
        let mut start = first;
        if open.file.is_segment {
            start = (first + SEGMENT_HEADER_BYTES).min(limit);
            match read_header(&*open.handle).map_err(failed)? {
                Err(SegmentHeaderFault::Version(version)) => {
                    return Err(SurveyError::Version { path: path.clone(), version }.into());
                }
                Ok(header) if self.identity.is_some_and(|own| own != header.identity) => {
                    return visit(Finding::Damage(open.part(first, limit, FOREIGN)));
                }
                Ok(header) if header.first.0 == first => {}
                _ => visit(Finding::Damage(open.part(first, start, HEADER)))?,
            }
        }
        let secret = self.identity.map_or(0, |identity| identity.secret);
        let has_tail = self.has_tail && is_last;
        let mut scan = Scan::new(Arc::clone(&open.handle), first, start..limit, secret, has_tail);
        while let Some(scanned) = scan.next().map_err(failed)? {
            visit(match scanned {
                Scanned::Entry(header, content) => Finding::Entry(Entry::new(header, content)),
                Scanned::Damage(range) => {
                    Finding::Damage(open.part(range.start, range.end, CHECKSUM))
                }
                Scanned::Tail(range) => {
                    let is_blank = open.is_blank(range.start, range.end).map_err(failed)?;
                    let part = open.part(range.start, range.end, "not acknowledged");
                    Finding::Tail { part, is_blank }
                }
            })?;
        }
        Ok(())
    }
}

/// A file that is looked at.
struct OpenFile<'a> {
    file: &'a SurveyedFile,
    handle: Arc<dyn StorageFile>,
}

impl<'a> OpenFile<'a> {
    fn part(&self, from: u64, to: u64, reason: &'static str) -> UnreadRange<'a> {
        let (from, to) = (Position(from), Position(to));
        UnreadRange {
            from,
            to,
            reason,
            file: Some(self.file),
            handle: Some(Arc::clone(&self.handle)),
        }
    }

    fn is_blank(&self, from: u64, to: u64) -> io::Result<bool> {
        let length = usize::try_from((to - from).min(TAIL_BYTES_SEEN)).unwrap_or_default();
        let bytes = read_range(&*self.handle, from - self.file.first.0, length)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }
}

/// A range that no file has.
fn missing(from: u64, to: u64) -> UnreadRange<'static> {
    let (from, to) = (Position(from), Position(to));
    UnreadRange { from, to, reason: MISSING, file: None, handle: None }
}

impl UnreadRange<'_> {
    /// Where it begins in its file.
    pub fn offset(&self) -> u64 {
        self.file.map_or(0, |file| self.from.0 - file.first.0)
    }

    /// Its bytes, in pieces of at most `piece_bytes`, with the position of each.
    pub fn pieces(
        &self,
        piece_bytes: usize,
    ) -> impl Iterator<Item = io::Result<(Position, Vec<u8>)>> {
        let step = piece_bytes.max(1);
        let starts = (self.from.0..self.to.0).step_by(step);
        let base = self.from.0 - self.offset();
        starts.filter_map(move |start| {
            let handle = self.handle.as_deref()?;
            let length = usize::try_from(self.to.0 - start).unwrap_or(step).min(step);
            let read = read_range(handle, start - base, length);
            Some(read.map(|bytes| (Position(start), bytes)))
        })
    }
}

fn segments_in(dir: &Path) -> io::Result<Vec<SurveyedFile>> {
    let file = |first| {
        let path = dir.join(file_name(first));
        SurveyedFile { path, first: Position(first), is_segment: true }
    };
    Ok(list_segments(dir, &DiskStorage)?.into_iter().map(file).collect())
}

fn identity_in(dir: &Path) -> Option<Identity> {
    identity::read(&*open_to_read(&dir.join(identity::FILE_NAME)).ok()?).ok()?
}

fn header_of(path: &Path) -> io::Result<Result<SegmentHeader, SegmentHeaderFault>> {
    read_header(&*open_to_read(path)?)
}

/// The first position in the name of a segment (perhaps with the number that setting aside gave it)
/// or of a copied part, and whether it is a segment.
fn first_of(name: &str) -> Option<(u64, bool)> {
    if let Some((hex, rest)) = name.split_once(".segment") {
        let is_ours = rest.is_empty() || rest.starts_with('.');
        return Some((u64::from_str_radix(hex, 16).ok()?, true)).filter(|_| is_ours);
    }
    let (from, _to) = name.strip_suffix(".bin")?.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, false))
}
