//! The binary as a person runs it: any command, and `serve` in a directory, with its private PostgreSQL unless told
//! otherwise.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::soon;

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What was printed by a command that must succeed.
    #[track_caller]
    pub fn printed(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What was said by a command that must fail with this code, and print no result.
    #[track_caller]
    pub fn complained(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "a failure belongs on standard error");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// A directory that every user of the machine may enter, as a directory to work in usually is.
pub fn working_directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    directory
}

/// A program of another package of this workspace. Building all tests builds it, beside the gateway.
pub fn workspace_binary(name: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate")).with_file_name(name);
    assert!(binary.exists(), "{name} is not built: build the tests of the whole workspace");
    binary
}

/// A program that knows nothing of its caller's environment, and finds `tidegate` through `PATH`.
pub fn program(name: impl AsRef<OsStr>, directory: &Path) -> Command {
    let binaries = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().expect("a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(binaries.to_owned()).chain(std::env::split_paths(&path));
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", std::env::join_paths(path).expect("a path"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `tidegate` with these arguments.
pub fn tidegate(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_tidegate"), directory);
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Output {
    finish(command, None).await
}

/// Runs a command to its end with this on its standard input.
pub async fn run_with_input(command: &mut Command, input: &str) -> Output {
    finish(command, Some(input)).await
}

async fn finish(command: &mut Command, input: Option<&str>) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the command can be started");
    if let Some(input) = input {
        let mut stdin = child.stdin.take().expect("it is piped");
        // Who does not read its input is judged by its exit code.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = soon("the command ends", child.wait_with_output()).await.expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("commands print text");
    let code = output.status.code().unwrap_or_else(|| panic!("{}", output.status));
    Output { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// `tidegate serve`, started in a directory.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    /// Kept open, so that the gateway can print without an error.
    _stdout: Lines<BufReader<ChildStdout>>,
    printed: String,
    address: String,
    directory: PathBuf,
}

impl Serve {
    /// Listens on a free port, with its data in `tidegate-data` below the directory, unless `arguments` say otherwise.
    pub async fn start(
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Serve {
        let mut command = tidegate(directory, &["serve"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let log = directory.join("serve.log");
        let log_file = File::options().create(true).append(true).open(&log).expect("a log");
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log_file);
        let mut child = command.spawn().expect("the gateway can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let printed = soon("the gateway is ready", welcome(&mut lines)).await;
        let address = printed.lines().find_map(|line| {
            let url = line.trim().strip_prefix("Look:")?.trim();
            Some(url.strip_prefix("http://")?.trim_end_matches('/').to_owned())
        });
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        let address =
            address.unwrap_or_else(|| panic!("the gateway did not start:\n{printed}\n{}", log()));
        Serve { child, _stdout: lines, printed, address, directory: directory.to_owned() }
    }

    /// What it printed when it was ready.
    pub fn printed(&self) -> &str {
        &self.printed
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("tidegate-data")
    }

    /// What all gateways of this directory logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("serve.log")).unwrap_or_default()
    }

    /// The local token of this start.
    pub fn token(&self) -> String {
        let token =
            std::fs::read_to_string(self.data_dir().join("local-token")).expect("the local token");
        token.trim_end().to_owned()
    }

    /// The process of its private PostgreSQL, while that runs.
    pub fn postgres(&self) -> Option<Pid> {
        postmaster(&self.directory)
    }

    /// Asks it to end, and waits for its exit code.
    pub async fn terminate(&mut self) -> i32 {
        let id = self.child.id().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(id).expect("numbers of processes are small"));
        kill(pid, Signal::SIGTERM).expect("it can be asked");
        let status = soon("the gateway ends", self.child.wait()).await.expect("its status");
        status.code().unwrap_or_else(|| panic!("{status}\n{}", self.log()))
    }

    /// Ends it as a power switch would, but its PostgreSQL not.
    pub async fn kill9(&mut self) {
        soon("the gateway dies", self.child.kill()).await.expect("it can be killed");
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
        let _ = self.child.start_kill();
        if let Some(postgres) = self.postgres() {
            // The directory goes with the test, so the server has nothing to save.
            let _ = kill(postgres, Signal::SIGQUIT);
        }
    }
}

/// All lines up to the empty one after the line with `curl`.
async fn welcome(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let mut printed = String::new();
    while let Some(line) = lines.next_line().await.expect("text") {
        let done = line.is_empty() && printed.contains("curl ");
        printed.push_str(&line);
        printed.push('\n');
        if done {
            break;
        }
    }
    printed
}

fn postmaster(directory: &Path) -> Option<Pid> {
    let file = directory.join("tidegate-data/postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(file).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?);
    kill(pid, None).is_ok().then_some(pid)
}
