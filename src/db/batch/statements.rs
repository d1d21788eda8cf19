//! The statements that bring tuples into tables.

use crate::db::{quarantine, quoted};
use crate::record::ColumnSet;
use crate::streams::{Key, KeyField, OnDuplicate, Shape, Stream};

/// Where tuples go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The stream's own table; tuples have the declared columns of this set.
    Stream {
        stream: &'a Stream,
        column_set: ColumnSet,
    },
    /// The table of a keyed stream's batch, merged later by [`BatchConnection::merge`].
    Staging {
        stream: &'a Stream,
        column_set: ColumnSet,
    },
    Quarantine {
        column_set: ColumnSet,
    },
    /// The quarantine, for records that PostgreSQL refused.
    Refused,
}

pub(super) fn table(stream: &Stream) -> String {
    format!("streams.{}", quoted(stream.name.as_str()))
}

pub(super) fn staging(stream: &Stream, column_set: ColumnSet) -> String {
    format!("pg_temp.staging_{}_{}", stream.id.0, column_set.0)
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
        Target::Staging { stream, column_set } => {
            (staging(stream, column_set), columns(stream, column_set).join(", "))
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
pub(super) fn merge_statement(
    stream: &Stream,
    key: &Key,
    column_set: ColumnSet,
    only_some: bool,
) -> String {
    let columns = columns(stream, column_set);
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
           select distinct on ({keys}) {columns} from {staging} {filter}
           order by {keys}, ($2::integer[])[width_bucket(id, $1::uuid[])] {order}, id {order}
           on conflict ({keys}) {action}
           returning id, xmax = 0 as fresh)
         select width_bucket(id, $1::uuid[]), count(*) from merged where fresh group by 1",
        table = table(stream),
        columns = columns.join(", "),
        staging = staging(stream, column_set),
        filter = if only_some { "where id = any($3::uuid[])" } else { "" },
    )
}

/// The key as SQL; the stream's unique index is over the same expressions.
pub(in crate::db) fn key_expressions(stream: &Stream, key: &Key) -> Vec<String> {
    let expression = |field: &KeyField| match field {
        KeyField::Column(index) => quoted(&stream.columns()[*index].name),
        KeyField::Pointer(segments) => {
            let path: Vec<String> =
                segments.iter().map(|segment| crate::db::literal(segment)).collect();
            format!("(payload #>> array[{}]::text[])", path.join(", "))
        }
    };
    key.fields.iter().map(expression).collect()
}
