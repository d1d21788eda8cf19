//! Why a record is refused, in words for its sender.

use std::fmt;
use std::str::FromStr;

use crate::changes::MERGED_DEPTH_MAX;
use crate::columns::ColumnType;
use crate::json::{DEPTH_MAX, Fault, PLAIN_OBJECT_KEYS_MAX, Stop};
use crate::values::ValueError;

/// Most characters of a sender's value that a message repeats.
pub(super) const SHOWN_CHARS_MAX: usize = 80;

/// Why a record is refused. The message is for the record's sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RecordError {
    pub code: RecordErrorCode,
    /// The key as the sender wrote it, which is a column's name unless the column says `from`; of a document the JSON pointer
    /// of a part of its key. `None` where there is none to blame.
    pub column: Option<String>,
    pub message: String,
}

/// What kind of fault it is; the words are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordErrorCode {
    InvalidJson,
    InvalidCsv,
    /// A line of a body of many streams does not say what it must.
    InvalidLine,
    /// A line of changes does not say what it must.
    InvalidChange,
    /// A change by key says another key in its record.
    KeyChanged,
    NotAnObject,
    InvalidUtf8,
    InvalidUnicode,
    NumberOutOfRange,
    TooDeep,
    TooLarge,
    TooManyMembers,
    InvalidType,
    OutOfRange,
    UnknownKey,
    MissingKey,
    WrongFieldCount,
}

impl RecordErrorCode {
    /// Every code, for tests and documentation.
    pub const ALL: [RecordErrorCode; 17] = [
        RecordErrorCode::InvalidJson,
        RecordErrorCode::InvalidCsv,
        RecordErrorCode::InvalidLine,
        RecordErrorCode::InvalidChange,
        RecordErrorCode::KeyChanged,
        RecordErrorCode::NotAnObject,
        RecordErrorCode::InvalidUtf8,
        RecordErrorCode::InvalidUnicode,
        RecordErrorCode::NumberOutOfRange,
        RecordErrorCode::TooDeep,
        RecordErrorCode::TooLarge,
        RecordErrorCode::TooManyMembers,
        RecordErrorCode::InvalidType,
        RecordErrorCode::OutOfRange,
        RecordErrorCode::UnknownKey,
        RecordErrorCode::MissingKey,
        RecordErrorCode::WrongFieldCount,
    ];

    /// The word in replies, in the quarantine and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordErrorCode::InvalidJson => "invalid_json",
            RecordErrorCode::InvalidCsv => "invalid_csv",
            RecordErrorCode::InvalidLine => "invalid_line",
            RecordErrorCode::InvalidChange => "invalid_change",
            RecordErrorCode::KeyChanged => "key_changed",
            RecordErrorCode::NotAnObject => "not_an_object",
            RecordErrorCode::InvalidUtf8 => "invalid_utf8",
            RecordErrorCode::InvalidUnicode => "invalid_unicode",
            RecordErrorCode::NumberOutOfRange => "number_out_of_range",
            RecordErrorCode::TooDeep => "too_deep",
            RecordErrorCode::TooLarge => "too_large",
            RecordErrorCode::TooManyMembers => "too_many_members",
            RecordErrorCode::InvalidType => "invalid_type",
            RecordErrorCode::OutOfRange => "out_of_range",
            RecordErrorCode::UnknownKey => "unknown_key",
            RecordErrorCode::MissingKey => "missing_key",
            RecordErrorCode::WrongFieldCount => "wrong_field_count",
        }
    }
}

impl fmt::Display for RecordErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such code of a record's error")]
pub struct UnknownRecordErrorCode;

impl FromStr for RecordErrorCode {
    type Err = UnknownRecordErrorCode;

    fn from_str(text: &str) -> Result<Self, UnknownRecordErrorCode> {
        let found = RecordErrorCode::ALL.into_iter().find(|code| code.as_str() == text);
        found.ok_or(UnknownRecordErrorCode)
    }
}

impl RecordError {
    /// An error that blames no column.
    pub fn new(code: RecordErrorCode, message: impl Into<String>) -> RecordError {
        RecordError { code, column: None, message: message.into() }
    }

