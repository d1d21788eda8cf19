//! Where PostgreSQL's server programs are on this machine, and of which major version.
//!
//! Looks, in this order, at the directory the user named (then nowhere else), `PATH`, `pg_config --bindir`, and the
//! places where distributions put them, newest first. Programs that the cluster's user cannot run do not count.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::PostgresError;
use super::run_as::RunAs;

/// The oldest major version that the gateway runs; older ones no longer get fixes.
pub(super) const MAJOR_MIN: u32 = 13;

/// Where distributions install: `<root>/<prefix><version>/<directory>`.
const INSTALLED: [(&str, &str, &str); 10] = [
    ("/usr/lib/postgresql", "", "bin"), // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),          // Fedora, RHEL with the PostgreSQL project's packages
    ("/usr/libexec", "postgresql", ""), // Alpine
    ("/usr/lib", "postgresql", "bin"),  // openSUSE
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/local", "pgsql", "bin"), // built from source
    ("/opt", "postgresql-", "bin"),
];

/// One installation of the server programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// The first usable installation. `named` is searched alone when given; `existing` is the cluster that must be
    /// served, with its major version.
    pub(super) async fn find(
        named: Option<&Path>,
        existing: Option<(&Path, u32)>,
        run_as: &RunAs,
    ) -> Result<Binaries, PostgresError> {
        let directories = match named {
            Some(directory) => vec![directory.to_owned()],
            None => candidates(run_as).await,
        };
        let mut found = Vec::new();
        let mut problem = None;
        for directory in directories {
            match look_into(&directory, run_as).await {
                Ok(major) => found.push(Binaries { directory, major }),
                Err(reason) => {
                    tracing::debug!(directory = %directory.display(), reason, "not usable");
                    problem = Some(PostgresError::NotUsable { directory, reason });
                }
            }
        }
        match (found.is_empty(), problem) {
            (true, Some(problem)) => Err(problem),
            (true, None) => Err(PostgresError::NotInstalled),
            (false, _) => choose(found, existing),
        }
    }

    pub(super) fn major(&self) -> u32 {
        self.major
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn choose(found: Vec<Binaries>, existing: Option<(&Path, u32)>) -> Result<Binaries, PostgresError> {
    let mut majors: Vec<u32> = found.iter().map(Binaries::major).collect();
    majors.sort_unstable();
    majors.dedup();
    let majors = majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let fits = |binaries: &Binaries| match existing {
        Some((_, major)) => binaries.major == major,
        None => binaries.major >= MAJOR_MIN,
    };
    found.into_iter().find(fits).ok_or_else(|| match existing {
        Some((data, needed)) => {
            PostgresError::OtherMajor { data: data.to_owned(), needed, found: majors }
        }
        None => PostgresError::TooOld { found: majors },
    })
}

/// Directories that hold both programs, best first, each once.
async fn candidates(run_as: &RunAs) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    if let Ok(output) = run_as.command("pg_config").arg("--bindir").output().await {
        let told = String::from_utf8_lossy(&output.stdout);
        directories.push(PathBuf::from(told.trim_end()));
    }
    for (root, prefix, inner) in INSTALLED {
        directories.extend(installed_below(Path::new(root), prefix, inner));
    }
    let mut distinct: Vec<PathBuf> = Vec::new();
    for directory in directories {
        let holds_both = ["postgres", "initdb"].iter().all(|name| directory.join(name).is_file());
        if holds_both && !distinct.contains(&directory) {
            distinct.push(directory);
        }
    }
    distinct
}

/// `<root>/<prefix><version>/<inner>` for every version there is, newest first.
fn installed_below(root: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let Ok(entries) = root.read_dir() else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, OsString)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            Some((version, name))
        })
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, name)| root.join(name).join(inner)).collect()
}

/// The major version of the programs in a directory, or why they are of no use.
async fn look_into(directory: &Path, run_as: &RunAs) -> Result<u32, String> {
    if !directory.join("initdb").is_file() {
        return Err("there is no `initdb`".to_owned());
    }
    let output = run_as
        .command(directory.join("postgres"))
        .arg("--version")
        .output()
        .await
        .map_err(|error| format!("`postgres` does not run as {}: {error}", run_as.name()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("`postgres --version` says {:?}", format!("{text}{complaint}").trim_end())
    })
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `postgres (PostgreSQL) 18beta1`.
fn parse_version(text: &str) -> Option<u32> {
    leading_number(text.split_once("(PostgreSQL) ")?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> Vec<Binaries> {
        majors
            .iter()
            .map(|&major| Binaries { directory: format!("/{major}").into(), major })
            .collect()
    }

    #[test]
    fn versions_are_read_as_every_release_prints_them() {
        assert_eq!(
            parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(parse_version("postgres: command not found"), None);
    }

    #[test]
    fn an_existing_cluster_keeps_its_major_version() {
        let data = Path::new("/data");
        let chosen = choose(installed(&[17, 15]), Some((data, 15))).expect("15 is there");
        assert_eq!(chosen.major(), 15);
        let error = choose(installed(&[17, 15]), Some((data, 14))).expect_err("14 is not");
        let text = error.to_string();
        assert!(text.contains("PostgreSQL 14") && text.contains("15, 17"), "{text}");
    }

    #[test]
    fn a_new_cluster_takes_the_first_that_is_young_enough() {
        assert_eq!(choose(installed(&[12, 16, 17]), None).expect("16").major(), 16);
        let text = choose(installed(&[12]), None).expect_err("too old").to_string();
        assert!(text.contains("only PostgreSQL 12") && text.contains("13"), "{text}");
    }

    #[test]
    fn the_newest_version_of_a_place_comes_first() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["9.6", "15", "17", "other"] {
            std::fs::create_dir(root.path().join(name)).expect("a directory");
        }
        let names: Vec<PathBuf> = installed_below(root.path(), "", "bin");
        let expected: Vec<PathBuf> =
            ["17", "15", "9.6"].iter().map(|name| root.path().join(name).join("bin")).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_error_says_how_to_install_or_do_without() {
        let text = PostgresError::NotInstalled.to_string();
        for advice in [
            "apt-get install postgresql",
            "dnf install",
            "brew install postgresql@17",
            "--database-url",
        ] {
            assert!(text.contains(advice), "{text}");
        }
    }
}
