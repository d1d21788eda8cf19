//! The thread that owns the journal's appender: it gathers what waits into a group, appends it with one fsync, and only
//! then answers. While the journal cannot be written it refuses what comes, and tries to start the journal anew.

use std::cmp::Reverse;
use std::thread;
use std::time::Instant;

use tidegate_journal::{AppendError, Appender, DiskFailure, Journal, SealedEntry};
use tidegate_record::{EntryKind, Position, Source};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::outage::Outage;
use crate::lifecycle::{CriticalGuard, Lifecycle};
use crate::pipeline::admission::{
    DrainRate, DurableEntry, Intake, IntakeLimits, Ledger, Message, QueuedSubmission, Refusal,
    Share, Submission,
};
use crate::telemetry::metrics;

/// A group is closed at this many bytes or submissions; what waits longer goes with the next.
const GROUP_BYTES_MAX: u64 = 16 << 20;
const GROUP_SUBMISSIONS_MAX: usize = 4_096;
/// Groups that may wait to be told.
const ANSWERED_GROUPS_MAX: usize = 16;

/// What the rest of the gateway sees of the thread; clones are the same.
#[derive(Debug, Clone)]
pub struct AppenderThread {
    synced: watch::Receiver<Position>,
    failure: watch::Receiver<Option<DiskFailure>>,
    finished: CancellationToken,
}

impl AppenderThread {
    /// Starts the thread; returns the way in. To be called on the runtime.
    ///
    /// # Errors
    /// The system would not start a thread.
    pub fn start(
        lifecycle: &Lifecycle,
        journal: &Journal,
        appender: Appender,
        limits: IntakeLimits,
        ledger: Ledger,
        committed: DrainRate,
    ) -> std::io::Result<(Intake, AppenderThread)> {
        let journaled = DrainRate::new(Instant::now());
        let (intake, queue) = Intake::new(limits, ledger, journaled.clone(), committed);
        let (synced_sender, synced) = watch::channel(journal.synced());
        let (failure_sender, failure) = watch::channel(None);
        let finished = CancellationToken::new();
        let (answers, answered) = mpsc::channel(ANSWERED_GROUPS_MAX);
        lifecycle.spawn("acknowledgements", acknowledge(answered));
        let run = Run {
            queue,
            answers,
            appender,
            journal: journal.clone(),
            synced: synced_sender,
            failure: failure_sender,
            outage: None,
            runtime: Handle::current(),
            journaled,
            _guard: lifecycle.critical("journal appender"),
        };
        let at_end = finished.clone().drop_guard();
        thread::Builder::new().name("journal-appender".to_owned()).spawn(move || {
            run.run();
            drop(at_end);
        })?;
        Ok((intake, AppenderThread { synced, failure, finished }))
    }

    /// Follows the end of what is durable.
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.synced.clone()
    }

    /// Why the journal cannot be written at the moment, if it cannot; nothing is taken then.
    pub fn failure(&self) -> Option<DiskFailure> {
        self.failure.borrow().clone()
    }

    /// Follows [`AppenderThread::failure`].
    pub fn follow_failure(&self) -> watch::Receiver<Option<DiskFailure>> {
        self.failure.clone()
    }

    /// Cancelled when the thread has written its last group.
    pub fn finished(&self) -> &CancellationToken {
        &self.finished
    }
}

/// What a submission is answered, and where its sender waits.
type Answer = (oneshot::Sender<Result<DurableEntry, Refusal>>, DurableEntry);

/// Tells a whole group at once, on the runtime: a task that is woken there goes to the next free worker, while each that
/// is woken by another thread goes through the one queue that all workers share.
async fn acknowledge(mut answered: mpsc::Receiver<Vec<Answer>>) {
    while let Some(answers) = answered.recv().await {
        for (acknowledge, durable) in answers {
            let _ = acknowledge.send(Ok(durable));
        }
    }
}

struct Run {
    queue: mpsc::Receiver<Message>,
    answers: mpsc::Sender<Vec<Answer>>,
    appender: Appender,
    journal: Journal,
    synced: watch::Sender<Position>,
    failure: watch::Sender<Option<DiskFailure>>,
    /// There is one while the appender is failed.
    outage: Option<Outage>,
    /// For waiting with an end.
    runtime: Handle,
    journaled: DrainRate,
    _guard: CriticalGuard,
}

impl Run {
    fn run(mut self) {
        let mut group = Vec::new();
        // It may have found a full disk at opening.
        self.note_failure();
        while let Some(message) = self.next() {
            self.gather(message, &mut group);
            if !group.is_empty() {
                self.append(&mut group);
            }
        }
        if let Err(error) = self.appender.close() {
            tracing::warn!(%error, "the journal's last segment was not ended; nothing is lost by that");
        }
    }

    /// The next message. During an outage the journal is tried meanwhile, whether or not a message comes.
    fn next(&mut self) -> Option<Message> {
        while let Some(outage) = &self.outage {
            let wait = outage.wait(Instant::now());
            if wait.is_zero() {
                self.try_anew();
                continue;
            }
            let received = async { tokio::time::timeout(wait, self.queue.recv()).await };
            if let Ok(message) = self.runtime.block_on(received) {
                return message;
            }
        }
        self.queue.blocking_recv()
    }

    fn try_anew(&mut self) {
        let restarted = self.appender.restart();
        let now = Instant::now();
        match restarted {
            Ok(()) => {
                if let Some(outage) = self.outage.take() {
                    outage.end(now);
                }
                self.failure.send_replace(None);
            }
            Err(failure) => {
                if let Some(outage) = &mut self.outage {
                    outage.failed_again(&failure, now);
                }
                self.failure.send_replace(Some(failure));
            }
        }
    }

