//! What a user may ask of a stream, checked before anything is made of it.

pub(crate) mod growth;

use std::collections::HashSet;

use serde::Deserialize;

use crate::columns::{Column, ColumnType, check_member, check_name};
use crate::{
    COLUMNS_MAX, KEY_FIELDS_MAX, Key, KeyField, OnDuplicate, PayloadType, Shape, Stream,
    UnknownKeys, defaults,
};

/// Longest retention, in days.
const RETENTION_DAYS_MAX: u16 = 3_650;

/// A new stream as asked for, without its name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDefinition {
    pub columns: Option<Vec<Column>>,
    pub payload: Option<PayloadType>,
    pub unknown: Option<UnknownKeys>,
    /// Names of columns, or JSON pointers into documents.
    pub key: Option<Vec<String>>,
    pub on_duplicate: Option<OnDuplicate>,
    pub retention_days: Option<u16>,
}

/// A checked definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    pub shape: Shape,
    pub key: Option<Key>,
    pub retention_days: Option<u16>,
}

/// A change to a stream as asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamChange {
    /// The old columns as they are or with wider types, and new ones after them.
    pub columns: Option<Vec<Column>>,
    pub unknown: Option<UnknownKeys>,
    pub on_duplicate: Option<OnDuplicate>,
    pub retention_days: Option<u16>,
}

/// Why a definition or a change cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct InvalidDefinition {
    /// The member of the request that is wrong.
    pub place: String,
    pub message: String,
}

fn invalid(place: impl Into<String>, message: impl Into<String>) -> InvalidDefinition {
    InvalidDefinition { place: place.into(), message: message.into() }
}

impl StreamDefinition {
    /// Checks everything that can be known without PostgreSQL.
    pub fn check(self) -> Result<Defined, InvalidDefinition> {
        let shape = match self.columns {
            Some(columns) => {
                if self.payload.is_some() {
                    return Err(invalid(
                        "payload",
                        "only documents have a payload; leave out `payload` or `columns`",
                    ));
                }
                let columns = check_columns(columns)?;
                Shape::typed(columns, self.unknown.unwrap_or_default())
            }
            None if self.unknown.is_some() => {
                return Err(invalid("unknown", "only streams with `columns` have unknown keys"));
            }
            None => Shape::Document { payload: self.payload.unwrap_or_default() },
        };
        let key = match self.key {
            Some(fields) => Some(Key {
                fields: check_key(&shape, &fields)?,
                on_duplicate: self.on_duplicate.unwrap_or_default(),
            }),
            None if self.on_duplicate.is_some() => {
                return Err(invalid(
                    "on_duplicate",
                    "needs a `key` that tells what a duplicate is",
                ));
            }
            None => None,
        };
        check_retention(self.retention_days, key.is_some())?;
        Ok(Defined { shape, key, retention_days: self.retention_days })
    }
}

impl StreamChange {
    /// The stream as it shall be.
    pub fn apply(self, stream: &Stream) -> Result<Stream, InvalidDefinition> {
        let mut changed = stream.clone();
        match &mut changed.shape {
            Shape::Document { .. } if self.columns.is_some() || self.unknown.is_some() => {
                return Err(invalid(
                    "columns",
                    "a stream of documents has no columns; make a new stream for typed records",
                ));
            }
            Shape::Document { .. } => {}
            Shape::Typed { columns, unknown, widened } => {
                if let Some(wanted) = self.columns {
                    let (grown, wider) = growth::grow(stream, wanted)?;
                    *columns = grown;
                    widened.extend(wider);
                }
                *unknown = self.unknown.unwrap_or(*unknown);
            }
        }
        match (&mut changed.key, self.on_duplicate) {
            (Some(key), Some(on_duplicate)) => key.on_duplicate = on_duplicate,
            (None, Some(_)) => return Err(invalid("on_duplicate", "this stream has no key")),
            (_, None) => {}
        }
        if let Some(days) = self.retention_days {
            if stream.retention_days.is_none() {
                return Err(invalid(
                    "retention_days",
                    "this stream's table is not partitioned by day, so its rows are kept for ever; make a new stream with `retention_days`",
                ));
            }
            check_retention(Some(days), false)?;
            changed.retention_days = Some(days);
        }
        Ok(changed)
    }
}

