//! What honest people notice, phase by phase.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that is told apart from a longer one, in microseconds.
const TIME_MAX_US: u64 = 600_000_000;
/// Digits of a time that count.
const DIGITS: u8 = 3;

/// What honest people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A record is sent, up to its acknowledgement.
    Ingest,
    /// A record is sent and waited for in its table.
    Commit,
    /// From when a record is sent to when a monitor has it.
    Watch,
    /// The newest records are asked for.
    Read,
    /// A person signs in.
    SignIn,
}

impl Deed {
    pub const ALL: [Deed; 5] = [Deed::Ingest, Deed::Commit, Deed::Watch, Deed::Read, Deed::SignIn];

    pub fn name(self) -> &'static str {
        match self {
            Deed::Ingest => "ingest",
            Deed::Commit => "commit",
            Deed::Watch => "monitor",
            Deed::Read => "read",
            Deed::SignIn => "sign-in",
        }
    }
}

/// A phase, as it was noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    times: BTreeMap<Deed, Times>,
    /// What was refused, in words, and how often.
    pub refused: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        Times(Histogram::new_with_max(TIME_MAX_US, DIGITS).expect("these bounds are possible"))
    }
}

impl Noticed {
    /// A quantile of the times that something took; None if it was never done.
    pub fn quantile(&self, deed: Deed, quantile: f64) -> Option<Duration> {
        let times = self.times.get(&deed)?;
        Some(Duration::from_micros(times.0.value_at_quantile(quantile)))
    }
}

/// The phase under way.
#[derive(Debug, Default)]
pub struct Notebook(Mutex<Noticed>);

impl Notebook {
    pub fn took(&self, deed: Deed, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(TIME_MAX_US).clamp(1, TIME_MAX_US);
        let mut noticed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.times.entry(deed).or_default().0.saturating_record(micros);
    }

    pub fn refused(&self, deed: Deed, words: &str) {
        let mut noticed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *noticed.refused.entry(format!("{}: {words}", deed.name())).or_default() += 1;
    }

    /// Ends a phase: what was noticed in it.
    pub fn turn(&self) -> Noticed {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
