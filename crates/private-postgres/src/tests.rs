//! The promises of the private PostgreSQL, against real servers. As root all of them run, as another user most.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::place::ClusterPlace;
use super::{Cluster, ClusterOptions, PostgresError};

/// A data directory whose server does not outlive a failed test.
struct TestCluster {
    options: ClusterOptions,
    _directory: TempDir,
}

impl TestCluster {
    /// A data directory for its owner alone, as the gateway makes it.
    fn new() -> TestCluster {
        let directory = tempfile::tempdir().expect("a directory");
        set_mode(directory.path(), 0o700);
        TestCluster::at(directory.path().to_owned(), directory)
    }

    /// A data directory at `inner` below a directory that all users may enter.
    fn below(inner: &str) -> TestCluster {
        let directory = tempfile::tempdir().expect("a directory");
        set_mode(directory.path(), 0o755);
        TestCluster::at(directory.path().join(inner), directory)
    }

    fn at(data_dir: PathBuf, directory: TempDir) -> TestCluster {
        TestCluster {
            options: ClusterOptions { data_dir, ..ClusterOptions::default() },
            _directory: directory,
        }
    }

    async fn start(&self) -> Cluster {
        Cluster::start(&self.options).await.expect("PostgreSQL starts")
    }

    fn place(&self) -> ClusterPlace {
        ClusterPlace::of_existing(&self.options.data_dir).expect("readable").expect("a cluster")
    }

    fn pid_file(&self) -> PathBuf {
        self.place().data().join("postmaster.pid")
    }

    /// Waits for a server other than the one named, and says which.
    async fn ready_after(&self, pid: i32) -> i32 {
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        loop {
            interval.tick().await;
            let text = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
            let found = text.lines().next().and_then(|line| line.parse().ok());
            match found {
                Some(found) if found != pid && text.contains("ready") => return found,
                _ => {}
            }
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let Ok(Some(place)) = ClusterPlace::of_existing(&self.options.data_dir) else {
            return;
        };
        let Ok(text) = std::fs::read_to_string(place.data().join("postmaster.pid")) else {
            return;
        };
        // Only a server of this test, never a number that a test has written into the file.
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.parse().ok());
        let ours = lines.next().is_some_and(|line| Path::new(line) == place.data());
        if let (Some(pid), true) = (pid, ours) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode set");
}

/// What `psql` answers, unaligned.
fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql")
        // The URL alone must lead to the server, whatever the caller's environment says.
        .env("PGPORT", "1")
        .env("PGSSLMODE", "require")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, url])
        .output()
        .expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Compiles only for what a task of a multi-threaded runtime may be.
fn movable_between_threads(_task: &impl Send) {}

/// Kills a server as a power loss would and waits until the process is gone.
async fn murder(cluster: &mut Cluster) {
    kill(Pid::from_raw(cluster.pid()), Signal::SIGKILL).expect("killed");
    cluster.postmaster.ended().await;
}

