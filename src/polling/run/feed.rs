//! A run's way into the journal: what it has not seen becomes records, each entry with the seen items that they are of.
//!
//! Invariant: from the moment an item is looked up in the memory until its commit, no other run changes what the job has
//! seen: only the job's latest run can. So an item makes a record exactly if it is new or has changed.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use tidegate_codec::Stream;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::{JsonStep, RecordEncoder, RecordError, RecordErrorCode};
use tidegate_codec::formats::{RecordPlace, RecordSink};
use tidegate_record::{ItemHash, Position, RunId, SEEN_ITEMS_MAX, SeenItem, SeenItems, Source};
use tokio_util::sync::CancellationToken;

use super::memory::Memory;
use crate::db;
use crate::ingest::{Assembler, Keeping, NotKept, Origin};
use crate::pipeline::{CommitWait, IntakeError, RequestRefusal, SenderId, Share, Submission};
use crate::polling::ask::Item;
use crate::polling::context::PollingContext;

/// First bytes of a refused item that are kept.
const RAW_BYTES_MAX: usize = 64 << 10;

/// What a run met so far. What became of all the others is counted where they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedCounts {
    pub items: u64,
    /// Seen before, just as they are.
    pub duplicates: u64,
}

/// Why items cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error("the stream cannot take records: {0}")]
    Stream(String),
    #[error("it was ended while it waited")]
    Ended,
}

/// One run's feed.
pub(super) struct Feed {
    context: PollingContext,
    run: RunId,
    sender: SenderId,
    stream: Arc<Stream>,
    encoder: RecordEncoder,
    assembler: Assembler,
    /// Of what is gathered: the items that were encoded and those that were refused.
    good: Vec<SeenItem>,
    refused: Vec<SeenItem>,
    /// What this run has sent or gathered. Before its commit the memory does not have it.
    sent: HashMap<ItemHash, ItemHash>,
    /// End of the last entry that is not known to be committed.
    uncommitted: Option<Position>,
    /// While it is there the batch is cut at once.
    hurry: Option<CommitWait>,
    /// Ends a wait for the commit: the run is superseded.
    ended: CancellationToken,
    counts: FeedCounts,
}

/// What became of an item that is new or has changed.
enum ItemOutcome {
    Good,
    /// Refused, and in the quarantine.
    Kept,
    /// Refused, and the quarantine does not keep it.
    NotKept,
}

impl Feed {
    /// `owner`: name and number of the user whose job it is.
    pub fn new(
        context: &PollingContext,
        run: RunId,
        owner: (Arc<str>, Option<i64>),
        stream: Arc<Stream>,
        ended: CancellationToken,
    ) -> Result<Feed, FeedError> {
        let taken = context.encoders.take(&stream);
        let encoder = taken.map_err(|error| FeedError::Stream(error.to_string()))?;
        let origin = Origin {
            stream: Arc::clone(&stream),
            source: Source::Poll,
            user: owner.0,
            received_at: context.clock.now(),
            one_entry: false,
            csv: CsvOptions::default(),
            replays: None,
            has_changes: false,
        };
        let keeping = Keeping::new(&context.quarantine, stream.id, None);
        Ok(Feed {
            context: context.clone(),
            run,
            sender: owner.1.map_or(SenderId::Local, SenderId::User),
            assembler: Assembler::new(origin, encoder.column_set(), Some(keeping)),
            encoder,
            stream,
            good: Vec::new(),
            refused: Vec::new(),
            sent: HashMap::new(),
            uncommitted: None,
            hurry: None,
            ended,
            counts: FeedCounts::default(),
        })
    }

    pub fn counts(&self) -> FeedCounts {
        self.counts
    }

    /// Counts items that the run met before, just as they are.
    pub fn add_duplicates(&mut self, duplicates: u64) {
        self.counts.items += duplicates;
        self.counts.duplicates += duplicates;
    }

    /// Of these items those that the job has seen, with their content then. Dropping it half way loses nothing.
    pub async fn look_up(&self, items: &[Item]) -> Result<HashMap<ItemHash, ItemHash>, FeedError> {
        let keys: Vec<ItemHash> = items.iter().map(|item| ItemHash(item.key)).collect();
        Ok(self.memory().look_up(&keys).await?)
    }

    /// Takes items as far as they are new or changed; `seen` is what [`Feed::look_up`] found. To be waited for to its end.
    pub async fn take(
        &mut self,
        items: &[Item],
        seen: &HashMap<ItemHash, ItemHash>,
    ) -> Result<(), FeedError> {
        for item in items {
            self.take_item(item, seen).await?;
        }
        Ok(())
    }

