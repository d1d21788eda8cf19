//! A writer: one connection's share of a session. It commits batch after batch, each in one transaction.
//!
//! Parts are written as fast as PostgreSQL takes them. Where it refuses something of a stream, the transaction begins again
//! with this stream under care: see [`super::careful`]. Keyed streams have a way of their own: [`keyed`].

mod keyed;
mod layouts;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_codec::Stream;
use tidegate_record::{Position, StreamId};
use tokio_util::sync::CancellationToken;

use self::layouts::Layouts;
use crate::db::batch::{BatchConnection, BatchError};
use crate::db::journals::{CommittedRange, EntryOutcome, SessionMark};
use crate::db::verdict::Verdict;
use crate::pipeline::CommitOutcome;
use crate::pipeline::aside::{Supply, Work};
use crate::pipeline::batcher::{Batch, stream_of};
use crate::pipeline::careful::{PartEnd, Patience};
use crate::pipeline::lanes::Lanes;
use crate::pipeline::plan::{Destination, Part, plan};
use crate::pipeline::transaction::{Fate, Transaction, day_of};
use crate::pipeline::writers::{SessionError, Writers};
use crate::telemetry::metrics;

/// Why entries of a stream that the catalog does not have are parked.
pub(super) const UNKNOWN_STREAM: &str =
    "the stream is not in the catalog, and PostgreSQL does not know that it was deleted";

/// A part under care may take this share of the time that a batch may take.
pub(super) const CARE_SHARE: u32 = 3;

/// A writer that has nothing to commit looks after its connection this often: a PostgreSQL that was set back while nobody
/// sent is noticed while the journal still has what is missing.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Writer {
    shared: Writers,
    connection: Option<BatchConnection>,
    mark: SessionMark,
    supply: Supply,
    lanes: Lanes,
    /// Partitions that are known to be there.
    partitions: HashSet<(StreamId, time::Date)>,
    layouts: Layouts,
    /// Streams of which PostgreSQL refused something lately, or whose table is not what it was.
    under_care: HashSet<StreamId>,
    /// Of these a part went through whole in the transaction under way: they need no care any more once it is committed.
    recovered: Vec<StreamId>,
    /// Streams of the batch under way that could not be committed with care either, and why: they are parked, and the drainer
    /// commits each by itself.
    given_up: HashMap<StreamId, String>,
}

/// Why a transaction was not committed.
enum Failure {
    /// PostgreSQL refused what was for one of these streams.
    Refused {
        streams: Vec<StreamId>,
        error: BatchError,
    },
    Session(SessionError),
}

impl<E: Into<SessionError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Session(error.into())
    }
}

impl Failure {
    /// Of a statement that wrote into the table of one of these streams.
    fn of(streams: &[StreamId], error: BatchError) -> Failure {
        match error.verdict() {
            Verdict::Retry => Failure::Session(error.into()),
            _ => Failure::Refused { streams: streams.to_vec(), error },
        }
    }
}

impl Writer {
    pub fn new(
        shared: Writers,
        connection: Option<BatchConnection>,
        mark: SessionMark,
        supply: Supply,
        lanes: Lanes,
    ) -> Writer {
        let (partitions, under_care) = (HashSet::new(), HashSet::new());
        let layouts = Layouts::default();
        let (recovered, given_up) = (Vec::new(), HashMap::new());
        Writer {
            shared,
            connection,
            mark,
            supply,
            lanes,
            partitions,
            layouts,
            under_care,
            recovered,
            given_up,
        }
    }

    /// Commits batches until there are no more, or the session ends.
    pub async fn run(mut self, session: CancellationToken) -> Result<(), SessionError> {
        let ends_with_this_writer = session.clone().drop_guard();
        let result = self.commit_batches(&session).await;
        if result.is_ok() {
            // The batcher has ended: the others finish what they hold.
            ends_with_this_writer.disarm();
            if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        }
        result
    }

    async fn commit_batches(&mut self, session: &CancellationToken) -> Result<(), SessionError> {
        loop {
            let next = tokio::time::timeout(IDLE_LOOK_EVERY, self.next_work(session)).await;
            let limit = self.shared.batch_timeout();
            // Giving up half way leaves the connection in doubt; it is dropped with this writer, never used again.
            let done = match next {
                Ok(Some(work)) => tokio::time::timeout(limit, self.commit_work(work)).await,
                Ok(None) => return Ok(()),
                Err(_idle) => tokio::time::timeout(limit, self.look()).await,
            };
            done.map_err(|_elapsed| SessionError::TimedOut(limit))??;
        }
    }

