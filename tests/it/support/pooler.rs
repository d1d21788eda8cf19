//! `PgBouncer` between a gateway and PostgreSQL, on a socket of its own.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;
use tempfile::TempDir;

use super::eventually;

/// Debian keeps it where only root's PATH looks.
const PROGRAMS: [&str; 3] =
    ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];

/// A pooler; ends with the test.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Pooler {
    /// In front of the server whose URL names the directory of its socket. `settings`: lines for the part `[pgbouncer]`;
    /// `database`: what each connection to the database begins with, beside its place.
    pub async fn before(server_url: &str, settings: &[&str], database: &str) -> Pooler {
        let url: url::Url = server_url.parse().expect("a URL");
        let server = url.query_pairs().find(|(name, _)| name == "host").expect("a socket").1;
        let port = url.port().expect("a port, which is part of the socket's name");
        let user = if url.username().is_empty() { "postgres" } else { url.username() };
        let directory = tempfile::tempdir().expect("a directory");
        let here = directory.path().display();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777))
            .expect("it is ours");
        let configuration = format!(
            "[databases]\n* = host={server} port={port} user={user} {database}\n\
             [pgbouncer]\nlisten_port = {port}\nunix_socket_dir = {here}\nlogfile = {here}/log\nauth_type = any\n\
             {}\n",
            settings.join("\n")
        );
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, configuration).expect("a file");
        let mut command = Command::new(program());
        if Uid::effective().is_root() {
            // It refuses to be root; PostgreSQL runs as this user then, too.
            command.args(["-u", "postgres"]);
        }
        let child = command
            .arg("-q")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer can be started");
        let pooler = Pooler { child, port, directory };
        eventually("PgBouncer listens", async || {
            tokio::net::UnixStream::connect(pooler.socket()).await.ok()
        })
        .await;
        pooler
    }

    /// The URL of the same database by way of the pooler.
    pub fn url(&self, server_url: &str) -> String {
        let mut url: url::Url = server_url.parse().expect("a URL");
        let directory = self.directory().display().to_string();
        url.query_pairs_mut().clear().append_pair("host", &directory);
        url.into()
    }

    /// The directory of its socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.directory().join(format!(".s.PGSQL.{}", self.port))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> &'static str {
    let found = PROGRAMS.into_iter().find(|program| Path::new(program).exists());
    found.expect("PgBouncer is installed: scripts/install-test-needs.sh does it")
}
