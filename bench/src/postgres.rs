//! The run's own PostgreSQL, as the gateway's private one: fsync and full durability on. It does no housekeeping by itself.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, PgPool};
use tidegate_private_postgres::{Cluster, ClusterOptions};
use time::OffsetDateTime;
use tokio::process::Command;

pub struct Postgres {
    cluster: Cluster,
    pool: PgPool,
}

impl Postgres {
    pub async fn start(dir: &Path) -> anyhow::Result<Postgres> {
        // Autovacuum would start in the middle of a measurement, and take a third of a small machine.
        let settings = vec![("autovacuum".to_owned(), "off".to_owned())];
        let options =
            ClusterOptions { data_dir: dir.to_owned(), settings, ..ClusterOptions::default() };
        let cluster = Cluster::start(&options).await?;
        let pool = PgPool::connect_lazy(&cluster.url())?;
        Ok(Postgres { cluster, pool })
    }

    pub fn url(&self) -> String {
        self.cluster.url()
    }

    pub async fn version(&self) -> anyhow::Result<String> {
        Ok(sqlx::query_scalar("show server_version").fetch_one(&self.pool).await?)
    }

    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await;
        done.map(drop).with_context(|| sql.to_owned())
    }

    /// Rows of a stream's table.
    pub async fn rows(&self, stream: &str) -> anyhow::Result<i64> {
        let sql = format!("select count(*) from streams.\"{stream}\"");
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await?)
    }

    /// Empties a stream's table and writes what is dirty, so that no measurement pays for the one before it.
    pub async fn clear(&self, stream: &str) -> anyhow::Result<()> {
        self.execute(&format!("truncate streams.\"{stream}\"")).await?;
        self.settle().await
    }

    pub async fn settle(&self) -> anyhow::Result<()> {
        self.execute("checkpoint").await
    }

    /// The database's time.
    pub async fn now(&self) -> anyhow::Result<OffsetDateTime> {
        Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.pool).await?)
    }

    /// How late each run of a polling job began that was due since then.
    pub async fn polling_lateness_seconds(&self, from: OffsetDateTime) -> anyhow::Result<Vec<f64>> {
        let sql =
            "select extract(epoch from started_at - due_at)::float8 from tidegate.polling_runs
            where due_at >= $1";
        Ok(sqlx::query_scalar(sql).bind(from).fetch_all(&self.pool).await?)
    }

    /// Runs of polling jobs that failed.
    pub async fn polling_failures(&self) -> anyhow::Result<i64> {
        let sql = "select count(*) from tidegate.polling_runs where error is not null";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// Takes all polling jobs away, while no gateway runs.
    pub async fn forget_polling_jobs(&self) -> anyhow::Result<()> {
        self.execute("truncate tidegate.polling_jobs, tidegate.polling_runs, tidegate.polled_items")
            .await
    }

    /// Runs `psql \copy` of a file, and says how long it took.
    pub async fn copy(&self, table: &str, file: &Path, options: &str) -> anyhow::Result<Duration> {
        let command = format!("\\copy {table} from '{}' {options}", file.display());
        let started = Instant::now();
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", &command])
            .arg(self.url())
            .stdin(Stdio::null())
            .output()
            .await
            .context("psql cannot be started")?;
        let took = started.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}: {said}");
        Ok(took)
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        Ok(self.cluster.stop().await?)
    }
}
