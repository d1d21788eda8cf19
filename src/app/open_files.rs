//! How many files this process may have open: each connection is one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::config::Config;

/// Open files that are no connections: the journal's segments, PostgreSQL, the data directory.
const OPEN_FILES_BESIDE: u64 = 256;

/// What was allowed, and what is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenFiles {
    before: rlim_t,
    now: rlim_t,
}

/// Raises the soft limit to the hard one. The soft one is often 1,024, for the sake of programs that use `select`, which
/// nothing here does.
fn raise_open_files() -> io::Result<OpenFiles> {
    let (before, now) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if before < now {
        setrlimit(Resource::RLIMIT_NOFILE, now, now)?;
    }
    Ok(OpenFiles { before, now })
}

/// Asks for as many open files as the connections need. Fewer are no reason not to start.
pub(super) fn allow_connections(config: &Config) {
    let needed = (config.access.connections_max as u64).saturating_add(OPEN_FILES_BESIDE);
    match raise_open_files() {
        Ok(OpenFiles { before, now }) if now < needed => {
            tracing::warn!(
                open_files_max = now,
                before,
                connections_max = config.access.connections_max,
                "fewer files may be open than connections are allowed; raise the hard limit (ulimit -Hn), or lower \
                 TIDEGATE_CONNECTIONS_MAX"
            );
        }
        Ok(OpenFiles { before, now }) if before < now => {
            tracing::info!(open_files_max = now, before, "raised the limit on open files");
        }
        Ok(OpenFiles { now, .. }) => tracing::debug!(open_files_max = now, "enough open files"),
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(1_024), hard).unwrap();
        assert_eq!(raise_open_files().unwrap().now, hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        assert_eq!(raise_open_files().unwrap(), OpenFiles { before: hard, now: hard });
    }
}
