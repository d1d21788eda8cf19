//! The monitor's messages, as far as the demo reads them.
//!
//! Other programs may write to the same streams, with any type under any key. So the three fields of the demo are read
//! as raw JSON and compared; a stranger's record is skipped and can never spoil the message that carries it.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_record::UnixMicros;

use crate::feed::Dataset;
use crate::moment::MomentReader;
use crate::sightings::Sightings;

/// Any message. One shape for all kinds: an enum tagged by `type` would be copied before it is read.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default, borrow)]
    records: Vec<Record<'a>>,
    /// Of `hello`: names. Of `stats`: an object by name.
    #[serde(default, borrow)]
    streams: Option<&'a RawValue>,
    /// Of `gap`.
    #[serde(default)]
    to: Option<String>,
    /// Of `gap`.
    #[serde(default)]
    count: Option<u64>,
    /// Of `error`.
    #[serde(default, rename = "message", borrow)]
    explanation: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    received_at: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Debug, Deserialize)]
struct Data<'a> {
    #[serde(default, borrow)]
    demo_run: Option<&'a RawValue>,
    #[serde(default, borrow)]
    demo_seq: Option<&'a RawValue>,
    #[serde(default, borrow)]
    sent_at: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Totals {
    committed: u64,
}

/// What a message means to the connection that it came on.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The gateway is ready to send; watching starts at this cursor.
    Hello {
        cursor: Option<String>,
    },
    /// All up to this cursor has been seen, or announced as a gap.
    Progress {
        cursor: Option<String>,
    },
    /// The gateway reports an error.
    Error(String),
    Other,
}

/// Reads messages into sightings.
pub struct MessageReader {
    /// The run as JSON text, to compare with.
    run_json: String,
    /// The streams' names, and which data each carries.
    streams: Vec<(String, Dataset)>,
    sent: MomentReader,
    received: MomentReader,
}

impl MessageReader {
    pub fn new(run: &str, streams: Vec<(String, Dataset)>) -> MessageReader {
        MessageReader {
            run_json: format!("\"{run}\""),
            streams,
            sent: MomentReader::default(),
            received: MomentReader::default(),
        }
    }

    /// Enters a message that arrived at `now`.
    pub fn read(
        &mut self,
        text: &str,
        now: UnixMicros,
        sightings: &mut Sightings,
    ) -> serde_json::Result<Event> {
        let message: Message<'_> = serde_json::from_str(text)?;
        let dataset = message.stream.as_deref().and_then(|name| self.dataset(name));
        match message.kind.as_ref() {
            "hello" => Ok(Event::Hello { cursor: message.cursor }),
            "records" => {
                if let Some(dataset) = dataset {
                    self.read_records(dataset, &message.records, now, sightings);
                }
                Ok(Event::Progress { cursor: message.cursor })
            }
            "gap" => {
                if let Some(dataset) = dataset {
                    sightings.stream_mut(dataset).gap(message.count);
                }
                Ok(Event::Progress { cursor: message.to })
            }
            "stats" => {
                self.read_stats(message.streams, sightings)?;
                Ok(Event::Other)
            }
            "error" => Ok(Event::Error(message.explanation.unwrap_or_default().into_owned())),
            _ => Ok(Event::Other),
        }
    }

    fn dataset(&self, name: &str) -> Option<Dataset> {
        self.streams.iter().find(|(stream, _)| stream == name).map(|(_, dataset)| *dataset)
    }

