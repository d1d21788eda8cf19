//! What a stream's table really looks like, and whether the stream's tuples may go into it.
//!
//! Invariant: a tuple is copied only into columns of its own types, and cast only into types that keep every value. Binary
//! COPY goes by the layout of bytes: into a column of another type it stores other values, or fails with words that name
//! nothing. A layout is learned once and kept; behind the rows it is compared again, under the lock that writing them
//! took: from then on the table does not change before the commit.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_codec::Stream;
use tidegate_record::ColumnSet;

use super::tuple::{TupleColumn, TupleType, tuple_columns};
use crate::db::sql::quoted;
use crate::db::type_oid::{
    BIGINT, DOUBLE_PRECISION, INTEGER, JSON, JSONB, NUMERIC, REAL, SMALLINT, TEXT, VARCHAR, oid_of,
};

/// Most columns whose trouble is told; more are counted.
const MISFITS_TOLD_MAX: usize = 3;

/// A stream's table as it was at one moment.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) stamp: Stamp,
    pub(super) is_view: bool,
    /// Rewrite rules, a view's own among them. COPY passes them by, what goes through a cast does not.
    pub(super) has_rules: bool,
    pub(super) columns: HashMap<String, TableColumn>,
}

/// What tells a layout from any other one: the relation, and the sum of the hashes of its columns' names, types and
/// collations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub relation: i64,
    pub columns: i128,
}

#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub type_oid: i64,
    /// Length, precision and the like; -1 without.
    pub type_modifier: i32,
    pub type_name: String,
    /// Quoted, where it is not the type's own.
    pub collation: Option<String>,
}

/// How the columns of a tuple come into those of the table.
#[derive(Debug, Clone)]
pub struct Fit {
    is_exact: bool,
    /// What makes the table's values of staged ones, in the tuple's order; none where these are plainly the same.
    expressions: Option<Arc<[String]>>,
}

impl Fit {
    /// Each column has the tuple's type.
    pub const EXACT: Fit = Fit { is_exact: true, expressions: None };

    /// Can tuples be copied as they are? Others are staged with their own types, and cast from there.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    pub(super) fn expressions(&self) -> Option<&[String]> {
        self.expressions.as_deref()
    }
}

impl Layout {
    /// How tuples of this column set come into the table; otherwise why they cannot, for people.
    pub fn fit(&self, stream: &Stream, set: ColumnSet) -> Result<Fit, String> {
        let name = &stream.name;
        if self.is_view && stream.key.is_some() {
            return Err(format!(
                "streams.{name} is a view, and records with a key go into a table only; put the table back"
            ));
        }
        let Some(tuple) = tuple_columns(stream, set) else {
            return Err(format!(
                "the stream's definition never had {set}; wait for its newest one"
            ));
        };
        let casts: Vec<Result<bool, String>> =
            tuple.iter().map(|column| self.is_same(column)).collect();
        let is_exact = casts.iter().all(|cast| matches!(cast, Ok(true)));
        // Which of staged keys are equal is for the table's collations to say, as it is for its unique index.
        if is_exact && self.columns.values().all(|column| column.collation.is_none()) {
            return Ok(Fit::EXACT);
        }
        let misfits: Vec<String> = casts.into_iter().filter_map(Result::err).collect();
        if !misfits.is_empty() {
            return Err(tell(&misfits));
        }
        if !is_exact && self.has_rules {
            return Err(format!(
                "streams.{name} has rules, and other types than the stream; drop the rules, or alter the types back"
            ));
        }
        let expressions = Some(tuple.iter().map(|column| self.expression(column)).collect());
        Ok(Fit { is_exact, expressions })
    }

    /// Whether the table's column has the type of the tuple's, or another one that keeps its values.
    fn is_same(&self, column: &TupleColumn<'_>) -> Result<bool, String> {
        let (name, declared) = (column.name, column.kind.sql());
        let Some(actual) = self.columns.get(name) else {
            return Err(format!("the table has no column {name}, the stream says {declared}"));
        };
        let (declared_oid, is_plain) = (oid(column.kind), actual.type_modifier == -1);
        if is_plain && actual.type_oid == declared_oid {
            return Ok(true);
        }
        if is_plain && !column.is_fixed && keeps_every_value(declared_oid, actual.type_oid) {
            return Ok(false);
        }
        let actual = &actual.type_name;
        Err(format!("column {name} is {actual} in the table, the stream says {declared}"))
    }

    /// What makes the table's value of the tuple's.
    fn expression(&self, column: &TupleColumn<'_>) -> String {
        let mut expression = quoted(column.name);
        if let Some(TableColumn { type_name, collation, .. }) = self.columns.get(column.name) {
            expression = format!("{expression}::{type_name}");
            if let Some(collation) = collation {
                expression = format!("{expression} collate {collation}");
            }
        }
        expression
    }
}

fn tell(misfits: &[String]) -> String {
    let told = misfits[..misfits.len().min(MISFITS_TOLD_MAX)].join("; ");
    let untold = misfits.len().saturating_sub(MISFITS_TOLD_MAX);
    let more = if untold > 0 { format!("; and {untold} more") } else { String::new() };
    format!("{told}{more}; alter it back, or change the stream")
}

fn oid(kind: TupleType) -> i64 {
    match kind {
        TupleType::Json => JSON,
        TupleType::Declared(kind) => oid_of(kind),
    }
}

/// Does each value of the one type become the same value of the other? Neither has a modifier. A text is read back as what
/// it was written from, because the connection says with how many digits and in which form.
fn keeps_every_value(declared: i64, actual: i64) -> bool {
    matches!(
        (declared, actual),
        (_, TEXT | VARCHAR)
            | (SMALLINT, INTEGER | BIGINT | NUMERIC | REAL | DOUBLE_PRECISION)
            | (INTEGER, BIGINT | NUMERIC | DOUBLE_PRECISION)
            | (BIGINT, NUMERIC)
            | (REAL, DOUBLE_PRECISION)
            | (JSON, JSONB)
            | (JSONB, JSON)
    )
}
