//! Looking at one file of a journal: its header, its entries, and what is none.

use std::io;
use std::sync::Arc;

use tidegate_record::Position;

use super::entry::Entry;
use super::format::{Identity, SEGMENT_HEADER_BYTES, SegmentHeaderFault};
use super::storage::{StorageFile, read_range};
use super::survey::{Finding, Part, SurveyError, SurveyedFile, header_of};
use super::walk::{Depth, Step, Walk};

/// Bytes of a tail that are looked at for anything but zeros.
const TAIL_BYTES_SEEN: u64 = 1024 * 1024;

/// A look at one file.
pub(super) struct Look<'a> {
    file: &'a SurveyedFile,
    handle: Arc<dyn StorageFile>,
    bytes: u64,
    /// Where the next file begins.
    next: Option<u64>,
    identity: Option<Identity>,
    secret: u32,
    /// Its end may be torn, or being written.
    has_tail: bool,
    walk: Walk,
}

impl Look<'_> {
    /// Goes through the file and tells of everything in it.
    pub fn run<E: From<SurveyError>>(
        mut self,
        visit: &mut impl FnMut(Finding<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = self.file;
        let failed = |source| E::from(SurveyError::Io { path: file.path.clone(), source });
        let end = file.first.0 + self.bytes;
        let limit = self.next.map_or(end, |next| next.min(end));
        let Some(start) = self.pass_header(limit, visit)? else { return Ok(()) };
        let mut at = start;
        let mut durable = None;
        loop {
            match self.step(at, limit).map_err(failed)? {
                Step::Entry { header, content, .. } => {
                    at = header.end.0;
                    visit(Finding::Entry(Entry::new(header, content)))?;
                }
                Step::Damaged { to, synced } => {
                    let is_end = self.has_tail && to == limit && synced.is_none();
                    // Asked once: what is found further on was taken into account then.
                    let known = match durable {
                        Some(known) => known,
                        None if is_end => 0,
                        None => self.durable(at, limit).map_err(failed)?,
                    };
                    durable = Some(known);
                    if at >= known {
                        let is_blank = self.is_blank(at, limit).map_err(failed)?;
                        let part = self.part(at, limit, "not acknowledged");
                        return visit(Finding::Tail { part, is_blank });
                    }
                    visit(Finding::Damage(self.part(at, to, "a checksum does not match")))?;
                    at = to;
                }
                Step::End => break,
            }
        }
        match self.next {
            Some(next) if limit < next => visit(Finding::Damage(missing(limit, next))),
            _ => Ok(()),
        }
    }

    /// Where entries may begin; `None` if none of the file's are to be looked for.
    fn pass_header<E: From<SurveyError>>(
        &self,
        limit: u64,
        visit: &mut impl FnMut(Finding<'_>) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        let (path, first) = (&self.file.path, self.file.first.0);
        if !self.file.is_segment {
            return Ok(Some(first));
        }
        let start = (first + SEGMENT_HEADER_BYTES).min(limit);
        let failed = |source| E::from(SurveyError::Io { path: path.clone(), source });
        let reason = match header_of(path).map_err(failed)? {
            Err(SegmentHeaderFault::Version(version)) => {
                return Err(SurveyError::Version { path: path.clone(), version }.into());
            }
            Ok(header) if self.identity.is_some_and(|identity| identity != header.identity) => {
                let reason = "it belongs to another journal";
                visit(Finding::Damage(self.part(first, limit, reason)))?;
                return Ok(None);
            }
            Ok(header) if header.first == self.file.first => return Ok(Some(start)),
            _ => "the segment's header cannot be read",
        };
        visit(Finding::Damage(self.part(first, start, reason)))?;
        Ok(Some(start))
    }
}

/// A range that no file has.
fn missing(from: u64, to: u64) -> Part<'static> {
    let (from, to) = (Position(from), Position(to));
    Part { from, to, reason: "the segment is missing", file: None, handle: None }
}

impl<'a> Look<'a> {
    /// `bytes`: length of the file. `next`: where the next file begins. `has_tail`: its end may be
    /// torn, or be being written.
    pub fn new(
        file: &'a SurveyedFile,
        handle: Arc<dyn StorageFile>,
        bytes: u64,
        next: Option<u64>,
        identity: Option<Identity>,
        has_tail: bool,
    ) -> Look<'a> {
        let secret = identity.map_or(0, |identity| identity.secret);
        let walk = Walk::new(Arc::clone(&handle), file.first.0, secret);
        Look { file, handle, bytes, next, identity, secret, has_tail, walk }
    }

    /// What lies at a position. A group may be written while this reads: whatever lies before an
    /// entry was written before it, so what looks bad is looked at once more.
    fn step(&mut self, at: u64, limit: u64) -> io::Result<Step> {
        match self.walk.step(at, limit, Depth::Whole)? {
            // Nothing follows, so nothing says that something should be here.
            step @ Step::Damaged { to, synced: None } if self.has_tail && to == limit => Ok(step),
            Step::Damaged { .. } => {
                self.walk = self.fresh_walk();
                self.walk.step(at, limit, Depth::Whole)
            }
            sound => Ok(sound),
        }
    }

    fn fresh_walk(&self) -> Walk {
        Walk::new(Arc::clone(&self.handle), self.file.first.0, self.secret)
    }

    fn part(&self, from: u64, to: u64, reason: &'static str) -> Part<'a> {
        Part {
            from: Position(from),
            to: Position(to),
            reason,
            file: Some(self.file),
            handle: Some(Arc::clone(&self.handle)),
        }
    }

    /// What is known to have been durable: all of a segment that is followed by another, or that
    /// was set aside; else the highest position that the entries from `at` on say was.
    fn durable(&self, mut at: u64, limit: u64) -> io::Result<u64> {
        if !self.has_tail {
            return Ok(limit);
        }
        let mut walk = self.fresh_walk();
        let mut durable = 0;
        loop {
            match walk.step(at, limit, Depth::Header)? {
                Step::Entry { header, synced, .. } => {
                    durable = durable.max(synced.0);
                    at = header.end.0;
                }
                Step::Damaged { to, .. } => at = to,
                Step::End => return Ok(durable),
            }
        }
    }

    fn is_blank(&self, from: u64, to: u64) -> io::Result<bool> {
        let length = usize::try_from((to - from).min(TAIL_BYTES_SEEN)).unwrap_or_default();
        let bytes = read_range(&*self.handle, from - self.file.first.0, length)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }
}
