//! How a value is written in the query parameter of `since`: the forms that APIs take.

use serde::{Deserialize, Serialize};
use tidegate_codec::timestamps::write_rfc3339;
use tidegate_record::UnixMicros;
use time::format_description::{OwnedFormatItem, parse_strftime_owned};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 100;
const SECOND_MICROS: i64 = 1_000_000;
const MILLISECOND_MICROS: i64 = 1_000;
/// Digits of a fraction of a second in microseconds.
pub(super) const MICROS_DIGITS: u8 = 6;
const MILLISECONDS_DIGITS: u8 = 3;

/// See the module. Times are UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SinceFormat {
    /// `2026-11-21T17:00:00Z`, with a fraction of the second only where the field's values have one.
    #[default]
    Timestamp,
    /// `2026-11-21T17:00:00Z`.
    TimestampSeconds,
    /// `2026-11-21T17:00:00.000Z`.
    TimestampMs,
    /// `2026-11-21T17:00:00.000000Z`.
    TimestampUs,
    /// `2026-11-21 17:00:00`.
    Datetime,
    /// `2026-11-21`.
    Date,
    UnixSeconds,
    UnixMs,
    /// A number that only grows, such as an id.
    Integer,
    Pattern(Pattern),
}

/// A pattern of strftime, with at least one `%`; `%3f` and `%f` are the milliseconds and microseconds of the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// No format has this name, and it is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no format: it is timestamp, timestamp_seconds, timestamp_ms, timestamp_us, datetime, date, unix_seconds, \
     unix_ms, integer, or a pattern such as %Y-%m-%d %H:%M:%S"
)]
pub struct UnknownFormat(String);

/// The formats that have names.
const NAMED: [(&str, SinceFormat); 9] = [
    ("timestamp", SinceFormat::Timestamp),
    ("timestamp_seconds", SinceFormat::TimestampSeconds),
    ("timestamp_ms", SinceFormat::TimestampMs),
    ("timestamp_us", SinceFormat::TimestampUs),
    ("datetime", SinceFormat::Datetime),
    ("date", SinceFormat::Date),
    ("unix_seconds", SinceFormat::UnixSeconds),
    ("unix_ms", SinceFormat::UnixMs),
    ("integer", SinceFormat::Integer),
];

impl SinceFormat {
    /// Writes a time. `digits`: those that a fraction has in the field's values.
    pub(super) fn written(&self, micros: i64, digits: u8) -> String {
        match self {
            SinceFormat::UnixSeconds => micros.div_euclid(SECOND_MICROS).to_string(),
            SinceFormat::UnixMs => micros.div_euclid(MILLISECOND_MICROS).to_string(),
            SinceFormat::Date => {
                rfc3339(micros, 0).split('T').next().unwrap_or_default().to_owned()
            }
            SinceFormat::Datetime => rfc3339(micros, 0).replace('T', " ").replace('Z', ""),
            SinceFormat::TimestampSeconds => rfc3339(micros, 0),
            SinceFormat::TimestampMs => rfc3339(micros, MILLISECONDS_DIGITS),
            SinceFormat::TimestampUs | SinceFormat::Integer => rfc3339(micros, MICROS_DIGITS),
            SinceFormat::Timestamp => match digits {
                0 => rfc3339(micros, 0),
                1..=MILLISECONDS_DIGITS => rfc3339(micros, MILLISECONDS_DIGITS),
                _ => rfc3339(micros, MICROS_DIGITS),
            },
            // It was tried when it was made.
            SinceFormat::Pattern(pattern) => pattern.written(micros).unwrap_or_default(),
        }
    }
}

/// The time with so many digits of its fraction; the rest is cut off, never rounded up: no item lies between.
fn rfc3339(micros: i64, digits: u8) -> String {
    let mut text = Vec::new();
    write_rfc3339(UnixMicros(micros), &mut text);
    let text = String::from_utf8_lossy(&text);
    let Some((seconds, fraction)) = text.split_once('.') else { return text.into_owned() };
    match digits {
        0 => format!("{seconds}Z"),
        digits => format!("{seconds}.{}Z", &fraction[..usize::from(digits.min(MICROS_DIGITS))]),
    }
}

