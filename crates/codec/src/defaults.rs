//! Constant defaults of columns: checked when a stream is made, encoded once for all records, and shown to SQL.

use crate::columns::Column;
use crate::encode::{RecordError, RecordErrorCode};
use crate::json::Scanner;
use crate::values::{self, NULL_FIELD};

/// Longest default, in bytes of its JSON. Every record without the key carries it.
const DEFAULT_BYTES_MAX: usize = 1_000;

/// Whether the column's type can hold its default.
pub(crate) fn check_default(column: &Column) -> Result<(), RecordError> {
    encode_default(column).map(drop)
}

/// The default as text that PostgreSQL reads when it is cast to the column's type; it is to be quoted as a literal.
/// `None` without a default, with null, or if the type cannot hold it.
pub fn default_sql_text(column: &Column) -> Option<String> {
    let field = encode_default(column).ok()?;
    let (length, bytes) = field.split_first_chunk::<4>()?;
    if *length == NULL_FIELD {
        return None;
    }
    String::from_utf8(values::text_of(column.kind, bytes).ok()?).ok()
}

/// The field of a tuple (length and bytes) for a record without the key.
pub(crate) fn encode_default(column: &Column) -> Result<Vec<u8>, RecordError> {
    let Some(default) = &column.default else {
        return Ok(NULL_FIELD.to_vec());
    };
    let json = default.to_string();
    let refused = |error: RecordError| error.in_column(&column.name);
    if json.len() > DEFAULT_BYTES_MAX {
        let message = format!("a default may have {DEFAULT_BYTES_MAX} bytes as JSON");
        return Err(refused(RecordError::new(RecordErrorCode::TooLarge, message)));
    }
    let mut scanner = Scanner::new(json.as_bytes(), true);
    let invalid = |_| RecordError::new(RecordErrorCode::InvalidJson, "the default is not JSON");
    let value = scanner.value(0).map_err(|stop| refused(invalid(stop)))?;
    if let Some(fault) = scanner.fault() {
        return Err(refused(RecordError::of_fault(fault)));
    }
    let mut field = Vec::new();
    values::encode_json(column.kind, value.kind, json.as_bytes(), &mut Vec::new(), &mut field)
        .or_else(|error| values::encode_epoch(column.epoch, error, json.as_bytes(), &mut field))
        .map_err(|error| {
            refused(RecordError::of_json_value(error, column.kind, json.as_bytes()))
        })?;
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::ColumnType;
    use serde_json::{Value, json};

    fn column(kind: ColumnType, default: Value) -> Column {
        Column { default: Some(default), ..Column::new("c", kind) }
    }

    #[test]
    fn defaults_become_text_that_sql_reads() {
        for (kind, default, text) in [
            (ColumnType::Boolean, json!(true), "true"),
            (ColumnType::Integer, json!(5.0), "5"),
            (ColumnType::DoublePrecision, json!(1e300), "1e+300"),
            (ColumnType::DoublePrecision, json!("NaN"), "NaN"),
            (ColumnType::Numeric, json!("1.50"), "1.50"),
            (ColumnType::Text, json!("a\"b\\c'\n"), "a\"b\\c'\n"),
            (ColumnType::TimestampTz, json!("2013-01-01T06:00+01"), "2013-01-01T05:00:00.000000Z"),
            (ColumnType::Date, json!("0044-03-15 BC"), "0044-03-15 BC"),
            (ColumnType::Jsonb, json!("text"), "\"text\""),
            (ColumnType::Jsonb, json!({"a": [1, null]}), "{\"a\":[1,null]}"),
        ] {
            assert_eq!(default_sql_text(&column(kind, default)).as_deref(), Some(text));
        }
        assert_eq!(default_sql_text(&column(ColumnType::Integer, Value::Null)), None);
    }

    #[test]
    fn a_default_that_does_not_fit_names_its_column() {
        let error = check_default(&column(ColumnType::Integer, json!("noon"))).unwrap_err();
        assert_eq!(error.code, RecordErrorCode::InvalidType);
        assert_eq!(error.column.as_deref(), Some("c"));
        assert_eq!(error.message, "expected integer, got \"noon\"");
        let error = check_default(&column(ColumnType::SmallInt, json!(40_000))).unwrap_err();
        assert_eq!(error.code, RecordErrorCode::OutOfRange);
        let error = check_default(&column(ColumnType::Text, json!("a\0b"))).unwrap_err();
        assert_eq!(error.code, RecordErrorCode::InvalidUnicode);
        let error = check_default(&column(ColumnType::Text, json!("a".repeat(999)))).unwrap_err();
        assert_eq!(error.code, RecordErrorCode::TooLarge);
        assert_eq!(default_sql_text(&column(ColumnType::Integer, json!("noon"))), None);
    }
}
