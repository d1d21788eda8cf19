//! The way to PostgreSQL: its pools, connections of one owner, and the preparation of a database.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::db::answer::{answered, within};
use crate::db::connection_check::{
    ConnectError, Timeouts, Unfit, check, check_listener, check_rights,
};
use crate::db::pool::PgPool;
use crate::db::pools::{Pools, checked};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// A plan that was made while a table was small would read all of it when it is large, until statistics tell: so each
/// execution has a plan of its own, which costs a fraction of a millisecond.
const PLANS: (&str, &str) = ("plan_cache_mode", "force_custom_plan");
/// A look behind rows must see what others committed while the rows were written, whatever a role or a database is set to.
const READ_COMMITTED: (&str, &str) = ("default_transaction_isolation", "read committed");
/// What a number or a time is as text must not depend on how a database or a role is set up: a column that becomes text
/// keeps it for ever.
const FULL_FLOATS: (&str, &str) = ("extra_float_digits", "1");
const ISO_DATES: (&str, &str) = ("datestyle", "ISO");
/// Longest time for a connection of the writers to come about: a line that went silent does not say so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a lock on the gateway's own tables while they are prepared, in milliseconds; it is tried again.
const PREPARATION_LOCK_TIMEOUT_MS: u64 = 5_000;

/// The way to PostgreSQL; clones share the pools. Making one connects to nothing.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    pools: Pools,
}

/// A connection that its owner has alone.
#[derive(Debug)]
pub struct OwnConnection {
    pub connection: PgConnection,
    /// Why it cannot write, if it cannot.
    pub read_only: Option<Unfit>,
}

/// Why the database cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PreparationError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl PreparationError {
    /// Does PostgreSQL merely not take connections now, as while it starts?
    pub fn passes(&self) -> bool {
        match self {
            PreparationError::Connect(ConnectError::Database(error)) => match error {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(refusal) => refusal
                    .code()
                    .is_some_and(|code| code.starts_with("57") || code.starts_with("53")),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Database {
    /// Reads a PostgreSQL URL.
    ///
    /// # Errors
    /// The URL is not one of PostgreSQL.
    pub fn new(url: &str) -> Result<Database, sqlx::Error> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(sqlx::Error::Configuration(
                "it begins with postgres:// or postgresql://".into(),
            ));
        }
        let options = Database::options(PgConnectOptions::from_str(url)?);
        let pools = Pools::new(&options);
        Ok(Database { options, pools })
    }

    /// The options with what every connection of the gateway has.
    pub(super) fn options(options: PgConnectOptions) -> PgConnectOptions {
        options.application_name("tidegate").options([
            ("timezone", "UTC"),
            ("client_min_messages", "warning"),
            FULL_FLOATS,
            ISO_DATES,
            READ_COMMITTED,
            PLANS,
        ])
    }

    /// The pool that everything leans on.
    pub fn pool(&self) -> &PgPool {
        &self.pools.lookups
    }

    /// The pools by kind of work.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// A connection that the caller owns alone, within [`CONNECT_TIMEOUT`]; the writers' way.
    pub async fn connect(
        &self,
        statement_timeout: Duration,
        lock_timeout: Duration,
    ) -> Result<OwnConnection, ConnectError> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let asked = Timeouts {
            statement_ms: milliseconds(statement_timeout),
            lock_ms: milliseconds(lock_timeout),
        };
        let options = asked.options(self.options.clone()).options([
            // A gateway that vanished without a word must not hold its journal's row for hours.
            ("idle_in_transaction_session_timeout", asked.statement_ms.to_string()),
            ("tcp_keepalives_idle", "15".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]);
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let read_only = check(&mut connection, asked).await?;
            Ok(OwnConnection { connection, read_only })
        };
        within(CONNECT_TIMEOUT, connecting).await
    }

    /// Looks whether the database can be what the gateway needs, and brings the gateway's own tables up to this version.
    /// Nodes that start at once take turns.
    pub async fn prepare(&self) -> Result<(), PreparationError> {
        let limit = Duration::from_millis(PREPARATION_LOCK_TIMEOUT_MS);
        let own = self.connect(limit, limit).await?;
        if let Some(read_only) = own.read_only {
            return Err(ConnectError::from(read_only).into());
        }
        let _ = own.connection.close().await;
        check_rights(self.pool()).await?;
        let listening = answered(PgListener::connect_with(self.pool().for_listening())).await;
        let mut listener = listening.map_err(ConnectError::from)?;
        check_listener(&mut listener, self.pool()).await?;
        drop(listener);
        Ok(self.migrate().await?)
    }

    /// Brings the gateway's own tables up to this version.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let asked = Timeouts { statement_ms: 0, lock_ms: PREPARATION_LOCK_TIMEOUT_MS };
        let options = asked.options(self.options.clone()).options([("search_path", "tidegate")]);
        let pool = checked(asked).max_connections(1).connect_with(options).await?;
        create_schema(&pool).await?;
        let migrated = MIGRATIONS.run(&pool).await;
        pool.close().await;
        migrated
    }

    /// Who this database is; never the same for two, and kept by its replicas and backups.
    pub async fn installation(&self) -> Result<Uuid, sqlx::Error> {
        sqlx::query_scalar("select id from tidegate.installation").fetch_one(self.pool()).await
    }
}

/// The schema must be there before the table of migrations can be made in it. Two nodes may try at the same moment,
/// where `if not exists` alone can still collide.
async fn create_schema(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(SCHEMA_LOCK)
        .execute(&mut *transaction)
        .await?;
    // Even `if not exists` needs the right to create one, which may have been taken back since.
    let exists: bool = sqlx::query_scalar("select to_regnamespace('tidegate') is not null")
        .fetch_one(&mut *transaction)
        .await?;
    if !exists {
        sqlx::query("create schema tidegate").execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// Advisory lock for creating the schema and giving streams their numbers ("tide" in ASCII).
pub(super) const SCHEMA_LOCK: i64 = 0x7469_6465;
