//! The cluster as its owner sees it: start, URL, stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_private_file::directory;

use super::binaries::Binaries;
use super::create::create;
use super::error::PostgresError;
use super::log::{LOG_FILE, Log};
use super::place::{CLUSTER_DIRECTORY, ClusterPlace, LOCATION_FILE, is_passed_through};
use super::postmaster::Postmaster;
use super::run_as::RunAs;
use super::settings;

/// The database that every cluster has.
const DATABASE: &str = "tidegate";
/// What the gateway opens by name in the data directory.
const WRITTEN: [&str; 4] = [CLUSTER_DIRECTORY, LOCATION_FILE, LOG_FILE, "postgres.log.1"];
/// What PostgreSQL says while processes of a killed server are still there.
const LEFT_BEHIND: &str = "is still in use";
/// How often a start is tried while processes of a killed server are still there, and the pause between.
const LEFT_BEHIND_TRIES: u32 = 50;
const LEFT_BEHIND_PAUSE: Duration = Duration::from_millis(200);

/// What a private PostgreSQL is made of.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The gateway's data directory; made if missing.
    pub data_dir: PathBuf,
    /// The user who runs a new cluster when the gateway runs as root; `postgres` if None. Ignored otherwise.
    pub run_as: Option<String>,
    /// The directory of `postgres` and `initdb`; looked for if None.
    pub binaries: Option<PathBuf>,
    /// Further PostgreSQL settings. They cannot undo durability or open the network.
    pub settings: Vec<(String, String)>,
}

/// A running private PostgreSQL. Dropping it leaves the server running, unless [`Cluster::stop_when_dropped`] says otherwise;
/// [`Cluster::stop`] ends it.
#[derive(Debug)]
pub struct Cluster {
    recipe: Recipe,
    pub(super) postmaster: Postmaster,
    adopted: bool,
}

impl Cluster {
    /// Makes the cluster if there is none, adopts its server if one runs, starts one otherwise, and waits until it
    /// accepts connections. Cancelling stops a server that was being started.
    pub async fn start(options: &ClusterOptions) -> Result<Cluster, PostgresError> {
        let recipe = Recipe::prepare(options).await?;
        let (postmaster, adopted) = recipe.bring_up().await?;
        tracing::info!(
            pid = postmaster.pid(),
            adopted,
            major = recipe.binaries.major(),
            user = recipe.run_as.name(),
            data = %recipe.place.data().display(),
            "the private PostgreSQL is ready"
        );
        Ok(Cluster { recipe, postmaster, adopted })
    }

    /// The URL of the database `tidegate` of an existing cluster, whether or not it runs.
    pub fn locate(data_dir: &Path) -> Option<String> {
        let place = ClusterPlace::of_existing(data_dir).ok().flatten()?;
        Some(place.url(DATABASE))
    }

    /// The URL of the database `tidegate`, for libpq (`psql`) and sqlx alike.
    pub fn url(&self) -> String {
        self.database_url(DATABASE)
    }

    /// The URL of any database of the cluster, whether or not it exists.
    pub fn database_url(&self, database: &str) -> String {
        self.recipe.place.url(database)
    }

    /// Whether the server was already running.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The process id of the server; another after a restart.
    pub fn pid(&self) -> i32 {
        self.postmaster.pid()
    }

    /// Asks the server to end when this is dropped, as where its owner is interrupted.
    pub fn stop_when_dropped(mut self) -> Cluster {
        self.postmaster.stop_when_dropped();
        self
    }

    /// Fast shutdown: clients are disconnected, a checkpoint is written; if that takes too long, an immediate one,
    /// after which the next start repeats the log. The error says that the server runs on.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        self.postmaster.stop().await
    }

    pub(super) fn log(&self) -> &Log {
        &self.recipe.log
    }

    /// Starts or adopts a server after the last one has died.
    pub(super) async fn revive(&mut self) -> Result<(), PostgresError> {
        (self.postmaster, self.adopted) = self.recipe.bring_up().await?;
        Ok(())
    }
}

/// All that is needed to start the server, again and again.
#[derive(Debug)]
struct Recipe {
    binaries: Binaries,
    run_as: RunAs,
    place: ClusterPlace,
    settings: Vec<(String, String)>,
    log: Log,
}

impl Recipe {
    /// Finds the cluster or makes it.
    async fn prepare(options: &ClusterOptions) -> Result<Recipe, PostgresError> {
        let data_dir = make_data_directory(&options.data_dir)?;
        let named = options.binaries.as_deref();
        let existing = ClusterPlace::of_existing(&data_dir)?;
        let (place, run_as, binaries) = if let Some(place) = existing {
            let data = place.data();
            let run_as = RunAs::for_existing_cluster(&data)?;
            // Its server may be running.
            place.let_in(&run_as)?;
            let major = place.major()?;
            let binaries = Binaries::find(named, Some((&data, major)), &run_as).await?;
            (place, run_as, binaries)
        } else {
            let run_as = RunAs::for_new_cluster(options.run_as.as_deref())?;
            let binaries = Binaries::find(named, None, &run_as).await?;
            let place = ClusterPlace::for_new(&data_dir, &run_as).await?;
            create(&place, &binaries, &run_as).await?;
            (place, run_as, binaries)
        };
        place.remember(&data_dir)?;
        let (settings, log) = (options.settings.clone(), Log::of(&data_dir));
        Ok(Recipe { binaries, run_as, place, settings, log })
    }

    /// A server that accepts connections, and whether it was running before.
    async fn bring_up(&self) -> Result<(Postmaster, bool), PostgresError> {
        if let Some(mut found) = Postmaster::adopt(&self.place).await? {
            match found.ready(&self.log, self.log.end()).await {
                Ok(()) => return Ok((found, true)),
                // It went down meanwhile; then this gateway starts it.
                Err(PostgresError::Ended { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.start_server().await {
                // Processes of a killed server end as soon as they notice; PostgreSQL rightly waits for the last one.
                Err(PostgresError::Ended { tail, .. })
                    if tail.contains(LEFT_BEHIND) && tries < LEFT_BEHIND_TRIES =>
                {
                    tokio::time::sleep(LEFT_BEHIND_PAUSE).await;
                }
                outcome => return Ok((outcome?, false)),
            }
        }
    }

    async fn start_server(&self) -> Result<Postmaster, PostgresError> {
        self.place.prepare(&self.run_as).await?;
        self.log.trim().await;
        let log_begin = self.log.end();
        let data = self.place.data();
        let program = self.binaries.program("postgres");
        let mut command = self.run_as.command(&program);
        command.arg("-D").arg(&data).args(settings::arguments(&self.place, &self.settings));
        let mut postmaster = Postmaster::spawn(&mut command, &data, self.log.open()?)
            .map_err(self.run_as.cannot_run(&program))?;
        postmaster.ready(&self.log, log_begin).await?;
        Ok(postmaster)
    }
}

/// The data directory without symbolic links; made for this user alone if it is missing. Refused if another user could have
/// put something where the gateway is about to write.
fn make_data_directory(data_dir: &Path) -> Result<PathBuf, PostgresError> {
    let data_dir = directory::open(data_dir, is_passed_through(data_dir))?;
    directory::check_entries(&data_dir, &WRITTEN, 0)?;
    Ok(data_dir)
}
