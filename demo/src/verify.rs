//! The check against the tables: what PostgreSQL really holds, compared number by number with the ledger.
//!
//! All of the demo's SQL is here. The database folds its rows into islands, runs of consecutive numbers that are there
//! equally often, so that the check of millions of rows sends a few lines and still names each missing or double one.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use backon::{ConstantBuilder, Retryable};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tidegate_private_postgres::Cluster;

use crate::feed::Dataset;
use crate::ledger::StreamLedger;
use crate::options::Options;
use crate::sequence::{Insertion, Listed, SequenceSet};

/// Longest time for one statement: a table of many runs is read from end to end.
const PREPARE_CONNECTION: &str = "set statement_timeout = '5min'";
/// Longest time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Numbers `first..=last` of a run, each in the table `copies` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Island {
    pub first: i64,
    pub last: i64,
    pub copies: i64,
}

/// The database that holds the tables.
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// The database that the options name, or the gateway's private one.
    pub fn find(options: &Options) -> anyhow::Result<Database> {
        let private = || Cluster::locate(&options.data_dir);
        let url = options.database_url.clone().or_else(private).with_context(|| {
            format!(
                "no database to check the tables in: there is no private one in {}; name it with \
                 --database-url or --data-dir, or leave the check out with --no-table-check",
                options.data_dir.display()
            )
        })?;
        // The error of a malformed URL may quote it, password and all; its kind is enough.
        let options = PgConnectOptions::from_str(&url)
            .ok()
            .context("--database-url is not a PostgreSQL URL")?;
        Ok(Database { options })
    }

    /// Connects once and goes away, so that a wrong URL is told before anything is sent.
    pub async fn check_connection(&self) -> anyhow::Result<()> {
        self.connect().await.map(drop)
    }

    /// What the stream's table holds of a run. Tries for `wait` to connect: the database may just be starting again.
    pub async fn islands(
        &self,
        dataset: Dataset,
        stream: &str,
        run: &str,
        wait: Duration,
    ) -> anyhow::Result<Vec<Island>> {
        let attempts = wait.as_millis() / CONNECT_PAUSE.as_millis();
        let pauses = ConstantBuilder::default()
            .with_delay(CONNECT_PAUSE)
            .with_max_times(usize::try_from(attempts)?);
        let mut connection = (|| self.connect()).retry(pauses).await?;
        sqlx::query_as(AssertSqlSafe(islands_sql(dataset, stream)))
            .bind(run)
            .fetch_all(&mut connection)
            .await
            .with_context(|| format!("cannot read the table streams.{stream}"))
    }

    /// How many documents of a run a stream's table holds; none if there is no such table yet.
    pub async fn count(&self, stream: &str, run: &str) -> anyhow::Result<i64> {
        let mut connection = self.connect().await?;
        let table: Option<String> = sqlx::query_scalar("select to_regclass($1)::text")
            .bind(format!("streams.\"{stream}\""))
            .fetch_one(&mut connection)
            .await?;
        if table.is_none() {
            return Ok(0);
        }
        let sql =
            format!(r#"select count(*) from streams."{stream}" where payload->>'demo_run' = $1"#);
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).bind(run).fetch_one(&mut connection);
        rows.await.with_context(|| format!("cannot read the table streams.{stream}"))
    }

    /// All documents of a run in a stream's table.
    pub async fn documents(&self, stream: &str, run: &str) -> anyhow::Result<Vec<Value>> {
        let mut connection = self.connect().await?;
        let sql =
            format!(r#"select payload from streams."{stream}" where payload->>'demo_run' = $1"#);
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).bind(run).fetch_all(&mut connection);
        rows.await.with_context(|| format!("cannot read the table streams.{stream}"))
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect());
        let connection = connecting.await.context("the database does not answer")?;
        let mut connection = connection.context("cannot connect to the database")?;
        connection.execute(PREPARE_CONNECTION).await?;
        Ok(connection)
    }
}

