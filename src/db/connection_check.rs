//! Is a connection what the gateway needs: its own server process, with the settings that it asked for?
//!
//! Poolers and proxies in between may move a connection from one server process to another, drop its settings, and lose
//! notifications. Each of these would only fail later, and in other words: a locked table would hold up all streams, a
//! prepared statement would belong to another client. So each new connection is asked, twice, because a pooler in
//! transaction mode may change the process between two transactions; and what is found is one line that says what helps.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::db::answered;
use crate::db::pool::PgPool;

/// Longest wait for a notification that was sent; PostgreSQL delivers it at once.
const NOTIFICATION_WAIT: Duration = Duration::from_secs(5);
/// What an operator who cannot go without a pooler has to know.
const ADVICE: &str = "let DATABASE_URL lead to PostgreSQL itself, not to a pooler in transaction mode or one that drops `options`";

/// Both in milliseconds; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub statement_ms: u64,
    pub lock_ms: u64,
}

/// Why a connection cannot be used. Each says what helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "{setting} is {found} on the gateway's connection, which asked for {asked}: something in between drops the \
         connection's settings; {ADVICE}"
    )]
    SettingDropped { setting: &'static str, found: String, asked: String },
    #[error(
        "what is between the gateway and PostgreSQL refuses the connection's settings ({0}); {ADVICE}"
    )]
    SettingsRefused(String),
    #[error(
        "the gateway's connection has another server process for each transaction: there is a pooler in transaction mode \
         in between; {ADVICE}"
    )]
    Moving,
    #[error(
        "a notification does not arrive: there is a pooler in between that does not keep LISTEN; {ADVICE}"
    )]
    Deaf,
    #[error(
        "this PostgreSQL is a read-only standby: let DATABASE_URL lead to the primary, or promote the standby; the gateway \
         goes on by itself then"
    )]
    Standby,
    #[error(
        "the database is read-only for the gateway (default_transaction_read_only is on); the gateway goes on by itself \
         when it is off"
    )]
    ReadOnly,
    /// The whole statement that gives the right.
    #[error("the gateway's role {role} lacks a right in the database {database}: {grant}")]
    MissingRight { role: String, database: String, grant: String },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for ConnectError {
    /// `PgBouncer` refuses what it does not know with words of its own, before PostgreSQL is asked.
    fn from(error: sqlx::Error) -> ConnectError {
        if let sqlx::Error::Database(refusal) = &error
            && refusal.message().contains("startup parameter")
        {
            return Unfit::SettingsRefused(refusal.message().to_owned()).into();
        }
        ConnectError::Database(error)
    }
}

impl Unfit {
    /// Does it go away without a change of the gateway's settings?
    pub fn passes(&self) -> bool {
        matches!(self, Unfit::Standby | Unfit::ReadOnly)
    }
}

/// Looks at a new connection. `Some` in the answer: it cannot write, for this reason.
pub(super) async fn check(
    connection: &mut PgConnection,
    asked: Timeouts,
) -> Result<Option<Unfit>, ConnectError> {
    // Plain statements, because a prepared one could be another's already.
    let first = sqlx::raw_sql(
        "select pg_backend_pid() as pid, pg_is_in_recovery() as standby,
           current_setting('transaction_read_only') = 'on' as read_only,
           current_setting('timezone') as timezone,
           (select setting from pg_settings where name = 'statement_timeout') as statement_ms,
           (select setting from pg_settings where name = 'lock_timeout') as lock_ms",
    )
    .fetch_one(&mut *connection)
    .await?;
    let asked = [
        ("timezone", "timezone", "UTC".to_owned(), ""),
        ("statement_timeout", "statement_ms", asked.statement_ms.to_string(), " ms"),
        ("lock_timeout", "lock_ms", asked.lock_ms.to_string(), " ms"),
    ];
    for (setting, column, asked, unit) in asked {
        let found: String = first.try_get(column)?;
        if found != asked {
            let (found, asked) = (found + unit, asked + unit);
            return Err(Unfit::SettingDropped { setting, found, asked }.into());
        }
    }
    let second = sqlx::raw_sql("select pg_backend_pid() as pid").fetch_one(connection).await?;
    if first.try_get::<i32, _>("pid")? != second.try_get::<i32, _>("pid")? {
        return Err(Unfit::Moving.into());
    }
    Ok(match (first.try_get("standby")?, first.try_get("read_only")?) {
        (true, _) => Some(Unfit::Standby),
        (false, true) => Some(Unfit::ReadOnly),
        (false, false) => None,
    })
}

/// Do notifications that another connection sends reach this listener?
pub(super) async fn check_listener(
    listener: &mut PgListener,
    pool: &PgPool,
) -> Result<(), ConnectError> {
    let channel = format!("tidegate_check_{}", Uuid::new_v4().simple());
    listener.listen(&channel).await?;
    // A standby that is gone has nothing to say about it.
    let sql = format!("set local synchronous_commit = off; select pg_notify('{channel}', '')");
    let sent = answered(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool)).await;
    match sent {
        // It came to the connection that sent it, which never listened.
        Err(sqlx::Error::Protocol(_)) => return Err(Unfit::Deaf.into()),
        sent => sent.map(drop)?,
    }
    let arrives = async {
        // Words of real changes may come first; the code that opens the listener looks at everything afterwards.
        while listener.recv().await?.channel() != channel {}
        Ok::<(), sqlx::Error>(())
    };
    tokio::time::timeout(NOTIFICATION_WAIT, arrives).await.map_err(|_elapsed| Unfit::Deaf)??;
    listener.unlisten(&channel).await?;
    Ok(())
}

/// Finds the first right that the gateway's role lacks for its own tables and those of streams.
pub(super) async fn check_rights(pool: &PgPool) -> Result<(), ConnectError> {
    let lacks: Option<(String, String, String)> = answered(
        sqlx::query_as(
            "with wanted (name, creates) as (
                 values ('tidegate', to_regclass('tidegate.installation') is null), ('streams', true),
                   ('stream_partitions', true)),
               schemas as (select name, creates, to_regnamespace(name)::oid as schema from wanted)
             select quote_ident(current_user), quote_ident(current_database()),
               case when schema is null
                 then format('grant create on database %I to %I', current_database(), current_user)
                 else format('grant usage, create on schema %I to %I', name, current_user) end
             from schemas
             where case when schema is null
               then not has_database_privilege(current_database(), 'create')
               else not has_schema_privilege(schema, 'usage')
                 or creates and not has_schema_privilege(schema, 'create') end
             order by schema is not null limit 1",
        )
        .persistent(false)
        .fetch_optional(pool),
    )
    .await?;
    match lacks {
        Some((role, database, grant)) => {
            Err(Unfit::MissingRight { role, database, grant: format!("run {grant}") }.into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_said_in_one_line() {
        let unfit = [
            Unfit::SettingDropped {
                setting: "lock_timeout",
                found: "0 ms".to_owned(),
                asked: "2000 ms".to_owned(),
            },
            Unfit::SettingsRefused("unsupported startup parameter: options".to_owned()),
            Unfit::Moving,
            Unfit::Deaf,
            Unfit::Standby,
        ];
        for unfit in unfit {
            let line = unfit.to_string();
            assert!(!line.contains('\n') && line.contains("let DATABASE_URL lead to"), "{line}");
        }
    }

    #[test]
    fn only_what_postgresql_itself_ends_passes() {
        assert!(Unfit::Standby.passes() && Unfit::ReadOnly.passes());
        assert!(!Unfit::Moving.passes() && !Unfit::Deaf.passes());
    }
}
