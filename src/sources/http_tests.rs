//! Moments of a request that no client can bring about by itself.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::EncodeLimits;
use tidegate_codec::formats::Format;
use tidegate_codec::{PayloadType, Shape, Stream};
use tidegate_journal::faults::FaultStorage;
use tidegate_journal::{DiskStorage, Journal, JournalOptions, Opened, Storage};
use tidegate_record::{StreamId, UnixMicros};
use time::OffsetDateTime;

use super::assembler::ENTRY_TARGET_ROWS;
use super::body::{BodyLimits, BodyReader, ContentEncoding};
use super::encoders::Encoders;
use super::http::*;
use crate::auth::Quotas;
use crate::counters::Counters;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{
    AppenderThread, DrainRate, IntakeLimits, KeptAmount, Keys, Ledger, Progress, QuarantineLimits,
    QuarantineRoom, SenderId,
};

const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4 << 20,
    bytes_max: 64 << 20,
    retention: Duration::ZERO,
    retention_bytes: 0,
};
const INTAKE: IntakeLimits = IntakeLimits {
    entries_max: 16,
    bytes_max: 8 << 20,
    wait: Duration::from_secs(5),
    journal_segment_bytes: OPTIONS.segment_bytes,
};
const BODY: BodyLimits = BodyLimits {
    wire_bytes_max: 8 << 20,
    decompressed_bytes_max: 8 << 20,
    idle_timeout: Duration::from_secs(5),
};

/// A source on a journal of its own.
fn source(journal_dir: &TempDir) -> HttpSource {
    source_on(journal_dir.path(), DiskStorage)
}

fn source_on(directory: &Path, storage: impl Storage + 'static) -> HttpSource {
    let Opened { journal, appender, .. } = Journal::open(directory, OPTIONS, storage).unwrap();
    let committed = DrainRate::new(Instant::now());
    let (intake, _thread) = AppenderThread::start(
        &Lifecycle::new(),
        &journal,
        appender,
        INTAKE,
        Ledger::default(),
        committed,
    )
    .unwrap();
    let limits = EncodeLimits { record_bytes_max: 1 << 20, members_max: u64::MAX };
    HttpSource {
        intake,
        encoders: Encoders::new(limits),
        counters: Counters::default(),
        keys: Keys::new(64),
        committed: Progress::new(journal.first()),
        quarantine: QuarantineRoom::new(QuarantineLimits::NONE),
        journal,
        entry_bytes_max: 1 << 20,
        commit_wait: Duration::from_secs(5),
    }
}

fn ndjson() -> IngestRequest {
    let stream = Stream {
        id: StreamId(1),
        name: "tests".parse().unwrap(),
        shape: Shape::Document { payload: PayloadType::Json },
        key: None,
        retention_days: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    };
    IngestRequest {
        stream: Arc::new(stream),
        sender: SenderId::Local,
        quota: None,
        user: "ada".into(),
        received_at: UnixMicros(0),
        format: Format::Ndjson,
        csv: CsvOptions::default(),
        ack: Ack::Journal,
        on_error: OnError::Quarantine,
        return_ids: false,
        key: None,
    }
}

/// The last record fills the entry, and from then on there is no room to be had: a 503 now would make the sender send
/// again what was taken.
#[tokio::test]
async fn nothing_is_refused_once_everything_is_handed_on() {
    let journal_dir = tempfile::tempdir().unwrap();
    let source = source(&journal_dir);
    let intake = source.intake.clone();
    // Blank lines, so that the room for the body is enough for the tuples.
    let line = format!("{}{{}}\n", "\n".repeat(100));
    let all_but_one = line.repeat(ENTRY_TARGET_ROWS as usize - 1);
    let chunks = stream::unfold(0, move |turn| {
        let (intake, line, all_but_one) = (intake.clone(), line.clone(), all_but_one.clone());
        async move {
            let chunk = match turn {
                0 => all_but_one,
                1 => {
                    intake.refuse_new();
                    line
                }
                _ => return None,
            };
            Some((Ok::<_, Infallible>(Bytes::from(chunk)), turn + 1))
        }
    });
    let body = BodyReader::new(chunks.boxed(), ContentEncoding::Identity, BODY);
    let reply =
        source.ingest(ndjson(), body, None).await.map_err(|failure| failure.reason).unwrap();
    assert_eq!(reply.accepted, u64::from(ENTRY_TARGET_ROWS));
    source.intake.close().await;
}

/// A handler is dropped when its sender hangs up. What it has submitted by then is taken all the same, so its key must
/// not be free for the sender's next try.
#[tokio::test]
async fn a_sender_that_hangs_up_half_way_does_not_set_its_key_free() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    for number in 0..50 {
        let line = format!("{{\"n\":{number}}}\n");
        let body = || {
            let chunks = stream::iter([Ok::<_, Infallible>(Bytes::from(line.clone()))]);
            BodyReader::new(chunks, ContentEncoding::Identity, BODY)
        };
        let request = || IngestRequest { key: Some(number.to_string()), ..ndjson() };
        {
            let first = source.ingest(request(), body(), None);
            tokio::pin!(first);
            // Everything is there and there is room, so that it goes as far as to wait for the journal.
            let _ = futures::poll!(&mut first);
        }
        let second = source.ingest(request(), body(), None).await.unwrap();
        assert!(second.replayed, "the journal would have {number} twice");
        assert_eq!(second.accepted, 1);
    }
}

