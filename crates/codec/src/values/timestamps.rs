//! timestamptz and date: ISO 8601 text and PostgreSQL's counts from 2000-01-01.
//!
//! Read: `2013-01-01` (or `2013/1/1`), with T or a space and `06:00`, `06:00:00` or `06:00:00.123456789` behind it, then
//! nothing (UTC), `Z`, `UTC`, `GMT`, `+5`, `+05`, `+05:30`, `+0530` or `+05:30:15`; `20130101T060000` with the same behind
//! it; ` BC` at the end; `infinity`, `-infinity`. The calendar, the range, the rounding, 24:00 and second 60 are
//! PostgreSQL's, and all that is read is read as PostgreSQL does. It takes more, of which a reader cannot be sure: `+530`,
//! `UTC+2` (to the west of it), second 63 of `T060063`, names of zones and months. A date with a time is no date: the time would be lost unseen.

use tidegate_record::UnixMicros;

use super::ValueError;
use super::calendar::{POSTGRES_EPOCH_DAYS, civil_from_days, days_from_civil, month_days};

/// 2000-01-01 in microseconds since 1970-01-01.
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS * DAY_MICROS;
const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// 4714-11-24 BC, day 0 of the Julian count, in days from 2000-01-01.
const DAYS_MIN: i64 = -2_451_545;
/// The day after 5874897-12-31.
const DATE_DAYS_END: i64 = 2_145_031_949;
const TIMESTAMP_MIN: i64 = DAYS_MIN * DAY_MICROS;
/// 294277-01-01.
const TIMESTAMP_END: i64 = 106_751_983 * DAY_MICROS;

/// Longest text of a time, in bytes; PostgreSQL's own limit is a little higher.
const TEXT_BYTES_MAX: usize = 128;
const YEAR_DIGITS_MAX: usize = 7;
/// Digits of a fraction that integers hold.
const SHORT_FRACTION_DIGITS_MAX: usize = 9;
/// PostgreSQL's limit for the hours of an offset.
const OFFSET_HOURS_MAX: i64 = 15;

/// Microseconds from 2000-01-01T00:00:00Z; the extreme values are the infinities.
pub fn parse_timestamp(text: &[u8]) -> Result<i64, ValueError> {
    if let Some(positive) = infinity(text) {
        return Ok(if positive { i64::MAX } else { i64::MIN });
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(ValueError::Type);
    }
    let (text, before_christ) = strip_era(text);
    let mut reader = TextReader { rest: text };
    let is_compact =
        matches!(text.get(8), Some(b'T' | b't')) && text[..8].iter().all(u8::is_ascii_digit);
    let days =
        if is_compact { reader.compact_date(before_christ) } else { reader.date(before_christ) }?;
    let (mut time, mut offset) = (0, 0);
    if !reader.rest.is_empty() {
        if !(reader.eat(b'T') || reader.eat(b't') || reader.spaces()) {
            return Err(ValueError::Type);
        }
        time = if is_compact { reader.compact_time() } else { reader.time() }?;
        reader.spaces();
        offset = reader.offset()?;
    }
    if !reader.rest.is_empty() {
        return Err(ValueError::Type);
    }
    let local = days.checked_mul(DAY_MICROS).ok_or(ValueError::Range)?;
    in_range(local.checked_add(time - offset).ok_or(ValueError::Range)?)
}

fn in_range(micros: i64) -> Result<i64, ValueError> {
    if (TIMESTAMP_MIN..TIMESTAMP_END).contains(&micros) {
        Ok(micros)
    } else {
        Err(ValueError::Range)
    }
}

/// Days from 2000-01-01; the extreme values are the infinities.
pub fn parse_date(text: &[u8]) -> Result<i32, ValueError> {
    if let Some(positive) = infinity(text) {
        return Ok(if positive { i32::MAX } else { i32::MIN });
    }
    let (text, before_christ) = strip_era(text);
    let mut reader = TextReader { rest: text };
    let days = reader.date(before_christ)?;
    if !reader.rest.is_empty() {
        return Err(ValueError::Type);
    }
    if !(DAYS_MIN..DATE_DAYS_END).contains(&days) {
        return Err(ValueError::Range);
    }
    i32::try_from(days).map_err(|_| ValueError::Range)
}

/// The time of receipt as PostgreSQL counts it.
pub fn from_unix(time: UnixMicros) -> i64 {
    time.0.saturating_sub(POSTGRES_EPOCH_MICROS)
}

