//! The catalog of streams: PostgreSQL has the truth, memory has the copy that the hot path uses, and a private file
//! mirrors it, so that ingest goes on, and even starts, while PostgreSQL is away.

mod mirror;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use crate::db::notifications::CatalogListener;
use crate::db::streams::{self, NewStream, TableError};
use crate::db::{Database, answered};
use crate::record::StreamId;
use crate::streams::{Stream, Streams, StreamsSnapshot};

pub use mirror::Mirror;

/// The truth is looked at this often, whether or not a node said that something changed.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Name of the mirror in the data directory.
const MIRROR_FILE: &str = "streams.json";

/// The catalog; clones are the same.
#[derive(Debug, Clone)]
pub struct Catalog {
    database: Database,
    streams: Streams,
    mirror: Arc<Mutex<Mirror<Vec<Stream>>>>,
}

impl Catalog {
    /// Begins with what the mirror holds; [`Catalog::refresh`] brings the truth.
    pub fn open(database: Database, data_dir: &Path) -> Catalog {
        let mirror = Mirror::new(data_dir.join(MIRROR_FILE));
        let streams = Streams::default();
        streams.replace(StreamsSnapshot::new(mirror.load().unwrap_or_default()));
        Catalog { database, streams, mirror: Arc::new(Mutex::new(mirror)) }
    }

    /// The snapshot that lookups use.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Reads the truth and puts it in place. One at a time, so that an older reading never replaces a newer one.
    pub async fn refresh(&self) -> Result<(), sqlx::Error> {
        let mut mirror = self.mirror.lock().await;
        let mut list = answered(streams::list(self.database.pool())).await?;
        if let Some(unmade) = answered(self.restore_forgotten(&list)).await? {
            list = answered(streams::list(self.database.pool())).await?;
            list.retain(|stream| unmade.iter().all(|unmade| unmade.id != stream.id));
            list.extend(unmade);
        }
        mirror.save(&list).await;
        self.streams.replace(StreamsSnapshot::new(list));
        Ok(())
    }

    /// Makes again what a database that was set back has forgotten: streams, columns that were added, and wider types.
    /// `Some` if there was something: the streams that could not be made now what they were. They stay known as that: the
    /// journal may have records that only this tells how to read.
    async fn restore_forgotten(&self, list: &[Stream]) -> Result<Option<Vec<Stream>>, sqlx::Error> {
        let known = self.streams.snapshot();
        let listed: HashMap<StreamId, &Stream> =
            list.iter().map(|stream| (stream.id, stream)).collect();
        let unlisted: Vec<StreamId> =
            known.iter().map(|stream| stream.id).filter(|id| !listed.contains_key(id)).collect();
        let (mut restored, mut unmade) = (false, Vec::new());
        if !unlisted.is_empty() {
            let pool = self.database.pool();
            for id in streams::forgotten(pool, &unlisted).await? {
                let Some(stream) = known.by_id(id) else { continue };
                // The records of one that cannot be made are parked, and hold up nobody else.
                let made = streams::restore(pool, stream).await;
                restored = true;
                if made.is_err() {
                    unmade.push(Stream::clone(stream));
                }
                tracing::error!(stream = %stream.name, ?made, "PostgreSQL was set back and had forgotten this stream");
            }
        }
        for stream in known.iter() {
            let Some(found) = listed.get(&stream.id) else { continue };
            if stream.grew_from(found) {
                let made = streams::update(self.database.pool(), found, stream).await;
                restored = true;
                if made.is_err() {
                    unmade.push(Stream::clone(stream));
                }
                let error = made.err();
                tracing::error!(stream = %stream.name, ?error, "PostgreSQL was set back and had forgotten columns of this stream");
            }
        }
        Ok(restored.then_some(unmade))
    }

    /// Makes a stream and its table; `None` if the name is taken.
    pub async fn create(&self, new: &NewStream) -> Result<Option<Arc<Stream>>, TableError> {
        // A database that was set back must remember its streams before it gives their numbers to new ones.
        self.refresh().await?;
        let created = streams::create(self.database.pool(), new).await?;
        self.refresh().await?;
        Ok(created.map(Arc::new))
    }

    /// Changes a stream from what it was `before`. `None` if it changed or went in the meantime.
    pub async fn update(
        &self,
        before: &Stream,
        after: &Stream,
    ) -> Result<Option<Arc<Stream>>, TableError> {
        let updated = streams::update(self.database.pool(), before, after).await?;
        self.refresh().await?;
        Ok(updated.map(Arc::new))
    }

    /// Drops a stream with its table; false if it was gone.
    pub async fn delete(&self, stream: &Stream) -> Result<bool, sqlx::Error> {
        let deleted = streams::delete(self.database.pool(), stream).await?;
        self.refresh().await?;
        Ok(deleted)
    }

    /// Makes partitions ahead and drops those whose days are over, for every stream with retention.
    pub async fn maintain_partitions(&self, today: time::Date) -> Result<(), sqlx::Error> {
        let snapshot = self.streams.snapshot();
        for stream in snapshot.iter().filter(|stream| stream.retention_days.is_some()) {
            let dropped = streams::maintain_partitions(self.database.pool(), stream, today).await?;
            if dropped > 0 {
                tracing::info!(stream = %stream.name, dropped, "partitions beyond retention dropped");
            }
        }
        Ok(())
    }
}

/// The streams that the mirror in a data directory knows, for who looks into the directory without PostgreSQL.
pub fn mirrored_streams(data_dir: &Path) -> Option<Vec<Stream>> {
    Mirror::new(data_dir.join(MIRROR_FILE)).load()
}

/// When to look at the truth again.
#[derive(Debug)]
pub struct Changes {
    database: Database,
    changed_here: Arc<Notify>,
    listener: Option<CatalogListener>,
}

impl Changes {
    /// `changed_here` is told of changes that this node made.
    pub fn new(database: Database, changed_here: Arc<Notify>) -> Changes {
        Changes { database, changed_here, listener: None }
    }

    /// Waits until this node or another says that something changed, at most [`LOOK_EVERY`].
    pub async fn wait(&mut self) {
        if self.listener.is_none() {
            self.listener = CatalogListener::open(&self.database).await.ok();
        }
        let said = async {
            match &mut self.listener {
                Some(listener) => listener.changed().await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            said = said => said.is_err(),
            () = self.changed_here.notified() => false,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        if lost {
            self.listener = None;
        }
    }
}
