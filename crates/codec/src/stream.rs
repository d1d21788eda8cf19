//! A stream: a named destination, its table, and how a record of it must look.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_record::{ColumnSet, StreamId};
use time::OffsetDateTime;

use crate::columns::{Column, ColumnType};

/// Most declared columns of a stream (PostgreSQL itself stops at 1,600 minus what the row's width costs).
pub const COLUMNS_MAX: usize = 500;
/// Most widenings of a stream's columns. Each is remembered for ever, for the tuples that were encoded before it.
pub const WIDENINGS_MAX: usize = 1_000;
const _: () = assert!(WIDENINGS_MAX <= ColumnSet::WIDENINGS_MAX as usize);
/// Most fields in a key (PostgreSQL's limit for an index is 32).
pub const KEY_FIELDS_MAX: usize = 16;
/// Longest name of a stream or a column, in bytes (PostgreSQL's limit for an identifier).
pub const NAME_BYTES_MAX: usize = 63;
/// Longest key of a record that a column takes, in bytes.
pub const MEMBER_BYTES_MAX: usize = 1_000;

/// A valid stream name: `[a-z_][a-z0-9_]{0,62}`. It is a URL segment, a metric label and a table's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(Arc<str>);

/// Why a text is not a stream's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stream's name is 1 to {NAME_BYTES_MAX} characters: lower-case letters a-z, digits and _, and does not start with a digit"
)]
pub struct InvalidStreamName;

impl StreamName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = InvalidStreamName;

    fn from_str(text: &str) -> Result<Self, InvalidStreamName> {
        let body = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let valid = text.len() <= NAME_BYTES_MAX
            && text.bytes().all(body)
            && text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if valid { Ok(StreamName(text.into())) } else { Err(InvalidStreamName) }
    }
}

impl TryFrom<String> for StreamName {
    type Error = InvalidStreamName;

    fn try_from(text: String) -> Result<Self, InvalidStreamName> {
        text.parse()
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> String {
        name.0.to_string()
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How PostgreSQL keeps a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadType {
    /// Parsed on writing; can be indexed and compared. The default.
    #[default]
    Jsonb,
    /// Kept as text; about three times as fast to write.
    Json,
}

/// What to do with a key that no column declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownKeys {
    /// Keep it in the column `extra`.
    #[default]
    Extra,
    /// Leave it out.
    Drop,
    /// The record is invalid.
    Reject,
}

/// What to do with a record whose key is already in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDuplicate {
    /// The row that is there stays.
    #[default]
    Ignore,
    /// The new record takes its place.
    Replace,
}

/// The columns between `received_at` and the end of a stream's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Any JSON object, in the column `payload`.
    /// Tuple: `id, received_at, payload`.
    Document { payload: PayloadType },
    /// Declared columns.
    /// Tuple: `id, received_at, extra, c1 … cn`. Columns only grow at the end and their types only get wider, so the
    /// number of columns and the number of widenings name the column set; see [`Shape::column_types`].
    Typed {
        columns: Vec<Column>,
        unknown: UnknownKeys,
        /// Every change of a column's type, the oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        widened: Vec<Widening>,
    },
}

/// A column got a type that holds more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widening {
    /// The column's index in [`Shape::Typed`]'s columns.
    pub column: usize,
    /// Its type before.
    pub from: ColumnType,
}

/// What makes a record unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub fields: Vec<KeyField>,
    pub on_duplicate: OnDuplicate,
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyField {
    /// A declared column, by its index in [`Shape::Typed`]'s columns.
    Column(usize),
    /// A place in the document: the unescaped segments of a JSON pointer. Only object members are followed.
    Pointer(Vec<String>),
}

/// A stream as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub id: StreamId,
    pub name: StreamName,
    pub shape: Shape,
    pub key: Option<Key>,
    /// Days that a row is kept; such a table is partitioned by day of `received_at`. None: for ever.
    pub retention_days: Option<u16>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl Shape {
    /// Declared columns that were never widened.
    pub fn typed(columns: Vec<Column>, unknown: UnknownKeys) -> Shape {
        Shape::Typed { columns, unknown, widened: Vec::new() }
    }

    /// The declared columns; none for documents.
    pub fn columns(&self) -> &[Column] {
        match self {
            Shape::Document { .. } => &[],
            Shape::Typed { columns, .. } => columns,
        }
    }

    /// The widenings so far, the oldest first.
    pub fn widened(&self) -> &[Widening] {
        match self {
            Shape::Document { .. } => &[],
            Shape::Typed { widened, .. } => widened,
        }
    }

    /// The column set of tuples encoded now.
    pub fn column_set(&self) -> ColumnSet {
        let limited = "columns are limited to COLUMNS_MAX, widenings to WIDENINGS_MAX";
        ColumnSet::new(
            u16::try_from(self.columns().len()).expect(limited),
            u16::try_from(self.widened().len()).expect(limited),
        )
    }

    /// The declared columns of a tuple of this set, in its order, each with the type that its values were encoded with:
    /// today's types, with the widenings undone that came later. `None` if the stream never had such a set.
    pub fn column_types(
        &self,
        set: ColumnSet,
    ) -> Option<impl Iterator<Item = (&Column, ColumnType)>> {
        let columns = self.columns().get(..set.columns())?;
        let later = self.widened().get(set.widenings()..)?;
        let kind = |index: usize, column: &Column| {
            let next = later.iter().find(|widening| widening.column == index);
            next.map_or(column.kind, |widening| widening.from)
        };
        let typed = move |(index, column)| (column, kind(index, column));
        Some(columns.iter().enumerate().map(typed))
    }
}

