//! What a writer knows of streams' tables from batch to batch, and how it writes a batch into them.
//!
//! Parts are written as fast as PostgreSQL takes them, those of streams that are bisected last.

use std::collections::{HashMap, HashSet};

use tidegate_record::StreamId;

use super::keyed::KeyedWriter;
use super::layouts::Layouts;
use super::part::PartWriter;
use crate::db::batch::{BatchConnection, BatchError};
use crate::db::journals::{CommittedRange, EntryShortfall};
use crate::pipeline::commit::batch::{Batch, stream_of};
use crate::pipeline::commit::context::CommitContext;
use crate::pipeline::commit::error::Failure;
use crate::pipeline::commit::lanes::Lanes;
use crate::pipeline::commit::outcome::EntryOutcome;
use crate::pipeline::commit::plan::{Destination, Part, plan};
use crate::pipeline::commit::transaction::{Transaction, day_of};

/// See the module.
pub(super) struct Tables {
    context: CommitContext,
    /// The session's.
    epoch: i64,
    lanes: Lanes,
    /// Partitions that are known to be there.
    partitions: HashSet<(StreamId, time::Date)>,
    layouts: Layouts,
    /// Streams whose parts are bisected: PostgreSQL refused something of them lately, or their table is not what it was.
    bisected: HashSet<StreamId>,
    /// Streams of the batch under way that could not be bisected either, and why: they are parked, and the drainer commits
    /// each by itself.
    given_up: HashMap<StreamId, String>,
}

impl Tables {
    pub fn new(context: CommitContext, epoch: i64, lanes: Lanes) -> Tables {
        let (partitions, layouts) = (HashSet::new(), Layouts::default());
        let (bisected, given_up) = (HashSet::new(), HashMap::new());
        Tables { context, epoch, lanes, partitions, layouts, bisected, given_up }
    }

    /// What to do otherwise at the next try, after PostgreSQL refused something of these streams; false if there is nothing.
    pub fn refused(&mut self, streams: &[StreamId], error: &BatchError) -> bool {
        self.layouts.forget(streams);
        let before = self.bisected.len();
        self.bisected.extend(streams);
        if self.bisected.len() > before {
            return true;
        }
        let before = self.given_up.len();
        let reason = error.refusal().message;
        self.given_up.extend(streams.iter().map(|stream| (*stream, reason.clone())));
        self.given_up.len() > before
    }

    /// One try at the whole batch, in one transaction.
    pub async fn write(
        &mut self,
        connection: &mut BatchConnection,
        batch: &mut Batch,
    ) -> Result<Vec<EntryOutcome>, Failure> {
        let journal = self.context.journal.id();
        let mut parts = self.plan(batch).await;
        self.ensure_partitions(connection, batch, &parts).await?;
        connection.begin(journal, self.epoch).await?;
        let mut transaction = Transaction::new(connection, &batch.entries);
        transaction.leave_out_superseded(&mut parts).await?;
        self.bisected.extend(written_in_turn(&parts));
        self.bisected.extend(self.layouts.fit(transaction.connection, &mut parts).await?);
        self.layouts.forget(&self.bisected);
        let mut recovered = Vec::new();
        let mut writer = PartWriter {
            context: &self.context,
            bisected: &self.bisected,
            recovered: &mut recovered,
        };
        // Those that are bisected come last: their constraints are checked at once, and with them those of all before.
        for bisected in [false, true] {
            let is_now = |part: &&mut Part| {
                let stream = part.destination.stream();
                stream.is_some_and(|stream| self.bisected.contains(&stream.id)) == bisected
            };
            for part in parts.iter_mut().filter(is_now) {
                writer.write(&mut transaction, part).await?;
            }
        }
        let mut keyed = KeyedWriter { writer, lanes: &self.lanes };
        let keyed = keyed.write(&mut transaction, &mut parts, &mut batch.gates).await?;
        for part in &parts {
            if let Destination::Parked(parked) = &part.destination {
                transaction.park(journal, parked.stream(), part).await?;
            }
        }
        transaction.keep_refused().await?;
        transaction.end_replays().await?;
        transaction.commit_cursors().await?;
        self.layouts.check(transaction.connection, &parts, &self.bisected).await?;
        let outcomes = transaction.outcomes;
        self.commit(connection, batch, &parts, &outcomes).await?;
        keyed.committed();
        for part in parts {
            if let Destination::Parked(parked) = part.destination {
                let rows = part.entries.iter().map(|number| batch.entries[*number].header.rows);
                parked.committed(rows.map(u64::from).sum());
            }
        }
        self.bisected.retain(|stream| !recovered.contains(stream));
        self.given_up.clear();
        Ok(outcomes)
    }

    /// Where its entries go. What could not be bisected either is parked.
    async fn plan(&self, batch: &Batch) -> Vec<Part> {
        let parking = &self.context.parking;
        let streams = self.context.streams.snapshot();
        let wanted: HashSet<StreamId> = batch.entries.iter().map(stream_of).collect();
        parking.let_drain(|stream| wanted.contains(&stream)).await;
        let mut parts = plan(&batch.entries, &streams, parking);
        for part in &mut parts {
            let stream = part.destination.stream().map(|stream| stream.id);
            if let Some((id, reason)) = stream.and_then(|id| Some((id, self.given_up.get(&id)?))) {
                part.destination = Destination::Parked(parking.park(id, reason.clone()));
            }
        }
        parts
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
            if stream.retention_days.is_none() || self.bisected.contains(&stream.id) {
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

    async fn commit(
        &self,
        connection: &mut BatchConnection,
        batch: &Batch,
        parts: &[Part],
        outcomes: &[EntryOutcome],
    ) -> Result<(), Failure> {
        let shortfalls = batch.entries.iter().zip(outcomes);
        let shortfalls = shortfalls.map(|(entry, of)| (entry.header.position, of.shortfall()));
        let outcomes = shortfalls.filter(|(_, of)| *of != EntryShortfall::default()).collect();
        let range = CommittedRange { first: batch.first, last: batch.last, outcomes };
        let folding = self.context.progress.take_folding();
        // Constraints that wait for the commit do not say whose rows they are about.
        let written: Vec<StreamId> =
            parts.iter().filter_map(|part| Some(part.destination.stream()?.id)).collect();
        let committed = connection.commit(self.context.journal.id(), &range, folding).await;
        committed.map_err(|error| Failure::of(&written, error))
    }
}

/// Keyed streams of which a batch has several parts, because columns were added meanwhile, or changes: these are written one
/// after the other, and not staged side by side.
fn written_in_turn(parts: &[Part]) -> HashSet<StreamId> {
    let (mut once, mut more) = (HashSet::new(), HashSet::new());
    for part in parts {
        if let Destination::Keyed(stream) = &part.destination
            && (!once.insert(stream.id) || part.has_changes)
        {
            more.insert(stream.id);
        }
    }
    more
}