    /// The same error, blaming a column or a key's pointer.
    pub(crate) fn in_column(self, column: impl Into<String>) -> RecordError {
        RecordError { column: Some(column.into()), ..self }
    }

    /// A value that a column cannot take; `shown` is the value as the message should repeat it.
    pub(super) fn of_value(error: ValueError, kind: ColumnType, shown: &str) -> RecordError {
        let name = kind.as_str();
        match error {
            ValueError::Type => RecordError::new(
                RecordErrorCode::InvalidType,
                format!("expected {name}, got {shown}{}", forms(kind)),
            ),
            ValueError::Range => RecordError::new(
                RecordErrorCode::OutOfRange,
                format!("{shown} is out of range for {name}"),
            ),
            ValueError::InvalidUtf8 => RecordError::of_fault(Fault::InvalidUtf8),
            ValueError::NulCharacter => RecordError::of_fault(Fault::NulCharacter),
            ValueError::JsonFault(fault) => RecordError::of_fault(fault),
            ValueError::Json(Stop::Malformed { message, .. }) => RecordError::new(
                RecordErrorCode::InvalidType,
                format!("expected {name}, got {shown}: {message}"),
            ),
            ValueError::Json(Stop::Incomplete) => {
                RecordError::of_value(ValueError::Type, kind, shown)
            }
        }
    }

    /// [`RecordError::of_value`] for a value that came as JSON: it is shown as it was written.
    pub(crate) fn of_json_value(error: ValueError, kind: ColumnType, raw: &[u8]) -> RecordError {
        RecordError::of_value(error, kind, &shown(raw))
    }

    /// [`RecordError::of_value`] for a field of CSV.
    pub(super) fn of_field(error: ValueError, kind: ColumnType, text: &[u8]) -> RecordError {
        let shown = shown_quoted(text);
        // Only one in quotes is no NULL.
        let help =
            if text.is_empty() { "; an empty field is NULL only without quotes" } else { "" };
        RecordError::of_value(error, kind, &format!("{shown}{help}"))
    }

    /// Bytes that are no text.
    pub(crate) fn of_text(error: ValueError) -> RecordError {
        RecordError::of_value(error, ColumnType::Text, "other bytes")
    }

    /// JSON that `jsonb` would refuse.
    pub(crate) fn of_fault(fault: Fault) -> RecordError {
        use RecordErrorCode as Code;
        let (code, message) = match fault {
            Fault::ControlCharacter => {
                (Code::InvalidJson, "a control character in a string must be escaped")
            }
            Fault::InvalidUtf8 => (Code::InvalidUtf8, "the text is not UTF-8; send UTF-8"),
            Fault::NulCharacter => {
                (Code::InvalidUnicode, "PostgreSQL cannot store the character U+0000")
            }
            Fault::LoneSurrogate => (
                Code::InvalidUnicode,
                "a \\u escape is half of a surrogate pair without its other half",
            ),
            Fault::NumberOutOfRange => (
                Code::NumberOutOfRange,
                "a number has more digits than PostgreSQL's numeric can hold (131072 before the point, 16383 behind)",
            ),
            Fault::TooDeep => {
                let message = format!("arrays and objects are nested deeper than {DEPTH_MAX}");
                return RecordError::new(Code::TooDeep, message);
            }
        };
        RecordError::new(code, message)
    }

    pub(super) fn merged_too_deep() -> RecordError {
        let message = format!(
            "a patch merges at most {MERGED_DEPTH_MAX} objects inside each other; replace the record, or a member further out"
        );
        RecordError::new(RecordErrorCode::TooDeep, message)
    }

    pub(super) fn too_large(bytes: usize, bytes_max: usize) -> RecordError {
        let message = format!("the record has {bytes} bytes; at most {bytes_max} are allowed");
        RecordError::new(RecordErrorCode::TooLarge, message)
    }

