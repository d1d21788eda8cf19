//! The last quarter of an hour in numbers: how many records of each stream were accepted and committed in each interval,
//! so that a new monitor shows a chart at once.
//!
//! It is kept without monitors, too. Of streams that are many, the busiest are kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use tidegate_codec::StreamsSnapshot;
use tidegate_record::{StreamId, UnixMicros};

use super::message::{Message, rfc3339};
use super::selection::Selection;
use crate::counters::StreamTotals;

/// Counts are added up over this time.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// Intervals that are kept: a quarter of an hour.
const INTERVALS_MAX: usize = 180;
/// Streams that are kept of one interval; at 24 bytes each all intervals have at most 1.1 MB.
const STREAMS_MAX: usize = 256;

/// Records of one stream, in one interval or since the gateway began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Count {
    accepted: u64,
    committed: u64,
}

impl Count {
    fn is_zero(self) -> bool {
        self == Count::default()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Oldest first; streams without traffic are left out.
    intervals: VecDeque<Vec<(StreamId, Count)>>,
    /// The totals at the end of the newest interval.
    totals: HashMap<StreamId, Count>,
    /// When that was.
    until: UnixMicros,
}

impl Past {
    /// Ends an interval; `totals` are those of now.
    pub fn add(&mut self, totals: &HashMap<StreamId, StreamTotals>, now: UnixMicros) {
        let read = |totals: &StreamTotals| Count {
            accepted: totals.accepted,
            committed: totals.committed,
        };
        let totals: HashMap<_, _> =
            totals.iter().map(|(stream, totals)| (*stream, read(totals))).collect();
        let grown = totals.iter().map(|(stream, total)| {
            let before = self.totals.get(stream).copied().unwrap_or_default();
            let count = Count {
                accepted: total.accepted.saturating_sub(before.accepted),
                committed: total.committed.saturating_sub(before.committed),
            };
            (*stream, count)
        });
        let mut interval: Vec<_> = grown.filter(|(_, count)| !count.is_zero()).collect();
        if interval.len() > STREAMS_MAX {
            interval.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(count.accepted));
            interval.truncate(STREAMS_MAX);
            interval.shrink_to_fit();
        }
        if self.intervals.len() == INTERVALS_MAX {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
        (self.totals, self.until) = (totals, now);
    }

    /// The message `history` for a selection of streams.
    pub fn message(&self, selection: &Selection, streams: &StreamsSnapshot) -> Message {
        let name = |id: StreamId| {
            let stream = streams.by_id(id).filter(|stream| selection.covers(&stream.name))?;
            Some(stream.name.as_str())
        };
        let mut series: BTreeMap<&str, Series> = BTreeMap::new();
        for (number, interval) in self.intervals.iter().enumerate() {
            for (id, count) in interval {
                let Some(name) = name(*id) else { continue };
                let series =
                    series.entry(name).or_insert_with(|| Series::of_zeros(self.intervals.len()));
                series.accepted[number] = count.accepted;
                series.committed[number] = count.committed;
            }
        }
        Message::notice(&History {
            kind: "history",
            every_seconds: INTERVAL.as_secs(),
            until: &rfc3339(self.until),
            streams: series,
            totals: self
                .totals
                .iter()
                .filter_map(|(id, total)| Some((name(*id)?, *total)))
                .collect(),
        })
    }
}

#[derive(Serialize)]
struct History<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    every_seconds: u64,
    until: &'a str,
    streams: BTreeMap<&'a str, Series>,
    /// At `until`, as `stats` have them: so that nothing is missing between this and the first of them.
    totals: BTreeMap<&'a str, Count>,
}

/// One stream's counts, the oldest first; the last interval ends at `until`.
#[derive(Serialize)]
struct Series {
    accepted: Vec<u64>,
    committed: Vec<u64>,
}

impl Series {
    fn of_zeros(intervals: usize) -> Series {
        Series { accepted: vec![0; intervals], committed: vec![0; intervals] }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_codec::{PayloadType, Shape, Stream};
    use time::OffsetDateTime;

    use super::*;

    fn streams(count: i32) -> StreamsSnapshot {
        let stream = |id| Stream {
            id: StreamId(id),
            name: format!("s{id}").parse().unwrap(),
            shape: Shape::Document { payload: PayloadType::Jsonb },
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        StreamsSnapshot::new((1..=count).map(stream))
    }

    fn totals(counts: &[(i32, u64, u64)]) -> HashMap<StreamId, StreamTotals> {
        let total = |(id, accepted, committed): &(i32, u64, u64)| {
            let totals = StreamTotals {
                accepted: *accepted,
                committed: *committed,
                ..StreamTotals::default()
            };
            (StreamId(*id), totals)
        };
        counts.iter().map(total).collect()
    }

    fn shown(past: &Past, selection: &Selection, streams: &StreamsSnapshot) -> Value {
        serde_json::from_str(past.message(selection, streams).text.as_str()).unwrap()
    }

    #[test]
    fn each_interval_has_what_it_added() {
        let mut past = Past::default();
        let now = |second: i64| UnixMicros(second * 1_000_000);
        past.add(&totals(&[(1, 10, 0)]), now(5));
        past.add(&totals(&[(1, 30, 10), (2, 7, 7)]), now(10));
        // The second stream was dropped.
        past.add(&totals(&[(1, 30, 30)]), now(15));
        let expected = json!({
            "type": "history", "every_seconds": 5, "until": "1970-01-01T00:00:15.000000Z",
            "streams": {
                "s1": {"accepted": [10, 20, 0], "committed": [0, 10, 20]},
                "s2": {"accepted": [0, 7, 0], "committed": [0, 7, 0]},
            },
            "totals": {"s1": {"accepted": 30, "committed": 30}},
        });
        assert_eq!(shown(&past, &Selection::All, &streams(2)), expected);
        let one = Selection::only(["s2".parse().unwrap()]);
        assert_eq!(shown(&past, &one, &streams(2))["streams"].as_object().unwrap().len(), 1);
    }

    #[test]
    fn it_keeps_a_quarter_of_an_hour_of_the_busiest_streams() {
        let mut past = Past::default();
        let many = i32::try_from(STREAMS_MAX).unwrap() + 10;
        for number in (1..).take(INTERVALS_MAX + 3) {
            let counts: Vec<_> =
                (1..=many).map(|id| (id, number * u64::from(id.unsigned_abs()), 0)).collect();
            past.add(&totals(&counts), UnixMicros(0));
        }
        let shown = shown(&past, &Selection::All, &streams(many));
        let shown = shown["streams"].as_object().unwrap();
        assert_eq!(shown.len(), STREAMS_MAX);
        assert!(!shown.contains_key("s10") && shown.contains_key("s11"));
        assert_eq!(shown["s11"]["accepted"], json!(vec![11; INTERVALS_MAX]));
    }
}
