//! Setting damaged parts aside, so that nothing that might still be read is thrown away.
//!
//! Copies and moved files lie in the directory `damaged`, named by their positions. Setting aside
//! is best effort: a full disk must not keep the journal from opening, so a failure is logged and
//! the damage is still listed.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidegate_record::Position;

use super::segment::file_name;
use super::storage::{Storage, StorageFile, copy_range, create_whole};

/// The directory inside the journal's.
pub(super) const DIR_NAME: &str = "damaged";

// What can be wrong with a range.
pub(super) const HEADER: &str = "the segment's header cannot be read";
pub(super) const CHECKSUM: &str = "a checksum does not match";
pub(super) const MISSING: &str = "the segment is missing";
pub(super) const FOREIGN: &str = "it belongs to another journal";

/// A range of positions whose entries cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    pub from: Position,
    pub to: Position,
    /// The copy of the damaged bytes, or the file that was moved away; `None` if there are no bytes
    /// (a missing segment) or they could not be set aside.
    pub set_aside: Option<PathBuf>,
    pub reason: &'static str,
}

/// Where and from what to set aside.
pub(super) struct Damaged<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
}

impl<'a> Damaged<'a> {
    pub fn new(storage: &'a dyn Storage, journal_dir: &'a Path) -> Damaged<'a> {
        Damaged { storage, dir: journal_dir }
    }

    /// Copies the bytes of a range out of a segment that begins at `base`.
    pub fn copy(&self, file: &dyn StorageFile, base: u64, from: u64, to: u64) -> Option<PathBuf> {
        let name = format!("{}-{}.bin", Position(from), Position(to));
        self.logged(from, self.try_copy(file, from - base..to - base, &name))
    }

    /// Moves a whole segment away.
    pub fn move_segment(&self, first: u64) -> Option<PathBuf> {
        self.logged(first, self.try_move(first))
    }

    /// The segment that an earlier opening moved away, if one did.
    pub fn moved_segment(&self, first: u64) -> Option<PathBuf> {
        let path = self.dir.join(DIR_NAME).join(file_name(first));
        self.storage.open(&path).is_ok().then_some(path)
    }

    fn try_copy(
        &self,
        file: &dyn StorageFile,
        range: Range<u64>,
        name: &str,
    ) -> io::Result<PathBuf> {
        let dir = self.make_dir()?;
        let path = dir.join(name);
        if self.storage.list(&dir)?.iter().any(|known| known == name) {
            return Ok(path);
        }
        create_whole(self.storage, &path, |copy| copy_range(file, range, copy, 0))?;
        self.storage.sync_dir(&dir)?;
        Ok(path)
    }

    fn try_move(&self, first: u64) -> io::Result<PathBuf> {
        let dir = self.make_dir()?;
        let names = self.storage.list(&dir)?;
        // A file of that name is there if the segment was put back after an earlier opening.
        let free = |name: &String| !names.contains(name);
        let numbered = (1..).map(|number: u32| format!("{}.{number}", file_name(first)));
        let name = std::iter::once(file_name(first)).chain(numbered).find(free);
        let path = dir.join(name.expect("some number is free"));
        self.storage.rename(&self.dir.join(file_name(first)), &path)?;
        self.storage.sync_dir(&dir)?;
        self.storage.sync_dir(self.dir)?;
        Ok(path)
    }

    fn make_dir(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join(DIR_NAME);
        self.storage.create_dir(&dir)?;
        self.storage.sync_dir(self.dir)?;
        Ok(dir)
    }

    fn logged(&self, from: u64, result: io::Result<PathBuf>) -> Option<PathBuf> {
        result
            .inspect_err(|error| {
                let (position, dir) = (Position(from), self.dir.display());
                tracing::warn!(%position, %dir, %error, "a damaged part could not be set aside");
            })
            .ok()
    }
}
