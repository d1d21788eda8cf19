//! A clock of the database that stands until a test turns it.
//!
//! Every new connection finds functions `now` and `clock_timestamp` before PostgreSQL's own, and these read a table. So the
//! gateway runs as it is: what it asks PostgreSQL for the time is answered by the test.

use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, PgPool};
use tidegate::db::Database;

use super::cluster::{TestDatabase, connect};

const INSTALL: &str = "
    create schema paused;
    create table paused.clock (at timestamptz not null);
    create function paused.now() returns timestamptz language sql stable as 'select at from paused.clock';
    create function paused.clock_timestamp() returns timestamptz language sql volatile
        as 'select at from paused.clock';
    alter table tidegate.polling_jobs alter column scheduled_at set default paused.now(),
        alter column created_at set default paused.now(), alter column updated_at set default paused.now();
    do $$ begin
        execute format('alter database %I set search_path = paused, pg_catalog, public', current_database());
    end $$";

/// The clock of one database.
#[derive(Debug)]
pub struct PausedClock(PgPool);

impl PausedClock {
    /// Brings the gateway's tables into a database and stops its clock, for every session that connects from now on.
    pub async fn install(database: &TestDatabase, at: OffsetDateTime) -> PausedClock {
        let migrated = Database::new(database.url()).expect("a URL").migrate().await;
        migrated.expect("the tables can be made");
        let pool = connect(database.url()).await;
        sqlx::raw_sql(AssertSqlSafe(INSTALL)).execute(&pool).await.expect("the clock stops");
        let set = "insert into paused.clock values ($1)";
        sqlx::query(set).bind(at).execute(&pool).await.expect("the clock is set");
        PausedClock(pool)
    }

    /// From now on it is this moment.
    pub async fn turn_to(&self, at: OffsetDateTime) {
        let turn = "update paused.clock set at = $1";
        sqlx::query(turn).bind(at).execute(&self.0).await.expect("the clock is turned");
    }
}
