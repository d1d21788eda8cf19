//! Files that only the gateway's user may read: the journal, tokens and keys, the mirror of the catalog.
//!
//! A write is all or nothing: a reader sees the old file or the new one, and never one that others could have opened.

pub mod directory;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The owner reads and writes, other users do nothing.
pub const PRIVATE_MODE: u32 = 0o600;

/// Options that make a file private from its first moment, and never follow a symbolic link that another user put in its place.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_MODE).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

/// Writes `contents` to `path`, in place of what was there. Blocks; durable when it returns.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = name.to_os_string();
    temporary_name.push(".new");
    let temporary = directory.join(temporary_name);
    // Left behind by a crash. It is not written over, because its mode could be anything.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options().write(true).create_new(true).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_private_even_where_an_open_one_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("local-token");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        fs::write(directory.path().join("local-token.new"), "left by a crash").unwrap();

        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), PRIVATE_MODE);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let path = directory.path().join("token");
        symlink(&victim, &path).unwrap();
        symlink(&victim, directory.path().join("token.new")).unwrap();

        write(&path, b"secret").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(write(Path::new("/nonexistent/token"), b"x").is_err());
        assert!(write(Path::new("/"), b"x").is_err());
    }
}
