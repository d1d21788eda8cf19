//! The columns of a stream's tuples, with the types that their bytes have.

use tidegate_codec::columns::ColumnType;
use tidegate_codec::{PayloadType, Shape, Stream};
use tidegate_record::ColumnSet;

/// One field of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TupleColumn<'a> {
    pub name: &'a str,
    pub kind: TupleType,
    /// The gateway itself reads the table's column: it must have this type, not only one that keeps every value.
    pub is_fixed: bool,
}

/// A type that fields are encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TupleType {
    Declared(ColumnType),
    /// Of documents that are kept as text.
    Json,
}

impl TupleType {
    pub fn sql(self) -> &'static str {
        match self {
            TupleType::Declared(kind) => kind.as_str(),
            TupleType::Json => "json",
        }
    }
}

/// The fields of a tuple, in its order; `None` if the stream never had such a column set.
pub(super) fn tuple_columns(stream: &Stream, set: ColumnSet) -> Option<Vec<TupleColumn<'_>>> {
    let own = |name, kind, is_fixed| TupleColumn { name, kind, is_fixed };
    let mut columns = vec![
        own("id", TupleType::Declared(ColumnType::Uuid), true),
        own("received_at", TupleType::Declared(ColumnType::TimestampTz), true),
    ];
    match &stream.shape {
        Shape::Document { payload } => {
            let kind = match payload {
                PayloadType::Jsonb => TupleType::Declared(ColumnType::Jsonb),
                PayloadType::Json => TupleType::Json,
            };
            columns.push(own("payload", kind, false));
        }
        Shape::Typed { .. } => {
            columns.push(own("extra", TupleType::Declared(ColumnType::Jsonb), false));
            for (column, kind) in stream.shape.column_types(set)? {
                columns.push(own(&column.name, TupleType::Declared(kind), false));
            }
        }
    }
    Some(columns)
}
