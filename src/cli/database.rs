//! Reaching the database from a command: the one given, or the private PostgreSQL, started for the command if no
//! gateway runs.

use anyhow::{Context, bail};
use tidegate_private_postgres::{Cluster, ClusterOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::place::Place;
use crate::config::DataDir;
use crate::db::Database;
use crate::db::Pool;

/// A database that a command works on, migrated.
pub(super) struct Reached {
    database: Database,
    /// A private PostgreSQL that this command started and stops again.
    started: Option<Cluster>,
}

/// Exit code of a command that was interrupted, as shells have it for Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Does a command's work. Where it is interrupted, by Ctrl-C or TERM, a PostgreSQL that was started for it ends with it.
pub(super) async fn until_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let done = {
        // Dropped here, with what it has started.
        let mut work = Box::pin(work);
        tokio::select! {
            done = &mut work => Some(done),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        }
    };
    // Not by a return: something that still waits for a line of standard input would be waited for.
    done.unwrap_or_else(|| std::process::exit(INTERRUPTED))
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
            (url, (!cluster.adopted()).then(|| cluster.stop_when_dropped()))
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
    pub fn pool(&self) -> &Pool {
        self.database.pool()
    }

    /// The pool for changes of streams' tables.
    pub fn schema_pool(&self) -> &Pool {
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