impl Pattern {
    fn new(text: String) -> Option<Pattern> {
        let fits = text.len() <= PATTERN_BYTES_MAX && !text.chars().any(char::is_control);
        let pattern = Some(Pattern(text)).filter(|pattern| fits && pattern.0.contains('%'))?;
        pattern.written(0).filter(|written| !written.is_empty())?;
        Some(pattern)
    }

    fn written(&self, micros: i64) -> Option<String> {
        let items: OwnedFormatItem = parse_strftime_owned(&self.with_fraction(micros)).ok()?;
        UnixMicros(micros).date_time().format(&items).ok()
    }

    /// The pattern with the digits of the fraction in their places; the rest is a library's.
    fn with_fraction(&self, micros: i64) -> String {
        let fraction = format!("{:06}", micros.rem_euclid(SECOND_MICROS));
        let (mut filled, mut rest) = (String::new(), self.0.as_str());
        while let Some((before, after)) = rest.split_once('%') {
            filled.push_str(before);
            let (digits, skipped) = match after.as_bytes() {
                [b'f', ..] => (&fraction[..], 1),
                [b'3', b'f', ..] => (&fraction[..3], 2),
                // The next character belongs to this `%`, even if it is a `%` itself.
                _ => {
                    filled.push('%');
                    let length = after.chars().next().map_or(0, char::len_utf8);
                    (&after[..length], length)
                }
            };
            filled.push_str(digits);
            rest = &after[skipped..];
        }
        filled + rest
    }
}

impl TryFrom<String> for SinceFormat {
    type Error = UnknownFormat;

    fn try_from(text: String) -> Result<SinceFormat, UnknownFormat> {
        if let Some((_, format)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(format.clone());
        }
        match Pattern::new(text.clone()) {
            Some(pattern) => Ok(SinceFormat::Pattern(pattern)),
            None => Err(UnknownFormat(text.chars().take(PATTERN_BYTES_MAX).collect())),
        }
    }
}

impl From<SinceFormat> for String {
    fn from(format: SinceFormat) -> String {
        if let SinceFormat::Pattern(pattern) = format {
            return pattern.0;
        }
        let named = NAMED.iter().find(|(_, other)| *other == format);
        named.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T16:59:55.123456Z
    const TIME: i64 = 1_795_280_395_123_456;

    fn format(text: &str) -> SinceFormat {
        let format = SinceFormat::try_from(text.to_owned()).unwrap();
        assert_eq!(String::from(format.clone()), text, "it comes back as it was");
        format
    }

    #[test]
    fn every_format_writes_what_its_apis_take() {
        for (text, written) in [
            ("timestamp", "2026-11-21T16:59:55Z"),
            ("timestamp_seconds", "2026-11-21T16:59:55Z"),
            ("timestamp_ms", "2026-11-21T16:59:55.123Z"),
            ("timestamp_us", "2026-11-21T16:59:55.123456Z"),
            ("datetime", "2026-11-21 16:59:55"),
            ("date", "2026-11-21"),
            ("unix_seconds", "1795280395"),
            ("unix_ms", "1795280395123"),
            ("%Y-%m-%dT%H:%M:%S+0000", "2026-11-21T16:59:55+0000"),
            ("%d.%m.%Y %H:%M", "21.11.2026 16:59"),
            ("%Y%m%d%H%M%S%3f", "20261121165955123"),
            ("%H:%M:%S.%f %%f", "16:59:55.123456 %f"),
            ("updated>%F", "updated>2026-11-21"),
        ] {
            assert_eq!(format(text).written(TIME, 0), written, "{text}");
        }
    }

    #[test]
    fn by_default_there_is_a_fraction_only_where_the_values_have_one() {
        let written = |digits| SinceFormat::Timestamp.written(TIME, digits);
        assert_eq!(written(0), "2026-11-21T16:59:55Z");
        assert_eq!(written(1), "2026-11-21T16:59:55.123Z");
        assert_eq!(written(3), "2026-11-21T16:59:55.123Z");
        assert_eq!(written(4), "2026-11-21T16:59:55.123456Z");
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for text in ["", "iso", "%", "%Q", "%Y-%", "%Y\n", &"%Y".repeat(60)] {
            let error = SinceFormat::try_from(text.to_owned()).unwrap_err();
            assert!(error.to_string().contains("timestamp_ms"), "{text}: {error}");
        }
    }
}
