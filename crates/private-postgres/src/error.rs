//! Why the private PostgreSQL is not there, said so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_private_file::directory::NotPrivate;

use super::binaries::MAJOR_MIN;

/// Every way in which the private PostgreSQL can fail its caller.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no PostgreSQL server programs (`postgres`, `initdb`) found on this machine\n\
         - install them (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install postgresql-server`; \
         macOS: `brew install postgresql@17`),\n\
         - or name the directory that holds them in `TIDEGATE_POSTGRES_BIN`,\n\
         - or use a database of your own: `--database-url` or DATABASE_URL"
    )]
    NotInstalled,

    #[error(
        "{directory} holds no usable PostgreSQL server programs: {reason}\n\
         - leave `--postgres-bin` out where PostgreSQL is installed (Debian, Ubuntu: `apt-get install postgresql`; \
         macOS: `brew install postgresql@17`), or name the directory of its `postgres` and `initdb`,\n\
         - or use a database of your own: `--database-url` or DATABASE_URL",
        directory = .directory.display()
    )]
    NotUsable { directory: PathBuf, reason: String },

    #[error(
        "found only PostgreSQL {found}, but {MAJOR_MIN} is the oldest that the gateway can run"
    )]
    TooOld { found: String },

    #[error(
        "the cluster in {data} is of PostgreSQL {needed}, but only the programs of PostgreSQL {found} are here; \
         install PostgreSQL {needed}, or upgrade the cluster with pg_upgrade",
        data = .data.display()
    )]
    OtherMajor { data: PathBuf, needed: u32, found: String },

    #[error("the cluster in {data} has a damaged PG_VERSION file: {text:?}", data = .data.display())]
    UnknownMajor { data: PathBuf, text: String },

    #[error("PostgreSQL shall run as the user {name:?}, who does not exist on this machine")]
    NoSuchUser { name: String },

    #[error("PostgreSQL refuses to run as root; name another user in TIDEGATE_POSTGRES_USER")]
    RefusesRoot,

    #[error(
        "the cluster in {data} belongs to the user {owner}; start the gateway as {owner} or as root",
        data = .data.display()
    )]
    OtherOwner { data: PathBuf, owner: String },

    #[error("the user {user} cannot reach {path}; allow it to enter every directory on the way", path = .path.display())]
    OutOfReach { path: PathBuf, user: String },

    #[error(
        "{location} says that the cluster lives in {cluster}, but there is none; \
         put it back, or remove {location} to begin with an empty one",
        location = .location.display(), cluster = .cluster.display()
    )]
    ClusterMissing { location: PathBuf, cluster: PathBuf },

    #[error("{path} cannot hold the socket: {reason}", path = .path.display())]
    SocketDirectory { path: PathBuf, reason: &'static str },

    #[error(
        "another PostgreSQL serves {data}, one that cannot be seen from here (in another container?); \
         two servers on one cluster would destroy it",
        data = .data.display()
    )]
    ServedElsewhere { data: PathBuf },

    #[error("cannot run {program} as {user}: {source}", program = .program.display())]
    Run { program: PathBuf, user: String, source: io::Error },

    #[error("{program} failed ({how}):\n{output}")]
    Failed { program: &'static str, how: String, output: String },

    #[error("PostgreSQL ended while it started ({how}); the end of {log}:\n{tail}", log = .log.display())]
    Ended { how: String, log: PathBuf, tail: String },

    #[error("PostgreSQL did not accept connections within {within:?}; see {log}", log = .log.display())]
    NotReady { within: Duration, log: PathBuf },

    #[error("PostgreSQL (process {pid}) still runs after a fast and an immediate shutdown")]
    WillNotStop { pid: i32 },

    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),

    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl PostgresError {
    /// For `map_err`: what was being done to which path when the system refused.
    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> PostgresError + 'a {
        move |source| PostgresError::Io { action, path: path.to_owned(), source }
    }
}