/// Microseconds since 1970 as PostgreSQL counts them, if it can.
pub(super) fn from_unix_checked(micros: i128) -> Result<i64, ValueError> {
    let micros = micros - i128::from(POSTGRES_EPOCH_MICROS);
    in_range(i64::try_from(micros).map_err(|_| ValueError::Range)?)
}

/// The reverse of [`from_unix`].
pub fn to_unix(micros: i64) -> UnixMicros {
    UnixMicros(micros.saturating_add(POSTGRES_EPOCH_MICROS))
}

fn infinity(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"infinity") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"-infinity") {
        Some(false)
    } else {
        None
    }
}

fn strip_era(text: &[u8]) -> (&[u8], bool) {
    match text.split_last_chunk::<3>() {
        Some((rest, era)) if era.eq_ignore_ascii_case(b" BC") => (super::trim(rest), true),
        _ => (text, false),
    }
}

struct TextReader<'a> {
    rest: &'a [u8],
}

impl TextReader<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn spaces(&mut self) -> bool {
        let before = self.rest.len();
        while self.eat(b' ') {}
        self.rest.len() < before
    }

    /// Reads `least` to `most` digits, as many as there are.
    fn digits(&mut self, least: usize, most: usize) -> Result<i64, ValueError> {
        let mut value = 0;
        let mut count = 0;
        while let Some(byte @ b'0'..=b'9') = self.rest.get(count)
            && count < most
        {
            value = value * 10 + i64::from(byte - b'0');
            count += 1;
        }
        if count < least {
            return Err(ValueError::Type);
        }
        self.rest = &self.rest[count..];
        Ok(value)
    }

    /// Days from 2000-01-01.
    fn date(&mut self, before_christ: bool) -> Result<i64, ValueError> {
        let year = self.digits(4, YEAR_DIGITS_MAX)?;
        let separator = self.rest.first().copied().filter(|byte| matches!(byte, b'-' | b'/'));
        let separator = separator.ok_or(ValueError::Type)?;
        let [month, day] = [(); 2]
            .map(|()| if self.eat(separator) { self.digits(1, 2) } else { Err(ValueError::Type) });
        days(year, month?, day?, before_christ)
    }

    /// The same of `20130101`.
    fn compact_date(&mut self, before_christ: bool) -> Result<i64, ValueError> {
        let (year, month, day) = (self.digits(4, 4)?, self.digits(2, 2)?, self.digits(2, 2)?);
        days(year, month, day, before_christ)
    }

    fn after(&mut self, separator: u8) -> Result<i64, ValueError> {
        if self.eat(separator) { self.digits(2, 2) } else { Err(ValueError::Type) }
    }

    /// Microseconds of the day.
    fn time(&mut self) -> Result<i64, ValueError> {
        let hours = self.digits(1, 2)?;
        let minutes = self.after(b':')?;
        let (mut seconds, mut micros) = (0, 0);
        if self.rest.first() == Some(&b':') {
            seconds = self.after(b':')?;
            micros = self.fraction()?;
        }
        time_of_day(hours, minutes, seconds, micros)
    }

    /// The same of `060000`.
    fn compact_time(&mut self) -> Result<i64, ValueError> {
        let (hours, minutes, seconds) =
            (self.digits(2, 2)?, self.digits(2, 2)?, self.digits(2, 2)?);
        let micros = self.fraction()?;
        time_of_day(hours, minutes, seconds, micros)
    }

    /// A second's point and the digits behind it, if there are any, in microseconds, rounded as PostgreSQL does: in
    /// binary, half to even.
    fn fraction(&mut self) -> Result<i64, ValueError> {
        let [b'.', behind @ ..] = self.rest else {
            return Ok(0);
        };
        let count = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count > SHORT_FRACTION_DIGITS_MAX {
            let text = std::str::from_utf8(&self.rest[..=count]).map_err(|_| ValueError::Type)?;
            let fraction: f64 = text.parse().map_err(|_| ValueError::Type)?;
            self.rest = &behind[count..];
            return Ok(micros(fraction));
        }
        self.rest = behind;
        let digits = self.digits(1, SHORT_FRACTION_DIGITS_MAX)?;
        let count = u32::try_from(count).map_err(|_| ValueError::Type)?;
        if count <= 6 {
            return Ok(digits * 10_i64.pow(6 - count));
        }
        let [digits, scale] = [digits, 10_i64.pow(count)]
            .map(|number| f64::from(u32::try_from(number).expect("at most nine digits")));
        Ok(micros(digits / scale))
    }

    /// Microseconds east of UTC; nothing is UTC.
    fn offset(&mut self) -> Result<i64, ValueError> {
        if self.eat(b'Z') || self.eat(b'z') {
            return Ok(0);
        }
        let west = self.rest.first() == Some(&b'-');
        if !self.eat(b'+') && !self.eat(b'-') {
            if let Some((zone, rest)) = self.rest.split_at_checked(3)
                && (zone.eq_ignore_ascii_case(b"UTC") || zone.eq_ignore_ascii_case(b"GMT"))
            {
                self.rest = rest;
            }
            return Ok(0);
        }
        let hours = self.digits(1, 2)?;
        let (mut minutes, mut seconds) = (0, 0);
        if self.rest.first() == Some(&b':') {
            minutes = self.after(b':')?;
            if self.rest.first() == Some(&b':') {
                seconds = self.after(b':')?;
            }
        } else if !self.rest.is_empty() {
            minutes = self.digits(2, 2)?;
        }
        if hours > OFFSET_HOURS_MAX || minutes > 59 || seconds > 59 {
            return Err(ValueError::Range);
        }
        let micros = ((hours * 60 + minutes) * 60 + seconds) * SECOND_MICROS;
        Ok(if west { -micros } else { micros })
    }
}

