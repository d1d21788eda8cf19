//! What a soak adds up to.

use std::fmt;
use std::time::Duration;

use super::phase::{Deed, Noticed};

/// A phase that is over.
#[derive(Debug)]
pub struct Phase {
    pub name: &'static str,
    pub noticed: Noticed,
    /// The most memory that the gateway was seen to have; None where the system does not tell.
    pub memory_bytes: Option<u64>,
}

/// Printed at the end.
#[derive(Debug)]
pub struct Figures {
    pub took: Duration,
    pub attempts: u64,
    /// The first is the quiet one that the others are held against.
    pub phases: Vec<Phase>,
    pub memory_start_bytes: Option<u64>,
    pub memory_end_bytes: Option<u64>,
}

impl Figures {
    /// Everything that was refused, with the phase.
    pub fn refused(&self) -> Vec<String> {
        let lines = |phase: &Phase| {
            let of_phase = phase.noticed.refused.iter();
            of_phase.map(|(words, count)| format!("{}: {words}: {count}", phase.name)).collect()
        };
        self.phases.iter().flat_map(|phase| -> Vec<String> { lines(phase) }).collect()
    }

    fn cell(&self, f: &mut fmt::Formatter<'_>, phase: &Phase, deed: Deed) -> fmt::Result {
        let Some(p50) = phase.noticed.quantile(deed, 0.5) else {
            return write!(f, " {:>27}", "-");
        };
        let p99 = phase.noticed.quantile(deed, 0.99).unwrap_or_default();
        let quiet = self.phases[0].noticed.quantile(deed, 0.99).unwrap_or_default();
        let ratio = p99.as_secs_f64() / quiet.as_secs_f64().max(f64::MIN_POSITIVE);
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(f, " {:>9.1} {:>9.1} {ratio:>6.1}×", millis(p50), millis(p99))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: Option<u64>| bytes.map_or(0, |bytes| bytes >> 20);
        let took = self.took.as_secs_f64();
        writeln!(f, "soak: {took:.0} s, {} attempts of attackers", self.attempts)?;
        writeln!(
            f,
            "p50 and p99 in ms, and p99 ÷ that of the quiet phase; memory at its top in MiB"
        )?;
        write!(f, "  {:<34}", "")?;
        for deed in Deed::ALL {
            write!(f, " {:>27}", deed.name())?;
        }
        writeln!(f, " {:>8} {:>8}", "refused", "memory")?;
        for phase in &self.phases {
            write!(f, "  {:<34}", phase.name)?;
            for deed in Deed::ALL {
                self.cell(f, phase, deed)?;
            }
            let refused: u64 = phase.noticed.refused.values().sum();
            writeln!(f, " {refused:>8} {:>8}", mebibytes(phase.memory_bytes))?;
        }
        let (start, end) = (self.memory_start_bytes, self.memory_end_bytes);
        writeln!(
            f,
            "memory: {} MiB at the start, {} MiB afterwards",
            mebibytes(start),
            mebibytes(end)
        )?;
        self.refused().iter().try_for_each(|line| writeln!(f, "refused: {line}"))
    }
}
