//! A journal that its disk damaged while records waited in it: everything outside the damage is committed exactly once,
//! and what is missing is named.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_record::Position;

use crate::support::{Gateway, Metrics, Stall, parse_position};

const RECORDS: i64 = 60;
const RECORD_BYTES: usize = 100_000;
/// Segments of about ten records.
const FLAGS: [&str; 1] = ["--journal-segment-bytes=1048576"];
/// Length of a segment's header.
const HEADER_BYTES: u64 = 64;
/// Longest start over a damaged journal.
const START_MAX: Duration = Duration::from_secs(5);

/// A record for itself in an entry, which lies below the position of its reply.
struct Sent {
    n: i64,
    end: u64,
}

/// Sends records while PostgreSQL is held, each in an entry of its own.
async fn fill(gateway: &Gateway, numbers: Range<i64>) -> Vec<Sent> {
    let mut sent = Vec::new();
    for n in numbers {
        let record = json!({"n": n, "text": "x".repeat(RECORD_BYTES)});
        let reply = gateway.records("waiting").json(&record).send().await.expect(202);
        sent.push(Sent { n, end: parse_position(&reply["position"]).0 });
    }
    sent
}

/// The segments in order: first position and file.
fn segments(gateway: &Gateway) -> Vec<(u64, PathBuf)> {
    let files = std::fs::read_dir(gateway.data_dir().join("journal")).unwrap();
    let mut segments: Vec<(u64, PathBuf)> = files
        .filter_map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name()?.to_str()?.strip_suffix(".segment")?.to_owned();
            Some((u64::from_str_radix(&name, 16).unwrap(), path))
        })
        .collect();
    segments.sort();
    segments
}

fn overwrite(path: &PathBuf, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// The numbers of the records whose entries touch one of the ranges.
fn hit(sent: &[Sent], ranges: &[Range<u64>]) -> Vec<i64> {
    let mut begin = 0;
    let mut hit = Vec::new();
    for record in sent {
        // Between entries lies at most a segment's header.
        let entry = begin + HEADER_BYTES..record.end;
        if ranges.iter().any(|range| range.start < entry.end && entry.start < range.end) {
            hit.push(record.n);
        }
        begin = record.end;
    }
    hit
}

#[tokio::test]
async fn what_lies_outside_the_damage_is_committed_exactly_once() {
    let mut gateway = Gateway::with(&FLAGS).await;
    gateway.create_stream(&json!({"name": "waiting"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let sent = fill(&gateway, 0..RECORDS).await;
    gateway.kill9().await;

    let segments = segments(&gateway);
    assert!(segments.len() >= 5, "{segments:?}");
    // A few bytes of an entry in the middle of one segment; another segment altogether.
    let (flipped, garbage) = (&segments[1], &segments[3]);
    let place = flipped.0 + 300_000;
    overwrite(&flipped.1, 300_000, &[0xA5; 16]);
    let length = std::fs::metadata(&garbage.1).unwrap().len();
    overwrite(&garbage.1, 0, &vec![0xEE; usize::try_from(length).unwrap()]);
    let lost = hit(&sent, &[place..place + 16, garbage.0..garbage.0 + length]);
    assert!((6..20).contains(&lost.len()), "{lost:?}");

    // PostgreSQL is still held: the start waits for nothing but the journal.
    let began = Instant::now();
    gateway.restart().await;
    let more = fill(&gateway, RECORDS..RECORDS + 1).await;
    assert!(began.elapsed() < START_MAX, "took {:?}", began.elapsed());
    assert!(more[0].end > sent[sent.len() - 1].end, "positions go on");

    let status = gateway.get("/v1/status").await.expect(200);
    let damages = status["journal"]["damages"].as_array().unwrap();
    let range = |damage: &Value| parse_position(&damage["from"]).0..parse_position(&damage["to"]).0;
    let named: Vec<Range<u64>> = damages.iter().map(range).collect();
    assert_eq!(named.len(), 2, "{status}");
    assert!(named[0].contains(&place), "{named:?}");
    assert_eq!(named[1], garbage.0..garbage.0 + length);
    assert_eq!(hit(&sent, &named), lost, "no record more, and no record less, is named");
    let log = gateway.log();
    for (damage, range) in damages.iter().zip(&named) {
        for position in [range.start, range.end] {
            assert!(log.contains(&Position(position).to_string()), "{position:016x}");
        }
        let kept = std::fs::metadata(damage["set_aside"].as_str().unwrap()).unwrap();
        assert_eq!(kept.len(), range.end - range.start, "all its bytes were set aside");
    }
    let metrics = Metrics::read(&gateway).await;
    assert!((metrics.of("tidegate_journal_damages") - 2.0).abs() < 0.1);

    stall.release().await;
    gateway.wait_all_committed().await;
    let numbers: Vec<i64> =
        gateway.column("select (payload->>'n')::bigint from streams.waiting order by 1").await;
    let expected: Vec<i64> = (0..=RECORDS).filter(|n| !lost.contains(n)).collect();
    assert_eq!(numbers, expected);

    // It stays named, and nothing is repeated.
    gateway.restart().await;
    gateway.commit("waiting", &json!({"n": RECORDS + 1})).await;
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(status["journal"]["damages"].as_array().unwrap().len(), 2);
    assert_eq!(gateway.rows("waiting").await, i64::try_from(expected.len()).unwrap() + 1);
}
