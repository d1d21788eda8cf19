//! Asking only for what is newer than the newest that was seen: a query parameter, filled from a field of the items.

use serde::{Deserialize, Serialize};
use tidegate_codec::json::ValueKind;
use tidegate_codec::timestamps::{parse_timestamp, to_unix};
use tidegate_record::UnixMicros;

use super::parameter::check_parameter;
use super::since_format::{MICROS_DIGITS, SinceFormat};
use crate::polling::jobs::members::{Invalid, invalid};
use crate::polling::jobs::pointer::{Pointer, text_of};

/// Longest overlap: a year in seconds, or that many numbers.
const OVERLAP_MAX: u32 = 31_536_000;

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

impl Since {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check_parameter("/since/parameter", &self.parameter)?;
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

    /// The parameter's value, the overlap before the highest one; `None` if that is of another format. `digits`: those
    /// that a fraction of a second has in the field.
    pub(crate) fn written(&self, highest: SinceValue, digits: u8) -> Option<String> {
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

    /// An item's value, and the digits of its fraction; none of an item without the field, or with something else in it. A
    /// time later than `now` counts as `now`: one item from the year 9999 must not hide all others for ever.
    pub(crate) fn value_of(&self, json: &[u8], now: UnixMicros) -> Option<(SinceValue, u8)> {
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
    pub(crate) fn is_of(self, format: &SinceFormat) -> bool {
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
