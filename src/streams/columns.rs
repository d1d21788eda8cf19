//! Declared columns: their types and names.

use serde::{Deserialize, Serialize};

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
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// A constant for records that lack the key; without it they get NULL. An explicit null stays NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}
