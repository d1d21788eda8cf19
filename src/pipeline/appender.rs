//! The thread that owns the journal's appender: it gathers what waits into a group, appends it with one fsync, and only
//! then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::journal::{AppendError, Appender, Journal, SealedEntry};
use crate::lifecycle::{CriticalGuard, Lifecycle};
use crate::pipeline::intake::{DurableEntry, Message, QueuedSubmission, Refusal};
use crate::pipeline::{Intake, IntakeLimits, Ledger, Pressure};
use crate::record::{EntryKind, Position};
use crate::telemetry::metrics;

/// A group is closed at this many bytes or submissions; what waits longer goes with the next.
const GROUP_BYTES_MAX: u64 = 16 << 20;
const GROUP_SUBMISSIONS_MAX: usize = 4_096;

/// What the rest of the gateway sees of the thread; clones are the same.
#[derive(Debug, Clone)]
pub struct AppenderThread {
    synced: watch::Receiver<Position>,
    failed: Arc<AtomicBool>,
    finished: CancellationToken,
}

impl AppenderThread {
    /// Starts the thread; returns the way in.
    ///
    /// # Errors
    /// The system would not start a thread.
    pub fn start(
        lifecycle: &Lifecycle,
        journal: &Journal,
        appender: Appender,
        limits: IntakeLimits,
        ledger: Ledger,
        committed: Pressure,
    ) -> std::io::Result<(Intake, AppenderThread)> {
        let journaled = Pressure::new(Instant::now());
        let (intake, queue) = Intake::new(limits, ledger, journaled.clone(), committed);
        let (synced_sender, synced) = watch::channel(journal.synced());
        let failed = Arc::new(AtomicBool::new(false));
        let finished = CancellationToken::new();
        let run = Run {
            queue,
            appender,
            journal: journal.clone(),
            synced: synced_sender,
            failed: Arc::clone(&failed),
            journaled,
            _guard: lifecycle.critical("journal appender"),
        };
        let at_end = finished.clone().drop_guard();
        thread::Builder::new().name("journal-appender".to_owned()).spawn(move || {
            run.run();
            drop(at_end);
        })?;
        Ok((intake, AppenderThread { synced, failed, finished }))
    }

    /// Follows the end of what is durable.
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.synced.clone()
    }

    /// Did an append fail? Then nothing is taken any more until the gateway is started again.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Cancelled when the thread has written its last group.
    pub fn finished(&self) -> &CancellationToken {
        &self.finished
    }
}

struct Run {
    queue: mpsc::Receiver<Message>,
    appender: Appender,
    journal: Journal,
    synced: watch::Sender<Position>,
    failed: Arc<AtomicBool>,
    journaled: Pressure,
    _guard: CriticalGuard,
}

impl Run {
    fn run(mut self) {
        let mut group = Vec::new();
        while let Some(message) = self.queue.blocking_recv() {
            self.gather(message, &mut group);
            if !group.is_empty() {
                self.append(&mut group);
            }
        }
        if let Err(error) = self.appender.close() {
            tracing::warn!(%error, "the journal's last segment was not ended; nothing is lost by that");
        }
    }

    /// Takes what waits, up to the limits of a group.
    fn gather(&mut self, first: Message, group: &mut Vec<QueuedSubmission>) {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Submit(queued, _place) => {
                    bytes +=
                        queued.submission.entries.iter().map(SealedEntry::len_bytes).sum::<u64>();
                    group.push(queued);
                }
                Message::Close => self.queue.close(),
            }
            if bytes >= GROUP_BYTES_MAX || group.len() >= GROUP_SUBMISSIONS_MAX {
                return;
            }
            next = self.queue.try_recv().ok();
        }
    }

    /// Invariant: a submission is answered with success only after the appender's fsync returned.
    fn append(&mut self, group: &mut Vec<QueuedSubmission>) {
        let counts: Vec<usize> =
            group.iter().map(|queued| queued.submission.entries.len()).collect();
        let mut entries: Vec<SealedEntry> =
            group.iter_mut().flat_map(|queued| queued.submission.entries.drain(..)).collect();
        let started = Instant::now();
        match self.appender.append(&mut entries) {
            Ok(_appended) => {
                metrics::record_group(entries.len(), started.elapsed());
                self.answer(group, &counts, &entries);
            }
            Err(error) => self.refuse(group, &error),
        }
        group.clear();
    }

    /// Counts before it publishes the position, so that a reader of both never sees fewer accepted than committed.
    fn answer(
        &mut self,
        group: &mut Vec<QueuedSubmission>,
        counts: &[usize],
        entries: &[SealedEntry],
    ) {
        let mut rest = entries;
        let mut answers = Vec::with_capacity(group.len());
        for (queued, count) in group.drain(..).zip(counts) {
            let (own, others) = rest.split_at(*count);
            rest = others;
            for entry in own {
                self.count(&queued, entry);
            }
            answers.push((queued.acknowledge, own.last().map(SealedEntry::end)));
        }
        let synced = self.journal.synced();
        self.synced.send_replace(synced);
        for (acknowledge, end) in answers {
            let _ = acknowledge.send(Ok(DurableEntry { end: end.unwrap_or(synced) }));
        }
    }

    fn count(&self, queued: &QueuedSubmission, entry: &SealedEntry) {
        let (counters, source) = (&queued.submission.counters, queued.submission.source);
        let (rows, bytes) = (u64::from(entry.rows()), entry.body_len() as u64);
        self.journaled.drained(bytes);
        match EntryKind::from_code(entry.kind()) {
            Some(EntryKind::Quarantine) => counters.add_quarantined(source, rows),
            _ => counters.add_accepted(source, rows, bytes),
        }
    }

    fn refuse(&self, group: &mut Vec<QueuedSubmission>, error: &AppendError) {
        let refusal = match error {
            AppendError::Full { bytes, bytes_max } => {
                Refusal::Full { bytes: *bytes, bytes_max: *bytes_max }
            }
            AppendError::TooLarge { .. } => Refusal::TooLarge,
            AppendError::Failed(_) => {
                if !self.failed.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the journal cannot be written; nothing is accepted until a restart");
                }
                Refusal::Failed
            }
        };
        for queued in group.drain(..) {
            let _ = queued.acknowledge.send(Err(refusal));
        }
    }
}
