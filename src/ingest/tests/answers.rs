//! What a request with a key is answered fits its entry, and a repeat is told the same, whatever the sender wrote.

use tidegate_codec::UnknownKeys;
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_journal::EntryDraft;
use tidegate_record::{ColumnSet, EntryKey, EntryKind, EntryMeta, Source};

use super::super::request::Request;
use super::*;
use crate::pipeline::keys::{many_streams_key, request_key};
use crate::pipeline::{RequestRefusal, Share, Submission};

/// For a stream of these columns of numbers.
pub(super) fn csv_of_columns(columns: Vec<Column>) -> IngestRequest {
    let shape = Shape::typed(columns, UnknownKeys::Extra);
    let stream = Arc::new(Stream { shape, ..stream_of(1, "tests") });
    let target = Target { stream, maker: None };
    let one = OneStream { target, format: Format::Csv, csv: CsvOptions::default() };
    IngestRequest { addressing: Addressing::OneStream(one), ..ndjson() }
}

fn number(name: String) -> Column {
    Column::new(name, ColumnType::BigInt)
}

/// Sends it with a key, and once more; gives both replies.
async fn send_twice(source: &Ingest, columns: &[String], body: String) -> [IngestReply; 2] {
    let mut replies = Vec::new();
    for _ in 0..2 {
        let columns = columns.iter().cloned().map(number).collect();
        let request = IngestRequest { key: Some("key".to_owned()), ..csv_of_columns(columns) };
        let body = BodyReader::whole(Bytes::from(body.clone()), BODY);
        let taken = source.take(request, body).await;
        replies.push(taken.map_err(|failure| failure.reason).unwrap());
    }
    replies.try_into().expect("there are two")
}

#[tokio::test]
async fn a_header_of_long_names_neither_panics_nor_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    let body = format!("{}CARRIER\n7\n", " ".repeat(70_000));
    let [first, second] = send_twice(&source, &["carrier".to_owned()], body).await;
    assert_eq!((first.accepted, second.accepted), (1, 1));
    assert!(second.replayed && !first.replayed);
    assert_eq!(first.matched, second.matched);
    assert_eq!(first.matched[0].key, "carrier");
    assert_eq!(first.matched[0].header, format!("{}…", " ".repeat(80)));
    source.intake.close().await;
}

/// Five hundred names that are told, and a hundred errors: the errors go before.
#[tokio::test]
async fn an_answer_of_many_names_and_errors_fits_its_entry() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    let columns: Vec<String> = (0..500).map(|number| format!("c{number:062}")).collect();
    let header: Vec<String> =
        columns.iter().map(|name| format!("{}{}", " ".repeat(200), name.to_uppercase())).collect();
    let row = |value: &str| format!("{}{}", value, ",".repeat(499));
    let bad = format!("{}\n", row(&"x".repeat(200))).repeat(100);
    let body = format!("{}\n{bad}{}\n", header.join(","), row("7"));
    let [first, second] = send_twice(&source, &columns, body).await;
    assert_eq!((first.accepted, first.quarantined, first.errors.len()), (1, 100, 100));
    assert_eq!((second.accepted, second.quarantined, second.errors.len()), (1, 100, 100));
    assert!(second.replayed);
    assert!(!first.matched.is_empty());
    assert_eq!(first.matched, second.matched);
    source.intake.close().await;
}

/// The service after a crash that left an entry of this kind, with one record for the first stream, of a request with the key
/// "key" in the journal.
async fn torn(directory: &TempDir, request: IngestRequest, body: &str, kind: EntryKind) -> Ingest {
    let source = source(directory);
    know_streams(&source, &["one", "two"]);
    let key = match &request.addressing {
        Addressing::OneStream(one) => request_key(one.target.stream.id, "ada", "key"),
        Addressing::ManyStreams(_) => many_streams_key("ada", "key"),
    };
    let body = Request::new(&source, request).hash(body.as_bytes());
    let key = Some(EntryKey { key, body, answer: None });
    let mut meta = Vec::new();
    EntryMeta { key, ..EntryMeta::new(Source::Http, "ada") }.encode(&mut meta);
    let entry = EntryDraft::new(&meta, 0).seal(kind.code(), 1, ColumnSet(0), 1, UnixMicros(0));
    let submission = Submission {
        entries: vec![entry],
        share: Share { entries: 1, counters: source.counters.of(StreamId(1)), kept: None },
        other_shares: Vec::new(),
        source: Source::Http,
        claim: None,
        request: RequestRefusal::default(),
    };
    let room = source.intake.reserve(SenderId::Local, 1).await.unwrap();
    let pending = source.intake.submit(submission, room).await.unwrap();
    source.intake.durable(pending).await.unwrap();
    Ingest { keys: Keys::read(&source.journal, 64).unwrap(), ..source }
}

/// The kinds of the entries in the journal, by stream.
fn entries(source: &Ingest) -> Vec<(u32, EntryKind)> {
    let mut reader = source.journal.reader(source.journal.first());
    let entries = std::iter::from_fn(|| reader.next().unwrap());
    entries
        .map(|entry| (entry.header.stream, EntryKind::from_code(entry.header.kind).unwrap()))
        .collect()
}

/// When the stream refuses more than it did before the crash, what is in the journal of it may be any of its records.
#[tokio::test]
async fn what_is_refused_only_after_a_crash_is_named_and_not_kept() {
    let keyed = |request| IngestRequest { key: Some("key".to_owned()), ..request };
    // Of one stream: one was refused, and now both are.
    let (directory, body) = (tempfile::tempdir().unwrap(), "{\nbroken\n");
    let source = torn(&directory, ndjson(), body, EntryKind::Quarantine).await;
    for _ in 0..2 {
        let taken = source.take(keyed(ndjson()), BodyReader::whole(Bytes::from(body), BODY)).await;
        let reply = taken.map_err(|failure| failure.reason).unwrap();
        assert_eq!((reply.accepted, reply.quarantined, reply.refused), (0, 1, 2));
        assert_eq!(reply.errors.len(), 2);
        assert_eq!(entries(&source), [(1, EntryKind::Quarantine)]);
        assert_eq!(source.quarantine.level().records, 0, "nothing more takes its room");
    }
    // Of many: it was taken, and now it is refused; of the other stream nothing was there.
    let directory = tempfile::tempdir().unwrap();
    let body = lines_naming(&["one", "two"], "5", 2);
    let source = torn(&directory, of_many_streams(), &body, EntryKind::Records).await;
    let request = keyed(of_many_streams());
    let taken = source.take(request, BodyReader::whole(Bytes::from(body), BODY)).await;
    let reply = taken.map_err(|failure| failure.reason).unwrap();
    let by_stream = reply.streams.iter().map(|stream| (stream.accepted, stream.quarantined));
    assert_eq!(by_stream.collect::<Vec<_>>(), [(1, 0), (0, 1)]);
    assert_eq!((reply.refused, reply.errors.len()), (2, 2));
    assert_eq!(entries(&source), [(1, EntryKind::Records), (2, EntryKind::Quarantine)]);
    source.intake.close().await;
}
