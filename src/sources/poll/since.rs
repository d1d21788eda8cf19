//! Asking only for what is newer than the newest that was seen: a query parameter, filled from a field of the items.

use serde::{Deserialize, Serialize};
use tidegate_codec::json::ValueKind;
use tidegate_codec::timestamps::{parse_timestamp, to_unix};
use tidegate_record::UnixMicros;

use super::ascent::Ascent;
use super::items::Item;
use super::members::{Invalid, invalid};
use super::pointer::{Pointer, text_of};
use super::since_format::{MICROS_DIGITS, SinceFormat};

/// Longest overlap: a year in seconds, or that many numbers.
pub const OVERLAP_MAX: u32 = 31_536_000;

const SECOND_MICROS: i64 = 1_000_000;
const MILLISECOND_MICROS: i64 = 1_000;
/// Below this a float holds every whole number.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What to send, and from which field of the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Name of the query parameter.
    pub parameter: String,
    /// The field of an item whose highest value counts.
    pub field: Pointer,
    /// How the value is written in the query, and what a number in the field means.
    #[serde(default)]
    pub format: SinceFormat,
    /// How far before the highest value is asked again, for items that appear late: seconds, for `integer` numbers.
    #[serde(default = "overlap_default")]
    pub overlap: u32,
}

fn overlap_default() -> u32 {
    60
}

/// The highest value so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinceValue {
    /// Microseconds since 1970-01-01T00:00:00Z.
    Micros(i64),
    Integer(i64),
}

/// What was seen of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SinceSeen {
    pub highest: Option<SinceValue>,
    /// Most digits that the fraction of a second had.
    pub digits: u8,
    /// Of this run's pages.
    pub ascent: Ascent,
}

impl Since {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        super::definition::check_parameter("/since/parameter", &self.parameter)?;
        if self.field.is_whole() {
            return Err(invalid(
                "/since/field",
                "must point at a field of an item, as /updated_at",
            ));
        }
        if self.overlap > OVERLAP_MAX {
            return Err(invalid("/since/overlap", format!("must be 0 to {OVERLAP_MAX}")));
        }
        Ok(())
    }

    /// What was seen after a page of these items. A time later than `now` counts as `now`: one item from the year 9999
    /// must not hide all others for ever. An item without the field, or with something else in it, does not count.
    pub(super) fn look(&self, mut seen: SinceSeen, items: &[Item], now: UnixMicros) -> SinceSeen {
        seen.highest = seen.highest.filter(|value| value.is_of(&self.format));
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let found = self.value_of(&item.json, now);
            if let Some((value, digits)) = found {
                seen.highest = seen.highest.max(Some(value));
                seen.digits = seen.digits.max(digits);
            }
            values.push(found.map(|(value, _)| value));
        }
        seen.ascent.add_page(values.into_iter());
        seen
    }

    /// The parameter's value, the overlap before the highest one; `None` if that is of another format. `digits`: those
    /// that a fraction of a second has in the field.
    pub(super) fn written(&self, highest: SinceValue, digits: u8) -> Option<String> {
        match highest {
            SinceValue::Integer(number) if self.format == SinceFormat::Integer => {
                Some(number.saturating_sub(i64::from(self.overlap)).to_string())
            }
            SinceValue::Micros(micros) if self.format != SinceFormat::Integer => {
                let from = micros.saturating_sub(i64::from(self.overlap) * SECOND_MICROS);
                Some(self.format.written(from, digits))
            }
            _ => None,
        }
    }

    /// The value, and the digits of its fraction.
    fn value_of(&self, json: &[u8], now: UnixMicros) -> Option<(SinceValue, u8)> {
        let value = self.field.find(json).ok()??;
        let (text, is_number) = match value.kind {
            ValueKind::Plain | ValueKind::Escaped => (text_of(value, json), false),
            ValueKind::Integer | ValueKind::Number => {
                (String::from_utf8_lossy(value.raw(json)).into_owned(), true)
            }
            _ => return None,
        };
        if self.format == SinceFormat::Integer {
            return text.parse().ok().map(|number| (SinceValue::Integer(number), 0));
        }
        let micros = match self.format {
            SinceFormat::UnixSeconds if is_number => scaled(&text, SECOND_MICROS)?,
            SinceFormat::UnixMs if is_number => scaled(&text, MILLISECOND_MICROS)?,
            _ => to_unix(parse_timestamp(text.as_bytes()).ok()?).0,
        };
        Some((SinceValue::Micros(micros.min(now.0)), fraction_digits(&text)))
    }
}

impl SinceValue {
    fn is_of(self, format: &SinceFormat) -> bool {
        matches!(self, SinceValue::Integer(_)) == (*format == SinceFormat::Integer)
    }
}

