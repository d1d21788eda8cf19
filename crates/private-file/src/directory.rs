//! A directory that only the gateway's user may use, and in which no other user can have prepared anything.
//!
//! The gateway may run as root and writes where names in its directory lead. So the directory and what is written in it must
//! be its user's own, writable by no other user, and no symbolic links: then no other user could have put a link there, either.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

use super::PRIVATE_MODE;

/// The owner does everything, other users do nothing.
const DIRECTORY_MODE: u32 = 0o700;
/// Of directories on the way that are missing, too: the private PostgreSQL's user must pass through them.
const PARENT_MODE: u32 = 0o755;
/// As a directory of ours, but for a group that may pass through: that of the private PostgreSQL's user, where root runs the gateway.
const PASSABLE_MODE: u32 = 0o710;
/// The right to pass through, of the group and of all others.
const PASSING: u32 = 0o011;
/// What others may not have of a directory at the first look.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a directory, or something in it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    #[error(
        "{path} belongs to the user {owner}, and the gateway runs as {us}: {owner} could change it at any time. Run \
         the gateway as {owner}, or give it what is there: chown -R {us} {path}",
        path = .path.display()
    )]
    OtherOwner { path: PathBuf, owner: String, us: String },
    #[error(
        "{path} can be written by others (mode {mode:04o}), who may have put something there. Look into it, then close it: \
         chmod 700 {path}",
        path = .path.display()
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error(
        "{path} is a symbolic link, and the gateway writes there: the user who made the link would choose what is written over. \
         Move what it leads to here, or mount it here (mount --bind), or have the whole data directory there",
        path = .path.display()
    )]
    Link { path: PathBuf },
    #[error("{path} is no directory", path = .path.display())]
    NoDirectory { path: PathBuf },
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Makes the directory if it is missing, and takes others' rights away where they were left; all but that to pass through if
/// another user `passes_through`, who may be on the way at this moment. Returns its path without symbolic links: the way to
/// the directory is for the user who starts the gateway to choose.
pub fn open(path: &Path, passes_through: bool) -> Result<PathBuf, NotPrivate> {
    let failed = |source| NotPrivate::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(PARENT_MODE).create(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let path = path.canonicalize().map_err(failed)?;
    let found = fs::symlink_metadata(&path).map_err(failed)?;
    if !found.is_dir() {
        return Err(NotPrivate::NoDirectory { path });
    }
    check_owner(&path, &found)?;
    let mode = found.mode() & 0o777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(NotPrivate::Writable { path, mode });
    }
    if mode != PASSABLE_MODE {
        close(&path, mode, if passes_through { DIRECTORY_MODE | PASSING } else { DIRECTORY_MODE })?;
    }
    Ok(path)
}

/// Looks at these names in a directory of ours, and at all that is in those that are directories, down to `depth` levels. What
/// is not there is as it should be. Files and directories from before that others could read are closed, but for a directory
/// whose inside is not looked at: another program sees to that.
pub fn check_entries(directory: &Path, names: &[&str], depth: usize) -> Result<(), NotPrivate> {
    for name in names {
        check_entry(&directory.join(name), depth)?;
    }
    Ok(())
}

fn check_entry(path: &Path, depth: usize) -> Result<(), NotPrivate> {
    let failed = |source| NotPrivate::Io { path: path.to_owned(), source };
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?,
    };
    if found.is_symlink() {
        return Err(NotPrivate::Link { path: path.to_owned() });
    }
    // Root can do everything anyway; a file system that is mounted here brings a directory of root's, lost+found.
    if found.uid() == 0 && !geteuid().is_root() {
        return Ok(());
    }
    check_owner(path, &found)?;
    let mode = found.mode() & 0o777;
    if !found.is_dir() {
        return close(path, mode, PRIVATE_MODE);
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(NotPrivate::Writable { path: path.to_owned(), mode });
    }
    if depth == 0 {
        return Ok(());
    }
    close(path, mode, DIRECTORY_MODE)?;
    for entry in fs::read_dir(path).map_err(failed)? {
        check_entry(&entry.map_err(failed)?.path(), depth - 1)?;
    }
    Ok(())
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), NotPrivate> {
    let us = geteuid();
    if found.uid() == us.as_raw() {
        return Ok(());
    }
    let (owner, us) = (name_of(Uid::from_raw(found.uid())), name_of(us));
    Err(NotPrivate::OtherOwner { path: path.to_owned(), owner, us })
}

