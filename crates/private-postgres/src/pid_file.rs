//! `postmaster.pid`, in which a server names its process (line 1) and says how far it is (line 8).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::error::PostgresError;

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unknown,
    Starting,
    Ready,
    Stopping,
}

/// The readable part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) state: State,
}

impl PidFile {
    const NAME: &str = "postmaster.pid";

    /// None if there is no file, or none that makes sense.
    pub(super) fn read(data: &Path) -> Result<Option<PidFile>, PostgresError> {
        let path = data.join(PidFile::NAME);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(PidFile::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PostgresError::io("read", &path)(error)),
        }
    }

    /// Removes the file, and the socket's lock, which names the same process: PostgreSQL believes either.
    pub(super) fn remove(data: &Path, socket: &Path) -> Result<(), PostgresError> {
        let mut lock = socket.as_os_str().to_owned();
        lock.push(".lock");
        remove_file(&PathBuf::from(lock))?;
        remove_file(&data.join(PidFile::NAME))
    }

    fn parse(text: &str) -> Option<PidFile> {
        let mut lines = text.lines();
        let pid: i32 = lines.next()?.trim().parse().ok()?;
        let state = match lines.nth(6).map(str::trim) {
            Some("ready") => State::Ready,
            Some("starting" | "standby") => State::Starting,
            Some("stopping") => State::Stopping,
            _ => State::Unknown,
        };
        // Zero and negative numbers would mean process groups to `kill`.
        (pid > 0).then_some(PidFile { pid: Pid::from_raw(pid), state })
    }
}

fn remove_file(path: &Path) -> Result<(), PostgresError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PostgresError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_at_every_stage_of_a_start() {
        let read = |text: &str| PidFile::parse(text).map(|note| (note.pid.as_raw(), note.state));
        assert_eq!(read(""), None);
        assert_eq!(read("garbage\n"), None);
        assert_eq!(read("-1\n/data\n"), None);
        assert_eq!(read("0\n"), None);
        assert_eq!(read("7\n/data\n1700000000\n5432\n"), Some((7, State::Unknown)));
        let full = "7\n/data\n1700000000\n5432\n/socket\n\n  12345  6\nready   \n";
        assert_eq!(read(full), Some((7, State::Ready)));
        assert_eq!(read(&full.replace("ready", "starting")), Some((7, State::Starting)));
        assert_eq!(read(&full.replace("ready", "stopping")), Some((7, State::Stopping)));
    }
}
