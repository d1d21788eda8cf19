//! The writers: sessions of K connections that commit batches side by side.
//!
//! A session begins by fencing off every earlier one and reading what is committed, then batches are cut and committed
//! until anything is in doubt: a lost connection, a refused statement, a timeout. Then the whole session ends, its
//! connections are dropped, and the next one begins the same way, after a wait. The recovery path is the only path.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::db::Database;
use crate::db::batch::{BatchConnection, BatchError, Target};
use crate::db::journals::CommittedRange;
use crate::journal::ReadError;
use crate::lifecycle::Lifecycle;
use crate::pipeline::batcher::{Batch, Batcher, BatcherContext, stream_of};
use crate::pipeline::ledger::CommitOutcome;
use crate::pipeline::{Pressure, entry_first_id};
use crate::record::{EntryKind, Position, StreamId, UnixMicros};
use crate::streams::Stream;
use crate::telemetry::metrics;

/// A batch may take this many times as long as one statement before its connection is given up.
const BATCH_STATEMENTS_TIMEOUT_FACTOR: u32 = 3;
/// A session that committed for this long was healthy: the next failure waits from the shortest time again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// What writers need to know.
#[derive(Debug, Clone)]
pub struct WritersConfig {
    pub node: String,
    pub writers: usize,
    pub statement_timeout: Duration,
}

/// What the writers last knew of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    pub reachable: bool,
    pub last_error: Option<String>,
}

/// All sessions of this process, one after the other.
#[derive(Clone)]
pub struct Writers {
    config: WritersConfig,
    database: Database,
    context: BatcherContext,
    lifecycle: Lifecycle,
    committed: Pressure,
    state: watch::Sender<DatabaseState>,
}

/// Why a session ended before everything was drained.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error("a batch was not committed within {0:?}")]
    TimedOut(Duration),
    #[error("an earlier batch of the same stream was not committed")]
    EarlierBatchFailed,
    #[error(
        "PostgreSQL has records up to {committed}, but the journal ends at {synced}: an older copy of the journal was put \
         back; move the directory `journal` away so that a new one begins"
    )]
    JournalIsOlder { committed: Position, synced: Position },
}

impl SessionError {
    fn class(&self) -> String {
        match self {
            SessionError::Batch(error) => error.class(),
            SessionError::Journal(_) => "journal".to_owned(),
            SessionError::TimedOut(_) => "timeout".to_owned(),
            SessionError::EarlierBatchFailed => "order".to_owned(),
            SessionError::JournalIsOlder { .. } => "older_journal".to_owned(),
        }
    }
}

impl Writers {
    pub fn new(
        config: WritersConfig,
        database: Database,
        context: BatcherContext,
        lifecycle: Lifecycle,
        committed: Pressure,
    ) -> Writers {
        let state = watch::Sender::new(DatabaseState::default());
        Writers { config, database, context, lifecycle, committed, state }
    }

    /// Follows what is known of PostgreSQL.
    pub fn database_state(&self) -> watch::Receiver<DatabaseState> {
        self.state.subscribe()
    }

    /// Notes that PostgreSQL cannot be used, before there were sessions.
    pub fn unreachable(&self, reason: String) {
        self.state.send_replace(DatabaseState { reachable: false, last_error: Some(reason) });
    }

