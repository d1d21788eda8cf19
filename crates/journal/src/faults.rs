//! A file system in memory that keeps only what was synced, and fails on request.
//!
//! It has two views: what the process sees, and what is on disk. A crash loses or keeps each
//! unsynced sector, length and name by itself; a failed sync forgets that anything was unsynced, as
//! Linux does, so that a second sync writes nothing and still succeeds.

#![expect(clippy::unwrap_used, reason = "a file system for tests: a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use nix::errno::Errno;

use super::storage::{Storage, StorageFile};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub struct FaultStorage {
    state: Arc<Mutex<State>>,
    gate: Arc<SyncGate>,
}

/// Where syncs wait while a test holds them.
#[derive(Default)]
struct SyncGate {
    /// Whether the gate is closed, and how many syncs wait.
    closed: Mutex<(bool, usize)>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
    files: Vec<File>,
    random: u64,
    /// Writes are cut short at random.
    short_writes: bool,
    /// Bytes that may still be written before the disk is full.
    space_bytes: Option<usize>,
    /// Bytes that may still be written before the disk refuses with an I/O error.
    sound_bytes: Option<usize>,
    /// Changes of files and names that still succeed.
    changes: Option<usize>,
    /// Syncs that still succeed.
    syncs: Option<usize>,
    bad_reads: BTreeSet<(PathBuf, u64)>,
}

enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Default, Clone)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
}

