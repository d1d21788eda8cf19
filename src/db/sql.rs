//! Names, values and keys as SQL.

use tidegate_codec::{Key, KeyField, Shape, Stream};
use tidegate_record::ColumnSet;

/// An identifier in SQL: quoted, quotes doubled.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text literal in SQL, safe under any setting of `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A stream's table.
pub(super) fn table(stream: &Stream) -> String {
    format!("streams.{}", quoted(stream.name.as_str()))
}

/// The key as SQL; the stream's unique index is over the same expressions.
pub(super) fn key_expressions(stream: &Stream, key: &Key) -> Vec<String> {
    key_expressions_of("", stream, key)
}

/// The same of a table by another name, `row` with its dot.
pub(super) fn key_expressions_of(row: &str, stream: &Stream, key: &Key) -> Vec<String> {
    let expression = |field: &KeyField| match field {
        KeyField::Column(index) => format!("{row}{}", quoted(&stream.columns()[*index].name)),
        KeyField::Pointer(segments) => {
            let path: Vec<String> = segments.iter().map(|segment| literal(segment)).collect();
            format!("({row}payload #>> array[{}]::text[])", path.join(", "))
        }
    };
    key.fields.iter().map(expression).collect()
}

/// A hash of a record's content, 16 bytes: of its id, its time, and the columns that tuples of this set have, as texts, for
/// which [`PLAIN_TEXTS`] holds. `row`: the name of the table, with its dot.
///
/// Columns that are added later change no hash of an older set, so an entry of the journal means the same when it is written
/// once more.
pub(super) fn record_hash(row: &str, stream: &Stream, column_set: ColumnSet) -> String {
    let columns = tuple_column_names(stream, column_set);
    let columns: Vec<String> = columns.iter().map(|name| format!("{row}{name}")).collect();
    format!("substring(sha256(convert_to(row({})::text, 'UTF8')) for 16)", columns.join(", "))
}

/// Has values become texts in one way only, whatever the server, the role or a trigger has set.
pub(super) const PLAIN_TEXTS: &str = "set local extra_float_digits = 1; set local datestyle = 'ISO'; \
     set local timezone = 'UTC'; set local bytea_output = 'hex'; set local intervalstyle = 'postgres'";

/// The columns of a tuple, in order.
pub(super) fn tuple_column_names(stream: &Stream, column_set: ColumnSet) -> Vec<String> {
    let mut names = vec!["id".to_owned(), "received_at".to_owned()];
    match &stream.shape {
        Shape::Document { .. } => names.push("payload".to_owned()),
        Shape::Typed { columns, .. } => {
            names.push("extra".to_owned());
            names.extend(
                columns.iter().take(column_set.columns()).map(|column| quoted(&column.name)),
            );
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(quoted(r#"a"; drop table x; --"#), r#""a""; drop table x; --""#);
        assert_eq!(literal(r"it's \' or"), r"E'it\'s \\\' or'");
    }
}
