//! What a torture run adds up to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::faults::Fault;
use super::polled::PolledCounts;
use crate::support::{Counts, Seed, Verdict};

/// The sums of a run, printed at its end.
#[derive(Debug)]
pub struct Figures {
    seed: Seed,
    pub rounds: u64,
    pub kills: u64,
    pub shutdowns: u64,
    pub faults: BTreeMap<Fault, u64>,
    pub alterations: BTreeMap<&'static str, u64>,
    pub counts: Counts,
    pub polled: PolledCounts,
    pub lost: usize,
    pub doubled: usize,
    pub wrong: usize,
    pub took: Duration,
}

impl Figures {
    pub fn new(seed: Seed) -> Figures {
        Figures {
            seed,
            rounds: 0,
            kills: 0,
            shutdowns: 0,
            faults: BTreeMap::new(),
            alterations: BTreeMap::new(),
            counts: Counts::default(),
            polled: PolledCounts::default(),
            lost: 0,
            doubled: 0,
            wrong: 0,
            took: Duration::ZERO,
        }
    }

    pub fn add(&mut self, verdict: &Verdict) {
        self.lost += verdict.lost.len();
        self.doubled += verdict.doubled.len();
        self.wrong += verdict.wrong.len();
    }

    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    pub fn all_alterations(&self) -> u64 {
        self.alterations.values().sum()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: u64| {
            writeln!(f, "  {name:<32}{value:>12}")
        };
        writeln!(f, "torture: {:.0} s, seed {}", self.took.as_secs_f64(), self.seed)?;
        line(f, "rounds", self.rounds)?;
        line(f, "kills of the gateway", self.kills)?;
        line(f, "shutdowns of the gateway", self.shutdowns)?;
        line(f, "faults", self.all_faults())?;
        for (fault, count) in &self.faults {
            line(f, &format!("  {}", fault.name()), *count)?;
        }
        line(f, "alterations of tables", self.all_alterations())?;
        for (name, count) in &self.alterations {
            line(f, &format!("  {name}"), *count)?;
        }
        line(f, "records acknowledged", self.counts.acknowledged)?;
        line(f, "records refused", self.counts.refused)?;
        line(f, "records of unknown outcome", self.counts.unknown)?;
        let polled = &self.polled;
        line(f, "questions of polling jobs", polled.api.questions)?;
        line(f, "  told that nothing changed", polled.api.unchanged)?;
        line(f, "  not answered well", polled.api.refused)?;
        line(f, "runs of polling jobs", polled.runs.values().sum())?;
        for (outcome, runs) in &polled.runs {
            line(f, &format!("  {outcome}"), *runs)?;
        }
        line(f, "items served", polled.api.shown)?;
        line(f, "items that came", polled.api.items)?;
        line(f, "changes of items", polled.api.changes)?;
        line(f, "rows of items", polled.rows)?;
        line(f, "items in the quarantine", polled.refused)?;
        line(f, "lost", self.lost as u64)?;
        line(f, "doubled", self.doubled as u64)?;
        line(f, "wrong", self.wrong as u64)
    }
}
