//! The holders of locks that others wait for, in words: of a table that could not be changed, and of a commit that does not come back.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{Connection, FromRow, PgConnection};
use tidegate_codec::StreamName;

use crate::db::pool::PgPool;
use crate::db::sql::quoted;
use crate::db::{Database, answered};

/// Most holders that are named.
const HOLDERS_SHOWN: usize = 3;
/// Longest time to find out what a commit waits for.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// SQLSTATE of a lock that was not had within `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Another session holds a table for longer than a change of it may wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the table {table} is locked by {}", words(holders))]
pub struct TableLocked {
    pub table: String,
    /// The one that has held it longest comes first.
    pub holders: Vec<Holder>,
}

/// A process of PostgreSQL that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Holder {
    pub pid: i32,
    /// The role, the application and what it is doing, as far as the gateway's role may see that.
    pub who: String,
    /// Since its transaction began.
    pub seconds: Option<i64>,
}

impl TableLocked {
    /// The holders of the stream's table, if that is what the error is about.
    pub async fn of(
        error: &sqlx::Error,
        pool: &PgPool,
        stream: &StreamName,
    ) -> Option<TableLocked> {
        if !is_lock_timeout(error) {
            return None;
        }
        let relation = format!("streams.{}", quoted(stream.as_str()));
        let holders = answered(holders_of_table(pool, &relation)).await.unwrap_or_default();
        Some(TableLocked { table: format!("streams.{stream}"), holders })
    }
}

/// What the oldest of the gateway's statements waits for; `None` where PostgreSQL does not say.
pub async fn longest_wait(database: &Database) -> Result<Option<String>, sqlx::Error> {
    let asking = async {
        let own = database.connect(LOOK_TIMEOUT, LOOK_TIMEOUT).await;
        let mut connection =
            own.map_err(|error| sqlx::Error::Configuration(error.into()))?.connection;
        let waited_for = what_is_waited_for(&mut connection).await?;
        let _ = connection.close().await;
        Ok(waited_for)
    };
    // Boxed, because it is rarely asked.
    answered(Box::pin(asking)).await
}

#[derive(Debug, FromRow)]
struct Wait {
    event_type: Option<String>,
    event: Option<String>,
    seconds: i64,
    standbys: String,
    blocking: Vec<i32>,
}

async fn what_is_waited_for(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    // A commit that waits for a standby keeps its locks, so it comes before those who wait for it.
    let wait: Option<Wait> = sqlx::query_as(
        "select wait_event_type as event_type, wait_event as event,
           greatest(extract(epoch from clock_timestamp() - query_start), 0)::bigint as seconds,
           current_setting('synchronous_standby_names') as standbys, pg_blocking_pids(pid) as blocking
         from pg_stat_activity
         where datname = current_database() and usename = current_user and application_name = 'tidegate'
           and state = 'active' and pid <> pg_backend_pid()
         order by coalesce(wait_event = 'SyncRep', false) desc, query_start limit 1",
    )
    .persistent(false)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(wait) = wait else { return Ok(None) };
    let Wait { event_type, event, seconds, standbys, blocking } = wait;
    Ok(Some(match (event_type.as_deref(), event.as_deref()) {
        (_, Some("SyncRep")) => format!(
            "a commit has waited for {seconds} s for a synchronous standby that does not answer \
             (synchronous_standby_names is '{standbys}'): bring it back, or take it out of that setting"
        ),
        (Some("Lock"), _) => {
            let holders = holders_of_pids(connection, &blocking).await?;
            let words = words(&holders);
            format!("a statement has waited for {seconds} s for a lock that is held by {words}")
        }
        (Some(kind), Some(event)) => {
            format!("a statement has run for {seconds} s; it waits for {kind}: {event}")
        }
        _ => format!("a statement has run for {seconds} s"),
    }))
}

const HOLDER: &str = "coalesce(nullif(concat_ws(', ', activity.usename, nullif(activity.application_name, ''),
       case activity.backend_type when 'client backend' then activity.state else activity.backend_type end), ''),
       'a prepared transaction') as who,
     extract(epoch from clock_timestamp() - activity.xact_start)::bigint as seconds";

async fn holders_of_table(pool: &PgPool, relation: &str) -> Result<Vec<Holder>, sqlx::Error> {
    // Weak locks, which nearly every statement holds for a moment, come last.
    let sql = format!(
        "select held.pid, {HOLDER} from (
           select pid, bool_or(mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')) as strong
           from pg_locks where locktype = 'relation' and granted and pid is distinct from pg_backend_pid()
             and database = (select oid from pg_database where datname = current_database())
             and relation in (select to_regclass($1) union all
                              select inhrelid from pg_inherits where inhparent = to_regclass($1))
           group by pid) held
         left join pg_stat_activity activity on activity.pid = held.pid
         where held.pid is not null
         order by strong desc, activity.xact_start limit 10"
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).persistent(false);
    query.bind(relation).fetch_all(pool).await
}

async fn holders_of_pids(
    connection: &mut PgConnection,
    pids: &[i32],
) -> Result<Vec<Holder>, sqlx::Error> {
    let sql = format!(
        "select held.pid, {HOLDER} from unnest($1::int[]) held (pid)
         left join pg_stat_activity activity on activity.pid = held.pid order by activity.xact_start limit 10"
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).persistent(false);
    query.bind(pids).fetch_all(connection).await
}

pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    refusal.is_some_and(|refusal| refusal.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}

fn words(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a session that has let go of it since".to_owned();
    }
    let mut words = String::new();
    for (number, holder) in holders.iter().take(HOLDERS_SHOWN).enumerate() {
        let Holder { pid, who, seconds } = holder;
        let separator = if number == 0 { "" } else { "; " };
        let since = seconds.map(|seconds| format!(", for {seconds} s")).unwrap_or_default();
        write!(words, "{separator}process {pid} ({who}{since})").expect("writing to a String");
    }
    let more = holders.len().saturating_sub(HOLDERS_SHOWN);
    if more > 0 {
        write!(words, " and {more} more").expect("writing to a String");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_table_is_named() {
        let holder = |pid| Holder {
            pid,
            who: "ada, psql, idle in transaction".to_owned(),
            seconds: Some(34),
        };
        let locked = |holders| TableLocked { table: "streams.v".to_owned(), holders }.to_string();
        assert_eq!(
            locked(vec![holder(7)]),
            "the table streams.v is locked by process 7 (ada, psql, idle in transaction, for 34 s)"
        );
        let many = locked((1..=5).map(holder).collect());
        assert!(
            many.ends_with("process 3 (ada, psql, idle in transaction, for 34 s) and 2 more"),
            "{many}"
        );
        assert!(locked(Vec::new()).contains("let go of it"));
    }
}
