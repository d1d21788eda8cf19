//! What a value looks like, and which types would keep all of it.

use crate::columns::ColumnType;
use crate::json::{Scanner, ValueKind};
use crate::values::numbers;
use crate::values::numeric::Decimal;
use crate::values::timestamps;

/// Digits that a double always gives back as they were.
const DOUBLE_DIGITS_MAX: usize = 17;
/// Up to here a double holds every whole number.
const DOUBLE_INTEGER_MAX: u64 = 1 << 53;

/// What a value looks like, before the encoder is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueForm {
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

impl ValueForm {
    /// Whether a type is meant, and keeps all of the value; `number` is its text if it is a number.
    pub(super) fn allows(self, kind: ColumnType, number: &[u8]) -> bool {
        match self {
            ValueForm::Boolean => kind == ColumnType::Boolean,
            ValueForm::Integer => match kind {
                ColumnType::Integer | ColumnType::BigInt | ColumnType::Numeric => true,
                ColumnType::DoublePrecision => numbers::parse_integer::<i64>(number)
                    .is_ok_and(|value| value.unsigned_abs() <= DOUBLE_INTEGER_MAX),
                _ => false,
            },
            ValueForm::Decimal => match kind {
                ColumnType::Numeric => true,
                ColumnType::DoublePrecision => Decimal::parse(number).is_some_and(|decimal| {
                    let digits = |(first, last)| last - first + 1;
                    decimal.significant().map_or(0, digits) <= DOUBLE_DIGITS_MAX
                }),
                _ => false,
            },
            ValueForm::Timestamp => kind == ColumnType::TimestampTz,
            // Among times a date is the moment at which it begins.
            ValueForm::Date => matches!(kind, ColumnType::Date | ColumnType::TimestampTz),
            ValueForm::Uuid => kind == ColumnType::Uuid,
            ValueForm::Text | ValueForm::Nested => false,
        }
    }
}

/// A CSV field has no type of its own: it is a number if JSON would write it so, a boolean if it says true or false.
pub(super) fn form_of_field(field: &[u8]) -> ValueForm {
    if field.eq_ignore_ascii_case(b"true") || field.eq_ignore_ascii_case(b"false") {
        return ValueForm::Boolean;
    }
    match Scanner::new(field, true).value(0) {
        Ok(value) if value.start == 0 && value.end == field.len() => match value.kind {
            ValueKind::Integer => ValueForm::Integer,
            ValueKind::Number => ValueForm::Decimal,
            _ => form_of_string(field),
        },
        _ => form_of_string(field),
    }
}

/// Looks at a date's form only; whether there is such a day is the encoder's to say.
pub(super) fn form_of_string(text: &[u8]) -> ValueForm {
    if text.len() == 36 && has_form(text, b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
        return ValueForm::Uuid;
    }
    if has_form(text, b"0000-00-00") {
        return ValueForm::Date;
    }
    if is_time(text) { ValueForm::Timestamp } else { ValueForm::Text }
}

/// Every text that a column of times takes, except a date by itself and words: those may mean something else.
fn is_time(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
        && timestamps::parse_timestamp(text).is_ok()
        && timestamps::parse_date(text).is_err()
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
