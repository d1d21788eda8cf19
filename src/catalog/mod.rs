//! The catalog of streams: PostgreSQL has the truth, memory has the copy that the hot path uses, and a private file
//! mirrors it, so that ingest goes on, and even starts, while PostgreSQL is away.

mod mirror;
mod partitions;
mod user_locks;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_codec::{Stream, StreamName, Streams, StreamsSnapshot};
use tidegate_record::StreamId;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::db::notifications::{CatalogListener, Word};
use crate::db::streams::{self, NewStream, StreamLimits, TableError, TooManyStreams};
use crate::db::{self, Database, answered};
use crate::telemetry::limits;

pub use mirror::Mirror;
pub use partitions::{LOOK_AT_PARTITIONS_EVERY, PartitionsBehind};
use user_locks::UserLocks;

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
    partitions: partitions::Upkeep,
    limits: StreamLimits,
    /// How many streams each user made, as of the last look.
    made_by: Arc<ArcSwap<HashMap<i64, usize>>>,
    user_locks: UserLocks,
}

impl Catalog {
    /// Begins with what the mirror holds; [`Catalog::refresh`] brings the truth.
    pub fn open(database: Database, data_dir: &Path, limits: StreamLimits) -> Catalog {
        let mirror = Mirror::new(data_dir.join(MIRROR_FILE));
        let streams = Streams::default();
        streams.replace(StreamsSnapshot::new(mirror.load().unwrap_or_default()));
        let (mirror, partitions) = (Arc::new(Mutex::new(mirror)), partitions::Upkeep::default());
        let (made_by, user_locks) = (Arc::default(), UserLocks::default());
        Catalog { database, streams, mirror, partitions, limits, made_by, user_locks }
    }

    /// The snapshot that lookups use.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Reads the truth and puts it in place. One at a time, so that an older reading never replaces a newer one.
    pub async fn refresh(&self) -> Result<(), db::Error> {
        let mut mirror = self.mirror.lock().await;
        let mut list = answered(streams::list(self.database.pool())).await?;
        if let Some(unmade) = answered(self.restore_forgotten(&list)).await? {
            list = answered(streams::list(self.database.pool())).await?;
            list.retain(|stream| unmade.iter().all(|unmade| unmade.id != stream.id));
            list.extend(unmade);
        }
        let counts = answered(streams::counts_by_maker(self.database.pool())).await?;
        let counts = counts.into_iter();
        let counts = counts.map(|(user, count)| (user, usize::try_from(count).unwrap_or_default()));
        self.made_by.store(Arc::new(counts.collect()));
        mirror.save(&list).await;
        self.streams.replace(StreamsSnapshot::new(list));
        Ok(())
    }

