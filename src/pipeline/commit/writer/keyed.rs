//! Keyed streams: copied straight into their tables, and where a key is taken, staged and merged.
//!
//! Invariant: of equal keys the oldest stays, or the newest, by the order of the journal. A batch's rows may be in the
//! table before those of the batch before, but they are committed after them; and as long as they are there, no
//! other transaction can bring in an equal key. A writer that meets one goes back, and merges in its turn.

use std::sync::Arc;

use tidegate_codec::{Key, Stream};
use tidegate_record::StreamId;
use tokio::sync::oneshot;

use super::part::PartWriter;
use crate::pipeline::commit::batch::Gate;
use crate::pipeline::commit::error::{Failure, SessionError};
use crate::pipeline::commit::lanes::{Direct, Lanes, Merging, Obstacle};
use crate::pipeline::commit::plan::{Destination, Part};
use crate::pipeline::commit::transaction::Transaction;
use crate::telemetry::metrics;

/// How keyed parts were written; kept until the transaction is over, so that others know of it.
#[derive(Debug, Default)]
pub(super) struct KeyedParts {
    direct: Option<Direct>,
    merging: Vec<Merging>,
    direct_parts: u64,
    staged_parts: u64,
}

impl KeyedParts {
    /// The transaction is committed.
    pub fn committed(self) {
        metrics::count_keyed_parts(self.direct_parts, self.staged_parts);
    }
}

/// Writes the keyed parts of a batch.
pub(super) struct KeyedWriter<'a> {
    /// For those that are bisected.
    pub writer: PartWriter<'a>,
    pub lanes: &'a Lanes,
}

impl KeyedWriter<'_> {
    /// Brings every keyed part into its table, in its turn.
    pub async fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        parts: &mut [Part],
        gates: &mut [Gate],
    ) -> Result<KeyedParts, Failure> {
        let is_whole = |part: &Part| {
            let (stream, _) = keyed(part)?;
            (!self.writer.is_bisected(stream.id)).then_some(stream.id)
        };
        let copied_as_they_are = parts.iter().filter(|part| part.fit.is_exact());
        let wanted: Vec<StreamId> = copied_as_they_are.filter_map(is_whole).collect();
        let mut direct = Some(self.lanes.enter(&wanted)).filter(|direct| !direct.is_empty());
        let is_direct = |direct: &Option<Direct>, part: &Part| {
            let stream = part.destination.stream();
            stream.zip(direct.as_ref()).is_some_and(|(stream, direct)| direct.has(stream.id))
        };
        for part in parts.iter().filter(|part| is_whole(part).is_some()) {
            if !is_direct(&direct, part) {
                stage(transaction, part).await?;
            }
        }
        if let Some(tried) = &direct
            && !self.write_directly(transaction, parts, tried, gates).await?
        {
            transaction.connection.undo_direct().await?;
            for part in parts.iter().filter(|part| is_direct(&direct, part)) {
                stage(transaction, part).await?;
            }
            direct = None;
        }
        let mut written = KeyedParts::default();
        for part in parts {
            if is_direct(&direct, part) {
                written.direct_parts += 1;
            } else if let Some(merging) = self.merge(transaction, part, gates).await? {
                written.staged_parts += 1;
                written.merging.push(merging);
            }
        }
        written.direct = direct;
        Ok(written)
    }

    /// Copies parts before their turn, and waits for it. False if they cannot stay: a key is taken, or a writer whose turn
    /// is earlier wants to merge.
    async fn write_directly(
        &self,
        transaction: &mut Transaction<'_>,
        parts: &[Part],
        direct: &Direct,
        gates: &mut [Gate],
    ) -> Result<bool, Failure> {
        transaction.connection.begin_direct().await?;
        for part in parts {
            let Some((stream, key)) = keyed(part) else { continue };
            if !direct.has(stream.id) {
                continue;
            }
            let obstacle = match transaction.copy_direct(part, stream, key).await {
                Ok(true) => continue,
                Ok(false) => Obstacle::Other,
                Err(error) if error.is_key_taken() => Obstacle::KeyTaken,
                Err(error) if error.lets_merge() => Obstacle::Other,
                Err(error) => return Err(Failure::of(&[stream.id], error)),
            };
            direct.was_in_vain(stream.id, obstacle);
            return Ok(false);
        }
        transaction.connection.end_direct().await?;
        for gate in gates.iter_mut().filter(|gate| direct.has(gate.stream)) {
            tokio::select! {
                biased;
                () = direct.is_in_the_way() => return Ok(false),
                turn = turn_of(&mut gate.earlier) => turn?,
            }
            // What is older waits already, so this must come after it.
            if self.writer.context.parking.is_parked(gate.stream) {
                return Ok(false);
            }
        }
        direct.went_well();
        Ok(true)
    }

    /// Merges a keyed part after the same stream's part of the batch before.
    async fn merge(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        gates: &mut [Gate],
    ) -> Result<Option<Merging>, Failure> {
        let Destination::Keyed(stream) = &part.destination else {
            return Ok(None);
        };
        let stream = Arc::clone(stream);
        let Some(key) = &stream.key else { return Ok(None) };
        if let Some(gate) = gates.iter_mut().find(|gate| gate.stream == stream.id) {
            turn_of(&mut gate.earlier).await?;
        }
        // What is older waits already, so this must come after it.
        if let Some(parked) = self.writer.context.parking.join(stream.id) {
            part.destination = Destination::Parked(parked);
            return Ok(None);
        }
        let merging = self.lanes.merge(stream.id).await;
        if self.writer.is_bisected(stream.id) {
            self.writer.bisect(transaction, part, &stream).await?;
        } else {
            let merged = transaction.merge(part, &stream, key).await;
            let duplicates = merged.map_err(|error| Failure::of(&[stream.id], error))?;
            if duplicates == 0 {
                self.lanes.found_new_keys(stream.id);
            }
        }
        Ok(Some(merging))
    }
}

/// The stream of a keyed part, and its key.
fn keyed(part: &Part) -> Option<(&Arc<Stream>, &Key)> {
    match &part.destination {
        Destination::Keyed(stream) => Some((stream, stream.key.as_ref()?)),
        _ => None,
    }
}

/// Copies a part into its staging table.
async fn stage(transaction: &mut Transaction<'_>, part: &Part) -> Result<(), Failure> {
    let streams: Vec<StreamId> =
        part.destination.stream().map(|stream| stream.id).into_iter().collect();
    transaction.copy(part).await.map_err(|error| Failure::of(&streams, error))
}

/// Waits until the batch before is committed.
async fn turn_of(earlier: &mut Option<oneshot::Receiver<()>>) -> Result<(), SessionError> {
    if let Some(receiver) = earlier {
        receiver.await.map_err(|_| SessionError::EarlierBatchFailed)?;
        *earlier = None;
    }
    Ok(())
}
