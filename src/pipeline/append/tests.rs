//! The way in over a disk that holds its syncs, fills up and fails: what a sender is told, and when.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tidegate_journal::faults::FaultStorage;
use tidegate_journal::{EntryDraft, Journal, JournalOptions, Opened, Reader};
use tidegate_record::{ColumnSet, Source, StreamId, UnixMicros};

use super::AppenderThread;
use crate::counters::Counters;
use crate::lifecycle::Lifecycle;
use crate::pipeline::admission::{
    DrainRate, Intake, IntakeError, IntakeLimits, Ledger, Pending, RequestRefusal, SenderId, Share,
    Submission,
};

const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4096,
    bytes_max: 1 << 20,
    retention: Duration::ZERO,
    retention_bytes: 1 << 20,
};
/// Far longer than the waits between tries.
const TIME_LIMIT: Duration = Duration::from_secs(60);

struct Bench {
    storage: FaultStorage,
    journal: Journal,
    intake: Intake,
    thread: AppenderThread,
    counters: Counters,
    reader: Reader,
    _lifecycle: Lifecycle,
}

impl Bench {
    fn start() -> Bench {
        Bench::on(FaultStorage::new(7))
    }

    fn on(storage: FaultStorage) -> Bench {
        let Opened { journal, appender, .. } =
            Journal::open(Path::new("/journal"), OPTIONS, storage.clone()).unwrap();
        let lifecycle = Lifecycle::new();
        let limits = IntakeLimits {
            entries_max: 100,
            bytes_max: 1 << 20,
            wait: Duration::from_secs(2),
            journal_segment_bytes: OPTIONS.segment_bytes,
        };
        let committed = DrainRate::new(Instant::now());
        let (intake, thread) = AppenderThread::start(
            &lifecycle,
            &journal,
            appender,
            limits,
            Ledger::default(),
            committed,
        )
        .unwrap();
        let reader = journal.reader(journal.synced());
        let counters = Counters::default();
        Bench { storage, journal, intake, thread, counters, reader, _lifecycle: lifecycle }
    }

    async fn submit(&self, body: &[u8]) -> Pending {
        self.submit_of(&RequestRefusal::default(), body).await
    }

    async fn submit_of(&self, request: &RequestRefusal, body: &[u8]) -> Pending {
        let submission = Submission { request: request.clone(), ..self.submission(b"", body) };
        // Room is asked for what a request holds; a test may hold more.
        let room = self.intake.reserve(SenderId::Local, body.len().min(1 << 19)).await.unwrap();
        self.intake.submit(submission, room).await.unwrap()
    }

    fn submission(&self, meta: &[u8], body: &[u8]) -> Submission {
        let mut draft = EntryDraft::new(meta, body.len());
        draft.buffer_mut().extend_from_slice(body);
        Submission {
            entries: vec![draft.seal(1, 1, ColumnSet(0), 1, UnixMicros(5))],
            share: Share { entries: 1, counters: self.counters.of(StreamId(1)), kept: None },
            other_shares: Vec::new(),
            source: Source::Http,
            claim: None,
            request: RequestRefusal::default(),
        }
    }

    /// Submits these while a sync is held, so that they are one group; what each is answered.
    async fn send_as_one_group(&self, bodies: &[Vec<u8>]) -> Vec<Result<(), IntakeError>> {
        self.storage.hold_syncs(true);
        let first = self.submit(b"first").await;
        self.sync_is_held().await;
        let mut pending = Vec::new();
        for body in bodies {
            pending.push(self.submit(body).await);
        }
        self.storage.hold_syncs(false);
        self.intake.durable(first).await.unwrap();
        let mut answers = Vec::new();
        for pending in pending {
            answers.push(self.intake.durable(pending).await.map(|_| ()));
        }
        answers
    }

    async fn send(&self, body: &[u8]) -> Result<(), IntakeError> {
        let pending = self.submit(body).await;
        self.intake.durable(pending).await.map(|_| ())
    }

