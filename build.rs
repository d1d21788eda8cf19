//! Tells the crate which commit it is built from, and builds it again when that or the embedded web build changes.
//!
//! The commit comes from `TIDEGATE_COMMIT` where that is set, else from the repository whose top this directory is.
//! Without either, or without git, the version stands alone: a build never fails over this.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the gateway is made of. When it differs from the commit, the version says so.
const SOURCES: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "build.rs",
    "crates",
    "dashboards/unbuilt.html",
    "dashboards/web",
    "migrations",
    "src",
];
/// What is too large to be looked through for each build; what is made of it is embedded, and looked at.
const WEB: &str = "dashboards/web";

fn main() {
    println!("cargo::rerun-if-env-changed=TIDEGATE_COMMIT");
    println!("cargo::rerun-if-changed=dashboards/web/dist");
    let here = Path::new(".");
    for path in watched(here) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let given = std::env::var("TIDEGATE_COMMIT").ok();
    let commit = given.filter(|commit| !commit.is_empty()).or_else(|| commit(here));
    let commit = commit.unwrap_or_default();
    println!("cargo::rustc-env=TIDEGATE_COMMIT={commit}");
    println!("cargo::rustc-env=TIDEGATE_VERSION={}", version(env!("CARGO_PKG_VERSION"), &commit));
}

/// The package's version, and the commit where there is one.
pub fn version(package: &str, commit: &str) -> String {
    if commit.is_empty() { package.to_owned() } else { format!("{package} ({commit})") }
}

/// The commit that is checked out in this directory, marked `-dirty` when the sources differ from it.
pub fn commit(directory: &Path) -> Option<String> {
    let hash = git(directory, &["rev-parse", "--short=7", "HEAD"])?;
    let changes = git(directory, &[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changes.is_empty() { hash } else { format!("{hash}-dirty") })
}

/// Files that change whenever [`commit`] does: what says which commit is checked out, and the sources. A file that is not
/// there is left out, because cargo would take it for changed each time; which is wanted where only git itself is missing, so
/// that the version knows its commit as soon as it is installed.
pub fn watched(directory: &Path) -> Vec<PathBuf> {
    let Some(head) = git_path(directory, "HEAD") else {
        let lacks_git = directory.join(".git/HEAD").exists();
        return lacks_git
            .then(|| directory.join(".git/as-long-as-there-is-no-git"))
            .into_iter()
            .collect();
    };
    let branch = git(directory, &["symbolic-ref", "--quiet", "HEAD"]);
    // The log tells of commits on a branch that has no file of its own yet (packed references).
    let branch = branch.and_then(|branch| git_path(directory, &branch));
    let of_git = [Some(head), git_path(directory, "logs/HEAD"), branch].into_iter().flatten();
    let sources =
        SOURCES.into_iter().filter(|source| *source != WEB).map(|source| directory.join(source));
    of_git.chain(sources).filter(|path| path.exists()).collect()
}

/// Where git keeps this, also for a work tree beside another one.
fn git_path(directory: &Path, name: &str) -> Option<PathBuf> {
    Some(directory.join(git(directory, &["rev-parse", "--git-path", name])?))
}

/// What git prints about the repository whose top `directory` is. A repository further up is another project's.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["--no-optional-locks", "--git-dir=.git", "--work-tree=."])
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
