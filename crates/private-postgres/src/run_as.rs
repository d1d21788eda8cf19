//! Which user runs PostgreSQL: the gateway's own, or, when the gateway is root, another (PostgreSQL refuses root).
//!
//! A new cluster belongs to the configured user; an existing one is run by its owner. Every program that touches a
//! cluster is started through [`RunAs::command`], which also keeps the gateway's environment (passwords, `PG*`
//! variables) away from it.

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::process::Stdio;

use nix::unistd::{Uid, User, geteuid};
use tokio::process::Command;

use super::error::PostgresError;

/// The user who runs PostgreSQL when root starts the gateway and no other is configured.
const USER_DEFAULT: &str = "postgres";

/// What PostgreSQL's programs see of our environment: where to find programs, libraries, locales and time zones.
const ENVIRONMENT: [&str; 6] =
    ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOCPATH", "LOCALE_ARCHIVE", "TZDIR"];

/// The user of a cluster.
#[derive(Debug, Clone)]
pub(super) struct RunAs {
    name: String,
    uid: u32,
    gid: u32,
    /// We are root and become this user; otherwise we are this user already.
    switch: bool,
}

impl RunAs {
    /// The user of a cluster that is about to be made; `wanted` counts only when we are root.
    pub(super) fn for_new_cluster(wanted: Option<&str>) -> Result<RunAs, PostgresError> {
        if !geteuid().is_root() {
            return Ok(RunAs::ourselves());
        }
        let name = wanted.unwrap_or(USER_DEFAULT);
        let user = User::from_name(name)
            .ok()
            .flatten()
            .ok_or_else(|| PostgresError::NoSuchUser { name: name.to_owned() })?;
        if user.uid.is_root() {
            return Err(PostgresError::RefusesRoot);
        }
        Ok(RunAs { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), switch: true })
    }

    /// The user of a cluster that exists: its owner, because PostgreSQL accepts no other.
    pub(super) fn for_existing_cluster(data: &Path) -> Result<RunAs, PostgresError> {
        let found = data.metadata().map_err(PostgresError::io("look at", data))?;
        let owner = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
        let (name, gid) = match owner {
            Some(user) => (user.name, user.gid.as_raw()),
            // A container may run as a number that has no name.
            None => (format!("#{}", found.uid()), found.gid()),
        };
        match (geteuid().is_root(), found.uid()) {
            (true, 0) => Err(PostgresError::RefusesRoot),
            (true, uid) => Ok(RunAs { name, uid, gid, switch: true }),
            (false, uid) if uid == geteuid().as_raw() => Ok(RunAs::ourselves()),
            (false, _) => Err(PostgresError::OtherOwner { data: data.to_owned(), owner: name }),
        }
    }

    fn ourselves() -> RunAs {
        let user = User::from_uid(geteuid()).ok().flatten();
        RunAs {
            name: user.map_or_else(|| format!("#{}", geteuid()), |user| user.name),
            uid: geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            switch: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether we are root and become this user.
    pub(super) fn switches(&self) -> bool {
        self.switch
    }

    /// A command that this user will run, without our environment and without a terminal.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // The user may be unable to enter the directory we are in.
        command.env_clear().current_dir("/").stdin(Stdio::null());
        for name in ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Messages that we show and compare are the same on every machine.
        command.env("LC_ALL", "C");
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives the user what we made for it; never follows a symbolic link.
    pub(super) fn give(&self, path: &Path) -> Result<(), PostgresError> {
        if !self.switch {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .map_err(PostgresError::io("change the owner of", path))
    }

    /// Whether the user may enter a directory. The system is asked as that user, because mode bits are not the whole
    /// truth.
    pub(super) async fn can_enter(&self, directory: &Path) -> Result<bool, PostgresError> {
        if !self.switch {
            return Ok(true);
        }
        let mut command = self.command("/bin/sh");
        command.args(["-c", "test -x \"$1\"", "sh"]).arg(directory);
        let status = command.status().await.map_err(self.cannot_run(Path::new("/bin/sh")))?;
        Ok(status.success())
    }

    /// For `map_err`: the program that could not be started.
    pub(super) fn cannot_run<'a>(
        &'a self,
        program: &'a Path,
    ) -> impl FnOnce(io::Error) -> PostgresError + 'a {
        move |source| PostgresError::Run {
            program: program.to_owned(),
            user: self.name.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_and_root_are_refused_when_we_are_root() {
        if !geteuid().is_root() {
            return;
        }
        let unknown = RunAs::for_new_cluster(Some("nobody-has-this-name"));
        assert!(
            matches!(unknown, Err(PostgresError::NoSuchUser { name }) if name.starts_with("nobody-has"))
        );
        assert!(matches!(RunAs::for_new_cluster(Some("root")), Err(PostgresError::RefusesRoot)));
    }

    #[tokio::test]
    async fn the_environment_stays_with_us() {
        let run_as = RunAs::ourselves();
        let output = run_as.command("env").output().await.expect("env runs");
        let seen = String::from_utf8(output.stdout).expect("text");
        assert!(seen.lines().any(|line| line == "LC_ALL=C"), "{seen}");
        for line in seen.lines() {
            let name = line.split('=').next().unwrap_or_default();
            assert!(name == "LC_ALL" || ENVIRONMENT.contains(&name), "{line}");
        }
    }
}
