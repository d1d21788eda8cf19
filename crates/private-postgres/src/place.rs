//! Where a cluster and its socket are, for a given data directory.
//!
//! Normally `<data dir>/postgres/data` and `<data dir>/postgres/socket`. Two exceptions:
//! - The gateway is root and the cluster's user cannot enter the data directory (it lies below `/root`, say): the
//!   cluster goes to `/var/lib/tidegate/<hash of the data directory>`, and `<data dir>/postgres-location` says so.
//! - The socket's path would be longer than the system allows, or would confuse a URL: the socket goes to
//!   `/tmp/tidegate-<hash>`, mode 0700, refused when it belongs to another user.
//!
//! Invariant: as root we create, rename and give away only inside directories that root owns, so that the cluster's
//! user cannot trick us with symbolic links. `postgres/` is therefore ours (0710), its two children are the user's.

use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use tidegate_private_file as private_file;

use super::error::PostgresError;
use super::run_as::RunAs;

/// The cluster's directory below the data directory.
pub(super) const CLUSTER_DIRECTORY: &str = "postgres";
/// The file below the data directory that names another place.
pub(super) const LOCATION_FILE: &str = "postgres-location";
/// Where a cluster goes whose user cannot enter the data directory.
const ELSEWHERE: &str = "/var/lib/tidegate";
/// Where a socket goes whose path would be too long.
const SHORT_SOCKETS: &str = "/tmp";
/// The longest socket path we ask for; systems allow 104 to 108 bytes.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Never a network port: it is the last part of the socket's name.
pub(super) const PORT: u16 = 5432;

/// A cluster's directory, whether or not the cluster exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterPlace {
    /// Absolute and free of symbolic links.
    base: PathBuf,
}

impl ClusterPlace {
    /// The place of the cluster of a data directory, if there is a cluster.
    pub(super) fn of_existing(data_dir: &Path) -> Result<Option<ClusterPlace>, PostgresError> {
        let data_dir = match data_dir.canonicalize() {
            Ok(canonical) => canonical,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PostgresError::io("find", data_dir)(error)),
        };
        let inside = ClusterPlace::inside(&data_dir);
        if inside.holds_cluster()? {
            return Ok(Some(inside));
        }
        let location = data_dir.join(LOCATION_FILE);
        match std::fs::read_to_string(&location) {
            Ok(text) => {
                let named = ClusterPlace { base: PathBuf::from(text.trim_end_matches('\n')) };
                if named.holds_cluster()? {
                    return Ok(Some(named));
                }
                Err(PostgresError::ClusterMissing { location, cluster: named.base })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The process may have died between making the cluster and writing the file.
                let elsewhere = ClusterPlace::elsewhere(&data_dir);
                Ok(elsewhere.holds_cluster()?.then_some(elsewhere))
            }
            Err(error) => Err(PostgresError::io("read", &location)(error)),
        }
    }

    /// Chooses the place of a new cluster and makes its directory. `data_dir` is canonical.
    pub(super) async fn for_new(
        data_dir: &Path,
        run_as: &RunAs,
    ) -> Result<ClusterPlace, PostgresError> {
        let inside = ClusterPlace::inside(data_dir);
        inside.let_in(run_as)?;
        let place = if run_as.can_enter(data_dir).await? {
            inside
        } else {
            let place = ClusterPlace::elsewhere(data_dir);
            tracing::info!(user = run_as.name(), directory = %place.base.display(),
                "the cluster's user cannot enter the data directory; the cluster lives elsewhere");
            make_directory(Path::new(ELSEWHERE), 0o755)?;
            place
        };
        make_directory(&place.base, 0o700)?;
        if run_as.switches() {
            open_to_group(&place.base, run_as)?;
        }
        Ok(place)
    }

    fn inside(data_dir: &Path) -> ClusterPlace {
        ClusterPlace { base: data_dir.join(CLUSTER_DIRECTORY) }
    }

    fn elsewhere(data_dir: &Path) -> ClusterPlace {
        ClusterPlace { base: Path::new(ELSEWHERE).join(short_hash(data_dir)) }
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// PostgreSQL's own data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    fn holds_cluster(&self) -> Result<bool, PostgresError> {
        // An error is not a "no": a cluster that we may not see must not be answered with an empty one.
        let version = self.data().join("PG_VERSION");
        version.try_exists().map_err(PostgresError::io("look for", &version))
    }

    /// The major version of the cluster.
    pub(super) fn major(&self) -> Result<u32, PostgresError> {
        let path = self.data().join("PG_VERSION");
        let text = std::fs::read_to_string(&path).map_err(PostgresError::io("read", &path))?;
        text.trim().parse().map_err(|_| PostgresError::UnknownMajor { data: self.data(), text })
    }

    /// The directory of the socket.
    pub(super) fn socket_directory(&self) -> PathBuf {
        let directory = self.base.join("socket");
        let socket = socket_in(&directory);
        // A comma separates directories in PostgreSQL's setting and hosts in a URL.
        let plain = socket.to_str().is_some_and(|text| !text.contains([',', '"']));
        if plain && socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            directory
        } else {
            Path::new(SHORT_SOCKETS).join(format!("tidegate-{}", short_hash(&self.base)))
        }
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.socket_directory())
    }

    /// The URL of a database of this cluster, for libpq and sqlx alike. It names all that either would otherwise take
    /// from the environment (`PGPORT`, `PGSSLMODE`).
    pub(super) fn url(&self, database: &str) -> String {
        let directory = self.socket_directory();
        format!(
            "postgresql://tidegate@localhost:{PORT}/{}?host={}&sslmode=disable",
            percent_encode(database.as_bytes()),
            percent_encode(directory.as_os_str().as_encoded_bytes()),
        )
    }

    /// Makes ready what a server needs around its data: a way in for its user, and a private socket directory.
    pub(super) async fn prepare(&self, run_as: &RunAs) -> Result<(), PostgresError> {
        self.let_in(run_as)?;
        if !run_as.can_enter(&self.base).await? {
            let user = run_as.name().to_owned();
            return Err(PostgresError::OutOfReach { path: self.base.clone(), user });
        }
        let directory = self.socket_directory();
        make_directory(&directory, 0o700)?;
        let refuse = |reason| PostgresError::SocketDirectory { path: directory.clone(), reason };
        let found =
            directory.symlink_metadata().map_err(PostgresError::io("look at", &directory))?;
        if !found.is_dir() {
            return Err(refuse("it is not a directory"));
        }
        if found.mode() & 0o777 != 0o700 {
            return Err(refuse("its mode is not 0700"));
        }
        if found.uid() == geteuid().as_raw() {
            return run_as.give(&directory);
        }
        if found.uid() != run_as.uid() {
            return Err(refuse("it belongs to another user"));
        }
        Ok(())
    }

    /// Leaves a note in the data directory if the cluster is not inside it.
    pub(super) fn remember(&self, data_dir: &Path) -> Result<(), PostgresError> {
        if self.base.starts_with(data_dir) {
            return Ok(());
        }
        let location = data_dir.join(LOCATION_FILE);
        if location.is_file() {
            return Ok(());
        }
        let text = [self.base.as_os_str().as_encoded_bytes(), b"\n"].concat();
        private_file::write(&location, &text).map_err(PostgresError::io("write", &location))
    }

    /// Lets only the cluster's user pass through the data directory (not list it): its group becomes the user's.
    pub(super) fn let_in(&self, run_as: &RunAs) -> Result<(), PostgresError> {
        let Some(data_dir) = self.base.parent() else {
            return Ok(());
        };
        if !run_as.switches() || data_dir == Path::new(ELSEWHERE) {
            return Ok(());
        }
        let found = data_dir.metadata().map_err(PostgresError::io("look at", data_dir))?;
        let is_done = found.mode() & 0o777 == 0o710 && found.gid() == run_as.gid();
        let is_ours = found.uid() == geteuid().as_raw();
        if is_ours && !is_done { open_to_group(data_dir, run_as) } else { Ok(()) }
    }
}

