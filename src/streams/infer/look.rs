//! What a value looks like, and which types would keep all of it.

use crate::streams::columns::ColumnType;
use crate::streams::json::{Scanner, ValueKind};
use crate::streams::values::numbers;
use crate::streams::values::numeric::Decimal;

/// Digits that a double always gives back as they were.
const DOUBLE_DIGITS_MAX: usize = 17;
/// Up to here a double holds every whole number.
const DOUBLE_INTEGER_MAX: u64 = 1 << 53;

/// What a value looks like, before the encoder is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Boolean,
    Integer,
    Decimal,
    Timestamp,
    Date,
    Uuid,
    /// Any other text.
    Text,
    /// An object or array.
    Nested,
}

impl Look {
    /// Whether a type is meant, and keeps all of the value; `number` is its text if it is a number.
    pub(super) fn allows(self, kind: ColumnType, number: &[u8]) -> bool {
        match self {
            Look::Boolean => kind == ColumnType::Boolean,
            Look::Integer => match kind {
                ColumnType::Integer | ColumnType::BigInt | ColumnType::Numeric => true,
                ColumnType::DoublePrecision => numbers::parse_integer::<i64>(number)
                    .is_ok_and(|value| value.unsigned_abs() <= DOUBLE_INTEGER_MAX),
                _ => false,
            },
            Look::Decimal => match kind {
                ColumnType::Numeric => true,
                ColumnType::DoublePrecision => Decimal::parse(number).is_some_and(|decimal| {
                    let digits = |(first, last)| last - first + 1;
                    decimal.significant().map_or(0, digits) <= DOUBLE_DIGITS_MAX
                }),
                _ => false,
            },
            Look::Timestamp => kind == ColumnType::TimestampTz,
            // Among times a date is the moment at which it begins.
            Look::Date => matches!(kind, ColumnType::Date | ColumnType::TimestampTz),
            Look::Uuid => kind == ColumnType::Uuid,
            Look::Text | Look::Nested => false,
        }
    }
}

/// A CSV field has no type of its own: it is a number if JSON would write it so, a boolean if it says true or false.
pub(super) fn look_of_field(field: &[u8]) -> Look {
    if field.eq_ignore_ascii_case(b"true") || field.eq_ignore_ascii_case(b"false") {
        return Look::Boolean;
    }
    match Scanner::new(field, true).value(0) {
        Ok(value) if value.start == 0 && value.end == field.len() => match value.kind {
            ValueKind::Integer => Look::Integer,
            ValueKind::Number => Look::Decimal,
            _ => look_of_string(field),
        },
        _ => look_of_string(field),
    }
}

/// Looks at the form only; whether there is such a day, and what may stand behind it, is the encoder's to say.
pub(super) fn look_of_string(text: &[u8]) -> Look {
    if text.len() == 36 && has_form(text, b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
        return Look::Uuid;
    }
    let Some((date, time)) = text.split_at_checked(10) else {
        return Look::Text;
    };
    match time.first() {
        _ if !has_form(date, b"0000-00-00") => Look::Text,
        None => Look::Date,
        Some(b'T' | b't' | b' ') => Look::Timestamp,
        Some(_) => Look::Text,
    }
}

/// In `form`, 0 stands for a digit, x for a hexadecimal one, anything else for itself.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    text.len() == form.len()
        && text.iter().zip(form).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit(),
            form => byte == form,
        })
}
