//! A hub on a journal in a temporary directory, and a reader that checks what a monitor is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_codec::{PayloadType, Shape, Stream, StreamName, Streams, StreamsSnapshot};
use tidegate_journal::{Appender, DiskStorage, EntryDraft, Journal, JournalOptions, SealedEntry};
use tidegate_record::clock::Clock;
use tidegate_record::{ColumnSet, EntryKind, EntryMeta, Position, Source, StreamId, UnixMicros};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{Cursor, Hub, HubLimits, JournalTag, Message, NodeStats, Place, Point};
use crate::counters::Counters;
use crate::lifecycle::Lifecycle;

/// The streams of every bench, with the ids 1, 2 and 3.
pub(crate) const STREAMS: [&str; 3] = ["flights", "quakes", "zones"];

/// A hub at work.
pub(crate) struct Bench {
    pub hub: Hub,
    pub journal: Journal,
    pub counters: Counters,
    pub clock: Clock,
    pub shutdown: CancellationToken,
    appender: Appender,
    synced: watch::Sender<Position>,
    accepted: BTreeMap<StreamId, u64>,
    _stop: DropGuard,
    _dir: TempDir,
}

pub(crate) fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn streams() -> Streams {
    let streams = Streams::default();
    let stream = |(id, text): (i32, &str)| Stream {
        id: StreamId(id),
        name: name(text),
        shape: Shape::Document { payload: PayloadType::Jsonb },
        key: None,
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    };
    streams.replace(StreamsSnapshot::new((1..).zip(STREAMS).map(stream)));
    streams
}

impl Bench {
    /// A hub that runs; to be called inside of a runtime.
    pub fn start(limits: HubLimits) -> Bench {
        let bench = Bench::stopped(limits);
        bench.run();
        bench
    }

    /// A hub that does not run before [`Bench::run`].
    pub fn stopped(limits: HubLimits) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            segment_bytes: 64 * 1024,
            bytes_max: 1 << 30,
            retention: std::time::Duration::ZERO,
            retention_bytes: 0,
        };
        let opened = Journal::open(dir.path(), options, DiskStorage).unwrap();
        let clock = Clock::manual(UnixMicros(1_800_000_000_000_000));
        let counters = Counters::default();
        let node = NodeStats { backlog_bytes: 77, commit_lag_seconds: 0.5 };
        let hub = Hub::new(
            opened.journal.clone(),
            streams(),
            counters.clone(),
            limits,
            clock.clone(),
            "node-1".to_owned(),
            Arc::new(move || node),
        );
        let shutdown = CancellationToken::new();
        Bench {
            hub,
            synced: watch::Sender::new(opened.journal.synced()),
            journal: opened.journal,
            counters,
            clock,
            appender: opened.appender,
            accepted: BTreeMap::new(),
            _stop: shutdown.clone().drop_guard(),
            shutdown,
            _dir: dir,
        }
    }

    pub fn run(&self) {
        let (hub, synced) = (self.hub.clone(), self.synced.subscribe());
        let shutdown = self.shutdown.clone();
        Lifecycle::new().spawn("hub", async move { hub.run(synced, shutdown).await });
    }

    /// Appends entries as one group and tells the hub.
    pub fn append(&mut self, entries: &[(i32, u32)]) {
        self.append_padded(entries, 0);
    }

    /// Like [`Bench::append`]; each record has so many bytes more.
    pub fn append_padded(&mut self, entries: &[(i32, u32)], padding: usize) {
        let mut group = Vec::new();
        for (stream, rows) in entries {
            let accepted = self.accepted.entry(StreamId(*stream)).or_default();
            group.push(records(*stream, *accepted, *rows, padding));
            *accepted += u64::from(*rows);
        }
        self.write(group);
    }

    /// Appends an entry that no monitor may ever see.
    pub fn append_quarantined(&mut self, stream: u32) {
        let mut draft = EntryDraft::new(&meta(), 0);
        draft.buffer_mut().extend_from_slice(b"not a tuple of this stream");
        self.write(vec![draft.seal(
            EntryKind::Quarantine.code(),
            stream,
            ColumnSet(0),
            5,
            UnixMicros(0),
        )]);
    }

    /// Appends an entry whose rows cannot be decoded; they count as accepted.
    pub fn append_broken(&mut self, stream: i32, rows: u32) {
        *self.accepted.entry(StreamId(stream)).or_default() += u64::from(rows);
        let mut draft = EntryDraft::new(&meta(), 0);
        draft.buffer_mut().extend_from_slice(b"broken");
        let stream = stream.cast_unsigned();
        self.write(vec![draft.seal(
            EntryKind::Records.code(),
            stream,
            ColumnSet(0),
            rows,
            UnixMicros(0),
        )]);
    }

    fn write(&mut self, mut group: Vec<SealedEntry>) {
        let appended = self.appender.append(&mut group).unwrap();
        self.synced.send_replace(appended.end);
    }

    /// Records accepted so far.
    pub fn accepted(&self, stream: i32) -> u64 {
        self.accepted.get(&StreamId(stream)).copied().unwrap_or(0)
    }

    /// The cursor of a position in this journal.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            journal: JournalTag::from(self.journal.id()),
            place: Place::At(Point::at(position)),
        }
    }
}