    /// Runs sessions until everything acknowledged is committed after the appender ended, or the time is over.
    pub async fn run(self) {
        let mut backoff = Backoff::new();
        let mut last_class = String::new();
        loop {
            let started = Instant::now();
            let hard = self.lifecycle.hard().clone();
            let result = tokio::select! {
                result = self.session() => result,
                () = hard.cancelled() => return,
            };
            let Err(error) = result else { return };
            let class = error.class();
            let reason = error.to_string();
            metrics::count_writer_error(&class);
            self.state
                .send_replace(DatabaseState { reachable: false, last_error: Some(reason.clone()) });
            if started.elapsed() >= HEALTHY_AFTER {
                backoff = Backoff::new();
            }
            let wait = backoff.next_wait();
            if class == last_class {
                tracing::debug!(reason, ?wait, "writing to PostgreSQL still fails");
            } else {
                tracing::warn!(reason, ?wait, "writing to PostgreSQL failed; trying again");
            }
            last_class = class;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = hard.cancelled() => return,
            }
        }
    }

    /// One session; ends well only when everything is drained.
    async fn session(&self) -> Result<(), SessionError> {
        let journal = self.context.journal.id();
        let mut first =
            BatchConnection::open(&self.database, self.config.statement_timeout).await?;
        let fenced = first.fence(journal, &self.config.node).await?;
        check_age(&fenced.ranges, self.context.journal.synced())?;
        let progress = &self.context.progress;
        let believed = progress.reset(self.context.journal.first(), &fenced.ranges);
        let start = believed.first_uncounted(progress.low_water());
        metrics::count_writer_session();
        self.state.send_replace(DatabaseState { reachable: true, last_error: None });
        tracing::info!(epoch = fenced.epoch, from = %start, "writing to PostgreSQL");

        let session = CancellationToken::new();
        let ends_with_this_call = session.clone().drop_guard();
        let (sender, batches) = mpsc::channel(1);
        let batches = Arc::new(Mutex::new(batches));
        let batcher = Batcher::new(self.context.clone(), duplicates(fenced.ranges), believed);
        let batcher = self.lifecycle.spawn("batcher", batcher.run(start, sender, session.clone()));
        let mut writers = Vec::with_capacity(self.config.writers);
        let mut connection = Some(first);
        for _ in 0..self.config.writers.max(1) {
            let writer = Writer {
                shared: self.clone(),
                connection: connection.take(),
                epoch: fenced.epoch,
                batches: Arc::clone(&batches),
                session: session.clone(),
                partitions: HashSet::new(),
            };
            writers.push(self.lifecycle.spawn("writer", writer.run()));
        }
        let mut outcome = Ok(());
        for writer in writers {
            let ended = writer.await.expect("writers do not panic");
            // The others end because of the first error; it is the one worth telling.
            if let (Ok(()) | Err(SessionError::EarlierBatchFailed), Err(error)) = (&outcome, ended)
            {
                outcome = Err(error);
            }
        }
        drop(ends_with_this_call);
        let cut = batcher.await.expect("the batcher does not panic");
        outcome?;
        Ok(cut?)
    }
}

/// One connection's share of a session.
struct Writer {
    shared: Writers,
    connection: Option<BatchConnection>,
    epoch: i64,
    batches: Arc<Mutex<mpsc::Receiver<Batch>>>,
    session: CancellationToken,
    /// Partitions that are known to be there.
    partitions: HashSet<(StreamId, time::Date)>,
}

/// Entries of a batch that go to the same place.
struct Part {
    destination: Destination,
    column_set: u32,
    entries: Vec<usize>,
    bodies: Vec<Bytes>,
}

enum Destination {
    Table(Arc<Stream>),
    /// Staged, then merged by key.
    Keyed(Arc<Stream>),
    Quarantine,
    /// The stream was deleted, and its records with it.
    Deleted(StreamId),
}

impl Writer {
    async fn run(mut self) -> Result<(), SessionError> {
        let ends_with_this_writer = self.session.clone().drop_guard();
        let result = self.commit_batches().await;
        if result.is_ok() {
            // The batcher has ended: the others finish what they hold.
            ends_with_this_writer.disarm();
            if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        }
        result
    }

    async fn commit_batches(&mut self) -> Result<(), SessionError> {
        while let Some(batch) = self.next_batch().await {
            let limit = self.shared.config.statement_timeout * BATCH_STATEMENTS_TIMEOUT_FACTOR;
            // Giving up half way leaves the connection in doubt; it is dropped with this writer, never used again.
            match tokio::time::timeout(limit, self.commit(batch)).await {
                Ok(result) => result?,
                Err(_elapsed) => return Err(SessionError::TimedOut(limit)),
            }
        }
        Ok(())
    }

