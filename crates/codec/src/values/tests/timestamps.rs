//! Spellings, calendar and range of timestamps and dates.

use super::*;
use crate::columns::EpochUnit;
use crate::values::timestamps::{parse_date, write_date_json, write_rfc3339, write_timestamp_json};

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
        "2013-01-01 06:00:00 UTC",
        "2013-01-01T06:00:00utc",
        "2013-01-01 06:00 GMT",
        "2013-01-01 06:00:00.0GMT",
        "2013-01-01T08:00:00+2",
        "2013-01-01 08:00:00 +2",
        "2012-12-31 22:00-8",
        "2013-01-01 08:30+2:30",
        "2013-1-1 6:00:00",
        "2013-1-1T6:00",
        "2013/01/01 06:00:00",
        "2013/1/1 6:00Z",
        "20130101T060000Z",
        "20130101t060000.000",
        "20130101T083000 +0230",
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
        ("2013-01-01T00:00:00.1234567890Z", "2013-01-01T00:00:00.123457Z"),
        ("2013-01-01T00:00:00.12345649999999999 UTC", "2013-01-01T00:00:00.123456Z"),
        ("2013-01-01T23:59:59.999999999999999999999999999Z", "2013-01-02T00:00:00.000000Z"),
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
        "2013-1",
        "2013/01-01",
        "2013-001-01",
        "2013-01-01T",
        "2013-01-01T06",
        "2013-01-01x06:00",
        "2013-01-01T06:00:00.",
        "2013-01-01T06:00:00. UTC",
        "2013-01-01T06:00:00Zx",
        "2013-01-01T06:00+530",
        "2013-01-01T06:00+",
        "2013-01-01T06:00 UTC+2",
        "2013-01-01T06:00 UT",
        "2013-01-01T06:00:00 CET",
        "2013-01-01T6:0",
        "2013-01-01 060000",
        "20130101",
        "20130101 06:00:00",
        "20130101T0600",
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
        write_rfc3339(tidegate_record::UnixMicros(micros), &mut Vec::new());
    }
    for days in [i32::MIN + 1, i32::MAX - 1] {
        write_date_json(days, &mut Vec::new());
    }
}

#[test]
fn a_text_of_many_digits_is_read_up_to_a_limit() {
    let text = |digits: usize| format!("2013-01-01T00:00:00.{}Z", "3".repeat(digits));
    let expected = "\"2013-01-01T00:00:00.333333Z\"";
    for digits in [7, 9, 10, 50, 107] {
        assert_eq!(shown(ColumnType::TimestampTz, &text(digits)), expected);
    }
    assert_eq!(field(ColumnType::TimestampTz, &text(108)), Err(ValueError::Type));
}

#[test]
fn numbers_count_from_1970_exactly() {
    use EpochUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
    for (unit, number, expected) in [
        (Seconds, "0", "1970-01-01T00:00:00.000000Z"),
        (Seconds, "-0.0", "1970-01-01T00:00:00.000000Z"),
        (Seconds, "1357020000", "2013-01-01T06:00:00.000000Z"),
        (Seconds, " 1357020000.123456 ", "2013-01-01T06:00:00.123456Z"),
        (Seconds, "1357020000.1234565", "2013-01-01T06:00:00.123456Z"),
        (Seconds, "1357020000.1234575", "2013-01-01T06:00:00.123458Z"),
        (Seconds, "1357020000.12345650000000000001", "2013-01-01T06:00:00.123457Z"),
        (Seconds, "1.35702e9", "2013-01-01T06:00:00.000000Z"),
        (Seconds, "-1.5", "1969-12-31T23:59:58.500000Z"),
        (Seconds, "5e-7", "1970-01-01T00:00:00.000000Z"),
        (Seconds, "1e-300", "1970-01-01T00:00:00.000000Z"),
        (Milliseconds, "1357020000123", "2013-01-01T06:00:00.123000Z"),
        (Milliseconds, "1357020000123.4565", "2013-01-01T06:00:00.123456Z"),
        (Microseconds, "1357020000123456", "2013-01-01T06:00:00.123456Z"),
        (Nanoseconds, "1357020000123456789", "2013-01-01T06:00:00.123457Z"),
        (Nanoseconds, "-500", "1970-01-01T00:00:00.000000Z"),
        (Nanoseconds, "-501", "1969-12-31T23:59:59.999999Z"),
        (Nanoseconds, "499", "1970-01-01T00:00:00.000000Z"),
        (Seconds, "9224318015999.999999", "294276-12-31T23:59:59.999999Z"),
        (Seconds, "-210866803200", "4714-11-24T00:00:00.000000Z BC"),
    ] {
        let mut out = Vec::new();
        encode_epoch(Some(unit), ValueError::Type, number.as_bytes(), &mut out).unwrap();
        let mut json = Vec::new();
        write_json(ColumnType::TimestampTz, &out[4..], &mut json).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), format!("\"{expected}\""), "{number}");
    }
    for (unit, number, expected) in [
        (Some(Seconds), "9224318016000", ValueError::Range),
        (Some(Milliseconds), "-210866803200001", ValueError::Range),
        (Some(Seconds), "1e40", ValueError::Range),
        (Some(Nanoseconds), "-1e99999999999", ValueError::Range),
        (Some(Seconds), "NaN", ValueError::Type),
        (Some(Seconds), "", ValueError::Type),
        (Some(Seconds), "\"", ValueError::Type),
        (Some(Seconds), "true", ValueError::Type),
        (None, "1357020000", ValueError::Type),
    ] {
        let mut out = Vec::new();
        let refused = encode_epoch(unit, ValueError::Type, number.as_bytes(), &mut out);
        assert_eq!((refused, out.len()), (Err(expected), 0), "{number}");
    }
}