fn meta() -> Vec<u8> {
    let mut bytes = Vec::new();
    EntryMeta::new(Source::Http, "ada \"the\" 1st").encode(&mut bytes);
    bytes
}

/// An entry whose records count on from `first`.
fn records(stream: i32, first: u64, rows: u32, padding: usize) -> SealedEntry {
    let mut draft = EntryDraft::new(&meta(), 0);
    for row in 0..u64::from(rows) {
        let number = first + row;
        let space = " ".repeat(padding);
        let payload = format!("\u{1}{{\"n\":\n{number}{space}}}");
        let id = Uuid::from_u128(u128::from(number) << 8 | u128::from(stream.unsigned_abs()));
        let out = draft.buffer_mut();
        out.extend_from_slice(&3_u16.to_be_bytes());
        for field in [id.as_bytes().as_slice(), &0_i64.to_be_bytes(), payload.as_bytes()] {
            out.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
            out.extend_from_slice(field);
        }
    }
    let code = EntryKind::Records.code();
    draft.seal(code, stream.cast_unsigned(), ColumnSet(0), rows, UnixMicros(0))
}

/// What a monitor was told of each stream: the number of the next record that it must hear of.
///
/// Invariant: it panics when a record or a gap is not exactly what comes next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    next: BTreeMap<String, u64>,
    pub shown: u64,
    pub omitted: u64,
    pub unknown_gaps: u64,
    pub cursor: Option<String>,
}

impl Told {
    pub fn of(&self, stream: &str) -> u64 {
        self.next.get(stream).copied().unwrap_or(0)
    }

    /// Starts at other numbers than 0.
    pub fn starting_at(next: &[(&str, u64)]) -> Told {
        let next = next.iter().map(|(stream, next)| ((*stream).to_owned(), *next)).collect();
        Told { next, ..Told::default() }
    }

    pub fn hear(&mut self, message: &Message) {
        let text = message.text.as_str();
        assert!(!text.contains(['\n', '\r']), "a message is one line: {text}");
        let value: Value = serde_json::from_str(text).unwrap();
        let cursor = value["cursor"].as_str().or(value["to"].as_str()).map(str::to_owned);
        assert_eq!(cursor, message.cursor.map(|cursor| cursor.to_string()));
        self.hear_value(&value);
    }

    pub fn hear_value(&mut self, value: &Value) {
        let cursor = value["cursor"].as_str().or(value["to"].as_str());
        match value["type"].as_str().unwrap() {
            "records" => {
                let next = self.next.entry(value["stream"].as_str().unwrap().into()).or_default();
                for record in value["records"].as_array().unwrap() {
                    assert_eq!(record["data"]["n"], *next, "{}", value["stream"]);
                    assert_eq!(record["source"], "http");
                    assert_eq!(record["user"], "ada \"the\" 1st");
                    assert_eq!(record["received_at"], "2000-01-01T00:00:00.000000Z");
                    *next += 1;
                    self.shown += 1;
                }
            }
            "gap" => {
                let next = self.next.entry(value["stream"].as_str().unwrap().into()).or_default();
                match value["count"].as_u64() {
                    Some(count) => {
                        assert!(count > 0, "a gap is not empty");
                        *next += count;
                        self.omitted += count;
                    }
                    None => self.unknown_gaps += 1,
                }
            }
            "hello" | "stats" => {}
            other => panic!("unexpected {other}"),
        }
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor.to_owned());
        }
    }

    /// Whether it was told of everything that the bench accepted.
    pub fn is_complete(&self, bench: &Bench) -> bool {
        (1..).zip(STREAMS).all(|(id, stream)| self.of(stream) == bench.accepted(id))
    }
}
