//! Reaching the database from a command: the one given, or the private PostgreSQL, started for the command if no
//! gateway runs.

use anyhow::{Context, bail};
use sqlx::PgPool;

use crate::cli::Place;
use crate::config::DataDir;
use crate::db::Database;
use crate::postgres::{Cluster, ClusterOptions};

/// A database that a command works on, migrated.
pub(super) struct Reached {
    database: Database,
    /// A private PostgreSQL that this command started and stops again.
    started: Option<Cluster>,
}

/// Connects, starting the private PostgreSQL where it does not run.
pub(super) async fn reach(place: &Place) -> anyhow::Result<Reached> {
    let (url, started) = match place.database.url() {
        Some(url) => (url.to_owned(), None),
        None => {
            let data_dir = &place.data.data_dir;
            if Cluster::locate(data_dir).is_none() {
                bail!(
                    "there is no private PostgreSQL in {}; run `tidegate serve` there once, or give --data-dir or --database-url",
                    data_dir.display()
                );
            }
            let cluster = Cluster::start(&ClusterOptions {
                data_dir: data_dir.clone(),
                run_as: Some(place.database.postgres_user.clone()),
                binaries: place.database.postgres_bin.clone(),
                settings: Vec::new(),
            })
            .await?;
            let url = cluster.url();
            (url, (!cluster.adopted()).then_some(cluster))
        }
    };
    let database = Database::new(&url).context("the database URL cannot be read")?;
    let reached = Reached { database, started };
    if let Err(error) = reached.database.prepare().await {
        reached.finish(Ok(())).await?;
        return Err(error).context("the database cannot be prepared");
    }
    Ok(reached)
}

impl Reached {
    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// The pool for changes of streams' tables.
    pub fn schema_pool(&self) -> &PgPool {
        &self.database.pools().schema
    }

    /// Stops what was started for the command, whatever came of it.
    pub async fn finish<T>(self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        self.database.pools().close().await;
        if let Some(cluster) = self.started {
            cluster.stop().await.context("the private PostgreSQL was not stopped")?;
        }
        result
    }
}

/// Prints the private PostgreSQL's URL.
pub(super) fn print_url(data: &DataDir) -> anyhow::Result<()> {
    let Some(url) = Cluster::locate(&data.data_dir) else {
        bail!(
            "there is no private PostgreSQL in {}; `tidegate serve` makes it",
            data.data_dir.display()
        );
    };
    println!("{url}");
    Ok(())
}
