//! When a job runs next: every so often, or as a cron expression says in a time zone.
//!
//! Promises: a run that is due in the past is due once; what was missed is left out. Intervals are spread by up to 5 %,
//! so that jobs that were made together do not run together; cron times are exact.

use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use tidegate_record::UnixMicros;
use uuid::Uuid;

use super::members::{Invalid, Members, invalid};

/// Shortest interval, in milliseconds.
const INTERVAL_MS_MIN: u64 = 1_000;
/// Longest interval, in milliseconds: a year.
const INTERVAL_MS_MAX: u64 = 31_536_000_000;
/// Longest cron expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 200;
/// An interval becomes up to this part shorter or longer.
const SPREAD: f64 = 0.05;
/// The wait where a cron expression has no next time any more.
const NEVER_MICROS: i64 = 1_000 * INTERVAL_MS_MAX.cast_signed();

/// A checked schedule. Its JSON form is the column `schedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Schedule {
    Interval { ms: u64 },
    Cron(CronSchedule),
}

/// A cron expression of five fields, or six with seconds first, and its zone.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    expression: String,
    zone: String,
    cron: Arc<Cron>,
    time_zone: TimeZone,
}

/// The JSON form: `{"interval_ms":60000}` or `{"cron":"0 7 * * 1-5","zone":"Europe/Berlin"}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl Schedule {
    /// Every `ms` milliseconds. `place`: the member that says so.
    pub fn every(place: &str, ms: i128) -> Result<Schedule, Invalid> {
        match u64::try_from(ms) {
            Ok(ms) if (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&ms) => {
                Ok(Schedule::Interval { ms })
            }
            _ => {
                let message = format!(
                    "must be {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX} milliseconds (a second to a year)"
                );
                Err(invalid(place, message))
            }
        }
    }

    /// As a cron expression says; without a zone in UTC.
    pub fn cron(expression: &str, zone: Option<&str>) -> Result<Schedule, Invalid> {
        let wrong = |message: String| invalid("/cron", message);
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(wrong(format!("has more than {EXPRESSION_BYTES_MAX} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
        let cron = parser.build().parse(expression).map_err(|error| wrong(error.to_string()))?;
        let zone = zone.unwrap_or("UTC").to_owned();
        let time_zone = TimeZone::get(&zone).map_err(|_| {
            invalid("/zone", format!("{zone:?} is no time zone, such as Europe/Berlin"))
        })?;
        let schedule = CronSchedule {
            expression: expression.to_owned(),
            zone,
            cron: Arc::new(cron),
            time_zone,
        };
        if schedule.after(UnixMicros(0)).is_none() {
            return Err(wrong("names no day that there is".to_owned()));
        }
        Ok(Schedule::Cron(schedule))
    }

    /// Takes `interval_ms`, or `cron` and `zone`, out of what a person sent.
    pub fn take(members: &mut Members) -> Result<Schedule, Invalid> {
        let interval_ms: Option<serde_json::Number> = members.take("interval_ms")?;
        let cron: Option<String> = members.take("cron")?;
        let zone: Option<String> = members.take("zone")?;
        match (interval_ms, cron) {
            (Some(ms), None) if zone.is_none() => {
                Schedule::every("/interval_ms", ms.as_i128().unwrap_or_default())
            }
            (Some(_), None) => Err(invalid("/zone", "is only for `cron`")),
            (None, Some(expression)) => Schedule::cron(&expression, zone.as_deref()),
            (Some(_), Some(_)) => Err(invalid("/cron", "leave out `cron` or `interval_ms`")),
            (None, None) => Err(invalid("/interval_ms", "is needed, or `cron`: when to ask")),
        }
    }

    /// The interval in milliseconds; none of a cron expression.
    pub fn interval_ms(&self) -> Option<u64> {
        match self {
            Schedule::Interval { ms } => Some(*ms),
            Schedule::Cron(_) => None,
        }
    }

    /// When the job is due after the run that was due at `due`. Later than `now`, and not later than one interval from
    /// `now` on, whatever the clock did meanwhile.
    pub fn next(&self, due: UnixMicros, now: UnixMicros, job: Uuid) -> UnixMicros {
        match self {
            Schedule::Interval { ms } => {
                let step = spread_micros(*ms, due, job);
                let planned = due.0.saturating_add(step);
                let on_time = planned > now.0 && due.0 <= now.0;
                UnixMicros(if on_time { planned } else { now.0.saturating_add(step) })
            }
            Schedule::Cron(schedule) => {
                schedule.after(now).unwrap_or(UnixMicros(now.0.saturating_add(NEVER_MICROS)))
            }
        }
    }
}

impl CronSchedule {
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn zone(&self) -> &str {
        &self.zone
    }

    fn after(&self, time: UnixMicros) -> Option<UnixMicros> {
        let time = Timestamp::from_microsecond(time.0).ok()?;
        let time: Zoned = time.to_zoned(self.time_zone.clone());
        let next = self.cron.find_next_occurrence(&time, false).ok()?;
        Some(UnixMicros(next.timestamp().as_microsecond()))
    }
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &CronSchedule) -> bool {
        (&self.expression, &self.zone) == (&other.expression, &other.zone)
    }
}

impl TryFrom<Written> for Schedule {
    type Error = Invalid;

    fn try_from(written: Written) -> Result<Schedule, Invalid> {
        match (written.interval_ms, written.cron) {
            (Some(ms), None) => Schedule::every("/interval_ms", ms.into()),
            (None, Some(expression)) => Schedule::cron(&expression, written.zone.as_deref()),
            _ => Err(invalid("", "is neither an interval nor a cron expression")),
        }
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Written {
        match schedule {
            Schedule::Interval { ms } => Written { interval_ms: Some(ms), cron: None, zone: None },
            Schedule::Cron(CronSchedule { expression, zone, .. }) => {
                Written { interval_ms: None, cron: Some(expression), zone: Some(zone) }
            }
        }
    }
}

/// The interval in microseconds, up to 5 % shorter or longer: the same for the same job and time.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "an interval of at most a year is exact enough as a float"
)]
fn spread_micros(ms: u64, due: UnixMicros, job: Uuid) -> i64 {
    let (high, low) = job.as_u64_pair();
    // A finalizer of splitmix64: every bit of the job and of the time moves every bit of the result.
    let mut mixed =
        high ^ low.rotate_left(32) ^ due.0.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    let factor = 1.0 + SPREAD * (2.0 * unit - 1.0);
    (ms as f64 * 1_000.0 * factor) as i64
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    const HOUR_MICROS: i64 = 3_600_000_000;

    fn taken(members: Value) -> Result<Schedule, Invalid> {
        let members: Map<String, Value> = serde_json::from_value(members).unwrap();
        Schedule::take(&mut Members::new(members))
    }

    fn micros(text: &str) -> UnixMicros {
        UnixMicros(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn nexts(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
        let mut at = micros(from);
        let next = |_| {
            at = schedule.next(at, at, Uuid::nil());
            Timestamp::from_microsecond(at.0).unwrap().to_string()
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn intervals_are_spread_by_job_and_run() {
        let schedule = taken(json!({"interval_ms": 60_000})).unwrap();
        let due = UnixMicros(0);
        let waits: Vec<i64> =
            (0..1_000).map(|job| schedule.next(due, due, Uuid::from_u128(job)).0).collect();
        assert!(waits.iter().all(|wait| (57_000_000..=63_000_000).contains(wait)));
        let mean = waits.iter().sum::<i64>() / 1_000;
        assert!((59_500_000..60_500_000).contains(&mean), "{mean}");
        assert!(*waits.iter().min().unwrap() < 57_500_000);
        assert!(*waits.iter().max().unwrap() > 62_500_000);
        let job = Uuid::from_u128(7);
        assert_eq!(schedule.next(due, due, job), schedule.next(due, due, job));
        let steps: Vec<i64> = (0..3)
            .map(|run| schedule.next(UnixMicros(run), UnixMicros(run), job).0 - run)
            .collect();
        assert!(steps[0] != steps[1] && steps[1] != steps[2], "{steps:?}");
    }

    #[test]
    fn missed_runs_are_left_out_and_a_jumping_clock_does_no_harm() {
        let schedule = taken(json!({"interval_ms": 60_000})).unwrap();
        let (due, job) = (UnixMicros(100 * HOUR_MICROS), Uuid::nil());
        let on_time = schedule.next(due, UnixMicros(due.0 + 1_000_000), job);
        assert!(
            (57..=63).contains(&((on_time.0 - due.0) / 1_000_000)),
            "counted from when it was due"
        );
        for late_hours in [1, 50] {
            let now = UnixMicros(due.0 + late_hours * HOUR_MICROS);
            let next = schedule.next(due, now, job);
            assert!(next > now && next.0 <= now.0 + 63_000_000, "one run, then the interval");
        }
        let back = UnixMicros(due.0 - 10 * HOUR_MICROS);
        let next = schedule.next(due, back, job);
        assert!(next > back && next.0 <= back.0 + 63_000_000, "not ten hours later");
    }

    #[test]
    fn cron_knows_zones_and_their_changes() {
        let berlin = taken(json!({"cron": "30 2 * * *", "zone": "Europe/Berlin"})).unwrap();
        // On 2026-03-29 there is no 2:30 there; on 2026-10-25 there are two.
        assert_eq!(
            nexts(&berlin, "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        let autumn = nexts(&berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let utc = taken(json!({"cron": "0 9 * * MON-FRI"})).unwrap();
        assert_eq!(nexts(&utc, "2026-11-20T10:00:00Z", 1), ["2026-11-23T09:00:00Z"]);
        let seconds = taken(json!({"cron": "*/20 * * * * *"})).unwrap();
        assert_eq!(
            nexts(&seconds, "2026-11-20T10:00:05Z", 2),
            ["2026-11-20T10:00:20Z", "2026-11-20T10:00:40Z"]
        );
        let leap = taken(json!({"cron": "0 0 29 2 *"})).unwrap();
        assert_eq!(nexts(&leap, "2026-11-20T10:00:05Z", 1), ["2028-02-29T00:00:00Z"]);
        let due = micros("2026-01-01T00:00:00Z");
        let now = micros("2026-11-20T10:00:05Z");
        let next = seconds.next(due, now, Uuid::nil());
        assert_eq!(next, micros("2026-11-20T10:00:20Z"), "what was missed is left out");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_place() {
        for (members, place) in [
            (json!({}), "/interval_ms"),
            (json!({"interval_ms": 0}), "/interval_ms"),
            (json!({"interval_ms": 999}), "/interval_ms"),
            (json!({"interval_ms": -60_000}), "/interval_ms"),
            (json!({"interval_ms": 1.5}), "/interval_ms"),
            (json!({"interval_ms": "60000"}), "/interval_ms"),
            (json!({"interval_ms": 31_536_000_001_u64}), "/interval_ms"),
            (json!({"interval_ms": 1e30}), "/interval_ms"),
            (json!({"interval_ms": 60_000, "zone": "UTC"}), "/zone"),
            (json!({"interval_ms": 60_000, "cron": "* * * * *"}), "/cron"),
            (json!({"cron": ""}), "/cron"),
            (json!({"cron": "every day"}), "/cron"),
            (json!({"cron": "61 * * * *"}), "/cron"),
            (json!({"cron": "* * * *"}), "/cron"),
            (json!({"cron": "0 0 30 2 *"}), "/cron"),
            (json!({"cron": "0 0 0 1 1 * 2020"}), "/cron"),
            (json!({"cron": "* ".repeat(200)}), "/cron"),
            (json!({"cron": "* * * * *", "zone": "Mars/Olympus"}), "/zone"),
            (json!({"cron": "* * * * *", "zone": ""}), "/zone"),
        ] {
            assert_eq!(taken(members.clone()).unwrap_err().place, place, "{members}");
        }
    }

    #[test]
    fn the_json_form_comes_back() {
        for written in [
            json!({"interval_ms": 1_000}),
            json!({"interval_ms": 31_536_000_000_u64}),
            json!({"cron": "0 7 * * 1-5", "zone": "Europe/Berlin"}),
        ] {
            let schedule: Schedule = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(&schedule).unwrap(), written);
            assert_eq!(taken(written).unwrap(), schedule);
        }
        assert!(serde_json::from_value::<Schedule>(json!({"interval_ms": 5})).is_err());
    }
}
