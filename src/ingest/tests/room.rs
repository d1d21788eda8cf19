//! What a request gathers in memory has a limit however its body is made, and room is asked for it in time.

use serde_json::Value;
use tidegate_codec::COLUMNS_MAX;
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::formats::PushProgress;

use super::super::level::ENTRY_TARGET_BYTES;
use super::super::request::Request;
use super::answers::csv_of_columns;
use super::*;
use crate::pipeline::IntakeError;

/// For a stream of as many columns as may be, of which each but the first has as large a default as may be: a line
/// without anything becomes half a megabyte.
fn of_large_defaults() -> IngestRequest {
    let large = Value::String("x".repeat(990));
    let with_default = |number: usize| {
        let default = (number > 0).then(|| large.clone());
        Column { default, ..Column::new(format!("c{number}"), ColumnType::Text) }
    };
    csv_of_columns((0..COLUMNS_MAX).map(with_default).collect())
}

/// A header of one name, and lines without anything: each is a row.
fn blank_rows() -> Bytes {
    Bytes::from(format!("c0\n{}", "\n".repeat(100 << 10)))
}

#[tokio::test]
async fn rows_of_defaults_stop_at_the_limit_of_a_body_that_must_fit_one_entry() {
    let directory = tempfile::tempdir().unwrap();
    let source = source(&directory);
    for (key, on_error) in [(Some("key".to_owned()), OnError::Quarantine), (None, OnError::Reject)]
    {
        let wanted = IngestRequest { on_error, ..of_large_defaults() };
        let mut parser = Request::new(&source, wanted).parser(true, None).unwrap();
        let full = parser.push(&blank_rows()).unwrap();
        assert!(matches!(full, PushProgress::SinkFull { .. }), "{full:?}");
        assert!(
            parser.gathered_bytes() < 2 * ENTRY_TARGET_BYTES,
            "one row more than a step at most"
        );

        let is_keyed = key.is_some();
        let wanted = IngestRequest { on_error, key, ..of_large_defaults() };
        let failure = source.take(wanted, BodyReader::whole(blank_rows(), BODY)).await.unwrap_err();
        let tuples_bytes_max = 2 * source.entry_bytes_max;
        match failure.reason {
            FailureReason::TooManyForKey { tuples_bytes_max: max } if is_keyed => {
                assert_eq!(max, tuples_bytes_max);
            }
            FailureReason::TooManyToReject { tuples_bytes_max: max } if !is_keyed => {
                assert_eq!(max, tuples_bytes_max);
            }
            other => panic!("{other:?}"),
        }
    }
    source.intake.close().await;
}

/// As [`nothing_is_refused_once_everything_is_handed_on`], where the format has an end of its own behind the last record, or
/// keeps memory for the next one.
#[tokio::test]
async fn what_follows_the_last_record_that_fits_asks_for_no_room() {
    let of_format = |format| {
        let mut request = ndjson();
        if let Addressing::OneStream(one) = &mut request.addressing {
            one.format = format;
        }
        request
    };
    let rows = ENTRY_TARGET_ROWS as usize;
    // Blank lines, so that the room for the first chunk is enough for the tuples.
    let blank = "\n".repeat(100);
    let csv = format!("a,b\n{}", format!("{blank}1,2\n").repeat(rows - 1));
    let array = format!("[{{}}{}", format!("{blank},{{}}").repeat(rows - 2));
    let line = "{\"stream\":\"one\",\"record\":{}}\n";
    let many = format!("{}{line}", blank.repeat(rows));
    let list = ",{}".repeat(rows - 2);
    let list = format!("{{\"stream\":\"one\",\"records\":[{{}}{list}]}}\n\n");
    for (request, before, last) in [
        (of_format(Format::Csv), csv, "1,2\n".to_owned()),
        (of_format(Format::Json), array.clone(), ",{}]".to_owned()),
        (of_format(Format::Json), array, ",{} ".to_owned()),
        (of_many_streams(), many, list),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let source = source(&directory);
        know_streams(&source, &["one"]);
        let intake = source.intake.clone();
        let name = format!("{last:.20}");
        // Where the array is not at its end, that comes with the next chunk.
        let end = if last.ends_with(' ') { "\n]\n" } else { "\n" };
        let chunks =
            stream::iter([before, last, end.to_owned()]).enumerate().map(move |(turn, chunk)| {
                if turn == 1 {
                    intake.refuse_new();
                }
                Ok::<_, Infallible>(Bytes::from(chunk))
            });
        let body = BodyReader::new(chunks.boxed(), ContentEncoding::Identity, BODY);
        let taken = source.take(request, body).await;
        let reply = taken.map_err(|failure| failure.reason).expect(&name);
        assert_eq!(reply.accepted, u64::from(ENTRY_TARGET_ROWS), "{name}");
        source.intake.close().await;
    }
}

