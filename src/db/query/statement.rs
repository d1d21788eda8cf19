//! A question as one statement, and what its rows are made of.

use std::fmt::Write as _;

use tidegate_codec::columns::ColumnType;
use tidegate_codec::rows::{RowColumn, RowPlace, RowType};
use tidegate_codec::{Shape, Stream};
use tidegate_query::{Field, RecordsPlan, Root};

use super::expression::{behind, condition, order, value};
use super::table::{ReadColumn, ReadTable};
use crate::db::sql::{quoted, record_hash, table};

/// A statement whose rows are copied out, and their columns.
#[derive(Debug)]
pub struct Statement {
    pub(super) sql: String,
    pub(super) columns: Vec<RowColumn>,
}

/// An expression and the column that it makes.
struct Output {
    expression: String,
    column: RowColumn,
}

impl Output {
    fn new(expression: String, name: &str, kind: RowType, place: RowPlace) -> Output {
        Output { expression, column: RowColumn { name: name.to_owned(), kind, place } }
    }
}

impl Statement {
    /// The records of a plan, in its order or, where `is_ordered` is false, in the table's; at most `limit`.
    pub(super) fn records(
        plan: &RecordsPlan,
        stream: &Stream,
        read: &ReadTable,
        limit: Option<u64>,
        shape: RecordShape,
    ) -> Statement {
        let mut outputs = match &plan.select {
            None => whole(stream, read, shape.is_flat),
            Some(selected) => {
                let mut outputs = if shape.is_flat { Vec::new() } else { id_and_time(read) };
                let data = if shape.is_flat { RowPlace::Row } else { RowPlace::Data };
                outputs.extend(selected.iter().map(|selected| {
                    let (expression, kind) = shown(&selected.field, stream, read);
                    Output::new(expression, &selected.name, kind, data)
                }));
                outputs
            }
        };
        if shape.hidden == HiddenColumns::Order {
            let text = RowType::Declared(ColumnType::Text);
            outputs.extend(plan.order.iter().map(|term| {
                let expression = format!("({})::text", value(&term.field, stream));
                Output::new(expression, "", text, RowPlace::Hidden)
            }));
        }
        if shape.hidden == HiddenColumns::Hash {
            let hash = record_hash("", stream, stream.column_set());
            let text = RowType::Declared(ColumnType::Text);
            let expression = format!("encode({hash}, 'hex')");
            outputs.push(Output::new(expression, "", text, RowPlace::Hidden));
        }
        let mut conditions = Vec::new();
        if plan.condition != tidegate_query::Condition::TRUE {
            conditions.push(condition(&plan.condition, stream));
        }
        if let Some(after) = &plan.after {
            conditions.push(behind(&plan.order, after, stream));
        }
        let mut sql = select(outputs.iter().map(|output| &*output.expression), stream, &conditions);
        if shape.is_ordered {
            write!(sql, " order by {}", order(&plan.order, stream)).expect("writing to a String");
        }
        if let Some(limit) = limit {
            write!(sql, " limit {limit}").expect("writing to a String");
        }
        Statement { sql, columns: outputs.into_iter().map(|output| output.column).collect() }
    }

    /// How many records a plan's condition is true of.
    pub(super) fn count(plan: &RecordsPlan, stream: &Stream) -> String {
        let conditions = [condition(&plan.condition, stream)];
        select(std::iter::once("count(*)"), stream, &conditions)
    }

    /// The statement that copies the rows out.
    pub(super) fn copy(&self) -> String {
        format!("copy ({}) to stdout (format binary)", self.sql)
    }
}

/// What rows are to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordShape {
    /// All columns beside each other, as in CSV; otherwise `"data"` holds those of the record.
    pub is_flat: bool,
    pub is_ordered: bool,
    pub hidden: HiddenColumns,
}

/// What rows have that is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenColumns {
    None,
    /// The order's values.
    Order,
    /// The hash of the record's content.
    Hash,
}

fn select<'a>(
    expressions: impl Iterator<Item = &'a str>,
    stream: &Stream,
    conditions: &[String],
) -> String {
    let expressions: Vec<&str> = expressions.collect();
    let mut sql = format!("select {} from {}", expressions.join(", "), table(stream));
    if !conditions.is_empty() {
        write!(sql, " where {}", conditions.join(" and ")).expect("writing to a String");
    }
    sql
}

fn id_and_time(read: &ReadTable) -> Vec<Output> {
    ["id", "received_at"]
        .map(|name| {
            let (expression, kind) = plain(name, read);
            Output::new(expression, name, kind, RowPlace::Row)
        })
        .into()
}

/// Everything of a record.
fn whole(stream: &Stream, read: &ReadTable, is_flat: bool) -> Vec<Output> {
    let mut outputs = id_and_time(read);
    let output = |name: &str, shown: &str, place| {
        let (expression, kind) = plain(name, read);
        Output::new(expression, shown, kind, if is_flat { RowPlace::Row } else { place })
    };
    match &stream.shape {
        Shape::Document { .. } => outputs.push(output("payload", "payload", RowPlace::WholeData)),
        Shape::Typed { columns, .. } => {
            outputs.extend(columns.iter().map(|column| {
                let shown = if is_flat { &column.name } else { column.member() };
                output(&column.name, shown, RowPlace::Data)
            }));
            outputs.push(output("extra", "extra", RowPlace::DataMembers));
        }
    }
    outputs
}

/// A field as it is shown, and of which type that is.
pub(super) fn shown(field: &Field, stream: &Stream, read: &ReadTable) -> (String, RowType) {
    if field.path.is_empty() && field.cast.is_none() {
        return plain(name_of(field.root, stream), read);
    }
    (value(field, stream), RowType::Declared(field.kind(stream)))
}

fn name_of(root: Root, stream: &Stream) -> &str {
    match root {
        Root::Id => "id",
        Root::ReceivedAt => "received_at",
        Root::Column(index) => &stream.columns()[index].name,
        Root::Extra => "extra",
        Root::Payload => "payload",
    }
}

/// A column as the table has it: of a type that the codec does not read, as PostgreSQL makes JSON of it.
fn plain(name: &str, read: &ReadTable) -> (String, RowType) {
    let expression = quoted(name);
    match read.column(name) {
        ReadColumn::Known(kind) => (expression, kind),
        ReadColumn::Text => (format!("{expression}::text"), RowType::Declared(ColumnType::Text)),
        ReadColumn::Other => (format!("to_json({expression})"), RowType::Json),
    }
}
