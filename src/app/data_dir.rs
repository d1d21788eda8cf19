//! The data directory: private, for one gateway at a time, and for one database for ever.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_private_file::{self as private_file, directory};
use tidegate_private_postgres as postgres;
use uuid::Uuid;

use crate::config::JOURNAL_DIR;

/// Held by the gateway that uses the directory.
const LOCK_FILE: &str = "lock";
/// Which database the directory belongs to.
const DATABASE_ID_FILE: &str = "database-id";

/// What the gateway opens by name in the directory; what [`private_file::write`] writes replaces whatever was there.
const WRITTEN: [&str; 2] = [LOCK_FILE, JOURNAL_DIR];
/// How deep the journal's directories lie in each other: it, and what was damaged.
const JOURNAL_DEPTH: usize = 2;

/// Makes the directory, for its owner alone; returns its absolute path. Refuses one that another user could have prepared.
pub(super) fn prepare(path: &Path) -> anyhow::Result<PathBuf> {
    let path = directory::open(path, postgres::is_passed_through(path))
        .context("the data directory cannot be used")?;
    directory::check_entries(&path, &WRITTEN, JOURNAL_DEPTH)
        .context("the data directory cannot be used")?;
    Ok(path)
}

/// Takes the directory for this process; two gateways on one journal would destroy it. The lock goes with the file.
pub(super) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(LOCK_FILE);
    let file = private_file::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another gateway uses {}; stop it, or give this one its own --data-dir",
            data_dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The journal names streams by number, so the directory belongs to the first database that it met.
pub(super) fn check_database(data_dir: &Path, installation: Uuid) -> anyhow::Result<()> {
    let path = data_dir.join(DATABASE_ID_FILE);
    match fs::read_to_string(&path) {
        Ok(known) if known.trim() == installation.to_string() => Ok(()),
        Ok(_) => bail!(
            "{} belongs to another database than the one given; give the old URL, or a --data-dir of its own for this one",
            data_dir.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            private_file::write(&path, format!("{installation}\n").as_bytes())
                .with_context(|| path.display().to_string())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_is_for_one_gateway_and_one_database() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let data_dir = prepare(&path).unwrap();
        assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);

        let held = lock(&data_dir).unwrap();
        assert!(lock(&data_dir).unwrap_err().to_string().contains("another gateway"));
        drop(held);
        drop(lock(&data_dir).unwrap());

        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        check_database(&data_dir, first).unwrap();
        check_database(&data_dir, first).unwrap();
        assert!(
            check_database(&data_dir, second)
                .unwrap_err()
                .to_string()
                .contains("belongs to another")
        );
    }

    #[test]
    fn a_link_to_the_journal_is_refused_before_anything_is_written() {
        let (parent, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), parent.path().join(JOURNAL_DIR)).unwrap();
        let error = format!("{:#}", prepare(parent.path()).unwrap_err());
        assert!(error.contains("symbolic link") && error.contains("journal"), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        symlink(&victim, parent.path().join(LOCK_FILE)).unwrap();
        assert!(lock(parent.path()).is_err());
        assert!(!victim.exists());
    }
}