/// Days from 2000-01-01, if there is such a day.
fn days(year: i64, month: i64, day: i64, before_christ: bool) -> Result<i64, ValueError> {
    // There is no year 0: 1 BC came before 1.
    if year == 0 {
        return Err(ValueError::Range);
    }
    let year = if before_christ { 1 - year } else { year };
    if !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return Err(ValueError::Range);
    }
    Ok(days_from_civil(year, month, day))
}

/// Microseconds of the day, if it has so many.
fn time_of_day(hours: i64, minutes: i64, seconds: i64, micros: i64) -> Result<i64, ValueError> {
    let time = ((hours * 60 + minutes) * 60 + seconds) * SECOND_MICROS + micros;
    // A leap second is the next minute's first, and no day is longer than 24:00:00.
    if minutes > 59 || seconds > 60 || time > DAY_MICROS {
        return Err(ValueError::Range);
    }
    Ok(time)
}

/// A part of a second in whole microseconds.
fn micros(fraction: f64) -> i64 {
    let rounded = (fraction * 1e6).round_ties_even();
    // Between 0 and 1,000,000: the cast cannot lose anything.
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 1,000,000")]
    let micros = rounded as i64;
    micros
}

/// Appends e.g. `2026-11-21T05:00:00.123456Z`, always with six digits; a year before 1 gets ` BC` at the end.
pub fn write_rfc3339(time: UnixMicros, out: &mut Vec<u8>) {
    let days = time.0.div_euclid(DAY_MICROS) - POSTGRES_EPOCH_DAYS;
    write_moment(days, time.0.rem_euclid(DAY_MICROS), out);
}

/// `micros`: from 2000-01-01T00:00:00Z.
pub(super) fn write_timestamp_json(micros: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => write_moment(micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS), out),
    }
    out.push(b'"');
}

/// `days`: from 2000-01-01.
pub(super) fn write_date_json(days: i32, out: &mut Vec<u8>) {
    out.push(b'"');
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if write_day(i64::from(days), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
    out.push(b'"');
}

fn write_moment(days: i64, micros_of_day: i64, out: &mut Vec<u8>) {
    let before_christ = write_day(days, out);
    let seconds = micros_of_day / SECOND_MICROS;
    for (separator, value) in
        [(b'T', seconds / 3_600), (b':', seconds / 60 % 60), (b':', seconds % 60)]
    {
        out.push(separator);
        write_padded(value, 2, out);
    }
    out.push(b'.');
    write_padded(micros_of_day % SECOND_MICROS, 6, out);
    out.extend_from_slice(if before_christ { b"Z BC" } else { b"Z" });
}

/// Appends the date; true if the year is before 1.
fn write_day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(days);
    let before_christ = year <= 0;
    write_padded(if before_christ { 1 - year } else { year }, 4, out);
    for value in [month, day] {
        out.push(b'-');
        write_padded(value, 2, out);
    }
    before_christ
}

/// Appends a number that is not negative with at least `width` digits.
fn write_padded(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut start = text.len();
    while rest > 0 || text.len() - start < width {
        start -= 1;
        text[start] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    out.extend_from_slice(&text[start..]);
}
