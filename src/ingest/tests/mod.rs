//! Moments of a request that no client can bring about by itself.

mod answers;
mod room;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::EncodeLimits;
use tidegate_codec::{PayloadType, Shape, Stream, StreamsSnapshot};
use tidegate_journal::faults::FaultStorage;
use tidegate_journal::{DiskStorage, Journal, JournalOptions, Opened, Storage};
use tidegate_record::{StreamId, UnixMicros};
use time::OffsetDateTime;

use super::body::{BodyLimits, BodyReader, ContentEncoding};
use super::encoders::Encoders;
use super::level::ENTRY_TARGET_ROWS;
use super::*;
use crate::auth::{Caller, Quotas, Role, ScopeSet, Via};
use crate::counters::Counters;
use crate::db::streams::StreamLimits;
use crate::lifecycle::Lifecycle;
use crate::pipeline::{
    AppenderThread, DrainRate, IntakeLimits, KeptAmount, Keys, Ledger, Progress, QuarantineBudget,
    QuarantineLimits, SenderId,
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
fn source(journal_dir: &TempDir) -> Ingest {
    source_on(journal_dir.path(), DiskStorage)
}

fn source_on(directory: &Path, storage: impl Storage + 'static) -> Ingest {
    source_with(directory, storage, INTAKE)
}

fn source_with(
    directory: &Path,
    storage: impl Storage + 'static,
    intake_limits: IntakeLimits,
) -> Ingest {
    let Opened { journal, appender, .. } = Journal::open(directory, OPTIONS, storage).unwrap();
    let committed = DrainRate::new(Instant::now());
    let (intake, _thread) = AppenderThread::start(
        &Lifecycle::new(),
        &journal,
        appender,
        intake_limits,
        Ledger::default(),
        committed,
    )
    .unwrap();
    let limits = EncodeLimits { record_bytes_max: 1 << 20, members_max: u64::MAX };
    let database = Database::new("postgres://nobody@127.0.0.1:1/none").unwrap();
    let stream_limits = StreamLimits { in_all_max: 10, per_user_max: 10 };
    let catalog = Catalog::open(database.clone(), directory, stream_limits);
    Ingest {
        intake,
        encoders: Encoders::new(limits),
        counters: Counters::default(),
        keys: Keys::new(64),
        committed: Progress::new(journal.first()),
        quarantine: QuarantineBudget::new(QuarantineLimits::NONE),
        catalog,
        database,
        journal,
        entry_bytes_max: 1 << 20,
        commit_wait: Duration::from_secs(5),
    }
}

fn stream_of(id: i32, name: &str) -> Stream {
    Stream {
        id: StreamId(id),
        name: name.parse().unwrap(),
        shape: Shape::Document { payload: PayloadType::Json },
        key: None,
        retention_days: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn ndjson() -> IngestRequest {
    IngestRequest {
        addressing: Addressing::OneStream(OneStream {
            target: Target { stream: Arc::new(stream_of(1, "tests")), maker: None },
            format: Format::Ndjson,
            csv: CsvOptions::default(),
        }),
        sender: SenderId::Local,
        quota: None,
        user: "ada".into(),
        received_at: UnixMicros(0),
        ack: Ack::Journal,
        on_error: OnError::Quarantine,
        return_ids: false,
        key: None,
    }
}

/// For the streams that its lines name.
fn of_many_streams() -> IngestRequest {
    let caller = Caller {
        user_id: None,
        user_name: "ada".into(),
        role: Role::Admin,
        scopes: ScopeSet::ALL,
        streams: None,
        via: Via::Local,
        password: None,
        session: None,
    };
    let addressing = Addressing::ManyStreams(Rights { caller, makes_streams: true });
    IngestRequest { addressing, ..ndjson() }
}

/// The service knows streams of these names, numbered from 1.
fn know_streams(source: &Ingest, names: &[&str]) {
    let streams = (1..).zip(names).map(|(id, name)| stream_of(id, name));
    source.catalog.streams().replace(StreamsSnapshot::new(streams));
}

/// Lines that name these streams in turns.
fn lines_naming(names: &[&str], record: &str, count: usize) -> String {
    names.iter().cycle().take(count).fold(String::new(), |mut lines, name| {
        let _ = writeln!(lines, "{{\"stream\":\"{name}\",\"record\":{record}}}");
        lines
    })
}

/// For a stream that is still to be made; nothing here can make it.
fn of_unmade_stream() -> IngestRequest {
    let mut request = ndjson();
    if let Addressing::OneStream(one) = &mut request.addressing {
        one.target.maker = Some(Maker { user_id: None });
    }
    request
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
    let reply = source.take(ndjson(), body).await.map_err(|failure| failure.reason).unwrap();
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
            let first = source.take(request(), body());
            tokio::pin!(first);
            // Everything is there and there is room, so that it goes as far as to wait for the journal.
            let _ = futures::poll!(&mut first);
        }
        let second = source.take(request(), body()).await.unwrap();
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
    let failure = source.take(ndjson(), body).await.unwrap_err();
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
        source.take(IngestRequest { quota, key, ..ndjson() }, body).await
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
            let under_way = source.take(request, body);
            tokio::pin!(under_way);
            assert!(futures::poll!(&mut under_way).is_pending());
            // A body with a key is read as a whole before anything of it is looked at.
            assert_eq!(level(), if key.is_some() { 0 } else { 100 });
        }
        assert_eq!(level(), 0, "its sender hung up");
    }
    let chunks = stream::iter([lines(), Err(std::io::Error::other("broken"))]);
    let body = BodyReader::new(chunks, ContentEncoding::Identity, BODY);
    let failure = source.take(ndjson(), body).await.unwrap_err();
    assert_eq!((failure.before.quarantined, level()), (0, 0));
    // No stream, no records.
    let body = BodyReader::whole(lines().unwrap(), BODY);
    let failure = source.take(of_unmade_stream(), body).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::NotMade(_)), "{:?}", failure.reason);
    assert_eq!(level(), 0);
    // What is handed on keeps it, until it is measured.
    for (number, key) in [None, Some("key".to_owned())].into_iter().enumerate() {
        let body = BodyReader::whole(lines().unwrap(), BODY);
        let reply = source.take(IngestRequest { key, ..ndjson() }, body).await.unwrap();
        assert_eq!((reply.quarantined, level()), (100, 100 * (number as u64 + 1)));
    }
    source.quarantine.note_committed(|_, _| true);
    source.quarantine.measured(&HashMap::new(), KeptAmount::default());
    assert_eq!(level(), 0);
    source.intake.close().await;
}

