//! What a stream's table really has, learned under the lock that reading it takes.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tidegate_codec::Stream;
use tidegate_codec::rows::RowType;

use crate::db::sql::table;
use crate::db::type_oid::{JSON, VARCHAR, declared_type};

/// The columns of a stream's table.
#[derive(Debug)]
pub(super) struct ReadTable(HashMap<String, i64>);

/// How a column's values come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadColumn {
    /// In a binary form that the codec knows.
    Known(RowType),
    /// A text by another name.
    Text,
    Other,
}

impl ReadTable {
    /// Takes the lock of a reader, and looks: from then on the table does not change before the transaction is over.
    pub async fn lock(
        connection: &mut PgConnection,
        stream: &Stream,
    ) -> Result<ReadTable, sqlx::Error> {
        let sql = format!("lock table {} in access share mode", table(stream));
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select attname::text, atttypid::bigint from pg_attribute
             where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
        )
        .bind(table(stream))
        .fetch_all(connection)
        .await?;
        Ok(ReadTable(rows.into_iter().collect()))
    }

    /// A column that is not there is one that the statement will be refused for.
    pub fn column(&self, name: &str) -> ReadColumn {
        let Some(oid) = self.0.get(name) else { return ReadColumn::Other };
        match declared_type(*oid) {
            Some(kind) => ReadColumn::Known(RowType::Declared(kind)),
            None if *oid == JSON => ReadColumn::Known(RowType::Json),
            None if *oid == VARCHAR => ReadColumn::Text,
            None => ReadColumn::Other,
        }
    }
}
