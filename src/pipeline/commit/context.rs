//! What all that commits works with: the journal and how far it is committed, PostgreSQL, and what is told of a commit.

use std::time::Duration;

use tidegate_codec::Streams;
use tidegate_journal::{Entry, Journal};
use tidegate_record::{EntryKind, Position};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::{is_for_table, source_of, stream_of};
use super::outcome::EntryOutcome;
use super::progress::Progress;
use crate::counters::Counters;
use crate::db::Database;
use crate::db::batch::{BatchConnection, BatchError, BatchTimeouts};
use crate::db::journals::SessionMark;
use crate::pipeline::admission::{CommitOutcome, DrainRate, Keys, Ledger, entry_first_id};
use crate::pipeline::parking::Parking;
use crate::telemetry::metrics;

/// A batch may take this many times as long as one statement before its connection is given up.
const BATCH_STATEMENTS_TIMEOUT_FACTOR: u32 = 3;

/// When a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub rows: u64,
    pub bytes: u64,
    pub interval: Duration,
}

/// See the module; clones are the same.
#[derive(Clone)]
pub struct CommitContext {
    pub journal: Journal,
    pub streams: Streams,
    pub counters: Counters,
    pub ledger: Ledger,
    pub keys: Keys,
    pub progress: Progress,
    /// Which streams' tables cannot be written now.
    pub parking: Parking,
    /// What was committed, and since when nothing was.
    pub committed: DrainRate,
    pub database: Database,
    pub timeouts: BatchTimeouts,
    pub limits: BatchLimits,
    pub synced: watch::Receiver<Position>,
    /// Cancelled when nothing will be appended any more.
    pub appended_all: CancellationToken,
}

impl CommitContext {
    pub(super) async fn connect(&self) -> Result<BatchConnection, BatchError> {
        BatchConnection::open(&self.database, self.timeouts).await
    }

    /// One more connection for a session. A server that was set back meanwhile has lost commits that this session counts
    /// on, and may have its epoch all the same.
    pub(super) async fn join(&self, session: SessionMark) -> Result<BatchConnection, BatchError> {
        let mut connection = self.connect().await?;
        connection.check(self.journal.id(), session).await?;
        Ok(connection)
    }

    /// Longest time for one transaction; longer than any of its statements may take.
    pub(super) fn batch_timeout(&self) -> Duration {
        self.timeouts.statement * BATCH_STATEMENTS_TIMEOUT_FACTOR
    }

    /// Counts what became of a committed entry's records, and tells the requests that wait for it.
    pub(super) fn settle(&self, entry: &Entry, outcome: EntryOutcome) {
        let EntryOutcome::Settled(outcome) = outcome else { return };
        if !is_for_table(entry) {
            return;
        }
        self.count(entry, outcome);
        self.tell(entry, outcome);
    }

    /// Tells the requests that wait for an entry, and those that repeat it, what became of all its records.
    pub(super) fn tell(&self, entry: &Entry, outcome: CommitOutcome) {
        self.keys.note_committed(entry, outcome);
        if self.ledger.is_waited_for()
            && let Some(id) = entry_first_id(&entry.body)
        {
            self.ledger.resolve(id, outcome);
        }
    }

    /// Counts what became of an entry's records, or of some of them.
    pub(super) fn count(&self, entry: &Entry, outcome: CommitOutcome) {
        if entry.header.kind == EntryKind::Changes.code() {
            metrics::count_changes([
                ("applied", outcome.committed),
                ("missing", outcome.missing),
                ("conflict", outcome.conflicts),
                ("refused", outcome.refused),
            ]);
        }
        let counters = self.counters.of(stream_of(entry));
        counters.add_committed(outcome.committed, outcome.duplicates);
        if outcome.refused > 0 {
            counters.add_refused(source_of(entry), outcome.refused);
        }
    }

    /// Everything in this part of the journal is committed, so many bytes.
    pub(super) fn commit(&self, first: Position, last: Position, bytes: u64) {
        self.committed.drained(bytes);
        self.progress.commit(first, last);
    }
}
