//! The file layer: what the journal asks of a file system, and the real one.
//!
//! The trait exists so that the tests can put a file system under the journal that loses, tears,
//! reorders and flips what was not synced. It promises nothing that POSIX does not: a write may be
//! short, a name is durable only after its directory is synced, and after a failed sync what is
//! on disk is unknown.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_private_file as private_file;

/// Unreadable places on a disk are met block by block.
const BLOCK_BYTES: usize = 4096;
/// Slices handed to one vectored write; the limit of Linux.
const SLICES_MAX: usize = 1024;
/// Bytes copied at once.
const COPY_BYTES: u64 = 1024 * 1024;

/// Ends the name of a file that is not what it will be yet. Opening removes such files.
pub(super) const UNFINISHED_SUFFIX: &str = ".new";

/// A file system.
pub trait Storage: Send + Sync {
    /// Makes a directory, and those above it, durably, if they are not there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one that may be there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Gives a file another name, in place of a file that may have it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Many may read it at once; one writes.
pub trait StorageFile: Send + Sync {
    /// Its length.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Reads up to the buffer's length; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of the slices' bytes, from the first on.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes the file at least this long and reserves the space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Makes its bytes and its length durable.
    fn sync(&self) -> io::Result<()>;
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskStorage;

impl Storage for DiskStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        // Each level is made durable, or a power loss could take the directory with all in it.
        let parent = dir.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        self.create_dir(parent)?;
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_dir(parent),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is not one of the journal's.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        // Only the gateway's user may read records.
        let mut options = private_file::options();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(DiskFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(DiskFile(private_file::options().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Opens a file of the machine's file system for reading alone.
pub(super) fn open_to_read(path: &Path) -> io::Result<Arc<dyn StorageFile>> {
    Ok(Arc::new(DiskFile(File::open(path)?)))
}

struct DiskFile(File);

impl StorageFile for DiskFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if let [one] = slices {
            return self.0.write_at(one, offset);
        }
        // The standard library has no stable positioned vectored write. Readers never use the
        // file's own offset, and there is one writer, so to seek first is the same.
        let mut file = &self.0;
        file.seek(SeekFrom::Start(offset))?;
        file.write_vectored(slices)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        allocate(&self.0, bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Reserves the space, so that a full disk is met when a segment begins and not inside a group,
/// and so that a sync need not write a new length each time.
#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use nix::errno::Errno;

    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    loop {
        match nix::fcntl::posix_fallocate(file, 0, length) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            // Some file systems cannot; there, a full disk is met later.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => return extend(file, bytes),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    extend(file, bytes)
}

fn extend(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < bytes { file.set_len(bytes) } else { Ok(()) }
}

/// Writes all of the buffers one after another, through short writes.
pub(super) fn write_all<'a>(
    file: &dyn StorageFile,
    buffers: impl IntoIterator<Item = &'a [u8]>,
    mut offset: u64,
) -> io::Result<()> {
    let mut buffers = buffers.into_iter().map(IoSlice::new).peekable();
    while buffers.peek().is_some() {
        let mut slices: Vec<IoSlice<'_>> = buffers.by_ref().take(SLICES_MAX).collect();
        let mut rest = slices.as_mut_slice();
        // An empty slice at the front would look like a write that gets nowhere.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match file.write_at(rest, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Makes a file that has its name only once it is whole: `fill` writes it under another name, and it
/// is synced before it is renamed. The name is durable once its directory is synced.
pub(super) fn create_whole(
    storage: &dyn Storage,
    path: &Path,
    fill: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
) -> io::Result<Arc<dyn StorageFile>> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(unfinished);
    let file = storage.create(&unfinished)?;
    let whole = fill(&*file).and_then(|()| file.sync());
    if let Err(error) = whole {
        // On a full disk, what was reserved must not stay. If that fails too, opening does it.
        drop(storage.remove(&unfinished));
        return Err(error);
    }
    storage.rename(&unfinished, path)?;
    Ok(file)
}

/// Copies a range of bytes to `offset` in another file, or in the same.
pub(super) fn copy_range(
    from: &dyn StorageFile,
    range: Range<u64>,
    to: &dyn StorageFile,
    mut offset: u64,
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from((range.end - at).min(COPY_BYTES)).expect("COPY_BYTES fits");
        let bytes = read_range(from, at, length)?;
        write_all(to, [&bytes[..]], offset)?;
        at += bytes.len() as u64;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// Reads `length` bytes. What is missing or cannot be read from the medium is zeros, which no
/// checksum accepts: so a bad block costs the entries in it and not those beside it.
pub(super) fn read_range(
    file: &dyn StorageFile,
    offset: u64,
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    match read_full(file, &mut buffer, offset) {
        Err(error) if is_medium_error(&error) => {}
        other => return other.map(|()| buffer),
    }
    for (index, block) in buffer.chunks_mut(BLOCK_BYTES).enumerate() {
        match read_full(file, block, offset + (index * BLOCK_BYTES) as u64) {
            Err(error) if is_medium_error(&error) => block.fill(0),
            other => other?,
        }
    }
    Ok(buffer)
}

fn read_full(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_medium_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_takes_more_slices_than_one_call_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = DiskStorage.create(&dir.path().join("file")).unwrap();
        file.allocate(10_000).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 10_000);
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let with_empty = parts.iter().flat_map(|part| [&[][..], part]);
        write_all(&*file, with_empty, 100).unwrap();
        assert_eq!(read_range(&*file, 100, 12_000).unwrap(), parts.concat());
        file.truncate(101).unwrap();
        assert_eq!(read_range(&*file, 100, 3).unwrap(), [0, 0, 0]);
    }

    #[test]
    fn the_disk_makes_directories_once() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a").join("b");
        for _ in 0..2 {
            DiskStorage.create_dir(&deep).unwrap();
            assert!(deep.is_dir());
        }
        std::fs::write(deep.join("file"), "").unwrap();
        assert!(DiskStorage.create_dir(&deep.join("file").join("c")).is_err());
    }

    #[test]
    fn the_disk_renames_over_a_file_and_lists_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write_all(&*DiskStorage.create(&to).unwrap(), [&b"old"[..]], 0).unwrap();
        write_all(&*DiskStorage.create(&from).unwrap(), [&b"new"[..]], 0).unwrap();
        DiskStorage.rename(&from, &to).unwrap();
        DiskStorage.sync_dir(dir.path()).unwrap();
        assert_eq!(DiskStorage.list(dir.path()).unwrap(), ["to"]);
        let file = DiskStorage.open(&to).unwrap();
        assert_eq!(read_range(&*file, 0, 3).unwrap(), b"new");
    }
}
