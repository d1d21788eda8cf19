//! numeric: exact decimals, in PostgreSQL's base 10,000.
//!
//! Binary form: number of base-10,000 digits, weight of the first (its power of 10,000), sign, display scale, digits;
//! each 16 bits, big endian. Leading and trailing zero digits are stripped, as PostgreSQL itself does.

use super::{InvalidBinary, ValueError, numbers};

/// Most digits behind the point.
pub const SCALE_MAX: usize = 16_383;
/// Highest power of ten of a digit: 131,072 digits before the point.
const POWER_MAX: i64 = 131_071;
/// PostgreSQL refuses exponents from here on, whatever the digits.
const EXPONENT_END: i64 = (i32::MAX / 2) as i64;

/// What a decimal digit counts in a base-10,000 digit, by its place there.
const PLACES: [u16; 4] = [1, 10, 100, 1_000];

const SIGN_POSITIVE: u16 = 0x0000;
const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITY: u16 = 0xD000;
const SIGN_NEGATIVE_INFINITY: u16 = 0xF000;

/// The parts of a decimal text.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    pub negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Clamped far outside of what any type holds.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; digits may lack on one side of the point.
    pub fn parse(text: &'a [u8]) -> Option<Decimal<'a>> {
        let (negative, rest) = signed(text);
        let (whole, mut rest) = digits(rest);
        let mut fraction: &[u8] = &[];
        if let [b'.', behind @ ..] = rest {
            (fraction, rest) = digits(behind);
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut exponent = 0;
        if let [b'e' | b'E', behind @ ..] = rest {
            let (below_zero, behind) = signed(behind);
            let (power, behind) = digits(behind);
            if power.is_empty() {
                return None;
            }
            exponent = power.iter().fold(0_i64, |value, &byte| {
                (value * 10 + i64::from(byte - b'0')).min(EXPONENT_END)
            });
            if below_zero {
                exponent = -exponent;
            }
            rest = behind;
        }
        rest.is_empty().then_some(Decimal { negative, whole, fraction, exponent })
    }

    /// The first and the last digit that is not zero; `None` for zero.
    pub fn significant(&self) -> Option<(usize, usize)> {
        let nonzero = |&byte: &u8| byte != b'0';
        let first_whole = self.whole.iter().position(nonzero);
        let first_fraction = || Some(self.whole.len() + self.fraction.iter().position(nonzero)?);
        let first = first_whole.or_else(first_fraction)?;
        let last_fraction = self.fraction.iter().rposition(nonzero);
        let last = match last_fraction {
            Some(index) => self.whole.len() + index,
            None => self.whole.iter().rposition(nonzero)?,
        };
        Some((first, last))
    }

    /// The digit at an index that counts through whole part and fraction.
    #[inline]
    pub fn digit(&self, index: usize) -> u8 {
        let byte = match index.checked_sub(self.whole.len()) {
            Some(index) => self.fraction[index],
            None => self.whole[index],
        };
        byte - b'0'
    }

    /// The power of ten of the digit at an index.
    #[inline]
    pub fn power(&self, index: usize) -> i64 {
        length(self.whole.len()) - 1 - length(index) + self.exponent
    }

    /// How many digits behind the point PostgreSQL will show.
    fn scale(&self) -> i64 {
        (length(self.fraction.len()) - self.exponent).max(0)
    }

    /// The scale, if a numeric can hold the number.
    fn checked_scale(&self) -> Option<u16> {
        let too_large = self.significant().is_some_and(|(first, _)| self.power(first) > POWER_MAX);
        if too_large || self.exponent.abs() >= EXPONENT_END {
            return None;
        }
        u16::try_from(self.scale()).ok().filter(|&scale| usize::from(scale) <= SCALE_MAX)
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Whether there is a minus, and what is behind the sign.
pub(super) fn signed(text: &[u8]) -> (bool, &[u8]) {
    if let [b'-', rest @ ..] = text {
        return (true, rest);
    }
    (false, text.strip_prefix(b"+").unwrap_or(text))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Whether PostgreSQL's numeric, and so `jsonb`, can hold this JSON number.
pub fn can_hold(number: &[u8]) -> bool {
    Decimal::parse(number).is_some_and(|number| number.checked_scale().is_some())
}

/// How many characters PostgreSQL's text of this JSON number has: 1e1000 has 1,001.
pub fn text_length(number: &[u8]) -> usize {
    let Some(number) = Decimal::parse(number) else {
        return 0;
    };
    let power = number.significant().map_or(0, |(first, _)| number.power(first).max(0));
    let point = i64::from(number.scale() > 0);
    let length = i64::from(number.negative) + power + 1 + point + number.scale();
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Appends the binary form of a text: a decimal, or NaN, Infinity, inf in any case.
pub fn encode(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let Some(number) = Decimal::parse(text) else {
        put_header(out, 0, 0, special(text).ok_or(ValueError::Type)?, 0);
        return Ok(());
    };
    let scale = number.checked_scale().ok_or(ValueError::Range)?;
    let Some((first, last)) = number.significant() else {
        put_header(out, 0, 0, SIGN_POSITIVE, scale);
        return Ok(());
    };
    let weight = number.power(first).div_euclid(4);
    let count = weight - number.power(last).div_euclid(4) + 1;
    let sign = if number.negative { SIGN_NEGATIVE } else { SIGN_POSITIVE };
    let count = u16::try_from(count).map_err(|_| ValueError::Range)?;
    let weight = i16::try_from(weight).map_err(|_| ValueError::Range)?;
    put_header(out, count, weight, sign, scale);

    let mut place = usize::try_from(number.power(first).rem_euclid(4)).unwrap_or_default();
    let mut group = 0;
    for index in first..=last {
        group += u16::from(number.digit(index)) * PLACES[place];
        if place == 0 {
            out.extend_from_slice(&group.to_be_bytes());
            group = 0;
            place = 3;
        } else {
            place -= 1;
        }
    }
    // The last group is open, unless its lowest digit was the last one and closed it.
    if place != 3 {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Ok(())
}

fn special(text: &[u8]) -> Option<u16> {
    if text.eq_ignore_ascii_case(b"nan") {
        return Some(SIGN_NAN);
    }
    let (negative, word) = signed(text);
    let infinite = word.eq_ignore_ascii_case(b"infinity") || word.eq_ignore_ascii_case(b"inf");
    infinite.then_some(if negative { SIGN_NEGATIVE_INFINITY } else { SIGN_INFINITY })
}

fn put_header(out: &mut Vec<u8>, count: u16, weight: i16, sign: u16, scale: u16) {
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

/// Appends a JSON number with every digit; NaN and the infinities as strings.
pub(super) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidBinary> {
    let (header, groups) = bytes.split_first_chunk::<8>().ok_or(InvalidBinary)?;
    let [count, weight, sign, scale] =
        [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    let (groups, []) = groups.as_chunks::<2>() else {
        return Err(InvalidBinary);
    };
    if groups.len() != usize::from(count) {
        return Err(InvalidBinary);
    }
    match sign {
        SIGN_POSITIVE => {}
        SIGN_NEGATIVE => out.push(b'-'),
        SIGN_NAN => return numbers::write_double(f64::NAN, out),
        SIGN_INFINITY => return numbers::write_double(f64::INFINITY, out),
        SIGN_NEGATIVE_INFINITY => return numbers::write_double(f64::NEG_INFINITY, out),
        _ => return Err(InvalidBinary),
    }
    let weight = i32::from(weight.cast_signed());
    // The group with a power of 10,000; zero where none is stored.
    let group = |power: i32| {
        let index = usize::try_from(weight - power).ok();
        index.and_then(|index| groups.get(index)).map_or(0, |&group| u16::from_be_bytes(group))
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        numbers::write_integer(group(weight), out)?;
        for power in (0..weight).rev() {
            out.extend_from_slice(&four_digits(group(power)));
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + usize::from(scale);
        let mut power = -1;
        while out.len() < end {
            out.extend_from_slice(&four_digits(group(power)));
            power -= 1;
        }
        out.truncate(end);
    }
    Ok(())
}

fn four_digits(group: u16) -> [u8; 4] {
    let mut rest = group;
    let mut text = [b'0'; 4];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    text
}
