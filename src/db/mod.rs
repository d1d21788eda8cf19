//! PostgreSQL: connections, migrations, and every SQL statement of the gateway.
//!
//! Layers above call functions named for what they mean; no SQL leaves this module, and no database detail reaches a
//! client.

pub mod batch;
pub mod journals;
pub mod mending;
pub mod notifications;
pub mod parked;
pub mod polled_items;
pub mod polling_jobs;
pub mod polling_runs;
pub mod quarantine;
pub mod reading;
pub mod sessions;
pub mod streams;
pub mod tokens;
pub mod users;
pub mod verdict;
pub mod words;

use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// A plan that was made while a table was small would read all of it when it is large, until statistics tell: so each
/// execution has a plan of its own, which costs a fraction of a millisecond.
const PLANS: (&str, &str) = ("plan_cache_mode", "force_custom_plan");
/// What a number or a time is as text must not depend on how a database or a role is set up: a column that becomes text
/// keeps it for ever.
const FULL_FLOATS: (&str, &str) = ("extra_float_digits", "1");
const ISO_DATES: (&str, &str) = ("datestyle", "ISO");
/// Most connections for everything but the writers.
const POOL_CONNECTIONS_MAX: u32 = 8;
/// Longest wait for one of them.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a connection of the writers to come about: a line that went silent tells nobody.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a question of the pool's connections: PostgreSQL itself ends the statement before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time for one statement of the API.
const STATEMENT_TIMEOUT_MS: &str = "15000";

/// The way to PostgreSQL; clones share the pool. Making one connects to nothing.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    pool: PgPool,
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
        let options = PgConnectOptions::from_str(url)?.application_name("tidegate").options([
            ("timezone", "UTC"),
            ("client_min_messages", "warning"),
            FULL_FLOATS,
            ISO_DATES,
            PLANS,
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(
                options.clone().options([("statement_timeout", STATEMENT_TIMEOUT_MS)]),
            );
        Ok(Database { options, pool })
    }

    /// The pool for everything but the writers.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection that the caller owns alone, within [`CONNECT_TIMEOUT`]; the writers' way.
    pub async fn connect(
        &self,
        statement_timeout: Duration,
        lock_timeout: Duration,
    ) -> Result<PgConnection, sqlx::Error> {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let options = self.options.clone().options([
            ("statement_timeout", milliseconds(statement_timeout)),
            ("lock_timeout", milliseconds(lock_timeout)),
            // A gateway that vanished without a word must not hold its journal's row for hours.
            ("idle_in_transaction_session_timeout", milliseconds(statement_timeout)),
            ("tcp_keepalives_idle", "15".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]);
        within(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await
    }

    /// Brings the gateway's own tables up to this version. Nodes that start at once take turns.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(self.options.clone().options([("search_path", "tidegate")]))
            .await?;
        create_schema(&pool).await?;
        let migrated = MIGRATIONS.run(&pool).await;
        pool.close().await;
        migrated
    }

    /// Who this database is; never the same for two, and kept by its replicas and backups.
    pub async fn installation(&self) -> Result<Uuid, sqlx::Error> {
        sqlx::query_scalar("select id from tidegate.installation").fetch_one(&self.pool).await
    }
}

/// The answer, unless the line went silent: then nobody would ever say that there is none.
pub(crate) async fn answered<T>(
    asking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    within(ANSWER_TIMEOUT, asking).await
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let silent = |_elapsed| {
        let message = format!("PostgreSQL did not answer within {limit:?}");
        sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, message))
    };
    tokio::time::timeout(limit, asking).await.map_err(silent)?
}

/// The schema must be there before the table of migrations can be made in it. Two nodes may try at the same moment,
/// where `if not exists` alone can still collide.
async fn create_schema(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(SCHEMA_LOCK)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("create schema if not exists tidegate").execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Advisory lock for creating the schema and changing tables of streams ("tide" in ASCII).
const SCHEMA_LOCK: i64 = 0x7469_6465;

/// An identifier in SQL: quoted, quotes doubled.
fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text literal in SQL, safe under any setting of `standard_conforming_strings`.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(quoted(r#"a"; drop table x; --"#), r#""a""; drop table x; --""#);
        assert_eq!(literal(r"it's \' or"), r"E'it\'s \\\' or'");
    }
}
