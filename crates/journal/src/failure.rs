//! What the disk refused, in words: the work, the file, the system's reason, and what helps.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

/// Work on a file that failed. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {work} {}: {reason}", path.display())]
pub struct DiskFailure {
    work: &'static str,
    path: PathBuf,
    reason: Arc<io::Error>,
}

impl DiskFailure {
    /// What the operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self.reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room on this disk; it goes on by itself"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the file system became read-only: look into the kernel's log, repair it and mount it for writing"
            }
            io::ErrorKind::PermissionDenied => "let the gateway's user write there",
            io::ErrorKind::NotFound => "something took the directory away: bring it back",
            _ if self.reason.raw_os_error() == Some(Errno::EIO as i32) => {
                "the disk or the way to it is failing: look into the kernel's log"
            }
            _ => "look into the logs of the gateway and the kernel",
        }
    }

    /// The same words with the file's name alone: users who may not administer the gateway do not see where it keeps its
    /// files.
    pub fn without_directory(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("cannot {} {name}: {}", self.work, self.reason)
    }

    /// Whether the disk has no space left.
    pub fn is_full_disk(&self) -> bool {
        matches!(
            self.reason.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
        )
    }
}

/// Names the work and the file of an error.
pub(super) fn during(work: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskFailure {
    move |reason| DiskFailure { work, path: path.to_owned(), reason: Arc::new(reason) }
}