    /// What the reader that was there from the beginning finds now.
    fn read_on(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.reader.next().unwrap())
            .map(|entry| entry.body.to_vec())
            .collect()
    }

    /// Waits for a sync that the storage holds.
    async fn sync_is_held(&self) {
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || storage.wait_for_held_sync()).await.unwrap();
    }

    /// Waits until the journal is written again, without sending anything.
    async fn recovers_by_itself(&self) {
        let mut failure = self.thread.follow_failure();
        let recovered = failure.wait_for(Option::is_none);
        tokio::time::timeout(TIME_LIMIT, recovered).await.expect("it recovers").unwrap();
    }

    /// Loses power; the bodies that are there at the next opening.
    async fn crash(self) -> Vec<Vec<u8>> {
        self.intake.close().await;
        self.thread.finished().cancelled().await;
        self.storage.crash();
        let journal =
            Journal::open(Path::new("/journal"), OPTIONS, self.storage.clone()).unwrap().journal;
        let mut reader = journal.reader(journal.first());
        std::iter::from_fn(|| reader.next().unwrap()).map(|entry| entry.body.to_vec()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledgement_comes_before_the_sync_returned() {
    let mut bench = Bench::start();
    let intake = bench.intake.clone();
    for round in 0..5_u8 {
        let synced = bench.journal.synced();
        bench.storage.hold_syncs(true);
        let pending = bench.submit(&[round; 900]).await;
        let later = bench.submit(&[round; 901]).await;
        let (mut answer, mut later) = (pin!(intake.durable(pending)), pin!(intake.durable(later)));
        bench.sync_is_held().await;
        assert!(answer.as_mut().now_or_never().is_none(), "acknowledged before the sync returned");
        assert!(later.as_mut().now_or_never().is_none());
        assert_eq!(bench.journal.synced(), synced, "shown before it was durable");
        assert_eq!(*bench.thread.synced().borrow(), synced);
        let accepted = bench.counters.of(StreamId(1)).totals().accepted;
        assert_eq!(accepted, u64::from(round) * 2, "counted before it was durable");
        bench.storage.hold_syncs(false);
        answer.await.unwrap();
        later.await.unwrap();
        assert_eq!(bench.read_on(), [vec![round; 900], vec![round; 901]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_no_acknowledgement() {
    let mut bench = Bench::start();
    let intake = bench.intake.clone();
    bench.send(b"before").await.unwrap();
    bench.storage.hold_syncs(true);
    let pending = bench.submit(b"refused").await;
    let mut answer = pin!(intake.durable(pending));
    bench.sync_is_held().await;
    bench.storage.fail_sync_after(Some(0));
    assert!(answer.as_mut().now_or_never().is_none());
    bench.storage.hold_syncs(false);
    // Not even taking it back could be made durable.
    let refused = answer.await;
    assert!(matches!(refused, Err(IntakeError::JournalFailedMidway { .. })), "{refused:?}");
    let refused = bench.send(b"refused too").await;
    assert!(matches!(refused, Err(IntakeError::JournalFailed { .. })), "{refused:?}");
    let failure = bench.thread.failure().unwrap();
    assert!(failure.to_string().contains("/journal"), "{failure}");
    assert!(failure.advice().contains("kernel's log"), "{}", failure.advice());

    bench.storage.fail_sync_after(None);
    bench.recovers_by_itself().await;
    bench.send(b"after").await.unwrap();
    assert_eq!(bench.read_on(), [&b"before"[..], b"after"]);
    assert_eq!(bench.crash().await, [&b"before"[..], b"after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_until_there_is_room_and_nothing_refused_comes_back() {
    let mut bench = Bench::start();
    bench.send(b"before").await.unwrap();
    for round in 0..3_u8 {
        // Half of the entry is written when the disk is full.
        bench.storage.fill_after(Some(500));
        let refused = bench.send(&[round; 1000]).await;
        let Err(IntakeError::JournalFailed { retry_after }) = refused else {
            panic!("it was taken back: {refused:?}");
        };
        assert!((1..=10).contains(&retry_after.as_secs()), "{retry_after:?}");
        let failure = bench.thread.failure().unwrap();
        assert!(failure.is_full_disk() && failure.advice().contains("room"), "{failure}");
        bench.storage.fill_after(None);
        bench.recovers_by_itself().await;
        bench.send(&[round; 10]).await.unwrap();
    }
    let expected: Vec<Vec<u8>> =
        [&b"before"[..], &[0; 10], &[1; 10], &[2; 10]].map(<[u8]>::to_vec).into();
    assert_eq!(bench.read_on(), expected, "a reader goes on over the restarts");
    assert_eq!(bench.reader.take_damages(), []);
    assert_eq!(bench.crash().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_the_disk() {
    let bench = Bench::start();
    bench.send(b"kept").await.unwrap();
    bench.storage.refuse_changes_after(Some(0));
    assert!(bench.send(b"refused").await.is_err());
    bench.intake.close().await;
    tokio::time::timeout(TIME_LIMIT, bench.thread.finished().cancelled()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_full_at_the_start_is_tried_again() {
    let storage = FaultStorage::new(7);
    drop(Journal::open(Path::new("/journal"), OPTIONS, storage.clone()).unwrap());
    storage.fill_after(Some(0));
    let mut bench = Bench::on(storage);
    assert!(bench.send(b"refused").await.is_err());
    bench.storage.fill_after(None);
    bench.recovers_by_itself().await;
    bench.send(b"taken").await.unwrap();
    assert_eq!(bench.read_on(), [b"taken"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_of_a_request_is_its_beginning() {
    let mut bench = Bench::start();
    let intake = bench.intake.clone();
    let (request, other) = (RequestRefusal::default(), RequestRefusal::default());
    let first = bench.submit_of(&request, &[1; 8192]).await;
    intake.durable(first).await.unwrap();
    // It does not fit the journal as it is; smaller ones do.
    let second = bench.submit_of(&request, &vec![0; (1 << 20) - 4096]).await;
    let refused = intake.durable(second).await.unwrap_err();
    assert!(matches!(refused, IntakeError::JournalFull { .. }), "{refused:?}");
    let third = bench.submit_of(&request, b"third").await;
    let refused = intake.durable(third).await.unwrap_err();
    assert!(matches!(refused, IntakeError::JournalFull { .. }), "{refused:?}");
    let of_another = bench.submit_of(&other, b"of another").await;
    intake.durable(of_another).await.unwrap();
    assert_eq!(bench.read_on(), [&[1; 8192][..], b"of another"]);
}

/// A sender can make an entry that no journal takes; those that are in its group by chance have nothing to do with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_can_never_fit_is_refused_alone() {
    let mut bench = Bench::start();
    let bodies = [b"before".to_vec(), vec![0; 1 << 20], b"after".to_vec()];
    let answers = bench.send_as_one_group(&bodies).await;
    assert!(
        matches!(answers[..], [Ok(()), Err(IntakeError::TooLarge { .. }), Ok(())]),
        "{answers:?}"
    );
    assert_eq!(bench.read_on(), [&b"first"[..], b"before", b"after"]);
    // What the format has no room for does not even come to the thread.
    let meta = vec![0; usize::from(u16::MAX) + 1];
    let room = bench.intake.reserve(SenderId::Local, meta.len()).await.unwrap();
    let refused = bench.intake.submit(bench.submission(&meta, b"body"), room).await;
    assert!(matches!(refused, Err(IntakeError::TooLarge { .. })), "{refused:?}");
    assert_eq!(bench.intake.fill(), (0, 0), "it holds neither room nor a place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_a_full_journal_has_no_room_for_is_refused_alone() {
    let mut bench = Bench::start();
    bench.send(&[1; 8192]).await.unwrap();
    bench.read_on();
    let bodies = [b"before".to_vec(), vec![0; (1 << 20) - 4096], b"after".to_vec()];
    let answers = bench.send_as_one_group(&bodies).await;
    assert!(
        matches!(answers[..], [Ok(()), Err(IntakeError::JournalFull { .. }), Ok(())]),
        "{answers:?}"
    );
    assert_eq!(bench.read_on(), [&b"first"[..], b"before", b"after"]);
}

/// What a sender is told is as long as the journal takes for what waits, and that is measured here.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_the_rate_that_a_full_intake_is_told_by() {
    let bench = Bench::start();
    bench.send(&[1; 100]).await.unwrap();
    let mut held = Vec::new();
    for token in 0..8 {
        held.push(bench.intake.reserve(SenderId::Token(token), 1 << 17).await.unwrap());
    }
    let refused = bench.intake.reserve(SenderId::Local, 1).await.unwrap_err();
    // A hundred bytes in all this time: a mebibyte would take longer than the longest advice.
    assert_eq!(refused, IntakeError::Overloaded { retry_after: Duration::from_secs(300) });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_of_a_submission_has_its_own_counters() {
    let bench = Bench::start();
    let entry = |stream, rows| {
        let mut draft = EntryDraft::new(b"", 8);
        draft.buffer_mut().extend_from_slice(b"rows");
        draft.seal(1, stream, ColumnSet(0), rows, UnixMicros(5))
    };
    let share = |stream, entries| {
        let counters = bench.counters.of(StreamId(stream));
        Share { entries, counters, kept: None }
    };
    let submission = Submission {
        entries: vec![entry(1, 2), entry(1, 1), entry(2, 5), entry(3, 7)],
        share: share(1, 2),
        other_shares: vec![share(2, 1), share(3, 1)],
        source: Source::Http,
        claim: None,
        request: RequestRefusal::default(),
    };
    let room = bench.intake.reserve(SenderId::Local, 100).await.unwrap();
    let pending = bench.intake.submit(submission, room).await.unwrap();
    let durable = bench.intake.durable(pending).await.unwrap();
    assert_eq!(durable.end, bench.journal.synced(), "one group has all of them");
    let accepted = |stream| bench.counters.of(StreamId(stream)).totals().accepted;
    assert_eq!([1, 2, 3].map(accepted), [3, 5, 7]);
}