/// What is refused before it is on its way to the journal may be kept another time: the rate's share of invalid records is not
/// used up by it.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_records_that_were_not_submitted_are_given_back_to_the_quota() {
    let storage = FaultStorage::new(7);
    let limits = IntakeLimits { entries_max: 1, wait: Duration::ZERO, ..INTAKE };
    let source = source_with(Path::new("/journal"), storage.clone(), limits);
    know_streams(&source, &["one", "two"]);
    let (quotas, now) = (Quotas::default(), Instant::now());
    // A minute's worth of one record a second.
    let covered = || {
        let admission = quotas.admit(1, 1, now).expect("what was not taken is not paid for");
        let mut invalid = admission.invalid_records();
        (0..100).take_while(|_| invalid.take()).count()
    };
    let many = lines_naming(&["one", "two"], "5", 50);
    // One submission is being synced, and one has the only place in the queue behind it.
    storage.hold_syncs(true);
    let good = || source.take(ndjson(), BodyReader::whole(Bytes::from("{}\n"), BODY));
    let (synced, queued) = (good(), good());
    tokio::pin!(synced, queued);
    assert!(futures::poll!(&mut synced).is_pending());
    tokio::task::spawn_blocking({
        let storage = storage.clone();
        move || storage.wait_for_held_sync()
    })
    .await
    .unwrap();
    assert!(futures::poll!(&mut queued).is_pending());
    let requests: [(fn() -> IngestRequest, String); 2] =
        [(ndjson, "{\n".repeat(50)), (of_many_streams, many)];
    for (wanted, lines) in requests {
        for key in [None, Some("key".to_owned())] {
            let quota = Some(quotas.admit(1, 1, now).unwrap());
            let request = IngestRequest { quota, key, ..wanted() };
            let body = BodyReader::whole(Bytes::from(lines.clone()), BODY);
            let failure = source.take(request, body).await.unwrap_err();
            assert!(
                matches!(failure.reason, FailureReason::Intake(IntakeError::Overloaded { .. })),
                "{:?}",
                failure.reason
            );
            assert_eq!(covered(), 60);
        }
    }
    storage.hold_syncs(false);
    let (synced, queued) = futures::join!(synced, queued);
    assert_eq!((synced.unwrap().accepted, queued.unwrap().accepted), (1, 1));
}

/// Whether its sender waits for the reply or not, what was not kept counts once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_kept_counts_although_the_sender_hung_up() {
    let storage = FaultStorage::new(7);
    let request = KeptAmount { records: 1, bytes: 1 << 20 };
    let limits = QuarantineLimits { request, ..QuarantineLimits::NONE };
    let source = source_on(Path::new("/journal"), storage.clone());
    let source = Ingest { quarantine: QuarantineBudget::new(limits), ..source };
    let body = || BodyReader::whole(Bytes::from("{\n".repeat(3)), BODY);
    let counted = || source.counters.of(StreamId(1)).totals().not_kept;
    storage.hold_syncs(true);
    for key in [None, Some("key".to_owned())] {
        let before = counted();
        {
            let under_way = source.take(IngestRequest { key, ..ndjson() }, body());
            tokio::pin!(under_way);
            assert!(futures::poll!(&mut under_way).is_pending());
            assert_eq!(counted(), before, "it waits for the journal");
        }
        assert_eq!(counted(), before + 2);
    }
    storage.hold_syncs(false);
    source.take(ndjson(), body()).await.unwrap();
    assert_eq!(counted(), 6);
    storage.fail_sync_after(Some(0));
    source.take(ndjson(), body()).await.unwrap_err();
    let after_doubt = counted();
    source.take(ndjson(), body()).await.unwrap_err();
    assert_eq!(counted(), after_doubt, "what was surely not taken does not count");
}
