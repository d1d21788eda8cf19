//! A running server process: started by this gateway or adopted, watched, and stopped.
//!
//! The server's pid file is the source of truth, as it is for PostgreSQL's own `pg_ctl`. A process id alone proves
//! nothing, since numbers are used again; so an adopted process must also be the one that listens on this cluster's
//! socket.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::error::PostgresError;
use super::log::Log;
use super::pid_file::{PidFile, State};
use super::place::ClusterPlace;

/// How long a new server may take until it reports anything at all.
const REPORT_WITHIN: Duration = Duration::from_mins(1);
/// How long a server may be starting up; crash recovery replays up to the maximal WAL size and more.
const RECOVERY_MAX: Duration = Duration::from_mins(30);
/// How long a process that looks like the cluster's server may take to open its socket.
const SOCKET_WITHIN: Duration = Duration::from_secs(5);
/// How long a fast shutdown may take: it ends with a checkpoint.
const FAST_STOP_MAX: Duration = Duration::from_secs(30);
/// How long an immediate shutdown may take: PostgreSQL itself kills what is left after 5 seconds.
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(10);
/// How often a process that is not a child of this one is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the state of a starting server is looked at.
const STATE_INTERVAL: Duration = Duration::from_millis(10);
/// How often a slow start is mentioned, in looks at its state.
const LOOKS_PER_MESSAGE: u32 = 1000;

/// A server process of one cluster.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    data: PathBuf,
    /// None for an adopted one. Dropping it leaves the server running.
    child: Option<Child>,
    /// The start is not confirmed yet: if the wait for it fails or is cancelled, the server shall not stay behind; or its
    /// owner wants it so.
    stop_when_dropped: bool,
}

impl Postmaster {
    /// Starts a server in a process group of its own, so that Ctrl-C in the terminal does not reach it.
    pub(super) fn spawn(
        command: &mut Command,
        data: &Path,
        log: File,
    ) -> std::io::Result<Postmaster> {
        let child = command.stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        let number = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = Pid::from_raw(number.ok_or(ErrorKind::NotFound)?);
        Ok(Postmaster { pid, data: data.to_owned(), child: Some(child), stop_when_dropped: true })
    }

    /// The server that already runs on a cluster, if one does. A stale pid file is none; PostgreSQL removes most of
    /// them itself at the next start, and those that would keep it from starting are removed here.
    pub(super) async fn adopt(place: &ClusterPlace) -> Result<Option<Postmaster>, PostgresError> {
        let data = place.data();
        let Some(note) = PidFile::read(&data)? else {
            if listener(&place.socket()).await != Listener::None {
                return Err(PostgresError::ServedElsewhere { data });
            }
            // An empty file, as a power loss leaves it, would keep PostgreSQL from starting.
            PidFile::remove(&data, &place.socket())?;
            return Ok(None);
        };
        let mut found = Postmaster { pid: note.pid, data, child: None, stop_when_dropped: false };
        let listens = async {
            while found.lives() {
                if listener(&place.socket()).await == Listener::Process(found.pid) {
                    return true;
                }
                sleep(STATE_INTERVAL).await;
            }
            false
        };
        if let Ok(true) = timeout(SOCKET_WITHIN, listens).await {
            if note.state == State::Stopping {
                // A shutdown that waits for its clients could take forever; ours does not.
                found.stop().await?;
                return Ok(None);
            }
            return Ok(Some(found));
        }
        if !found.lives() && listener(&place.socket()).await != Listener::None {
            return Err(PostgresError::ServedElsewhere { data: place.data() });
        }
        let number_is_used = kill(found.pid, None) != Err(Errno::ESRCH);
        if number_is_used && runs_in(found.pid, &found.data) == Some(false) {
            // The number belongs to another process by now, even one of the same user (usual in containers).
            // PostgreSQL would take it for a server and refuse to start. Its lock on shared memory remains.
            tracing::info!(
                pid = found.pid.as_raw(),
                "removed the pid file of a PostgreSQL that is gone"
            );
            PidFile::remove(&found.data, &place.socket())?;
        }
        Ok(None)
    }