/// What is kept of one request at most is shared by its streams, and so are the errors that it is told.
#[tokio::test]
async fn the_streams_of_a_request_share_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let request = KeptAmount { records: 5, bytes: 1 << 20 };
    let limits = QuarantineLimits { request, ..QuarantineLimits::NONE };
    let source = Ingest { quarantine: QuarantineBudget::new(limits), ..source(&directory) };
    know_streams(&source, &["one", "two"]);
    let lines = lines_naming(&["one", "two"], "5", 200);
    let body = BodyReader::whole(Bytes::from(lines), BODY);
    let reply = source.take(of_many_streams(), body).await.unwrap();
    assert_eq!((reply.quarantined, reply.not_kept.total(), reply.refused), (5, 195, 200));
    let by_stream =
        reply.streams.iter().map(|stream| (stream.quarantined, stream.not_kept.total()));
    assert_eq!(by_stream.collect::<Vec<_>>(), [(3, 97), (2, 98)]);
    let told: Vec<u64> = reply.errors.iter().map(|error| error.record).collect();
    assert_eq!(told, (1..=100).collect::<Vec<u64>>());
    assert_eq!(source.counters.of(StreamId(2)).totals().not_kept, 98);
    source.intake.close().await;
}

/// Whatever becomes of a request, what it took of the quarantine's room and of the quota is right for all its streams.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_of_many_streams_is_given_back() {
    let storage = FaultStorage::new(7);
    let source = source_on(Path::new("/journal"), storage.clone());
    know_streams(&source, &["one", "two"]);
    let (quotas, now) = (Quotas::default(), Instant::now());
    let lines =
        "{\"stream\":\"one\",\"record\":{}}\n{\"stream\":\"two\",\"record\":5}\n".repeat(50);
    let body = || BodyReader::whole(Bytes::from(lines.clone()), BODY);
    let send = async |token, key: Option<&str>| {
        let quota = Some(quotas.admit(token, 1, now).expect("nothing is owed"));
        let key = key.map(str::to_owned);
        source.take(IngestRequest { quota, key, ..of_many_streams() }, body()).await
    };
    for (token, key) in [(1, None), (2, Some("key"))] {
        let reply = send(token, key).await.unwrap();
        assert_eq!((reply.accepted, reply.quarantined), (50, 50));
        assert!(quotas.admit(token, 1, now).is_err(), "what was taken is paid for");
        assert_eq!(source.quarantine.level().records, 50 * u64::try_from(token).unwrap());
    }
    {
        let chunks = stream::iter([Ok::<_, Infallible>(Bytes::from(lines.clone()))])
            .chain(stream::pending());
        let body = BodyReader::new(chunks.boxed(), ContentEncoding::Identity, BODY);
        let under_way = source.take(of_many_streams(), body);
        tokio::pin!(under_way);
        assert!(futures::poll!(&mut under_way).is_pending());
        assert_eq!(source.quarantine.level().records, 150);
    }
    assert_eq!(source.quarantine.level().records, 100, "its sender hung up");
    storage.fail_sync_after(Some(0));
    for (token, key) in [(3, None), (4, Some("other"))] {
        let failure = send(token, key).await.unwrap_err();
        assert!(matches!(failure.reason, FailureReason::Intake(_)), "{:?}", failure.reason);
        assert!(failure.before.streams.iter().all(|stream| stream.accepted == 0));
        assert!(quotas.admit(token, 1, now).is_ok(), "what was not taken is not paid for");
    }
    assert_eq!(source.quarantine.level().records, 100);
}

/// What is gathered is handed on for all streams at once, so that what is taken of a request is its beginning.
#[tokio::test]
async fn a_request_that_breaks_off_is_taken_to_one_place_in_all_its_streams() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    know_streams(&source, &["one", "two", "three"]);
    let lines = lines_naming(&["one", "two", "three"], "{}", ENTRY_TARGET_ROWS as usize + 7);
    let chunks = [Ok(Bytes::from(lines)), Err(std::io::Error::other("hung up"))];
    let body = BodyReader::new(stream::iter(chunks), ContentEncoding::Identity, BODY);
    let failure = source.take(of_many_streams(), body).await.unwrap_err();
    let before = failure.before;
    assert_eq!(before.accepted, u64::from(ENTRY_TARGET_ROWS));
    let by_stream: Vec<u64> = before.streams.iter().map(|stream| stream.accepted).collect();
    assert_eq!(by_stream, [3_334, 3_333, 3_333]);
    source.intake.close().await;
}