/// The body is what the sender is told about, and the journal fails with what of it was under way.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_there_is_not_hidden_by_another_failure() {
    let storage = FaultStorage::new(7);
    let source = source_on(Path::new("/journal"), storage.clone());
    let entry = "{}\n".repeat(ENTRY_TARGET_ROWS as usize);
    storage.hold_syncs(true);
    let chunks = stream::unfold(0, move |turn| {
        let (storage, entry) = (storage.clone(), entry.clone());
        async move {
            if turn == 0 {
                return Some((Ok(Bytes::from(entry)), 1));
            }
            storage.fail_sync_after(Some(0));
            storage.hold_syncs(false);
            Some((Err(std::io::Error::other("hung up")), 2))
        }
    });
    let body = BodyReader::new(chunks.boxed(), ContentEncoding::Identity, BODY);
    let failure = source.ingest(ndjson(), body, None).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::Body(_)), "{:?}", failure.reason);
    assert_eq!(failure.before.accepted, 0);
    assert!(failure.is_outcome_unknown);
}

/// Tokens that may send one record a second send a hundred. What is not taken costs nothing, so that the next try is not
/// refused for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_did_not_take_is_given_back_to_the_quota() {
    let storage = FaultStorage::new(7);
    let source = source_on(Path::new("/journal"), storage.clone());
    let (quotas, now) = (Quotas::default(), Instant::now());
    let admit = |token| quotas.admit(token, 1, now);
    let send = async |token, lines: &str, key: Option<&str>| {
        let quota = Some(admit(token).expect("nothing is owed"));
        let key = key.map(str::to_owned);
        let body = BodyReader::whole(Bytes::from(lines.to_owned()), BODY);
        source.ingest(IngestRequest { quota, key, ..ndjson() }, body, None).await
    };
    // Of invalid ones a minute's worth is kept.
    let (good, bad) = ("{}\n".repeat(100), "{\n".repeat(100));
    let key = Some("one");
    let requests = [(1, &good, None), (2, &bad, None), (3, &good, key)];
    for (token, lines, key) in requests {
        let reply = send(token, lines, key).await.unwrap();
        assert_eq!(reply.accepted + reply.quarantined + reply.not_kept.total(), 100);
        assert!(admit(token).is_err(), "what was taken is paid for");
    }
    storage.fail_sync_after(Some(0));
    for (token, lines, key) in requests {
        let key = key.map(|_| "two");
        let failure = send(token + 3, lines, key).await.unwrap_err();
        assert!(matches!(failure.reason, FailureReason::Intake(_)), "{:?}", failure.reason);
        assert!(admit(token + 3).is_ok(), "{token}: what was not taken is not paid for");
    }
    assert_eq!(source.quarantine.level().records, 60, "nor does it take the quarantine's room");
}

/// Invalid records take the quarantine's room when they are met, and their entry may never come.
#[tokio::test]
async fn what_is_not_handed_on_leaves_the_quarantine_its_room() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    let level = || source.quarantine.level().records;
    let lines = || Ok::<_, std::io::Error>(Bytes::from("{\n".repeat(100)));
    for key in [None, Some("key".to_owned())] {
        let chunks = stream::iter([lines()]).chain(stream::pending());
        let body = BodyReader::new(chunks.boxed(), ContentEncoding::Identity, BODY);
        {
            let request = IngestRequest { key: key.clone(), ..ndjson() };
            let under_way = source.ingest(request, body, None);
            tokio::pin!(under_way);
            assert!(futures::poll!(&mut under_way).is_pending());
            // A body with a key is read as a whole before anything of it is looked at.
            assert_eq!(level(), if key.is_some() { 0 } else { 100 });
        }
        assert_eq!(level(), 0, "its sender hung up");
    }
    let chunks = stream::iter([lines(), Err(std::io::Error::other("broken"))]);
    let body = BodyReader::new(chunks, ContentEncoding::Identity, BODY);
    let failure = source.ingest(ndjson(), body, None).await.unwrap_err();
    assert_eq!((failure.before.quarantined, level()), (0, 0));
    // No stream, no records.
    let body = BodyReader::whole(lines().unwrap(), BODY);
    let make: MakeStream<'_> = Box::pin(async { None });
    let failure = source.ingest(ndjson(), body, Some(make)).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::NotMade), "{:?}", failure.reason);
    assert_eq!(level(), 0);
    // What is handed on keeps it, until it is measured.
    for (number, key) in [None, Some("key".to_owned())].into_iter().enumerate() {
        let body = BodyReader::whole(lines().unwrap(), BODY);
        let reply = source.ingest(IngestRequest { key, ..ndjson() }, body, None).await.unwrap();
        assert_eq!((reply.quarantined, level()), (100, 100 * (number as u64 + 1)));
    }
    source.quarantine.note_committed(|_, _| true);
    source.quarantine.measured(&HashMap::new(), KeptAmount::default());
    assert_eq!(level(), 0);
    source.intake.close().await;
}