#[tokio::test]
async fn a_fresh_cluster_is_durable_private_and_keeps_its_data() {
    let mut test = TestCluster::new();
    assert_eq!(Cluster::locate(&test.options.data_dir), None);
    test.options.settings = [("fsync", "off"), ("listen_addresses", "*"), ("work_mem", "5MB")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let cluster = test.start().await;
    assert!(!cluster.adopted());
    let url = cluster.url();
    assert_eq!(Cluster::locate(&test.options.data_dir), Some(url.clone()));
    let settings = "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings where name in \
        ('fsync', 'full_page_writes', 'listen_addresses', 'work_mem', 'server_encoding', 'lc_collate')";
    assert_eq!(
        psql(&url, settings).replace("lc_collate=C ", ""),
        "fsync=on full_page_writes=on listen_addresses= server_encoding=UTF8 work_mem=5120"
    );
    assert_eq!(psql(&url, "select current_user || ' ' || current_database()"), "tidegate tidegate");
    let socket_directory = test.place().socket_directory();
    let mode = socket_directory.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    psql(&url, "create table kept as select 42 as answer");
    cluster.stop().await.expect("stopped");
    assert!(!test.pid_file().exists());

    let again = test.start().await;
    assert!(!again.adopted());
    assert_eq!(psql(&again.url(), "select answer from kept"), "42");
    again.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_dropped_server_runs_on_and_is_adopted() {
    let test = TestCluster::new();
    let first = test.start().await;
    let pid = first.pid();
    // Ctrl-C in a terminal goes to the whole process group of the gateway.
    let group = nix::unistd::getpgid(Some(Pid::from_raw(pid))).expect("a group");
    assert_ne!(group, nix::unistd::getpgrp());
    drop(first);
    let second = test.start().await;
    assert!(second.adopted());
    assert_eq!(second.pid(), pid);
    assert_eq!(psql(&second.url(), "select 1"), "1");
    second.stop().await.expect("stopped");
    assert!(!test.pid_file().exists());
}

/// It was shut out where a directory from before, open to all, was closed at the start: it panicked at its next
/// checkpoint.
#[tokio::test]
async fn a_server_that_runs_on_keeps_its_way_through_a_directory_that_is_closed() {
    let test = TestCluster::new();
    drop(test.start().await);
    for before in [0o755, 0o711, 0o700] {
        set_mode(&test.options.data_dir, before);
        let again = test.start().await;
        assert!(again.adopted(), "{before:o}");
        assert_eq!(psql(&again.url(), "checkpoint"), "");
        let expected = if geteuid().is_root() { 0o710 } else { 0o700 };
        assert_eq!(mode(&test.options.data_dir), expected, "{before:o}");
    }
}

#[tokio::test]
async fn a_stale_pid_file_is_not_adopted() {
    let test = TestCluster::new();
    let mut cluster = test.start().await;
    psql(&cluster.url(), "create table kept as select 42 as answer");
    murder(&mut cluster).await;
    let stale = std::fs::read_to_string(test.pid_file()).expect("left behind");
    let mut cluster = test.start().await;
    assert!(!cluster.adopted());
    assert_eq!(psql(&cluster.url(), "select answer from kept"), "42");

    // The number now belongs to a live process, as happens in containers: this one.
    murder(&mut cluster).await;
    let (_, rest) = stale.split_once('\n').expect("lines");
    std::fs::write(test.pid_file(), format!("{}\n{rest}", std::process::id())).expect("written");
    let mut cluster = test.start().await;
    assert!(!cluster.adopted());

    // A power loss may leave an empty file.
    murder(&mut cluster).await;
    std::fs::write(test.pid_file(), "").expect("written");
    let cluster = test.start().await;
    assert!(!cluster.adopted());
    cluster.stop().await.expect("stopped");
}

#[tokio::test]
async fn the_supervisor_starts_a_killed_server_again_and_again() {
    let test = TestCluster::new();
    drop(test.start().await);
    // The first to die is an adopted one, the second a child.
    let mut cluster = test.start().await;
    assert!(cluster.adopted());
    let url = cluster.url();
    psql(&url, "create table kept as select 42 as answer");
    let mut pid = cluster.pid();
    let shutdown = CancellationToken::new();
    let kills = async {
        for _ in 0..2 {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
            pid = test.ready_after(pid).await;
            assert_eq!(psql(&url, "select answer from kept"), "42");
        }
        shutdown.cancel();
    };
    let supervised = cluster.supervise(&shutdown);
    movable_between_threads(&supervised);
    tokio::join!(supervised, kills);
    drop(cluster);
    // Whether the last restart was seen through or called off by the shutdown, the next start copes.
    test.start().await.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_nothing_running() {
    let mut test = TestCluster::new();
    test.options.settings = vec![("shared_buffers".to_owned(), "much".to_owned())];
    let error = Cluster::start(&test.options).await.expect_err("no such amount");
    assert!(matches!(&error, PostgresError::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    assert!(!test.pid_file().exists());

    // The same cluster, asked of programs of another major version.
    let version = test.place().data().join("PG_VERSION");
    std::fs::write(&version, "14\n").expect("written");
    let error = Cluster::start(&test.options).await.expect_err("another major version");
    assert!(matches!(error, PostgresError::OtherMajor { needed: 14, .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_without_programs_is_named() {
    let mut test = TestCluster::new();
    let empty = test.options.data_dir.join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    test.options.binaries = Some(empty.clone());
    let error = Cluster::start(&test.options).await.expect_err("nothing there");
    assert!(
        matches!(&error, PostgresError::NotUsable { directory, .. } if *directory == empty),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_interrupted_start_leaves_no_half_cluster_and_no_server() {
    let test = TestCluster::new();
    let started = Cluster::start(&test.options);
    let base = test.options.data_dir.join("postgres");
    // Cancels in the middle of initdb, as a kill would.
    let in_the_middle = async {
        let mut interval = tokio::time::interval(Duration::from_millis(1));
        while !base.join("data.new-0/PG_VERSION").exists() {
            interval.tick().await;
        }
    };
    tokio::select! {
        biased;
        () = in_the_middle => {}
        outcome = started => panic!("initdb was too fast to be interrupted: {outcome:?}"),
    }
    assert_eq!(Cluster::locate(&test.options.data_dir), None);
    let cluster = test.start().await;
    assert_eq!(psql(&cluster.url(), "select current_database()"), "tidegate");
    cluster.stop().await.expect("stopped");

    // Cancels while the server comes up.
    let comes_up = async {
        let mut interval = tokio::time::interval(Duration::from_millis(1));
        while !test.pid_file().exists() {
            interval.tick().await;
        }
    };
    tokio::select! {
        biased;
        () = comes_up => {}
        outcome = Cluster::start(&test.options) => panic!("too fast to be interrupted: {outcome:?}"),
    }
    let mut interval = tokio::time::interval(Duration::from_millis(10));
    while test.pid_file().exists() {
        interval.tick().await;
    }
}

#[tokio::test]
async fn a_long_path_and_strange_letters_do_no_harm() {
    let test = TestCluster::below(&format!("{}/it's a, \"strange\" place +%ä", "long".repeat(30)));
    let cluster = test.start().await;
    let socket_directory = test.place().socket_directory();
    assert!(socket_directory.starts_with("/tmp"), "{}", socket_directory.display());
    assert_eq!(psql(&cluster.url(), "select 1"), "1");
    cluster.stop().await.expect("stopped");
    std::fs::remove_dir(&socket_directory).expect("removed");

    if geteuid().is_root() {
        // Another user was there first: neither a foreign directory nor a link is trusted.
        std::fs::create_dir(&socket_directory).expect("made");
        set_mode(&socket_directory, 0o700);
        std::os::unix::fs::chown(&socket_directory, Some(12345), None).expect("given away");
        let error = Cluster::start(&test.options).await.expect_err("foreign");
        assert!(matches!(error, PostgresError::SocketDirectory { .. }), "{error:?}");
        std::fs::remove_dir(&socket_directory).expect("removed");
    }
    std::os::unix::fs::symlink("/", &socket_directory).expect("linked");
    let error = Cluster::start(&test.options).await.expect_err("a link");
    assert!(matches!(error, PostgresError::SocketDirectory { .. }), "{error:?}");
    std::fs::remove_file(&socket_directory).expect("removed");
}

#[tokio::test]
async fn a_cluster_whose_user_is_shut_out_lives_elsewhere() {
    if !geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    // Like /root.
    set_mode(directory.path(), 0o700);
    let test = TestCluster::at(directory.path().join("data"), directory);
    let cluster = test.start().await;
    let url = cluster.url();
    psql(&url, "create table kept as select 42 as answer");
    let elsewhere = test.place();
    assert!(elsewhere.base().starts_with("/var/lib/tidegate"), "{elsewhere:?}");
    let location = test.options.data_dir.join("postgres-location");
    let noted = std::fs::read_to_string(&location).expect("written");
    assert_eq!(Path::new(noted.trim_end()), elsewhere.base());
    cluster.stop().await.expect("stopped");

    // The process died before it wrote the note.
    std::fs::remove_file(&location).expect("removed");
    let cluster = test.start().await;
    assert_eq!(psql(&cluster.url(), "select answer from kept"), "42");
    assert!(location.exists());
    cluster.stop().await.expect("stopped");

    // The cluster is gone, the note is not: an empty cluster would be the wrong answer.
    std::fs::remove_dir_all(elsewhere.base()).expect("removed");
    let _ = std::fs::remove_dir("/var/lib/tidegate");
    let error = Cluster::start(&test.options).await.expect_err("missing");
    assert!(matches!(error, PostgresError::ClusterMissing { .. }), "{error:?}");
}

#[tokio::test]
async fn sqlx_takes_the_url() {
    let test = TestCluster::new();
    let cluster = test.start().await;
    let mut connection =
        <sqlx::PgConnection as sqlx::Connection>::connect(&cluster.url()).await.expect("connected");
    let answer: i32 =
        sqlx::query_scalar("select 42").fetch_one(&mut connection).await.expect("answered");
    assert_eq!(answer, 42);
    // A fast shutdown does not wait for clients.
    cluster.stop().await.expect("stopped");
}
