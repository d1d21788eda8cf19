//! A file system of its own, small enough to be filled by a test.
//!
//! It is a tmpfs, which only root on Linux may mount. Continuous integration is both, and there a test that could not
//! mount would fail; elsewhere it says that it did nothing.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Bytes written at once while filling.
const FILL_BYTES: usize = 4_096;

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl SmallDisk {
    /// `None`, and a line that says so, where this user may not mount.
    pub fn mount(mebibytes: u32) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        SmallDisk::new(path, Some(directory), mebibytes)
    }

    /// The same in a directory that is there, and stays.
    pub fn mount_at(directory: &Path, mebibytes: u32) -> Option<SmallDisk> {
        SmallDisk::new(directory.to_owned(), None, mebibytes)
    }

    fn new(path: PathBuf, directory: Option<TempDir>, mebibytes: u32) -> Option<SmallDisk> {
        if !(cfg!(target_os = "linux") && nix::unistd::geteuid().is_root()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "continuous integration has to run as root on Linux: this test mounts a tmpfs"
            );
            println!("NOT TESTED: only root on Linux can mount the small file system");
            return None;
        }
        let options = format!("size={mebibytes}m,mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path));
        Some(SmallDisk { path, _directory: directory })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left, with a file that is none of the gateway's.
    pub fn fill(&self) {
        let mut file =
            File::options().create(true).append(true).open(self.filler()).expect("a file");
        loop {
            match file.write_all(&[7; FILL_BYTES]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("of-another-program")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the gateway may still be ending.
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
