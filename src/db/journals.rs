//! The journals' rows and committed ranges: what makes rows exactly once.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::record::Position;

/// A committed part of the journal: positions `first` up to, not including, `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedRange {
    pub first: Position,
    pub last: Position,
    /// For entries of keyed streams, by position: how many of their records found their key taken. Only those above 0.
    pub duplicates: BTreeMap<Position, u64>,
}

/// What [`fence`] found.
#[derive(Debug)]
pub struct Fenced {
    /// The epoch that batches of this session must see.
    pub epoch: i64,
    /// In order of position.
    pub ranges: Vec<CommittedRange>,
}

/// first, last, duplicates
type RangeRow = (i64, i64, Option<Json<BTreeMap<String, u64>>>);

/// Makes the journal known, adds one to its epoch, and reads what is committed.
///
/// The update waits for every batch transaction that is still in flight, wherever it came from, and makes every one
/// that comes later with the old epoch fail; so the ranges read here are final.
pub async fn fence(
    connection: &mut PgConnection,
    journal: Uuid,
    node: &str,
) -> Result<Fenced, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let epoch: i64 = sqlx::query_scalar(
        "insert into tidegate.journals (id, node, epoch) values ($1, $2, 1)
         on conflict (id) do update set epoch = journals.epoch + 1, node = excluded.node
         returning epoch",
    )
    .bind(journal)
    .bind(node)
    .fetch_one(&mut *transaction)
    .await?;
    let rows: Vec<RangeRow> = sqlx::query_as(
        "select first, last, duplicates from tidegate.committed_ranges where journal_id = $1 order by first",
    )
    .bind(journal)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let ranges = rows.into_iter().map(|(first, last, duplicates)| CommittedRange {
        first: from_sql(first),
        last: from_sql(last),
        duplicates: duplicates.map(|json| read_duplicates(json.0)).unwrap_or_default(),
    });
    Ok(Fenced { epoch, ranges: ranges.collect() })
}

/// A position as PostgreSQL keeps it. The journal would need 2⁶³ bytes to leave the range.
pub(super) fn to_sql(position: Position) -> i64 {
    i64::try_from(position.0).expect("a journal is shorter than 2^63 bytes")
}

fn from_sql(position: i64) -> Position {
    Position(u64::try_from(position).unwrap_or_default())
}

fn read_duplicates(json: BTreeMap<String, u64>) -> BTreeMap<Position, u64> {
    json.into_iter().filter_map(|(position, count)| Some((position.parse().ok()?, count))).collect()
}
