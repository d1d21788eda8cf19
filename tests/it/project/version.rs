//! `tidegate --version` names the commit that it was built from, where there is one, and never another project's.

#[path = "../../../build.rs"]
#[expect(dead_code, reason = "its `main` is run by cargo")]
mod build;

use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::support::command::{program, run, tidegate, working_directory};

/// Runs git in a directory, without any user's settings, and returns what it prints.
async fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = program("git", directory);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(arguments);
    run(&mut command).await.printed().trim_end().to_owned()
}

/// A repository with one commit, as far as the gateway's build looks at one.
async fn repository() -> TempDir {
    let directory = working_directory();
    git(directory.path(), &["init", "--quiet", "--initial-branch=main"]).await;
    std::fs::create_dir(directory.path().join("src")).unwrap();
    std::fs::write(directory.path().join("src/lib.rs"), "// one\n").unwrap();
    std::fs::write(directory.path().join("README.md"), "one\n").unwrap();
    git(directory.path(), &["add", "."]).await;
    git(directory.path(), &["commit", "--quiet", "--message=One"]).await;
    directory
}

/// When a file changed that cargo looks at.
fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

#[tokio::test]
async fn the_version_has_the_commit_where_there_is_one() {
    let directory = working_directory();
    let printed = run(&mut tidegate(directory.path(), &["--version"])).await.printed();
    assert_eq!(printed, format!("tidegate {}\n", env!("TIDEGATE_VERSION")));
    let (package, commit) = (env!("CARGO_PKG_VERSION"), env!("TIDEGATE_COMMIT"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(commit.is_empty(), !root.join(".git").exists(), "{commit:?}");
    assert_eq!(env!("TIDEGATE_VERSION"), build::version(package, commit));
}

#[tokio::test]
async fn a_commit_is_told_and_marked_when_the_sources_differ() {
    let repository = repository().await;
    let directory = repository.path();
    let hash = git(directory, &["rev-parse", "HEAD"]).await;
    assert_eq!(build::commit(directory).as_deref(), Some(&hash[..7]));
    assert_eq!(build::version("1.2.3", &hash[..7]), format!("1.2.3 ({})", &hash[..7]));
    assert_eq!(build::version("1.2.3", ""), "1.2.3");

    std::fs::write(directory.join("README.md"), "two\n").unwrap();
    assert_eq!(build::commit(directory).as_deref(), Some(&hash[..7]), "it is not built in");
    std::fs::write(directory.join("src/new.rs"), "// two\n").unwrap();
    assert_eq!(build::commit(directory), Some(format!("{}-dirty", &hash[..7])));
}

#[tokio::test]
async fn nothing_is_told_outside_of_a_repository_and_of_one_further_up() {
    let repository = repository().await;
    let unpacked = repository.path().join("vendor/tidegate");
    std::fs::create_dir_all(unpacked.join("src")).unwrap();
    assert_eq!(build::commit(&unpacked), None, "that is another project's commit");
    assert!(build::watched(&unpacked).is_empty());
    git(&unpacked, &["init", "--quiet"]).await;
    assert_eq!(build::commit(&unpacked), None, "there is no commit yet");
}

#[tokio::test]
async fn a_work_tree_beside_the_repository_has_a_commit_of_its_own() {
    let repository = repository().await;
    let tree = repository.path().join("beside");
    git(repository.path(), &["worktree", "add", "--quiet", "-b", "other", "beside"]).await;
    std::fs::write(tree.join("src/lib.rs"), "// two\n").unwrap();
    git(&tree, &["commit", "--quiet", "--all", "--message=Two"]).await;
    let hash = git(&tree, &["rev-parse", "HEAD"]).await;
    assert_eq!(build::commit(&tree).as_deref(), Some(&hash[..7]));
    assert_ne!(build::commit(repository.path()), build::commit(&tree));
    assert!(build::watched(&tree).iter().all(|path| path.exists()));
}

#[tokio::test]
async fn cargo_looks_again_after_a_commit_and_only_then() {
    let repository = repository().await;
    let directory = repository.path();
    // In a repository that was tidied up, a branch has no file of its own.
    git(directory, &["pack-refs", "--all"]).await;
    let watched = build::watched(directory);
    assert!(watched.iter().any(|path| path.ends_with("HEAD")), "{watched:?}");
    let times = || watched.iter().map(|path| modified(path)).collect::<Vec<_>>();
    let before = times();
    build::commit(directory);
    git(directory, &["status"]).await;
    git(directory, &["branch", "another"]).await;
    assert_eq!(times(), before, "nothing changed, so nothing is built again");
    assert_eq!(build::watched(directory), watched);

    git(directory, &["commit", "--quiet", "--allow-empty", "--message=Two"]).await;
    assert_ne!(times(), before);
}
