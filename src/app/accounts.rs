//! Users and tokens in memory, with their mirror in the data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use crate::auth::{
    ADMIN_PASSWORD_FILE, AccountRows, Accounts, AccountsSnapshot, remove_stale_password,
};
use crate::catalog::Mirror;
use crate::db::{Database, answered};

/// Name of the mirror in the data directory.
const MIRROR_FILE: &str = "accounts.json";

pub(super) struct KnownAccounts {
    pub accounts: Accounts,
    /// Told when a change was made on this node.
    pub changed: Arc<Notify>,
    database: Database,
    data_dir: PathBuf,
    known: Mutex<Known>,
}

/// What the data directory has of them.
struct Known {
    mirror: Mirror<AccountRows>,
    /// The first user's password that the file of the first admin's was held against.
    first_password_hash: String,
}

impl KnownAccounts {
    /// Begins with what the mirror holds.
    pub fn open(database: &Database, data_dir: &Path) -> KnownAccounts {
        let mirror = Mirror::new(data_dir.join(MIRROR_FILE));
        let accounts = Accounts::default();
        let rows = mirror.load().unwrap_or_default();
        accounts.replace(accounts.begin(), AccountsSnapshot::new(rows));
        KnownAccounts {
            accounts,
            changed: Arc::default(),
            database: database.clone(),
            data_dir: data_dir.to_owned(),
            known: Mutex::new(Known { mirror, first_password_hash: String::new() }),
        }
    }

    /// Reads the truth, puts it in place and mirrors it.
    pub async fn refresh(&self) -> Result<(), sqlx::Error> {
        let mut known = self.known.lock().await;
        let reading = self.accounts.begin();
        let rows = answered(AccountRows::read(self.database.pool())).await?;
        known.mirror.save(&rows).await;
        let first = rows.users.iter().min_by_key(|user| user.id);
        let first = first.map(|first| first.password_hash.clone()).unwrap_or_default();
        self.accounts.replace(reading, AccountsSnapshot::new(rows));
        if first != known.first_password_hash {
            known.first_password_hash.clone_from(&first);
            self.remove_stale_password(first).await;
        }
        Ok(())
    }

    /// The generated password of the first admin is not kept once another is set, in any way.
    async fn remove_stale_password(&self, password_hash: String) {
        let data_dir = self.data_dir.clone();
        let removing =
            tokio::task::spawn_blocking(move || remove_stale_password(&data_dir, &password_hash));
        match removing.await {
            Ok(Ok(true)) => {
                tracing::info!(
                    file = ADMIN_PASSWORD_FILE,
                    "removed: the first admin's password is another one now"
                );
            }
            Ok(Err(error)) => {
                tracing::warn!(file = ADMIN_PASSWORD_FILE, %error, "may hold a password that is not valid any more");
            }
            Ok(Ok(false)) | Err(_) => {}
        }
    }
}