    async fn next_batch(&self) -> Option<Batch> {
        tokio::select! {
            mut batches = self.batches.lock() => tokio::select! {
                batch = batches.recv() => batch,
                () = self.session.cancelled() => None,
            },
            () = self.session.cancelled() => None,
        }
    }

    async fn commit(&mut self, mut batch: Batch) -> Result<(), SessionError> {
        let started = Instant::now();
        let parts = self.parts(&batch);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                BatchConnection::open(&self.shared.database, self.shared.config.statement_timeout)
                    .await?
            }
        };
        let journal = self.shared.context.journal.id();
        self.ensure_partitions(&mut connection, &batch, &parts).await?;
        connection.begin(journal, self.epoch).await?;
        for part in &parts {
            copy(&mut connection, part).await?;
        }
        let mut outcomes = outcomes(&batch, &parts);
        Self::merge(&mut connection, &mut batch, &parts, &mut outcomes).await?;
        let range = CommittedRange {
            first: batch.first,
            last: batch.last,
            duplicates: duplicates_by_position(&batch, &outcomes),
        };
        let folding = self.shared.context.progress.take_folding();
        connection.commit(journal, &range, folding).await?;
        self.connection = Some(connection);
        self.settle(&batch, &outcomes);
        for gate in batch.gates {
            let _ = gate.committed.send(());
        }
        metrics::record_batch(batch.rows, started.elapsed());
        Ok(())
    }

    /// Groups the entries by where they go, in the order in which each place is first met.
    fn parts(&self, batch: &Batch) -> Vec<Part> {
        let streams = self.shared.context.streams.snapshot();
        let mut parts: Vec<Part> = Vec::new();
        let mut index: BTreeMap<(u8, StreamId, u32), usize> = BTreeMap::new();
        for (number, entry) in batch.entries.iter().enumerate() {
            let id = stream_of(entry);
            let records = EntryKind::from_code(entry.header.kind) == Some(EntryKind::Records);
            let place = if records {
                (entry.header.kind, id, entry.header.column_set)
            } else {
                (entry.header.kind, StreamId(0), 0)
            };
            let part = *index.entry(place).or_insert_with(|| {
                let destination = match streams.by_id(id) {
                    _ if !records => Destination::Quarantine,
                    None => Destination::Deleted(id),
                    Some(stream) if stream.key.is_some() => Destination::Keyed(Arc::clone(stream)),
                    Some(stream) => Destination::Table(Arc::clone(stream)),
                };
                parts.push(Part {
                    destination,
                    column_set: entry.header.column_set,
                    entries: Vec::new(),
                    bodies: Vec::new(),
                });
                parts.len() - 1
            });
            parts[part].entries.push(number);
            parts[part].bodies.push(entry.body.clone());
        }
        parts
    }

    async fn ensure_partitions(
        &mut self,
        connection: &mut BatchConnection,
        batch: &Batch,
        parts: &[Part],
    ) -> Result<(), BatchError> {
        for part in parts {
            let Destination::Table(stream) = &part.destination else {
                continue;
            };
            if stream.retention_days.is_none() {
                continue;
            }
            for number in &part.entries {
                let Some(day) = day_of(batch.entries[*number].header.received_at) else {
                    continue;
                };
                if !self.partitions.contains(&(stream.id, day)) {
                    connection.ensure_partition(stream, day).await?;
                    self.partitions.insert((stream.id, day));
                }
            }
        }
        Ok(())
    }

    /// Merges the keyed parts, each after the same stream's part of the batch before.
    async fn merge(
        connection: &mut BatchConnection,
        batch: &mut Batch,
        parts: &[Part],
        outcomes: &mut [CommitOutcome],
    ) -> Result<(), SessionError> {
        for part in parts {
            let Destination::Keyed(stream) = &part.destination else {
                continue;
            };
            let Some(key) = &stream.key else { continue };
            let gate = batch.gates.iter_mut().find(|gate| gate.stream == stream.id);
            if let Some(earlier) = gate.and_then(|gate| gate.earlier.take()) {
                earlier.await.map_err(|_| SessionError::EarlierBatchFailed)?;
            }
            let mut firsts: Vec<(Uuid, usize)> = part
                .entries
                .iter()
                .filter_map(|number| Some((entry_first_id(&batch.entries[*number].body)?, *number)))
                .collect();
            firsts.sort_unstable();
            let ids: Vec<Uuid> = firsts.iter().map(|(id, _)| *id).collect();
            let fresh = connection.merge(stream, key, part.column_set, &ids).await?;
            for ((_, number), fresh) in firsts.iter().zip(fresh) {
                let rows = u64::from(batch.entries[*number].header.rows);
                outcomes[*number] =
                    CommitOutcome { committed: fresh, duplicates: rows.saturating_sub(fresh) };
            }
        }
        Ok(())
    }

    /// After the commit: counts, marks, and tells whoever waits.
    fn settle(&self, batch: &Batch, outcomes: &[CommitOutcome]) {
        let context = &self.shared.context;
        let waited_for = context.ledger.is_waited_for();
        for (entry, outcome) in batch.entries.iter().zip(outcomes) {
            if EntryKind::from_code(entry.header.kind) != Some(EntryKind::Records) {
                continue;
            }
            context
                .counters
                .of(stream_of(entry))
                .add_committed(outcome.committed, outcome.duplicates);
            if waited_for && let Some(id) = entry_first_id(&entry.body) {
                context.ledger.resolve(id, *outcome);
            }
        }
        self.shared.committed.drained(batch.bytes);
        context.progress.commit(batch.first, batch.last);
    }
}

