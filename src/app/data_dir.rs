//! The data directory: private, for one gateway at a time, and for one database for ever.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::private_file;

/// Held by the gateway that uses the directory.
const LOCK_FILE: &str = "lock";
/// Which database the directory belongs to.
const DATABASE_ID_FILE: &str = "database-id";

/// Makes the directory, for its owner alone; returns its absolute path.
pub(super) fn prepare(path: &Path) -> anyhow::Result<PathBuf> {
    let place = || format!("the data directory {}", path.display());
    if !path.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(place)?;
    }
    let path = path.canonicalize().with_context(place)?;
    let mode = fs::metadata(&path).with_context(place)?.permissions().mode();
    // Others' rights beyond passing through are taken away: the directory holds records and hashes of passwords.
    if mode & 0o066 != 0 {
        let private = fs::Permissions::from_mode(mode & 0o711);
        fs::set_permissions(&path, private).with_context(place)?;
    }
    Ok(path)
}

/// Takes the directory for this process; two gateways on one journal would destroy it. The lock goes with the file.
pub(super) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(LOCK_FILE);
    let file = File::options()
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
    fn an_open_directory_is_closed() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data_dir = prepare(parent.path()).unwrap();
        assert_eq!(fs::metadata(data_dir).unwrap().permissions().mode() & 0o777, 0o711);
    }
}