    /// Begins an outage if the appender failed.
    fn note_failure(&mut self) {
        if let Some(failure) = self.appender.failure()
            && self.outage.is_none()
        {
            self.outage = Some(Outage::begin(failure, Instant::now()));
            self.failure.send_replace(Some(failure.clone()));
        }
    }

    /// Takes what waits, up to the limits of a group.
    fn gather(&mut self, first: Message, group: &mut Vec<QueuedSubmission>) {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Submit(queued, _place) => {
                    if let Some(refusal) = queued.submission.request.0.get().copied() {
                        queued.refuse(refusal);
                        next = self.queue.try_recv().ok();
                        continue;
                    }
                    bytes += queued.bytes();
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

    /// A submission that the journal cannot take is refused by itself, and the others of its group are appended without it.
    ///
    /// Invariant: a submission is answered with success only after the appender's fsync returned.
    fn append(&mut self, group: &mut Vec<QueuedSubmission>) {
        // Each turn answers one submission of the group at least.
        while !group.is_empty() {
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
                Err(error) => {
                    let mut entries = entries.into_iter();
                    for (queued, count) in group.iter_mut().zip(counts) {
                        queued.submission.entries.extend(entries.by_ref().take(count));
                    }
                    self.refuse(group, &error);
                }
            }
        }
    }

    /// Counts before it publishes the position, up to which the writers read, so that a reader of both never sees fewer
    /// accepted than committed.
    fn answer(
        &mut self,
        group: &mut Vec<QueuedSubmission>,
        counts: &[usize],
        entries: &[SealedEntry],
    ) {
        let synced = self.journal.synced();
        let mut rest = entries;
        let mut answers = Vec::with_capacity(group.len());
        for (mut queued, count) in group.drain(..).zip(counts) {
            let (own, others) = rest.split_at(*count);
            rest = others;
            let Submission { share, other_shares, source, .. } = &mut queued.submission;
            let mut uncounted = own;
            for share in std::iter::once(share).chain(other_shares) {
                let (of_share, behind) = uncounted.split_at(share.entries);
                uncounted = behind;
                for entry in of_share {
                    self.count(share, *source, entry);
                }
            }
            // Before the position is published: the writers read no further than that, so none commits what has no key.
            if let (Some(claim), Some(last)) = (queued.submission.claim, own.last()) {
                claim.taken(last.position());
            }
            let end = own.last().map(SealedEntry::end);
            answers.push((queued.acknowledge, DurableEntry { end: end.unwrap_or(synced) }));
        }
        self.synced.send_replace(synced);
        // Where the runtime is gone, so are all that wait.
        let _ = self.answers.blocking_send(answers);
    }

    fn count(&self, share: &mut Share, source: Source, entry: &SealedEntry) {
        let Share { counters, kept, .. } = share;
        let (rows, bytes) = (u64::from(entry.rows()), entry.body_len() as u64);
        self.journaled.drained(bytes);
        match EntryKind::from_code(entry.kind()) {
            Some(EntryKind::Quarantine) => {
                counters.add_quarantined(source, rows);
                if let Some(kept) = kept.take() {
                    kept.journaled(entry.position());
                }
            }
            _ => counters.add_accepted(source, rows, bytes),
        }
    }

    /// Answers those that cannot be taken, and leaves the others in the group.
    fn refuse(&mut self, group: &mut Vec<QueuedSubmission>, error: &AppendError) {
        self.note_failure();
        let retry_after = self.outage.as_ref().map(|outage| outage.retry_after(Instant::now()));
        let (refusal, refused) = match error {
            AppendError::Full { bytes, bytes_max } => {
                let free_bytes = bytes_max.saturating_sub(*bytes);
                let refusal = Refusal::Full { bytes: *bytes, bytes_max: *bytes_max };
                (refusal, largest_above(group, free_bytes))
            }
            AppendError::TooLarge { index, .. } => (Refusal::TooLarge, vec![owner(group, *index)]),
            AppendError::Failed { may_remain, .. } => {
                let retry_after = retry_after.unwrap_or_default();
                let refusal = Refusal::Failed { may_remain: *may_remain, retry_after };
                (refusal, (0..group.len()).collect())
            }
        };
        for index in refused {
            // It stays as it is where an earlier one of the request was refused.
            let _ = group[index].submission.request.0.set(refusal);
        }
        // Others of the same request go with it: what is taken of a request is its beginning.
        for queued in std::mem::take(group) {
            match queued.submission.request.0.get() {
                Some(_) => queued.refuse(refusal),
                None => group.push(queued),
            }
        }
    }
}

/// Which submission an entry of the group belongs to, by the entry's place.
fn owner(group: &[QueuedSubmission], entry: usize) -> usize {
    let mut behind = 0;
    let is_before = |queued: &&QueuedSubmission| {
        behind += queued.submission.entries.len();
        behind <= entry
    };
    group.iter().take_while(is_before).count()
}

/// The largest submissions, as many as must go for the others to fit; one at least.
fn largest_above(group: &[QueuedSubmission], free_bytes: u64) -> Vec<usize> {
    let bytes: Vec<u64> = group.iter().map(QueuedSubmission::bytes).collect();
    let mut by_size: Vec<usize> = (0..group.len()).collect();
    by_size.sort_by_key(|index| Reverse(bytes[*index]));
    let mut left: u64 = bytes.iter().sum();
    // The room for headers of segments is not looked at here, so that even what seems to fit may be too much.
    let mut count = 0;
    while count == 0 || (left > free_bytes && count < by_size.len()) {
        left -= bytes[by_size[count]];
        count += 1;
    }
    by_size.truncate(count);
    by_size
}
