//! Word from other nodes that the catalog changed. A hint only: who listens also looks from time to time.

use std::io::ErrorKind;

use sqlx::postgres::PgListener;

use crate::db::connection_check::{ConnectError, check_listener};
use crate::db::{Database, answered};

/// The channel that every change of streams, users and tokens is announced on.
pub(super) const NOTIFY_CATALOG: &str = "notify tidegate_catalog";
const CHANNEL: &str = "tidegate_catalog";

/// Listens until an error ends it.
#[derive(Debug)]
pub struct CatalogListener(PgListener);

impl CatalogListener {
    /// Listens, and makes sure that what is said is heard.
    pub async fn open(database: &Database) -> Result<CatalogListener, ConnectError> {
        let pool = database.pool();
        let mut listener = answered(async {
            let mut listener = PgListener::connect_with(pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        })
        .await?;
        check_listener(&mut listener, pool).await?;
        Ok(CatalogListener(listener))
    }

    /// Waits for the next word of a change. A line that was lost is an error, because a new one has to be tried first.
    pub async fn changed(&mut self) -> Result<(), sqlx::Error> {
        match self.0.try_recv().await? {
            Some(_word) => Ok(()),
            None => Err(sqlx::Error::Io(ErrorKind::ConnectionAborted.into())),
        }
    }
}
