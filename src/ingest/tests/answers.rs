//! What a request with a key is answered fits its entry, and a repeat is told the same, whatever the sender wrote.

use tidegate_codec::UnknownKeys;
use tidegate_codec::columns::{Column, ColumnType};

use super::*;

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