    /// Makes again what a database that was set back has forgotten: streams, columns that were added, and wider types.
    /// `Some` if there was something: the streams that could not be made now what they were. They stay known as that: the
    /// journal may have records that only this tells how to read.
    async fn restore_forgotten(&self, list: &[Stream]) -> Result<Option<Vec<Stream>>, db::Error> {
        let known = self.streams.snapshot();
        let listed: HashMap<StreamId, &Stream> =
            list.iter().map(|stream| (stream.id, stream)).collect();
        let unlisted: Vec<StreamId> =
            known.iter().map(|stream| stream.id).filter(|id| !listed.contains_key(id)).collect();
        let (mut restored, mut unmade) = (false, Vec::new());
        if !unlisted.is_empty() {
            let pool = &self.database.pools().schema;
            for id in streams::forgotten(pool, &unlisted).await? {
                let Some(stream) = known.by_id(id) else { continue };
                // The records of one that cannot be made are parked, and hold up no other stream.
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
                let made = streams::update(&self.database.pools().schema, found, stream).await;
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
        let created = self.create_within_limits(new).await;
        if let Err(TableError::TooMany(_)) = &created {
            limits::STREAMS.hit();
        }
        created
    }

    /// Makes a stream and its table, or finds the one of this name that was made at the same moment. `None`: that one is gone
    /// again.
    pub async fn create_or_find(&self, new: &NewStream) -> Result<Option<Arc<Stream>>, TableError> {
        match self.create(new).await? {
            Some(made) => Ok(Some(made)),
            None => Ok(self.streams.by_name(&new.name)),
        }
    }

    async fn create_within_limits(
        &self,
        new: &NewStream,
    ) -> Result<Option<Arc<Stream>>, TableError> {
        self.check_known(new)?;
        let _guard = self.user_locks.lock(new.created_by).await;
        self.check_known(new)?;
        // A database that was set back must remember its streams before it gives their numbers to new ones.
        self.refresh().await?;
        let pool = &self.database.pools().schema;
        let creating = Box::pin(streams::create(pool, new, self.limits));
        let created = self.changed(&new.name, creating).await?;
        Ok(created.map(Arc::new))
    }

    /// Refuses by what is known here, so that a user who goes on asking at a limit costs PostgreSQL nothing. The transaction
    /// that makes the stream counts exactly.
    fn check_known(&self, new: &NewStream) -> Result<(), TooManyStreams> {
        let known = self.streams.snapshot();
        if known.by_name(&new.name).is_some() {
            return Ok(());
        }
        let own = new.created_by.and_then(|user| self.made_by.load().get(&user).copied());
        let own = own.map_or(0, |count| count.saturating_add(1));
        self.limits.check(known.len().saturating_add(1), own)
    }

    /// Changes a stream from what it was `before`. `None` if it changed or went in the meantime.
    pub async fn update(
        &self,
        before: &Stream,
        after: &Stream,
    ) -> Result<Option<Arc<Stream>>, TableError> {
        let pool = &self.database.pools().schema;
        let updating = Box::pin(streams::update(pool, before, after));
        let updated = self.changed(&after.name, updating).await?;
        Ok(updated.map(Arc::new))
    }

    /// Drops a stream with its table; false if it was gone.
    pub async fn delete(&self, stream: &Stream) -> Result<bool, TableError> {
        let pool = &self.database.pools().schema;
        self.changed(&stream.name, Box::pin(streams::delete(pool, stream))).await
    }

    /// What came of a change, once it is known here. What is done is not told as a failure because it could not be read
    /// back: the next look finds it.
    async fn changed<T>(
        &self,
        stream: &StreamName,
        change: impl Future<Output = Result<T, TableError>>,
    ) -> Result<T, TableError> {
        match answered(change).await {
            Ok(done) => {
                if let Err(error) = self.refresh().await {
                    tracing::warn!(%stream, %error, "the stream is changed, but the catalog could not be read back");
                }
                Ok(done)
            }
            Err(error) => {
                let pool = &self.database.pools().reading;
                Err(Box::pin(error.naming_holders(pool, stream)).await)
            }
        }
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
    /// When to look without word.
    look_at: Instant,
    /// It could not listen, and has said so.
    is_deaf: bool,
}

impl Changes {
    /// `changed_here` is told of changes that this node made.
    pub fn new(database: Database, changed_here: Arc<Notify>) -> Changes {
        let look_at = Instant::now() + LOOK_EVERY;
        Changes { database, changed_here, listener: None, look_at, is_deaf: false }
    }

    /// Waits until this node or another says that something changed, at most [`LOOK_EVERY`]: what it was.
    pub async fn wait(&mut self) -> Word {
        if self.listener.is_none() {
            self.listen().await;
        }
        let said = async {
            match &mut self.listener {
                Some(listener) => listener.changed().await,
                None => std::future::pending().await,
            }
        };
        let said = tokio::select! {
            said = said => said,
            () = self.changed_here.notified() => Ok(Word::Catalog),
            () = tokio::time::sleep_until(self.look_at) => Ok(Word::Catalog),
        };
        let word = said.unwrap_or_else(|_| {
            self.listener = None;
            Word::Catalog
        });
        if word == Word::Catalog {
            self.look_at = Instant::now() + LOOK_EVERY;
        }
        word
    }

    /// Without word from others their changes are found all the same, later.
    async fn listen(&mut self) {
        match CatalogListener::open(&self.database).await {
            Ok(listener) => (self.listener, self.is_deaf) = (Some(listener), false),
            Err(error) => {
                if !self.is_deaf {
                    let every = LOOK_EVERY;
                    tracing::warn!(%error, ?every, "no word of changes arrives; looking for them instead");
                }
                self.is_deaf = true;
            }
        }
    }
}
