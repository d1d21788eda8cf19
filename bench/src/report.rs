//! The report: which goals are reached, and every figure behind them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::Bench;
use crate::figures::{Figures, Goal, Summary, Target, Unit};
use crate::options::Size;
use crate::{
    arrival, backlog, bulk, fanout, growth, instead, keyed, latency, memory, polling, single,
};

/// A run's result; the file `bench.json` has the same.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub records: usize,
    pub targets: Vec<Target>,
    pub figures: BTreeMap<String, Line>,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub unit: Unit,
    #[serde(flatten)]
    pub summary: Summary,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub memory_bytes: u64,
    pub postgres: String,
    pub tidegate: &'static str,
}

impl Machine {
    pub async fn read(bench: &Bench) -> anyhow::Result<Machine> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total =
            total.and_then(|total| total.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: total.unwrap_or(0) << 10,
            postgres: bench.postgres.version().await?,
            tidegate: env!("CARGO_PKG_VERSION"),
        })
    }
}

impl Report {
    pub fn new(machine: Machine, size: Size, figures: &Figures) -> Report {
        let line = |(name, figure): (&str, &crate::figures::Figure)| {
            Some((name.to_owned(), Line { unit: figure.unit, summary: figure.summary()? }))
        };
        Report {
            machine,
            rounds: size.rounds,
            records: size.records,
            targets: targets(figures),
            figures: figures.iter().filter_map(line).collect(),
        }
    }

    /// For the screen.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            out,
            "\nTidegate {} · PostgreSQL {} · {} cores · {} rounds; median [lowest … highest]\n",
            machine.tidegate, machine.postgres, machine.cores, self.rounds
        );
        let width = self.figures.keys().chain(self.targets.iter().map(|target| &target.name));
        let width = width.map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, line) in &self.figures {
            let _ = writeln!(out, "  {name:width$}  {}", show(line.unit, line.summary));
        }
        if !self.targets.is_empty() {
            let _ = writeln!(out, "\n  {:width$}  {:>30}  goal", "To reach", "");
        }
        for target in &self.targets {
            let mark = if target.is_reached() { "reached" } else { "MISSED" };
            let goal = match target.goal {
                Goal::AtLeast(least) => format!("≥ {}", value(target.unit, least)),
                Goal::AtMost(most) => format!("≤ {}", value(target.unit, most)),
            };
            let shown = show(target.unit, target.summary);
            let _ = writeln!(out, "  {:width$}  {shown:30}  {goal}  {mark}", target.name);
        }
        out
    }
}

/// Every goal whose figures were measured.
fn targets(figures: &Figures) -> Vec<Target> {
    let typed = bulk::committed(bulk::TYPED);
    let documents = bulk::committed(bulk::DOCUMENTS);
    let (single, bare) = (single::gateway_name(64), single::bare_name(64));
    let ratio = |name: &str, of: &str, to: &[&str], goal| figures.ratio(name, of, to, goal);
    let targets = [
        ratio("typed, committed ÷ L1", &typed, &[bulk::L1], Goal::AtLeast(3.2)),
        ratio("typed, committed ÷ L2", &typed, &[bulk::L2], Goal::AtLeast(0.85)),
        ratio("documents, committed ÷ L1", &documents, &[bulk::L1], Goal::AtLeast(1.2)),
        ratio(
            "bulk acknowledged, typed ÷ L1",
            &bulk::acknowledged(bulk::TYPED),
            &[bulk::L1],
            Goal::AtLeast(6.0),
        ),
        ratio("backlog drain, typed ÷ L2", backlog::TYPED, &[backlog::L2], Goal::AtLeast(1.0)),
        ratio(
            "backlog drain, documents ÷ L1",
            backlog::DOCUMENTS,
            &[backlog::L1],
            Goal::AtLeast(1.5),
        ),
        ratio("keyed ÷ unkeyed, committed", keyed::KEYED, &[keyed::UNKEYED], Goal::AtLeast(0.8)),
        ratio("single records ÷ L3, 64 connections", &single, &[&bare], Goal::AtLeast(0.65)),
        ratio(
            "acknowledgement p99 at half load ÷ (L3 p99 + L4 p99)",
            &latency::p99(latency::ACKNOWLEDGED),
            &[&latency::p99(latency::L3), &latency::p99(latency::L4)],
            Goal::AtMost(2.0),
        ),
        figures.absolute(arrival::ARRIVAL_P99, Goal::AtMost(0.025)),
        ratio(
            "fan-out, coalesced ÷ one frame a record",
            fanout::DELIVERED,
            &[fanout::ONE_A_FRAME],
            Goal::AtLeast(8.0),
        ),
        figures.absolute(fanout::DELIVERED, Goal::AtLeast(1_500_000.0)),
        ratio(
            "many streams ÷ one",
            growth::MANY_STREAMS,
            &[growth::ONE_STREAM],
            Goal::AtLeast(0.8),
        ),
        ratio(
            "large table ÷ empty",
            growth::LARGE_TABLE,
            &[growth::EMPTY_TABLE],
            Goal::AtLeast(0.9),
        ),
        figures.absolute(polling::LATENESS_P99, Goal::AtMost(1.0)),
        figures.absolute(polling::PEAK, Goal::AtMost(f64::from(200 << 20))),
        ratio(
            "polling, cost of a run: many jobs ÷ a tenth of them",
            polling::COST_MANY,
            &[polling::COST_FEW],
            Goal::AtMost(1.1),
        ),
        figures.absolute(memory::IDLE, Goal::AtMost(f64::from(30 << 20))),
        figures.absolute(memory::LOADED, Goal::AtMost(f64::from(200 << 20))),
    ];
    targets.into_iter().chain(instead_of(figures)).flatten().collect()
}

/// Beside what people write instead.
fn instead_of(figures: &Figures) -> [Option<Target>; 5] {
    let to_service = |figure: fn(&str) -> String, name: &str, of: &str, goal| {
        let name = format!("{name}: {of} ÷ FastAPI");
        figures.ratio(&name, &figure(of), &[&figure(instead::SERVICE)], goal)
    };
    let (one, many) = ("a record a request", "many records a request");
    [
        to_service(instead::one, one, instead::JOURNAL, Goal::AtLeast(8.0)),
        to_service(instead::one, one, instead::COMMIT, Goal::AtLeast(1.5)),
        to_service(instead::one_p99, "its p99", instead::JOURNAL, Goal::AtMost(0.25)),
        to_service(instead::many, many, instead::JOURNAL, Goal::AtLeast(5.0)),
        to_service(instead::many, many, instead::COMMIT, Goal::AtLeast(2.0)),
    ]
}

fn show(unit: Unit, summary: Summary) -> String {
    let Summary { median, min, max, .. } = summary;
    format!("{} [{} … {}]", value(unit, median), value(unit, min), value(unit, max))
}

/// A value as people read it.
pub fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        Unit::PerSecond if value >= 1e3 => format!("{:.1} k/s", value / 1e3),
        Unit::PerSecond => format!("{value:.0} /s"),
        Unit::Seconds => format!("{:.2} ms", value * 1e3),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        Unit::Cores => format!("{value:.2} cores"),
        Unit::Ratio => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_unit() {
        assert_eq!(value(Unit::PerSecond, 1_234_567.0), "1.23 M/s");
        assert_eq!(value(Unit::PerSecond, 43_210.0), "43.2 k/s");
        assert_eq!(value(Unit::Seconds, 0.0123), "12.30 ms");
        assert_eq!(value(Unit::Bytes, 31_457_280.0), "30.0 MiB");
    }
}