/// A user's name; the number of one who has none.
fn name_of(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

/// Takes away what goes beyond `allowed`.
fn close(path: &Path, mode: u32, allowed: u32) -> Result<(), NotPrivate> {
    if mode & !allowed == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & allowed))
        .map_err(|source| NotPrivate::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    /// A user who owns nothing.
    const OTHER_USER: u32 = 65_534;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_directory_is_private_and_a_readable_one_is_closed() {
        let parent = tempfile::tempdir().unwrap();
        let path = open(&parent.path().join("a/b"), false).unwrap();
        assert_eq!(mode(&path), 0o700);
        for (before, after) in [(0o755, 0o700), (0o711, 0o700), (0o750, 0o700), (0o710, 0o710)] {
            set_mode(&path, before);
            open(&path, false).unwrap();
            assert_eq!(mode(&path), after, "{before:o}");
        }
        set_mode(&path, 0o755);
        open(&path, true).unwrap();
        assert_eq!(mode(&path), 0o711, "a user on the way through is not shut out");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_with_what_helps() {
        let parent = tempfile::tempdir().unwrap();
        for open_mode in [0o777, 0o770, 0o702] {
            set_mode(parent.path(), open_mode);
            let error = open(parent.path(), true).unwrap_err().to_string();
            assert!(error.contains("chmod 700"), "{error}");
            assert_eq!(mode(parent.path()), open_mode, "nothing is changed");
        }
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(open(&file, false), Err(NotPrivate::NoDirectory { .. })));
    }

    #[test]
    fn another_user_s_directory_is_refused_with_what_helps() {
        let parent = tempfile::tempdir().unwrap();
        let foreign = if geteuid().is_root() {
            lchown(parent.path(), Some(OTHER_USER), None).unwrap();
            parent.path()
        } else {
            Path::new("/usr")
        };
        let error = open(foreign, false).unwrap_err();
        assert!(matches!(error, NotPrivate::OtherOwner { .. }), "{error}");
        assert!(error.to_string().contains("chown -R"), "{error}");
    }

    #[test]
    fn links_are_refused_at_every_level_and_open_files_are_closed() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inner = directory.path().join("journal/damaged");
        fs::create_dir_all(&inner).unwrap();
        for name in ["lock", "journal/0.seg", "journal/damaged/0.seg"] {
            fs::write(directory.path().join(name), "x").unwrap();
            set_mode(&directory.path().join(name), 0o644);
        }
        set_mode(&directory.path().join("journal"), 0o755);
        let check = || check_entries(directory.path(), &["lock", "journal", "not-there"], 2);
        check().unwrap();
        assert_eq!(mode(&directory.path().join("journal")), 0o700);
        for name in ["lock", "journal/0.seg", "journal/damaged/0.seg"] {
            assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
        }
        for name in ["lock", "journal/1.seg", "journal/damaged/1.seg"] {
            let link = directory.path().join(name);
            let _ = fs::remove_file(&link);
            symlink(elsewhere.path().join("victim"), &link).unwrap();
            let error = check().unwrap_err();
            assert!(matches!(&error, NotPrivate::Link { path } if *path == link), "{error}");
            fs::remove_file(&link).unwrap();
        }
        if geteuid().is_root() {
            lchown(directory.path().join("journal/0.seg"), Some(OTHER_USER), None).unwrap();
            assert!(matches!(check(), Err(NotPrivate::OtherOwner { .. })));
        }
    }
}
