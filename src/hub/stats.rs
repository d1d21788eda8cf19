//! The `stats` message: exact totals, every second.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use tidegate_codec::StreamName;
use tokio::time::Instant;

use super::Shared;
use super::message::{Message, rfc3339};
use super::monitor::Member;
use super::queue::Ended;
use super::selection::Selection;
use crate::counters::StreamTotals;

/// Statistics are sent this often.
pub(super) const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What the app tells of the node.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeStats {
    /// Bytes in the journal that are not in PostgreSQL.
    pub backlog_bytes: u64,
    /// Age of the oldest record that is not in PostgreSQL.
    pub commit_lag_seconds: f64,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    at: &'a str,
    streams: BTreeMap<&'a str, StreamTotals>,
    node: Node<'a>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Node<'a> {
    backlog_bytes: u64,
    commit_lag_seconds: f64,
    monitors: usize,
    /// Since when totals are counted.
    started_at: &'a str,
}

/// Gives every monitor the totals of its streams, and ends those that are stuck. Each text is made once for all
/// monitors with the same selection.
pub(super) fn send_stats(shared: &Shared) {
    let members: Vec<_> = shared.roster().members.values().cloned().collect();
    if members.is_empty() {
        return;
    }
    let now = Instant::now();
    let reading = Reading::take(shared, members.len());
    let mut texts: HashMap<&Selection, Utf8Bytes> = HashMap::new();
    for member in &members {
        if member.queue.is_stuck(now, shared.limits.stuck_after) {
            member.queue.end(Ended::Stuck);
            continue;
        }
        let Member { selection, queue, .. } = &**member;
        queue.put_stats(texts.entry(selection).or_insert_with(|| reading.text(selection)).clone());
    }
}

/// The numbers at one moment.
struct Reading {
    at: String,
    started_at: String,
    load: NodeStats,
    monitors: usize,
    totals: Vec<(StreamName, StreamTotals)>,
}

impl Reading {
    fn take(shared: &Shared, monitors: usize) -> Reading {
        let streams = shared.streams.snapshot();
        let totals = shared.counters.totals().into_iter();
        let named =
            totals.filter_map(|(id, totals)| Some((streams.by_id(id)?.name.clone(), totals)));
        Reading {
            at: rfc3339(shared.clock.now()),
            started_at: rfc3339(shared.started_at),
            load: (shared.node_stats)(),
            monitors,
            totals: named.collect(),
        }
    }

    fn text(&self, selection: &Selection) -> Utf8Bytes {
        let selected = self.totals.iter().filter(|(name, _)| selection.covers(name));
        let streams = selected.map(|(name, totals)| (name.as_str(), *totals)).collect();
        let node = Node {
            backlog_bytes: self.load.backlog_bytes,
            commit_lag_seconds: self.load.commit_lag_seconds,
            monitors: self.monitors,
            started_at: &self.started_at,
        };
        let stats = Stats { kind: "stats", at: &self.at, streams, node };
        Message::notice(&stats).text
    }
}
