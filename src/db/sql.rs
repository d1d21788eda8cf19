//! Names, values and keys as SQL.

use tidegate_codec::{Key, KeyField, Stream};

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
    let expression = |field: &KeyField| match field {
        KeyField::Column(index) => quoted(&stream.columns()[*index].name),
        KeyField::Pointer(segments) => {
            let path: Vec<String> = segments.iter().map(|segment| literal(segment)).collect();
            format!("(payload #>> array[{}]::text[])", path.join(", "))
        }
    };
    key.fields.iter().map(expression).collect()
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