/// The columns as they are kept, if a table and the records' keys can have them side by side.
fn check_columns(columns: Vec<Column>) -> Result<Vec<Column>, InvalidDefinition> {
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        return Err(invalid(
            "columns",
            format!("a stream has 1 to {COLUMNS_MAX} columns; leave `columns` out for documents"),
        ));
    }
    let columns: Vec<Column> = columns.into_iter().map(Column::normalized).collect();
    let (mut names, mut members) = (HashSet::new(), HashSet::new());
    for (index, column) in columns.iter().enumerate() {
        let place = format!("columns[{index}]");
        let name = column.name.as_str();
        check_name(name).map_err(|message| invalid(&place, message))?;
        if !names.insert(name) {
            return Err(invalid(place, format!("the name \"{name}\" is there twice")));
        }
        check_member(column.member())
            .map_err(|message| invalid(format!("{place}.from"), message))?;
        if !members.insert(column.member()) {
            let member = column.member();
            let message = format!("the key \"{member}\" is another column's already");
            return Err(invalid(format!("{place}.from"), message));
        }
        if column.epoch.is_some() && column.kind != ColumnType::TimestampTz {
            let message = "only a column of the type timestamptz takes numbers that count time";
            return Err(invalid(format!("{place}.epoch"), message));
        }
        defaults::check_default(column)
            .map_err(|error| invalid(format!("{place}.default"), error.message))?;
    }
    Ok(columns)
}

fn check_key(shape: &Shape, names: &[String]) -> Result<Vec<KeyField>, InvalidDefinition> {
    if names.is_empty() || names.len() > KEY_FIELDS_MAX {
        return Err(invalid("key", format!("a key has 1 to {KEY_FIELDS_MAX} fields")));
    }
    let mut fields = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let place = format!("key[{index}]");
        let field = match shape {
            Shape::Typed { columns, .. } => columns
                .iter()
                .position(|column| column.name == *name)
                .map(KeyField::Column)
                .ok_or_else(|| invalid(place.clone(), no_column(columns, name)))?,
            Shape::Document { .. } => KeyField::Pointer(pointer(name).ok_or_else(|| {
                invalid(
                    place.clone(),
                    "a key of documents is a JSON pointer such as /order/id (~1 for /, ~0 for ~)",
                )
            })?),
        };
        if fields.contains(&field) {
            return Err(invalid(place, "is there twice"));
        }
        fields.push(field);
    }
    Ok(fields)
}

/// A key of a stream names columns, although senders know the keys that these take.
fn no_column(columns: &[Column], name: &str) -> String {
    let takes_it = columns.iter().find(|column| column.member() == name);
    let hint = takes_it.map_or_else(String::new, |column| format!("; say \"{}\"", column.name));
    format!("\"{name}\" is no column of this stream{hint}")
}

/// The unescaped segments of a JSON pointer (RFC 6901), `None` if it is none or names the whole document.
fn pointer(text: &str) -> Option<Vec<String>> {
    let segments = text.strip_prefix('/')?;
    if segments.len() > 1_000 || segments.contains('\0') {
        return None;
    }
    segments
        .split('/')
        .map(|segment| {
            let escapes_are_valid =
                segment.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            escapes_are_valid.then(|| segment.replace("~1", "/").replace("~0", "~"))
        })
        .collect()
}

