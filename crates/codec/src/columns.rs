//! Declared columns: their types, their names, and the keys of records that they take.

use serde::{Deserialize, Serialize};

use crate::{MEMBER_BYTES_MAX, NAME_BYTES_MAX};

/// Names that the gateway or PostgreSQL keeps for itself.
const RESERVED_COLUMNS: [&str; 10] =
    ["id", "received_at", "extra", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"];

/// A PostgreSQL type that a column can be declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnType {
    #[serde(rename = "boolean")]
    Boolean,
    #[serde(rename = "smallint")]
    SmallInt,
    #[serde(rename = "integer")]
    Integer,
    #[serde(rename = "bigint")]
    BigInt,
    #[serde(rename = "real")]
    Real,
    #[serde(rename = "double precision")]
    DoublePrecision,
    #[serde(rename = "numeric")]
    Numeric,
    #[serde(rename = "text")]
    Text,
    #[serde(rename = "timestamptz")]
    TimestampTz,
    #[serde(rename = "date")]
    Date,
    #[serde(rename = "uuid")]
    Uuid,
    #[serde(rename = "jsonb")]
    Jsonb,
}

impl ColumnType {
    /// Every type, in the order of the documentation.
    pub const ALL: [ColumnType; 12] = [
        ColumnType::Boolean,
        ColumnType::SmallInt,
        ColumnType::Integer,
        ColumnType::BigInt,
        ColumnType::Real,
        ColumnType::DoublePrecision,
        ColumnType::Numeric,
        ColumnType::Text,
        ColumnType::TimestampTz,
        ColumnType::Date,
        ColumnType::Uuid,
        ColumnType::Jsonb,
    ];

    /// The name in SQL, in the API and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ColumnType::Boolean => "boolean",
            ColumnType::SmallInt => "smallint",
            ColumnType::Integer => "integer",
            ColumnType::BigInt => "bigint",
            ColumnType::Real => "real",
            ColumnType::DoublePrecision => "double precision",
            ColumnType::Numeric => "numeric",
            ColumnType::Text => "text",
            ColumnType::TimestampTz => "timestamptz",
            ColumnType::Date => "date",
            ColumnType::Uuid => "uuid",
            ColumnType::Jsonb => "jsonb",
        }
    }

    /// The types that hold every value of this one, and that a column of it may therefore get, the narrowest first.
    pub fn wider(self) -> &'static [ColumnType] {
        use ColumnType::{BigInt, DoublePrecision, Integer, Numeric, Text};
        match self {
            ColumnType::SmallInt => &[Integer, BigInt, Numeric, Text],
            ColumnType::Integer => &[BigInt, Numeric, Text],
            ColumnType::BigInt => &[Numeric, Text],
            ColumnType::Real => &[DoublePrecision, Text],
            ColumnType::Text => &[],
            _ => &[Text],
        }
    }

    /// Whether values of this type are equal as `wider` exactly where they are equal now, also one from before the change
    /// and one that is sent after it. As text, `1` and `01` are two; as double precision, 0.1 is not what it was as real.
    pub(crate) fn keeps_equality(self, wider: ColumnType) -> bool {
        let whole = matches!(self, ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt);
        whole && wider != ColumnType::Text
    }
}

/// What a number counts in a column of times, from 1970-01-01T00:00:00Z on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EpochUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The record's key that the value is under, where it is not the name. [`Column::member`] is the key either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A constant for records that lack the key; without it they get NULL. An explicit null stays NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// A `timestamptz` with it takes numbers as well, beside texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochUnit>,
}

impl Column {
    /// A column that takes the key of its own name, without a default.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Column {
        Column { name: name.into(), kind, from: None, default: None, epoch: None }
    }

    /// The key of the record's member that the column takes.
    pub fn member(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.name)
    }

    /// The same column as it is kept: a `from` that only repeats the name is none.
    pub(super) fn normalized(mut self) -> Column {
        self.from = self.from.filter(|from| *from != self.name);
        self
    }
}

/// Whether a declared column may have this name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let bytes = name.len();
        return Err(format!(
            "a column's name is 1 to {NAME_BYTES_MAX} bytes long, this one has {bytes}"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("a column's name has no control characters".to_owned());
    }
    if RESERVED_COLUMNS.contains(&name) {
        return Err(format!(
            "the name \"{name}\" is kept for the gateway or PostgreSQL; choose another, and say \"from\":\"{name}\" if it is a key of the records"
        ));
    }
    Ok(())
}

/// Whether a column may take this key of records.
pub(super) fn check_member(member: &str) -> Result<(), String> {
    if member.len() > MEMBER_BYTES_MAX {
        let bytes = member.len();
        return Err(format!(
            "a key that a column takes has at most {MEMBER_BYTES_MAX} bytes, this one has {bytes}"
        ));
    }
    if member.contains('\0') {
        return Err("no record has a key with the character U+0000".to_owned());
    }
    Ok(())
}