    async fn look(&mut self) -> Result<(), SessionError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        Ok(connection.check(self.shared.context().journal.id(), self.mark).await?)
    }

    async fn next_work(&mut self, session: &CancellationToken) -> Option<Work> {
        tokio::select! {
            work = self.supply.next() => work,
            () = session.cancelled() => None,
        }
    }

    async fn commit_work(&mut self, work: Work) -> Result<(), SessionError> {
        match work {
            Work::Batch(batch) => self.commit(batch).await,
            Work::Aside(batch) => {
                let _held = self.supply.hold(&batch);
                let batch = batch.read(self.shared.context().journal.clone()).await?;
                self.commit(batch).await
            }
        }
    }

    async fn commit(&mut self, mut batch: Batch) -> Result<(), SessionError> {
        let started = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shared.join(self.mark).await?,
        };
        let fates = loop {
            match self.transact(&mut connection, &mut batch).await {
                Ok(fates) => break fates,
                Err(Failure::Session(error)) => return Err(error),
                Err(Failure::Refused { streams, error }) => {
                    self.layouts.forget(&streams);
                    if !self.takes_more_care(streams, &error) {
                        return Err(error.into());
                    }
                    connection.rollback().await?;
                }
            }
        };
        self.connection = Some(connection);
        for stream in self.recovered.drain(..) {
            self.under_care.remove(&stream);
        }
        self.given_up.clear();
        self.shared.settle(&batch.entries, &fates);
        self.shared.committed(batch.first, batch.last, batch.bytes);
        for gate in batch.gates {
            let _ = gate.committed.send(());
        }
        metrics::record_batch(batch.rows, started.elapsed());
        Ok(())
    }

    /// What to do otherwise at the next try, after PostgreSQL refused something of these streams; false if there is nothing.
    fn takes_more_care(&mut self, streams: Vec<StreamId>, error: &BatchError) -> bool {
        let before = self.under_care.len();
        self.under_care.extend(&streams);
        if self.under_care.len() > before {
            return true;
        }
        let before = self.given_up.len();
        let reason = error.refusal().message;
        self.given_up.extend(streams.into_iter().map(|stream| (stream, reason.clone())));
        self.given_up.len() > before
    }

    /// Parks what could not be committed with care either.
    fn park_given_up(&self, parts: &mut [Part]) {
        for part in parts {
            let stream = part.destination.stream().map(|stream| stream.id);
            if let Some((id, reason)) = stream.and_then(|id| Some((id, self.given_up.get(&id)?))) {
                let parked = self.shared.parking().park(id, reason.clone());
                part.destination = Destination::Parked(parked);
            }
        }
    }

    /// One try at the whole batch.
    async fn transact(
        &mut self,
        connection: &mut BatchConnection,
        batch: &mut Batch,
    ) -> Result<Vec<Fate>, Failure> {
        let context = self.shared.context().clone();
        let journal = context.journal.id();
        let streams = context.streams.snapshot();
        let wanted: HashSet<StreamId> = batch.entries.iter().map(stream_of).collect();
        self.shared.parking().let_drain(|stream| wanted.contains(&stream)).await;
        let mut parts = plan(&batch.entries, &streams, self.shared.parking());
        self.recovered.clear();
        self.park_given_up(&mut parts);
        self.ensure_partitions(connection, batch, &parts).await?;
        connection.begin(journal, self.mark.epoch).await?;
        let mut transaction = Transaction::new(connection, &batch.entries);
        transaction.leave_out_superseded(&mut parts).await?;
        self.under_care.extend(written_more_than_once(&parts));
        self.under_care.extend(self.layouts.fit(transaction.connection, &mut parts).await?);
        let careful = self.under_care.clone();
        self.layouts.forget(&careful);
        // Those under care come last: their constraints are checked at once, and with them those of all before.
        for with_care in [false, true] {
            let is_now = |part: &&mut Part| {
                let stream = part.destination.stream();
                stream.is_some_and(|stream| careful.contains(&stream.id)) == with_care
            };
            for part in parts.iter_mut().filter(is_now) {
                self.write(&mut transaction, part, &careful).await?;
            }
        }
        let gates = &mut batch.gates;
        let keyed = self.write_keyed(&mut transaction, &mut parts, gates, &careful).await?;
        for part in &parts {
            if let Destination::Parked(parked) = &part.destination {
                transaction.park(journal, parked.stream(), part).await?;
            }
        }
        transaction.keep_refused().await?;
        transaction.end_replays().await?;
        transaction.commit_cursors().await?;
        self.layouts.check(transaction.connection, &parts, &careful).await?;
        let fates = transaction.fates;
        let range = CommittedRange {
            first: batch.first,
            last: batch.last,
            outcomes: outcomes_by_position(batch, &fates),
        };
        let folding = context.progress.take_folding();
        // Constraints that wait for the commit do not say whose rows they are about.
        let written: Vec<StreamId> =
            parts.iter().filter_map(|part| Some(part.destination.stream()?.id)).collect();
        connection
            .commit(journal, &range, folding)
            .await
            .map_err(|error| Failure::of(&written, error))?;
        keyed.committed();
        for part in parts {
            if let Destination::Parked(parked) = part.destination {
                let rows = part.entries.iter().map(|number| batch.entries[*number].header.rows);
                parked.committed(rows.map(u64::from).sum());
            }
        }
        Ok(fates)
    }

    /// Copies a part, unless it is of a keyed stream.
    async fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        careful: &HashSet<StreamId>,
    ) -> Result<(), Failure> {
        if let Destination::Unknown(id) = part.destination {
            return self.leave_out_or_park(transaction, part, id).await;
        }
        let stream = part.destination.stream().cloned();
        match stream {
            // It has to wait for its turn.
            Some(stream) if stream.key.is_some() => Ok(()),
            Some(stream) if careful.contains(&stream.id) => {
                self.write_carefully(transaction, part, &stream).await
            }
            Some(stream) => {
                transaction.copy(part).await.map_err(|error| Failure::of(&[stream.id], error))
            }
            None => Ok(transaction.copy(part).await?),
        }
    }

    /// Records of a stream that was deleted go with it; those of one that PostgreSQL has forgotten wait for it.
    async fn leave_out_or_park(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        id: StreamId,
    ) -> Result<(), Failure> {
        let (stream, entries) = (id.0, part.entries.len());
        if transaction.connection.is_deleted(id).await? {
            tracing::warn!(stream, entries, "records of a deleted stream are left out");
        } else {
            tracing::warn!(stream, entries, UNKNOWN_STREAM);
            let parked = self.shared.parking().park(id, UNKNOWN_STREAM.to_owned());
            part.destination = Destination::Parked(parked);
        }
        Ok(())
    }

    async fn write_carefully(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        stream: &Arc<Stream>,
    ) -> Result<(), Failure> {
        // Under care constraints are checked at once; what others have left to be checked is no fault of this stream.
        let others = std::mem::take(&mut transaction.unchecked);
        if !others.is_empty() {
            let checked = transaction.connection.check_constraints().await;
            checked.map_err(|error| Failure::of(&others, error))?;
        }
        let until = Instant::now() + self.shared.batch_timeout() / CARE_SHARE;
        let patience = Patience { until, keeps_part: false };
        match transaction.write_carefully(part, stream, patience).await? {
            PartEnd::Partly { .. } => unreachable!("a part that is not kept ends as stuck"),
            PartEnd::Written { refused: 0 } => self.recovered.push(stream.id),
            PartEnd::Written { refused } => {
                tracing::warn!(stream = %stream.name, refused, "PostgreSQL refused records; they are in the quarantine");
            }
            PartEnd::Stuck { reason } => {
                tracing::warn!(
                    stream = %stream.name,
                    reason,
                    "the stream's table cannot be written; its records are parked until it can"
                );
                self.recovered.push(stream.id);
                let parked = self.shared.parking().park(stream.id, reason);
                part.destination = Destination::Parked(parked);
            }
        }
        Ok(())
    }

    async fn ensure_partitions(
        &mut self,
        connection: &mut BatchConnection,
        batch: &Batch,
        parts: &[Part],
    ) -> Result<(), Failure> {
        for part in parts {
            let Destination::Table(stream) = &part.destination else {
                continue;
            };
            if stream.retention_days.is_none() || self.under_care.contains(&stream.id) {
                continue;
            }
            for number in &part.entries {
                let day = day_of(batch.entries[*number].header.received_at);
                if self.partitions.insert((stream.id, day)) {
                    let made = connection.ensure_partition(stream, day).await;
                    made.map_err(|error| {
                        self.partitions.remove(&(stream.id, day));
                        Failure::of(&[stream.id], error)
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Keyed streams of which a batch has several parts, because columns were added meanwhile: these are merged one after the
/// other, and not staged side by side.
fn written_more_than_once(parts: &[Part]) -> HashSet<StreamId> {
    let (mut once, mut more) = (HashSet::new(), HashSet::new());
    for part in parts {
        if let Destination::Keyed(stream) = &part.destination
            && !once.insert(stream.id)
        {
            more.insert(stream.id);
        }
    }
    more
}

/// What a later session must know of entries of which not all records made a row.
fn outcomes_by_position(batch: &Batch, fates: &[Fate]) -> BTreeMap<Position, EntryOutcome> {
    let told = |fate: &Fate| match *fate {
        Fate::Parked => EntryOutcome { parked: true, ..EntryOutcome::default() },
        Fate::Settled(CommitOutcome { duplicates, refused, .. }) => {
            EntryOutcome { duplicates, refused, parked: false }
        }
    };
    let outcomes = batch.entries.iter().zip(fates.iter().map(told));
    outcomes
        .filter(|(_, outcome)| *outcome != EntryOutcome::default())
        .map(|(entry, outcome)| (entry.header.position, outcome))
        .collect()
}