/// Positions of a journal that was put back are used a second time, and the ranges of the first time would swallow them.
fn check_age(ranges: &[CommittedRange], synced: Position) -> Result<(), SessionError> {
    match ranges.iter().map(|range| range.last).max() {
        Some(committed) if committed > synced => {
            Err(SessionError::JournalIsOlder { committed, synced })
        }
        _ => Ok(()),
    }
}

async fn copy(connection: &mut BatchConnection, part: &Part) -> Result<(), BatchError> {
    let started = Instant::now();
    let target = match &part.destination {
        Destination::Table(stream) => Target::Stream { stream, column_set: part.column_set },
        Destination::Keyed(stream) => Target::Staging { stream, column_set: part.column_set },
        Destination::Quarantine => Target::Quarantine,
        Destination::Deleted(stream) => {
            tracing::warn!(
                stream = stream.0,
                entries = part.entries.len(),
                "records of a deleted stream are left out"
            );
            return Ok(());
        }
    };
    connection.copy(target, &part.bodies).await?;
    metrics::record_copy(started.elapsed());
    Ok(())
}

/// Without a key every record makes a row; the merge corrects those with one.
fn outcomes(batch: &Batch, parts: &[Part]) -> Vec<CommitOutcome> {
    let mut outcomes: Vec<CommitOutcome> = vec![CommitOutcome::default(); batch.entries.len()];
    for part in parts.iter().filter(|part| !matches!(part.destination, Destination::Deleted(_))) {
        for number in &part.entries {
            outcomes[*number].committed = u64::from(batch.entries[*number].header.rows);
        }
    }
    outcomes
}

fn duplicates_by_position(batch: &Batch, outcomes: &[CommitOutcome]) -> BTreeMap<Position, u64> {
    let with_duplicates =
        batch.entries.iter().zip(outcomes).filter(|(_, outcome)| outcome.duplicates > 0);
    with_duplicates.map(|(entry, outcome)| (entry.header.position, outcome.duplicates)).collect()
}

fn duplicates(ranges: Vec<CommittedRange>) -> BTreeMap<Position, u64> {
    ranges.into_iter().flat_map(|range| range.duplicates).collect()
}

fn day_of(received_at: UnixMicros) -> Option<time::Date> {
    let seconds = received_at.0.div_euclid(1_000_000);
    time::OffsetDateTime::from_unix_timestamp(seconds).ok().map(time::OffsetDateTime::date)
}
