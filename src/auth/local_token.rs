//! The local token: a program that can read the data directory may do everything, without a password.
//!
//! It is new at each start, so an old copy is worth nothing, and it lies in a 0600 file.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tidegate_private_file as private_file;

use crate::auth::caller::{Caller, Via};
use crate::auth::scope::{Role, ScopeSet};
use crate::auth::secret::{Secret, SecretHash};

/// Name of the file in the data directory.
pub const LOCAL_TOKEN_FILE: &str = "local-token";
/// The user name that records sent with the local token carry.
pub const LOCAL_USER_NAME: &str = "local";

/// What the gateway keeps of the token.
#[derive(Debug, Clone)]
pub struct LocalToken {
    hash: SecretHash,
    user_name: Arc<str>,
}

impl LocalToken {
    /// Makes a new token and writes it to the data directory. Blocks.
    pub fn create(data_dir: &Path) -> io::Result<LocalToken> {
        let secret = Secret::token();
        let line = format!("{}\n", secret.as_str());
        private_file::write(&data_dir.join(LOCAL_TOKEN_FILE), line.as_bytes())?;
        Ok(LocalToken { hash: secret.hash(), user_name: LOCAL_USER_NAME.into() })
    }

    /// A token that is told to no client, for a start on a disk without room for its file.
    pub fn unknown() -> LocalToken {
        LocalToken { hash: Secret::token().hash(), user_name: LOCAL_USER_NAME.into() }
    }

    /// The token of the gateway that runs on this data directory, for clients on the same machine. Blocks.
    pub fn read(data_dir: &Path) -> io::Result<String> {
        let text = fs::read_to_string(data_dir.join(LOCAL_TOKEN_FILE))?;
        Ok(text.trim_end().to_owned())
    }

    /// The caller, if `hash` is the hash of the token.
    pub fn caller(&self, hash: &SecretHash) -> Option<Caller> {
        self.hash.matches(hash).then(|| Caller {
            user_id: None,
            user_name: Arc::clone(&self.user_name),
            role: Role::Admin,
            scopes: ScopeSet::ALL,
            streams: None,
            via: Via::Local,
            password: None,
            session: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_token_in_the_file_opens_and_an_old_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let first = LocalToken::create(directory.path()).unwrap();
        let old = LocalToken::read(directory.path()).unwrap();
        let caller = first.caller(&SecretHash::of(&old)).unwrap();
        assert_eq!((caller.user_id, &*caller.user_name), (None, "local"));
        assert_eq!(caller.scopes, ScopeSet::ALL);

        let second = LocalToken::create(directory.path()).unwrap();
        assert_eq!(second.caller(&SecretHash::of(&old)), None);
        assert_eq!(second.caller(&SecretHash::of("")), None);
        let metadata = fs::metadata(directory.path().join(LOCAL_TOKEN_FILE)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
}