    fn read_records(
        &mut self,
        dataset: Dataset,
        records: &[Record<'_>],
        now: UnixMicros,
        sightings: &mut Sightings,
    ) {
        for record in records {
            let data = &record.data;
            if data.demo_run.is_none_or(|run| run.get() != self.run_json) {
                continue;
            }
            let sequence = data.demo_seq.and_then(|number| number.get().parse().ok());
            sightings.stream_mut(dataset).record(sequence);
            let sent_at = data.sent_at.map_or("", |text| text.get().trim_matches('"'));
            if let Some(sent_at) = self.sent.read(sent_at) {
                sightings.from_sent.record_micros(now.0.saturating_sub(sent_at.0));
            }
            if let Some(received_at) = self.received.read(&record.received_at) {
                sightings.from_received.record_micros(now.0.saturating_sub(received_at.0));
            }
        }
    }

    fn read_stats(
        &self,
        streams: Option<&RawValue>,
        sightings: &mut Sightings,
    ) -> serde_json::Result<()> {
        let Some(streams) = streams else {
            return Ok(());
        };
        let totals: HashMap<Cow<'_, str>, Totals> = serde_json::from_str(streams.get())?;
        for (name, dataset) in &self.streams {
            if let Some(totals) = totals.get(name.as_str()) {
                sightings.stream_mut(*dataset).committed.observe(totals.committed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_795_237_201_000_000);

    fn read(messages: &[&str]) -> (Sightings, Vec<Event>) {
        let streams =
            vec![("weather".into(), Dataset::Weather), ("movies".into(), Dataset::Movies)];
        let mut reader = MessageReader::new("run-1", streams);
        let mut sightings = Sightings::new().expect("sightings");
        let read = |text: &&str| reader.read(text, NOW, &mut sightings).expect("a message");
        let events = messages.iter().map(read).collect();
        (sightings, events)
    }

    #[test]
    fn a_run_s_records_are_counted_and_strangers_are_skipped() {
        let (sightings, events) = read(&[
            r#"{"type":"hello","cursor":"c0","streams":["weather"],"mode":"full","node":"n"}"#,
            r#"{"type":"records","stream":"weather","cursor":"c1","records":[
                {"id":"i","received_at":"2026-11-21T05:00:00.900000Z","source":"http","user":"u",
                 "data":{"temp":1.5,"demo_run":"run-1","demo_seq":7,"sent_at":"2026-11-21T05:00:00.5Z"}},
                {"id":"i","received_at":"2026-11-21T05:00:00.900000Z","source":"http","user":"u",
                 "data":{"demo_run":"run-0","demo_seq":8}},
                {"id":"i","received_at":"2026-11-21T05:00:00.900000Z","source":"http","user":"u",
                 "data":{"demo_run":{"not":"ours"},"demo_seq":null}}]}"#,
        ]);
        let weather = &sightings.streams.weather;
        assert!(weather.seen.contains(7));
        assert_eq!((weather.seen.count(), weather.strange), (1, 0));
        assert_eq!(sightings.streams.movies.seen.count(), 0);
        let longest = |latency: &crate::latency::Latency| {
            latency.quantiles().map(|[.., longest]| longest.as_millis())
        };
        assert_eq!(longest(&sightings.from_sent), Some(500));
        assert_eq!(longest(&sightings.from_received), Some(100));
        let cursor = |text: &str| Some(text.to_owned());
        assert_eq!(
            events,
            [Event::Hello { cursor: cursor("c0") }, Event::Progress { cursor: cursor("c1") }]
        );
    }

    #[test]
    fn gaps_are_summed_for_their_stream_and_move_the_cursor() {
        let (sightings, events) = read(&[
            r#"{"type":"gap","stream":"movies","from":"a","to":"b","count":312}"#,
            r#"{"type":"gap","stream":"movies","from":"b","to":"c","count":null}"#,
            r#"{"type":"gap","stream":"another","from":"b","to":"d","count":5}"#,
        ]);
        let movies = &sightings.streams.movies;
        assert_eq!((movies.gap_records, movies.gaps_uncounted), (312, 1));
        assert_eq!(sightings.streams.weather.gap_records, 0);
        assert_eq!(events[2], Event::Progress { cursor: Some("d".into()) });
    }

    #[test]
    fn stats_feed_the_meters_and_later_kinds_are_ignored() {
        let (sightings, events) = read(&[
            r#"{"type":"stats","at":"t","streams":{"weather":{"accepted":5,"committed":5}},"node":{}}"#,
            r#"{"type":"stats","at":"t","streams":{"weather":{"accepted":9,"committed":8}},"node":{}}"#,
            r#"{"type":"task","id":"1","status":"PROCESSING"}"#,
            r#"{"type":"error","code":"gone","message":"the stream is gone"}"#,
        ]);
        assert_eq!(sightings.streams.weather.committed.total(), 3);
        assert_eq!(events[2], Event::Other);
        assert_eq!(events[3], Event::Error("the stream is gone".into()));
    }
}
