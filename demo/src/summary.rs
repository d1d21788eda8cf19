//! The report at the end of a run, as text.

use std::fmt::Write;
use std::time::Duration;

use indicatif::HumanCount;

use crate::feed::{Dataset, PerDataset};
use crate::latency::Latency;
use crate::ledger::StreamLedger;
use crate::sightings::StreamSightings;
use crate::verdict::Evidence;
use crate::verify::TableCheck;

const LABEL_WIDTH: usize = 24;
const COLUMN_WIDTH: usize = 16;

/// How long the phases of a run took, from its start.
#[derive(Debug, Clone, Copy)]
pub struct Durations {
    /// Up to the last acknowledgement.
    pub acknowledged: Duration,
    /// Until all was committed; `None` if it was not in time.
    pub committed: Option<Duration>,
}

/// The tables of numbers, rates and latencies.
pub fn render(evidence: &Evidence<'_>, durations: Durations) -> String {
    let mut text = String::new();
    let names = &evidence.streams;
    row(&mut text, "", [&names.weather, &names.movies, "total"]);
    write_counts(&mut text, evidence);
    text.push('\n');
    write_rates(&mut text, evidence, durations);
    text.push('\n');
    row(&mut text, "latency", ["p50", "p99", "max"]);
    latency(&mut text, "acknowledgement", &evidence.ledger.latency);
    latency(&mut text, "sent → monitor", &evidence.sightings.from_sent);
    latency(&mut text, "received → monitor", &evidence.sightings.from_received);
    text
}

fn write_counts(text: &mut String, evidence: &Evidence<'_>) {
    let ledgers = &evidence.ledger.streams;
    let sightings = &evidence.sightings.streams;
    let mut ledger = |label, number: fn(&StreamLedger) -> u64| {
        counts(text, label, [number(&ledgers.weather), number(&ledgers.movies)]);
    };
    ledger("acknowledged", StreamLedger::acknowledged_count);
    ledger("quarantined", |stream| stream.quarantined);
    ledger("refused, given up", |stream| stream.refused);
    ledger("unknown (no reply)", |stream| stream.unknown);
    match evidence.tables {
        Some(tables) => {
            let mut table = |label, number: fn(&TableCheck) -> u64| {
                counts(text, label, [number(&tables.weather), number(&tables.movies)]);
            };
            table("committed", |table| table.present);
            if tables.sum(|table| table.doubtful_present) > 0 {
                table("  of these unknown", |table| table.doubtful_present);
            }
        }
        None => row(text, "committed", ["not checked", "not checked", ""]),
    }
    let mut monitor = |label, number: fn(&StreamSightings) -> u64| {
        counts(text, label, [number(&sightings.weather), number(&sightings.movies)]);
    };
    monitor("seen on the monitor", |stream| stream.seen.count());
    monitor("announced gaps", |stream| stream.gap_records);
    if sightings.sum(|stream| stream.gaps_uncounted) > 0 {
        monitor("gaps of unknown size", |stream| stream.gaps_uncounted);
    }
}

fn write_rates(text: &mut String, evidence: &Evidence<'_>, durations: Durations) {
    let mut rate = |label: &str, records: u64, duration: Duration| {
        let shown = HumanCount(per_second(records, duration)).to_string();
        let _ = writeln!(text, "{label:<LABEL_WIDTH$}{shown:>COLUMN_WIDTH$} records/s");
    };
    rate("acknowledged", evidence.ledger.acknowledged_count(), durations.acknowledged);
    if let (Some(tables), Some(duration)) = (evidence.tables, durations.committed) {
        rate("committed", tables.sum(|table| table.present), duration);
    }
    let mut note = |label: &str, number: u64| {
        if number > 0 {
            let shown = HumanCount(number).to_string();
            let _ = writeln!(text, "{label:<LABEL_WIDTH$}{shown:>COLUMN_WIDTH$}");
        }
    };
    note("refused and sent again", evidence.ledger.repeats);
    note("monitor reconnects", evidence.sightings.reconnects);
}

