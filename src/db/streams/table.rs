//! The statements that make a stream's table.

use sqlx::{AssertSqlSafe, Executor, Postgres, Transaction};
use tidegate_codec::columns::Column;
use tidegate_codec::{PayloadType, Shape, Stream, defaults};

use crate::db::sql::{key_expressions, literal, quoted};

pub(super) async fn run(
    transaction: &mut Transaction<'static, Postgres>,
    sql: String,
) -> Result<(), sqlx::Error> {
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}

/// One statement for the table, one for the unique index of a key.
pub(super) fn create_table(stream: &Stream) -> String {
    let name = quoted(stream.name.as_str());
    let mut parts =
        vec!["id uuid not null".to_owned(), "received_at timestamptz not null".to_owned()];
    match &stream.shape {
        Shape::Document { payload: PayloadType::Jsonb } => {
            parts.push("payload jsonb not null".to_owned());
        }
        Shape::Document { payload: PayloadType::Json } => {
            parts.push("payload json not null".to_owned());
        }
        Shape::Typed { columns, .. } => {
            parts.push("extra jsonb".to_owned());
            parts.extend(columns.iter().map(column_sql));
        }
    }
    let partitioned = stream.retention_days.is_some();
    parts.push(
        if partitioned { "primary key (received_at, id)" } else { "primary key (id)" }.to_owned(),
    );
    let suffix = if partitioned { " partition by range (received_at)" } else { "" };
    let table = format!("create table streams.{name} ({}){suffix}", parts.join(", "));
    if let Some(key) = &stream.key {
        let expressions = key_expressions(stream, key).join(", ");
        return format!("{table}; create unique index on streams.{name} ({expressions})");
    }
    table
}

pub(super) fn column_sql(column: &Column) -> String {
    let kind = column.kind.as_str();
    let name = quoted(&column.name);
    match defaults::default_sql_text(column) {
        Some(text) => format!("{name} {kind} default {}::{kind}", literal(&text)),
        None => format!("{name} {kind}"),
    }
}
