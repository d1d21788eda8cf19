//! The judgement of a run: every way in which the gateway can have broken a promise, named.

use crate::feed::{Dataset, PerDataset};
use crate::ledger::{Ledger, StreamLedger};
use crate::sequence::Listed;
use crate::sightings::{Sightings, StreamSightings};
use crate::verify::TableCheck;

/// What is known at the end of a run.
pub struct Evidence<'a> {
    pub ledger: &'a Ledger,
    pub sightings: &'a Sightings,
    /// `None` when the tables were not checked.
    pub tables: Option<&'a PerDataset<TableCheck>>,
    /// Names of the streams.
    pub streams: PerDataset<String>,
}

/// Everything that is wrong, one line each; empty if all promises were kept.
pub fn faults(evidence: &Evidence<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for dataset in Dataset::ALL {
        let name = evidence.streams.get(dataset);
        let ledger = evidence.ledger.streams.get(dataset);
        if let Some(tables) = evidence.tables {
            table_faults(name, tables.get(dataset), &mut faults);
        }
        monitor_faults(name, ledger, evidence.sightings.streams.get(dataset), &mut faults);
    }
    if evidence.ledger.miscounted > 0 {
        faults.push(format!(
            "{} replies do not account for every record of their request",
            evidence.ledger.miscounted
        ));
    }
    if evidence.sightings.unreadable > 0 {
        faults.push(format!(
            "{} messages on the monitor could not be read",
            evidence.sightings.unreadable
        ));
    }
    faults
}

fn table_faults(name: &str, table: &TableCheck, faults: &mut Vec<String>) {
    let mut fault = |listed: &Listed, what| faults.extend(tell(name, listed, what));
    fault(&table.missing, "acknowledged, but missing in the table");
    fault(&table.double, "in the table more than once");
    fault(&table.unexpected, "in the table, though not accepted");
    if table.strange > 0 {
        faults.push(format!("{name}: {} rows of this run without a valid demo_seq", table.strange));
    }
}

fn monitor_faults(
    name: &str,
    ledger: &StreamLedger,
    monitor: &StreamSightings,
    faults: &mut Vec<String>,
) {
    if !monitor.accounts_for(&ledger.acknowledged) {
        let unseen = ledger.acknowledged.without(&[&monitor.seen]);
        let what = match monitor.gap_records {
            0 => "neither seen on the monitor nor announced as a gap".to_owned(),
            gaps => format!("not seen on the monitor, and gaps of only {gaps} were announced"),
        };
        faults.extend(tell(name, &unseen, &what));
    }
    let unexpected = monitor.seen.without(&[&ledger.acknowledged, &ledger.doubtful]);
    faults.extend(tell(name, &unexpected, "seen on the monitor, though not accepted"));
    faults.extend(tell(name, &monitor.double, "seen on the monitor more than once"));
    if monitor.strange > 0 {
        let strange = monitor.strange;
        faults.push(format!("{name}: {strange} records on the monitor without a valid demo_seq"));
    }
}

fn tell(name: &str, listed: &Listed, what: &str) -> Option<String> {
    if listed.count == 0 {
        return None;
    }
    let first: Vec<String> = listed.first.iter().map(u64::to_string).collect();
    let more = if listed.count > listed.first.len() as u64 { ", …" } else { "" };
    let count = listed.count;
    let records = if count == 1 { "record is" } else { "records are" };
    Some(format!("{name}: {count} {records} {what} (demo_seq {}{more})", first.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Island, compare};

    /// A run of 20 acknowledged weather records, with what the table and the monitor show of it.
    fn judge(
        islands: &[(i64, i64, i64)],
        change: impl FnOnce(&mut Ledger, &mut Sightings),
    ) -> Vec<String> {
        let mut ledger = Ledger::new().expect("a ledger");
        ledger.streams.weather.acknowledged.insert_range(0..20);
        let mut sightings = Sightings::new().expect("sightings");
        sightings.streams.weather.seen.insert_range(0..20);
        change(&mut ledger, &mut sightings);
        let islands: Vec<Island> =
            islands.iter().map(|&(first, last, copies)| Island { first, last, copies }).collect();
        let weather = compare(&ledger.streams.weather, &islands);
        let tables = PerDataset { weather, movies: TableCheck::default() };
        let streams = PerDataset { weather: "weather".into(), movies: "movies".into() };
        let (ledger, sightings) = (&ledger, &sightings);
        faults(&Evidence { ledger, sightings, tables: Some(&tables), streams })
    }

    #[test]
    fn a_run_that_kept_all_promises_has_no_fault() {
        assert_eq!(judge(&[(0, 19, 1)], |_, _| {}), Vec::<String>::new());
    }

    #[test]
    fn a_loss_is_told_with_its_first_numbers() {
        let faults = judge(&[(12, 19, 1)], |_, _| {});
        assert_eq!(
            faults,
            ["weather: 12 records are acknowledged, but missing in the table \
              (demo_seq 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …)"]
        );
    }

    #[test]
    fn a_double_row_is_told() {
        let faults = judge(&[(0, 19, 1), (3, 3, 2)], |_, _| {});
        assert_eq!(faults, ["weather: 1 record is in the table more than once (demo_seq 3)"]);
    }

    #[test]
    fn a_record_that_is_neither_seen_nor_in_a_gap_is_told() {
        let unseen = |gap: Option<u64>| {
            judge(&[(0, 19, 1)], |_, sightings| {
                let weather = &mut sightings.streams.weather;
                weather.seen.remove(4);
                weather.seen.remove(5);
                weather.gap(gap);
            })
        };
        assert_eq!(unseen(Some(2)), Vec::<String>::new());
        assert_eq!(unseen(None), Vec::<String>::new());
        let faults = unseen(Some(1));
        assert!(faults[0].contains("not seen on the monitor"), "{faults:?}");
        assert!(faults[0].contains("demo_seq 4, 5"), "{faults:?}");
    }

    #[test]
    fn every_other_broken_promise_is_a_fault() {
        let changes: [fn(&mut Ledger, &mut Sightings); 5] = [
            |ledger, _| ledger.miscounted = 1,
            |_, sightings| sightings.unreadable = 1,
            |_, sightings| sightings.streams.weather.record(Some(3)),
            |_, sightings| sightings.streams.weather.record(Some(30)),
            |_, sightings| sightings.streams.movies.record(None),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(judge(&[(0, 19, 1)], change).len(), 1, "change {index}");
        }
        assert_eq!(judge(&[(0, 20, 1)], |_, _| {}).len(), 1, "a row that was never accepted");
    }
}
