//! A stream's table grows with its stream: more columns, and columns of wider types.
//!
//! The table may not be what the stream says any more: people alter tables. So it is looked at under the lock that
//! keeps it as it is, and what cannot be done without loss is refused. What a user did already, by hand and
//! beforehand, is done.

use sqlx::{Postgres, Transaction};
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::{Stream, defaults};

use super::table::{column_sql, run};
use crate::db::sql::{literal, quoted};
use crate::db::table_error::{TableError, sqlstate};

/// A column as the table has it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct TableColumn {
    name: String,
    /// As PostgreSQL writes it.
    kind: String,
}

/// Brings the table from what the stream was to what it shall be, in the caller's transaction.
pub(super) async fn grow(
    transaction: &mut Transaction<'static, Postgres>,
    before: &Stream,
    after: &Stream,
) -> Result<(), TableError> {
    if before.column_set() == after.column_set() {
        return Ok(());
    }
    let refused = |error| TableError::of(&after.name, "change", error);
    let table = format!("streams.{}", quoted(after.name.as_str()));
    let lock = format!("lock table {table} in access exclusive mode");
    run(transaction, lock).await.map_err(refused)?;
    let found = columns_of(transaction, &table).await?;
    let actions = actions(&found, before, after)?;
    if actions.is_empty() {
        return Ok(());
    }
    let statement = format!("alter table {table} {}", actions.join(", "));
    let altered = run(transaction, statement.clone()).await;
    altered.map_err(|error| match sqlstate(&error).as_deref() {
        Some("57014") => TableError::TooLarge { stream: after.name.clone(), statement },
        _ => refused(error),
    })
}

async fn columns_of(
    transaction: &mut Transaction<'static, Postgres>,
    table: &str,
) -> Result<Vec<TableColumn>, sqlx::Error> {
    sqlx::query_as(
        "select attname::text as name, format_type(atttypid, atttypmod) as kind from pg_attribute
         where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
    )
    .bind(table)
    .fetch_all(&mut **transaction)
    .await
}

/// What is to be altered of a table with these columns.
fn actions(
    found: &[TableColumn],
    before: &Stream,
    after: &Stream,
) -> Result<Vec<String>, TableError> {
    let column_of = |name: &str| found.iter().find(|column| column.name == name);
    let mut actions = Vec::new();
    let (present, added) = after.columns().split_at(before.columns().len());
    for (old, new) in before.columns().iter().zip(present) {
        if new.kind == old.kind {
            continue;
        }
        let there = column_of(&new.name).ok_or_else(|| TableError::ColumnGone {
            stream: after.name.clone(),
            column: new.name.clone(),
        })?;
        let kind = type_to_be(&there.kind, new.kind).ok_or_else(|| TableError::ColumnDiffers {
            stream: after.name.clone(),
            column: new.name.clone(),
            found: there.kind.clone(),
            declared: old.kind.as_str(),
            wanted: new.kind.as_str(),
        })?;
        if declared(&there.kind) != Some(kind) {
            actions.extend(widening(new, kind));
        }
    }
    for column in added {
        if let Some(there) = column_of(&column.name) {
            return Err(TableError::ColumnExists {
                stream: after.name.clone(),
                column: column.name.clone(),
                found: there.kind.clone(),
            });
        }
        actions.push(format!("add column {}", column_sql(column)));
    }
    Ok(actions)
}

/// The type that a column of type `found` gets where the stream shall have `wanted`: that, or its own where it holds
/// all that `wanted` does. `None` if it can be neither without loss.
fn type_to_be(found: &str, wanted: ColumnType) -> Option<ColumnType> {
    let found = declared(found)?;
    if found.wider().contains(&wanted) {
        Some(wanted)
    } else {
        (found == wanted || wanted.wider().contains(&found)).then_some(found)
    }
}

/// The type of a column whose type PostgreSQL writes so; none if no column can be declared with it.
fn declared(written: &str) -> Option<ColumnType> {
    let name = if written == "timestamp with time zone" { "timestamptz" } else { written };
    ColumnType::ALL.into_iter().find(|kind| kind.as_str() == name)
}

/// A default goes first and comes back last: PostgreSQL does not bring it from every type to every other by itself.
fn widening(column: &Column, kind: ColumnType) -> Vec<String> {
    let (name, kind) = (quoted(&column.name), kind.as_str());
    let typed = format!("alter column {name} type {kind} using {name}::{kind}");
    match defaults::default_sql_text(column) {
        None => vec![typed],
        Some(text) => vec![
            format!("alter column {name} drop default"),
            typed,
            format!("alter column {name} set default {}::{kind}", literal(&text)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use tidegate_codec::definition::StreamChange;
    use tidegate_codec::{Shape, UnknownKeys};
    use tidegate_record::StreamId;
    use time::OffsetDateTime;

    use super::*;

    fn stream(columns: serde_json::Value) -> Stream {
        let columns: Vec<Column> = serde_json::from_value(columns).unwrap();
        Stream {
            id: StreamId(1),
            name: "s".parse().unwrap(),
            shape: Shape::typed(columns, UnknownKeys::Extra),
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// What happens to a table with a column `b` of the first type when the stream's goes from the second to the third.
    fn altered(found: &str, from: &str, to: &str) -> Result<Vec<String>, TableError> {
        let columns = |kind: &str| serde_json::json!([{"name": "b", "type": kind}]);
        let before = stream(columns(from));
        let change = serde_json::json!({"columns": columns(to)});
        let after = serde_json::from_value::<StreamChange>(change).unwrap().apply(&before).unwrap();
        let found = TableColumn { name: "b".to_owned(), kind: found.to_owned() };
        actions(&[found], &before, &after)
    }

    #[test]
    fn a_table_is_altered_from_what_it_is_and_never_with_loss() {
        let to_bigint = r#"alter column "b" type bigint using "b"::bigint"#;
        for found in ["integer", "smallint"] {
            assert_eq!(altered(found, "integer", "bigint").unwrap(), [to_bigint], "{found}");
        }
        for found in ["bigint", "numeric", "text"] {
            assert!(altered(found, "integer", "bigint").unwrap().is_empty(), "{found}: it is done");
        }
        for found in ["double precision", "money", "numeric(3,1)", "streams.small", "date"] {
            let error = altered(found, "integer", "bigint").unwrap_err();
            assert_eq!(error.code(), "column_differs");
            assert!(error.to_string().contains(&format!("\"b\" is {found} ")), "{error}");
        }
        let to_text = r#"alter column "b" type text using "b"::text"#;
        assert_eq!(altered("timestamp with time zone", "timestamptz", "text").unwrap(), [to_text]);
    }
}
