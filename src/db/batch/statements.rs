//! The statements that bring tuples into tables.

use tidegate_codec::{Key, OnDuplicate, Shape, Stream};
use tidegate_record::ColumnSet;

use super::layout::Fit;
use super::tuple::{TupleColumn, tuple_columns};
use crate::db::quarantine;
use crate::db::sql::{key_expressions, quoted, table};

/// Which staging table: tuples of one form, and how they come into the stream's table.
#[derive(Debug, Clone, Copy)]
pub struct Staged<'a> {
    pub stream: &'a Stream,
    pub column_set: ColumnSet,
    pub fit: &'a Fit,
}

/// Where tuples go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The stream's own table; tuples have the declared columns of this set.
    Stream {
        stream: &'a Stream,
        column_set: ColumnSet,
    },
    /// A table of the transaction's own, from which they are merged or inserted.
    Staging(Staged<'a>),
    Quarantine {
        column_set: ColumnSet,
    },
    /// The quarantine, for records that PostgreSQL refused.
    Refused,
}

/// The name says which tuples it holds, and so the types of its columns: it outlives the transaction, and must not depend
/// on what the stream's table was at the time.
pub(super) fn staging(staged: Staged<'_>) -> String {
    format!("pg_temp.staging_{}_{}", staged.stream.id.0, staged.column_set.0)
}

pub(super) fn create_staging_statement(staged: Staged<'_>) -> String {
    let tuple = tuple_columns(staged.stream, staged.column_set).unwrap_or_default();
    let typed = |column: TupleColumn<'_>| quoted(column.name) + " " + column.kind.sql();
    let columns: Vec<String> = tuple.into_iter().map(typed).collect();
    format!(
        "create temporary table if not exists {} ({}) on commit delete rows",
        staging(staged),
        columns.join(", ")
    )
}

/// Staged rows as the table takes them; `some`: a condition on the column `id` of those that are wanted.
fn staged_rows(staged: Staged<'_>, some: Option<&str>) -> String {
    let columns = columns(staged.stream, staged.column_set);
    let values = match staged.fit.expressions() {
        None => columns.join(", "),
        Some(expressions) => {
            let named = expressions.iter().zip(&columns);
            let named = named.map(|(expression, name)| format!("{expression} as {name}"));
            named.collect::<Vec<_>>().join(", ")
        }
    };
    let filter = some.map_or_else(String::new, |some| format!(" where id = {some}"));
    format!("select {values} from {}{filter}", staging(staged))
}

pub(super) fn insert_statement(staged: Staged<'_>, only_some: bool) -> String {
    let rows = staged_rows(staged, only_some.then_some("any($1::uuid[])"));
    let columns = columns(staged.stream, staged.column_set).join(", ");
    format!("insert into {} ({columns}) {rows}", table(staged.stream))
}

/// The columns of a tuple, in order.
pub(super) fn columns(stream: &Stream, column_set: ColumnSet) -> Vec<String> {
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

pub(super) fn copy_statement(target: Target<'_>) -> String {
    let (table, columns) = match target {
        Target::Stream { stream, column_set } => {
            (table(stream), columns(stream, column_set).join(", "))
        }
        Target::Staging(staged) => {
            (staging(staged), columns(staged.stream, staged.column_set).join(", "))
        }
        Target::Quarantine { column_set } => {
            ("tidegate.quarantine".to_owned(), quarantine::columns(column_set))
        }
        Target::Refused => ("tidegate.quarantine".to_owned(), quarantine::refused_columns()),
    };
    format!("copy {table} ({columns}) from stdin (format binary)")
}

/// Fails unless a unique index is over the key; looks no further, and fires no trigger.
pub(super) fn key_probe_statement(stream: &Stream, key: &Key) -> String {
    format!(
        "explain insert into {} (id) select null::uuid where false on conflict ({}) do nothing",
        table(stream),
        key_expressions(stream, key).join(", "),
    )
}

/// Which of equal keys came first is told by their entries' order in the journal (`$2`, in the order of the entries' first
/// ids, `$1`), and within an entry by their ids. Where staged rows lie says nothing: a small one may fill an earlier page.
pub(super) fn merge_statement(staged: Staged<'_>, key: &Key, only_some: bool) -> String {
    let stream = staged.stream;
    let columns = columns(stream, staged.column_set);
    let keys = key_expressions(stream, key).join(", ");
    let (order, action) = match key.on_duplicate {
        OnDuplicate::Ignore => ("asc", "do nothing".to_owned()),
        OnDuplicate::Replace => {
            let assignments: Vec<String> =
                columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            ("desc", format!("do update set {}", assignments.join(", ")))
        }
    };
    format!(
        "with merged as (
           insert into {table} ({columns})
           select distinct on ({keys}) {columns} from ({rows}) as staged
           order by {keys}, ($2::integer[])[width_bucket(id, $1::uuid[])] {order}, id {order}
           on conflict ({keys}) {action}
           returning id, xmax = 0 as fresh)
         select width_bucket(id, $1::uuid[]), count(*) from merged where fresh group by 1",
        table = table(stream),
        columns = columns.join(", "),
        rows = staged_rows(staged, only_some.then_some("any($3::uuid[])")),
    )
}
