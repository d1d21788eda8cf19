//! How the columns of a stream grow: new ones at the end, and present ones by types that hold more.

use super::{InvalidDefinition, check_columns, invalid};
use crate::columns::{Column, ColumnType};
use crate::defaults::{check_default, default_sql_text};
use crate::{KeyField, Stream, WIDENINGS_MAX, Widening};

/// What may become of the present columns.
const GROWS: &str = "columns only grow: repeat the present ones as they are, or with a type that holds more, and add \
                     new ones at the end";

/// The columns that were asked for, and what of the present ones gets wider by that.
pub(super) fn grow(
    stream: &Stream,
    wanted: Vec<Column>,
) -> Result<(Vec<Column>, Vec<Widening>), InvalidDefinition> {
    let present = stream.columns();
    if wanted.len() < present.len() {
        return Err(invalid("columns", GROWS));
    }
    let mut wanted: Vec<Column> = wanted.into_iter().map(Column::normalized).collect();
    let mut widened = Vec::new();
    for (index, (old, new)) in present.iter().zip(&mut wanted).enumerate() {
        let mut before = old.kind;
        if new.kind != old.kind {
            check_widening(stream, index, new.kind)?;
            widened.push(Widening { column: index, from: old.kind });
        } else if let Some(earlier) = last_widening(stream.shape.widened(), index) {
            // A repeated request for what was done already may give the default as it was before.
            before = earlier;
        }
        new.default = carried_default(new.default.take(), before, new.kind);
        let default = carried_default(old.default.clone(), old.kind, new.kind);
        if *new != (Column { kind: new.kind, default, ..old.clone() }) {
            return Err(invalid("columns", GROWS));
        }
    }
    if stream.shape.widened().len() + widened.len() > WIDENINGS_MAX {
        let message = format!(
            "a stream's columns are widened at most {WIDENINGS_MAX} times; make a new stream"
        );
        return Err(invalid("columns", message));
    }
    Ok((check_columns(wanted)?, widened))
}

/// The type that a column had before the last time that it got wider.
pub(crate) fn last_widening(widened: &[Widening], column: usize) -> Option<ColumnType> {
    widened.iter().rfind(|widening| widening.column == column).map(|widening| widening.from)
}

fn check_widening(stream: &Stream, index: usize, to: ColumnType) -> Result<(), InvalidDefinition> {
    let column = &stream.columns()[index];
    let fields = stream.key.as_ref().map_or(&[][..], |key| &key.fields);
    let in_key = fields.contains(&KeyField::Column(index));
    let possible: Vec<&str> = column
        .kind
        .wider()
        .iter()
        .filter(|&&wider| !in_key || column.kind.keeps_equality(wider))
        .map(|wider| wider.as_str())
        .collect();
    if possible.contains(&to.as_str()) {
        return Ok(());
    }
    let (name, from, to) = (&column.name, column.kind.as_str(), to.as_str());
    let why = if in_key {
        ", because it is in the key: with most other types other values would be equal than those that were"
    } else {
        ""
    };
    let message = if possible.is_empty() {
        format!("\"{name}\" stays {from}{why}; for {to} add a column, or make a new stream")
    } else {
        let possible = possible.join(", ");
        format!("\"{name}\" is {from} and cannot become {to}, only: {possible}{why}")
    };
    Err(invalid(format!("columns[{index}].type"), message))
}

