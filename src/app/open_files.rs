//! How many files this process may have open: each connection is one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// What was allowed, and what is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    pub before: rlim_t,
    pub now: rlim_t,
}

/// Raises the soft limit to the hard one. The soft one is often 1,024, for the sake of programs that use `select`, which
/// nothing here does.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let (before, now) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if before < now {
        setrlimit(Resource::RLIMIT_NOFILE, now, now)?;
    }
    Ok(OpenFiles { before, now })
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
