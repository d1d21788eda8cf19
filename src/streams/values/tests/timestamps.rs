//! Spellings, calendar and range of timestamps and dates.

use super::*;
use crate::streams::values::timestamps::{
    parse_date, write_date_json, write_rfc3339, write_timestamp_json,
};

#[test]
fn timestamps_are_read_in_every_iso_spelling() {
    let expected = "\"2013-01-01T06:00:00.000000Z\"";
    for text in [
        "2013-01-01T06:00:00Z",
        "2013-01-01 06:00",
        " 2013-01-01t06:00:00.0z ",
        "2013-01-01 06:00:00 +00",
        "2013-01-01T11:30:00+05:30",
        "2013-01-01T11:30:00+0530",
        "2012-12-31T22:00:00-08",
        "2013-01-01T06:00:15+00:00:15",
        "2013-01-01T05:59:60Z",
        "002013-01-01T06:00Z",
    ] {
        assert_eq!(shown(ColumnType::TimestampTz, text), expected, "{text}");
    }
    for (text, json) in [
        ("2013-02-28T24:00:00", "2013-03-01T00:00:00.000000Z"),
        ("2013-01-01T08:18:60.5Z", "2013-01-01T08:19:00.500000Z"),
        ("2012-02-29", "2012-02-29T00:00:00.000000Z"),
        ("2013-01-01T23:59:59.9999999Z", "2013-01-02T00:00:00.000000Z"),
        ("2013-01-01T00:00:00.1234565Z", "2013-01-01T00:00:00.123456Z"),
        ("2013-01-01T00:00:00.123456789Z", "2013-01-01T00:00:00.123457Z"),
        ("0001-01-01 BC", "0001-01-01T00:00:00.000000Z BC"),
        ("4714-11-24T00:00:00Z bc", "4714-11-24T00:00:00.000000Z BC"),
        ("294276-12-31T23:59:59.999999Z", "294276-12-31T23:59:59.999999Z"),
        ("Infinity", "infinity"),
        ("-infinity", "-infinity"),
    ] {
        assert_eq!(shown(ColumnType::TimestampTz, text), format!("\"{json}\""), "{text}");
    }
}

#[test]
fn timestamps_beyond_calendar_clock_and_range_are_refused() {
    for text in [
        "2013-02-29",
        "2013-13-01",
        "2013-00-01",
        "2013-01-32",
        "0000-01-01",
        "2013-01-01T24:00:01",
        "2013-01-01T25:00",
        "2013-01-01T06:60",
        "2013-01-01T06:00:61",
        "2013-01-01T23:59:60.5",
        "2013-01-01T24:00:60",
        "2013-01-01T06:00+16",
        "2013-01-01T06:00+15:60",
        "294277-01-01",
        "9999999-01-01",
        "4714-11-23 BC",
        "294276-12-31T23:59:59.9999999Z",
    ] {
        assert_eq!(field(ColumnType::TimestampTz, text), Err(ValueError::Range), "{text}");
    }
    for text in [
        "",
        "noon",
        "2013",
        "213-01-01",
        "2013-1-1",
        "2013/01/01",
        "2013-01-01T",
        "2013-01-01T06",
        "2013-01-01x06:00",
        "2013-01-01T06:00:00.",
        "2013-01-01T06:00:00.1234567890Z",
        "2013-01-01T06:00:00Zx",
        "2013-01-01T06:00+5",
        "2013-01-01T06:00+05:",
        "1357020000",
        " BC",
        "+infinity",
    ] {
        assert_eq!(field(ColumnType::TimestampTz, text), Err(ValueError::Type), "{text}");
    }
}

#[test]
fn dates_are_whole_days() {
    for (text, json) in [
        ("2000-01-01", "2000-01-01"),
        ("1999-12-31", "1999-12-31"),
        ("5874897-12-31", "5874897-12-31"),
        ("4714-11-24 BC", "4714-11-24 BC"),
        ("infinity", "infinity"),
        ("-INFINITY", "-infinity"),
    ] {
        assert_eq!(shown(ColumnType::Date, text), format!("\"{json}\""));
    }
    for text in ["5874898-01-01", "4714-11-23 BC", "1900-02-29"] {
        assert_eq!(field(ColumnType::Date, text), Err(ValueError::Range), "{text}");
    }
    for text in ["2013-01-01T06:00:00Z", "2013-01-01Z", "20130101", ""] {
        assert_eq!(field(ColumnType::Date, text), Err(ValueError::Type), "{text}");
    }
}

#[test]
fn every_day_of_the_calendar_comes_back() {
    // Four hundred years before and after the epoch, and both ends of the range.
    for days in
        (-146_097..=146_097).chain(-2_451_545..-2_451_000).chain(2_145_031_000..2_145_031_949)
    {
        let mut json = Vec::new();
        write_date_json(days, &mut json);
        assert_eq!(parse_date(unquoted(&json)), Ok(days));
    }
}

#[test]
fn damaged_timestamps_never_panic() {
    for micros in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX, 0, -1] {
        write_timestamp_json(micros, &mut Vec::new());
        write_rfc3339(crate::record::UnixMicros(micros), &mut Vec::new());
    }
    for days in [i32::MIN + 1, i32::MAX - 1] {
        write_date_json(days, &mut Vec::new());
    }
}
