//! smallint, integer, bigint, real and double precision.

use super::numeric::{Decimal, signed};
use super::{InvalidBinary, ValueError};

/// Reads an integer as PostgreSQL 15 does: an optional sign and decimal digits.
pub fn parse_integer<T: TryFrom<i64>>(text: &[u8]) -> Result<T, ValueError> {
    let (negative, digits) = signed(text);
    if digits.is_empty() {
        return Err(ValueError::Type);
    }
    // Counting downwards, because the smallest integer has no positive counterpart.
    let mut value = Some(0_i64);
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ValueError::Type);
        }
        value = value.and_then(|value| value.checked_mul(10)?.checked_sub(i64::from(digit)));
    }
    let value = if negative { value } else { value.and_then(i64::checked_neg) };
    narrow(value.ok_or(ValueError::Range)?)
}

/// Reads a JSON number that may have a fraction and an exponent but stands for a whole number: 5.0, 5e2, 1.5e1.
pub fn parse_integral(text: &[u8]) -> Result<i64, ValueError> {
    let number = Decimal::parse(text).ok_or(ValueError::Type)?;
    let Some((first, last)) = number.significant() else {
        return Ok(0);
    };
    if number.power(last) < 0 {
        return Err(ValueError::Type);
    }
    if number.power(first) > 18 {
        return Err(ValueError::Range);
    }
    let mut value = 0_i64;
    for index in first..=last {
        value = next_digit(value, number.digit(index))?;
    }
    for _ in 0..number.power(last) {
        value = next_digit(value, 0)?;
    }
    if number.negative { Ok(value) } else { value.checked_neg().ok_or(ValueError::Range) }
}

fn next_digit(value: i64, digit: u8) -> Result<i64, ValueError> {
    value
        .checked_mul(10)
        .and_then(|value| value.checked_sub(i64::from(digit)))
        .ok_or(ValueError::Range)
}

/// Brings a whole number into a smaller type.
pub fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, ValueError> {
    T::try_from(value).map_err(|_| ValueError::Range)
}

/// Reads a double precision: decimal digits, point, exponent, or NaN, Infinity, inf in any case. As in PostgreSQL a
/// number that would become infinity or zero is out of range.
pub fn parse_double(text: &[u8]) -> Result<f64, ValueError> {
    let value: f64 = parse_float(text)?;
    if value.is_nan() {
        return Ok(f64::NAN);
    }
    check_float(text, value.is_infinite(), value == 0.0)?;
    Ok(value)
}

/// Reads a real, like [`parse_double`].
pub fn parse_real(text: &[u8]) -> Result<f32, ValueError> {
    let value: f32 = parse_float(text)?;
    if value.is_nan() {
        return Ok(f32::NAN);
    }
    check_float(text, value.is_infinite(), value == 0.0)?;
    Ok(value)
}

fn parse_float<T: std::str::FromStr>(text: &[u8]) -> Result<T, ValueError> {
    let text = std::str::from_utf8(text).map_err(|_| ValueError::Type)?;
    text.parse().map_err(|_| ValueError::Type)
}

/// Infinity and zero are values of their own only where the text says so.
fn check_float(text: &[u8], infinite: bool, zero: bool) -> Result<(), ValueError> {
    let digits = || text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let overflow = infinite && digits().any(u8::is_ascii_digit);
    let underflow = zero && digits().any(|byte| matches!(byte, b'1'..=b'9'));
    if overflow || underflow { Err(ValueError::Range) } else { Ok(()) }
}

pub(super) fn write_integer(value: impl Into<i64>, out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    serde_json::to_writer(out, &value.into()).map_err(|_| InvalidBinary)
}

/// The shortest text that reads back as the same number; NaN and the infinities as strings, which JSON lacks.
pub(super) fn write_double(value: f64, out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    if write_special(value.is_nan(), value.is_infinite(), value > 0.0, out) {
        return Ok(());
    }
    serde_json::to_writer(&mut *out, &value).map_err(|_| InvalidBinary)?;
    drop_point_zero(out);
    Ok(())
}

pub(super) fn write_real(value: f32, out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    if write_special(value.is_nan(), value.is_infinite(), value > 0.0, out) {
        return Ok(());
    }
    serde_json::to_writer(&mut *out, &value).map_err(|_| InvalidBinary)?;
    drop_point_zero(out);
    Ok(())
}

fn write_special(nan: bool, infinite: bool, positive: bool, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = match (nan, infinite, positive) {
        (true, ..) => b"\"NaN\"",
        (_, true, true) => b"\"Infinity\"",
        (_, true, false) => b"\"-Infinity\"",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// PostgreSQL shows 39.0 as 39; so do we, so that a record looks the same from either.
fn drop_point_zero(out: &mut Vec<u8>) {
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
}