    pub(super) fn stop_when_dropped(&mut self) {
        self.stop_when_dropped = true;
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits until the server accepts connections.
    pub(super) async fn ready(&mut self, log: &Log, log_begin: u64) -> Result<(), PostgresError> {
        let not_ready = |within| PostgresError::NotReady { within, log: log.path().to_owned() };
        let ready = async {
            timeout(REPORT_WITHIN, self.reaches(|_| true, log, log_begin))
                .await
                .map_err(|_| not_ready(REPORT_WITHIN))??;
            self.reaches(|state| state == State::Ready, log, log_begin).await
        };
        let outcome = timeout(RECOVERY_MAX, ready).await;
        outcome.map_err(|_| not_ready(RECOVERY_MAX))??;
        self.stop_when_dropped = false;
        Ok(())
    }

    /// Waits for a state, as long as the process lives.
    async fn reaches(
        &mut self,
        wanted: impl Fn(State) -> bool,
        log: &Log,
        log_begin: u64,
    ) -> Result<(), PostgresError> {
        let mut looks: u32 = 0;
        loop {
            let note = PidFile::read(&self.data)?.filter(|note| note.pid == self.pid);
            if note.is_some_and(|note| note.state != State::Unknown && wanted(note.state)) {
                return Ok(());
            }
            if let Ok(how) = timeout(STATE_INTERVAL, self.ended()).await {
                let (tail, log) = (log.tail(log_begin), log.path().to_owned());
                return Err(PostgresError::Ended { how, log, tail });
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_MESSAGE) {
                tracing::info!(
                    "PostgreSQL is still starting up; after a crash it first repeats its log"
                );
            }
        }
    }

    /// Waits until the process has ended and says how. May be cancelled and called again.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("status unknown: {error}"),
            };
        }
        while self.lives() {
            sleep(LOOK_INTERVAL).await;
        }
        "status unknown: it was not started by this process".to_owned()
    }

    /// Fast shutdown (clients are thrown out, a checkpoint is made), and if that takes too long, an immediate one.
    pub(super) async fn stop(&mut self) -> Result<(), PostgresError> {
        for (signal, within) in
            [(Signal::SIGINT, FAST_STOP_MAX), (Signal::SIGQUIT, IMMEDIATE_STOP_MAX)]
        {
            self.signal(signal);
            if timeout(within, self.ended()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid(), %signal, ?within, "PostgreSQL does not stop");
        }
        Err(PostgresError::WillNotStop { pid: self.pid() })
    }

    fn signal(&mut self, signal: Signal) {
        // A process that has ended must not be signalled: its number may be another's.
        if self.lives()
            && let Err(error) = kill(self.pid, signal)
        {
            tracing::warn!(pid = self.pid(), %signal, %error, "cannot signal PostgreSQL");
        }
    }

    fn lives(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            // EPERM also means that there is such a process.
            None => {
                kill(self.pid, None) != Err(Errno::ESRCH)
                    && runs_in(self.pid, &self.data) != Some(false)
            }
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if self.stop_when_dropped {
            self.signal(Signal::SIGINT);
        }
    }
}

/// Whether a process works in a directory, as a postmaster does in its data directory; None where that cannot be known.
/// A thread of another process (the number may be one) and a zombie do not.
#[cfg(target_os = "linux")]
fn runs_in(pid: Pid, directory: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;

    let directory = directory.metadata().ok()?;
    match Path::new(&format!("/proc/{pid}/cwd")).metadata() {
        Ok(found) => Some((found.dev(), found.ino()) == (directory.dev(), directory.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn runs_in(_pid: Pid, _directory: &Path) -> Option<bool> {
    None
}

/// What listens on a socket.
#[derive(Debug, PartialEq, Eq)]
enum Listener {
    None,
    Process(Pid),
    /// One that the system does not name, because it belongs to another container.
    Unnamed,
}

async fn listener(socket: &Path) -> Listener {
    let Ok(connection) = UnixStream::connect(socket).await else {
        return Listener::None;
    };
    match connection.peer_cred().ok().and_then(|credentials| credentials.pid()) {
        Some(pid) if pid > 0 => Listener::Process(Pid::from_raw(pid)),
        _ => Listener::Unnamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_works_elsewhere_is_no_server_of_this_cluster() {
        let data = tempfile::tempdir().expect("a directory");
        assert_eq!(runs_in(Pid::this(), data.path()), Some(false));
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(runs_in(Pid::this(), &here), Some(true));
    }
}
