//! Making a new cluster: whole or not at all.
//!
//! `initdb` and the creation of the database `tidegate` work in a directory beside the final one; one rename makes it
//! the cluster. What a killed attempt left behind is removed by the next.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::binaries::Binaries;
use super::error::PostgresError;
use super::place::{ClusterPlace, sync_directory};
use super::run_as::RunAs;

/// Begins the names of directories in which a cluster is being made.
const UNFINISHED: &str = "data.new-";
/// How long `initdb` or the creation of the database may take; about a second on a good disk.
const STEP_MAX: Duration = Duration::from_mins(5);
/// Names that are tried where leftovers cannot be removed.
const LEFTOVERS_MAX: u32 = 1000;
/// The first major version with a locale provider of its own.
const MAJOR_WITH_BUILTIN_LOCALES: u32 = 17;

/// Makes the cluster of a place that has none.
pub(super) async fn create(
    place: &ClusterPlace,
    binaries: &Binaries,
    run_as: &RunAs,
) -> Result<(), PostgresError> {
    remove_leftovers(place.base());
    let unfinished = make_unfinished(place.base())?;
    run_as.give(&unfinished)?;
    initdb(&unfinished, binaries, run_as).await?;
    create_database(&unfinished, binaries, run_as).await?;
    let data = place.data();
    std::fs::rename(&unfinished, &data)
        .map_err(PostgresError::io("rename a new cluster to", &data))?;
    sync_directory(place.base())
}

fn remove_leftovers(base: &Path) {
    let Ok(entries) = base.read_dir() else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        // An initdb that outlived its gateway may still be writing there. That is harmless: the new one has another name.
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed an unfinished cluster"),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished cluster");
            }
        }
    }
}

/// A directory with a name that is free.
fn make_unfinished(base: &Path) -> Result<PathBuf, PostgresError> {
    for number in 0..LEFTOVERS_MAX {
        let path = base.join(format!("{UNFINISHED}{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(PostgresError::io("make", &path)(error)),
        }
    }
    Err(PostgresError::io("make a new cluster in", base)(ErrorKind::AlreadyExists.into()))
}

/// Text sorts by code point, which never changes and is fast, and knows upper and lower case of all letters where the
/// system can.
async fn initdb(data: &Path, binaries: &Binaries, run_as: &RunAs) -> Result<(), PostgresError> {
    let program = binaries.program("initdb");
    let mut command = run_as.command(&program);
    command.arg("-D").arg(data);
    command.args(["-U", "tidegate", "-E", "UTF8", "--locale=C"]);
    command.args(["--auth-local=trust", "--auth-host=reject"]);
    if binaries.major() >= MAJOR_WITH_BUILTIN_LOCALES {
        command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    } else if knows_c_utf8(run_as).await {
        command.arg("--lc-ctype=C.UTF-8");
    }
    let output = finish(command, &program, run_as, "").await?;
    succeeded("initdb", &output)
}

/// In PostgreSQL's single-user mode: it needs neither a running server nor the client programs.
async fn create_database(
    data: &Path,
    binaries: &Binaries,
    run_as: &RunAs,
) -> Result<(), PostgresError> {
    let program = binaries.program("postgres");
    let mut command = run_as.command(&program);
    command.arg("--single").arg("-D").arg(data);
    command.args(["-c", "exit_on_error=on", "-c", "log_checkpoints=off", "postgres"]);
    let output = finish(command, &program, run_as, "create database tidegate;\n").await?;
    succeeded("postgres --single", &output)
}

/// Whether the system has the locale C.UTF-8.
async fn knows_c_utf8(run_as: &RunAs) -> bool {
    let Ok(output) = run_as.command("locale").arg("-a").output().await else {
        return false;
    };
    let names = String::from_utf8_lossy(&output.stdout);
    names
        .lines()
        .any(|name| name.eq_ignore_ascii_case("C.UTF-8") || name.eq_ignore_ascii_case("C.utf8"))
}

/// Runs a program with some input to its end. A program whose caller gave up is killed.
async fn finish(
    mut command: Command,
    program: &Path,
    run_as: &RunAs,
    input: &str,
) -> Result<Output, PostgresError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()).await {
                // It ended without reading; its status and its output say why.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                written => written?,
            }
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(STEP_MAX, run).await {
        Ok(output) => output.map_err(run_as.cannot_run(program)),
        Err(_) => Err(run_as.cannot_run(program)(ErrorKind::TimedOut.into())),
    }
}

fn succeeded(program: &'static str, output: &Output) -> Result<(), PostgresError> {
    if output.status.success() {
        return Ok(());
    }
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    Err(PostgresError::Failed {
        program,
        how: output.status.to_string(),
        output: String::from_utf8_lossy(&told).trim_end().to_owned(),
    })
}