    /// PostgreSQL would take too long over the record's documents.
    #[cold]
    pub(super) fn too_many_members(members: u64, members_max: u64) -> RecordError {
        let message = format!(
            "the record's JSON counts {members} keys and values (an object of n keys counts n²/{PLAIN_OBJECT_KEYS_MAX} for \
             them, from {PLAIN_OBJECT_KEYS_MAX} on); at most {members_max} are allowed \
             (TIDEGATE_DOCUMENT_MEMBERS_MAX), because PostgreSQL takes long to take more apart: send several records, or \
             make the stream with \"payload\":\"json\""
        );
        RecordError::new(RecordErrorCode::TooManyMembers, message)
    }

    pub(super) fn missing_key(column: &str) -> RecordError {
        let message = "this part of the stream's key is missing or null";
        RecordError::new(RecordErrorCode::MissingKey, message).in_column(column)
    }

    /// A change by key whose record has another one.
    pub(super) fn key_changed(column: &str) -> RecordError {
        let message = "a change by key keeps the key: its record has another value here; change it by its id, or delete \
                       it and send the other";
        RecordError::new(RecordErrorCode::KeyChanged, message).in_column(column)
    }

    /// A value in a field that has no name, in a stream without unknown keys. `field` counts from 0.
    pub(super) fn unnamed_value(field: usize, name: &str) -> RecordError {
        let message = format!("field {} has a value, but the header has no name for it", field + 1);
        RecordError::new(RecordErrorCode::UnknownKey, message).in_column(name)
    }

    /// The same error, saying which byte of the record is the one that is not UTF-8, where that is what is wrong.
    pub fn with_bytes(self, raw: &[u8]) -> RecordError {
        if self.code != RecordErrorCode::InvalidUtf8 {
            return self;
        }
        match not_utf8(raw, "record") {
            Some(message) => RecordError { message, ..self },
            None => self,
        }
    }

    pub(super) fn unknown_key(name: &[u8]) -> RecordError {
        let message = format!(
            "no column takes the key {}: add one, or let the stream keep or drop unknown keys",
            shown_quoted(name)
        );
        RecordError::new(RecordErrorCode::UnknownKey, message).in_column(shown(name))
    }
}

/// Where and how bytes are not UTF-8, for their sender; `None` if they are. `what` they are a part of.
pub fn not_utf8(bytes: &[u8], what: &str) -> Option<String> {
    let error = str::from_utf8(bytes).err()?;
    let at = error.valid_up_to();
    Some(format!("byte {at} of the {what}, 0x{:02X}, is not UTF-8; send UTF-8", bytes[at]))
}

/// How values of a type are written, where that is not plain.
fn forms(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::TimestampTz => {
            "; a time is written as 2013-01-01T06:00:00Z: the date, T or a space, the time with any fraction, then Z, UTC, GMT, an offset (+2, +02, +0230, +02:30) or nothing, which is UTC; numbers need \"epoch\":\"s\" (or ms, us, ns) in the column's definition"
        }
        ColumnType::Date => "; a date is written as 2013-01-31",
        _ => "",
    }
}

/// A sender's bytes for a message: readable and at most [`SHOWN_CHARS_MAX`] characters.
pub(super) fn shown(bytes: &[u8]) -> String {
    // A character has at most four bytes, so that this much is enough to show or to know that it was cut.
    let head = &bytes[..bytes.len().min((SHOWN_CHARS_MAX + 1) * 4)];
    let text = String::from_utf8_lossy(head);
    let readable = |character: char| {
        if character.is_control() { ' ' } else { character }
    };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(readable).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// [`shown`] in quotes.
pub(super) fn shown_quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", shown(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_what_they_show() {
        for code in RecordErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        assert_eq!("InvalidType".parse::<RecordErrorCode>(), Err(UnknownRecordErrorCode));
    }

    #[test]
    fn shown_values_are_cut_between_characters() {
        assert_eq!(shown(b"noon"), "noon");
        assert_eq!(shown("é".repeat(80).as_bytes()), "é".repeat(80));
        assert_eq!(shown("😀".repeat(5_000).as_bytes()), format!("{}…", "😀".repeat(80)));
        assert_eq!(shown(b"a\xff\nb"), "a\u{FFFD} b");
    }
}
