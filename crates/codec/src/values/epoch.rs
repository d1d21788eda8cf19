//! Times as numbers, counted from 1970-01-01T00:00:00Z in the unit that their column names.

use super::ValueError;
use super::numeric::Decimal;
use super::timestamps;
use crate::columns::EpochUnit;

/// Most digits of a count of microseconds that can be in range.
const MICROS_DIGITS_MAX: i64 = 19;

/// Microseconds from 2000-01-01T00:00:00Z of a number such as `1357020000.123456` or `1.35702e12`, read exactly. What is
/// finer than a microsecond is rounded to the nearest, half to even.
pub(super) fn parse(unit: EpochUnit, text: &[u8]) -> Result<i64, ValueError> {
    let number = Decimal::parse(text).ok_or(ValueError::Type)?;
    let micros_power = match unit {
        EpochUnit::Seconds => 6,
        EpochUnit::Milliseconds => 3,
        EpochUnit::Microseconds => 0,
        EpochUnit::Nanoseconds => -3,
    };
    let micros = match number.significant() {
        None => 0,
        Some((first, _)) if number.power(first) + micros_power >= MICROS_DIGITS_MAX => {
            return Err(ValueError::Range);
        }
        Some((first, last)) => rounded(&number, first, last, micros_power),
    };
    let micros = if number.negative { -micros } else { micros };
    timestamps::from_unix_checked(micros)
}

/// The number times ten to the power of `shift`, which has at most [`MICROS_DIGITS_MAX`] digits, without its sign.
fn rounded(number: &Decimal<'_>, first: usize, last: usize, shift: i64) -> i128 {
    let mut whole = 0;
    let mut tenths = 0;
    let mut more = false;
    for index in first..=last {
        let digit = number.digit(index);
        match number.power(index) + shift {
            0.. => whole = whole * 10 + i128::from(digit),
            -1 => tenths = digit,
            _ => more |= digit != 0,
        }
    }
    // Zeros before the point that are not written, as in 1e9.
    let zeros = number.power(last) + shift;
    for _ in 0..zeros {
        whole *= 10;
    }
    let up = tenths > 5 || (tenths == 5 && (more || whole % 2 == 1));
    whole + i128::from(up)
}
