//! The numbers of PostgreSQL's types, which are the same in every PostgreSQL (`pg_type.dat`).

use tidegate_codec::columns::ColumnType;

pub(super) const TEXT: i64 = 25;
pub(super) const JSON: i64 = 114;
pub(super) const VARCHAR: i64 = 1043;
pub(super) const SMALLINT: i64 = 21;
pub(super) const INTEGER: i64 = 23;
pub(super) const BIGINT: i64 = 20;
pub(super) const REAL: i64 = 700;
pub(super) const DOUBLE_PRECISION: i64 = 701;
pub(super) const NUMERIC: i64 = 1700;
pub(super) const JSONB: i64 = 3802;
const BOOLEAN: i64 = 16;
const DATE: i64 = 1082;
const TIMESTAMPTZ: i64 = 1184;
const UUID: i64 = 2950;

/// The number of a declared type.
pub(super) fn oid_of(kind: ColumnType) -> i64 {
    match kind {
        ColumnType::Boolean => BOOLEAN,
        ColumnType::SmallInt => SMALLINT,
        ColumnType::Integer => INTEGER,
        ColumnType::BigInt => BIGINT,
        ColumnType::Real => REAL,
        ColumnType::DoublePrecision => DOUBLE_PRECISION,
        ColumnType::Numeric => NUMERIC,
        ColumnType::Text => TEXT,
        ColumnType::TimestampTz => TIMESTAMPTZ,
        ColumnType::Date => DATE,
        ColumnType::Uuid => UUID,
        ColumnType::Jsonb => JSONB,
    }
}

/// The declared type of this number, if it is one.
pub(super) fn declared_type(oid: i64) -> Option<ColumnType> {
    ColumnType::ALL.into_iter().find(|kind| oid_of(*kind) == oid)
}