fn check_retention(days: Option<u16>, keyed: bool) -> Result<(), InvalidDefinition> {
    match days {
        Some(_) if keyed => Err(invalid(
            "retention_days",
            "a stream with a key cannot have it: its table would be partitioned by day, and PostgreSQL could not hold the key unique across days",
        )),
        Some(0) => Err(invalid("retention_days", "is at least 1")),
        Some(days) if days > RETENTION_DAYS_MAX => {
            Err(invalid("retention_days", format!("is at most {RETENTION_DAYS_MAX}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value) -> Result<Defined, InvalidDefinition> {
        serde_json::from_value::<StreamDefinition>(json).unwrap().check()
    }

    #[test]
    fn what_cannot_be_is_named() {
        let long = "x".repeat(64);
        for (definition, place) in [
            (serde_json::json!({"columns": []}), "columns"),
            (serde_json::json!({"columns": [{"name": "", "type": "text"}]}), "columns[0]"),
            (serde_json::json!({"columns": [{"name": long, "type": "text"}]}), "columns[0]"),
            (serde_json::json!({"columns": [{"name": "a\u{0}", "type": "text"}]}), "columns[0]"),
            (serde_json::json!({"columns": [{"name": "xmin", "type": "text"}]}), "columns[0]"),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text"}, {"name": "a", "type": "text"}]}),
                "columns[1]",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "integer", "default": "x"}]}),
                "columns[0].default",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "bigint", "epoch": "ms"}]}),
                "columns[0].epoch",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text", "from": long.repeat(16)}]}),
                "columns[0].from",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text", "from": "a\u{0}"}]}),
                "columns[0].from",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text", "from": "b"}, {"name": "b", "type": "text"}]}),
                "columns[1].from",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text"}, {"name": "b", "type": "text", "from": "a"}]}),
                "columns[1].from",
            ),
            (
                serde_json::json!({"columns": [{"name": "a_id", "type": "text", "from": "id"}], "key": ["id"]}),
                "key[0]",
            ),
            (
                serde_json::json!({"columns": [{"name": "a", "type": "text"}], "payload": "json"}),
                "payload",
            ),
            (serde_json::json!({"unknown": "drop"}), "unknown"),
            (serde_json::json!({"key": ["a"]}), "key[0]"),
            (serde_json::json!({"key": ["/a~2"]}), "key[0]"),
            (serde_json::json!({"key": []}), "key"),
            (serde_json::json!({"key": ["/a", "/a"]}), "key[1]"),
            (serde_json::json!({"on_duplicate": "ignore"}), "on_duplicate"),
            (serde_json::json!({"key": ["/a"], "retention_days": 3}), "retention_days"),
            (serde_json::json!({"retention_days": 0}), "retention_days"),
        ] {
            assert_eq!(check(definition.clone()).unwrap_err().place, place, "{definition}");
        }
    }

    #[test]
    fn hostile_but_valid_names_are_names() {
        let columns = serde_json::json!([{"name": "\"; drop table x; --", "type": "text"}, {"name": "Größe 📏", "type": "integer"}, {"name": "select", "type": "date"}]);
        let defined = check(serde_json::json!({"columns": columns, "key": ["select"]})).unwrap();
        assert_eq!(defined.key.unwrap().fields, vec![KeyField::Column(2)]);
        let defined = check(serde_json::json!({"key": ["/a~1b/~0c"]})).unwrap();
        assert_eq!(
            defined.key.unwrap().fields,
            vec![KeyField::Pointer(vec!["a/b".into(), "~c".into()])]
        );
    }

    #[test]
    fn columns_take_any_key_and_keep_only_what_differs() {
        let columns = serde_json::json!([
            {"name": "id_", "type": "bigint", "from": "id"}, {"name": "a", "type": "text", "from": "b"},
            {"name": "b", "type": "text", "from": "a"}, {"name": "c", "type": "text", "from": "c"},
            {"name": "d", "type": "text", "from": ""}, {"name": "e", "type": "text", "from": "line\n".repeat(200)},
        ]);
        let definition = serde_json::json!({"columns": columns, "key": ["id_"]});
        let defined = check(definition).unwrap();
        let Shape::Typed { columns, .. } = &defined.shape else { panic!("{defined:?}") };
        let members: Vec<&str> = columns.iter().map(Column::member).collect();
        assert_eq!(members[..5], ["id", "b", "a", "c", ""]);
        assert_eq!(columns[3], Column::new("c", columns[3].kind));
        let kept = serde_json::to_value(&defined.shape).unwrap();
        assert_eq!(kept["typed"]["columns"][0]["from"], "id");
        assert_eq!(kept["typed"]["columns"][3].get("from"), None);
        assert_eq!(serde_json::from_value::<Shape>(kept).unwrap(), defined.shape);
    }
}
