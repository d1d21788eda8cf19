//! Users and tokens in memory, with their mirror in the data directory.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use crate::auth::{AccountRows, Accounts, AccountsSnapshot};
use crate::catalog::Mirror;
use crate::db::{Database, answered};

/// Name of the mirror in the data directory.
const MIRROR_FILE: &str = "accounts.json";

pub(super) struct KnownAccounts {
    pub accounts: Accounts,
    /// Told when a change was made on this node.
    pub changed: Arc<Notify>,
    database: Database,
    mirror: Mutex<Mirror<AccountRows>>,
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
            mirror: Mutex::new(mirror),
        }
    }

    /// Reads the truth, puts it in place and mirrors it.
    pub async fn refresh(&self) -> Result<(), sqlx::Error> {
        let mut mirror = self.mirror.lock().await;
        let reading = self.accounts.begin();
        let rows = answered(AccountRows::read(self.database.pool())).await?;
        mirror.save(&rows).await;
        self.accounts.replace(reading, AccountsSnapshot::new(rows));
        Ok(())
    }
}
