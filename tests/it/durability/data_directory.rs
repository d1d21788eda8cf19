//! The data directory: private in every part from the first moment, and used only where no other user could have
//! prepared it.
//!
//! Before: the directory was 0710 where root had a private PostgreSQL (that is so, and docs/operation.md says why), `journal/` was
//! 0755 and `lock` 0644; a symbolic link to `journal` or `postgres.log` was followed as root, and another user's
//! directory, or one that everybody could write, was taken.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::command::{Serve, program, run, tidegate, working_directory};
use crate::support::people::Outsider;
use crate::support::{Reply, TestDatabase, soon};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Everything in the directory that is the gateway's own. What is in `postgres/` belongs to PostgreSQL's user.
fn own_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("postgres") {
            found.extend(own_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn all_is_private(data_dir: &Path) {
    let passable = [data_dir.to_owned(), data_dir.join("postgres")];
    for path in own_files(data_dir) {
        let allowed: &[u32] = match path.is_dir() {
            true if passable.contains(&path) && geteuid().is_root() => &[0o710],
            true => &[0o700],
            false => &[0o600],
        };
        assert!(allowed.contains(&mode(&path)), "{} is {:o}", path.display(), mode(&path));
    }
    for inner in ["postgres/data", "postgres/socket"] {
        assert_eq!(mode(&data_dir.join(inner)), 0o700, "{inner}");
    }
}

#[tokio::test]
async fn every_file_and_folder_is_private_whatever_the_umask() {
    let directory = working_directory();
    let data_dir = directory.path().join("tidegate-data");
    let mut shell = program("sh", directory.path());
    let serve = "umask 0; exec tidegate serve --listen 127.0.0.1:0";
    let mut child = shell.args(["-c", serve]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = soon("the gateway says its address", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(url) = line.trim().strip_prefix("Look:") {
                return url.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
            }
        }
        panic!("the gateway did not start");
    })
    .await;
    let token = fs::read_to_string(data_dir.join("local-token")).unwrap();
    let request =
        Outsider::at(&address).request(Method::POST, "/v1/streams/hello/records?ack=commit");
    Reply::to(request.bearer_auth(token.trim_end()).json(&json!({"n": 1}))).await.expect(201);
    all_is_private(&data_dir);
    let names: Vec<PathBuf> = own_files(&data_dir);
    for name in [
        "lock",
        "journal",
        "local-token",
        "admin-password",
        "secret-key",
        "streams.json",
        "postgres.log",
    ] {
        assert!(names.contains(&data_dir.join(name)), "{name} is looked at: {names:?}");
    }
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(soon("it ends", child.wait()).await.unwrap().code(), Some(0));
    all_is_private(&data_dir);
}

#[tokio::test]
async fn a_directory_from_before_is_closed() {
    let database = TestDatabase::create().await;
    let (directory, environment) = (working_directory(), [("DATABASE_URL", database.url())]);
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    assert_eq!(gateway.terminate().await, 0);
    let data_dir = gateway.data_dir();
    set_mode(&data_dir, 0o711);
    set_mode(&data_dir.join("journal"), 0o755);
    set_mode(&data_dir.join("lock"), 0o644);
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    for (name, expected) in [("", 0o700), ("journal", 0o700), ("lock", 0o600)] {
        assert_eq!(mode(&data_dir.join(name)), expected, "{name}");
    }
    assert_eq!(gateway.terminate().await, 0);
}

/// What `serve` says of a data directory that it does not use.
async fn refused(directory: &Path, data_dir: &Path) -> String {
    let mut command = tidegate(directory, &["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    run(command.arg(data_dir)).await.complained(1)
}

#[tokio::test]
async fn a_directory_that_another_user_could_have_prepared_is_refused() {
    let directory = working_directory();
    let data_dir = directory.path().join("theirs");
    fs::create_dir(&data_dir).unwrap();
    for open in [0o777, 0o720] {
        set_mode(&data_dir, open);
        let complaint = refused(directory.path(), &data_dir).await;
        assert!(
            complaint.contains("written by others") && complaint.contains("chmod 700"),
            "{complaint}"
        );
    }
    set_mode(&data_dir, 0o700);
    if geteuid().is_root() {
        lchown(&data_dir, Some(NOBODY), None).unwrap();
        let complaint = refused(directory.path(), &data_dir).await;
        assert!(complaint.contains("belongs to") && complaint.contains("chown -R"), "{complaint}");
        let mut user = tidegate(directory.path(), &["user", "list", "--data-dir"]);
        run(user.arg(&data_dir)).await.complained(1);
    }
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 0, "nothing was written");
}

#[tokio::test]
async fn a_link_in_the_directory_is_refused_and_not_followed() {
    let directory = working_directory();
    let victim = directory.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    set_mode(&victim.join("file"), 0o644);
    for (name, to) in [
        ("lock", "file"),
        ("journal", ""),
        ("postgres", ""),
        ("postgres.log", "file"),
        ("postgres.log.1", "file"),
        ("postgres-location", "file"),
    ] {
        let data_dir = directory.path().join(format!("of-{name}"));
        fs::create_dir(&data_dir).unwrap();
        set_mode(&data_dir, 0o700);
        symlink(victim.join(to), data_dir.join(name)).unwrap();
        let complaint = refused(directory.path(), &data_dir).await;
        assert!(
            complaint.contains("symbolic link") && complaint.contains(name),
            "{name}: {complaint}"
        );
        assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "untouched", "{name}");
        assert_eq!(mode(&victim.join("file")), 0o644, "{name}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1, "{name}");
    }
}