/// How many digits follow the point of a time's seconds.
fn fraction_digits(time: &str) -> u8 {
    let Some((before, after)) = time.rsplit_once(['.', ',']) else { return 0 };
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let digits = u8::try_from(digits).unwrap_or(MICROS_DIGITS).min(MICROS_DIGITS);
    if before.contains(':') { digits } else { 0 }
}

/// The number times the scale, its fraction included; none beyond what 64 bits hold.
#[expect(clippy::cast_possible_truncation, reason = "checked to be within 53 bits before")]
#[expect(clippy::cast_precision_loss, reason = "the scales are small round numbers")]
fn scaled(text: &str, scale: i64) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(scale);
    }
    let product = text.parse::<f64>().ok()? * scale as f64;
    (product.abs() < EXACT_MAX).then_some(product.floor() as i64)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn since(format: SinceFormat, overlap: u32) -> Since {
        Since { parameter: "since".to_owned(), field: Pointer::member("at"), format, overlap }
    }

    fn items(fields: &[&str]) -> Vec<Item> {
        let item = |field: &&str| Item {
            key: [0; 16],
            content: [0; 16],
            json: Bytes::from(format!(r#"{{"at":{field}}}"#)),
        };
        fields.iter().map(item).collect()
    }

    fn next(format: SinceFormat, overlap: u32, fields: &[&str]) -> Option<String> {
        let since = since(format, overlap);
        let seen = since.look(SinceSeen::default(), &items(fields), NOW);
        since.written(seen.highest?, seen.digits)
    }

    fn highest(since: &Since, before: Option<SinceValue>, fields: &[&str]) -> Option<SinceValue> {
        let seen = SinceSeen { highest: before, ..SinceSeen::default() };
        since.look(seen, &items(fields), NOW).highest
    }

    #[test]
    fn the_highest_value_less_the_overlap_is_asked_for() {
        let times =
            [r#""2026-11-21T17:00:00+01:00""#, r#""2026-11-20""#, "null", r#""soon""#, "{}"];
        let next_of = |format| next(format, 60, &times).unwrap();
        assert_eq!(next_of(SinceFormat::Timestamp), "2026-11-21T15:59:00Z");
        assert_eq!(next_of(SinceFormat::Date), "2026-11-21");
        assert_eq!(next_of(SinceFormat::UnixSeconds), "1795276740");
        assert_eq!(next_of(SinceFormat::UnixMs), "1795276740000");
        assert_eq!(
            next(SinceFormat::UnixSeconds, 0, &["1795276740.5", "7"]).unwrap(),
            "1795276740"
        );
        assert_eq!(next(SinceFormat::UnixMs, 1, &["1795276740999"]).unwrap(), "1795276739999");
        assert_eq!(next(SinceFormat::Integer, 5, &["41", r#""42""#, "1.5"]).unwrap(), "37");
        assert_eq!(next(SinceFormat::Integer, 5, &["{}", "null"]), None);
    }

    #[test]
    fn the_mark_never_goes_back_nor_beyond_now() {
        let since = since(SinceFormat::Timestamp, 0);
        let before = Some(SinceValue::Micros(NOW.0 - 5));
        assert_eq!(highest(&since, before, &[r#""2001-01-01""#]), before);
        for future in [r#""9999-01-01""#, r#""infinity""#] {
            assert_eq!(highest(&since, before, &[future]), Some(SinceValue::Micros(NOW.0)));
        }
        let other = Some(SinceValue::Integer(5));
        assert_eq!(
            highest(&since, other, &[]),
            None,
            "a mark of another format counts for nothing"
        );
        assert_eq!(since.written(SinceValue::Integer(5), 0), None);
    }

    #[test]
    fn a_time_is_written_as_finely_as_the_values_are() {
        let next_of = |fields: &[&str]| next(SinceFormat::Timestamp, 0, fields).unwrap();
        let (whole, milliseconds, micros) = (
            r#""2026-11-21T17:00:00Z""#,
            r#""2026-11-21T16:00:00.5Z""#,
            r#""2026-11-21 15:00:00.123456+00""#,
        );
        assert_eq!(next_of(&[whole]), "2026-11-21T17:00:00Z");
        assert_eq!(next_of(&[whole, milliseconds]), "2026-11-21T17:00:00.000Z");
        assert_eq!(next_of(&[milliseconds, micros]), "2026-11-21T16:00:00.500000Z");
        assert_eq!(next_of(&[r#""2026-11-21""#, "1795276740.5"]), "2026-11-21T00:00:00Z");
    }
}