    fn memory(&self) -> Memory<'_> {
        Memory::new(&self.context.pool, self.context.limits.memory, self.run.job)
    }

    async fn take_item(
        &mut self,
        item: &Item,
        seen: &HashMap<ItemHash, ItemHash>,
    ) -> Result<(), FeedError> {
        let (key, content) = (ItemHash(item.key), ItemHash(item.content));
        self.counts.items += 1;
        let before = self.sent.get(&key).or_else(|| seen.get(&key)).copied();
        if before == Some(content) {
            self.counts.duplicates += 1;
            return Ok(());
        }
        // Refused items have an entry of their own, before the good ones: versions must not change places.
        let follows_gathered = before.is_some() && self.has_gathered(key);
        if follows_gathered || self.is_full() {
            self.flush().await?;
        }
        let gathered = match self.encode(&item.json) {
            ItemOutcome::Good => &mut self.good,
            ItemOutcome::Kept => &mut self.refused,
            // It is not remembered either, so that it is looked at again.
            ItemOutcome::NotKept => return Ok(()),
        };
        gathered.push(SeenItem { key, content, is_changed: before.is_some() });
        self.sent.insert(key, content);
        Ok(())
    }

    /// Makes an item a record, or keeps it in the quarantine.
    fn encode(&mut self, json: &[u8]) -> ItemOutcome {
        let prefix = self.assembler.prefix();
        let step = self.encoder.encode_json(json, true, prefix, self.assembler.buffer());
        let error = match step {
            JsonStep::Encoded { .. } => {
                self.assembler.encoded(self.encoder.members());
                return ItemOutcome::Good;
            }
            JsonStep::Refused { error, .. } => error,
            JsonStep::Incomplete => {
                RecordError::new(RecordErrorCode::InvalidJson, "the item is not whole")
            }
            JsonStep::Malformed { message, .. } => {
                RecordError::new(RecordErrorCode::InvalidJson, message)
            }
        };
        let place = RecordPlace { record: self.counts.items, line: None };
        let kept = &json[..json.len().min(RAW_BYTES_MAX)];
        let before = self.assembler.quarantined();
        RecordSink::refused(&mut self.assembler, place, error, kept, kept.len() < json.len());
        if self.assembler.quarantined() > before { ItemOutcome::Kept } else { ItemOutcome::NotKept }
    }

    fn has_gathered(&self, key: ItemHash) -> bool {
        self.good.iter().chain(&self.refused).any(|item| item.key == key)
    }

    fn is_full(&self) -> bool {
        let items_max = SEEN_ITEMS_MAX;
        self.good.len() >= items_max || self.refused.len() >= items_max || self.assembler.is_full()
    }

    /// Hands on what is gathered; returns when it is durable.
    pub async fn flush(&mut self) -> Result<(), FeedError> {
        let of_run = |seen: &mut Vec<SeenItem>| SeenItems { run: self.run, seen: mem::take(seen) };
        let (good, refused) = (of_run(&mut self.good), of_run(&mut self.refused));
        let Some(assembled) = self.assembler.take_polled(good, refused) else { return Ok(()) };
        let intake = &self.context.intake;
        let permit = intake.reserve(self.sender, assembled.bytes()).await?;
        if assembled.is_costly {
            intake.make_way_for_costly().await?;
        }
        if assembled.rows > 0 {
            self.hurry = Some(intake.wait_for_commit(assembled.first_id));
        }
        let share = Share {
            entries: assembled.entries.len(),
            counters: self.context.counters.of(self.stream.id),
            kept: assembled.kept,
        };
        let submission = Submission {
            entries: assembled.entries,
            share,
            other_shares: Vec::new(),
            source: Source::Poll,
            claim: None,
            request: RequestRefusal::default(),
        };
        let pending = intake.submit(submission, permit).await?;
        self.uncommitted = Some(intake.durable(pending).await?.end);
        Ok(())
    }

    /// Waits until everything that was handed on is committed, in its table or parked; over an outage of PostgreSQL, too,
    /// because a run that followed this one would have these entries left out.
    pub async fn committed(&mut self) -> Result<(), FeedError> {
        let Some(end) = self.uncommitted else { return Ok(()) };
        let mut low_water = self.context.committed.subscribe();
        tokio::select! {
            reached = low_water.wait_for(|low_water| *low_water >= end) => {
                reached.map_err(|_closed| FeedError::Ended)?;
            }
            () = self.ended.cancelled() => return Err(FeedError::Ended),
        }
        self.uncommitted = None;
        self.hurry = None;
        Ok(())
    }

    /// Counts what was not kept, and says why, if anything was not.
    pub fn count_not_kept(&self) -> Option<NotKept> {
        let not_kept = self.assembler.not_kept().filter(|not_kept| !not_kept.is_empty())?;
        let counters = self.context.counters.of(self.stream.id);
        not_kept.count(Some(&counters), Source::Poll);
        Some(not_kept.clone())
    }

    /// Keeps the encoder for the next run.
    pub fn finish(self) {
        self.context.encoders.give_back(self.stream, self.encoder);
    }
}
