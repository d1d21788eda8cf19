//! What was measured: one value a round for each figure, and the ratios between figures of the same round.

use std::collections::BTreeMap;

use serde::Serialize;

/// Every value of a run, by the figure's name, in rounds.
#[derive(Debug, Default)]
pub struct Figures {
    by_name: BTreeMap<String, Figure>,
}

/// One figure. A round in which it was not measured has no value.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub unit: Unit,
    rounds: BTreeMap<usize, f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "bytes")]
    Bytes,
    /// Processor seconds a second.
    #[serde(rename = "cores")]
    Cores,
    #[serde(rename = "ratio")]
    Ratio,
}

/// What a ratio has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// Median and spread over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

/// A figure that has to reach something.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    pub name: String,
    pub unit: Unit,
    pub summary: Summary,
    pub goal: Goal,
}

impl Figures {
    pub fn add(&mut self, round: usize, name: impl Into<String>, unit: Unit, value: f64) {
        let figure = self.by_name.entry(name.into());
        let figure = figure.or_insert_with(|| Figure { unit, rounds: BTreeMap::new() });
        figure.rounds.insert(round, value);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Figure)> {
        self.by_name.iter().map(|(name, figure)| (name.as_str(), figure))
    }

    /// A figure that has to reach something by itself; `None` if it was not measured.
    pub fn absolute(&self, name: &str, goal: Goal) -> Option<Target> {
        let figure = self.by_name.get(name)?;
        let summary = figure.summary()?;
        Some(Target { name: name.to_owned(), unit: figure.unit, summary, goal })
    }

    /// One figure divided by the sum of others, in each round that has all of them; `None` if none has.
    pub fn ratio(&self, name: &str, of: &str, to: &[&str], goal: Goal) -> Option<Target> {
        let of = self.by_name.get(of)?;
        let to: Option<Vec<&Figure>> = to.iter().map(|name| self.by_name.get(*name)).collect();
        let to = to?;
        let ratio = |(round, value): (&usize, &f64)| {
            let sum: Option<f64> = to.iter().map(|figure| figure.rounds.get(round)).sum();
            sum.filter(|sum| *sum > 0.0).map(|sum| value / sum)
        };
        let summary = summarize(of.rounds.iter().filter_map(ratio).collect())?;
        Some(Target { name: name.to_owned(), unit: Unit::Ratio, summary, goal })
    }
}

impl Figure {
    pub fn summary(&self) -> Option<Summary> {
        summarize(self.rounds.values().copied().collect())
    }
}

impl Target {
    pub fn is_reached(&self) -> bool {
        match self.goal {
            Goal::AtLeast(least) => self.summary.median >= least,
            Goal::AtMost(most) => self.summary.median <= most,
        }
    }

    /// How far it came: 1 is the goal, more is better.
    pub fn share(&self) -> f64 {
        self.share_of(self.summary.median)
    }

    /// How far such a value would come.
    pub fn share_of(&self, value: f64) -> f64 {
        match self.goal {
            Goal::AtLeast(least) => value / least,
            Goal::AtMost(most) => most / value,
        }
    }
}

fn summarize(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Summary { median, min, max, rounds: values.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut figures = Figures::default();
        // The machine is half as fast in the second round; the ratio does not change.
        for (round, pace) in [(0, 1.0), (1, 0.5), (2, 2.0)] {
            figures.add(round, "gateway", Unit::PerSecond, 300.0 * pace);
            figures.add(round, "copy", Unit::PerSecond, 100.0 * pace);
        }
        figures.add(3, "gateway", Unit::PerSecond, 1.0);
        let target = figures.ratio("ratio", "gateway", &["copy"], Goal::AtLeast(2.0)).unwrap();
        assert_eq!(target.summary, Summary { median: 3.0, min: 3.0, max: 3.0, rounds: 3 });
        assert!(target.is_reached());
        assert!((target.share() - 1.5).abs() < 1e-9);
        assert!(figures.ratio("ratio", "gateway", &["nothing"], Goal::AtLeast(2.0)).is_none());
    }

    #[test]
    fn the_median_is_the_middle_of_the_rounds() {
        assert_eq!(summarize(vec![]), None);
        assert_eq!(summarize(vec![9.0, 1.0, 2.0]).map(|summary| summary.median), Some(2.0));
        assert_eq!(summarize(vec![4.0, 1.0]).map(|summary| summary.median), Some(2.5));
    }

    #[test]
    fn a_limit_from_above_is_reached_from_below() {
        let mut figures = Figures::default();
        figures.add(0, "latency", Unit::Seconds, 0.010);
        let target = figures.absolute("latency", Goal::AtMost(0.020)).unwrap();
        assert!(target.is_reached());
        assert!((target.share() - 2.0).abs() < 1e-9);
        assert!(!figures.absolute("latency", Goal::AtMost(0.005)).unwrap().is_reached());
    }
}