fn counts(text: &mut String, label: &str, [weather, movies]: [u64; 2]) {
    let shown = [weather, movies, weather + movies].map(|number| HumanCount(number).to_string());
    row(text, label, [&shown[0], &shown[1], &shown[2]]);
}

fn latency(text: &mut String, label: &str, latency: &Latency) {
    match latency.quantiles() {
        Some(quantiles) => {
            let shown = quantiles.map(duration_text);
            row(text, label, [&shown[0], &shown[1], &shown[2]]);
        }
        None if latency.clocks_differ() => row(text, label, ["clocks differ", "", ""]),
        None => row(text, label, ["-", "-", "-"]),
    }
}

fn row(text: &mut String, label: &str, cells: [&str; 3]) {
    let [first, second, third] = cells;
    let mut line = format!(
        "{label:<LABEL_WIDTH$}{first:>COLUMN_WIDTH$}{second:>COLUMN_WIDTH$}{third:>COLUMN_WIDTH$}"
    );
    line.truncate(line.trim_end().len());
    text.push_str(&line);
    text.push('\n');
}

fn per_second(records: u64, duration: Duration) -> u64 {
    let micros = duration.as_micros().max(1);
    u64::try_from(u128::from(records) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

fn duration_text(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// The names of the streams with each dataset.
pub fn stream_names(prefix: &str) -> PerDataset<String> {
    let name = |dataset: Dataset| format!("{prefix}{}", dataset.name());
    PerDataset { weather: name(Dataset::Weather), movies: name(Dataset::Movies) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::sightings::Sightings;

    #[test]
    fn durations_and_rates_are_readable() {
        assert_eq!(duration_text(Duration::from_micros(850)), "850 µs");
        assert_eq!(duration_text(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(duration_text(Duration::from_micros(12_345_678)), "12.34 s");
        assert_eq!(per_second(200_000, Duration::from_secs(10)), 20_000);
        assert_eq!(per_second(0, Duration::ZERO), 0);
    }

    #[test]
    fn the_report_has_every_number() {
        let mut ledger = Ledger::new().expect("a ledger");
        ledger.streams.weather.acknowledged.insert_range(0..1_500);
        ledger.streams.movies.unknown = 3;
        ledger.repeats = 2;
        ledger.latency.record(Duration::from_millis(2));
        let mut sightings = Sightings::new().expect("sightings");
        sightings.streams.weather.seen.insert_range(0..1_400);
        sightings.streams.weather.gap(Some(100));
        sightings.from_received.record_micros(-5);
        let (ledger, sightings) = (&ledger, &sightings);
        let tables = PerDataset {
            weather: TableCheck { present: 1_500, ..TableCheck::default() },
            movies: TableCheck { present: 3, doubtful_present: 3, ..TableCheck::default() },
        };
        let streams = stream_names("demo_");
        let evidence = Evidence { ledger, sightings, tables: Some(&tables), streams };
        let second = Duration::from_secs(1);
        let report =
            render(&evidence, Durations { acknowledged: second, committed: Some(2 * second) });
        let words: Vec<String> = report
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for expected in [
            "demo_weather demo_movies total",
            "acknowledged 1,500 0 1,500",
            "unknown (no reply) 0 3 3",
            "committed 1,500 3 1,503",
            "of these unknown 0 3 3",
            "seen on the monitor 1,400 0 1,400",
            "announced gaps 100 0 100",
            "acknowledged 1,500 records/s",
            "committed 751 records/s",
            "refused and sent again 2",
            "acknowledgement 2.0 ms 2.0 ms 2.0 ms",
            "sent → monitor - - -",
            "received → monitor clocks differ",
        ] {
            assert!(words.iter().any(|line| line == expected), "{expected} in\n{report}");
        }
    }
}