#[derive(Clone)]
enum FileChange {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultStorage {
    pub fn new(seed: u64) -> FaultStorage {
        let storage = FaultStorage::default();
        storage.state().random = seed;
        storage.state().short_writes = true;
        storage
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// With true, no sync begins to write or returns until this is called with false.
    pub fn hold_syncs(&self, hold: bool) {
        self.gate.closed.lock().unwrap().0 = hold;
        self.gate.changed.notify_all();
    }

    /// Waits until a sync waits at the gate. Blocks.
    pub fn wait_for_held_sync(&self) {
        let closed = self.gate.closed.lock().unwrap();
        drop(self.gate.changed.wait_while(closed, |closed| closed.1 == 0).unwrap());
    }

    fn pass_gate(&self) {
        let mut closed = self.gate.closed.lock().unwrap();
        closed.1 += 1;
        self.gate.changed.notify_all();
        closed = self.gate.changed.wait_while(closed, |closed| closed.0).unwrap();
        closed.1 -= 1;
    }

    /// Power loss: of what was not synced, any part may be there.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut random = state.random;
        let kept = below(&mut random, state.pending_names.len() + 1);
        let pending: Vec<_> = state.pending_names.drain(..).take(kept).collect();
        for change in pending {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for file in &mut state.files {
            file.settle(|| below(&mut random, 2) == 0);
            file.seen = file.durable.clone();
        }
        state.random = random;
    }

    /// After this many more bytes the disk is full.
    pub fn fill_after(&self, space_bytes: Option<usize>) {
        self.state().space_bytes = space_bytes;
    }

    /// After this many more bytes writing them is an I/O error.
    pub fn break_after(&self, sound_bytes: Option<usize>) {
        self.state().sound_bytes = sound_bytes;
    }

    /// After this many more changes of files and names the file system is read-only.
    pub fn refuse_changes_after(&self, changes: Option<usize>) {
        self.state().changes = changes;
    }

    /// After this many more syncs they fail.
    pub fn fail_sync_after(&self, syncs: Option<usize>) {
        self.state().syncs = syncs;
    }

    /// Reads of a sector of this file fail from now on.
    pub fn make_unreadable(&self, path: &Path, sector: u64) {
        self.state().bad_reads.insert((path.to_owned(), sector));
    }

    /// The files in a directory whose names end so, in order.
    pub fn files(&self, dir: &Path, suffix: &str) -> Vec<PathBuf> {
        let is_meant = |path: &&PathBuf| {
            path.parent() == Some(dir) && path.to_string_lossy().ends_with(suffix)
        };
        self.state().names.keys().filter(is_meant).cloned().collect()
    }

    /// What a file holds on disk, whether it was read back or not.
    pub fn durable(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.durable_names.get(path).map_or(Vec::new(), |at| state.files[*at].durable.clone())
    }

    /// Changes bits on disk and in memory.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.state();
        let at = state.names[path];
        let file = &mut state.files[at];
        for view in [&mut file.seen, &mut file.durable] {
            if let Some(byte) = view.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link(path, at) => {
                names.insert(path, at);
            }
            NameChange::Unlink(path) => {
                names.remove(&path);
            }
            NameChange::Rename(from, to) => {
                if let Some(at) = names.remove(&from) {
                    names.insert(to, at);
                }
            }
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => path.parent() == Some(dir),
            NameChange::Rename(from, to) => [from, to].iter().any(|p| p.parent() == Some(dir)),
        }
    }
}

impl File {
    /// Makes each unsynced change durable, or forgets it, sector by sector.
    fn settle(&mut self, mut keep: impl FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                FileChange::Length(length) => {
                    if keep() {
                        self.durable.resize(length, 0);
                    }
                }
                FileChange::Write(mut offset, bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let left = SECTOR_BYTES - offset % SECTOR_BYTES;
                        let (sector, after) = rest.split_at(left.min(rest.len()));
                        if keep() {
                            put(&mut self.durable, offset, sector);
                        }
                        offset += sector.len();
                        rest = after;
                    }
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
}

/// A number below `bound` (splitmix64).
pub(super) fn below(random: &mut u64, bound: usize) -> usize {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
}

impl Storage for FaultStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        assert!(state.dirs.contains(path.parent().unwrap()), "the directory is not there");
        state.take_change()?;
        // A name needs space too.
        state.take_space(1)?;
        let at = state.files.len();
        state.files.push(File::default());
        state.names.insert(path.to_owned(), at);
        state.pending_names.push(NameChange::Link(path.to_owned(), at));
        Ok(Arc::new(FaultFile { storage: self.clone(), path: path.to_owned(), at }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let at = *self.state().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultFile { storage: self.clone(), path: path.to_owned(), at }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.take_change()?;
        let at = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), at);
        state.pending_names.push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.take_change()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.pending_names.push(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.pass_gate();
        let mut state = self.state();
        state.take_sync()?;
        // Names are journaled in order, so those before the last of this directory go along.
        let last = state.pending_names.iter().rposition(|change| change.touches(dir));
        let synced: Vec<_> = state.pending_names.drain(..last.map_or(0, |at| at + 1)).collect();
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}

impl State {
    fn take_sync(&mut self) -> io::Result<()> {
        match &mut self.syncs {
            Some(0) => Err(Errno::EIO.into()),
            Some(syncs) => {
                *syncs -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take_change(&mut self) -> io::Result<()> {
        match &mut self.changes {
            Some(0) => Err(Errno::EROFS.into()),
            Some(changes) => {
                *changes -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How many of these bytes the disk still takes.
    fn take_space(&mut self, bytes: usize) -> io::Result<usize> {
        let mut taken = bytes;
        for (left, errno) in
            [(&mut self.space_bytes, Errno::ENOSPC), (&mut self.sound_bytes, Errno::EIO)]
        {
            let Some(left) = left else { continue };
            if *left == 0 && bytes > 0 {
                return Err(errno.into());
            }
            taken = taken.min(*left);
            *left -= taken;
        }
        Ok(taken)
    }
}

struct FaultFile {
    storage: FaultStorage,
    path: PathBuf,
    at: usize,
}

impl StorageFile for FaultFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.storage.state().files[self.at].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.storage.state();
        let sectors = SECTOR_BYTES as u64;
        let wanted = offset / sectors..(offset + buffer.len() as u64).div_ceil(sectors);
        if state.bad_reads.iter().any(|(path, at)| *path == self.path && wanted.contains(at)) {
            return Err(Errno::EIO.into());
        }
        let offset = usize::try_from(offset).unwrap();
        let seen = state.files[self.at].seen.get(offset..).unwrap_or_default();
        let length = seen.len().min(buffer.len());
        buffer[..length].copy_from_slice(&seen[..length]);
        Ok(length)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.storage.state();
        state.take_change()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        if state.short_writes {
            let mut random = state.random;
            if below(&mut random, 3) == 0 {
                bytes.truncate(1 + below(&mut random, bytes.len()));
            }
            state.random = random;
        }
        let taken = state.take_space(bytes.len())?;
        bytes.truncate(taken);
        let offset = usize::try_from(offset).unwrap();
        let file = &mut state.files[self.at];
        put(&mut file.seen, offset, &bytes);
        file.pending.push(FileChange::Write(offset, bytes));
        Ok(taken)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.take_change()?;
        // Enough to be refused on a full disk; the test says how many bytes it can still write.
        state.take_space(1)?;
        let length = usize::try_from(bytes).unwrap();
        let file = &mut state.files[self.at];
        if file.seen.len() < length {
            file.seen.resize(length, 0);
            file.pending.push(FileChange::Length(length));
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).unwrap();
        let mut state = self.storage.state();
        state.take_change()?;
        let file = &mut state.files[self.at];
        file.seen.resize(length, 0);
        file.pending.push(FileChange::Length(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.storage.pass_gate();
        let mut guard = self.storage.state();
        let state = &mut *guard;
        let synced = state.take_sync();
        let mut random = state.random;
        let file = &mut state.files[self.at];
        file.settle(|| synced.is_ok() || below(&mut random, 2) == 0);
        state.random = random;
        synced
    }
}