/// The same default for the wider type: as it was given, or as text where the type is text now.
fn carried_default(
    default: Option<serde_json::Value>,
    from: ColumnType,
    to: ColumnType,
) -> Option<serde_json::Value> {
    let column = |kind, default| Column { default: Some(default), ..Column::new("", kind) };
    let default = default?;
    if from == to || to != ColumnType::Text || check_default(&column(to, default.clone())).is_ok() {
        return Some(default);
    }
    let text = default_sql_text(&column(from, default.clone()));
    Some(text.map_or(default, serde_json::Value::String))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_record::{ColumnSet, StreamId};

    use super::super::StreamChange;
    use super::*;
    use crate::{Key, OnDuplicate, Shape, UnknownKeys};

    fn stream(columns: Value, key: &[usize]) -> Stream {
        let columns: Vec<Column> = serde_json::from_value(columns).unwrap();
        let fields = key.iter().map(|&column| KeyField::Column(column)).collect();
        let key = Key { fields, on_duplicate: OnDuplicate::Replace };
        Stream {
            id: StreamId(1),
            name: "s".parse().unwrap(),
            shape: Shape::typed(columns, UnknownKeys::Extra),
            key: (!key.fields.is_empty()).then_some(key),
            retention_days: None,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn change(stream: &Stream, columns: &Value) -> Result<Stream, InvalidDefinition> {
        let change = json!({"columns": columns});
        serde_json::from_value::<StreamChange>(change).unwrap().apply(stream)
    }

    #[test]
    fn each_type_becomes_those_that_hold_all_its_values() {
        use ColumnType::{BigInt, DoublePrecision, Integer, Numeric, Real, SmallInt, Text};
        for from in ColumnType::ALL {
            for to in ColumnType::ALL.into_iter().filter(|&to| to != from) {
                let allowed = match (from, to) {
                    (Text, _) => false,
                    (_, Text)
                    | (SmallInt, Integer | BigInt | Numeric)
                    | (Integer, BigInt | Numeric)
                    | (BigInt, Numeric)
                    | (Real, DoublePrecision) => true,
                    _ => false,
                };
                let before = stream(json!([{"name": "a", "type": from}]), &[]);
                let after = change(&before, &json!([{"name": "a", "type": to}]));
                match after {
                    Ok(after) => {
                        assert!(allowed, "{from:?} to {to:?}");
                        assert_eq!(after.columns()[0].kind, to);
                        assert_eq!(after.shape.widened(), [Widening { column: 0, from }]);
                        assert_eq!(after.column_set(), ColumnSet::new(1, 1));
                    }
                    Err(error) => {
                        assert!(!allowed, "{from:?} to {to:?}: {error}");
                        assert_eq!(error.place, "columns[0].type");
                        for wider in from.wider() {
                            assert!(error.message.contains(wider.as_str()), "{error}");
                        }
                    }
                }
            }
        }
    }

    /// Two values are one key by the index's type: what was equal must stay equal, and what a sender sends again must
    /// be equal to what it was.
    #[test]
    fn of_a_key_only_whole_numbers_get_wider() {
        for (from, to, allowed) in [
            ("smallint", "numeric", true),
            ("integer", "bigint", true),
            ("bigint", "numeric", true),
            ("bigint", "text", false),
            ("real", "double precision", false),
            ("uuid", "text", false),
            ("timestamptz", "text", false),
        ] {
            let columns =
                |kind| json!([{"name": "v", "type": "real"}, {"name": "k", "type": kind}]);
            let keyed = stream(columns(from), &[1]);
            let changed = change(&keyed, &columns(to));
            assert_eq!(changed.is_ok(), allowed, "{from} to {to}: {changed:?}");
            if let Err(error) = changed {
                assert_eq!(error.place, "columns[1].type");
                assert!(error.message.contains("key"), "{error}");
            }
        }
        let keyed =
            stream(json!([{"name": "v", "type": "real"}, {"name": "k", "type": "text"}]), &[1]);
        let columns = json!([{"name": "v", "type": "text"}, {"name": "k", "type": "text"}]);
        assert!(change(&keyed, &columns).is_ok(), "a column beside the key is free");
    }

    #[test]
    fn defaults_go_along_and_may_be_repeated_in_either_form() {
        for (from, default, to, carried) in [
            ("smallint", json!(5.0), "integer", json!(5.0)),
            ("integer", json!("7"), "numeric", json!("7")),
            ("real", json!(0.1), "double precision", json!(0.1)),
            ("integer", json!(5.0), "text", json!("5")),
            ("boolean", json!(true), "text", json!("true")),
            ("numeric", json!("1.50"), "text", json!("1.50")),
            ("jsonb", json!({"a": [1]}), "text", json!("{\"a\":[1]}")),
            ("date", json!("2026-01-01"), "text", json!("2026-01-01")),
        ] {
            let column =
                |kind, default: &Value| json!([{"name": "a", "type": kind, "default": default}]);
            let before = stream(column(from, &default), &[]);
            let after = change(&before, &column(to, &default)).unwrap();
            assert_eq!(after.columns()[0].default.as_ref(), Some(&carried), "{from} to {to}");
            assert_eq!(change(&before, &column(to, &carried)).unwrap(), after, "{from} to {to}");
            assert_eq!(change(&after, &column(to, &default)).unwrap(), after, "asked for again");
            let other = change(&before, &column(to, &json!("9"))).unwrap_err();
            assert_eq!(other.place, "columns", "{from} to {to}: a default stays what it is");
            let dropped = change(&before, &json!([{"name": "a", "type": to}])).unwrap_err();
            assert_eq!(dropped.place, "columns", "{from} to {to}");
        }
    }

    #[test]
    fn columns_are_widened_and_added_at_once_and_nothing_else_changes() {
        let before = stream(
            json!([{"name": "a", "type": "integer", "from": "A"}, {"name": "b", "type": "real"}]),
            &[],
        );
        let more = json!([{"name": "a", "type": "text", "from": "A"}, {"name": "b", "type": "double precision"}, {"name": "c", "type": "date"}]);
        let after = change(&before, &more).unwrap();
        assert_eq!(after.column_set(), ColumnSet::new(3, 2));
        let again = change(&after, &more).unwrap();
        assert_eq!(again, after);
        for columns in [
            json!([{"name": "a", "type": "bigint"}, {"name": "b", "type": "real"}]),
            json!([{"name": "a", "type": "bigint", "from": "A"}]),
            json!([{"name": "b", "type": "real"}, {"name": "a", "type": "bigint", "from": "A"}]),
            json!([{"name": "a", "type": "integer", "from": "A", "default": 1}, {"name": "b", "type": "real"}]),
        ] {
            let error = change(&before, &columns).unwrap_err();
            assert!(error.place.starts_with("columns"), "{error}");
        }
    }

    #[test]
    fn a_stream_is_widened_only_so_often() {
        let mut full = stream(json!([{"name": "a", "type": "integer"}]), &[]);
        let Shape::Typed { widened, .. } = &mut full.shape else { unreachable!() };
        *widened = vec![Widening { column: 0, from: ColumnType::SmallInt }; WIDENINGS_MAX];
        let error = change(&full, &json!([{"name": "a", "type": "bigint"}])).unwrap_err();
        assert!(error.message.contains("1000 times"), "{error}");
        assert!(change(&full, &json!([{"name": "a", "type": "integer"}])).is_ok());
    }
}