impl Stream {
    /// Whether its records can be changed and deleted: each has a key of its own, and the newest of equal keys stays.
    pub fn takes_changes(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.on_duplicate == OnDuplicate::Replace)
    }

    /// The column set of tuples encoded now.
    pub fn column_set(&self) -> ColumnSet {
        self.shape.column_set()
    }

    /// The declared columns; none for documents.
    pub fn columns(&self) -> &[Column] {
        self.shape.columns()
    }

    /// Is this the same stream as `older` was, with more columns or wider ones?
    pub fn grew_from(&self, older: &Stream) -> bool {
        if self.id != older.id || self.name != older.name || self.column_set() == older.column_set()
        {
            return false;
        }
        let then = self.shape.column_types(older.column_set());
        let declared = older.columns().iter().map(|column| (&column.name, column.kind));
        self.shape.widened().starts_with(older.shape.widened())
            && then.is_some_and(|then| then.map(|(column, kind)| (&column.name, kind)).eq(declared))
    }

    /// The key that the column of this name takes; the name itself, if it is no declared column's.
    pub fn member_of<'a>(&'a self, name: &'a str) -> &'a str {
        let column = self.columns().iter().find(|column| column.name == name);
        column.map_or(name, Column::member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_has_the_types_that_its_columns_had() {
        use ColumnType::{BigInt, Boolean, Integer, SmallInt, Text};
        let columns =
            vec![Column::new("a", Text), Column::new("b", BigInt), Column::new("c", Text)];
        let widened = [(0, SmallInt), (1, SmallInt), (0, Integer), (1, Integer), (2, Boolean)];
        let widened = widened.map(|(column, from)| Widening { column, from }).to_vec();
        let shape = Shape::Typed { columns, unknown: UnknownKeys::Extra, widened };
        let types = |columns, widenings| -> Option<Vec<ColumnType>> {
            let typed = shape.column_types(ColumnSet::new(columns, widenings))?;
            Some(typed.map(|(_, kind)| kind).collect())
        };
        assert_eq!(shape.column_set(), ColumnSet::new(3, 5));
        assert_eq!(types(3, 5), Some(vec![Text, BigInt, Text]));
        assert_eq!(types(3, 4), Some(vec![Text, BigInt, Boolean]));
        assert_eq!(types(2, 3), Some(vec![Text, Integer]));
        assert_eq!(types(2, 2), Some(vec![Integer, Integer]));
        assert_eq!(types(2, 1), Some(vec![Integer, SmallInt]));
        assert_eq!(types(2, 0), Some(vec![SmallInt, SmallInt]));
        assert_eq!(types(0, 0), Some(vec![]));
        assert_eq!((types(4, 5), types(3, 6)), (None, None), "sets that the stream never had");
        let document = Shape::Document { payload: PayloadType::Jsonb };
        assert!(document.column_types(document.column_set()).is_some());
        assert!(document.column_types(ColumnSet::new(0, 1)).is_none());
    }

    #[test]
    fn a_stream_grew_where_columns_came_or_got_wider_and_nothing_else() {
        let stream = |columns: &[(&str, ColumnType)], widened: &[Widening]| Stream {
            id: StreamId(1),
            name: "s".parse().unwrap(),
            shape: Shape::Typed {
                columns: columns.iter().map(|&(name, kind)| Column::new(name, kind)).collect(),
                unknown: UnknownKeys::Extra,
                widened: widened.to_vec(),
            },
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let (integer, bigint) = (ColumnType::Integer, ColumnType::BigInt);
        let widened = Widening { column: 0, from: integer };
        let first = stream(&[("a", integer)], &[]);
        let wider = stream(&[("a", bigint)], &[widened]);
        let more = stream(&[("a", integer), ("b", integer)], &[]);
        let both = stream(&[("a", bigint), ("b", integer)], &[widened]);
        for (newer, older) in [(&wider, &first), (&more, &first), (&both, &first), (&both, &more)] {
            assert!(newer.grew_from(older), "{newer:?} from {older:?}");
            assert!(!older.grew_from(newer), "{older:?} from {newer:?}");
            assert!(!newer.grew_from(newer), "{newer:?}");
        }
        let other = stream(&[("a", bigint), ("b", integer)], &[]);
        assert!(!other.grew_from(&first), "the type changed in a way that is no widening");
        assert!(!more.grew_from(&wider) && !wider.grew_from(&more), "two that went apart");
        let renamed = Stream { name: "t".parse().unwrap(), ..both.clone() };
        assert!(!renamed.grew_from(&first));
    }

    /// What an older gateway wrote into the catalog and into the mirror.
    #[test]
    fn a_shape_without_widenings_is_kept_as_before() {
        let shape = Shape::typed(vec![Column::new("a", ColumnType::Text)], UnknownKeys::Drop);
        let kept = serde_json::json!({"typed": {"columns": [{"name": "a", "type": "text"}], "unknown": "drop"}});
        assert_eq!(serde_json::to_value(&shape).unwrap(), kept);
        assert_eq!(serde_json::from_value::<Shape>(kept).unwrap(), shape);
    }

    #[test]
    fn names_are_identifiers() {
        for name in ["a", "flights", "_x1", "select", &"a".repeat(63)] {
            assert!(name.parse::<StreamName>().is_ok(), "{name}");
        }
        for name in
            ["", "1a", "A", "a-b", "a b", "a\"b", "x\"; drop table", "é", "a\0", &"a".repeat(64)]
        {
            assert!(name.parse::<StreamName>().is_err(), "{name}");
        }
    }
}