/// Consecutive numbers that are there equally often keep the same distance to their row number.
fn islands_sql(dataset: Dataset, stream: &str) -> String {
    let (sequence, run) = match dataset {
        Dataset::Weather => ("demo_seq", "demo_run"),
        Dataset::Movies => ("(payload->>'demo_seq')::bigint", "payload->>'demo_run'"),
    };
    format!(
        r#"select min(sequence) as first, max(sequence) as last, copies
           from (
               select sequence, copies,
                      sequence - row_number() over (partition by copies order by sequence) as island
               from (
                   select {sequence} as sequence, count(*) as copies
                   from streams."{stream}"
                   where {run} = $1
                   group by 1
               ) as numbers
           ) as islands
           group by copies, island
           order by first"#
    )
}

/// What the comparison of a table with the ledger found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// Different records of the run that are in the table.
    pub present: u64,
    /// Acknowledged, and not in the table.
    pub missing: Listed,
    /// In the table more than once.
    pub double: Listed,
    /// In the table, though they were refused, quarantined or never sent.
    pub unexpected: Listed,
    /// Rows of the run without a number that could be one.
    pub strange: u64,
    /// Doubtful records that turned out to be in the table.
    pub doubtful_present: u64,
}

/// Compares a table with the ledger.
pub fn compare(ledger: &StreamLedger, islands: &[Island]) -> TableCheck {
    let mut check = TableCheck::default();
    let mut present = SequenceSet::default();
    for island in islands {
        for number in island.first..=island.last {
            let sequence = u64::try_from(number).unwrap_or(u64::MAX);
            let double = match present.insert(sequence) {
                Insertion::New => island.copies > 1,
                Insertion::Again => true,
                Insertion::OutOfRange => {
                    check.strange += 1;
                    false
                }
            };
            if double {
                check.double.add(sequence);
            }
        }
    }
    check.present = present.count();
    check.missing = ledger.acknowledged.without(&[&present]);
    check.unexpected = present.without(&[&ledger.acknowledged, &ledger.doubtful]);
    check.doubtful_present = present.count_shared(&ledger.doubtful);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> StreamLedger {
        let mut ledger = StreamLedger::default();
        ledger.acknowledged.insert_range(0..100);
        ledger.doubtful.insert_range(100..110);
        ledger
    }

    fn island(first: i64, last: i64, copies: i64) -> Island {
        Island { first, last, copies }
    }

    #[test]
    fn all_there_once_is_well() {
        let check = compare(&ledger(), &[island(0, 99, 1)]);
        assert_eq!(check, TableCheck { present: 100, ..TableCheck::default() });
    }

    #[test]
    fn doubtful_records_may_be_there_but_not_twice() {
        let check = compare(&ledger(), &[island(0, 104, 1)]);
        assert_eq!((check.doubtful_present, check.unexpected.count), (5, 0));
        let check = compare(&ledger(), &[island(0, 104, 1), island(105, 106, 2)]);
        assert_eq!(check.double, Listed { count: 2, first: vec![105, 106] });
    }

    #[test]
    fn one_loss_and_one_double_do_not_cancel_out() {
        let islands = [island(0, 41, 1), island(7, 7, 2), island(43, 99, 1)];
        let check = compare(&ledger(), &islands);
        assert_eq!(check.missing, Listed { count: 1, first: vec![42] });
        assert_eq!(check.double, Listed { count: 1, first: vec![7] });
    }

    #[test]
    fn what_was_never_accepted_must_not_be_there() {
        let check = compare(&ledger(), &[island(-1, 99, 1), island(200, 201, 1)]);
        assert_eq!(check.unexpected, Listed { count: 2, first: vec![200, 201] });
        assert_eq!((check.strange, check.missing.count), (1, 0));
    }

    #[test]
    fn nothing_in_the_table_is_all_missing() {
        assert_eq!(compare(&ledger(), &[]).missing.count, 100);
    }
}
