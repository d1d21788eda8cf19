//! The counts of each stream, as Prometheus reads them.

use std::fmt::Write as _;

use super::{
    ACCEPTED, BYTES_ACCEPTED, COMMITTED, DUPLICATE, NOT_KEPT, PARKED, QUARANTINED, REFUSED,
};

/// Counts of one stream, and of one source where they are told apart.
#[derive(Debug, Clone, Default)]
pub struct StreamCounts {
    pub stream: String,
    pub committed: u64,
    pub duplicates: u64,
    pub refused: u64,
    /// Records that wait because the stream's table cannot be written.
    pub parked: u64,
    pub sources: Vec<SourceCounts>,
}

/// What came into a stream through one source.
#[derive(Debug, Clone, Copy)]
pub struct SourceCounts {
    pub source: &'static str,
    pub accepted: u64,
    pub quarantined: u64,
    pub not_kept: u64,
    pub bytes: u64,
}

/// A counter's name, its help, and its value in a set of counts.
type Counter<T> = (&'static str, &'static str, fn(&T) -> u64);

/// The streams' counters as text. Written here, because a recorder keeps the labels of a stream that is gone, and does
/// not let the counter of one that is made again begin anew. Names of streams need no escaping.
pub fn render_streams(streams: &[StreamCounts]) -> String {
    let mut text = String::new();
    let sources: [Counter<SourceCounts>; 4] = [
        (ACCEPTED, "Records durable in the journal.", |counts| counts.accepted),
        (QUARANTINED, "Invalid records kept aside.", |counts| counts.quarantined),
        (
            NOT_KEPT,
            "Invalid records not kept, because a limit on the quarantine said so.",
            |counts| counts.not_kept,
        ),
        (BYTES_ACCEPTED, "Bytes of accepted records, as tuples.", |counts| counts.bytes),
    ];
    for (name, help, value) in sources {
        let lines = streams.iter().flat_map(|stream| {
            stream.sources.iter().map(move |counts| {
                let labels = format!("stream=\"{}\",source=\"{}\"", stream.stream, counts.source);
                (labels, value(counts))
            })
        });
        render(&mut text, "counter", name, help, lines);
    }
    let totals: [Counter<StreamCounts>; 3] = [
        (COMMITTED, "Records that made a row.", |counts| counts.committed),
        (DUPLICATE, "Records of keyed streams that found their key taken.", |counts| {
            counts.duplicates
        }),
        (REFUSED, "Accepted records that PostgreSQL refused; in the quarantine.", |counts| {
            counts.refused
        }),
    ];
    for (name, help, value) in totals {
        let lines =
            streams.iter().map(|stream| (format!("stream=\"{}\"", stream.stream), value(stream)));
        render(&mut text, "counter", name, help, lines);
    }
    let parked =
        streams.iter().map(|stream| (format!("stream=\"{}\"", stream.stream), stream.parked));
    render(&mut text, "gauge", PARKED, "Records that wait for their table.", parked);
    text
}

fn render(
    text: &mut String,
    kind: &str,
    name: &str,
    help: &str,
    lines: impl Iterator<Item = (String, u64)>,
) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String");
    for (labels, value) in lines {
        writeln!(text, "{name}{{{labels}}} {value}").expect("writing to a String");
    }
}
