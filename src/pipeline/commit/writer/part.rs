//! Writing one part of a batch, unless it is of a keyed stream that is not bisected: see [`super::keyed`].

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_codec::Stream;
use tidegate_record::StreamId;

use crate::pipeline::commit::bisect::{PartEnd, TimeBudget};
use crate::pipeline::commit::context::CommitContext;
use crate::pipeline::commit::error::Failure;
use crate::pipeline::commit::plan::{Destination, Part};
use crate::pipeline::commit::transaction::Transaction;
use crate::pipeline::parking::UNKNOWN_STREAM;

/// How a writer writes parts now.
pub(super) struct PartWriter<'a> {
    pub context: &'a CommitContext,
    /// Streams whose parts are bisected.
    pub bisected: &'a HashSet<StreamId>,
    /// Of these, those of which a part went through whole: it need not be bisected any more once that is committed.
    pub recovered: &'a mut Vec<StreamId>,
}

impl PartWriter<'_> {
    pub fn is_bisected(&self, stream: StreamId) -> bool {
        self.bisected.contains(&stream)
    }

    /// Copies a part, unless it is of a keyed stream: that has to wait for its turn.
    pub async fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
    ) -> Result<(), Failure> {
        if let Destination::Unknown(id) = part.destination {
            return self.leave_out_or_park(transaction, part, id).await;
        }
        match part.destination.stream().cloned() {
            Some(stream) if stream.key.is_some() => Ok(()),
            Some(stream) if self.is_bisected(stream.id) => {
                self.bisect(transaction, part, &stream).await
            }
            Some(stream) => {
                transaction.copy(part).await.map_err(|error| Failure::of(&[stream.id], error))
            }
            None => Ok(transaction.copy(part).await?),
        }
    }

    /// Records of a stream that was deleted go with it; those of one that PostgreSQL has forgotten wait for it.
    async fn leave_out_or_park(
        &self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        id: StreamId,
    ) -> Result<(), Failure> {
        let (stream, entries) = (id.0, part.entries.len());
        if transaction.connection.is_deleted(id).await? {
            tracing::warn!(stream, entries, "records of a deleted stream are left out");
        } else {
            tracing::warn!(stream, entries, UNKNOWN_STREAM);
            let parked = self.context.parking.park(id, UNKNOWN_STREAM.to_owned());
            part.destination = Destination::Parked(parked);
        }
        Ok(())
    }

    pub async fn bisect(
        &mut self,
        transaction: &mut Transaction<'_>,
        part: &mut Part,
        stream: &Arc<Stream>,
    ) -> Result<(), Failure> {
        // Bisecting checks constraints at once; what others have left to be checked is no fault of this stream.
        let others = std::mem::take(&mut transaction.unchecked);
        if !others.is_empty() {
            let checked = transaction.connection.check_constraints().await;
            checked.map_err(|error| Failure::of(&others, error))?;
        }
        let budget = TimeBudget::of_part(part, self.context.batch_timeout());
        match transaction.bisect(part, stream, budget).await? {
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
                let parked = self.context.parking.park(stream.id, reason);
                part.destination = Destination::Parked(parked);
            }
        }
        Ok(())
    }
}
