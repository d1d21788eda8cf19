//! Reading how streams' tables look now, and keeping them so until the transaction is over.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Executor, FromRow};
use tidegate_codec::Stream;
use tidegate_record::StreamId;

use super::connection::BatchConnection;
use super::error::{BatchError, during, during_stream};
use super::layout::{Layout, Stamp, TableColumn};
use crate::db::sql::table;

/// A column of a stream's table.
#[derive(FromRow)]
struct ColumnRow {
    place: i64,
    relation: i64,
    is_view: bool,
    name: String,
    type_oid: i64,
    type_modifier: i32,
    type_name: String,
    collation: Option<String>,
    hash: i64,
    has_rules: bool,
}

impl BatchConnection {
    /// The layouts of these streams' tables, as they are now; a table that is not there has none. Takes no lock.
    pub async fn layouts(
        &mut self,
        streams: &[&Stream],
    ) -> Result<HashMap<StreamId, Layout>, BatchError> {
        let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        // By the catalog, not by `to_regclass`: that fails where the schema may not be used.
        let rows: Vec<ColumnRow> = sqlx::query_as(
            "select wanted.place, c.oid::bigint as relation, c.relkind = 'v' as is_view, a.attname::text as name,
                 a.atttypid::bigint as type_oid, a.atttypmod as type_modifier,
                 format_type(a.atttypid, a.atttypmod) as type_name,
                 (select quote_ident(n.nspname) || '.' || quote_ident(co.collname)
                  from pg_collation co join pg_namespace n on n.oid = co.collnamespace
                  where co.oid = a.attcollation and a.attcollation <> t.typcollation) as collation,
                 hashtextextended(concat_ws(' ', a.atttypid, a.atttypmod, a.attcollation, a.attname), 0) as hash,
                 exists (select from pg_rewrite where ev_class = c.oid) as has_rules
             from unnest($1::text[]) with ordinality as wanted (name, place)
             join pg_class c on c.relname = wanted.name::name
                 and c.relnamespace = (select oid from pg_namespace where nspname = 'streams')
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             join pg_type t on t.oid = a.atttypid",
        )
        .bind(names)
        .fetch_all(&mut self.0)
        .await
        .map_err(during("reading the layout of tables"))?;
        let mut layouts = HashMap::new();
        for row in rows {
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let Some(stream) = streams.get(place) else { continue };
            let layout = layouts.entry(stream.id).or_insert_with(|| Layout {
                stamp: Stamp { relation: row.relation, columns: 0 },
                is_view: row.is_view,
                has_rules: row.has_rules,
                columns: HashMap::new(),
            });
            layout.stamp.columns += i128::from(row.hash);
            let ColumnRow { type_oid, type_modifier, type_name, collation, .. } = row;
            let column = TableColumn { type_oid, type_modifier, type_name, collation };
            layout.columns.insert(row.name, column);
        }
        Ok(layouts)
    }

    /// Which of these streams' tables are not any more what their layouts say. The transaction has written into each of
    /// them, so what it finds stays true until it is over.
    pub async fn changed_layouts(
        &mut self,
        written: &[(&Stream, &Layout)],
    ) -> Result<Vec<StreamId>, BatchError> {
        let names: Vec<String> = written.iter().map(|(stream, _)| table(stream)).collect();
        let found: Vec<(i64, String)> = sqlx::query_as(
            "select a.attrelid::bigint, sum(hashtextextended(concat_ws(' ', a.atttypid, a.atttypmod, a.attcollation, a.attname), 0))::text
             from pg_attribute a
             where a.attrelid = any (array(select to_regclass(name)::oid from unnest($1::text[]) as name))
                 and a.attnum > 0 and not a.attisdropped
             group by 1",
        )
        .bind(names)
        .fetch_all(&mut self.0)
        .await
        .map_err(during("comparing the layout of tables"))?;
        let found: HashMap<i64, String> = found.into_iter().collect();
        let is_same = |layout: &Layout| {
            let columns = found.get(&layout.stamp.relation).and_then(|sum| sum.parse().ok());
            columns == Some(layout.stamp.columns)
        };
        let changed = written.iter().filter(|(_, layout)| !is_same(layout));
        Ok(changed.map(|(stream, _)| stream.id).collect())
    }

    /// Keeps the stream's table as it is until the transaction is over, as writing into it would.
    pub async fn lock_table(&mut self, stream: &Stream) -> Result<(), BatchError> {
        let sql = format!("lock table only {} in row exclusive mode", table(stream));
        let locked = self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        locked.map(drop).map_err(during_stream("locking the table", stream))
    }

    /// Are there rules that would do something else with rows that are inserted? True only of a table that is locked stays
    /// true.
    pub(super) async fn has_rules(&mut self, stream: &Stream) -> Result<bool, BatchError> {
        sqlx::query_scalar(
            "select exists (select from pg_rewrite where ev_class = to_regclass($1))",
        )
        .bind(table(stream))
        .fetch_one(&mut self.0)
        .await
        .map_err(during("looking for rules"))
    }
}