/// Whether a server that runs as another user may pass through this data directory at this moment. [`ClusterPlace::let_in`] leaves
/// it the way that it needs.
pub fn is_passed_through(data_dir: &Path) -> bool {
    geteuid().is_root() && data_dir.join(CLUSTER_DIRECTORY).is_dir()
}

/// Lets the user's group pass through a directory of ours.
fn open_to_group(directory: &Path, run_as: &RunAs) -> Result<(), PostgresError> {
    chown(directory, None, Some(run_as.gid()))
        .and_then(|()| std::fs::set_permissions(directory, Permissions::from_mode(0o710)))
        .map_err(PostgresError::io("open to the cluster's user", directory))
}

/// Makes a directory unless it is there.
pub(super) fn make_directory(directory: &Path, mode: u32) -> Result<(), PostgresError> {
    match DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(PostgresError::io("make", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Makes what was created or renamed in a directory outlive a power loss.
pub(super) fn sync_directory(directory: &Path) -> Result<(), PostgresError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(PostgresError::io("sync", directory))
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join(format!(".s.PGSQL.{PORT}"))
}

/// 16 hexadecimal digits that stand for a path.
fn short_hash(path: &Path) -> String {
    let mut digits = format!("{:x}", Sha256::digest(path.as_os_str().as_encoded_bytes()));
    digits.truncate(16);
    digits
}

fn percent_encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_survives_every_character_of_a_path() {
        let place = ClusterPlace { base: PathBuf::from("/a b/ä+%&?#") };
        assert_eq!(
            place.url("tide gate"),
            "postgresql://tidegate@localhost:5432/tide%20gate?host=%2Fa%20b%2F%C3%A4%2B%25%26%3F%23%2Fsocket&sslmode=disable"
        );
    }

    #[test]
    fn a_long_or_confusing_path_puts_the_socket_elsewhere() {
        let fits = "x".repeat(SOCKET_PATH_BYTES_MAX - "//socket/.s.PGSQL.5432".len());
        let place = |base: String| ClusterPlace { base: PathBuf::from(base) };
        assert_eq!(place(format!("/{fits}")).socket().as_os_str().len(), SOCKET_PATH_BYTES_MAX);
        for base in [format!("/{fits}x"), "/a,b".to_owned(), "/a\"b".to_owned()] {
            let socket = place(base).socket();
            assert!(socket.starts_with("/tmp"), "{}", socket.display());
        }
    }

    #[test]
    fn a_location_that_leads_nowhere_is_an_error_and_not_an_empty_cluster() {
        let data_dir = tempfile::tempdir().expect("a directory");
        std::fs::write(data_dir.path().join(LOCATION_FILE), "/nowhere/at/all\n").expect("written");
        let found = ClusterPlace::of_existing(data_dir.path());
        assert!(matches!(found, Err(PostgresError::ClusterMissing { .. })), "{found:?}");
    }

    #[test]
    fn no_data_directory_holds_no_cluster() {
        assert!(matches!(ClusterPlace::of_existing(Path::new("/nowhere/at/all")), Ok(None)));
    }
}
