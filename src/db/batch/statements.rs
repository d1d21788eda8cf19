//! The statements that bring tuples into tables.

use tidegate_codec::changes::CHANGE_FIELDS;
use tidegate_codec::{Key, OnDuplicate, Stream};
use tidegate_record::ColumnSet;

use super::layout::Fit;
use super::tuple::{TupleColumn, tuple_columns};
use crate::db::quarantine;
use crate::db::sql::{key_expressions, quoted, table, tuple_column_names};

/// Which staging table: tuples of one form, and how they come into the stream's table.
#[derive(Debug, Clone, Copy)]
pub struct Staged<'a> {
    pub stream: &'a Stream,
    pub column_set: ColumnSet,
    /// They are changes of records: what is done stands behind the tuples' own fields.
    pub has_changes: bool,
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
    let what = if staged.has_changes { "changes" } else { "staging" };
    format!("pg_temp.{what}_{}_{}", staged.stream.id.0, staged.column_set.0)
}

/// A column of staged changes that says what is done. No declared column has a name with a control character.
pub(super) fn change_column(name: &str) -> String {
    quoted(&format!("\u{1}{name}"))
}

pub(super) fn create_staging_statement(staged: Staged<'_>) -> String {
    let tuple = tuple_columns(staged.stream, staged.column_set).unwrap_or_default();
    let typed = |column: TupleColumn<'_>| quoted(column.name) + " " + column.kind.sql();
    let mut columns: Vec<String> = tuple.into_iter().map(typed).collect();
    if staged.has_changes {
        columns.extend(CHANGE_FIELDS.map(|(name, kind)| format!("{} {kind}", change_column(name))));
    }
    format!(
        "create temporary table if not exists {} ({}) on commit delete rows",
        staging(staged),
        columns.join(", ")
    )
}

/// Staged rows as the table takes them; `some`: a condition on the column `id` of those that are wanted.
pub(super) fn staged_rows(staged: Staged<'_>, some: Option<&str>) -> String {
    let columns = tuple_column_names(staged.stream, staged.column_set);
    let values = match staged.fit.expressions() {
        None => columns.join(", "),
        Some(expressions) => {
            let named = expressions.iter().zip(&columns);
            let named = named.map(|(expression, name)| format!("{expression} as {name}"));
            named.collect::<Vec<_>>().join(", ")
        }
    };
    let filter = some.map_or_else(String::new, |some| format!(" where id = {some}"));
    let changes = if staged.has_changes {
        CHANGE_FIELDS.map(|(name, _)| format!(", {}", change_column(name))).concat()
    } else {
        String::new()
    };
    format!("select {values}{changes} from {}{filter}", staging(staged))
}

pub(super) fn insert_statement(staged: Staged<'_>, only_some: bool) -> String {
    let rows = staged_rows(staged, only_some.then_some("any($1::uuid[])"));
    let columns = tuple_column_names(staged.stream, staged.column_set).join(", ");
    format!("insert into {} ({columns}) {rows}", table(staged.stream))
}

pub(super) fn copy_statement(target: Target<'_>) -> String {
    let (table, columns) = match target {
        Target::Stream { stream, column_set } => {
            (table(stream), tuple_column_names(stream, column_set).join(", "))
        }
        Target::Staging(staged) => {
            let mut columns = tuple_column_names(staged.stream, staged.column_set);
            if staged.has_changes {
                columns.extend(CHANGE_FIELDS.map(|(name, _)| change_column(name)));
            }
            (staging(staged), columns.join(", "))
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
    let columns = tuple_column_names(stream, staged.column_set);
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
